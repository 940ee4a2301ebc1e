"""Uploads that go to a bucket, from the first piece to a queued conversion: nothing of this needs virt-v2v."""

import hashlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.core.files.uploadedfile import SimpleUploadedFile

from conversions import conductor
from conversions.bucket import mount, planned
from conversions.command import build_command
from conversions.conductor import Conductor
from conversions.models import Conversion, Upload
from conversions.runners import Alive
from conversions.uploading import sweeper
from conversions.uploading.follow import Follower
from conversions.uploading.uploaded import place_of, resolve
from tests.ova_files import make_ovf, make_tar
from tests.test_conductor import ProbeStandin, RunnerStandin
from tests.test_follow import members, vmdk
from tests.test_ova import zipped

pytestmark = pytest.mark.django_db
MIB = 1 << 20


@pytest.fixture(scope="module")
def disk() -> bytes:
    """More than two parts."""
    return vmdk(12 * MIB)


@pytest.fixture
def sender(s3: Any, tus: Any, charlie: Any) -> Any:
    return tus(charlie)


def run(follower: Follower | None = None, rounds: int = 8) -> None:
    follower = follower or Follower()
    for _ in range(rounds):
        follower.tick()


def objects(s3: Any) -> list[str]:
    return [item["Key"] for item in s3.client.list_objects_v2(Bucket="uploads").get("Contents", [])]


def local_files(settings: Any) -> list[Path]:
    return [path for path in settings.UPLOAD_DIR.rglob("*") if path.is_file()]


def test_an_ova_arrives_in_the_bucket_checked_and_nothing_stays_here(
    sender: Any, s3: Any, disk: bytes, settings: Any
) -> None:
    data = make_tar(members(disk))
    upload = sender.send("web01.ova", data)
    assert (upload.storage, upload.state) == ("s3", "checking")
    run()
    upload.refresh_from_db()
    assert (upload.state, upload.sha256) == ("ready", hashlib.sha256(data).hexdigest()), upload.problem
    assert upload.verdict["compared"] == ["web01.ovf", "disk1.vmdk"] and upload.verdict["guest"]["name"]
    assert objects(s3) == [f"{upload.pk}/web01.ova"]
    assert local_files(settings) == []
    # The pages say where it lies.
    listed = sender.client.get("/uploads/").content.decode()
    assert ">in the bucket<" in listed and "not on this server's own disk" in listed
    assert "the storage bucket uploads (S3)" in sender.client.get(upload.get_absolute_url()).content.decode()


def test_it_is_followed_while_it_comes_and_never_more_than_some_parts_are_here(
    sender: Any, disk: bytes, settings: Any
) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]
    follower = Follower()
    most = 0
    for at in range(0, len(data), 3 * MIB):
        sender.patch(url, at, data[at : at + 3 * MIB])
        most = max(most, sum(path.stat().st_size for path in local_files(settings)))
        run(follower, 2)
    assert Upload.objects.get().verdict["followed"] == len(data)
    assert most < 9 * MIB < len(data)
    assert Upload.objects.get().state == "ready"


def test_a_conductor_that_was_restarted_reads_from_the_bucket_at_the_end(sender: Any, disk: bytes) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]
    sender.patch(url, 0, data[: 5 * MIB])
    sender.patch(url, 5 * MIB, data[5 * MIB : 8 * MIB])
    run()  # one follower has read, and what it read is gone from here
    second = Follower()
    run(second)
    for at in range(8 * MIB, len(data), 4 * MIB):
        sender.patch(url, at, data[at : at + 4 * MIB])
    run(second)
    upload = Upload.objects.get()
    assert (upload.state, upload.sha256) == ("ready", hashlib.sha256(data).hexdigest())


def test_a_file_that_cannot_work_is_refused_in_its_first_piece(sender: Any, s3: Any, settings: Any) -> None:
    url = sender.create("web01.ova", 60 << 30)["Location"]
    response = sender.patch(url, 0, b"MZ" + os.urandom(MIB))
    assert response.status_code == 422
    assert Upload.objects.get().state == "refused"
    assert objects(s3) == [] and local_files(settings) == []
    assert s3.client.list_multipart_uploads(Bucket="uploads").get("Uploads", []) == []


def test_a_damaged_member_is_refused_though_the_file_came_whole(sender: Any, disk: bytes) -> None:
    broken = members(disk) | {"disk1.vmdk": disk[:-600] + b"?" + disk[-599:]}
    upload = sender.send("web01.ova", make_tar(broken))
    run()
    upload.refresh_from_db()
    assert upload.state == "refused" and upload.problem["code"] == "ova-manifest-mismatch", upload.problem


def test_a_disk_in_it_is_refused_by_its_header_read_from_the_bucket(sender: Any) -> None:
    text = b'# Disk Descriptor File\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    evil = (text + b'RW 2048 FLAT "/etc/shadow" 0\n').ljust(6 * MIB, b"\0")
    upload = sender.send("web01.ova", make_tar({"web01.ovf": make_ovf(), "disk1.vmdk": evil}))
    run()
    upload.refresh_from_db()
    assert upload.state == "refused" and upload.problem["code"] == "disk-format-mismatch", upload.problem


