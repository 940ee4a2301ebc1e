"""A conductor that kills itself (SIGKILL) at one exact instant: python conductor_that_dies.py INSTANT.  "never": it does not."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "v2vweb.settings")

import django

django.setup()

from conversions import conductor, jobs  # noqa: E402
from conversions.models import Conversion, Event  # noqa: E402
from conversions.runners import LocalRunner  # noqa: E402
from conversions.states import State  # noqa: E402


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function: Callable[..., Any], unless: Callable[..., bool] = lambda *_: False) -> Callable[..., Any]:
    def wrapped(*args: Any, **fields: Any) -> Any:
        value = function(*args, **fields)
        if not unless(*args):
            die()
        return value

    return wrapped


def main(instant: str) -> None:
    match instant:
        case "between claim and preparation":
            jobs.prepare = die  # type: ignore[assignment]
        case "between preparation and start":
            LocalRunner.start = die  # type: ignore[assignment]
        case "right after the start":
            LocalRunner.start = then_die(LocalRunner.start)  # type: ignore[method-assign]
        case "while events become rows":
            bulk_create = Event.objects.bulk_create
            Event.objects.bulk_create = then_die(bulk_create, lambda rows: not rows)  # type: ignore[method-assign]
        case "between the end of the agent and the move":
            conductor.Conductor._finish = die  # type: ignore[method-assign,assignment]
        case "right after the move":
            to_an_end = lambda row, to: to == State.RUNNING  # noqa: E731
            Conversion.move = then_die(Conversion.move, to_an_end)  # type: ignore[method-assign]
        case "never":
            pass
        case _:
            raise SystemExit(f"no such instant: {instant}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    conductor.Conductor().run(stop)


if __name__ == "__main__":
    main(sys.argv[1])
