"""manage.py conduct: starts, watches and ends conversions until it is told to stop (SIGTERM or Ctrl-C)."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from conversions.conductor import Conductor
from conversions.uploading import follow


class Command(BaseCommand):
    help = "Conducts: starts conversions, watches their agents, records how they end. One at a time; others wait."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        conductor = Conductor()
        # Reads behind uploads; computing their checksums must not hold up the conductor's round.
        follower = threading.Thread(target=follow.run, args=(stop, conductor.leads), name="follower", daemon=True)
        follower.start()
        conductor.run(stop)
        follower.join(5)
