"""Before a conversion, at its source: is the guest still there, and off; shut it down first.

A guest is shut down while its conversion waits in the queue, so that it takes no place; when it has one it is looked at once
more.  Asked again and again by the conductor, whose only memory is the row (models.SourceWork): each step is written there
before it is done, and doing a step a second time changes nothing.  What waits for a network runs in threads.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from ..models import Conversion, InventoryGuest, SavedSource, SourceWork
from ..plan import Plan
from ..problems import Problem, RefusedError
from ..scheduler import Power
from ..sources import get_source
from ..states import ACTIVE, State
from . import power
from .power_answers import Seen
from .restarts import Restarts
from .source_steps import beside, guest_of, minutes, name_of, note

PRUNE = 60.0  #: seconds between two looks for what is over
PAUSE = 3.0  #: seconds between two looks at a guest that is shutting down
_PATIENCE = timedelta(minutes=2)  #: after which a guest that is shutting down does not keep the next from it
#: What may be over in a moment: a guest that is shutting down is looked at again.
_PASSING = (
    "no-answer",
    "session-ended",
    "port-closed",
    "name-unknown",
    "tls-no-answer",
    "ssh-no-answer",
    "ssh-broke-off",
)
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


def receipt(conversion: Conversion) -> dict[str, list[str]]:
    done = conversion.told_at_source()
    return {"source": done} if done else {}


class SourceWorker:
    def __init__(self) -> None:
        self.restarts = Restarts()
        self._looks: dict[tuple[int, int], Future[Seen | None]] = {}  #: (conversion, attempt) -> a step under way
        self._next: dict[tuple[int, int], float] = {}  #: when to look again
        self._asked: set[tuple[int, int]] = set()  #: asked to shut down by this process
        self._prune_at = 0.0

    def tick(self) -> None:
        self.restarts.tick()
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE
            self._prune()

    def _prune(self) -> None:
        """Forgets conversions that ended while they waited, about which nobody asks again."""
        if known := {*self._looks, *self._next, *self._asked}:
            rows = Conversion.objects.filter(state__in=[State.QUEUED, *ACTIVE], pk__in={pk for pk, _ in known})
            for key in known - set(rows.values_list("pk", "attempt")):
                self._forget(key)

    def powers(self, queued: list[Conversion]) -> dict[int, tuple[Power, str]]:
        """Of those whose guest is to be shut down first: how far that is, and what it waits for in words."""
        mine = {row.pk: row for row in queued if _wants_shut_down(row)}
        if not mine:
            return {}
        works = {(work.conversion_id, work.attempt): work for work in SourceWork.objects.filter(conversion__in=mine)}
        return {pk: self._power(row, works.get((pk, row.attempt))) for pk, row in mine.items()}

    def _power(self, row: Conversion, work: SourceWork | None) -> tuple[Power, str]:
        if work is not None and work.asked and not work.ready:
            is_slow = timezone.now() > work.asked + _PATIENCE
            return (Power.SLOW if is_slow else Power.GOING), _waits(work, row.plan)
        if (row.pk, row.attempt) in self._looks or (work is not None and work.problem):
            return Power.GOING, f"a look at {name_of(row.plan)} at its source"
        return (Power.OFF if work is not None and work.ready else Power.ON), ""

    def ready(self, conversion: Conversion) -> bool:
        """Whether the guest is off: one that waits may then take a place; one that has a place is looked at once more,
        and its agent may start.  Raises RefusedError when it may never."""
        plan = conversion.plan
        if not get_source(plan.source.kind).is_saved:
            return True
        work = self._work_of(conversion)
        if work.problem:
            raise RefusedError(Problem(**work.problem))
        if work.ready and (conversion.started is None or work.ready >= conversion.started):
            return True
        key = (conversion.pk, conversion.attempt)
        if self.restarts.are_busy_with(conversion):
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
                self._looks[key] = beside(power.look, *guest_of(saved, plan))
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

    def _forget(self, key: tuple[int, int]) -> None:
        self._looks.pop(key, None)
        self._next.pop(key, None)
        self._asked.discard(key)

    def _conclude(self, work: SourceWork, saved: SavedSource, plan: Plan, look: "Future[Seen | None]") -> bool:
        """What follows from a look, or from a step whose success the next look shows."""
        settings, key = plan.source.settings, (work.conversion_id, work.attempt)
        limit = work.asked + timedelta(minutes=minutes(plan)) if work.asked and not work.ready else None
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
        # One that was off and runs again while it waited for its place is somebody's: it is not shut down twice.
        if seen.power != "on" or work.ready or not settings.get("shut_down"):
            return self._refuse(work, _runs(seen.power))
        return self._shut_down(work, saved, plan, limit)

    def _shut_down(self, work: SourceWork, saved: SavedSource, plan: Plan, limit: datetime | None) -> bool:
        settings, key, now = plan.source.settings, (work.conversion_id, work.attempt), timezone.now()
        if limit is None or (key not in self._asked and now < limit):
            texts = () if limit else ("The guest was asked to shut down.",)
            work.asked = work.asked or now
            if limit is None and settings.get("start_again"):
                work.restart = Restart.OWED
            step: Callable[..., None] = power.shut_down
        elif now < limit:
            return self._later(key)
        elif not settings.get("power_off") or (work.unplugged and now > work.unplugged + timedelta(minutes=3)):
            return self._refuse(work, _did_not(minutes(plan)))
        else:
            texts = (
                () if work.unplugged else ("It had not shut down in time and was switched off hard, as was chosen.",)
            )
            work.unplugged = work.unplugged or now
            step = power.switch_off
        if self._note_if_wanted(work, plan, texts):
            self._asked.add(key)
            self._looks[key] = beside(step, *guest_of(saved, plan))
        return False

    def _note_if_wanted(self, work: SourceWork, plan: Plan, texts: Sequence[str]) -> bool:
        """Writes a step before it is done; False when somebody has cancelled in the moment before."""
        rows = Conversion.objects.filter(
            pk=work.conversion_id, attempt=work.attempt, state__in=[State.QUEUED, State.RUNNING]
        )
        with transaction.atomic():
            if not rows.update(waiting_for=_waits(work, plan), updated=timezone.now()):
                self._forget((work.conversion_id, work.attempt))
                return False
            note(work, *texts)
        return True

    def _later(self, key: tuple[int, int]) -> bool:
        self._next[key] = time.monotonic() + PAUSE
        return False

    def _is_off(self, work: SourceWork, saved: SavedSource, plan: Plan, seen: Seen) -> bool:
        texts = ["It has shut down."] if work.asked and not work.unplugged and not work.ready else []
        known = plan.source.settings | (work.found or {})
        if seen.host_path is not None and list(seen.host_path) != known.get("host_path"):
            work.found = (work.found or {}) | {"host_path": list(seen.host_path)}
            texts.append(f"It has moved since the review and was found at {'/'.join(seen.host_path)}.")
        if seen.vmx and known.get("vmx") and seen.vmx != known["vmx"]:
            work.found = (work.found or {}) | {"vmx": seen.vmx}
            texts.append(f"Its files have moved since the review and were found at {seen.vmx}.")
        work.ready = timezone.now()
        note(work, *texts)
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


def _is_now_off(saved: SavedSource, guest_id: str) -> None:
    """The cache knows too; the next refresh tells the rest."""
    row = InventoryGuest.objects.filter(source=saved, guest_id=guest_id, power="on").first()
    if row is not None:
        row.power, row.record["power"] = "off", "off"
        row.concerns = [concern for concern in row.concerns if concern["id"] != _POWERED_ON]
        row.worst = row.concerns[0]["severity"] if row.concerns else ""
        row.save()


def _wants_shut_down(row: Conversion) -> bool:
    settings = (row.plan_json.get("source") or {}).get("settings") or {}  # read as it is, four times a second
    return bool(settings.get("shut_down"))


def _waits(work: SourceWork, plan: Plan) -> str:
    """What a conversion waits for while its guest is being shut down: "Waiting for ..."."""
    name, limit = name_of(plan), minutes(plan)
    if work.unplugged:
        return f"{name} to be off: it was switched off hard"
    then = "; then it is switched off hard" if plan.source.settings.get("power_off") else ""
    return f"{name} to shut down, for at most {limit} minute{'' if limit == 1 else 's'}{then}"


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
        "It was started or suspended since the review, or while it waited for its place. virt-v2v copies only a guest that "
        "is shut down.",
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
