"""Stands before the real nbdcopy in virt-v2v's PATH: tells the agent how far the copying is, and can slow it down.

Run as a script of its own, so it imports nothing of ours.  virt-v2v calls "nbdcopy SRC DST [options]"; whatever else it is
called with goes to the real one unchanged, and so does everything when a measurement is not possible.

Where the numbers come from, without a byte of the data passing through here (a proxy that counted the requests cost half of
the copying speed on two cores): the real nbdcopy says how far it has got (--progress=FD, holes included, in pieces of
128 MiB handed out to its threads), and Linux says how many bytes the disk server behind DST has really written
(/proc/PID/io).  The first is the frame, the second fills it in; both only err on the low side.

Environment: V2VWEB_NBDCOPY the real program, V2VWEB_COPY_PIPE where to tell, V2VWEB_RATE_FILE (optional) a file with a
limit in bits a second, re-read by nbdkit's rate filter at each request.
"""

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OPTIONS = re.compile(
    r"--(flush|progress|allocated|target-is-zero|destination-is-zero|no-extents"
    r"|(requests|request-size|queue-size|threads|connections|sparse)=\d+)"
)
_PIECE = 128 * 2**20  #: THREAD_WORK_SIZE of nbdcopy: what a thread is handed at a time
_WINDOW = 30.0  #: seconds over which the rate is taken
_libc = ctypes.CDLL(None)


def understand(arguments: list[str]) -> tuple[str, str, list[str]] | None:
    """Source, destination and options of a call as virt-v2v makes it; None for any other."""
    places = [argument for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    if len(places) != 2 or not all(place.startswith("nbd") for place in places):
        return None
    if not all(_OPTIONS.fullmatch(option) for option in options):
        return None
    return places[0], places[1], [option for option in options if option != "--progress"]


class Meter:
    """How many bytes of a disk are done, from nbdcopy's percentage and the bytes that were written."""

    def __init__(self, size: int, threads: int) -> None:
        self.size = size
        self.done = 0
        self._in_flight = threads * _PIECE
        self._frame = 0  # bytes handed out to threads, when that last changed
        self._written_then = 0
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, percent: int, written: int) -> None:
        frame = self.size * percent // 100
        if frame != self._frame:
            self._frame, self._written_then = frame, written
        sure = max(0, self._frame - self._in_flight) + written - self._written_then
        # What was written is done for certain; holes are known by the frame only.
        self.done = min(self.size, max(self.done, written, min(sure, self._frame)))

    def rate(self, now: float) -> int:
        """Bytes a second over the last half minute."""
        self._samples.append((now, self.done))
        while len(self._samples) > 2 and self._samples[0][0] < now - _WINDOW:
            self._samples.popleft()
        then, done = self._samples[0]
        return int((self.done - done) / (now - then)) if now > then else 0


def size_of(source: str) -> int | None:
    """The size of the disk that a server offers; None when it cannot be asked."""
    try:
        answer = subprocess.run(["nbdinfo", "--size", source], capture_output=True, timeout=20, check=True)
        return int(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def server_of(place: str) -> int | None:
    """The process that listens on the unix socket of an NBD address, found without disturbing it."""
    found = re.search(r"[?&]socket=([^&]+)", place)
    if not found:
        return None
    inode = None
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and fields[7] == found[1] and int(fields[3], 16) & 0x10000:  # it accepts connections
                inode = fields[6]
    if inode is None:
        return None
    for process in os.scandir("/proc"):
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                for fd in os.scandir(f"/proc/{process.name}/fd"):
                    if str(Path(fd.path).readlink()) == f"socket:[{inode}]":
                        return int(process.name)
    return None


def written_by(pid: int | None) -> int:
    """Bytes that a process has written to files so far (sockets do not count)."""
    if pid:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/io").read_text().splitlines():
                if line.startswith("wchar:"):
                    return int(line.split()[1])
    return 0


def limited(place: str, rate_file: str, folder: str) -> tuple[str, subprocess.Popen[bytes] | None]:
    """Puts nbdkit with its rate filter before a server; the server itself when that does not come up."""
    socket = f"{folder}/limited"
    command = ["nbdkit", "--exit-with-parent", "-f", "-U", socket, "--threads", "16", "--filter=rate"]
    try:
        proxy = subprocess.Popen(
            [*command, "nbd", f"uri={place}", f"rate-file={rate_file}"], preexec_fn=_die_with_parent
        )
    except OSError:
        return place, None
    deadline = time.monotonic() + 10
    while proxy.poll() is None and time.monotonic() < deadline:
        if Path(socket).exists():
            return f"nbd+unix:///?socket={socket}", proxy
        time.sleep(0.01)
    proxy.kill()
    proxy.wait()
    return place, None


def _die_with_parent() -> None:
    _libc.prctl(1, signal.SIGTERM, 0, 0, 0)


def follow(
    copy: subprocess.Popen[bytes], percent_fd: int, meter: Meter, server: int | None, tell: Callable[..., None]
) -> None:
    """Tells once a second how far the copying is, until the real nbdcopy closes its progress descriptor."""
    percent, text, told = 0, b"", 0.0
    # The server has written before: when it was made, or an earlier disk of the same server.
    before = written_by(server)
    while True:
        ready, _, _ = select.select([percent_fd], [], [], 0.5)
        if ready:
            data = os.read(percent_fd, 4096)
            if not data:
                break
            text += data
            *lines, text = text.split(b"\n")
            for line in lines:
                if found := re.fullmatch(rb"(\d+)/100", line):
                    percent = min(100, int(found[1]))
        meter.update(percent, written_by(server) - before)
        now = time.monotonic()
        if now - told >= 1:
            told = now
            tell("progress", bytes_done=meter.done, bytes_total=meter.size, rate=meter.rate(now))
    if copy.wait() == 0:
        meter.done = meter.size
        tell("progress", bytes_done=meter.size, bytes_total=meter.size, rate=meter.rate(time.monotonic()))


def main() -> int:
    real = os.environ["V2VWEB_NBDCOPY"]
    call = understand(sys.argv[1:])
    pipe = os.environ.get("V2VWEB_COPY_PIPE")
    size = size_of(call[0]) if call and pipe else None
    if not call or not pipe or size is None:
        os.execv(real, [real, *sys.argv[1:]])
    source, destination, options = call
    # The agent holds the pipe open; a line below PIPE_BUF is written whole.  A full pipe loses a line, not the copy.
    out = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)

    def tell(type: str, **fields: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(out, json.dumps({"type": type, **fields}).encode() + b"\n")

    server = server_of(destination)
    folder = tempfile.mkdtemp(prefix="copy.")
    proxy = None
    if rate_file := os.environ.get("V2VWEB_RATE_FILE"):
        destination, proxy = limited(destination, rate_file, folder)
    tell("disk", size=size, bytes_total=size)
    percent_fd, theirs = os.pipe()
    copy = subprocess.Popen(
        [real, source, destination, *options, f"--progress={theirs}"], pass_fds=[theirs], preexec_fn=_die_with_parent
    )
    os.close(theirs)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: copy.send_signal(number))
    follow(copy, percent_fd, Meter(size, min(4, os.cpu_count() or 1)), server, tell)
    code = copy.wait()
    if proxy:
        proxy.terminate()
        proxy.wait()
    shutil.rmtree(folder, ignore_errors=True)
    if code < 0:  # as the real one ended, so that virt-v2v says the same as without us
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
