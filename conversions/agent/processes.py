"""What Linux offers to keep hold of processes: subreaper, death signal, descendants, marks, mounts.  Standard library only."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

#: In the environment of an agent and of all it starts: the attempt's folder.  By it the remains of a killed agent are found.
MARK = "V2VWEB_JOB"


def become_subreaper() -> None:
    """Makes this process the parent of every orphan among its descendants, so that none can hide by double forking."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent(number: int = signal.SIGTERM) -> Callable[[], None]:
    """For Popen's preexec_fn: the child gets a signal when its parent dies, even by SIGKILL."""
    parent = os.getpid()

    def preexec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return preexec


def _parents() -> dict[int, int]:
    """pid -> parent's pid of every process but zombies."""
    parents = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The second field is the program's name in brackets and may hold anything, also brackets and blanks.
            state, parent = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    return parents


def descendants(pid: int) -> list[int]:
    """Living processes below one, children first."""
    parents = _parents()
    found: list[int] = []
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += level
    return found


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


def end_descendants(*, patience: float) -> list[str]:
    """Ends every descendant of this subreaper and reaps them.

    They have `patience` seconds to leave by themselves (a disk server that still writes), then they are told to (TERM),
    and two seconds later they are killed.  Returns what could not be ended, which is only a process stuck in the kernel.
    """
    start = time.monotonic()
    told: set[int] = set()
    while True:
        _reap()
        left = descendants(os.getpid())
        waited = time.monotonic() - start
        if not left and not _reap():
            return []
        if waited > patience + 60:
            return [f"{name_of(pid)} ({pid})" for pid in left]
        if waited > patience + 2:
            _signal(left, signal.SIGKILL)
        elif waited > patience:
            _signal([pid for pid in left if pid not in told], signal.SIGTERM)
            told |= set(left)
        time.sleep(0.02)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap() -> bool:
    """Takes the zombies; whether there is any child left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def marked(mark: str) -> list[int]:
    """Processes of ours, zombies aside, that carry a mark in the environment they were started with."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in _parents():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def end_marked(mark: str, *, limit: float = 10) -> list[str]:
    """Kills what a dead agent has left; returns the names of what was killed."""
    ended: list[str] = []
    deadline = time.monotonic() + limit
    while (pids := marked(mark)) and time.monotonic() < deadline:
        ended += [name for name in map(name_of, pids) if name not in ended]
        _signal(pids, signal.SIGKILL)
        time.sleep(0.02)
    return ended


def mount_points(mountinfo: bytes) -> list[str]:
    """Paths are bytes of other people's choice: only what the kernel escapes (blanks, tabs, newlines) is no part of them."""
    fields = [line.split(b" ") for line in mountinfo.split(b"\n") if line]
    escape = re.compile(rb"\\([0-3][0-7]{2})")
    return [os.fsdecode(escape.sub(lambda octal: bytes([int(octal[1], 8)]), field[4])) for field in fields]


def unmount_below(folder: Path, only: Path | None = None) -> list[str]:
    """Unmounts what is mounted below a folder (or one place of it), innermost first; returns the places."""
    folder = Path(os.path.realpath(folder))
    places = [
        place
        for place in mount_points(Path("/proc/self/mountinfo").read_bytes())
        if place.startswith(f"{folder}/") and (only is None or Path(place).name == only.name)
    ]
    for place in reversed(places):
        for command in (["umount", "-l", place], ["fusermount3", "-uz", place], ["fusermount", "-uz", place]):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                if subprocess.run(command, stderr=subprocess.DEVNULL, timeout=20, check=False).returncode == 0:
                    break
    return places


def socket_folders(pids: list[int]) -> set[Path]:
    """libguestfs's folders for sockets (always below /tmp for root), as named on the command lines of its appliances."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
            found |= {Path(match) for match in re.findall(r"path=(/[^\0,]*?/libguestfs\w{6})/", text)}
    return found
