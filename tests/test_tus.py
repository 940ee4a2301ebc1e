"""tus 1.0 under /uploads/: the protocol, who may speak it, and every refusal with its number and sentence."""

import base64
import fcntl
import os
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from conversions import tokens
from conversions.models import Upload
from conversions.uploading.stores.local import LocalStore
from conversions.uploading.uploaded import place_of
from tests.fixtures_uploads import TUS, Tus
from tests.ova_files import good_members, make_tar

pytestmark = pytest.mark.django_db
OVA = make_tar(good_members())


def problem(response: Any) -> dict[str, Any]:
    told: dict[str, Any] = response.json()["error"]
    assert told["title"] and told["text"].endswith(".")
    return told


@pytest.fixture
def sender(env: Any, tus: Any, charlie: Any) -> Any:
    """Charlie of the help desk, who sends files."""
    return tus(charlie)


def test_options_tell_what_the_server_can(sender: Any) -> None:
    response = sender.client.options("/uploads/")
    assert response.status_code == 204
    assert response["Tus-Version"] == "1.0.0" == response["Tus-Resumable"]
    assert set(response["Tus-Extension"].split(",")) == {"creation", "expiration", "termination"}
    assert int(response["Tus-Max-Size"]) > 1 << 40 and int(response["V2vweb-Chunk-Size"]) == 16 << 20


def test_a_file_comes_in_pieces_and_lies_there_once(sender: Any) -> None:
    created = sender.create("web 01.ova", len(OVA))
    assert created.status_code == 201 and created["Upload-Expires"]
    url = created["Location"]
    head = sender.head(url)
    assert (head.status_code, head["Upload-Offset"], head["Upload-Length"]) == (200, "0", str(len(OVA)))
    assert base64.b64decode(head["Upload-Metadata"].split()[1]).decode() == "web 01.ova"
    assert head["Cache-Control"] == "no-store"
    first = sender.patch(url, 0, OVA[:5000])
    assert (first.status_code, first["Upload-Offset"], first["Tus-Resumable"]) == (204, "5000", "1.0.0")
    assert sender.head(url)["Upload-Offset"] == "5000"
    assert sender.patch(url, 5000, OVA[5000:])["Upload-Offset"] == str(len(OVA))
    upload = Upload.objects.get()
    path = LocalStore().path(place_of(upload))
    assert path.read_bytes() == OVA and path.name == "web_01.ova"
    assert path.stat().st_mode & 0o077 == 0
    assert [p for p in path.parent.parent.rglob("*") if p.is_file()] == [path], "written once, nowhere else"
    assert upload.state == "checking" and upload.verdict["guest"]["os"] == "Debian GNU/Linux 12"


def test_the_offset_is_what_is_on_disk(sender: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:5000])
    upload = Upload.objects.get()
    with LocalStore().path(place_of(upload)).open("r+b") as file:
        file.truncate(3000)  # as after a power cut
    assert sender.head(url)["Upload-Offset"] == "3000"
    assert sender.patch(url, 3000, OVA[3000:]).status_code == 204


@pytest.mark.parametrize("offset", [0, 4999, 5001])
def test_a_piece_that_does_not_fit_is_409_and_changes_nothing(sender: Any, offset: int) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:5000])
    response = sender.patch(url, offset, b"x" * 100)
    assert response.status_code == 409 and "5000 bytes are there" in problem(response)["text"]
    assert sender.head(url)["Upload-Offset"] == "5000"


