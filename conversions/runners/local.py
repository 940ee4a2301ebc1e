"""Runs agents on this machine, each as a process in its own session that outlives the conductor."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..agent import processes, remains
from ..jobdir import JobDir
from .base import Alive, Dead, Ended, Look, NotStarted, Runner

if TYPE_CHECKING:
    from ..models import Conversion

#: Of our own environment only this goes on to an agent: the rest may hold passwords (DATABASE_URL, the administrator's).
_PASSED_ON = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "TZ",
        "V2VWEB_DATA_DIR",
        "XDG_RUNTIME_DIR",
        "XDG_CACHE_HOME",
        "SSH_AUTH_SOCK",
        "KRB5CCNAME",
    }
    | {"LD_LIBRARY_PATH", "VIRTIO_WIN", "VIRT_TOOLS_DATA_DIR"}
    | {"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
)
_PASSED_ON_BEGINNINGS = ("LIBGUESTFS_", "SUPERMIN_")
_PROJECT = Path(__file__).resolve().parents[2]


class LocalRunner(Runner):
    def __init__(self, program: list[str] | None = None) -> None:
        self._program = program or [sys.executable, "-m", "conversions.agent"]
        self._children: dict[Path, subprocess.Popen[bytes]] = {}  #: agents that this conductor has started itself

    def start(self, conversion: "Conversion") -> None:
        folder = conversion.jobdir.path
        env = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_BEGINNINGS)
        }
        env |= {"PYTHONPATH": str(_PROJECT), "PYTHONDONTWRITEBYTECODE": "1", processes.MARK: str(folder)}
        with (folder / "agent.out").open("ab") as out:
            self._children[folder] = subprocess.Popen(
                [*self._program, str(folder)],
                cwd="/",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a Ctrl-C or the end of a terminal is the conductor's, not the agent's
            )

    def look(self, conversion: "Conversion") -> Look:
        jobdir = conversion.jobdir
        # Life first, the result second: an agent that ends between the two has written its result before.
        alive = jobdir.is_agent_alive()
        result = jobdir.read_result()
        if result:
            return Alive() if alive else Ended(result)
        if jobdir.agent.exists():
            return Alive() if alive or jobdir.is_agent_alive() else self._dead(jobdir)
        child = self._children.get(jobdir.path)
        if child and child.poll() is None:
            return NotStarted(trying=True)
        return NotStarted(words=_last_words(jobdir.path) if child else "")

    def _dead(self, jobdir: JobDir) -> Look:
        result = jobdir.read_result()
        return Ended(result) if result else Dead()

    def stop(self, conversion: "Conversion") -> None:
        jobdir = conversion.jobdir
        jobdir.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        jobdir.cancel.touch(mode=0o600)

    def clear(self, conversion: "Conversion") -> tuple[list[str], list[str]]:
        jobdir = conversion.jobdir
        ended = processes.end_marked(str(jobdir.path))
        kept = remains.remove_tmp(jobdir)
        removed = [f"what was still running ({', '.join(ended)})"] if ended else []
        removed.append("temporary files")
        with contextlib.suppress(OSError, ValueError, TypeError):
            removed = remains.remove_results(jobdir.read_job()) + removed
        return removed, [*kept, "the source, unchanged"]

    def reap(self) -> None:
        # One that ended before it began is kept: look() quotes what it said.
        self._children = {
            folder: child
            for folder, child in self._children.items()
            if child.poll() is None or not JobDir(folder).agent.exists()
        }


def _last_words(folder: Path) -> str:
    try:
        return (folder / "agent.out").read_text(errors="replace")[-2000:].strip()
    except OSError:
        return ""
