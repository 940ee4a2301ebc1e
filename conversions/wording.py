"""What a person reads about a conversion: its state, its progress and its silence in plain words."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .problems import size_words
from .states import PHASE_WORDS, Phase, State

if TYPE_CHECKING:
    from .models import Conversion

STATE_WORDS: dict[State, str] = {
    State.QUEUED: "Waiting",
    State.RUNNING: "Running",
    State.CANCELLING: "Stopping",
    State.SUCCEEDED: "Done",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
    State.LOST: "Lost",
}

#: For somebody who has never seen virt-v2v: what happens in a phase.
PHASE_HELP: dict[Phase, str] = {
    Phase.CHECKING: "v2vweb looks at the disks before anything else does: are they what they claim to be, is there room.",
    Phase.OPENING: "virt-v2v opens the source and starts a small helper machine in which the guest's disks are examined.",
    Phase.INSPECTING: "virt-v2v looks on the disks for the operating system and its boot loader.",
    Phase.CONVERTING: "Drivers and the boot loader are changed, in a copy, so that the guest starts on KubeVirt.",
    Phase.COPYING: "The converted disks are written to the target. This is the step that takes time with big disks.",
    Phase.FINISHING: "The description of the new virtual machine is written and temporary files are removed.",
}

#: Seconds that a phase may well be silent without anything being wrong: starting the helper machine without hardware
#: acceleration, rebuilding an initramfs, sparse areas of a disk.
QUIET: dict[Phase, int] = {
    Phase.CHECKING: 120,
    Phase.OPENING: 300,
    Phase.INSPECTING: 300,
    Phase.CONVERTING: 900,
    Phase.COPYING: 120,
    Phase.FINISHING: 120,
}


def usual_quiet(phase: str) -> int:
    return QUIET.get(Phase(phase), 300) if phase else 300


def state_sentence(conversion: "Conversion") -> str:
    """The state and its reason in one sentence."""
    state = State(conversion.state)
    match state:
        case State.QUEUED:
            return f"Waiting for {conversion.waiting_for}" if conversion.waiting_for else "Waiting for its turn"
        case State.RUNNING:
            if conversion.phase:
                return PHASE_WORDS[Phase(conversion.phase)]
            return f"Waiting for {conversion.waiting_for}" if conversion.waiting_for else "Starting"
        case State.CANCELLING:
            return f"Stopping, as {conversion.cancel_requested_by or 'somebody'} asked"
        case State.SUCCEEDED:
            return "Done: the disks and the description of the virtual machine are ready"
        case State.FAILED:
            title = (conversion.error or {}).get("title") or "it ended with an error"
            return f"Failed: {title}"
        case State.CANCELLED:
            return f"Cancelled by {conversion.cancel_requested_by}" if conversion.cancel_requested_by else "Cancelled"
        case State.LOST:
            return "Lost: the program that ran it is gone and left no result"


def duration_words(seconds: float) -> str:
    """ "42 seconds", "3 minutes", "2 hours 5 minutes": as one would say it."""
    seconds = max(0, int(seconds))
    if seconds < 60:
        return _plural(seconds, "second")
    minutes, rest = divmod(seconds, 60)
    if minutes < 10 and rest >= 5:
        return f"{_plural(minutes, 'minute')} {_plural(rest, 'second')}"
    if minutes < 60:
        return _plural(minutes, "minute")
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return _plural(hours, "hour") + (f" {_plural(minutes, 'minute')}" if minutes else "")
    days, hours = divmod(hours, 24)
    return _plural(days, "day") + (f" {_plural(hours, 'hour')}" if hours else "")


def _plural(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def eta_words(low: float, high: float) -> str:
    """A range, because nobody knows better: "about 5 to 8 minutes"."""
    if high < 60:
        return "less than a minute"
    if high < 5400:
        first, last, unit = max(1, round(low / 60)), max(1, round(high / 60)), "minute"
    else:
        first, last, unit = max(1, round(low / 3600)), max(1, round(high / 3600)), "hour"
    return f"about {_plural(last, unit)}" if first >= last else f"about {first} to {last} {unit}s"


def progress_words(progress: dict[str, Any]) -> str:
    """ "12 GiB of 40 GiB, 85 MiB a second, about 5 to 8 minutes left"; only what is known."""
    done, total = progress.get("bytes_done"), progress.get("bytes_total")
    if done is None:
        return ""
    parts = [f"{size_words(done)} of {size_words(total)}" if total else f"{size_words(done)} copied"]
    if progress.get("rate"):
        parts.append(f"{size_words(int(progress['rate']))} a second")
    eta = progress.get("eta")
    if isinstance(eta, (list, tuple)) and len(eta) == 2:
        parts.append(f"{eta_words(*eta)} left")
    return ", ".join(parts)


def timedelta_words(duration: timedelta | None) -> str:
    return "" if duration is None else duration_words(duration.total_seconds())
