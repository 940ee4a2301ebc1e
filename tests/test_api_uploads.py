"""The REST API's part about uploads."""

import hashlib
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Conversion, Upload
from conversions.states import State
from conversions.uploading.follow import Follower
from tests.ova_files import make_tar
from tests.test_follow import disk as disk
from tests.test_follow import members

pytestmark = pytest.mark.django_db


@pytest.fixture
def sender(env: Any, tus: Any, charlie: Any) -> Any:
    return tus(charlie)


def test_an_upload_is_listed_shown_and_removed(sender: Any, disk: bytes, charlie: Any) -> None:
    data = make_tar(members(disk))
    upload = sender.send("web01.ova", data)
    for _ in range(10):
        Follower().tick()
    (listed,) = sender.client.get("/api/v1/uploads").json()["items"]
    shown = sender.client.get(f"/api/v1/uploads/{upload.pk}").json()
    assert shown == listed
    assert (shown["name"], shown["owner"], shown["state"], shown["offset"]) == (
        "web01.ova",
        "charlie",
        "ready",
        len(data),
    )
    assert shown["sha256"] == hashlib.sha256(data).hexdigest() and shown["verdict"]["guest"]["name"] == "web01"
    assert sender.head(shown["url"])["Upload-Offset"] == str(len(data))
    conversion = Conversion.objects.create(name="web01", owner=charlie, plan_json={}, state=State.RUNNING)
    upload.conversions.add(conversion)
    assert sender.client.get(f"/api/v1/uploads/{upload.pk}").json()["conversions"] == [conversion.pk]
    refused = sender.client.delete(f"/api/v1/uploads/{upload.pk}")
    assert refused.status_code == 409 and "is being converted" in refused.json()["error"]["title"]
    Conversion.objects.update(state=State.FAILED, ended=timezone.now())
    assert sender.client.delete(f"/api/v1/uploads/{upload.pk}").status_code == 204
    assert sender.client.get(f"/api/v1/uploads/{upload.pk}").status_code == 404


def test_the_list_is_filtered_and_paged(sender: Any, charlie: Any) -> None:
    for number in range(5):
        Upload.objects.create(
            owner=charlie, name=f"{number}.ova", size=10, state="ready" if number % 2 else "receiving"
        )
    answer = sender.client.get("/api/v1/uploads?state=ready&limit=1").json()
    assert answer["count"] == 2 and [item["name"] for item in answer["items"]] == ["3.ova"]


def test_one_that_is_coming_tells_how_far_it_is(sender: Any) -> None:
    url = sender.create("disk.raw", 100_000)["Location"]
    sender.patch(url, 0, bytes(510) + b"\x55\xaa" + bytes(49_488))
    shown = sender.client.get(f"/api/v1{url}").json()
    assert (shown["state"], shown["offset"], shown["sha256"]) == ("receiving", 50_000, None)


def test_one_that_is_refused_tells_why(sender: Any) -> None:
    url = sender.create("web01.ova", 100_000)["Location"]
    sender.patch(url, 0, b"%PDF" + bytes(1000))
    assert sender.client.get(f"/api/v1{url}").json()["error"]["text"] == "The file is a PDF document."
