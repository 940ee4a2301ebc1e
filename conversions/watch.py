"""Step 5, events: one poller per process sees which conversions changed and tells whoever watches.  Nobody: no query."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from channels.db import database_sync_to_async
from django.db.models import Count, Q
from django.utils import timezone

from .models import Conversion, Event
from .states import PHASE_WORDS, Phase, State
from .wording import progress_words, state_sentence, usual_quiet

logger = logging.getLogger(__name__)

EVERY = 0.5  #: seconds between two polls
#: A row's `updated` is older than its commit, and clocks of two machines differ: look back that far again and again.
OVERLAP = timedelta(seconds=5)
#: All but the plan and the secrets: what a row shows while it lives.
FIELDS = (
    "id",
    "name",
    "owner_id",
    "state",
    "attempt",
    "phase",
    "waiting_for",
    "cancel_requested_by",
    "progress",
    "error",
    "artifacts",
    "created",
    "started",
    "ended",
    "updated",
    "last_output",
    "events_offset",
)


def percent(conversion: Conversion) -> int | None:
    """Of the copying, which is the only step with a number; None when there is none to tell."""
    if conversion.state == State.SUCCEEDED:
        return 100
    done, total = conversion.progress.get("bytes_done"), conversion.progress.get("bytes_total")
    if not total or done is None or not conversion.is_active:
        return None
    # 100 % is for the end alone: after the last byte there is still work to do.
    return max(0, min(99, int(done * 100 / total)))


def _seconds(at: datetime | None) -> float | None:
    return round(at.timestamp(), 3) if at else None


def snapshot(conversion: Conversion, counts: dict[str, int], phase_since: datetime | None = None) -> dict[str, Any]:
    """The state of a conversion as its page gets it; times are seconds since the epoch."""
    stopping = {"rate": None, "eta": None} if conversion.state == State.CANCELLING else {}  # nothing more is copied
    disks = [{**disk, "words": progress_words(disk | stopping)} for disk in conversion.progress.get("disks") or []]
    return {
        "t": "state",
        "id": conversion.pk,
        "name": conversion.name,
        "state": conversion.state,
        "sentence": state_sentence(conversion),
        "attempt": conversion.attempt,
        "phase": conversion.phase,
        "phase_words": PHASE_WORDS[Phase(conversion.phase)] if conversion.phase else "",
        "phase_since": _seconds(phase_since),
        "waiting_for": conversion.waiting_for,
        "progress": {
            **conversion.progress,
            "percent": percent(conversion),
            "words": progress_words(conversion.progress | stopping),
            "disks": disks,
        },
        "error": conversion.error,
        "warnings": counts.get("warning", 0),
        "errors": counts.get("error", 0),
        "files": len(conversion.artifacts),
        "created": _seconds(conversion.created),
        "started": _seconds(conversion.started),
        "ended": _seconds(conversion.ended),
        "last_output": _seconds(conversion.last_output),
        "quiet": usual_quiet(conversion.phase),
        "now": _seconds(timezone.now()),
    }


def snapshots(conversions: Iterable[Conversion]) -> dict[int, dict[str, Any]]:
    """The states of some conversions, with one query for all of them."""
    rows = {conversion.pk: conversion for conversion in conversions}
    counts: dict[int, dict[str, int]] = {}
    since: dict[int, datetime] = {}
    this_attempt = Q()
    for row in rows.values():
        this_attempt |= Q(conversion_id=row.pk, attempt=row.attempt)
    if rows:
        events = Event.objects.filter(this_attempt, type__in=("warning", "error", "phase")).order_by("id")
        for pk, type, at in events.values_list("conversion_id", "type", "at"):
            counts.setdefault(pk, {}).setdefault(type, 0)
            counts[pk][type] += 1
            if type == "phase":
                since[pk] = at
    return {pk: snapshot(row, counts.get(pk, {}), since.get(pk)) for pk, row in rows.items()}


def counts_by_state(queryset: Any) -> dict[str, int]:
    found: dict[str, int] = dict(queryset.order_by().values_list("state").annotate(Count("id")))
    return found


def encode(state: dict[str, Any]) -> str:
    return json.dumps(state)


Listener = Callable[[list[Conversion], dict[int, dict[str, Any]]], None]


class Watch:
    """The poller.  `pages` are the conversions whose page somebody has open: they get their state, not only a bell."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.pages: dict[int, int] = {}  #: id -> how many rooms ask
        self._task: asyncio.Task[None] | None = None
        self._since = timezone.now()
        self._seen: dict[int, tuple[Any, ...]] = {}

    def add(self, listener: Listener, page: int | None = None) -> None:
        self.listeners.add(listener)
        if page is not None:
            self.pages[page] = self.pages.get(page, 0) + 1
        if self._task is None:
            self._since, self._seen = timezone.now(), {}
            self._task = asyncio.create_task(self._run())

    def remove(self, listener: Listener, page: int | None = None) -> None:
        self.listeners.discard(listener)
        if page is not None and page in self.pages:
            self.pages[page] -= 1
            if not self.pages[page]:
                del self.pages[page]
        if not self.listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                rows, states = await database_sync_to_async(self.poll)()
            except Exception:
                # The database may be gone for a moment; the next poll sees everything that this one missed.
                logger.exception("looking for changed conversions")
                await asyncio.sleep(2)
                continue
            if rows:
                for listener in tuple(self.listeners):
                    listener(rows, states)

    def poll(self) -> tuple[list[Conversion], dict[int, dict[str, Any]]]:
        """(rows that changed since the last call, the states of those whose page is open)."""
        pages = set(self.pages)
        now = timezone.now()
        found = Conversion.objects.filter(Q(updated__gt=self._since - OVERLAP) | Q(pk__in=pages)).only(*FIELDS)
        changed = []
        seen = {}
        for row in found.order_by("pk"):
            key = tuple(repr(getattr(row, field)) for field in FIELDS)
            seen[row.pk] = key
            if self._seen.get(row.pk) != key:
                changed.append(row)
        self._since, self._seen = now, seen
        return changed, snapshots(row for row in changed if row.pk in pages)


watch = Watch()
