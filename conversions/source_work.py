"""Before and after a conversion, at the source: is the guest still there, shut it down first, start it again.

Asked again and again by the conductor, whose only memory is the row (models.SourceWork): each step is written there before it
is done, and doing a step a second time changes nothing.  What waits for a network runs in threads and knows no database.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from . import power
from .models import Conversion, Event, InventoryGuest, SavedSource, SourceWork
from .plan import Plan
from .problems import Problem, RefusedError
from .sources import get_source
from .states import State

logger = logging.getLogger(__name__)

PAUSE = 3.0  #: seconds between two looks at a guest that is shutting down
_RESTARTS = 3  #: tries to start a guest again
_RESTART_PAUSE = 20.0
#: What may be over in a moment: a guest that is shutting down is looked at again.
_PASSING = ("no-answer", "session-ended", "port-closed", "name-unknown", "tls-no-answer")
#: What stops everything that uses the source, until a person has looked.
_BLOCKING = ("certificate-changed", "certificate-untrusted", "host-key-changed")
_POWERED_ON = "vmware.vm.powered_on"
Restart = SourceWork.Restart


def where(conversion: Conversion) -> Plan:
    """The plan, with the place where the guest was found at the last look: it may have moved since the review."""
    plan = conversion.plan
    work = conversion.source_work.filter(attempt=conversion.attempt).first()
    if work is None or not work.found:
        return plan
    source = plan.source.model_copy(update={"settings": plan.source.settings | work.found})
    return plan.model_copy(update={"source": source})


def told(conversion: Conversion) -> list[str]:
    """What was done at the source in this attempt: for the receipt."""
    events = conversion.events.filter(attempt=conversion.attempt, type="source")
    return [event.data["text"] for event in events]


def receipt(conversion: Conversion) -> dict[str, list[str]]:
    done = told(conversion)
    return {"source": done} if done else {}


class SourceWorker:
    def __init__(self) -> None:
        self._looks: dict[tuple[int, int], Future[power.Seen | None]] = {}  #: (conversion, attempt) -> a step under way
        self._next: dict[tuple[int, int], float] = {}  #: when to look again
        self._asked: set[tuple[int, int]] = set()  #: asked to shut down by this process
        self._restarts: dict[int, Future[None]] = {}  #: SourceWork -> being started again
        self._tries: dict[int, int] = {}

    # Before

    def ready(self, conversion: Conversion) -> bool:
        """Whether the agent may start.  Raises RefusedError when it may never."""
        plan = conversion.plan
        if not get_source(plan.source.kind).is_saved:
            return True
        work = self._work_of(conversion)
        if work.problem:
            raise RefusedError(Problem(**work.problem))
        if work.ready:
            return True
        key = (conversion.pk, conversion.attempt)
        if any(not future.done() for future in self._restarts.values()) and self._is_being_restarted(conversion):
            return False
        look = self._looks.get(key)
        if look is not None and not look.done():
            return False
        if conversion.state == State.CANCELLING:
            self._forget(key)
            return True  # the agent finds the wish and ends at once
        saved = SavedSource.objects.filter(pk=plan.source.settings["source_id"]).first()
        if saved is None:
            return self._refuse(work, _source_gone())
        if look is None:
            if time.monotonic() >= self._next.get(key, 0.0):
                self._looks[key] = _beside(power.look, *_guest_of(saved, plan))
            return False
        del self._looks[key]
        return self._conclude(work, saved, plan, look)

    def _work_of(self, conversion: Conversion) -> SourceWork:
        # Looked for first without a transaction: one that may write takes the database's only lock, four times a second.
        if found := SourceWork.objects.filter(conversion=conversion, attempt=conversion.attempt).first():
            return found
        with transaction.atomic():
            work, is_new = SourceWork.objects.get_or_create(conversion=conversion, attempt=conversion.attempt)
            if is_new:
                # What an earlier attempt switched off and nobody started again is still owed.
                earlier = SourceWork.objects.filter(conversion=conversion, restart=Restart.OWED).exclude(pk=work.pk)
                if earlier.update(restart=Restart.NONE):
                    work.restart = Restart.OWED
                    work.save()
        return work

    def _is_being_restarted(self, conversion: Conversion) -> bool:
        mine = SourceWork.objects.filter(conversion=conversion).values_list("pk", flat=True)
        return any(pk in self._restarts and not self._restarts[pk].done() for pk in mine)

    def _forget(self, key: tuple[int, int]) -> None:
        self._looks.pop(key, None)
        self._next.pop(key, None)
        self._asked.discard(key)

    def _conclude(self, work: SourceWork, saved: SavedSource, plan: Plan, look: "Future[power.Seen | None]") -> bool:
        """What follows from a look, or from a step whose success the next look shows."""
        settings, key = plan.source.settings, (work.conversion_id, work.attempt)
        limit = work.asked + timedelta(minutes=settings.get("shut_down_minutes") or 15) if work.asked else None
        try:
            seen = look.result()
        except RefusedError as error:
            if error.problem.code in _BLOCKING:
                SavedSource.objects.filter(pk=saved.pk).update(blocked=error.problem.as_dict())
            waits = limit is not None and timezone.now() < limit + timedelta(minutes=1)
            passing = error.problem.code in _PASSING
            if waits and (passing or (error.problem.code == "tools-needed" and settings.get("power_off"))):
                return self._later(key)
            return self._refuse(work, error.problem)
        except (OSError, subprocess.SubprocessError) as error:
            return self._refuse(work, _no_answer(saved, error))
        if seen is None:
            return self._later(key)
        if seen.power == "off":
            return self._is_off(work, saved, plan, seen)
        if seen.power != "on" or not settings.get("shut_down"):
            return self._refuse(work, _runs(seen.power))
        return self._shut_down(work, saved, plan, limit)

    def _shut_down(self, work: SourceWork, saved: SavedSource, plan: Plan, limit: Any) -> bool:
        settings, key = plan.source.settings, (work.conversion_id, work.attempt)
        now = timezone.now()
        if limit is None:
            work.asked = now
            if settings.get("start_again"):
                work.restart = Restart.OWED
            _note(work, "The guest was asked to shut down.")
        if limit is None or (key not in self._asked and now < limit):
            self._asked.add(key)
            minutes = settings.get("shut_down_minutes") or 15
            wait = f"the guest to shut down, for at most {minutes} minute{'s' if minutes > 1 else ''}"
            Conversion.objects.filter(pk=work.conversion_id).update(waiting_for=wait, updated=now)
            self._looks[key] = _beside(power.shut_down, *_guest_of(saved, plan))
        elif now < limit:
            return self._later(key)
        elif not settings.get("power_off"):
            return self._refuse(work, _did_not(settings.get("shut_down_minutes") or 15))
        else:
            if work.unplugged is None:
                work.unplugged = now
                _note(work, "It had not shut down in time and was switched off hard, as was chosen.")
            elif now > work.unplugged + timedelta(minutes=3):
                return self._refuse(work, _did_not(settings.get("shut_down_minutes") or 15))
            self._looks[key] = _beside(power.switch_off, *_guest_of(saved, plan))
        return False

    def _later(self, key: tuple[int, int]) -> bool:
        self._next[key] = time.monotonic() + PAUSE
        return False

    def _is_off(self, work: SourceWork, saved: SavedSource, plan: Plan, seen: power.Seen) -> bool:
        texts = ["It has shut down."] if work.asked and not work.unplugged else []
        if seen.host_path is not None and list(seen.host_path) != plan.source.settings.get("host_path"):
            work.found = {"host_path": list(seen.host_path)}
            texts.append(f"It has moved since the review and was found at {'/'.join(seen.host_path)}.")
        work.ready = timezone.now()
        _note(work, *texts)
        _is_now_off(saved, plan.source.settings["guest_id"])
        Conversion.objects.filter(pk=work.conversion_id).exclude(waiting_for="").update(waiting_for="")
        self._forget((work.conversion_id, work.attempt))
        return True

    def _refuse(self, work: SourceWork, problem: Problem) -> bool:
        work.problem = problem.as_dict()
        work.save()
        Conversion.objects.filter(pk=work.conversion_id).exclude(waiting_for="").update(waiting_for="")
        self._forget((work.conversion_id, work.attempt))
        raise RefusedError(problem)

    # After

    def tick(self) -> None:
        """Starts guests again whose conversion did not come to its end, where the person chose that."""
        owed = SourceWork.objects.filter(
            restart=Restart.OWED,
            attempt=F("conversion__attempt"),
            conversion__state__in=[State.FAILED, State.CANCELLED, State.LOST],
        ).select_related("conversion")
        for work in owed.defer("conversion__secrets"):
            future = self._restarts.get(work.pk)
            if future is None:
                if time.monotonic() >= self._next.get((work.pk, -1), 0.0):
                    self._restart(work)
            elif future.done():
                del self._restarts[work.pk]
                self._restarted(work, future)

    def _restart(self, work: SourceWork) -> None:
        plan = work.conversion.plan
        saved = SavedSource.objects.filter(pk=plan.source.settings["source_id"]).first()
        if saved is None:
            work.restart = Restart.FAILED
            _note(work, "It was not started again: its source is not known to v2vweb any more.", receipt=True)
            return
        self._restarts[work.pk] = _beside(power.switch_on, *_guest_of(saved, plan))

    def _restarted(self, work: SourceWork, future: "Future[None]") -> None:
        try:
            future.result()
        except Exception as error:
            tries = self._tries[work.pk] = self._tries.get(work.pk, 0) + 1
            self._next[work.pk, -1] = time.monotonic() + _RESTART_PAUSE
            if tries < _RESTARTS:
                return
            work.restart = Restart.FAILED
            why = error.problem.text if isinstance(error, RefusedError) else str(error)
            _note(work, f"It could not be started again: {why} Please start it by hand.", receipt=True)
            return
        work.restart = Restart.DONE
        _note(work, "It was started again, because the conversion did not come to its end.", receipt=True)
        settings = work.conversion.plan.source.settings
        SavedSource.objects.filter(pk=settings["source_id"]).update(refresh_requested=timezone.now())


def _guest_of(saved: SavedSource, plan: Plan) -> tuple[SavedSource, str, str | None]:
    settings = plan.source.settings
    return saved, settings["guest_id"], settings.get("uuid")


def _beside(function: Callable[..., Any], *args: Any) -> "Future[Any]":
    """Runs in a thread that does not hold up the end of this process; the row says what is to be done again."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="source-work", daemon=True).start()
    return future


