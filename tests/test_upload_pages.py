"""The pages about uploads: the list, one upload, the opinion before the first byte, and the way to a conversion."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Conversion, Draft, Upload
from conversions.states import State
from conversions.uploading.follow import Follower
from tests.ova_files import good_members, make_ovf, make_tar
from tests.test_follow import disk as disk
from tests.test_follow import members
from tests.test_ova import zipped

pytestmark = pytest.mark.django_db


@pytest.fixture
def sender(env: Any, tus: Any, charlie: Any) -> Any:
    return tus(charlie)


@pytest.fixture
def ready(sender: Any, disk: bytes) -> Upload:
    upload = sender.send("web01.ova", make_tar(members(disk)))
    for _ in range(10):
        Follower().tick()
    upload.refresh_from_db()
    assert upload.state == "ready"
    made: Upload = upload
    return made


def text(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_the_list_shows_ones_own_uploads_and_how_far_they_are(sender: Any, tus: Any, alice: Any, env: Any) -> None:
    env(upload_quota=1 << 30)
    tus(alice).create("other.ova", 1000)
    data = make_tar(good_members())
    url = sender.create("web01.ova", len(data))["Location"]
    sender.patch(url, 0, data[: len(data) // 4])
    page = text(sender.client.get("/uploads/"))
    assert "web01.ova" in page and "25 % is here" in page and "other.ova" not in page
    assert "You may upload 1024 MiB more" in page and "bucket" not in page
    everybodys = text(tus(alice).client.get("/uploads/"))
    assert "web01.ova" in everybodys and "other.ova" in everybodys and "charlie" in everybodys


def test_the_list_asks_the_database_few_things(sender: Any, charlie: Any, django_assert_max_num_queries: Any) -> None:
    rows = [Upload(owner=charlie, name=f"{n}.ova", size=10, state="ready") for n in range(60)]
    Upload.objects.bulk_create(rows)
    conversion = Conversion.objects.create(name="web01", owner=charlie, plan_json={}, state=State.SUCCEEDED)
    for row in rows:
        row.conversions.add(conversion)
    with django_assert_max_num_queries(15):
        assert "Page 1 of 2" in text(sender.client.get("/uploads/"))


def test_a_viewer_sees_uploads_but_no_drop_zone(sender: Any, tus: Any, bob: Any) -> None:
    sender.create("web01.ova", 100_000)
    response = tus(bob).client.get("/uploads/")
    assert "web01.ova" in text(response) and b'id="drop"' not in response.content


def test_the_page_of_an_upload_shows_guest_checksums_and_digest(sender: Any, ready: Upload) -> None:
    page = text(sender.client.get(ready.get_absolute_url()))
    for part in (
        "Debian GNU/Linux 12",
        "BIOS",
        "2.0 GiB",
        "00:50:56:aa:bb:cc",
        "2 of 2 compared and right",
        ready.sha256,
    ):
        assert part in page
    assert "Convert it" in page


def test_tus_address_leads_a_person_to_the_page(sender: Any, ready: Upload) -> None:
    assert sender.client.get(f"/uploads/{ready.pk}")["Location"] == ready.get_absolute_url()


def test_convert_goes_on_with_the_wizards_second_step(sender: Any, ready: Upload) -> None:
    response = sender.client.post(f"/uploads/{ready.pk}/convert/", follow=True)
    draft = Draft.objects.get()
    assert response.redirect_chain[-1][0] == f"/new/{draft.pk}/guest/"
    assert draft.data["finding"]["guest"]["name"] == "web01"
    assert "Debian GNU/Linux 12" in text(response)


def test_the_review_names_the_file_that_was_uploaded(sender: Any, ready: Upload) -> None:
    sender.client.post(f"/uploads/{ready.pk}/convert/")
    options = {"root": "first", "output-format": "raw", "output-allocation": "sparse"}
    for step, fields in (("guest", {"name": "web01"}), ("options", options), ("target", {})):
        draft = Draft.objects.get()
        sender.client.post(f"/new/{draft.pk}/{step}/", {**fields, "version": draft.version})
    review = text(sender.client.get(f"/new/{draft.pk}/review/"))
    assert "From web01.ova: disk1.vmdk" in review
    assert "1 disk as raw, as small as what the guest uses" in review


def test_a_disk_image_becomes_a_disk_source(sender: Any, disk: bytes) -> None:
    upload = sender.send("data.vmdk", disk)
    for _ in range(5):
        Follower().tick()
    sender.client.post(f"/uploads/{upload.pk}/convert/")
    draft = Draft.objects.get()
    assert (draft.data["kind"], draft.data["source"]["format"]) == ("disk", "vmdk")


def test_a_conversion_through_the_api_names_the_upload(
    sender: Any, ready: Upload, charlie: Any, alice: Any, tus: Any
) -> None:
    asked = {"name": "web01", "source": {"kind": "ova", "upload_id": str(ready.pk)}, "output": {"kind": "files"}}
    response = sender.client.post("/api/v1/conversions", json.dumps(asked), content_type="application/json")
    assert response.status_code == 201, response.content
    conversion = Conversion.objects.get()
    assert list(ready.conversions.all()) == [conversion]
    assert conversion.plan_json["source"]["settings"]["path"].endswith(f"uploads/{ready.pk}/web01.ova")
    response = sender.client.post(f"/uploads/{ready.pk}/remove/", follow=True)
    assert "is being converted" in text(response) and Upload.objects.exists()
    Conversion.objects.update(state=State.SUCCEEDED, ended=timezone.now())
    sender.client.post(f"/uploads/{ready.pk}/remove/")
    assert not Upload.objects.exists()


def test_somebody_elses_upload_cannot_be_converted(sender: Any, tus: Any, alice: Any, disk: bytes) -> None:
    upload = tus(alice).send("web01.ova", make_tar(members(disk)))
    for _ in range(10):
        Follower().tick()
    for source in ({"upload_id": str(upload.pk)}, {"path": f"upload:{upload.pk}"}):
        asked = {"name": "web01", "source": {"kind": "ova", **source}, "output": {"kind": "files"}}
        response = sender.client.post("/api/v1/conversions", json.dumps(asked), content_type="application/json")
        assert response.status_code == 403, response.content
    assert not Conversion.objects.exists()


@pytest.mark.parametrize("upload_id", ["nonsense", "00000000-0000-0000-0000-000000000000", "../../etc/passwd", ""])
def test_an_upload_that_is_not_there_is_refused_in_words(sender: Any, upload_id: str) -> None:
    asked = {"name": "web01", "source": {"kind": "ova", "upload_id": upload_id}, "output": {"kind": "files"}}
    response = sender.client.post("/api/v1/conversions", json.dumps(asked), content_type="application/json")
    assert response.status_code == 422 and "not there any more" in response.json()["error"]["title"]


def test_an_upload_that_is_still_coming_is_not_converted(sender: Any) -> None:
    url = sender.create("web01.ova", 100_000)["Location"]
    asked = {"name": "web01", "source": {"kind": "ova", "upload_id": url[-36:]}, "output": {"kind": "files"}}
    response = sender.client.post("/api/v1/conversions", json.dumps(asked), content_type="application/json")
    assert response.status_code == 422 and "has not arrived yet" in response.json()["error"]["title"]


# -- opinion -----------------------------------------------------------------------------------------------------------


def ask(sender: Any, name: str, data: bytes, ranges: list[tuple[int, int]] | None = None, **more: Any) -> Any:
    ranges = [(0, len(data))] if ranges is None else ranges
    about = {"name": name, "size": len(data), "modified": "1", "ranges": ranges, **more}
    sent = io.BytesIO(b"".join(data[first : first + length] for first, length in ranges))
    sent.name = "sketch"
    return sender.client.post("/uploads/opinion/", {"about": json.dumps(about), "data": sent})


def tar_sketch(data: bytes) -> list[tuple[int, int]]:
    """Headers, .ovf and .mf, as sketch.js picks them."""
    import tarfile

    ranges = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            ranges.append((info.offset, 512))
            if info.name.endswith((".ovf", ".mf")):
                ranges.append((info.offset_data, -(-info.size // 512) * 512))
            end = info.offset_data + -(-info.size // 512) * 512
    return [*ranges, (end, 1024)]


def test_an_opinion_is_given_on_headers_alone(sender: Any) -> None:
    data = make_tar(good_members())
    answer = ask(sender, "web01.ova", data, tar_sketch(data)).json()
    assert answer["verdict"]["level"] == "good" and answer["problem"] is None and answer["again"] is None
    assert answer["summary"] == "Debian GNU/Linux 12, BIOS, 2 processors, 2.0 GiB of memory, 1 disk of 1.0 GiB"
    assert not Upload.objects.exists()


def test_an_opinion_finds_what_is_missing_without_the_disks_bytes(sender: Any) -> None:
    data = make_tar({"x.ovf": make_ovf(disks=["gone.vmdk"]), "disk1.vmdk": bytes(100_000)})
    answer = ask(sender, "web01.ova", data, tar_sketch(data)).json()
    assert answer["problem"]["code"] == "ova-disk-missing"


def test_an_opinion_on_a_zip_needs_its_table_and_its_ovf(sender: Any) -> None:
    data = zipped(good_members())
    assert ask(sender, "web01.ova", data).json()["verdict"]["level"] == "good"
    assert ask(sender, "web01.ova", data, [(0, 512)]).json()["verdict"]["level"] == "open"


def test_an_opinion_on_half_a_sketch_is_open_not_wrong(sender: Any) -> None:
    data = make_tar(good_members())
    for ranges in ([(0, 512)], tar_sketch(data)[:3], [(0, 100)], []):
        verdict = ask(sender, "web01.ova", data, ranges).json()["verdict"]
        assert verdict["level"] in ("open", "good"), verdict


def test_an_opinion_says_that_there_is_no_room(sender: Any, env: Any) -> None:
    env(upload_quota=1000)
    assert ask(sender, "web01.ova", make_tar(good_members())).json()["problem"]["code"] == "upload-over-quota"


def test_an_opinion_knows_a_file_that_was_begun_and_tells_it_from_its_namesake(sender: Any) -> None:
    data = make_tar(good_members())
    url = sender.create("web01.ova", len(data), modified="1")["Location"]
    sender.patch(url, 0, data[:5000])
    again = ask(sender, "web01.ova", data).json()["again"]
    assert (again["url"], again["offset"], again["state"]) == (url, 5000, "receiving")
    other = make_tar(good_members(name="other", os="<!--" + "x" * 100 + "-->")).ljust(len(data), b"\0")[: len(data)]
    assert ask(sender, "web01.ova", other).json()["again"] is None
    assert ask(sender, "web01.ova", data, modified="2").json()["again"] is None


@pytest.mark.parametrize(
    "about",
    [
        "",
        "[]",
        "{}",
        '{"name": "x.ova", "size": 10, "ranges": [[0, 100]]}',
        '{"name": "x.ova", "size": -1, "ranges": []}',
        '{"name": "x.ova", "size": 99999999999999999999, "ranges": []}',
        '{"name": "x.ova", "size": 10, "ranges": [[-5, 5]]}',
        '{"name": "x.ova", "size": 10, "ranges": [[0]]}',
        '{"name": "x.ova", "size": 10, "ranges": [[0, 5]]}',
    ],
)
def test_nonsense_is_no_opinion(sender: Any, about: str) -> None:
    assert sender.client.post("/uploads/opinion/", {"about": about}).status_code == 400


def test_a_viewer_gets_no_opinion(env: Any, tus: Any, bob: Any) -> None:
    assert ask(tus(bob), "web01.ova", make_tar(good_members())).status_code == 403


def test_an_opinion_leaves_nothing_behind(sender: Any, settings: Any) -> None:
    ask(sender, "web01.ova", make_tar(good_members()))
    assert not list(Path(settings.DATA_DIR).glob("sketch-*"))
