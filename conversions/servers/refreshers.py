"""Keeps the caches of saved sources fresh: one process for each source that somebody asked for or looks at."""

import logging
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from ..models import SavedSource
from ..problems import Problem
from .refresh import tells_changes

logger = logging.getLogger(__name__)

_MOST = 4  #: processes at once; the others wait a moment
_LONGEST = timedelta(minutes=15)  #: a read that takes longer is stuck
_PAUSE = 5.0  #: seconds before the next process for one source: a program that breaks at once must not be a storm
_LOOKED_AT = timedelta(minutes=10)


class Refreshers:
    """Asked again and again by the conductor; level-triggered, so that a conductor that was killed loses nothing."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}  #: by source
        self._begun: dict[int, float] = {}  #: source -> when its last process was started

        self._for: dict[int, datetime | None] = {}  #: source -> the request that it was started for

    def tick(self) -> None:
        now = timezone.now()
        for pk, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[pk]
                if code:
                    self._broke(pk, code)
        wanted = SavedSource.objects.filter(blocked__isnull=True).filter(
            Q(refresh_requested__isnull=False)
            | Q(viewed__gt=now - _LOOKED_AT, refreshed__isnull=False, refresh_error__isnull=True)
        )
        for saved in wanted.defer("secrets", "pin", "ca"):
            self._consider(saved)

    def _consider(self, saved: SavedSource) -> None:
        process = self._running.get(saved.pk)
        if process is not None:
            if saved.refresh_requested and timezone.now() - saved.refresh_requested > _LONGEST:
                process.kill()
            return
        if len(self._running) >= _MOST or time.monotonic() - self._begun.get(saved.pk, -_PAUSE) < _PAUSE:
            return
        if not saved.refresh_requested and not tells_changes(saved):
            return
        argv = [sys.executable, str(settings.BASE_DIR / "manage.py"), "refresh_source", str(saved.pk), "--watch"]
        self._begun[saved.pk], self._for[saved.pk] = time.monotonic(), saved.refresh_requested
        self._running[saved.pk] = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def _broke(self, pk: int, code: int) -> None:
        """A read that ended without a word of its own would be asked for again and again: people are told instead."""
        why = "It took longer than 15 minutes." if code == -signal.SIGKILL else f"The program ended with {code}."
        problem = Problem(
            "refresh-broke",
            "The list of guests could not be read",
            f"{why} The list that is shown is the last one that was read.",
            "Press “Refresh” to try again. If it fails again, tell your administrator to look at the conductor's log.",
            "administrator",
        )
        asked = self._for.get(pk)
        rows = SavedSource.objects.filter(pk=pk, refresh_requested=asked) if asked else SavedSource.objects.none()
        if rows.update(refresh_error=problem.as_dict(), refresh_requested=None):
            logger.error("reading the guests of source %s ended with %s", pk, code)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
