"""A conversion that has ended well, with the files that virt-v2v 2.2 leaves, but for the disks' content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Conversion
from conversions.plan import Disk, Guest, Nic, Output, Plan, Source
from conversions.states import State

YAML = Path(__file__).parent / "data" / "yaml"
GIB = 1 << 30


def converted(owner: Any, **settings: Any) -> Conversion:
    """A succeeded conversion of a guest with one disk and one card; `settings` are the output's."""
    plan = Plan(
        name="fedora-test",
        source=Source(kind="disk", settings={"paths": ["/srv/fedora.img"], "format": "raw"}),
        guest=Guest(
            name="fedora",
            disks=(Disk(name="fedora.img", format="raw", size=GIB),),
            nics=(Nic(mac="52:54:00:aa:00:01", model="virtio", network="lan"),),
        ),
        output=Output(settings={"format": "raw", "allocation": "sparse", **settings}),
    )
    row = Conversion.objects.create(
        name=plan.name,
        owner=owner,
        state=State.SUCCEEDED,
        plan_json=plan.model_dump(mode="json"),
        artifacts=[
            {"name": "fedora-test-sda", "size": GIB, "allocated": 0},
            {"name": "fedora-test.yaml", "size": 700, "allocated": 4096},
        ],
        started=timezone.now(),
        ended=timezone.now(),
    )
    row.output_dir.mkdir(parents=True, exist_ok=True)
    (row.output_dir / "fedora-test.yaml").write_text((YAML / "2.2.0-linux.virt-v2v.yaml").read_text())
    with (row.output_dir / "fedora-test-sda").open("wb") as file:
        file.truncate(GIB)
    row.jobdir.path.mkdir(parents=True, exist_ok=True)
    row.jobdir.log.write_text("virt-v2v: This guest has virtio drivers installed.\n")
    return row


@pytest.fixture
def make_converted(settings: Any, tmp_path: Path) -> Callable[..., Conversion]:
    settings.DATA_DIR = tmp_path
    return converted