def test_a_second_writer_is_423(sender: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:5000])
    fd = os.open(LocalStore().path(place_of(Upload.objects.get())), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    response = sender.patch(url, 5000, OVA[5000:])
    assert response.status_code == 423 and problem(response)["code"] == "upload-busy"
    os.close(fd)
    assert sender.patch(url, 5000, OVA[5000:]).status_code == 204


def test_pieces_larger_than_the_setting_are_413(sender: Any, env: Any) -> None:
    env(upload_chunk=1 << 16)
    url = sender.create("disk.raw", 1 << 20)["Location"]
    response = sender.patch(url, 0, bytes((1 << 16) + 1))
    assert response.status_code == 413 and problem(response)["code"] == "upload-chunk-too-large"


def test_more_than_was_announced_is_413(sender: Any) -> None:
    url = sender.create("web01.ova", 1000)["Location"]
    assert problem(sender.patch(url, 0, OVA[:1001]))["code"] == "upload-too-long"
    assert sender.head(url)["Upload-Offset"] == "0"


def test_a_file_that_cannot_work_is_refused_with_its_first_piece(sender: Any) -> None:
    url = sender.create("web01.ova", 60 << 30)["Location"]
    response = sender.patch(url, 0, b"QFI\xfb" + bytes(5000))
    assert response.status_code == 422
    assert problem(response)["text"] == "The file is a qcow2 disk image."
    upload = Upload.objects.get()
    assert upload.state == "refused" and not LocalStore().path(place_of(upload)).exists()
    assert sender.head(url).status_code == 410
    assert sender.patch(url, 5004, b"x").status_code == 422


@pytest.mark.parametrize("name", ["notes.pdf", "photo.jpg", "disk", "cd.iso"])
def test_a_kind_of_file_that_nobody_can_convert_is_refused_before_its_first_byte(sender: Any, name: str) -> None:
    response = sender.create(name, 1000)
    assert response.status_code == 422 and name in problem(response)["text"]
    assert not Upload.objects.exists()


def test_an_empty_file_is_refused(sender: Any) -> None:
    assert problem(sender.create("web01.ova", 0))["code"] == "upload-size"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"HTTP_UPLOAD_LENGTH": "many"}, 400),
        ({"HTTP_UPLOAD_LENGTH": "-5"}, 400),
        ({"HTTP_UPLOAD_LENGTH": "9" * 40}, 400),
        ({"HTTP_UPLOAD_LENGTH": "5", "HTTP_UPLOAD_METADATA": "filename !!"}, 400),
        ({"HTTP_UPLOAD_LENGTH": "5", "HTTP_UPLOAD_METADATA": ""}, 400),
        ({"HTTP_TUS_RESUMABLE": "0.2.2", "HTTP_UPLOAD_LENGTH": "5"}, 412),
    ],
)
def test_a_creation_that_is_no_tus_is_refused(sender: Any, headers: dict[str, str], status: int) -> None:
    response = sender.client.post("/uploads/", content_type="text/plain", **(TUS | headers))
    assert response.status_code == status
    if status == 412:
        assert response["Tus-Version"] == "1.0.0"


