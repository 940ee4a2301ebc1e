"""What this installation has and lacks, for the System page: measured beside the page, which never waits long for it."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ..bucket import checks as bucket
from . import installation, machine
from .machine import Check

logger = logging.getLogger(__name__)

FRESH = 60.0  #: seconds that an answer counts
PATIENCE = 0.8  #: seconds that a page waits for answers that are not there yet

Measure = Callable[[], Iterable[Check]]


@dataclass
class Measurement:
    """One thing that is measured in a thread of its own: a hanging network folder must not hold up the others."""

    id: str
    title: str
    measure: Measure
    checks: list[Check] | None = None  #: None until it was measured once
    taken: float = float("-inf")  #: when, by time.monotonic()
    thread: threading.Thread | None = None

    def start_if_stale(self) -> None:
        if self.thread and self.thread.is_alive():
            return  # one that hangs is not started again and again
        if time.monotonic() - self.taken >= FRESH:
            self.thread = threading.Thread(target=self._run, name=f"measure-{self.id}", daemon=True)
            self.thread.start()

    def _run(self) -> None:
        try:
            self.checks = list(self.measure())
        except Exception as error:
            logger.exception("%s could not be measured", self.id)
            self.checks = [Check(self.id, self.title, "unknown", "not measured", f"Looking at it failed: {error}.")]
        self.taken = time.monotonic()

    def answer(self) -> list[Check]:
        """The last answer, even if it is an old one and a new one is being taken."""
        if self.checks is None:
            return [Check(self.id, self.title, "unknown", "being measured", "Look again in a moment.")]
        return self.checks


_lock = threading.Lock()
_measurements: list[Measurement] = []


def _all() -> list[Measurement]:
    if not _measurements:
        _measurements.extend(Measurement(*one) for one in (*machine.MEASUREMENTS, *bucket.MEASUREMENTS))
    return _measurements


def report(patience: float = PATIENCE) -> list[Check]:
    """All checks, in the order of the page.  Takes at most about `patience` seconds and a few queries."""
    with _lock:
        measurements = _all()
        for one in measurements:
            one.start_if_stale()
    deadline = time.monotonic() + patience
    for one in measurements:
        if one.thread and (left := deadline - time.monotonic()) > 0:
            one.thread.join(left)
    return [*installation.checks(), *(check for one in measurements for check in one.answer())]


def forget() -> None:
    """Has everything measured again by the next report()."""
    with _lock:
        for one in _measurements:
            one.taken = float("-inf")


def worst(checks: Iterable[Check]) -> Literal["ok", "warning", "error", "unknown"]:
    """The state of all of them together, for a badge."""
    states = {check.state for check in checks}
    for state in ("error", "warning", "unknown"):
        if state in states:
            return state
    return "ok"
