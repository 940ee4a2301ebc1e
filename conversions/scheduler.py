"""Who may start, and what each of the others waits for.  Pure: rows in, a decision out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Queued:
    id: int
    source: int | None = None  #: the saved source it comes from
    source_name: str = ""
    source_limit: int | None = None  #: how many from there run at once; None: no limit of its own


@dataclass(frozen=True)
class Limits:
    max_running: int
    hold: str = ""  #: why nothing may start at all just now, in words; empty: nothing is in the way


@dataclass(frozen=True)
class Decision:
    start: tuple[int, ...] = ()
    waiting: dict[int, str] = field(default_factory=dict)  #: id -> what it waits for, in words


def schedule(
    queued: Sequence[Queued], running: int, limits: Limits, by_source: Mapping[int, int] | None = None
) -> Decision:
    """First come, first served; one whose source is busy lets the next one pass.

    `queued` in the order in which they came, `running` those that hold a place, `by_source` how many of those come from
    each saved source.
    """
    free = 0 if limits.hold else max(0, limits.max_running - running)
    taken = dict(by_source or {})
    start: list[int] = []
    waiting: dict[int, str] = {}
    for conversion in queued:
        held_up = _source_is_busy(conversion, taken) if free and not limits.hold else ""
        if free and not held_up:
            free -= 1
            start.append(conversion.id)
            if conversion.source is not None:
                taken[conversion.source] = taken.get(conversion.source, 0) + 1
        else:
            # Said in full below: how many places are taken is known only at the end of the round.
            waiting[conversion.id] = held_up
    for place, id in enumerate(waiting):
        waiting[id] = f"{waiting[id] or _reason(running + len(start), limits)}; {_place(place)}"
    return Decision(tuple(start), waiting)


def _source_is_busy(conversion: Queued, taken: Mapping[int, int]) -> str:
    if conversion.source is None or conversion.source_limit is None:
        return ""
    busy = taken.get(conversion.source, 0)
    if busy < conversion.source_limit:
        return ""
    return f"{busy} of {conversion.source_limit} conversions from {conversion.source_name} are running"


def _reason(running: int, limits: Limits) -> str:
    if limits.hold:
        return limits.hold
    if limits.max_running == 1:
        return "the one place for conversions is in use"
    return f"{running} of {limits.max_running} places for conversions are in use"


def _place(place: int) -> str:
    return "next in the queue" if place == 0 else f"{place} before it in the queue"
