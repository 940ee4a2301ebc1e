"""Who may start, and what each of the others waits for.  Pure: rows in, a decision out."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Queued:
    id: int


@dataclass(frozen=True)
class Limits:
    max_running: int
    hold: str = ""  #: why nothing may start at all just now, in words; empty: nothing is in the way


@dataclass(frozen=True)
class Decision:
    start: tuple[int, ...] = ()
    waiting: dict[int, str] = field(default_factory=dict)  #: id -> what it waits for, in words


def schedule(queued: Sequence[Queued], running: int, limits: Limits) -> Decision:
    """First come, first served.  `queued` in the order in which they came, `running` those that hold a place."""
    free = 0 if limits.hold else max(0, limits.max_running - running)
    start, rest = queued[:free], queued[free:]
    waiting = {}
    for place, conversion in enumerate(rest):
        waiting[conversion.id] = f"{_reason(running + len(start), limits)}; {_place(place)}"
    return Decision(tuple(conversion.id for conversion in start), waiting)


def _reason(running: int, limits: Limits) -> str:
    if limits.hold:
        return limits.hold
    if limits.max_running == 1:
        return "the one place for conversions is in use"
    return f"{running} of {limits.max_running} places for conversions are in use"


def _place(place: int) -> str:
    return "next in the queue" if place == 0 else f"{place} before it in the queue"
