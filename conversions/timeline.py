"""Step 5, events: what happened in one attempt, from its Event rows: phases with their times, warnings, errors, facts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db.models import Q
from django.utils import timezone

from .jobdir import JobDir
from .logs import line_numbers
from .models import Conversion, Event
from .states import ACTIVE, PHASE_WORDS, Phase, State
from .wording import PHASE_HELP


@dataclass
class Notice:
    """A warning or an error, with the line of the log that it is about."""

    type: str  #: "warning" or "error"
    problem: dict[str, Any]
    at: datetime
    offset: int | None = None  #: in the log, bytes
    line: int | None = None  #: the same as a line number, from 1


@dataclass
class Step:
    """A phase of this attempt."""

    phase: Phase
    status: str  #: done, running, failed, stopped or pending
    started: datetime | None = None
    ended: datetime | None = None
    notices: list[Notice] = field(default_factory=list)

    @property
    def words(self) -> str:
        return PHASE_WORDS[self.phase]

    @property
    def help(self) -> str:
        return PHASE_HELP[self.phase]

    @property
    def duration(self) -> timedelta | None:
        return (self.ended or timezone.now()) - self.started if self.started else None

    @property
    def is_open(self) -> bool:
        return self.status in ("running", "failed", "stopped")


@dataclass
class Move:
    """A move of state, for the history at the foot of the page."""

    at: datetime
    attempt: int
    to: str
    actor: str
    why: str


@dataclass
class Timeline:
    attempt: int
    steps: list[Step]
    notices: list[Notice]
    facts: dict[str, Any]
    moves: list[Move]

    @property
    def cause(self) -> Notice | None:
        """The last error: what the attempt failed of."""
        return next((notice for notice in reversed(self.notices) if notice.type == "error"), None)

    @property
    def listed(self) -> list[Notice]:
        """What is not told by the card at the top already."""
        return [notice for notice in self.notices if notice is not self.cause]


#: state of the conversion -> what became of the phase that was under way
LAST_STEP = {
    State.RUNNING: "running",
    State.CANCELLING: "running",
    State.SUCCEEDED: "done",
    State.FAILED: "failed",
    State.CANCELLED: "stopped",
    State.LOST: "stopped",
}


def timeline(conversion: Conversion, data_dir: Path, attempt: int | None = None) -> Timeline:
    """What happened in an attempt (the latest one when it is left out).  One query."""
    attempt = attempt or conversion.attempt
    events = list(conversion.events.filter(Q(attempt=attempt) | Q(type="state")).order_by("id"))
    moves = [
        Move(event.at, event.attempt, event.data.get("to", ""), event.actor, event.data.get("why", ""))
        for event in events
        if event.type == "state"
    ]
    own = [event for event in events if event.attempt == attempt]
    if attempt == conversion.attempt:
        state, ended = State(conversion.state), conversion.ended
    else:
        state, ended = _past(own)
    steps = _steps(own, state, ended)
    notices = _notices(own)
    number = line_numbers(
        JobDir.of(data_dir, conversion.pk, attempt).log, [n.offset for n in notices if n.offset is not None]
    )
    for notice in notices:
        notice.line = number.get(notice.offset) if notice.offset is not None else None
        for step in reversed(steps):
            if step.started and step.started <= notice.at:
                step.notices.append(notice)
                break
    facts = {e.data["key"]: e.data.get("value") for e in own if e.type == "fact" and "key" in e.data}
    return Timeline(attempt, steps, notices, facts | (conversion.facts if attempt == conversion.attempt else {}), moves)


def _past(events: Iterable[Event]) -> tuple[State, datetime | None]:
    """How an attempt ended that another one followed."""
    state, ended = State.LOST, None
    for event in events:
        if event.type == "state" and event.data.get("to") != State.QUEUED:
            state, ended = State(event.data["to"]), event.at
    return state, ended


def _steps(events: Iterable[Event], state: State, ended: datetime | None) -> list[Step]:
    steps: dict[Phase, Step] = {}
    last: Step | None = None
    for event in events:
        name = event.data.get("phase")
        if event.type != "phase" or name not in list(Phase):
            continue
        if last is not None:
            last.status, last.ended = "done", event.at
        # virt-v2v does not go back, but if it did, the step would be one and go on.
        last = steps.setdefault(Phase(name), Step(Phase(name), "running", started=event.at))
        last.status, last.ended = "running", None
    if last is not None:
        last.status = LAST_STEP.get(state, "running")
        if last.status != "running":
            last.ended = ended
    if state in ACTIVE or state == State.QUEUED:
        for phase in Phase:
            steps.setdefault(phase, Step(phase, "pending"))
    order = list(Phase)
    # A step that was skipped and lies before the one under way will not come any more.
    current = order.index(last.phase) if last else -1
    return [
        step
        for step in sorted(steps.values(), key=lambda step: order.index(step.phase))
        if step.status != "pending" or order.index(step.phase) > current
    ]


def _notices(events: Iterable[Event]) -> list[Notice]:
    return [
        Notice(event.type, event.data, event.at, _offset(event.data.get("line")))
        for event in events
        if event.type in ("warning", "error")
    ]


def _offset(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
