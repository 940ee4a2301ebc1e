"""The conductor: one loop that starts, watches and ends conversions.  At any instant it may be killed.

All it knows is in rows and job folders, so the next one goes on where it was.  What keeps it from doing a thing twice:
moves of state are guarded UPDATEs, an agent starts once per attempt (the fence in its folder), and events are read
together with the offset up to which they were read, in one transaction.
"""

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from . import boot_tests, intake, jobs
from .boot_tests import BootTests
from .host.acceleration import Probe
from .interruptions import agent_is_gone, agent_will_not_start, cannot_start, stopped_from_outside
from .jobdir import Result
from .models import Conversion, Lease, SavedSource
from .problems import Problem, RefusedError
from .runners import Alive, Dead, Ended, LocalRunner, NotStarted, Runner
from .scheduler import Limits, Power, Queued, schedule
from .servers.refreshers import Refreshers
from .servers.source_work import SourceWorker
from .servers.source_work import receipt as source_receipt
from .states import ACTIVE, State

logger = logging.getLogger(__name__)

LEASE = "conductor"
LEASE_SECONDS = 10  #: how long a conductor that was killed holds up the next one
_RENEW_SECONDS = 3
PAUSE = 0.25  #: seconds between two rounds: they are what a conversion takes longer than virt-v2v alone
_SIGN_SECONDS = 300  #: a machine's role gives keys that are good for some ten minutes at least
_STARTS = 3  #: tries to start an agent that ends before it begins


def max_running() -> int:
    """How many conversions run at once: as set, or one for each core and 2 GiB, whichever is less."""
    if settings.ENV.max_running:
        return int(settings.ENV.max_running)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // 2**31))


