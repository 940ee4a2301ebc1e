"""python -m conversions.agent JOBDIR: one attempt at a conversion, made by one agent, once."""

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

from ..jobdir import JobDir
from . import processes
from .attempt import Attempt


def take(jobdir: JobDir) -> bool:
    """Takes the lock (the sign of life) and then the fence (start once); False for an agent that came too late.

    The lock is tried again for a while: somebody who only looks whether an agent lives holds it for a moment.
    """
    fd = os.open(jobdir.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 10
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if jobdir.agent.exists() or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    try:
        fence = os.open(jobdir.agent, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(fence, "w") as file:
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}, file)
        file.flush()
        os.fsync(fence)
    return True  # the lock stays with this process until it ends, however it ends


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m conversions.agent JOBDIR", file=sys.stderr)
        return 2
    os.umask(0o077)
    jobdir = JobDir(Path(sys.argv[1]).absolute())
    if not take(jobdir):
        return 0
    processes.become_subreaper()
    Attempt(jobdir).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
