"""QEMU in the sandbox: the disks read-only, the trial's folder to write in, no network, limits, and nothing else."""

import os
import shutil
import subprocess
from pathlib import Path

from ..disks import sandbox
from ..problems import Problem, RefusedError
from .bootdir import BootDir, Trial
from .qemu import IMAGES, WORK

_PROGRAMS = ("bwrap", "prlimit", "nice", "qemu-system-x86_64")
_QEMU_ITSELF = 3 << 30  #: address space that QEMU takes beside the guest's memory


def start(argv: list[str], trial: Trial, folder: BootDir) -> "subprocess.Popen[bytes]":
    """Starts QEMU with its monitor on standard input and output.  Raises RefusedError when it cannot be shut in."""
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        raise RefusedError(
            Problem(
                "boot-programs-missing",
                "This server cannot try to start guests",
                f"The program {missing[0]} is missing.",
                "Install it: apt install qemu-system-x86 bubblewrap util-linux",
                "administrator",
            ),
            status=409,
        )
    with folder.qemu_log.open("wb") as log:
        return subprocess.Popen(
            [*_limits(trial), "bwrap", *_walls(trial, folder), "--", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )


def _limits(trial: Trial) -> list[str]:
    memory = trial.memory + _QEMU_ITSELF
    return [
        "nice",
        "-n",
        "10",
        "prlimit",
        f"--as={memory}",
        f"--fsize={trial.limits.written}",
        "--nofile=1024",
        "--core=0",
        "--",
    ]


def _walls(trial: Trial, folder: BootDir) -> list[str]:
    more = ["--tmpfs", "/tmp", "--bind", str(folder.path), WORK, "--setenv", "TMPDIR", f"{WORK}/tmp"]
    for number, disk in enumerate(trial.disks):
        more += ["--ro-bind", os.path.realpath(disk.path), f"{IMAGES}/disk{number}"]
    if trial.accelerator == "kvm":
        more += ["--dev-bind", "/dev/kvm", "/dev/kvm"]
    return sandbox.walls(Path(os.path.realpath(trial.disks[0].path)), more)


def why_not(folder: BootDir, code: int | None) -> str:
    """The first complaint of QEMU or of the sandbox."""
    lines = folder.qemu_log.read_text(errors="replace")[:4000].splitlines()
    return next(
        (line for line in lines if line.strip() and "warning:" not in line), f"it gave no reason (exit code {code})."
    )
