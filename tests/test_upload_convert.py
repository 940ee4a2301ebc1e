"""From an upload to a conversion without waiting: as soon as it is here, several files of one machine, open questions."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from conversions.models import Conversion, Draft, Upload
from conversions.uploading.follow import Follower
from tests.ova_files import make_ovf, make_tar, manifest
from tests.test_follow import disk as disk
from tests.test_follow import members

pytestmark = pytest.mark.django_db


@pytest.fixture
def sender(env: Any, tus: Any, charlie: Any) -> Any:
    return tus(charlie)


def run(rounds: int = 10) -> None:
    follower = Follower()
    for _ in range(rounds):
        follower.tick()


def test_a_conversion_starts_by_itself_when_the_file_is_here(sender: Any, disk: bytes, charlie: Any) -> None:
    upload = sender.send("web01.ova", make_tar(members(disk)), convert="yes")
    assert not Conversion.objects.exists()
    run()
    conversion = Conversion.objects.get()
    assert (conversion.name, conversion.owner, conversion.state) == ("web01", charlie, "queued")
    assert list(conversion.uploads.all()) == [upload]
    run()
    assert Conversion.objects.count() == 1, "once"


def test_without_the_tick_nothing_starts(sender: Any, disk: bytes) -> None:
    sender.send("web01.ova", make_tar(members(disk)))
    run()
    assert not Conversion.objects.exists()


def test_the_tick_can_be_set_and_taken_away_while_it_comes(sender: Any, disk: bytes) -> None:
    data = make_tar(members(disk))
    url = sender.create("web01.ova", len(data))["Location"]
    sender.client.post(f"{url}/convert-later/", {"convert": "yes"})
    assert Upload.objects.get().convert
    sender.client.post(f"{url}/convert-later/", {"convert": "no"})
    assert not Upload.objects.get().convert


def test_a_disk_image_is_converted_by_itself_too(sender: Any, disk: bytes) -> None:
    sender.send("Mail Server.vmdk", disk, convert="yes")
    run()
    conversion = Conversion.objects.get()
    assert conversion.name == "mail-server" and conversion.plan_json["source"]["kind"] == "disk"


def test_an_open_question_is_asked_and_nothing_is_guessed(sender: Any, disk: bytes) -> None:
    upload = sender.send("web01.ova", make_tar(members(disk, config="")), convert="yes")
    run()
    upload.refresh_from_db()
    assert upload.state == "ready" and not Conversion.objects.exists()
    assert upload.verdict["not_started"]["code"] == "firmware-unknown"
    page = sender.client.get(upload.get_absolute_url()).content.decode()
    assert "One question is open" in page and 'name="firmware"' in page
    sender.client.post(f"/uploads/{upload.pk}/convert/", {"firmware": "uefi"})
    assert Draft.objects.get().data["finding"]["guest"]["firmware"] == "uefi"


def test_no_conversion_starts_for_somebody_who_may_not_any_more(sender: Any, disk: bytes, charlie: Any) -> None:
    upload = sender.send("web01.ova", make_tar(members(disk)), convert="yes")
    charlie.groups.clear()
    run()
    upload.refresh_from_db()
    assert not Conversion.objects.exists() and upload.verdict["not_started"]["title"]


def test_of_several_machines_in_an_ova_one_is_chosen(sender: Any, disk: bytes) -> None:
    made = {"a.ovf": make_ovf(name="a"), "b.ovf": make_ovf(name="b"), "disk1.vmdk": disk}
    upload = sender.send("two.ova", make_tar(made))
    run()
    upload.refresh_from_db()
    assert upload.state == "ready" and upload.verdict["choices"] == ["a.ovf", "b.ovf"]
    assert b"<option>b.ovf</option>" in sender.client.get(upload.get_absolute_url()).content
    sender.client.post(f"/uploads/{upload.pk}/convert/", {"ovf": "b.ovf"})
    assert Draft.objects.get().data["finding"]["guest"]["name"] == "b"


# -- an .ovf and its disks ---------------------------------------------------------------------------------------------


def bundle(sender: Any, files: dict[str, bytes]) -> dict[str, Upload]:
    key = str(uuid.uuid4())
    return {name: sender.send(name, data, bundle=key) for name, data in files.items()}


def test_an_ovf_and_its_disks_are_one_machine(sender: Any, disk: bytes) -> None:
    described = make_ovf(disks=["my disk.vmdk"])
    files = {"web01.ovf": described, "my disk.vmdk": disk, "web01.mf": manifest({"web01.ovf": described})}
    sent = bundle(sender, files)
    run()
    assert set(Upload.objects.values_list("state", flat=True)) == {"ready"}
    response = sender.client.post(f"/uploads/{sent['web01.ovf'].pk}/convert/", follow=True)
    draft = Draft.objects.get()
    assert response.redirect_chain[-1][0] == f"/new/{draft.pk}/guest/", response.content.decode()[:3000]
    assert draft.data["finding"]["guest"]["disks"][0]["name"] == "my disk.vmdk"


def test_no_bundle_has_the_number_of_a_single_file(sender: Any, disk: bytes) -> None:
    single = sender.send("web01.ova", make_tar(members(disk)))
    response = sender.create("web01.ova", 1000, bundle=str(single.pk))
    assert response.status_code == 403 and Upload.objects.count() == 1


def test_the_disks_of_a_bundle_are_held_as_long_as_they_are_needed(sender: Any, disk: bytes) -> None:
    key = str(uuid.uuid4())
    sender.send("disk1.vmdk", disk, bundle=key)
    sender.send("web01.ovf", make_ovf(), bundle=key, convert="yes")
    run()
    conversion = Conversion.objects.get()
    assert set(conversion.uploads.values_list("name", flat=True)) == {"web01.ovf", "disk1.vmdk"}
    folder = Path(conversion.plan_json["source"]["settings"]["path"]).parent
    assert {path.name for path in folder.iterdir()} == {"web01.ovf", "disk1.vmdk"}


def test_an_ovf_waits_for_its_disks(sender: Any, disk: bytes) -> None:
    key = str(uuid.uuid4())
    ovf = sender.send("web01.ovf", make_ovf(), bundle=key, convert="yes")
    url = sender.create("disk1.vmdk", len(disk), bundle=key)["Location"]
    run()
    assert not Conversion.objects.exists()
    response = sender.client.post(f"/uploads/{ovf.pk}/convert/", follow=True)
    assert "has not arrived yet" in response.content.decode()
    sender.patch(url, 0, disk)
    run()
    assert Conversion.objects.count() == 1, "it starts when the last of its files is here"


def test_names_in_a_bundle_are_told_apart(sender: Any, disk: bytes) -> None:
    key = str(uuid.uuid4())
    sender.send("disk1.vmdk", disk, bundle=key)
    assert sender.create("disk1.vmdk", len(disk), bundle=key).status_code == 409


def test_nobody_adds_to_the_bundle_of_somebody_else(sender: Any, tus: Any, alice: Any, disk: bytes) -> None:
    key = str(uuid.uuid4())
    sender.send("disk1.vmdk", disk, bundle=key)
    assert tus(alice).create("web01.ovf", 1000, bundle=key).status_code == 403
