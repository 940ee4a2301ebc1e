"""The bundle for a cluster that v2vweb cannot reach: what is in it, and what its script does."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from conversions.manifest import Target, bundle, check, predict, three_views
from conversions.plan import Disk
from tests.fixtures_manifest import Case, a_plan

PLAN = a_plan(disks=(Disk(name="a", size=3000), Disk(name="b", size=5000)))


def unpack(tmp_path: Path, target: dict[str, Any] | None = None, manifest: str | None = None) -> Path:
    """The bundle unpacked, with the disks downloaded beside the script, and stand-ins for kubectl and virtctl."""
    files = Case(PLAN).files
    views = three_views(predict(PLAN, files, "2.2.0"), PLAN, Target.model_validate(target or {}), files)
    with tarfile.open(fileobj=io.BytesIO(bundle(manifest or views.ours, files, views.claims))) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "web01"
    for file in files:
        (folder / file.name).write_bytes(bytes(file.size))
    for name in ("kubectl", "virtctl"):
        standin = tmp_path / "bin" / name
        standin.parent.mkdir(exist_ok=True)
        standin.write_text(f"#!/bin/sh\nprintf '%s|' {name} \"$@\" >>'{tmp_path}/calls'\necho >>'{tmp_path}/calls'\n")
        standin.chmod(0o755)
    return folder


def run(folder: Path, *args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    path = f"{folder.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", folder / "upload.sh", *args],
        capture_output=True,
        text=True,
        env={"PATH": path, **environment},
        check=False,
    )


def calls(folder: Path) -> list[list[str]]:
    text = (folder.parent / "calls").read_text()
    return [line.rstrip("|").split("|") for line in text.replace(str(folder), "HERE").splitlines()]


def test_the_script_uploads_each_disk_into_a_claim_and_then_makes_the_machine(tmp_path: Path) -> None:
    target = {"namespace": "prod", "storage": {"volume_mode": "Block", "storage_class": "fast"}}
    folder = unpack(tmp_path, target)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    common = ["--namespace=prod", "--force-bind", "--size=1Mi", "--volume-mode=block", "--access-mode=ReadWriteOnce",
              "--storage-class=fast"]  # fmt: skip
    assert calls(folder) == [
        ["virtctl", "image-upload", "pvc", "web01-disk-0", "--image-path=HERE/web01-sda", *common],
        ["virtctl", "image-upload", "pvc", "web01-disk-1", "--image-path=HERE/web01-sdb", *common],
        ["kubectl", "apply", "--namespace=prod", "-f", "HERE/machine.yaml"],
    ]
    assert "virtctl start web01 --namespace=prod" in done.stderr


def test_data_volumes_are_made_first_and_then_filled(tmp_path: Path) -> None:
    folder = unpack(tmp_path, {"storage": {"object": "DataVolume"}})
    assert run(folder, UPLOADPROXY_URL="https://proxy:1", INSECURE="1").returncode == 0
    made, first, *_, last = calls(folder)
    assert made == ["kubectl", "apply", "-f", "HERE/disks.yaml"]
    assert first[2:4] == ["dv", "web01-disk-0"]
    assert first[-3:] == ["--no-create", "--uploadproxy-url=https://proxy:1", "--insecure"]
    assert last[-1] == "HERE/machine.yaml"


@pytest.mark.parametrize(("damage", "words"), [("missing", "is not in"), ("short", "is not whole")])
def test_a_disk_that_is_not_there_or_not_whole_is_found_before_anything_is_done(
    tmp_path: Path, damage: str, words: str
) -> None:
    folder = unpack(tmp_path)
    disk = folder / "web01-sdb"
    disk.unlink() if damage == "missing" else disk.write_bytes(b"x")
    done = run(folder)
    assert done.returncode == 1 and words in done.stderr and "web01-sdb" in done.stderr
    assert not (tmp_path / "calls").exists()


def test_the_disks_can_be_in_another_folder_with_an_odd_name(tmp_path: Path) -> None:
    folder = unpack(tmp_path)
    elsewhere = tmp_path / "my $(touch hacked) 'disks'"
    elsewhere.mkdir()
    for disk in folder.glob("web01-sd?"):
        disk.rename(elsewhere / disk.name)
    assert run(folder, str(elsewhere)).returncode == 0
    assert not list(tmp_path.rglob("hacked"))


def test_a_disk_that_an_edit_took_out_is_not_uploaded_and_comments_stay_in_the_manifest(tmp_path: Path) -> None:
    files = Case(PLAN).files
    ours = three_views(predict(PLAN, files, "2.2.0"), PLAN, Target(), files).ours
    edited = "# mine\n" + "---\n".join(ours.split("---\n")[:2])
    folder = unpack(tmp_path, manifest=edited)
    assert run(folder).returncode == 0
    assert [call[0] for call in calls(folder)] == ["virtctl", "kubectl"]
    assert (folder / "manifest.yaml").read_text().startswith("# mine\n")


def test_without_virtctl_the_script_says_so(tmp_path: Path) -> None:
    folder = unpack(tmp_path)
    (tmp_path / "bin" / "virtctl").unlink()
    done = run(folder)
    assert (done.returncode, done.stderr) == (1, "upload.sh: virtctl is not installed\n")


def test_the_machine_of_the_bundle_is_the_machine_of_the_manifest(tmp_path: Path) -> None:
    folder = unpack(tmp_path)
    machine, manifest = (folder / "machine.yaml").read_text(), (folder / "manifest.yaml").read_text()
    assert machine in manifest
    assert {mistake.code for mistake in check(machine)} == {"claim-elsewhere"}


@pytest.mark.skipif(shutil.which("dash") is None, reason="dash, Debian's plain shell, is not installed")
def test_the_script_is_plain_shell(tmp_path: Path) -> None:
    assert subprocess.run(["dash", "-n", unpack(tmp_path) / "upload.sh"], check=False).returncode == 0
