"""Keeps the caches of saved sources fresh: one process for each source that somebody asked for or looks at."""

import logging
import subprocess
import sys
import time
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from ..models import SavedSource
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

    def tick(self) -> None:
        now = timezone.now()
        for pk, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[pk]
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
        self._begun[saved.pk] = time.monotonic()
        self._running[saved.pk] = subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
