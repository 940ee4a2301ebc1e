"""Runs virt-v2v: starts it with what it needs, reads everything it says, and ends it when asked."""

import contextlib
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..jobdir import Job, JobDir
from ..progress import Reader
from . import processes, shims

_LONGEST_SOCKET_FOLDER = 70  #: a unix socket's path may have 107 bytes, and virt-v2v adds some of its own
_PATIENCE = 10.0  #: seconds virt-v2v has to leave after it was told to stop


class Log:
    """The attempt's log: the truth for everyone.  A full disk loses lines, never the attempt."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.offset = os.fstat(self._fd).st_size
        self._whole = True  #: the last byte was a newline

    def write(self, data: bytes) -> None:
        data = data.replace(b"\0", b"")
        while data:
            try:
                written = os.write(self._fd, data)
            except OSError:
                return
            self.offset += written
            self._whole = data[written - 1] == 0x0A
            data = data[written:]

    def say(self, text: str) -> None:
        start = b"" if self._whole else b"\n"
        self.write(start + b"".join(f"v2vweb: {line}\n".encode() for line in text.splitlines()))


def environment(job: Job, tmp: Path, program: str) -> dict[str, str]:
    """virt-v2v's environment: ours and the job's, no translations, one temporary folder, our nbdcopy first."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    env |= job.env
    short = str(tmp)
    if len(short) > _LONGEST_SOCKET_FOLDER:
        # A way in that is short and leaves nothing behind: this process stands in the folder.
        os.chdir(tmp)
        short = f"/proc/{os.getpid()}/cwd"
    path = env.get("PATH", os.defpath)
    bin = tmp / "bin"
    env |= {"LC_ALL": "C", "TMPDIR": short, "VIRT_V2V_TMPDIR": short, "PATH": f"{bin}:{path}"}
    env |= shims.write(bin, tmp.parent / "secrets", path)
    real = shutil.which("nbdcopy", path=path)
    if real:
        ours = bin / "nbdcopy"
        script = Path(__file__).with_name("nbdcopy.py")
        ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I {shlex.quote(str(script))} "$@"\n')
        ours.chmod(0o700)
        os.mkfifo(tmp / "copying", 0o600)
        env |= {"V2VWEB_NBDCOPY": real, "V2VWEB_COPY_PIPE": str(tmp / "copying")}
    return env


class Lines:
    """Cuts a stream into lines; remembers where each began."""

    def __init__(self) -> None:
        self._rest = b""
        self._start: int | None = None

    def feed(self, data: bytes, offset: int) -> Iterator[tuple[str, int]]:
        """`offset` is where `data` begins.  A carriage return ends a line as well: progress bars."""
        start = offset if self._start is None else self._start
        data = self._rest + data
        position = 0
        for end in re.finditer(rb"[\r\n]", data):
            yield data[position : end.start()].decode("utf-8", "replace"), start + position
            position = end.end()
        self._rest, self._start = data[position:], start + position
        if len(self._rest) > 2**20:  # a hostile guest's line without an end
            yield self._rest.decode("utf-8", "replace"), self._start
            self._start += len(self._rest)
            self._rest = b""


