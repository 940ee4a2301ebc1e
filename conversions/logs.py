"""Step 5, events: the log of an attempt, read by byte offset.  A viewer is an offset in the file, nothing else.

Offsets are bytes and always true: whatever is sent, `end` is where the next read begins.  What is shown is less than what
is in the file: bytes that are no UTF-8 are replaced, and of a line that a progress bar wrote again and again (with
carriage returns) only the last state is kept.
"""

import asyncio
import contextlib
import json
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FRAME = 256 * 1024  #: most bytes of the file in one frame
TICK = 0.2  #: seconds between two looks at a file that somebody watches
SETTLED = 1.0  #: seconds after which a last line without its newline is shown as it is
KEPT = 8  #: frames kept for those who come to the same offset a moment later


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a log, as it goes to every viewer who is at `start`."""

    start: int
    end: int
    data: str

    def message(self, attempt: int) -> str:
        return json.dumps({"t": "log", "attempt": attempt, "from": self.start, "to": self.end, "data": self.data})


def collapse(line: str, *, continued: bool, ended: bool) -> str:
    """What a terminal would be left with of a line in which a progress bar went back with carriage returns.

    A carriage return at the front says: replaces what you have of this line so far (only when it is continued).  One at the
    end of an unfinished line says: what comes next replaces this.
    """
    body = line.rstrip("\r")
    kept = body.rsplit("\r", 1)[-1]
    front = "\r" if continued and "\r" in body else ""
    return front + kept + ("" if ended or body == line else "\r")


def shown(data: bytes, *, continued: bool) -> str:
    """The text of a piece of a log; `continued`: it starts in the middle of a line."""
    text = data.decode("utf-8", "replace").replace("\0", "")
    if "\r" not in text:
        return text
    lines = text.split("\n")
    last = len(lines) - 1
    return "\n".join(
        collapse(line, continued=continued and n == 0, ended=n != last) if "\r" in line else line
        for n, line in enumerate(lines)
    )


def whole_characters(data: bytes) -> int:
    """How many bytes of `data` are there without a UTF-8 character that its end cuts in two."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue  # the middle of a character
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return len(data) - back if length > back else len(data)
    return len(data)


def read_frame(path: Path, offset: int, until: int, most: int = FRAME) -> Frame:
    """The log from `offset`: whole lines, not beyond `until` (a place that end_of_lines() gave) nor more than `most` bytes.

    A line longer than `most` comes in pieces.  An empty frame: nothing there.
    """
    size = min(until - offset, most)
    if size <= 0:
        return Frame(offset, offset, "")
    try:
        with path.open("rb", buffering=0) as file:
            # One byte before: it tells whether this begins a line.
            file.seek(max(0, offset - 1))
            data = file.read(size + (1 if offset else 0))
    except FileNotFoundError:
        return Frame(offset, offset, "")
    continued = bool(offset) and data[:1] != b"\n"
    if offset:
        data = data[1:]
    if offset + len(data) < until:
        data = data[: data.rfind(b"\n") + 1 or whole_characters(data)]
    return Frame(offset, offset + len(data), shown(data, continued=continued))


def end_of_lines(path: Path, start: int, size: int) -> int:
    """Where the last whole line ends, looking from `size` back to `start` (which is one such place)."""
    position = size
    try:
        with path.open("rb", buffering=0) as file:
            while position > start:
                begin = max(start, position - FRAME)
                file.seek(begin)
                newline = file.read(position - begin).rfind(b"\n")
                if newline >= 0:
                    return begin + newline + 1
                position = begin
    except FileNotFoundError:
        pass
    return start


def end_of_characters(path: Path, start: int, size: int) -> int:
    """As end_of_lines, for a last line without newline: not in the middle of a character."""
    begin = max(start, size - 4)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(begin)
            return begin + whole_characters(file.read(size - begin))
    except FileNotFoundError:
        return start


def shown_until(path: Path, *, final: bool, now: float | None = None) -> tuple[int, int, float]:
    """(where what may be shown ends, size, time of the last write): for a single look without a Tail."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0, 0.0
    still = (time.time() if now is None else now) - stat.st_mtime >= SETTLED
    until = stat.st_size if final or still else end_of_lines(path, 0, stat.st_size)
    return until, stat.st_size, stat.st_mtime


def line_numbers(path: Path, offsets: Iterable[int]) -> dict[int, int]:
    """The number, from 1, of the line at each byte offset.  One read of the file up to the last of them."""
    numbers: dict[int, int] = {}
    count, position = 1, 0
    try:
        with path.open("rb", buffering=0) as file:
            for offset in sorted(set(offsets)):
                while position < offset and (data := file.read(min(offset - position, 4 * FRAME))):
                    count += data.count(b"\n")
                    position += len(data)
                numbers[offset] = count
    except FileNotFoundError:
        return {}
    return numbers


def last_lines(path: Path, count: int, most: int = 64 * 1024) -> tuple[int, list[str]]:
    """(number of the first of them, the last lines) for a page that is drawn by the server."""
    try:
        size = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            begin = max(0, size - most)
            file.seek(begin)
            data = file.read(size - begin)
    except FileNotFoundError:
        return 1, []
    if begin:  # the first line is most likely not whole
        cut = data.find(b"\n") + 1
        data, begin = data[cut:], begin + cut
    lines = shown(data, continued=False).splitlines() if data else []
    first = line_numbers(path, [begin])[begin] + max(0, len(lines) - count)
    return first, lines[-count:]


def chunks(path: Path, start: int, end: int, size: int = FRAME) -> Iterator[bytes]:
    """The bytes [start, end) of a file, piece by piece."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < end and (data := file.read(min(size, end - start))):
            start += len(data)
            yield data


class Tail:
    """One log as all its viewers in this process see it: one stat and one read for all of them."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.path = path
        self.attempt = attempt
        self.end = 0  #: what may be shown ends here
        self.final = False  #: nothing will be written any more: set by whoever knows
        self.complete = False  #: final, and seen to its last byte
        self._frames: OrderedDict[tuple[int, int], asyncio.Task[tuple[int, str]]] = OrderedDict()

    async def look(self) -> None:
        """Sees how far the log has come."""
        if not self.complete:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._look)

    def _look(self) -> None:
        final = self.final  # before the stat: what was written until now is in the file
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self.complete = final
            return
        end = self.end
        if stat.st_size < end:  # somebody cut the file off: viewers beyond its end start again
            end = 0
            self._frames.clear()
        if stat.st_size > end:
            end = end_of_lines(self.path, end, stat.st_size)
            if final:
                end = stat.st_size
            elif stat.st_size > end and time.time() - stat.st_mtime >= SETTLED:
                end = end_of_characters(self.path, end, stat.st_size)
        self.end = end
        self.complete = final

    async def message(self, offset: int) -> tuple[int, str]:
        """(where it ends, the frame from an offset as text), read and encoded once for all who are at the same place."""
        key = (offset, min(self.end, offset + FRAME))
        task = self._frames.get(key)
        if task is None:
            task = self._frames[key] = asyncio.create_task(asyncio.to_thread(self._read, offset, self.end))
            while len(self._frames) > KEPT:
                self._frames.popitem(last=False)
        if task.done():  # for all but the first
            return task.result()
        return await asyncio.shield(task)  # a viewer who leaves must not cancel the read of the others

    def _read(self, offset: int, until: int) -> tuple[int, str]:
        frame = read_frame(self.path, offset, until)
        return frame.end, frame.message(self.attempt)