class Conductor:
    def __init__(self, runner: Runner | None = None, probe: Probe | None = None) -> None:
        self.runner = runner or LocalRunner()
        self.probe = probe or Probe(settings.DATA_DIR, settings.ENV.acceleration)
        self.refreshers = Refreshers()
        self.source_worker = SourceWorker()
        self.boot_tests = BootTests()
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.since = timezone.now()
        self._renewed: float | None = None
        self._signed = float("-inf")  #: at once: nobody knows how long none was at work
        self._about: dict[str, Any] = {}
        self._tries: dict[tuple[int, int], int] = {}  #: (conversion, attempt) -> agents started in vain

    def run(self, stop: threading.Event) -> None:
        """Conducts until told to stop.  Agents go on without it."""
        waiting_told = False
        while not stop.is_set():
            pause = PAUSE
            try:
                if self.lead():
                    waiting_told = False
                    self.tick()
                elif not waiting_told:
                    waiting_told = True
                    logger.info("another conductor is at work; waiting")
            except Exception:
                # The database may be away for a while; conversions are with their agents and do not mind.
                logger.exception("the conductor goes on after an error")
                close_old_connections()
                pause = 2.0
            stop.wait(pause)
        self.probe.stop()
        self.refreshers.stop()
        self.resign()

    def lead(self) -> bool:
        """Takes or renews the lease; whether this is the one that conducts."""
        about = self._describe()
        now = time.monotonic()
        if self._renewed is not None and now - self._renewed < _RENEW_SECONDS and about == self._about:
            return True
        expires = timezone.now() + timedelta(seconds=LEASE_SECONDS)
        mine = Lease.objects.filter(name=LEASE, holder=self.name)
        free = Lease.objects.filter(name=LEASE, expires__lt=timezone.now())
        won = bool(
            mine.update(expires=expires, about=about)
            or free.update(holder=self.name, expires=expires, about=about)
            or Lease.objects.get_or_create(
                name=LEASE, defaults={"holder": self.name, "expires": expires, "about": about}
            )[1]
        )
        if won and self._renewed is None:
            logger.info("conducting as %s", self.name)
        self._renewed, self._about = (now, about) if won else (None, {})
        return won

    def leads(self) -> bool:
        """Whether this is the one that conducts, as far as it knows."""
        return self._renewed is not None

    def resign(self) -> None:
        if self._renewed is not None:
            Lease.objects.filter(name=LEASE, holder=self.name).update(expires=timezone.now(), holder="")
            self._renewed = None

    def _describe(self) -> dict[str, Any]:
        # Two conductors do not measure at once: it takes a core, and the answer is kept for both.
        acceleration = self.probe.poll() if self.leads() else None
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self.since.isoformat(),
            "max_running": max_running(),
            "accel": acceleration.mode if acceleration else None,
            "accel_text": acceleration.text if acceleration else "Being measured.",
            "accel_seconds": acceleration.seconds if acceleration else None,
        }

    def tick(self) -> bool:
        """One round over everything that is not over; whether there is anything."""
        self.runner.reap()
        self.refreshers.tick()
        self.source_worker.tick()
        self._try_boots()
        # Without the secrets: a row whose secrets cannot be read must not hold up the others.
        rows = Conversion.objects.defer("secrets")
        active = list(rows.filter(state__in=ACTIVE).order_by("id"))
        for conversion in active:
            try:
                self.watch(conversion)
            except Exception:
                logger.exception("conversion %s", conversion.pk)
        self._renew_addresses(active)
        queued = list(rows.filter(state=State.QUEUED).order_by("id"))
        if queued:
            self.start_queued(queued)
        return bool(active or queued)

    def _renew_addresses(self, active: list[Conversion]) -> None:
        """Signed addresses do not last as long as a conversion may; agents read them from files."""
        if time.monotonic() - self._signed < _SIGN_SECONDS:
            return
        self._signed = time.monotonic()
        for conversion in active:
            try:
                jobs.renew_addresses(conversion)
            except Exception:  # the next time, perhaps: those that it has may be good for days
                logger.exception("addresses of conversion %s", conversion.pk)

    def _try_boots(self) -> None:
        """Proofs of boot; what goes wrong with one must not hold up conversions."""
        acceleration = self.probe.poll()
        if acceleration is not None:
            try:
                self.boot_tests.tick("kvm" if acceleration.mode == "kvm" else "tcg")
            except Exception:
                logger.exception("boot tests")

    # Queue

    def start_queued(self, queued: list[Conversion]) -> None:
        acceleration = self.probe.poll()
        hold = "" if acceleration else "a test of this server's virtualisation, which takes up to a minute"
        by_source = Counter(Conversion.objects.filter(state__in=ACTIVE).values_list("source", flat=True))
        running = sum(by_source.values())
        sources = SavedSource.objects.defer("secrets").in_bulk({row.source_id for row in queued if row.source_id})
        powers = self.source_worker.powers(queued)
        decision = schedule(
            [_queued(row, sources.get(row.source_id or 0), *powers.get(row.pk, (Power.OFF, ""))) for row in queued],
            running,
            Limits(max_running(), hold),
            {source: count for source, count in by_source.items() if source is not None},
        )
        for conversion in queued:
            if conversion.pk in decision.start:
                if conversion.move(State.RUNNING, why="a place is free", started=timezone.now(), waiting_for=""):
                    self.start(conversion)
                continue
            if conversion.waiting_for != (words := decision.waiting.get(conversion.pk, "")):
                Conversion.objects.filter(pk=conversion.pk, state=State.QUEUED, attempt=conversion.attempt).update(
                    waiting_for=words, updated=timezone.now()
                )
            power, _ = powers.get(conversion.pk, (Power.OFF, ""))
            if conversion.pk in decision.shut_down or power in (Power.GOING, Power.SLOW):
                self._shut_down_first(conversion)

    def _shut_down_first(self, conversion: Conversion) -> None:
        """One more step with the guest of a conversion that waits; it takes a place when its guest is off."""
        with self._failing(conversion, "the guest of conversion %s cannot be shut down"):
            self.source_worker.ready(conversion)

    @contextlib.contextmanager
    def _failing(self, conversion: Conversion, words: str) -> Iterator[None]:
        """Within, whatever is raised fails the conversion with the reason."""
        try:
            yield
        except RefusedError as refusal:
            logger.info("conversion %s is refused: %s", conversion.pk, refusal)
            self._fail(conversion, refusal.problem)
        except Exception as error:
            logger.exception(words, conversion.pk)
            self._fail(conversion, cannot_start(error))

    def start(self, conversion: Conversion) -> None:
        """Prepares the folder and starts an agent; a conversion that cannot be started fails with the reason."""
        acceleration = self.probe.poll()
        if acceleration is None:  # claimed by an earlier conductor; the next round asks again
            return
        with self._failing(conversion, "conversion %s cannot be started"):
            if not self.source_worker.ready(conversion):  # the next round asks again
                return
            jobs.prepare(conversion, acceleration.env)
            self.runner.start(conversion)

    # Watching

    def watch(self, conversion: Conversion) -> None:
        """Reads what is new of one attempt and draws the conclusions."""
        if conversion.state == State.CANCELLING:
            self.runner.stop(conversion)
        look = self.runner.look(conversion)  # before the events: what has ended has written all of them
        while intake.read(conversion):
            pass
        match look:
            case NotStarted(trying=True) | Alive():
                pass
            case NotStarted():
                self._start_again(conversion, look.words)
            case Ended():
                self._finish(conversion, look.result)
            case Dead():
                self._bury(conversion)

    def _start_again(self, conversion: Conversion, words: str) -> None:
        """Claimed, but no agent has begun: the conductor was killed in between, or the agent could not begin."""
        key = (conversion.pk, conversion.attempt)
        if words:
            self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries.get(key, 0) >= _STARTS:
            del self._tries[key]
            self._fail(conversion, agent_will_not_start(words, _STARTS))
            return
        self.start(conversion)

    def _finish(self, conversion: Conversion, result: Result) -> None:
        fields: dict[str, Any] = {
            "ended": timezone.now(),
            "receipt": {"removed": result.removed, "kept": result.kept} | source_receipt(conversion),
            "progress": conversion.progress | ({"rate": 0, "eta": None} if conversion.progress else {}),
        }
        if result.outcome == "succeeded":
            won = conversion.move(
                State.SUCCEEDED, why="disks and description are there", artifacts=result.artifacts, **fields
            )
            if won and conversion.plan.options.boot_test:
                self._ask_for_boot(conversion)
        elif result.outcome == "failed":
            conversion.move(State.FAILED, why=(result.error or {}).get("title", ""), error=result.error, **fields)
        elif conversion.state == State.CANCELLING:
            conversion.move(State.CANCELLED, why=f"requested by {conversion.cancel_requested_by}", **fields)
        else:
            problem = stopped_from_outside()
            conversion.move(State.LOST, why=problem.title, error=problem.as_dict(), **fields)

    def _ask_for_boot(self, conversion: Conversion) -> None:
        try:
            boot_tests.ask(conversion)
        except Exception:  # the conversion has succeeded all the same
            logger.exception("boot test of conversion %s", conversion.pk)

    def _bury(self, conversion: Conversion) -> None:
        """The agent is gone and has left no result: ends what it has left running, then says so."""
        removed, kept = self.runner.clear(conversion)
        fields: dict[str, Any] = {
            "ended": timezone.now(),
            "receipt": {"removed": removed, "kept": kept} | source_receipt(conversion),
            "progress": conversion.progress | ({"rate": 0, "eta": None} if conversion.progress else {}),
        }
        if conversion.state == State.CANCELLING:
            conversion.move(State.CANCELLED, why=f"requested by {conversion.cancel_requested_by}", **fields)
        else:
            problem = agent_is_gone()
            conversion.move(State.LOST, why=problem.title, error=problem.as_dict(), **fields)

    def _fail(self, conversion: Conversion, problem: Problem) -> None:
        receipt = source_receipt(conversion)
        error = problem.as_dict()
        conversion.move(
            State.FAILED, why=problem.title, error=error, receipt=receipt, waiting_for="", ended=timezone.now()
        )


def _queued(row: Conversion, source: SavedSource | None, power: Power, words: str) -> Queued:
    if source is None:
        return Queued(row.pk, power=power, words=words)
    return Queued(row.pk, source.pk, source.name, source.max_running, power, words)
