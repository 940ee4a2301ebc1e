"""The agent with the real virt-v2v on the lab's guest: bytes of each disk, and nothing left behind, however it ends."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conversions.agent import processes
from conversions.jobdir import Job, JobDir
from conversions.runners import LocalRunner
from tests.conftest import CACHE

from .fixtures_engine import events_of, until

pytestmark = [pytest.mark.real, pytest.mark.skipif(not shutil.which("virt-v2v"), reason="virt-v2v is not installed")]

StartAgent = Callable[[JobDir], "subprocess.Popen[bytes]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: pytest's are near the limit of unix sockets, which has a test of its own."""
    with tempfile.TemporaryDirectory(prefix="v2v-") as name:
        yield Path(name)


def make_job(folder: Path, *images: Path, format: str = "raw") -> JobDir:
    jobdir, output = JobDir(folder / "jobs" / "1" / "1"), folder / "output"
    for path in (jobdir.secrets, output):
        path.mkdir(parents=True)
    appliance = CACHE / "appliance"
    appliance.mkdir(exist_ok=True)
    argv = ["virt-v2v", "-i", "disk", "-if", "raw", "-o", "kubevirt", "-os", str(output), "-on", "web01", "-of", format]
    job = Job(
        id=1,
        attempt=1,
        name="web01",
        argv=[*argv, "--root", "first", "--", *map(str, images)],
        env={
            "LIBGUESTFS_BACKEND": "direct",
            "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
            "LIBGUESTFS_CACHEDIR": str(appliance),
        },
        output_dir=str(output),
        output_format=format,
        vet=[{"path": str(image), "kind": "disk", "format": "raw"} for image in images],
    )
    jobdir.write_job(job)
    return jobdir


def blank(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def assert_nothing_is_left(jobdir: JobDir) -> None:
    assert processes.marked(str(jobdir.path)) == []
    assert not jobdir.tmp.exists()
    assert not jobdir.secrets.exists()
    assert str(jobdir.path) not in Path("/proc/self/mountinfo").read_text()


def own_folders(jobdir: JobDir) -> set[Path]:
    """libguestfs's folders that belong to this attempt, as its appliance names them."""
    return processes.socket_folders(processes.marked(str(jobdir.path)))


def test_two_disks_become_qcow2_and_their_bytes_are_told_one_by_one(
    folder: Path, guest_image: Path, start_agent: StartAgent
) -> None:
    jobdir = make_job(folder, guest_image, blank(folder / "data.img", 64 * 2**20), format="qcow2")
    before = guest_image.stat()
    start_agent(jobdir).wait(400)
    result = jobdir.read_result()
    assert result is not None
    assert result.outcome == "succeeded", jobdir.log.read_text()
    assert [artifact["name"] for artifact in result.artifacts] == ["web01-sda", "web01-sdb", "web01.yaml"]
    for disk, size in (("sda", guest_image.stat().st_size), ("sdb", 64 * 2**20)):
        info = subprocess.run(
            ["qemu-img", "info", "--output=json", folder / "output" / f"web01-{disk}"], capture_output=True, check=True
        )
        assert (json.loads(info.stdout)["format"], json.loads(info.stdout)["virtual-size"]) == ("qcow2", size)
        subprocess.run(["qemu-img", "check", "-q", folder / "output" / f"web01-{disk}"], check=True)
    begun: list[dict[str, Any]] = events_of(jobdir, "disk")
    assert [(disk["disk"], disk["disks"], disk["size"]) for disk in begun] == [(1, 2, 2**30), (2, 2, 64 * 2**20)]
    last = {event["disk"]: event for event in events_of(jobdir, "progress")}
    assert {number: event["bytes_done"] for number, event in last.items()} == {1: 2**30, 2: 64 * 2**20}
    facts = {event["key"]: event["value"] for event in events_of(jobdir, "fact")}
    assert facts["os"].startswith("Debian GNU/Linux")
    assert facts["virtio"] is True
    assert facts["firmware"] == "bios"
    assert_nothing_is_left(jobdir)
    assert (guest_image.stat().st_mtime_ns, guest_image.stat().st_blocks) == (before.st_mtime_ns, before.st_blocks)


def test_cancelled_while_the_appliance_runs_nothing_is_left(
    tmp_path: Path, guest_image: Path, start_agent: StartAgent
) -> None:
    # And in a folder whose name is too long for unix sockets.
    long = tmp_path / ("a-rather-long-name-of-a-data-folder-" * 3)
    jobdir = make_job(long, guest_image)
    agent = start_agent(jobdir)
    until(lambda: jobdir.log.exists() and b"Inspecting the source" in jobdir.log.read_bytes(), 200, "the appliance")
    folders = own_folders(jobdir)
    assert folders  # else what follows would prove nothing
    jobdir.cancel.touch()
    agent.wait(60)
    result = jobdir.read_result()
    assert result is not None
    assert result.outcome == "cancelled"
    assert_nothing_is_left(jobdir)
    assert not [path for path in folders if path.exists()]
    assert not list((long / "output").glob("*"))


def test_after_the_agent_is_killed_the_next_look_clears_everything(
    folder: Path, guest_image: Path, start_agent: StartAgent
) -> None:
    jobdir = make_job(folder, guest_image)
    agent = start_agent(jobdir)
    until(lambda: (jobdir.tmp / "sockets").exists(), 200, "the appliance")
    folders = own_folders(jobdir)
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    conversion: Any = SimpleNamespace(jobdir=jobdir)
    LocalRunner().clear(conversion)
    assert_nothing_is_left(jobdir)
    assert not [path for path in folders if path.exists()]


def test_a_blank_disk_has_no_operating_system(folder: Path, start_agent: StartAgent) -> None:
    jobdir = make_job(folder, blank(folder / "blank.img", 64 * 2**20))
    start_agent(jobdir).wait(200)
    result = jobdir.read_result()
    assert result is not None
    assert result.error is not None
    assert result.error["code"] == "no-operating-system", jobdir.log.read_text()
    (error,) = events_of(jobdir, "error")
    assert jobdir.log.read_bytes()[error["line"] :].startswith(b"virt-v2v: error:")
    assert_nothing_is_left(jobdir)
