"""The rows: conversions and their events, drafts of the wizard, API tokens, the conductor's lease."""

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from .credentials import EncryptedJSONField
from .jobdir import JobDir
from .plan import Plan
from .states import ACTIVE, CANCELLABLE, FINAL, MOVES, PHASE_WORDS, RETRYABLE, Phase, State


class Conversion(models.Model):
    """One migration of one guest.  `plan` never changes; `state` is written by move() alone."""

    name = models.CharField(max_length=63)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="conversions")
    batch = models.ForeignKey(
        "Batch", null=True, blank=True, on_delete=models.SET_NULL, related_name="conversions"
    )  #: started together with others
    source = models.ForeignKey(
        "SavedSource", null=True, blank=True, on_delete=models.SET_NULL, related_name="conversions"
    )  #: the saved source that the guest comes from, for its limit and its trust
    plan_json = models.JSONField()
    secrets = EncryptedJSONField(null=True)  #: {"luks-0": "passphrase", ...}: written to files when an attempt starts

    state = models.CharField(max_length=16, default=State.QUEUED, choices=[(s.value, s.value) for s in State])
    attempt = models.PositiveIntegerField(default=1)
    phase = models.CharField(max_length=16, blank=True)
    waiting_for = models.CharField(max_length=200, blank=True)
    cancel_requested_by = models.CharField(max_length=150, blank=True)

    #: {"bytes_done", "bytes_total", "rate", "eta": [low, high] seconds or null, "disks": [{"disk", "size",
    #: "bytes_done", "bytes_total", "rate"}]}
    progress = models.JSONField(default=dict, blank=True)
    facts = models.JSONField(default=dict, blank=True)  #: what the agent found out: os, firmware, versions
    error = models.JSONField(null=True, blank=True)  #: problems.Problem as a dict
    artifacts = models.JSONField(default=list, blank=True)  #: jobdir.Result.artifacts
    receipt = models.JSONField(default=dict, blank=True)  #: {"removed": [...], "kept": [...]}
    #: What a person made of our manifest: {"text", "by", "at"}; null while it is as v2vweb made it.
    edited_manifest = models.JSONField(null=True, blank=True)

    created = models.DateTimeField(default=timezone.now)
    started = models.DateTimeField(null=True, blank=True)  #: of this attempt
    ended = models.DateTimeField(null=True, blank=True)
    updated = models.DateTimeField(auto_now=True)
    last_output = models.DateTimeField(null=True, blank=True)  #: when the log last grew: for the stall notice

    events_offset = models.BigIntegerField(default=0)  #: how far the conductor has read events.jsonl

    class Meta:
        ordering: ClassVar[list[str]] = ["-id"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "-id"]),
            models.Index(fields=["owner", "-id"]),
            models.Index(fields=["updated"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.pk})"

    def get_absolute_url(self) -> str:
        return reverse("conversion", args=[self.pk])

    @property
    def plan(self) -> Plan:
        return Plan.model_validate(self.plan_json)

    @property
    def jobdir(self) -> JobDir:
        return JobDir.of(settings.DATA_DIR, self.pk, self.attempt)

    @property
    def output_dir(self) -> Path:
        folder: Path = settings.DATA_DIR / "output" / f"{self.pk}-{self.name}"
        return folder

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def can_cancel(self) -> bool:
        return self.state in CANCELLABLE

    @property
    def can_retry(self) -> bool:
        return self.state in RETRYABLE

    @property
    def phase_words(self) -> str:
        return PHASE_WORDS[Phase(self.phase)] if self.phase else ""

    @property
    def duration(self) -> timedelta | None:
        return (self.ended or timezone.now()) - self.started if self.started else None

    def move(self, to: State, *, actor: str = "", why: str = "", **fields: Any) -> bool:
        """Moves this conversion to another state, with further fields, and records it.

        Returns whether this call won: of two movers from the same state and attempt one gets True, the other False and
        changes nothing.  Raises ValueError for a move that states.MOVES does not know.
        """
        source = State(self.state)
        if to not in MOVES[source]:
            raise ValueError(f"no move from {source} to {to}")
        fields |= {"state": to, "updated": timezone.now()}
        with transaction.atomic():
            # The guard is in the UPDATE itself: another process may have moved the row since it was read.
            won = Conversion.objects.filter(pk=self.pk, state=source, attempt=self.attempt).update(**fields)
            if not won:
                return False
            for name, value in fields.items():
                setattr(self, name, value)
            Event.objects.create(
                conversion=self,
                attempt=self.attempt,
                type="state",
                data={"from": source, "to": to, "why": why},
                actor=actor,
            )
        return True

    def request_cancel(self, actor: str) -> bool:
        """Asks for the end of this conversion; False when it had ended or moved on meanwhile."""
        if self.state == State.QUEUED:
            with transaction.atomic():
                won = self.move(
                    State.CANCELLED,
                    actor=actor,
                    why="cancelled before it started",
                    waiting_for="",
                    cancel_requested_by=actor,
                    ended=timezone.now(),
                )
                # Asked for when the row is ours: the conductor may have asked the guest to shut down a moment ago.
                if won and (told := self.told_at_source()):
                    self.receipt = {"removed": [], "kept": [], "source": told}
                    Conversion.objects.filter(pk=self.pk).update(receipt=self.receipt)
            return won
        if self.state == State.RUNNING:
            return self.move(State.CANCELLING, actor=actor, why="cancel requested", cancel_requested_by=actor)
        return False

    def told_at_source(self) -> list[str]:
        """What was done at the source in this attempt: for the receipt."""
        return [event.data["text"] for event in self.events.filter(attempt=self.attempt, type="source")]

    def retry(self, actor: str) -> bool:
        """Queues another attempt of the same plan; False when somebody else was quicker or it cannot be retried."""
        if not self.can_retry:
            return False
        return self.move(
            State.QUEUED,
            actor=actor,
            why="retry",
            attempt=self.attempt + 1,
            phase="",
            waiting_for="",
            cancel_requested_by="",
            progress={},
            facts={},
            error=None,
            artifacts=[],
            receipt={},
            edited_manifest=None,
            started=None,
            ended=None,
            last_output=None,
            events_offset=0,
        )


