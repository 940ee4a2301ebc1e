"""Runs a program on a hostile file, shut in with bubblewrap: it sees that file and /usr, read-only, and nothing else.

Standard library only: the agent uses it.  No network, no other file, no writing but to its output, limits of memory,
processor time, output and wall time.  When it cannot be shut in it is not run at all.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..problems import Problem, RefusedError

#: Where the file stands inside.  Its real name is not shown: it may look like an option or a protocol.
FILE = "/image/disk"


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds."""

    memory: int = 1 << 30
    cpu: int = 20
    wall: int = 30
    output: int = 4 << 20
    virtual_size: int = 64 << 40  #: of a disk


class ProgramFailedError(Exception):
    """The program ended with an error; `stderr` is what it said, made of what a hostile file told it."""

    def __init__(self, code: int, stderr: str) -> None:
        super().__init__(stderr or f"exit code {code}")
        self.code = code
        self.stderr = stderr


class TookTooLongError(Exception):
    """The program used up its time or memory."""


def run(argv: list[str], file: Path, limits: Limits = Limits()) -> str:
    """Runs argv with `file` as FILE and returns what it printed.

    Raises ProgramFailedError, TookTooLongError, and RefusedError when there is no sandbox to run it in.
    """
    if missing := [name for name in ("bwrap", "prlimit", argv[0]) if shutil.which(name) is None]:
        raise _unusable(
            f"the program {missing[0]} is missing", "Install it: apt install bubblewrap util-linux qemu-utils"
        )
    command = [*_prlimit(limits), "bwrap", *walls(file), "--", *argv]
    # To files and not to pipes: RLIMIT_FSIZE then ends a program that talks without end.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        )
        try:
            code = process.wait(limits.wall)
        except subprocess.TimeoutExpired:
            raise TookTooLongError from None
        finally:
            # --die-with-parent takes everything inside along.
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read(4000).decode("utf-8", "replace").strip()
    if code == 0:
        return stdout.decode("utf-8", "replace")
    if stderr.startswith("bwrap:"):
        raise _unusable(
            f"bubblewrap says “{stderr.splitlines()[0]}”",
            "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces above 0; in a "
            "container, a security profile that lets bubblewrap work). v2vweb opens no disk image without it.",
        )
    # bwrap passes a signal on as 128 + its number.
    if code in {-number for number in _OUT_OF_LIMITS} | {128 + number for number in _OUT_OF_LIMITS}:
        raise TookTooLongError
    raise ProgramFailedError(code, stderr)


_OUT_OF_LIMITS = (signal.SIGXCPU, signal.SIGXFSZ, signal.SIGKILL)


def _unusable(why: str, action: str) -> RefusedError:
    return RefusedError(
        Problem(
            "sandbox-unusable",
            "Disk images cannot be checked safely on this server",
            f"v2vweb looks at disk images only inside a sandbox, and the sandbox does not work: {why}.",
            action,
            "administrator",
        ),
        status=409,
    )


def _prlimit(limits: Limits) -> list[str]:
    return [
        "prlimit",
        f"--as={limits.memory}",
        f"--cpu={limits.cpu}",
        f"--fsize={limits.output}",
        "--nofile=256",
        "--core=0",
        "--",
    ]


def walls(file: Path, more: Sequence[str] = ()) -> list[str]:
    """bwrap's options: what is inside and what may be done there.  `more` is for those who need more than the file."""
    args = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0 and not _root_may_read_without_privilege(file):
        # Inside a user namespace root has no power over files of users that do not exist there.  CAP_DAC_OVERRIDE opens
        # what is visible, and only this file is; CAP_DAC_READ_SEARCH would let it reach files by handle.
        args += ["--cap-drop", "ALL", "--cap-add", "CAP_DAC_OVERRIDE"]
    else:
        args += ["--unshare-user", "--cap-drop", "ALL"]
    args += [
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--setenv",
        "PATH",
        "/usr/bin:/bin",
        "--setenv",
        "LC_ALL",
        "C",
    ]
    args += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            args += ["--ro-bind", str(path), str(path)]
    args += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--dev", "/dev"]
    args += ["--ro-bind", str(file), FILE, "--chdir", "/", *more]
    # What bwrap makes these of is memory without a limit.
    return [*args, "--remount-ro", "/dev", "--remount-ro", "/"]


def _root_may_read_without_privilege(file: Path) -> bool:
    """Whether user 0, group 0, would get at a file by its permissions alone."""
    for path in (file, *file.parents):
        about = path.stat()
        wanted = 4 if path == file else 1
        shift = 6 if about.st_uid == 0 else 3 if about.st_gid == 0 else 0
        if not about.st_mode >> shift & wanted:
            return False
    return True
