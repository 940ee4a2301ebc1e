"""What went wrong, as a person needs it.  Standard library only: the agent uses it."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """An error or a warning: what happened, whose job it is, what to do next."""

    code: str  #: for machines and tickets: "disk-has-backing-file"
    title: str  #: a few words
    text: str  #: what happened, in a sentence or two
    action: str = ""  #: what to do or click next
    whose: str = "you"  #: "you", "administrator", "source owner" or "v2vweb"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class RefusedError(Exception):
    """Something is refused: `problem` says what and what next, `field` which input it is about, `status` HTTP's number."""

    def __init__(self, problem: Problem, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(f"{problem.title}: {problem.text}")
        self.problem = problem
        self.field = field
        self.status = status


def size_words(size: int) -> str:
    """A number of bytes for people: 1536 -> "1.5 KiB"."""
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if value >= 10 or units[0] == "bytes" else f"{value:.1f} {units[0]}"
