"""python -m conversions.boot BOOTDIR: one trial, made by one process, once."""

import os
import signal
import sys
from pathlib import Path

from ..agent import processes
from .bootdir import BootDir
from .trial import run


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m conversions.boot BOOTDIR", file=sys.stderr)
        return 2
    os.umask(0o077)
    folder = BootDir(Path(sys.argv[1]).absolute())
    if folder.take() is None or folder.read_outcome() is not None:
        return 0
    processes.become_subreaper()
    # Asked to end from outside, it ends as if it had been cancelled: with a verdict and without leaving anything.
    signal.signal(signal.SIGTERM, lambda *_: folder.cancel.touch())
    try:
        run(folder)
    finally:
        processes.end_descendants(patience=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
