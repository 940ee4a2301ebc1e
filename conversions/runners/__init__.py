"""Runners: how an agent is started, looked at and stopped.  A kind is one file and one line here."""

from .base import Alive, Dead, Ended, Look, NotStarted, Runner
from .local import LocalRunner

RUNNERS: dict[str, type[Runner]] = {"local": LocalRunner}

__all__ = ["RUNNERS", "Alive", "Dead", "Ended", "LocalRunner", "Look", "NotStarted", "Runner"]
