"""The follower: verdicts behind the upload, checksums as members end, and the end of every upload."""

import gzip
import hashlib
import os
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Conversion, Upload
from conversions.problems import RefusedError
from conversions.states import State
from conversions.uploading import follow, sweeper, uploads
from conversions.uploading.follow import Follow, Follower
from conversions.uploading.stores.local import LocalStore
from conversions.uploading.uploaded import place_of
from tests.ova_files import DISK, good_members, make_ovf, make_tar, manifest, write
from tests.test_ova import zipped

pytestmark = pytest.mark.django_db


def vmdk(size: int = 1 << 20) -> bytes:
    """A streamOptimized VMDK as qemu-img writes it."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.vmdk")
        raw = Path(folder, "d.raw")
        raw.write_bytes(os.urandom(size))
        command = ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", str(raw), str(path)]
        subprocess.run(command, check=True)
        return path.read_bytes()


@pytest.fixture(scope="module")
def disk() -> bytes:
    return vmdk()


@pytest.fixture
def sender(env: Any, tus: Any, charlie: Any) -> Any:
    return tus(charlie)


def members(disk: bytes, algorithm: str = "sha256", **ovf: Any) -> dict[str, bytes]:
    described = make_ovf(**ovf)
    texts = {"web01.ovf": described, "disk1.vmdk": disk}
    return {"web01.ovf": described, "web01.mf": manifest(texts, algorithm), "disk1.vmdk": disk}


def run(follower: Follower, rounds: int = 20) -> None:
    for _ in range(rounds):
        follower.tick()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1], [2, 0, 1]])
def test_a_good_ova_becomes_ready_with_every_checksum_compared(
    sender: Any, disk: bytes, algorithm: str, order: list[int]
) -> None:
    made = list(members(disk, algorithm).items())
    data = make_tar([made[index] for index in order])
    upload = sender.send("web01.ova", data, chunk=300_000)
    run(Follower())
    upload.refresh_from_db()
    assert upload.state == "ready", upload.problem
    assert sorted(upload.verdict["compared"]) == ["disk1.vmdk", "web01.ovf"]
    assert upload.sha256 == hashlib.sha256(data).hexdigest()
    assert upload.verdict["guest"]["name"] == "web01" and upload.expires


def test_a_wrong_checksum_is_found_when_its_member_ends_not_at_the_end(sender: Any, disk: bytes) -> None:
    wrong = members(disk) | {"disk1.vmdk": disk[:-1] + b"!"}
    data = make_tar({**wrong, "more.iso": bytes(3 << 20)})
    url = sender.create("web01.ova", len(data))["Location"]
    sender.patch(url, 0, data[: data.index(disk[:4096]) + len(disk) + 600])
    follower = Follower()
    run(follower, 3)
    upload = Upload.objects.get()
    assert upload.state == "refused" and upload.problem["code"] == "ova-manifest-mismatch"
    assert not LocalStore().path(place_of(upload)).exists()
    assert sender.patch(url, 5, b"x").status_code == 422


def test_an_ovf_that_is_not_first_is_found_when_it_comes(sender: Any, disk: bytes) -> None:
    data = make_tar({"disk1.vmdk": disk, "web01.ovf": make_ovf()})
    url = sender.create("web01.ova", len(data))["Location"]
    sender.patch(url, 0, data[:600_000])
    assert Upload.objects.get().verdict["level"] == "open"
    sender.patch(url, 600_000, data[600_000:])
    run(Follower())
    assert Upload.objects.get().state == "ready"


@pytest.mark.parametrize("pack", [zipped, lambda m: gzip.compress(make_tar(m))])
def test_a_packed_ova_becomes_ready_and_tells_what_unpacking_needs(sender: Any, disk: bytes, pack: Any) -> None:
    upload = sender.send("web01.ova", pack(members(disk)))
    run(Follower())
    upload.refresh_from_db()
    assert upload.state == "ready", upload.problem
    assert upload.verdict["unpack"] >= len(disk)
    assert sorted(upload.verdict["compared"]) == ["disk1.vmdk", "web01.ovf"]


def test_an_ova_whose_disk_points_to_a_file_of_the_server_is_refused(sender: Any, tmp_path: Path) -> None:
    trick = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 100 FLAT "/etc/shadow" 0\n'
    upload = sender.send("web01.ova", make_tar({"x.ovf": make_ovf(), "disk1.vmdk": trick.ljust(5000, b" ")}))
    run(Follower())
    upload.refresh_from_db()
    assert upload.state == "refused" and upload.problem["code"] == "disk-names-other-file"


def test_a_cut_off_ova_is_refused_at_its_end(sender: Any, disk: bytes) -> None:
    whole = make_tar(members(disk))
    upload = sender.send("web01.ova", whole[: len(whole) // 2])
    run(Follower())
    upload.refresh_from_db()
    assert upload.state == "refused" and "bytes are missing" in upload.problem["text"]


def test_an_expected_checksum_is_compared(sender: Any, disk: bytes) -> None:
    data = make_tar(members(disk))
    sha1 = hashlib.sha1(data).hexdigest()
    upload = sender.send("web01.ova", data, checksum=f"SHA1 (web01.ova) = {sha1.upper()}")
    run(Follower())
    upload.refresh_from_db()
    assert (upload.state, upload.expected) == ("ready", f"sha1:{sha1}")


def test_a_mistyped_checksum_costs_no_second_upload(sender: Any, disk: bytes) -> None:
    data = make_tar(members(disk))
    upload = sender.send("web01.ova", data, checksum="a" * 64)
    follower = Follower()
    run(follower)
    upload.refresh_from_db()
    assert upload.state == "refused" and hashlib.sha256(data).hexdigest() in upload.problem["text"]
    assert LocalStore().path(place_of(upload)).read_bytes() == data, "the file waits for a word"
    uploads.expect(upload, hashlib.sha256(data).hexdigest())
    run(follower)
    upload.refresh_from_db()
    assert upload.state == "ready"


@pytest.mark.parametrize("text", ["abc", "g" * 64, "a" * 63, f"{'a' * 64} {'b' * 64}"])
def test_what_is_no_checksum_is_refused_at_once(sender: Any, text: str) -> None:
    response = sender.create("web01.ova", 1000, checksum=text)
    assert response.status_code == 422 and "checksum" in response.json()["error"]["title"]


def test_a_disk_image_becomes_ready(sender: Any, disk: bytes) -> None:
    upload = sender.send("data.vmdk", disk)
    run(Follower())
    upload.refresh_from_db()
    assert upload.state == "ready" and upload.verdict["format"] == "vmdk"
    assert upload.verdict["disks"][0]["capacity"] == 1 << 20


def test_a_new_follower_begins_again_and_comes_to_the_same_end(sender: Any, disk: bytes) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]
    sender.patch(url, 0, data[:500_000])
    run(Follower(), 2)  # this one dies
    sender.patch(url, 500_000, data[500_000:])
    run(Follower())
    upload = Upload.objects.get()
    assert (upload.state, upload.sha256) == ("ready", hashlib.sha256(data).hexdigest())


def test_an_upload_whose_last_answer_was_lost_is_ended_all_the_same(sender: Any, disk: bytes) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]
    upload = Upload.objects.get()
    path = LocalStore().path(place_of(upload))
    path.parent.mkdir(parents=True)
    path.write_bytes(data)  # as when the web server dies between writing and noting it
    assert sender.head(url)["Upload-Offset"] == str(len(data))
    run(Follower())
    upload.refresh_from_db()
    assert upload.state == "ready"


def test_the_follower_reads_no_further_than_what_is_there(tmp_path: Path, disk: bytes) -> None:
    data = make_tar(members(disk))
    path = write(tmp_path, data[:100_000])
    reader = Follow(path, "web01.ova", len(data))
    assert reader.step(100_000) == 100_000 and reader.step(100_000) == 0
    path.write_bytes(data)
    while reader.step(len(data)):
        pass
    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    assert reader.finish()["level"] == "good"


def test_random_bytes_end_a_reader_at_once(tmp_path: Path) -> None:
    reader = Follow(write(tmp_path, os.urandom(4096)), "web01.ova", 1 << 40)
    with pytest.raises(RefusedError):
        reader.step(4096)


# -- expiry ------------------------------------------------------------------------------------------------------------


def expire(upload: Upload) -> None:
    Upload.objects.filter(pk=upload.pk).update(expires=timezone.now() - timedelta(seconds=1))


def test_an_upload_that_nobody_went_on_with_is_swept(sender: Any) -> None:
    url = sender.create("web01.ova", 1000)["Location"]
    sender.patch(url, 0, make_tar(good_members())[:600])
    upload = Upload.objects.get()
    assert sweeper.sweep() == 0
    expire(upload)
    assert sweeper.sweep() == 1
    assert not LocalStore().path(place_of(upload)).exists()
    assert sender.head(url).status_code == 404


def test_each_piece_postpones_the_expiry(sender: Any) -> None:
    data = make_tar(good_members())
    url = sender.create("web01.ova", len(data))["Location"]
    upload = Upload.objects.get()
    expire(upload)
    sender.patch(url, 0, data[:600])
    assert sweeper.sweep() == 0


def test_a_file_that_is_converted_or_was_of_late_is_kept(sender: Any, charlie: Any, disk: bytes) -> None:
    upload = sender.send("web01.ova", make_tar(members(disk)))
    run(Follower())
    conversion = Conversion.objects.create(name="web01", owner=charlie, plan_json={}, state=State.RUNNING)
    upload.conversions.add(conversion)
    expire(upload)
    assert sweeper.sweep() == 0
    with pytest.raises(RefusedError, match="is being converted"):
        uploads.remove(upload)
    Conversion.objects.update(state=State.SUCCEEDED, ended=timezone.now() - timedelta(days=1))
    expire(upload)
    assert sweeper.sweep() == 0
    Conversion.objects.update(ended=timezone.now() - timedelta(days=400))
    expire(upload)
    assert sweeper.sweep() == 1


def test_bytes_without_a_row_are_swept_after_a_while(sender: Any, settings: Any) -> None:
    folder = settings.UPLOAD_DIR / str(uuid.uuid4())
    folder.mkdir(parents=True)
    (folder / "x.ova").write_bytes(DISK)
    other = settings.UPLOAD_DIR / "notes"
    other.mkdir()
    sweeper.sweep()
    assert folder.exists()
    os.utime(folder, (time.time() - 7200,) * 2)
    os.utime(other, (time.time() - 7200,) * 2)
    sweeper.sweep()
    assert not folder.exists() and other.exists(), "only what looks like an upload"


def test_views_that_nobody_needs_are_swept(sender: Any, settings: Any, tmp_path: Path, charlie: Any) -> None:
    settings.DATA_DIR = tmp_path
    view = tmp_path / "views" / "1"
    view.mkdir(parents=True)
    (view / "disk1.vmdk").write_bytes(b"x")
    os.utime(view, (time.time() - 90_000,) * 2)
    conversion = Conversion.objects.create(name="web01", owner=charlie, plan_json={}, state=State.RUNNING)
    sweeper.sweep()
    assert view.exists()
    Conversion.objects.filter(pk=conversion.pk).update(state=State.FAILED)
    sweeper.sweep()
    assert not view.exists()


def test_what_a_killed_nginx_left_is_swept(sender: Any, env: Any, tmp_path: Path) -> None:
    (tmp_path / "bodies").mkdir()
    old, new, other = (tmp_path / "bodies" / name for name in ("0000000001", "0000000002", "notes"))
    for path in (old, new, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    env(upload_body_dir=tmp_path / "bodies")
    sweeper.sweep()
    assert not old.exists() and new.exists() and other.exists()


def test_a_fault_with_one_upload_does_not_stop_the_others(
    sender: Any, disk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = sender.send("bad.ova", make_tar(members(disk)))
    good = sender.send("good.ova", make_tar(members(disk)))
    real = follow.Follow.step
    monkeypatch.setattr(follow.Follow, "step", lambda self, have: 1 / 0 if self.name == "bad.ova" else real(self, have))
    run(Follower())
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, bad.state) == ("ready", "checking")
