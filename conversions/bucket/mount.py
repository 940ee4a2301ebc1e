"""Shows an object of a bucket as a regular file: nbdfuse over nbdkit's curl plugin.  Standard library only: the agent uses it.

Nothing is downloaded first; what is read comes by ranged requests.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ..agent import processes
from .relay import COOKIE

SECONDS = 20  #: until a mounted file must be there
FUSE = Path("/dev/fuse")
#: Programs read 128 KiB and less at a time, one after the other, and each request waits for the network: so 1 MiB is asked
#: for and kept, up to 16 MiB.  A server that is busy or restarts is asked again, with pauses of 2, 4, 8, ... seconds.
_FILTERS = ("cache", "retry")
_SETTINGS = ["cache-min-block-size=1M", "cache-max-size=16M", "cache-on-read=true", "retries=6", "retry-delay=2"]


class CannotMountError(Exception):
    """The text says why."""


def missing() -> str:
    """Why objects cannot be mounted on this machine, in words for an administrator; "" when they can."""
    for program in ("nbdfuse", "nbdkit", "fusermount3"):
        if shutil.which(program) is None:
            return f"the program {program} is missing (apt install libnbd-bin nbdkit fuse3)"
    try:
        os.close(os.open(FUSE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{FUSE} cannot be opened ({error.strerror})"
    return _without_curl(shutil.which("nbdkit") or "")


@lru_cache(maxsize=4)
def _without_curl(nbdkit: str) -> str:
    command = [nbdkit, *(f"--filter={name}" for name in _FILTERS), "curl", "--dump-plugin"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nbdkit does not answer ({error})"
    return f"nbdkit lacks its plugin curl or its filters {' and '.join(_FILTERS)}" if done.returncode else ""


@contextlib.contextmanager
def mounted(file: Path, size: int, address: Path, work: Path) -> Iterator[None]:
    """Within, `file` is the object of `size` bytes whose address stands in the file `address`.

    `work` is a private folder for small files.  Raises CannotMountError.
    """
    if why := missing():
        raise CannotMountError(why)
    cookie, jar, said = (work / f"{file.name}.{ending}" for ending in ("cookie", "jar", "said"))
    _write(cookie, secrets.token_urlsafe(32))
    _write(jar, f"127.0.0.1\tFALSE\t/\tFALSE\t0\t{COOKIE}\t{cookie.read_text()}\n")
    file.touch(mode=0o600)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_relay(address, cookie, size))
        command = ["nbdfuse", "-r", str(file), "--command", "nbdkit", "-s", "-r", "--exit-with-parent"]
        command += [*(f"--filter={name}" for name in _FILTERS), "curl", f"url=http://127.0.0.1:{port}/"]
        command += [f"cookiefile={jar}", *_SETTINGS]
        environment = {**os.environ, **_past_proxies(os.environ), "TMPDIR": str(work)}
        with said.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=processes.die_with_parent(),
            )
        stack.callback(_unmount, file, process)
        _wait(file, size, process, said)
        yield


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


def _past_proxies(environ: "os._Environ[str]") -> dict[str, str]:
    """The relay is on this machine, whatever proxy leads to the bucket."""
    past = ",".join(filter(None, [environ.get("no_proxy") or environ.get("NO_PROXY", ""), "127.0.0.1"]))
    return {"no_proxy": past, "NO_PROXY": past}


@contextlib.contextmanager
def _relay(address: Path, cookie: Path, size: int) -> Iterator[int]:
    script = Path(__file__).with_name("relay.py")
    with subprocess.Popen(
        [sys.executable, "-I", str(script), str(address), str(cookie), str(size)],
        stdin=subprocess.PIPE,  # closed when this process ends, however it ends
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line.strip().isdigit():
                raise CannotMountError("the relay to the bucket did not start")
            yield int(line)
        finally:
            process.kill()


def _wait(file: Path, size: int, process: "subprocess.Popen[bytes]", said: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(OSError):
            if os.path.ismount(file) and file.stat().st_size == size:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            lines = said.read_text(errors="replace").strip().splitlines()
            raise CannotMountError(lines[-1][:300] if lines else "nbdfuse did not answer")
        time.sleep(0.02)


def _unmount(file: Path, process: "subprocess.Popen[bytes]") -> None:
    """Always: lazily when somebody still reads, and nbdfuse is ended in any case."""
    if process.poll() is None:
        process.terminate()  # it unmounts by itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    processes.unmount_below(file.parent, only=file)
    if process.poll() is None:
        process.kill()
        process.wait()