@pytest.mark.parametrize("name", ["zip", "disk"])
def test_other_kinds_are_judged_at_their_end(sender: Any, disk: bytes, name: str) -> None:
    data = disk if name == "disk" else zipped(members(disk))
    upload = sender.send("web01.vmdk" if name == "disk" else "web01.ova", data)
    run()
    upload.refresh_from_db()
    assert (upload.state, upload.sha256) == ("ready", hashlib.sha256(data).hexdigest()), upload.problem


def test_a_bucket_out_of_reach_loses_nothing_and_pages_go_on(
    sender: Any, s3: Any, disk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]
    sender.patch(url, 0, data[: 5 * MIB])
    with monkeypatch.context() as patch:

        def refuse(*args: object, **kwargs: object) -> None:
            raise EndpointConnectionError(endpoint_url="http://bucket")

        patch.setattr("botocore.client.BaseClient._make_api_call", refuse)
        response = sender.patch(url, 5 * MIB, data[5 * MIB : 10 * MIB])
        assert response.status_code == 503 and "Nothing that was sent is lost" in response.json()["error"]["text"]
        assert sender.client.get("/uploads/").status_code == 200
        run()
    at = int(sender.head(url)["Upload-Offset"])
    assert at == 10 * MIB
    for begin in range(at, len(data), 5 * MIB):
        sender.patch(url, begin, data[begin : begin + 5 * MIB])
    run()
    upload = Upload.objects.get()
    assert (upload.state, upload.sha256) == ("ready", hashlib.sha256(data).hexdigest())


