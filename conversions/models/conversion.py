"""A conversion, what happened in it, and those that were started together."""

from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from ..credentials import EncryptedJSONField
from ..jobdir import JobDir
from ..plan import Plan
from ..states import ACTIVE, CANCELLABLE, FINAL, MOVES, PHASE_WORDS, RETRYABLE, Phase, State


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
            if self._cancel_queued(actor):
                return True
            self.refresh_from_db(fields=["state", "attempt"])  # it may have been started this very moment
        if self.state == State.RUNNING:
            return self.move(State.CANCELLING, actor=actor, why="cancel requested", cancel_requested_by=actor)
        return False

    def _cancel_queued(self, actor: str) -> bool:
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


class Batch(models.Model):
    """Conversions that were started together and can be followed as one."""

    name = models.CharField(max_length=100)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="batches")
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        return self.name
