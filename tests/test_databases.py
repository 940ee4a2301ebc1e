"""PostgreSQL instead of SQLite, Redis as the bell: one variable each.  Both are real ones, thrown away afterwards."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.running import PROJECT

pytestmark = pytest.mark.real


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL that keeps nothing."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("Debian's package postgresql is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root can become the user postgres")
    folder = Path(tempfile.mkdtemp(prefix="v2v-postgresql-"))
    shutil.chown(folder, "postgres")
    port = free_port()
    as_postgres = ["runuser", "-u", "postgres", "--", str(programs[-1] / "pg_ctl"), "--pgdata", str(folder / "data")]
    try:
        subprocess.run([*as_postgres, "initdb", "-o", "--auth=trust"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        options = f"-p {port} -k {folder} -c fsync=off -c max_connections=60"
        start = [*as_postgres, "--log", str(folder / "log"), "--wait", "-o", options, "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd="/")
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*as_postgres, "--mode", "immediate", "stop"], stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """The address of a Redis that keeps nothing."""
    program = shutil.which("redis-server")
    if not program:
        pytest.skip("Debian's package redis-server is not installed")
    port = free_port()
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL, cwd="/"
    )
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(10)


#: whose tests run once more: rows, guarded moves, searches, pages
ROWS = ["test_api.py", "test_board.py", "test_drafts.py", "test_tokens.py"]


def test_what_the_rows_tests_expect_holds_on_postgresql_too(postgresql: str) -> None:
    files = [f"tests/{name}" for name in ROWS if (PROJECT / "tests" / name).exists()]
    assert len(files) >= 3
    # Without this process's own settings: pytest-django would read Django's before the inner conftest can choose others.
    mine = {name: text for name, text in os.environ.items() if not name.startswith(("V2VWEB_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not real and not browser", "--reuse-db", *files],
        cwd=PROJECT,
        env=mine | {"V2VWEB_TEST_DATABASE_URL": postgresql},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    with psycopg.connect(postgresql) as connection:  # that it was there and not beside it
        names = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    assert any(name.startswith("test_") for name in names)


def test_web_and_conductor_work_on_postgresql_with_redis(postgresql: str, redis: str, make_site: Any) -> None:
    site = make_site(DATABASE_URL=postgresql, REDIS_URL=redis)
    assert not (site.data_dir / "v2vweb.sqlite3").exists()
    image = site.source_root / "odd.raw"
    with image.open("wb") as file:
        # A table with one partition, and nothing in it: enough to be taken, and quickly done.
        file.write(bytes(446) + struct.pack("<B3xB3xII", 0x80, 0x83, 8, 2040) + bytes(48) + b"\x55\xaa")
        file.truncate(1 << 20)
    token = site.manage("token", "admin").strip()

    def ask(path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{site.url}/api/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            pytest.fail(error.read().decode())

    made = ask(
        "conversions",
        {
            "name": "web01",
            "source": {"kind": "disk", "paths": [str(image)], "format": "raw"},
            "output": {"kind": "files", "format": "raw"},
        },
    )
    deadline = time.monotonic() + 30
    while ask(f"conversions/{made['id']}")["state"] == "queued":
        assert time.monotonic() < deadline, "the conductor did not take it"
        time.sleep(0.3)
    ask(f"conversions/{made['id']}/cancel", {})
    while ask(f"conversions/{made['id']}")["state"] != "cancelled":
        assert time.monotonic() < deadline + 30, "it did not end"
        time.sleep(0.3)