class Batch(models.Model):
    """Conversions that were started together and can be followed as one."""

    name = models.CharField(max_length=100)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="batches")
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        return self.name


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
    found = models.JSONField(null=True)  #: settings of the source that are not the plan's any more: {"host_path"}
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


class Event(models.Model):
    """What happened to a conversion, in order, for ever: moves of state, and what the agent told (but for progress)."""

    conversion = models.ForeignKey(Conversion, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    type = models.CharField(max_length=16)  #: "state", or a type of events.py
    data = models.JSONField(default=dict)
    actor = models.CharField(max_length=150, blank=True)  #: a user name; empty for v2vweb itself

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["conversion", "id"])]

    def __str__(self) -> str:
        return f"{self.type} of {self.conversion_id}"


class Draft(models.Model):
    """A conversion being planned in the wizard: survives a reload, a lunch break and a shared link."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts")
    data = models.JSONField(default=dict)  #: what was typed and found so far, without secrets: see drafts.py
    secrets = EncryptedJSONField(null=True)  #: {"luks_keys": [{"key": "passphrase", "device": "/dev/sda2" or ""}]}
    #: Counts saves.  A form carries the number it was shown with; a save with an old one is told so, not merged.
    version = models.PositiveIntegerField(default=1)
    conversion = models.OneToOneField(
        Conversion, null=True, blank=True, on_delete=models.SET_NULL, related_name="draft"
    )  #: set once, when it was started: the fence against two people starting one draft
    created = models.DateTimeField(default=timezone.now)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-updated"]

    def __str__(self) -> str:
        return f"draft {self.id}"


class Upload(models.Model):
    """A file that somebody sends from a browser or with a tus client.  How much of it has come, its storage tells."""

    class State(models.TextChoices):
        RECEIVING = "receiving", "receiving"  #: bytes are still to come
        CHECKING = "checking", "checking"  #: all there; the follower is not at the end yet
        READY = "ready", "ready"  #: may be converted
        REFUSED = "refused", "refused"  #: cannot be used: `problem` says why; its bytes are gone

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    name = models.CharField(max_length=255)  #: as the person's machine named it: for people, never a path
    size = models.BigIntegerField()  #: bytes
    modified = models.CharField(max_length=32, blank=True)  #: of the file at its origin: the same file is known by it
    state = models.CharField(max_length=16, default=State.RECEIVING, choices=State)
    storage = models.CharField(max_length=16, default="local")
    bundle = models.UUIDField(null=True, blank=True)  #: files with the same value are one guest: an .ovf and its disks

    expected = models.CharField(max_length=140, blank=True)  #: "sha256:HEX": the checksum that the person was given
    sha256 = models.CharField(max_length=64, blank=True)  #: of the whole, once known
    verdict = models.JSONField(default=dict, blank=True)  #: see verdict.py
    problem = models.JSONField(null=True, blank=True)  #: problems.Problem as a dict

    created = models.DateTimeField(default=timezone.now)
    touched = models.DateTimeField(default=timezone.now)  #: when the last bytes came
    completed = models.DateTimeField(null=True, blank=True)
    expires = models.DateTimeField(null=True, blank=True)  #: None: not yet known
    conversions = models.ManyToManyField(Conversion, blank=True, related_name="uploads")  #: that were made from it
    convert = models.BooleanField(default=False)  #: start a conversion with the usual settings as soon as it is ready

    class Meta:
        ordering: ClassVar[list[str]] = ["-created"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["owner", "state"]),
            models.Index(fields=["state"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.pk})"

    def get_absolute_url(self) -> str:
        return reverse("upload", args=[self.pk])


class SavedTarget(models.Model):
    """Settings of a target under a name, to be used again: namespace, networks, storage."""

    name = models.CharField(max_length=60, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="targets")
    settings = models.JSONField(default=dict)  #: of manifest.Target
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]

    def __str__(self) -> str:
        return self.name


class SavedSource(models.Model):
    """A vCenter, an ESXi host or a Xen host that people move guests from, with how it is reached and whom to trust."""

    kind = models.CharField(max_length=16)  #: vcenter, esxi, xen
    name = models.CharField(max_length=60, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sources")
    shared = models.BooleanField(default=True)  #: whether everybody who may start conversions may use it
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    user = models.CharField(max_length=200)
    secrets = EncryptedJSONField(null=True)  #: {"password": ...}, or for Xen {"key": an OpenSSH private key}
    transport = models.CharField(max_length=8, default="https")  #: https, vddk, ssh
    vddk_libdir = models.CharField(max_length=400, blank=True)  #: the folder that holds lib64/, on this machine
    max_running = models.PositiveIntegerField(
        null=True, blank=True
    )  #: conversions from here at once; None: no own limit

    pin = models.TextField(blank=True)  #: PEM of the certificate that a person accepted
    pin_sha256 = models.CharField(max_length=95, blank=True)
    pin_sha1 = models.CharField(max_length=59, blank=True)  #: VDDK's thumbprint
    ca = models.TextField(blank=True)  #: PEM of a CA, instead of a pin
    ssh_port = models.PositiveIntegerField(null=True, blank=True)  #: ESXi over SSH, beside `port`; None: 22
    host_keys = models.JSONField(default=list, blank=True)  #: SSH: [{"type", "key", "fingerprint"}]
    #: problems.Problem as a dict: why nothing that uses this source may run, as when its certificate has changed
    blocked = models.JSONField(null=True, blank=True)

    #: Xen: the driver's own address at the other end, when it is not the host's default (libvirt's name=)
    libvirt_name = models.CharField(max_length=400, blank=True)

    viewed = models.DateTimeField(null=True, blank=True)  #: while somebody looks, changes are watched for
    refresh_requested = models.DateTimeField(null=True, blank=True)
    refreshed = models.DateTimeField(null=True, blank=True)  #: when the inventory was last read whole
    refresh_error = models.JSONField(null=True, blank=True)  #: problems.Problem as a dict
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]

    def __str__(self) -> str:
        return self.name


class InventoryGuest(models.Model):
    """A guest as its source described it at the last refresh: a cache, never the truth about what runs."""

    source = models.ForeignKey(SavedSource, on_delete=models.CASCADE, related_name="guests")
    guest_id = models.CharField(max_length=64)  #: inventory.GuestRecord.id
    name = models.CharField(max_length=255)
    power = models.CharField(max_length=12, blank=True)
    os = models.CharField(max_length=120, blank=True)
    size = models.BigIntegerField(default=0)
    worst = models.CharField(max_length=12, blank=True)  #: the gravest concern's severity
    search = models.TextField(blank=True)  #: lower case: name, system, host, folder, networks, datastores, addresses
    record = models.JSONField()  #: inventory.GuestRecord.as_dict()
    concerns = models.JSONField(default=list)  #: concerns.Concern.as_dict() of each, the gravest first

    class Meta:
        ordering: ClassVar[list[str]] = ["name", "id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["source", "guest_id"], name="one_row_a_guest")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["source", "name"])]

    def __str__(self) -> str:
        return self.name


class ApiToken(models.Model):
    """A bearer token for the API.  Only its SHA-256 is kept; the text is shown once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, default="token")
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=8)  #: its first characters, to tell tokens apart
    created = models.DateTimeField(default=timezone.now)
    last_used = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        return f"{self.hint}… of {self.user}"


class OneTimePassword(models.Model):
    """Its being there says: the person's password was made by an administrator and is to be changed at the next login."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="one_time_password")
    made_by = models.CharField(max_length=150, blank=True)
    created = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"one-time password of {self.user}"


class Lease(models.Model):
    """Who conducts: one row, taken by a guarded UPDATE, renewed every few seconds, free when it has run out."""

    name = models.CharField(primary_key=True, max_length=32)
    holder = models.CharField(max_length=100, blank=True)
    expires = models.DateTimeField()
    #: what the holder tells of itself, for the System page: {"host", "pid", "since", "max_running", "accel"}
    about = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"
