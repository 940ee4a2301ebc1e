"""Conversions with a log and events, as a conductor and an agent would leave them; a web server without a conductor."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tests.running import PROJECT, Site


@pytest.fixture
def make_conversion(db: None, settings: Any, tmp_path: Path) -> Callable[..., Any]:
    """make_conversion(alice, state="running", log=b"...", phases=["checking"]) is a row with what belongs to it on disk."""
    from conversions.models import Conversion, Event
    from conversions.plan import Plan, Source

    settings.DATA_DIR = tmp_path

    def make(
        owner: Any,
        name: str = "web01",
        *,
        log: bytes | None = None,
        phases: list[str] = [],  # noqa: B006
        files: dict[str, bytes] | None = None,
        **fields: Any,
    ) -> Any:
        plan = Plan(name=name, source=Source(kind="disk", settings={"paths": ["/srv/images/web01.img"]}))
        started = timezone.now() - timedelta(minutes=10)
        if fields.get("state", "queued") != "queued":
            fields = {"started": started} | fields
        if fields.get("state") in ("succeeded", "failed", "cancelled", "lost"):
            fields = {"ended": started + timedelta(minutes=9)} | fields
        fields["artifacts"] = fields.get("artifacts", []) + [
            {"name": file, "size": len(data), "allocated": len(data)} for file, data in (files or {}).items()
        ]
        row = Conversion.objects.create(name=name, owner=owner, plan_json=plan.model_dump(mode="json"), **fields)
        if log is not None:
            row.jobdir.path.mkdir(parents=True)
            row.jobdir.log.write_bytes(log)
        for number, phase in enumerate(phases):
            at = started + timedelta(seconds=10 * number)
            Event.objects.create(conversion=row, attempt=row.attempt, at=at, type="phase", data={"phase": phase})
        for file, data in (files or {}).items():
            row.output_dir.mkdir(parents=True, exist_ok=True)
            (row.output_dir / file).write_bytes(data)
        return row

    return make


MAKE = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from conversions.models import Conversion, Event
from conversions.plan import Plan, Source
now = timezone.now()
for spec in SPECS:
    phases, log, files, events = spec.pop("phases", []), spec.pop("log", None), spec.pop("files", {}), spec.pop("events", [])
    owner = User.objects.get(username=spec.pop("owner", "alice"))
    plan = Plan(name=spec["name"], source=Source(kind="disk", settings={}))
    if spec.get("state", "queued") != "queued":
        spec["started"] = now - timedelta(minutes=5)
    if spec.get("state") in ("failed", "succeeded", "cancelled", "lost"):
        spec["ended"] = now
    spec["artifacts"] = [{"name": name, "size": len(text), "allocated": len(text)} for name, text in files.items()]
    row = Conversion.objects.create(owner=owner, plan_json=plan.model_dump(mode="json"), **spec)
    for n, phase in enumerate(phases):
        Event.objects.create(conversion=row, attempt=1, type="phase", data={"phase": phase},
                             at=now - timedelta(seconds=280 - 20 * n))
    for data in events:
        Event.objects.create(conversion=row, attempt=1, type=data.pop("type"), data=data, at=now)
    row.jobdir.path.mkdir(parents=True)
    row.jobdir.log.write_text(log or "")
    for name, text in files.items():
        row.output_dir.mkdir(parents=True, exist_ok=True)
        (row.output_dir / name).write_text(text)
    print(row.pk)
"""


class WebSite(Site):
    """The web server alone: no conductor, which would find that these conversions have no agent."""

    def start(self) -> None:
        subprocess.run([sys.executable, "setup/assets.py"], cwd=PROJECT, env=self.environment, check=True, timeout=120)
        self.manage("migrate", "--verbosity", "0")
        self.manage("bootstrap")
        self.serve()

    def serve(self) -> None:
        with self.log.open("ab") as log:
            web = [sys.executable, "-m", "v2vweb.web", "--bind", "127.0.0.1", "--port", str(self.port)]
            self.process = subprocess.Popen(
                [*web, "--verbosity", "0", "v2vweb.asgi:application"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/login/", timeout=10):
                return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def make(self, *specs: dict[str, Any]) -> list[int]:
        return [int(line) for line in self.manage("shell", "--no-imports", "-c", f"SPECS = {specs!r}\n{MAKE}").split()]

    def log_of(self, pk: int) -> Path:
        return self.data_dir / "jobs" / str(pk) / "1" / "log"

    def change(self, pk: int, **columns: Any) -> None:
        """What a conductor would write, so that the page sees it."""
        columns["updated"] = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        with contextlib.closing(sqlite3.connect(self.data_dir / "v2vweb.sqlite3", timeout=20)) as db:
            names = ", ".join(f"{name} = ?" for name in columns)
            db.execute(f"UPDATE conversions_conversion SET {names} WHERE id = ?", [*columns.values(), pk])
            db.commit()


@pytest.fixture(scope="module")
def web() -> Iterator[WebSite]:
    site = WebSite()
    try:
        site.start()
        site.add_people()
        yield site
    finally:
        site.close()
