"""What every runner can do.  It keeps nothing that matters: the next conductor's runner knows as much from the job's folder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..jobdir import Result

if TYPE_CHECKING:
    from ..models import Conversion


@dataclass(frozen=True)
class NotStarted:
    """No agent has begun; `trying` while one that was started may still begin, `words` what a failed one said."""

    trying: bool = False
    words: str = ""


@dataclass(frozen=True)
class Alive:
    """An agent is at work."""


@dataclass(frozen=True)
class Ended:
    """The agent has ended and said how."""

    result: Result


@dataclass(frozen=True)
class Dead:
    """An agent had begun, is gone and left no result."""


Look = NotStarted | Alive | Ended | Dead


class Runner(ABC):
    @abstractmethod
    def start(self, conversion: "Conversion") -> None:
        """Starts an agent on the prepared folder of the attempt.  Starting twice is harmless: one of them leaves."""

    @abstractmethod
    def look(self, conversion: "Conversion") -> Look:
        """What has become of the attempt."""

    @abstractmethod
    def stop(self, conversion: "Conversion") -> None:
        """Asks the agent to stop; may be called again and again."""

    @abstractmethod
    def clear(self, conversion: "Conversion") -> tuple[list[str], list[str]]:
        """After Dead: ends what the agent has left running and takes away what it has left lying.

        Returns the receipt: what was removed and what was kept.
        """

    def reap(self) -> None:  # noqa: B027 - most runners have nothing to reap
        """Takes note of agents that have ended."""
