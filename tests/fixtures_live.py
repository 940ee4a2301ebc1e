"""Conversions with a log and events, as a conductor and an agent would leave them."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone


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
