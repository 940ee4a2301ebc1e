"""The shape of events.jsonl: what an agent tells about its work, one JSON object a line.  Standard library only.

Every line has "at" (seconds since the epoch, a float) and "type":

    phase      phase (states.Phase)                          the phase before it is over
    disk       disk (from 1), disks, size, bytes_total       copying of a disk begins; bytes_total may be below size
    progress   disk, bytes_done, bytes_total, rate           rate in bytes a second over about 30 s; at most one a second
    warning    code, title, text, line                       line: byte offset in the log, or null
    error      code, title, text, whose, action, line        the rest is problems.Problem
    fact       key, value                                    os, firmware, virt_v2v_version, ...
    receipt    removed, kept                                 lists of texts

A reader takes whole lines only, skips what it does not understand and goes on: a strange line never fails a conversion.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventWriter:
    """Appends events; each line is one write, so that a reader never sees half of two."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._broken = False  #: the last line was cut off by a full disk

    def write(self, type: str, **fields: Any) -> None:
        """Raises OSError when the disk is full; the next line then still stands on its own."""
        text = json.dumps({"at": round(time.time(), 3), "type": type, **fields}, ensure_ascii=False)
        line = text.encode("utf-8", "replace") + b"\n"
        if self._broken:
            line = b"\n" + line
        self._broken = True
        self._broken = os.write(self._fd, line) < len(line)

    def close(self) -> None:
        os.close(self._fd)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (offset after the line, event) for each whole line from a byte offset on."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("type"), str):
                yield offset, event
