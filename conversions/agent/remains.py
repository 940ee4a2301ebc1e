"""What an attempt leaves: the results that are handed over, and what is taken away when it ends."""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ..jobdir import Job, JobDir
from . import processes


def results(job: Job) -> list[Path]:
    """The files that virt-v2v makes of this job: NAME-sda, NAME-sdb, ..., NAME.yaml."""
    ours = re.compile(rf"{re.escape(job.name)}(-sd[a-z]+|\.yaml)")
    folder = Path(job.output_dir)
    try:
        return sorted(path for path in folder.iterdir() if ours.fullmatch(path.name))
    except FileNotFoundError:
        return []


def artifacts(job: Job) -> list[dict[str, Any]]:
    """What is handed over: name, size in bytes and the bytes it takes on the disk."""
    found = []
    for path in results(job):
        stat = path.stat()
        found.append({"name": path.name, "size": stat.st_size, "allocated": stat.st_blocks * 512})
    return found


def remove_results(job: Job) -> list[str]:
    """Takes half-written results away; returns their names with the bytes they took."""
    removed = []
    for path in results(job):
        with contextlib.suppress(FileNotFoundError):
            taken = path.lstat().st_blocks * 512
            path.unlink()
            removed.append(f"{path.name} ({taken / 2**20:.1f} MiB written)")
    with contextlib.suppress(OSError):
        Path(job.output_dir).rmdir()  # only when nothing else is in it
    return removed


def remove_tmp(jobdir: JobDir) -> list[str]:
    """Takes the temporary folder and the secrets away; returns what is still there, with the reason."""
    left = []
    processes.unmount_below(jobdir.path)
    _remove_sockets(jobdir)
    # Twice the secrets: the conductor may just have renewed one in there.
    for folder in (jobdir.tmp, jobdir.secrets, jobdir.secrets):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(folder, onerror=_make_writable_and_retry)
    for folder in (jobdir.tmp, jobdir.secrets):
        if folder.exists():
            left.append(f"{folder} (could not be removed)")
    return left


def _remove_sockets(jobdir: JobDir) -> None:
    """libguestfs puts its sockets below /tmp whatever TMPDIR says, and leaves them there when it is killed."""
    with contextlib.suppress(OSError):
        for line in (jobdir.tmp / "sockets").read_text().splitlines():
            folder = Path(line)
            if re.fullmatch(r"libguestfs\w{6}", folder.name) and folder.lstat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)


def _make_writable_and_retry(function: Any, path: str, _: Any) -> None:
    with contextlib.suppress(OSError):
        Path(path).parent.chmod(0o700)
        Path(path).chmod(0o700)
        function(path)
