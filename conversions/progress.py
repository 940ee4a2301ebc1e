"""What virt-v2v says, line by line, turned into phases, warnings, errors and facts.  Pure, standard library only.

virt-v2v says everything twice when asked for --machine-readable: for people on its output, and as JSON on a descriptor
of its own.  The JSON has the exact text (a message may run over several lines); the output has the place in the log.
"""

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from . import known_errors
from .states import Phase

#: An event to be: its type and its fields, see events.py.
Told = tuple[str, dict[str, Any]]

_STEP = re.compile(r"^\[ *\d+\.\d\] (.*)$")
_SAID = re.compile(r"^virt-v2v(?:-in-place|-inspector)?: (?:(warning|error): )?(.*)$")
_COPYING = re.compile(r"^Copying disk (\d+)/(\d+)$")
_CONVERTING = re.compile(r"^Converting (.+) to run on KVM$")
# Colours and the like, which would spoil what people read in a list of warnings.
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

#: Beginning of a step's text -> phase.  Texts of virt-v2v 2.0 to 2.12; an unknown step changes nothing.
_PHASES: tuple[tuple[str, Phase], ...] = (
    ("Setting up the source", Phase.OPENING),
    ("Opening the source", Phase.OPENING),
    ("Inspecting the source", Phase.INSPECTING),
    ("Detecting ", Phase.INSPECTING),
    ("Checking filesystem integrity before", Phase.INSPECTING),
    ("Checking for sufficient free disk space", Phase.CONVERTING),
    ("Converting ", Phase.CONVERTING),
    ("Mapping filesystem data", Phase.CONVERTING),
    ("Skipping fstrim", Phase.CONVERTING),
    ("Checking filesystem integrity after", Phase.CONVERTING),
    ("Closing the overlay", Phase.CONVERTING),
    ("Assigning disks to buses", Phase.CONVERTING),
    ("Checking if the guest needs BIOS or UEFI", Phase.CONVERTING),
    ("Setting up the destination", Phase.COPYING),
    ("Copying disk", Phase.COPYING),
    ("Creating output metadata", Phase.FINISHING),
    ("Finishing off", Phase.FINISHING),
)
_ORDER = list(Phase)

#: Lines that may say why it failed when virt-v2v itself names no error: libguestfs ends it with "could not find key ...".
_SUSPICIOUS = re.compile(r"\berror\b|could not|cannot|failed|no space left", re.I)

_MOST_TOLD = 500  #: warnings of one attempt; a hostile guest must not fill the database
_TAIL = 200  #: lines kept for the diagnosis


def phase_of(step: str) -> Phase | None:
    return next((phase for start, phase in _PHASES if step.startswith(start)), None)


def os_name(product: str) -> str:
    """For Debian, libguestfs's product name is the bare text of /etc/debian_version: "12.15", "trixie/sid"."""
    if re.fullmatch(r"\d+(\.\d+)*|[a-z]+/sid", product):
        return f"Debian GNU/Linux {product}"
    return product


