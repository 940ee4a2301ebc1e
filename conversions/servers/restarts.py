"""After a conversion that did not come to its end: starts its guest again at the source, where the person chose that.

Asked again and again by the conductor, whose only memory is the row (models.SourceWork.restart).  A guest that was asked to
shut down and still runs cannot be told to stay: it is watched, and started when it has shut down.
"""

import time
from concurrent.futures import Future
from datetime import timedelta

from django.db.models import F
from django.utils import timezone

from ..models import Conversion, SavedSource, SourceWork
from ..problems import RefusedError
from ..states import State
from . import power
from .source_steps import beside, guest_of, minutes, note

Restart = SourceWork.Restart
_TRIES = 3  #: to start a guest again
_PAUSE = 20.0  #: seconds between two tries
WATCH = 10.0  #: seconds between two looks at a guest that may still shut down
_WATCHED = "It still runs, but was asked to shut down: it will be started again as soon as it has."


class Restarts:
    def __init__(self) -> None:
        self._going: dict[int, Future[bool]] = {}  #: SourceWork -> being started again
        self._next: dict[int, float] = {}  #: when to look or try again
        self._tries: dict[int, int] = {}

    def are_busy_with(self, conversion: Conversion) -> bool:
        if all(future.done() for future in self._going.values()):
            return False
        mine = SourceWork.objects.filter(conversion=conversion).values_list("pk", flat=True)
        return any(pk in self._going and not self._going[pk].done() for pk in mine)

    def tick(self) -> None:
        owed = SourceWork.objects.filter(
            restart=Restart.OWED,
            attempt=F("conversion__attempt"),
            conversion__state__in=[State.FAILED, State.CANCELLED, State.LOST],
        ).select_related("conversion")
        works = list(owed.defer("conversion__secrets"))
        self._prune({work.pk for work in works})
        for work in works:
            future = self._going.get(work.pk)
            if future is None:
                if time.monotonic() >= self._next.get(work.pk, 0.0):
                    self._begin(work)
            elif future.done():
                del self._going[work.pk]
                self._conclude(work, future)

    def _prune(self, owed: set[int]) -> None:
        """Nobody asks any more for what is done, or was taken on by a retry."""
        self._next = {pk: when for pk, when in self._next.items() if pk in owed}
        self._tries = {pk: tries for pk, tries in self._tries.items() if pk in owed}
        self._going = {pk: future for pk, future in self._going.items() if pk in owed or not future.done()}

    def _begin(self, work: SourceWork) -> None:
        plan = work.conversion.plan
        saved = SavedSource.objects.filter(pk=plan.source.settings["source_id"]).first()
        if saved is None:
            work.restart = Restart.FAILED
            note(work, "It was not started again: its source is not known to v2vweb any more.", receipt=True)
            return
        self._going[work.pk] = beside(power.switch_on, *guest_of(saved, plan))

    def _conclude(self, work: SourceWork, future: "Future[bool]") -> None:
        try:
            was_off = future.result()
        except Exception as error:
            tries = self._tries[work.pk] = self._tries.get(work.pk, 0) + 1
            self._next[work.pk] = time.monotonic() + _PAUSE
            if tries < _TRIES:
                return
            work.restart = Restart.FAILED
            why = error.problem.text if isinstance(error, RefusedError) else str(error)
            note(work, f"It could not be started again: {why} Please start it by hand.", receipt=True)
            return
        if not was_off and _may_still_go(work):
            self._next[work.pk] = time.monotonic() + WATCH
            if _WATCHED not in work.conversion.told_at_source():
                note(work, _WATCHED, receipt=True)
            return
        work.restart = Restart.DONE
        note(work, _words(work, was_off=was_off), receipt=True)
        settings = work.conversion.plan.source.settings
        SavedSource.objects.filter(pk=settings["source_id"]).update(refresh_requested=timezone.now())


def _may_still_go(work: SourceWork) -> bool:
    """Whether a guest that was asked to shut down and was never seen off may yet do so: as long again as it was given."""
    if work.ready is not None or work.asked is None:
        return False
    return timezone.now() < work.asked + timedelta(minutes=2 * minutes(work.conversion.plan))


def _words(work: SourceWork, *, was_off: bool) -> str:
    if was_off:
        return "It was started again, because the conversion did not come to its end."
    return "It runs again." if work.ready else "It has not shut down and still runs."
