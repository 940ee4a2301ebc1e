"""Many viewers of one log: is a line lost, how late is it, what does it cost the server.

    python -m tests.benchmarks.viewers [--viewers 1000] [--seconds 20] [--rate 50] [--ack lazy|each] [--stopped 20]

The web server is the real one; the writer stands for virt-v2v; the viewers are sockets of this process.  A stopped viewer
reads nothing, while the log grows by 64 MiB at the end.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
SET_UP = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.utils import timezone
from conversions.models import Conversion
from conversions.plan import Plan, Source
user = User.objects.create_superuser("admin", password="x")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
plan = Plan(name="web01", source=Source(kind="disk", settings={}))
row = Conversion.objects.create(name="web01", owner=user, plan_json=plan.model_dump(mode="json"), state="running",
                                phase="copying", started=timezone.now())
row.jobdir.path.mkdir(parents=True)
row.jobdir.log.touch()
print(session.session_key, row.pk, row.jobdir.log)
"""


class Server:
    """A web server of its own with one running conversion."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="v2v-bench-")
        self.environment = os.environ | {
            "V2VWEB_DATA_DIR": f"{self.folder.name}/data",
            "DJANGO_SETTINGS_MODULE": "v2vweb.settings",
        }
        self._manage("migrate", "--verbosity", "0")
        out = self._manage("shell", "--no-imports", "-c", SET_UP)
        self.session, self.pk, log = out.split()
        self.log = Path(log)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        web = [sys.executable, "-m", "v2vweb.web", "--bind", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*web, "--websocket_timeout", "-1", "--verbosity", "0", "v2vweb.asgi:application"],
            cwd=PROJECT,
            env=self.environment,
        )
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/login/", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)

    def _manage(self, *args: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=PROJECT,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def cpu(self) -> float:
        """Seconds of processor that the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """MiB that it holds."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.folder.cleanup()


@cache
def lines_of(text: str) -> tuple[int, int, tuple[tuple[int, float], ...]] | None:
    """(from, to, the number and time of each line) of a frame; None for another message.  All viewers get the same."""
    message = json.loads(text)
    if message["t"] != "log":
        return None
    lines = [line.split(" ", 2) for line in message["data"].splitlines()]
    return message["from"], message["to"], tuple((int(number), float(at)) for number, at, _ in lines)


class Viewer(asyncio.Protocol):
    """One viewer, as cheap as can be: checks that offsets join and that lines are whole and in order."""

    def __init__(self, request: bytes, ack: str, late: list[float]) -> None:
        self.request, self.ack, self.late = request, ack, late
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.offset = self.acked = self.lines = 0
        self.fault = ""
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def connection_lost(self, error: Exception | None) -> None:
        self.fault = self.fault or f"closed: {error}"
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self.buffer[:200]))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.opened.done():
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head[:20]:
                self.transport.close()
                return
            self.buffer = rest
            self.opened.set_result(None)
        while len(self.buffer) >= 2:
            length, start = self.buffer[1] & 127, 2
            if length == 126:
                length, start = int.from_bytes(self.buffer[2:4]), 4
            elif length == 127:
                length, start = int.from_bytes(self.buffer[2:10]), 10
            if len(self.buffer) < start + length or len(self.buffer) < start:
                return
            opcode, payload = self.buffer[0] & 15, self.buffer[start : start + length]
            self.buffer = self.buffer[start + length :]
            if opcode == 9:
                self.send(10, payload)
            elif opcode == 1 and (piece := lines_of(payload.decode())):
                self.heard(*piece)

    def heard(self, begin: int, end: int, lines: tuple[tuple[int, float], ...]) -> None:
        now = time.time()
        if begin != self.offset or [number for number, _ in lines] != list(range(self.lines, self.lines + len(lines))):
            self.fault = self.fault or f"at byte {self.offset}, line {self.lines}: got {begin} to {end}"
        self.offset = end
        self.lines += len(lines)
        self.late += [now - at for _, at in lines]
        if self.ack == "each" or end - self.acked > 65536:
            self.acked = end
            self.send(1, json.dumps({"ack": end}).encode())

    def send(self, opcode: int, payload: bytes) -> None:
        self.transport.write(bytes([128 | opcode, 128 | len(payload), 0, 0, 0, 0]) + payload)


def request(server: Server) -> bytes:
    """What a browser asks for a socket with."""
    return (
        f"GET /ws/conversions/{server.pk}/log?offset=0&attempt=1 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Origin: http://127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Cookie: sessionid={server.session}\r\n\r\n"
    ).encode()


async def open_viewer(server: Server, ack: str, late: list[float], doors: asyncio.Semaphore) -> Viewer:
    async with doors:  # so many at a time, as browsers that come back after a random pause
        loop = asyncio.get_running_loop()
        _, viewer = await loop.create_connection(lambda: Viewer(request(server), ack, late), "127.0.0.1", server.port)
        await viewer.opened
        return viewer


async def stopped_viewer(server: Server) -> Any:
    """Opens a socket and never reads from it again."""
    _reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(request(server))
    return writer


async def write(log: Path, rate: int, seconds: float) -> int:
    """What stands for virt-v2v: `rate` lines a second, one write each.  Returns how many."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)
    start, number = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        while number < passed * rate:
            os.write(fd, f"{number} {time.time():.4f} {'x' * 100}\n".encode())
            number += 1
        await asyncio.sleep(0.005)
    os.close(fd)
    return number


async def run(args: argparse.Namespace) -> None:
    server = Server()
    try:
        late: list[float] = []
        doors = asyncio.Semaphore(40)
        began = time.monotonic()
        viewers = await asyncio.gather(*(open_viewer(server, args.ack, late, doors) for _ in range(args.viewers)))
        print(f"{args.viewers} sockets open after {time.monotonic() - began:.1f} s")
        await asyncio.sleep(1.5)
        cpu, began = server.cpu(), time.monotonic()
        written = await write(server.log, args.rate, args.seconds)
        used, passed = server.cpu() - cpu, time.monotonic() - began
        await asyncio.sleep(1)
        faults = [viewer.fault for viewer in viewers if viewer.fault]
        late.sort()
        print(
            f"lines: {written} written, {min(v.lines for v in viewers)} to {max(v.lines for v in viewers)} seen by each"
        )
        print(f"viewers with a gap, a doubled line or a cut connection: {len(faults)} {faults[:1]}")
        print(f"late: p50 {late[len(late) // 2]:.3f} s, p99 {late[int(len(late) * 0.99)]:.3f} s, most {late[-1]:.3f} s")
        print(f"server: {used / passed:.2f} cores, {server.memory():.0f} MiB")
        for viewer in viewers:
            viewer.transport.abort()
        await asyncio.sleep(2)
        if args.stopped:
            before = server.memory()
            writers = [await stopped_viewer(server) for _ in range(args.stopped)]
            await asyncio.sleep(1)
            with server.log.open("ab") as log:
                for _ in range(64):
                    log.write((b"y" * 127 + b"\n") * 8192)
            await asyncio.sleep(10)
            print(
                f"{args.stopped} viewers that do not read, log grown by 64 MiB: {before:.0f} -> {server.memory():.0f} MiB"
            )
            for writer in writers:
                writer.transport.abort()
    finally:
        server.close()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="viewers")
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--ack", choices=("lazy", "each"), default="lazy")
    parser.add_argument("--stopped", type=int, default=20)
    asyncio.run(run(parser.parse_args(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