class Reader:
    """Reads virt-v2v's output and its machine-readable messages; yields what is new in them as events."""

    def __init__(self, *, machine: bool) -> None:
        self.machine = machine  #: whether machine-readable messages come as well
        self.phase: Phase | None = None
        self.disk = 0  #: which is being copied, from 1
        self.disks = 0
        self.errors: list[str] = []
        self.error_line: int | None = None  #: where the first error stands in the log
        self._suspicious_line: int | None = None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._told = 0
        self._firmware_told = False
        self._open: tuple[str, list[str], int] | None = None  #: a message that may go on in the next line
        self._places: dict[tuple[str, str], list[int]] = {}
        self._unplaced: deque[tuple[str, str]] = deque()

    def line(self, text: str, offset: int) -> Iterator[Told]:
        """A whole line of the output (without its end) that begins at a byte offset of the log."""
        text = _ESCAPES.sub("", text).rstrip()
        if text:
            self.tail.append(text)
            if _SUSPICIOUS.search(text):
                self._suspicious_line = offset
        step, said = _STEP.match(text), _SAID.match(text)
        if self.machine:
            if said and said[1]:
                yield from self._place(said[1], said[2], offset)
            return
        if self._open and text and not step and not said:
            self._open[1].append(text)
            return
        yield from self._close()
        if step:
            yield from self._step(step[1])
        elif said and said[1]:
            self._open = (said[1], [said[2]], offset)
        elif said:
            yield from self._info(said[2])

    def message(self, kind: Any, text: Any) -> Iterator[Told]:
        """One machine-readable message; strange ones are passed over."""
        if not isinstance(text, str):
            return
        text = _ESCAPES.sub("", text)
        if kind == "message":
            yield from self._step(text)
        elif kind == "info":
            yield from self._info(text)
        elif kind in ("warning", "error"):
            first = text.partition("\n")[0].rstrip()
            places = self._places.get((kind, first))
            if places:
                yield from self._tell(kind, text, places.pop(0))
            else:
                self._unplaced.append((kind, text))

    def flush(self) -> Iterator[Told]:
        """Tells what still waits for its line in the log, or for its next line.  For pauses and for the end."""
        yield from self._close()
        while self._unplaced:
            kind, text = self._unplaced.popleft()
            yield from self._tell(kind, text, None)

    def finish(self) -> Iterator[Told]:
        """At the end: also what was only printed and never came as JSON."""
        yield from self.flush()
        places = sorted((offset, *key) for key, offsets in self._places.items() for offset in offsets)
        for offset, kind, first in places:
            yield from self._tell(kind, first, offset)
        if not self.errors:
            self.error_line = self._suspicious_line

    def _place(self, kind: str, first: str, offset: int) -> Iterator[Told]:
        for waiting in self._unplaced:
            if waiting[0] == kind and waiting[1].partition("\n")[0].rstrip() == first:
                self._unplaced.remove(waiting)
                yield from self._tell(kind, waiting[1], offset)
                return
        if len(self._places) < _MOST_TOLD:
            self._places.setdefault((kind, first), []).append(offset)

    def _close(self) -> Iterator[Told]:
        if self._open:
            kind, lines, offset = self._open
            self._open = None
            yield from self._tell(kind, "\n".join(lines), offset)

    def _tell(self, kind: str, text: str, offset: int | None) -> Iterator[Told]:
        if kind == "error":
            # Told once, when virt-v2v has ended and all of its errors are known: see known_errors.diagnose.
            self.errors.append(text)
            if self.error_line is None:
                self.error_line = offset
            return
        yield from self._warning(text, offset)

    def _warning(self, text: str, offset: int | None) -> Iterator[Told]:
        self._told += 1
        if self._told <= _MOST_TOLD:
            problem = known_errors.warning(text)
            yield "warning", {"code": problem.code, "title": problem.title, "text": problem.text, "line": offset}

    def _step(self, step: str) -> Iterator[Told]:
        if copying := _COPYING.match(step):
            self.disk, self.disks = int(copying[1]), int(copying[2])
        phase = phase_of(step)
        if phase and (self.phase is None or _ORDER.index(phase) > _ORDER.index(self.phase)):
            if phase in (Phase.COPYING, Phase.FINISHING) and not self._firmware_told:
                # virt-v2v has looked by now, and says so only when the guest needs UEFI.
                yield from self._firmware("bios")
            self.phase = phase
            yield "phase", {"phase": phase.value}
        if (converting := _CONVERTING.match(step)) and converting[1] != "the guest":
            yield "fact", {"key": "os", "value": os_name(converting[1])}

    def _firmware(self, value: str) -> Iterator[Told]:
        self._firmware_told = True
        yield "fact", {"key": "firmware", "value": value}

    def _info(self, text: str) -> Iterator[Told]:
        if text == "This guest requires UEFI on the target to boot.":
            yield from self._firmware("uefi")
        elif text == "This guest has virtio drivers installed.":
            yield "fact", {"key": "virtio", "value": True}
        elif text == "This guest does not have virtio drivers installed.":
            yield "fact", {"key": "virtio", "value": False}
            yield from self._warning(text, None)
        elif text.startswith("The QEMU Guest Agent will be installed"):
            yield "fact", {"key": "guest_agent", "value": "installed at the first boot"}
