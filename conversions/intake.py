"""Takes what an agent has written into the rows: events, progress, facts, and when its log last grew."""

from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from . import eta
from .events import read_events
from .models import Conversion, Event
from .states import PHASE_WORDS, Phase

_MOST_EVENTS = 2000  #: read at a time for one conversion
_HIDDEN = ("disk", "progress")  #: folded into Conversion.progress instead of becoming rows


def read(conversion: Conversion) -> bool:
    """Takes new events into the row, and whether there may be more.  Offset and rows go together or not at all."""
    offset, progress, phase = conversion.events_offset, conversion.progress, conversion.phase
    facts, rows, count = dict(conversion.facts), [], 0
    planned: list[int | None] | None = None
    for after, event in read_events(conversion.jobdir.events, offset):
        offset, count = after, count + 1
        if event["type"] in _HIDDEN:
            if planned is None:
                planned = [disk.size for disk in conversion.plan.guest.disks]
            progress = eta.fold(progress, event, planned)
        else:
            rows.append(_row(conversion, event))
            if event["type"] == "phase" and event.get("phase") in PHASE_WORDS:
                phase = Phase(event["phase"]).value
            elif event["type"] == "fact" and isinstance(event.get("key"), str):
                facts[event["key"]] = event.get("value")
        if count >= _MOST_EVENTS:
            break
    output = _last_output(conversion)
    if offset == conversion.events_offset and output == conversion.last_output:
        return False
    new = {"events_offset": offset, "progress": progress, "phase": phase, "facts": facts, "last_output": output}
    with transaction.atomic():
        mine = Conversion.objects.filter(
            pk=conversion.pk, attempt=conversion.attempt, events_offset=conversion.events_offset
        )
        if not mine.update(**new, updated=timezone.now()):
            return False  # another conductor was here
        Event.objects.bulk_create(rows)
    for name, value in new.items():
        setattr(conversion, name, value)
    return count >= _MOST_EVENTS


def _row(conversion: Conversion, event: dict[str, Any]) -> Event:
    data = {key: value for key, value in event.items() if key not in ("at", "type")}
    try:
        at = datetime.fromtimestamp(event["at"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        at = timezone.now()
    return Event(conversion=conversion, attempt=conversion.attempt, at=at, type=event["type"][:16], data=data)


def _last_output(conversion: Conversion) -> datetime | None:
    """When the log last grew, to two seconds: finer would only write the row more often."""
    try:
        grew = datetime.fromtimestamp(conversion.jobdir.log.stat().st_mtime, UTC)
    except OSError:
        return conversion.last_output
    before = conversion.last_output
    return before if before and abs((grew - before).total_seconds()) < 2 else grew
