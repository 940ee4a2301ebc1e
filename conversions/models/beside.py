"""What is done beside a conversion for its sake: work at its source, and the proof that its guest boots."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from .conversion import Conversion


class SourceWork(models.Model):
    """What v2vweb does at the source for one attempt: looks whether the guest is where the plan says, shuts it down
    first (while the conversion waits), starts it again.  Written before it is done, so that a conductor that was killed
    leaves nothing undone."""

    class Restart(models.TextChoices):
        NONE = "", "not wanted"
        OWED = "owed", "owed"  #: was switched off for this; to be started again unless the conversion succeeds
        DONE = "done", "done"
        FAILED = "failed", "failed"

    conversion = models.ForeignKey(Conversion, on_delete=models.CASCADE, related_name="source_work")
    attempt = models.PositiveIntegerField()
    asked = models.DateTimeField(null=True)  #: when the guest was asked to shut down
    unplugged = models.DateTimeField(null=True)  #: when its plug was pulled, because the person had said so
    #: When the guest was last found to be off: it may take a place; when that was after it took one, the agent may start.
    ready = models.DateTimeField(null=True)
    found = models.JSONField(
        null=True
    )  #: settings of the source that are not the plan's any more: {"host_path", "vmx"}
    problem = models.JSONField(null=True)  #: problems.Problem as a dict: why the agent may not start
    restart = models.CharField(max_length=8, blank=True, default="", choices=Restart)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["conversion", "attempt"], name="one_source_work_an_attempt")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["restart"])]

    def __str__(self) -> str:
        return f"source work of {self.conversion_id}, attempt {self.attempt}"


class BootTest(models.Model):
    """A trial start of converted disks on this server: the proof that the guest boots, or why not."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        ENDED = "ended"  #: outcome says how
        CANCELLED = "cancelled"
        LOST = "lost"  #: its process is gone and left no outcome

    conversion = models.ForeignKey(Conversion, on_delete=models.CASCADE, related_name="boot_tests")
    attempt = models.PositiveIntegerField()
    state = models.CharField(max_length=12, default=State.QUEUED, choices=State.choices)
    settings = models.JSONField(default=dict, blank=True)  #: of manifest.Target: what is tried beside the plan's
    manifest = models.TextField(blank=True)  #: what was tried, word for word
    outcome = models.JSONField(null=True, blank=True)  #: boot.bootdir.Outcome as a dict
    by = models.CharField(max_length=150, blank=True)  #: who asked; empty: the conversion's own option
    created = models.DateTimeField(default=timezone.now)
    started = models.DateTimeField(null=True, blank=True)
    ended = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        return f"boot test {self.pk} of {self.conversion_id}"

    @property
    def is_over(self) -> bool:
        return self.state not in (self.State.QUEUED, self.State.RUNNING)