def test_a_patch_of_another_type_is_415(sender: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    response = sender.client.patch(url, b"x", content_type="text/plain", **TUS, HTTP_UPLOAD_OFFSET="0")
    assert response.status_code == 415


def test_a_method_can_be_overridden(sender: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    response = sender.client.post(
        url,
        OVA,
        content_type="application/offset+octet-stream",
        **TUS,
        HTTP_UPLOAD_OFFSET="0",
        HTTP_X_HTTP_METHOD_OVERRIDE="PATCH",
    )
    assert response.status_code == 204 and response["Upload-Offset"] == str(len(OVA))


@pytest.mark.parametrize("really", ["head", "options"])
def test_no_method_that_needs_no_csrf_token_stands_for_another(sender: Any, really: str) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    getattr(sender.client, really)(url, **TUS, HTTP_X_HTTP_METHOD_OVERRIDE="DELETE")
    assert Upload.objects.exists()


def test_termination_removes_row_and_bytes(sender: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:5000])
    path = LocalStore().path(place_of(Upload.objects.get()))
    assert sender.client.delete(url, **TUS).status_code == 204
    assert not Upload.objects.exists() and not path.parent.exists()
    assert sender.head(url).status_code == 404
    assert sender.patch(url, 5000, b"x").status_code == 404


# -- who ---------------------------------------------------------------------------------------------------------------


def test_nobody_gets_401(env: Any, db: None) -> None:
    assert Client().post("/uploads/", **TUS, HTTP_UPLOAD_LENGTH="5", content_type="text/plain").status_code == 401
    assert Client().head(f"/uploads/{uuid.uuid4()}", **TUS).status_code == 401


def test_a_viewer_may_not_send(env: Any, tus: Any, bob: Any) -> None:
    response = tus(bob).create("web01.ova", 1000)
    assert response.status_code == 403 and "not send files" in problem(response)["text"]


def test_an_upload_of_somebody_else_does_not_exist_for_a_requester(
    env: Any, tus: Any, alice: Any, charlie: Any
) -> None:
    url = tus(alice).create("web01.ova", len(OVA))["Location"]
    assert tus(charlie).head(url).status_code == 404
    assert tus(charlie).patch(url, 0, OVA).status_code == 404
    assert tus(charlie).client.delete(url, **TUS).status_code == 404
    assert tus(charlie).client.get(url + "/").status_code == 403


def test_an_operator_may_go_on_with_a_requesters_upload(sender: Any, tus: Any, alice: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    assert tus(alice).patch(url, 0, OVA).status_code == 204


def test_a_session_needs_the_csrf_token(env: Any, charlie: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(charlie, backend="django.contrib.auth.backends.ModelBackend")
    headers = TUS | {"HTTP_UPLOAD_LENGTH": "1000", "HTTP_UPLOAD_METADATA": "filename d2ViLm92YQ=="}
    response = client.post("/uploads/", content_type="text/plain", **headers)
    assert response.status_code == 403 and problem(response)["code"] == "csrf"
    client.get("/uploads/")
    token = client.cookies["csrftoken"].value
    assert client.post("/uploads/", content_type="text/plain", **headers, HTTP_X_CSRFTOKEN=token).status_code == 201


def test_a_bearer_token_needs_no_session(env: Any, charlie: Any) -> None:
    _, text = tokens.create(charlie)
    client = Client(enforce_csrf_checks=True)
    headers = TUS | {"HTTP_AUTHORIZATION": f"Bearer {text}", "HTTP_UPLOAD_METADATA": "filename d2ViLm92YQ=="}
    created = client.post("/uploads/", content_type="text/plain", HTTP_UPLOAD_LENGTH=str(len(OVA)), **headers)
    assert created.status_code == 201
    assert Upload.objects.get().owner == charlie
    bad = client.head(created["Location"], **(headers | {"HTTP_AUTHORIZATION": "Bearer v2v_wrong"}))
    assert bad.status_code == 401 and "Bearer" in bad["WWW-Authenticate"]


def test_a_piece_in_the_middle_costs_a_few_reads_and_no_write(
    env: Any, charlie: Any, django_assert_num_queries: Any
) -> None:
    _, text = tokens.create(charlie)
    client = Tus(Client(headers={"Authorization": f"Bearer {text}"}))
    url = client.create("web01.ova", len(OVA))["Location"]
    client.patch(url, 0, OVA[:5000])  # its verdict is noted, and when the token was used
    with django_assert_num_queries(4) as seen:  # token and person, roles, upload, quota
        assert client.patch(url, 5000, OVA[5000:6000]).status_code == 204
    assert all(query["sql"].startswith("SELECT") for query in seen.captured_queries)


def test_pieces_put_off_the_end_of_an_unfinished_upload(sender: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:5000])
    before = timezone.now() - timedelta(minutes=1)
    Upload.objects.update(touched=before, expires=before + timedelta(hours=1))
    sender.patch(url, 5000, OVA[5000:6000])
    upload = Upload.objects.get()
    assert upload.touched > before + timedelta(seconds=30)
    assert upload.expires and upload.expires > before + timedelta(days=1)


def test_a_role_taken_away_stops_an_upload_at_its_next_piece(sender: Any, charlie: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    assert sender.patch(url, 0, OVA[:5000]).status_code == 204
    charlie.groups.clear()
    assert sender.patch(url, 5000, OVA[5000:]).status_code == 403


# -- room --------------------------------------------------------------------------------------------------------------


def test_a_persons_quota_counts_what_is_announced(env: Any, tus: Any, charlie: Any, alice: Any) -> None:
    env(upload_quota=10_000)
    assert tus(charlie).create("a.ova", 6000).status_code == 201
    response = tus(charlie).create("b.ova", 6000)
    assert response.status_code == 413 and "3.9 KiB more" in problem(response)["text"]
    assert tus(alice).create("b.ova", 6000).status_code == 201, "a quota is each person's own"
    Upload.objects.filter(name="a.ova").delete()
    assert tus(charlie).create("b.ova", 6000).status_code == 201


def test_the_quota_of_all_counts_everybodys(env: Any, tus: Any, charlie: Any, alice: Any) -> None:
    env(upload_quota_all=10_000)
    assert tus(charlie).create("a.ova", 6000).status_code == 201
    assert tus(alice).create("b.ova", 6000).status_code == 413


@pytest.mark.parametrize("quota", ["upload_quota", "upload_quota_all"])
def test_a_quota_that_was_made_smaller_stops_an_upload_and_loses_nothing(
    env: Any, tus: Any, charlie: Any, quota: str
) -> None:
    env(**{quota: 2 * len(OVA)})
    sender = tus(charlie)
    url = sender.create("web01.ova", len(OVA))["Location"]
    assert sender.patch(url, 0, OVA[:5000]).status_code == 204
    env(**{quota: len(OVA) - 1})
    response = sender.patch(url, 5000, OVA[5000:])
    assert response.status_code == 403 and "Nothing that was sent is lost" in problem(response)["text"]
    env(**{quota: len(OVA)})
    assert sender.head(url)["Upload-Offset"] == "5000"
    assert sender.patch(url, 5000, OVA[5000:]).status_code == 204


def test_bytes_still_owed_to_others_count_as_taken(env: Any, tus: Any, charlie: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(LocalStore, "free", lambda self: 100_000)
    assert tus(charlie).create("a.ova", 60_000).status_code == 201
    response = tus(charlie).create("b.ova", 60_000)
    assert response.status_code == 507 and "39 KiB" in problem(response)["text"]


def test_uploads_pause_at_the_reserve_and_go_on(sender: Any, env: Any, monkeypatch: Any) -> None:
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:5000])
    env(upload_reserve=1 << 30)
    monkeypatch.setattr(LocalStore, "free", lambda self: 1 << 30)
    response = sender.patch(url, 5000, OVA[5000:])
    assert response.status_code == 507 and response["Retry-After"]
    assert "Nothing that was sent is lost" in problem(response)["text"]
    assert sender.head(url)["Upload-Offset"] == "5000"
    monkeypatch.undo()
    env(upload_reserve=0)
    assert sender.patch(url, 5000, OVA[5000:]).status_code == 204


# -- nginx -------------------------------------------------------------------------------------------------------------


def test_a_body_that_nginx_has_put_down_is_taken_from_its_file(sender: Any, env: Any, tmp_path: Any) -> None:
    folder = tmp_path / "bodies"
    folder.mkdir()
    (folder / "0001").write_bytes(OVA)
    env(upload_body_dir=folder)
    url = sender.create("web01.ova", len(OVA))["Location"]
    response = sender.patch(url, 0, b"", HTTP_X_BODY_FILE=str(folder / "0001"))
    assert response.status_code == 204 and response["Upload-Offset"] == str(len(OVA))
    assert LocalStore().path(place_of(Upload.objects.get())).read_bytes() == OVA


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "link", "sub/file", ".", ""])
def test_no_other_file_is_taken_for_a_body(sender: Any, env: Any, tmp_path: Any, name: str) -> None:
    folder = tmp_path / "bodies"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(OVA)
    (tmp_path / "secret").write_bytes(OVA)
    (folder / "link").symlink_to(tmp_path / "secret")
    env(upload_body_dir=folder)
    url = sender.create("web01.ova", len(OVA))["Location"]
    asked = name if name.startswith("/") or not name else f"{folder}/{name}"
    response = sender.patch(url, 0, b"", HTTP_X_BODY_FILE=asked)
    assert response.status_code in (400, 500) or response["Upload-Offset"] == "0"
    assert sender.head(url)["Upload-Offset"] == "0"


def test_without_nginx_the_header_means_nothing(sender: Any, tmp_path: Any) -> None:
    (tmp_path / "secret").write_bytes(OVA)
    url = sender.create("web01.ova", len(OVA))["Location"]
    sender.patch(url, 0, OVA[:100], HTTP_X_BODY_FILE=str(tmp_path / "secret"))
    assert sender.head(url)["Upload-Offset"] == "100"