def _note(work: SourceWork, *texts: str, receipt: bool = False) -> None:
    """Saves the row together with what people read about it."""
    with transaction.atomic():
        work.save()
        for text in texts:
            Event.objects.create(
                conversion_id=work.conversion_id, attempt=work.attempt, type="source", data={"text": text}
            )
        if receipt:
            row = Conversion.objects.select_for_update().only("receipt", "attempt").get(pk=work.conversion_id)
            if row.attempt == work.attempt:
                source = [*row.receipt.get("source", []), *texts]
                Conversion.objects.filter(pk=row.pk).update(
                    receipt={"removed": [], "kept": [], **row.receipt, "source": source}, updated=timezone.now()
                )


def _is_now_off(saved: SavedSource, guest_id: str) -> None:
    """The cache knows too; the next refresh tells the rest."""
    row = InventoryGuest.objects.filter(source=saved, guest_id=guest_id, power="on").first()
    if row is not None:
        row.power, row.record["power"] = "off", "off"
        row.concerns = [concern for concern in row.concerns if concern["id"] != _POWERED_ON]
        row.worst = row.concerns[0]["severity"] if row.concerns else ""
        row.save()


def _source_gone() -> Problem:
    return Problem(
        "source-unknown",
        "The source is not there any more",
        "Somebody removed the saved source that this guest comes from.",
        "Add the source again, and start a new conversion.",
    )


def _no_answer(saved: SavedSource, error: Exception) -> Problem:
    text = f"{saved.host} did not answer when v2vweb looked whether the guest is still there: {str(error)[:200]}"
    return Problem("no-answer", "The source does not answer", text, "Press “Test connection” on the source's page.")


def _runs(power: str) -> Problem:
    return Problem(
        "guest-runs",
        "The guest is running" if power == "on" else f"The guest is {power}",
        "It was started, or suspended, since the review. virt-v2v copies only a guest that is shut down.",
        "Shut it down and press Retry; or start a new conversion and choose to have it shut down first.",
        "source owner",
    )


def _did_not(minutes: int) -> Problem:
    return Problem(
        "did-not-shut-down",
        "The guest did not shut down in time",
        f"It was asked to and still ran after {minutes} minutes. It was not switched off hard, and nothing was copied.",
        "Look at its console: it may wait for an answer. Shut it down and press Retry.",
        "source owner",
    )