class Run:
    """One run of virt-v2v, from its start to its exit code."""

    def __init__(
        self,
        jobdir: JobDir,
        job: Job,
        log: Log,
        emit: Callable[..., None],
        *,
        machine: bool,
        stop: Callable[[], bool],
    ) -> None:
        self.jobdir, self.job, self.log, self.emit, self.stop = jobdir, job, log, emit, stop
        self.reader = Reader(machine=machine)
        self._socket_folders: set[Path] = set()
        self._disk_of_pipe = 0
        self._streams: dict[str, Lines] = {}
        self._selector = selectors.DefaultSelector()

    def __call__(self, program: str, env: dict[str, str]) -> int:
        """Runs to the end; returns the exit code, a negative one for a signal."""
        output, output_end = os.pipe()
        machine, machine_end = os.pipe()
        argv = [program, *self.job.argv[1:]]
        if self.reader.machine:
            argv.insert(1, f"--machine-readable=fd:{machine_end}")
        process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output_end,
            stderr=output_end,
            pass_fds=[machine_end],
            start_new_session=True,
            preexec_fn=processes.die_with_parent(),
        )
        os.close(output_end)
        os.close(machine_end)
        self._watch(output, "output")
        self._watch(machine, "machine")
        if pipe := env.get("V2VWEB_COPY_PIPE"):
            # Opened for both: a pipe without a writer would be at its end all the time.
            self._watch(os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), "copying")
        try:
            return self._follow(process)
        finally:
            for key in list(self._selector.get_map().values()):
                os.close(key.fd)
            self._selector.close()

    def _watch(self, fd: int, stream: str) -> None:
        os.set_blocking(fd, False)
        self._streams[stream] = Lines()
        self._selector.register(fd, selectors.EVENT_READ, stream)

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        told, looked = 0.0, 0.0
        while process.poll() is None:
            quiet = not self._read(0.2)
            if quiet:
                self._tell(self.reader.flush())
            now = time.monotonic()
            if now - looked > 3:
                looked = now
                self._remember_sockets()
            if not self.stop():
                continue
            if not told:
                told = now
                self.log.say("stopping virt-v2v")
                process.send_signal(signal.SIGTERM)
            elif now - told > _PATIENCE:
                process.kill()
        while self._read(0):
            pass
        self._tell(self.reader.finish())
        return process.returncode

    def _read(self, timeout: float) -> bool:
        """Reads what is there; whether that was anything."""
        ready = self._selector.select(timeout)
        # The output first: what virt-v2v says stands there before it is told again, and before a copy begins.
        for key, _ in sorted(ready, key=lambda item: ("output", "machine", "copying").index(item[0].data)):
            try:
                data = os.read(key.fd, 65536)
            except BlockingIOError:
                continue
            if not data:
                self._selector.unregister(key.fd)
                os.close(key.fd)
                continue
            self._take(key.data, data.replace(b"\0", b""))
        if not self._selector.get_map() and timeout:
            time.sleep(timeout)
        return bool(ready)

    def _take(self, stream: str, data: bytes) -> None:
        lines = self._streams[stream].feed(data, self.log.offset)
        if stream == "output":
            self.log.write(data)
            for text, offset in lines:
                self._tell(self.reader.line(text, offset))
            return
        for text, _ in lines:
            with contextlib.suppress(ValueError):
                said = json.loads(text, strict=False)
                if isinstance(said, dict):
                    (self._said if stream == "machine" else self._copied)(said)

    def _said(self, said: dict[str, Any]) -> None:
        self._tell(self.reader.message(said.get("type"), said.get("message")))

    def _copied(self, said: dict[str, Any]) -> None:
        """From our nbdcopy, which knows the bytes but not which disk they are of."""
        if said.get("type") == "disk":
            self._disk_of_pipe = max(self._disk_of_pipe + 1, self.reader.disk)
            disks = max(self._disk_of_pipe, self.reader.disks)
            self.emit("disk", disk=self._disk_of_pipe, disks=disks, size=said["size"], bytes_total=said["bytes_total"])
        elif said.get("type") == "progress" and self._disk_of_pipe:
            self.emit(
                "progress",
                disk=self._disk_of_pipe,
                bytes_done=said["bytes_done"],
                bytes_total=said["bytes_total"],
                rate=said["rate"],
            )

    def _tell(self, told: Iterator[tuple[str, dict[str, Any]]]) -> None:
        for type, fields in told:
            self.emit(type, **fields)

    def _remember_sockets(self) -> None:
        """Notes libguestfs's folders on disk, for remains.remove_tmp here or, if this agent is killed, elsewhere."""
        new = processes.socket_folders(processes.descendants(os.getpid())) - self._socket_folders
        if new:
            self._socket_folders |= new
            with contextlib.suppress(OSError), (self.jobdir.tmp / "sockets").open("a") as file:
                file.writelines(f"{folder}\n" for folder in new)