def test_a_file_that_was_begun_is_known_again_when_the_bucket_is_out_of_reach(
    sender: Any, s3: Any, disk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]

    def refuse(*args: object, **kwargs: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://bucket")

    about = {"name": "web01.ova", "size": len(data), "ranges": [[0, 1024]]}
    sent = {"about": json.dumps(about), "data": SimpleUploadedFile("sketch", data[:1024])}
    with monkeypatch.context() as patch:
        patch.setattr("botocore.client.BaseClient._make_api_call", refuse)
        assert sender.patch(url, 0, data[: 5 * MIB]).status_code == 503
        response = sender.client.post("/uploads/opinion/", sent)
    assert response.status_code == 200 and response.json()["again"]["url"] == url


def test_an_object_that_somebody_removed_is_told(sender: Any, s3: Any, disk: bytes) -> None:
    upload = sender.send("web01.ova", make_tar(members(disk)))
    for path in s3._folder(place_of(upload)).iterdir():
        path.unlink()
    s3.client.delete_object(Bucket="uploads", Key=s3.key(place_of(upload)))
    run()
    upload.refresh_from_db()
    assert upload.problem["code"] == "upload-file-gone"


def test_deleting_takes_the_object_along(sender: Any, s3: Any, disk: bytes, settings: Any) -> None:
    upload = sender.send("web01.ova", make_tar(members(disk)))
    run()
    assert objects(s3)
    assert sender.client.delete(f"/uploads/{upload.pk}", HTTP_TUS_RESUMABLE="1.0.0").status_code == 204
    assert objects(s3) == [] and list(settings.UPLOAD_DIR.iterdir()) == []


def test_the_sweeper_removes_what_belongs_to_nobody_and_nothing_of_others(
    sender: Any, s3: Any, disk: bytes, settings: Any
) -> None:
    kept = sender.send("kept.ova", make_tar(members(disk)))
    gone = sender.send("gone.ova", make_tar(members(disk)))
    foreign = f"{uuid.uuid4()}/of-another-installation.ova"
    s3.client.put_object(Bucket="uploads", Key=foreign, Body=b"x")
    Upload.objects.filter(pk=gone.pk).delete()
    for folder in settings.UPLOAD_DIR.iterdir():
        os.utime(folder, (time.time() - 7200,) * 2)
    sweeper.sweep()
    assert sorted(objects(s3)) == sorted([f"{kept.pk}/kept.ova", foreign])


def test_space_here_is_no_limit_and_the_quota_is(sender: Any, env: Any) -> None:
    env(upload_reserve=1 << 60)
    assert sender.create("web01.ova", 40 << 30).status_code == 201
    env(upload_quota=50 << 30)
    assert sender.create("web02.ova", 40 << 30).status_code == 413


# -- conversions -------------------------------------------------------------------------------------------------------

needs_fuse = pytest.mark.skipif(bool(mount.missing()), reason=f"no FUSE: {mount.missing()}")


def converted(sender: Any, name: str, data: bytes) -> Conversion:
    sender.send(name, data, convert="yes")
    run()
    assert Conversion.objects.exists(), Upload.objects.get().verdict
    return Conversion.objects.get()


@needs_fuse
@pytest.mark.parametrize("kind", ["ova", "disk"])
def test_a_plan_is_made_by_looking_into_the_bucket(
    sender: Any, disk: bytes, settings: Any, kind: str, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path  # another test may be looking at the same moment
    data = disk if kind == "disk" else make_tar(members(disk))
    conversion = converted(sender, "web01.vmdk" if kind == "disk" else "web01.ova", data)
    plan = conversion.plan
    assert plan.guest.disks[0].size == 12 * MIB and plan.guest.disks[0].allocated, "QEMU has looked at it"
    assert list((settings.DATA_DIR / "shown").iterdir()) == []
    assert str(settings.DATA_DIR) not in Path("/proc/self/mountinfo").read_text()
    assert planned.to_download([plan.source.settings.get("path") or plan.source.settings["paths"][0]]) == 0


@pytest.mark.parametrize("kind", ["ova", "disk"])
def test_without_fuse_the_headers_are_read_and_the_rest_is_left_to_the_conversion(
    sender: Any, disk: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "missing", lambda: "there is no /dev/fuse")
    data = disk if kind == "disk" else make_tar(members(disk))
    plan = converted(sender, "web01.vmdk" if kind == "disk" else "web01.ova", data).plan
    assert plan.guest.disks[0].allocated is None
    paths = plan.source.settings.get("paths") or [plan.source.settings["path"]]
    assert planned.to_download(paths) == len(data), "space for the download is asked for"


def test_an_attempt_is_given_a_file_below_its_own_folder_and_an_address_as_a_secret(
    sender: Any, disk: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "missing", lambda: "there is no /dev/fuse")
    conversion = converted(sender, "web01.ova", make_tar(members(disk)))
    plan, shown, named = planned.placed(conversion.plan, tmp_path / "source")
    command = build_command(plan, output_dir=tmp_path, secrets_dir=tmp_path)
    assert command.argv[-1] == shown[0]["path"] and shown[0]["path"].startswith(str(tmp_path / "source"))
    (address,) = planned.addresses(named).values()
    assert "X-Amz-Signature=" in address
    from conversions import jobs

    jobs.prepare(conversion, {})
    secret = conversion.jobdir.secrets / "address-0"
    assert "X-Amz-Signature=" in secret.read_text() and secret.stat().st_mode & 0o777 == 0o600
    assert "X-Amz" not in conversion.jobdir.job.read_text() and "X-Amz" not in str(conversion.plan_json)


def test_addresses_are_signed_anew_while_a_conversion_runs(
    sender: Any, disk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion, leader = (
        converted(sender, "web01.ova", make_tar(members(disk))),
        Conductor(RunnerStandin(), ProbeStandin()),
    )
    leader.tick()
    secret = conversion.jobdir.secrets / "address-0"
    assert "X-Amz-Signature=" in secret.read_text(), "made when it starts, however long it has waited"
    secret.write_text("one that is no good any more")
    leader.tick()
    assert secret.read_text() == "one that is no good any more"
    monkeypatch.setattr(conductor, "_SIGN_SECONDS", 0)
    leader.tick()
    assert "X-Amz-Signature=" in secret.read_text() and secret.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(conductor, "_SIGN_SECONDS", 300)
    secret.write_text("one that ended while no conductor was at work")
    Conductor(RunnerStandin(Alive()), ProbeStandin()).tick()
    assert "X-Amz-Signature=" in secret.read_text()
    monkeypatch.setattr(conductor, "_SIGN_SECONDS", 0)
    shutil.rmtree(secret.parent)
    leader.tick()
    assert not secret.parent.exists(), "an agent that ends has taken them away"


def test_two_disks_with_one_name_are_two_files(sender: Any) -> None:
    contents = [bytes(510) + b"\x55\xaa" + bytes([number]) * (MIB - 512) for number in (1, 2)]
    sent = [sender.send("disk.raw", content) for content in contents]
    run()
    paths = [str(resolve(f"upload:{upload.pk}")) for upload in sent]
    with planned.shown(paths) as seen:
        assert [seen.path(path).read_bytes() for path in paths] == contents


@pytest.mark.parametrize("fuse", [pytest.param(True, marks=needs_fuse), False])
def test_an_ovf_and_its_disks_in_the_bucket_are_one_machine(
    sender: Any, disk: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fuse: bool
) -> None:
    if not fuse:
        monkeypatch.setattr(mount, "missing", lambda: "there is no /dev/fuse")
    key = str(uuid.uuid4())
    sender.send("disk1.vmdk", disk, bundle=key)
    sender.send("web01.ovf", make_ovf(), bundle=key, convert="yes")
    run()
    conversion = Conversion.objects.get()
    plan, shown, _ = planned.placed(conversion.plan, tmp_path)
    assert {Path(item["path"]).name for item in shown} == {"web01.ovf", "disk1.vmdk"}
    assert len({Path(item["path"]).parent for item in shown}) == 1
    assert build_command(plan, output_dir=tmp_path, secrets_dir=tmp_path).argv[-1] == str(Path(shown[0]["path"]).parent)
