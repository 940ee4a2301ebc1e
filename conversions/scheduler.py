"""Who may start, whose guest is shut down now, and what each of the others waits for.  Pure: rows in, a decision out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Power(StrEnum):
    """What is known of a queued conversion's guest, as far as it matters here."""

    OFF = "off"  #: may take a place: it is off, or nobody asked for it to be shut down
    ON = "on"  #: is to be shut down first, and nobody has begun
    GOING = "going"  #: is being shut down
    SLOW = "slow"  #: is being shut down and takes its time


@dataclass(frozen=True)
class Queued:
    id: int
    source: int | None = None  #: the saved source it comes from
    source_name: str = ""
    source_limit: int | None = None  #: how many from there run at once; None: no limit of its own
    power: Power = Power.OFF
    words: str = ""  #: what it waits for while it is being shut down


@dataclass(frozen=True)
class Limits:
    max_running: int
    hold: str = ""  #: why nothing may start at all just now, in words; empty: nothing is in the way


@dataclass(frozen=True)
class Decision:
    start: tuple[int, ...] = ()
    shut_down: tuple[int, ...] = ()  #: whose guests are to be shut down now; they take no place meanwhile
    waiting: dict[int, str] = field(default_factory=dict)  #: id -> what it waits for, in words


def schedule(
    queued: Sequence[Queued], running: int, limits: Limits, by_source: Mapping[int, int] | None = None
) -> Decision:
    """First come, first served; one whose source is busy or whose guest is still on lets the next one pass.

    `queued` in the order in which they came, `running` those that hold a place, `by_source` how many of those come from
    each saved source.  A guest is shut down only when there would be a place for it, so that none of fifty is off for
    hours before it is its turn; one that takes its time does not keep the next from being shut down.
    """
    free = 0 if limits.hold else max(0, limits.max_running - running)
    taken = dict(by_source or {})
    going = [conversion.source for conversion in queued if conversion.power == Power.GOING]
    start: list[int] = []
    shut_down: list[int] = []
    waiting: dict[int, str] = {}  # "": said in full below, how many places are taken is known only at the end
    for conversion in queued:
        if conversion.power in (Power.GOING, Power.SLOW):
            continue
        held_up = _source_is_busy(conversion, taken) if free else ""
        if not free or held_up:
            waiting[conversion.id] = held_up
        elif conversion.power == Power.ON:
            at_source = going.count(conversion.source) + taken.get(conversion.source or 0, 0)
            if len(going) < free and (conversion.source_limit is None or at_source < conversion.source_limit):
                going.append(conversion.source)
                shut_down.append(conversion.id)
            else:
                waiting[conversion.id] = "the guests before it to shut down"
        else:
            free -= 1
            start.append(conversion.id)
            if conversion.source is not None:
                taken[conversion.source] = taken.get(conversion.source, 0) + 1
    for place, id in enumerate(waiting):
        waiting[id] = f"{waiting[id] or _reason(running + len(start), limits)}; {_place(place)}"
    waiting |= {each.id: each.words for each in queued if each.power in (Power.GOING, Power.SLOW)}
    return Decision(tuple(start), tuple(shut_down), waiting)


def _source_is_busy(conversion: Queued, taken: Mapping[int, int]) -> str:
    if conversion.source is None or conversion.source_limit is None:
        return ""
    busy = taken.get(conversion.source, 0)
    if busy < conversion.source_limit:
        return ""
    return f"a place at {conversion.source_name}: {busy} of {conversion.source_limit} there are taken"


def _reason(running: int, limits: Limits) -> str:
    if limits.hold:
        return limits.hold
    if limits.max_running == 1:
        return "a free place: the only one is taken"
    return f"a free place: {running} of {limits.max_running} are taken"


def _place(place: int) -> str:
    return "next in the queue" if place == 0 else f"{place} before it in the queue"
