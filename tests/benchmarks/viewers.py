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
        self.process = subprocess.Popen(
            [sys.executable, "-m", "v2vweb.web", "--bind", "127.0.0.1", "--port", str(self.port)]
            + ["--websocket_timeout", "-1", "--verbosity", "0", "v2vweb.asgi:application"],
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


async def view(server: Server, ack: str, seen: list[int], late: list[float], opened: asyncio.Semaphore) -> None:
    """One viewer: checks that offsets join and lines are whole and in order."""
    from websockets.asyncio.client import connect

    offset, expected = 0, 0
    address = f"ws://127.0.0.1:{server.port}/ws/conversions/{server.pk}/log?offset=0&attempt=1"
    headers = {"Cookie": f"sessionid={server.session}", "Origin": f"http://127.0.0.1:{server.port}"}
    acked = 0
    async with connect(address, additional_headers=headers, compression=None, ping_interval=None, max_size=None) as ws:
        opened.release()
        async for text in ws:
            message = json.loads(text)
            now = time.time()
            if message["t"] != "log":
                continue
            assert message["from"] == offset, (message["from"], offset)
            offset = message["to"]
            for line in message["data"].splitlines():
                number, at, _ = line.split(" ", 2)
                assert int(number) == expected, (number, expected)
                expected += 1
                late.append(now - float(at))
            seen[0] += len(message["data"].splitlines())
            if ack == "each" or offset - acked > 65536:
                acked = offset
                await ws.send(json.dumps({"ack": offset}))


async def stopped_viewer(server: Server) -> Any:
    """Opens a socket and never reads from it again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(
        f"GET /ws/conversions/{server.pk}/log?offset=0 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Origin: http://127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Cookie: sessionid={server.session}\r\n\r\n".encode()
    )
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
        seen, late = [0], []
        opened = asyncio.Semaphore(0)
        began = time.monotonic()
        tasks = []
        for _ in range(args.viewers):
            tasks.append(asyncio.create_task(view(server, args.ack, seen, late, opened)))
            if len(tasks) % 50 == 0:
                await asyncio.sleep(0.02)
        for _ in range(args.viewers):
            await opened.acquire()
        print(f"{args.viewers} sockets open after {time.monotonic() - began:.1f} s")
        await asyncio.sleep(1.5)
        cpu, began = server.cpu(), time.monotonic()
        lines = await write(server.log, args.rate, args.seconds)
        await asyncio.sleep(1)
        used, passed = server.cpu() - cpu, time.monotonic() - began
        failed = [task for task in tasks if task.done()]
        late.sort()
        print(f"lines: {lines} written, {seen[0] / args.viewers:.1f} seen by each viewer, {len(failed)} viewers failed")
        for task in failed[:1]:
            print(task.exception())
        print(f"late: p50 {late[len(late) // 2]:.3f} s, p99 {late[int(len(late) * 0.99)]:.3f} s, most {late[-1]:.3f} s")
        print(f"server: {used / passed:.2f} cores, {server.memory():.0f} MiB")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
