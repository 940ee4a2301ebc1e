"""Downloads that can be taken up again, and the evidence."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import Http404
from django.test import AsyncClient, RequestFactory
from django.utils.http import http_date

from conversions import results
from conversions.jobdir import Job
from conversions.models import Event
from conversions.results import artifact, byte_range, serve_file

BODY = bytes(range(256)) * 4


@pytest.fixture
def done(make_conversion: Callable[..., Any], alice: Any) -> Any:
    return make_conversion(
        alice, state="succeeded", log=b"virt-v2v did it\n", files={"web01-sda": BODY, "web01.yaml": b"kind: VM\n"}
    )


def get(client: Any, row: Any, name: str = "web01-sda", **headers: str) -> Any:
    return client.get(f"/conversions/{row.pk}/files/{name}", headers=headers)


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def test_a_download_is_an_attachment_under_its_own_name(done: Any, alice: Any, log_in: Any) -> None:
    response = get(log_in(alice), done)
    assert response.status_code == 200
    assert body(response) == BODY
    assert response["Content-Length"] == "1024"
    assert response["Content-Disposition"] == 'attachment; filename="web01-sda"'
    assert response["Content-Type"] == "application/octet-stream"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=1000-", (1000, 1024)),
        ("bytes=-24", (1000, 1024)),
        ("bytes=500-99999", (500, 1024)),
    ],
)
def test_a_part_is_sent_as_asked(done: Any, alice: Any, log_in: Any, asked: str, expected: tuple[int, int]) -> None:
    response = get(log_in(alice), done, Range=asked)
    first, end = expected
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {first}-{end - 1}/1024"
    assert response["Content-Length"] == str(end - first)
    assert body(response) == BODY[first:end]


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused_with_the_size(done: Any, alice: Any, log_in: Any, asked: str) -> None:
    response = get(log_in(alice), done, Range=asked)
    assert (response.status_code, response["Content-Range"]) == (416, "bytes */1024")


@pytest.mark.parametrize(
    "asked", ["bytes=9-3", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=" + "9" * 30 + "-"]
)
def test_a_range_that_makes_no_sense_or_is_many_gives_the_whole_file(
    done: Any, alice: Any, log_in: Any, asked: str
) -> None:
    response = get(log_in(alice), done, Range=asked)
    assert (response.status_code, body(response)) == (200, BODY)


def test_a_resumed_download_of_a_changed_file_begins_again(done: Any, alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    first = get(client, done)
    etag, modified = first["ETag"], first["Last-Modified"]
    assert get(client, done, Range="bytes=10-", **{"If-Range": etag}).status_code == 206
    assert get(client, done, Range="bytes=10-", **{"If-Range": modified}).status_code == 206
    (done.output_dir / "web01-sda").write_bytes(BODY + b"more")
    assert get(client, done, Range="bytes=10-", **{"If-Range": etag}).status_code == 200
    assert get(client, done, Range="bytes=10-", **{"If-Range": http_date(1)}).status_code == 200
    assert get(client, done, Range="bytes=10-", **{"If-Range": "nonsense"}).status_code == 200


def test_what_the_browser_has_is_not_sent_again(done: Any, alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    etag = get(client, done)["ETag"]
    assert get(client, done, **{"If-None-Match": f'"other", {etag}'}).status_code == 304


def test_head_tells_the_size_and_sends_nothing(done: Any, alice: Any, log_in: Any) -> None:
    response = log_in(alice).head(f"/conversions/{done.pk}/files/web01-sda")
    assert (response.status_code, response["Content-Length"], response.content) == (200, "1024", b"")


def test_the_part_of_an_empty_file_cannot_be_satisfied() -> None:
    assert byte_range("bytes=0-", 0) == ()
    assert byte_range("bytes=-5", 0) == ()


async def test_under_asgi_a_file_is_streamed_in_pieces(tmp_path: Path) -> None:
    from django.test import AsyncRequestFactory

    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1_000_000)
    response: Any = serve_file(AsyncRequestFactory().get("/"), path, "disk")
    assert response.is_async
    pieces = [piece async for piece in response.streaming_content]
    assert len(pieces) == 4
    assert sum(map(len, pieces)) == 1_000_000


@pytest.mark.parametrize("name", ["../secrets.key", "web01-sdb", "/etc/passwd", "..", "web01-sda/", "web01-sda\0"])
def test_only_names_of_the_list_are_handed_out(done: Any, name: str) -> None:
    (done.output_dir.parent / "secrets.key").write_bytes(b"key")
    with pytest.raises(Http404):
        artifact(done, name)


def test_a_link_out_of_the_folder_is_not_followed_even_when_it_is_in_the_list(done: Any, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    (done.output_dir / "link").symlink_to(tmp_path / "passwd")
    (done.output_dir / "folder").mkdir()
    done.artifacts += [{"name": "link", "size": 4}, {"name": "folder", "size": 4}, {"name": "../../passwd", "size": 4}]
    for name in ("link", "folder", "../../passwd"):
        with pytest.raises(Http404):
            artifact(done, name)


def test_a_file_that_was_removed_is_told_as_not_there(done: Any, alice: Any, log_in: Any) -> None:
    (done.output_dir / "web01-sda").unlink()
    assert get(log_in(alice), done).status_code == 404


def test_a_requester_does_not_get_files_of_others(done: Any, charlie: Any, log_in: Any) -> None:
    client = log_in(charlie)
    for path in ("files/web01-sda", "evidence/", "log/"):
        assert client.get(f"/conversions/{done.pk}/{path}").status_code == 403


def test_who_is_not_logged_in_is_sent_to_the_login(done: Any, client: Any) -> None:
    assert client.get(f"/conversions/{done.pk}/files/web01-sda").status_code == 302


def bundle(client: Any, row: Any) -> dict[str, bytes]:
    response = client.get(f"/conversions/{row.pk}/evidence/")
    assert response.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(body(response)))
    assert archive.testzip() is None
    return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def test_the_evidence_holds_all_that_one_needs_to_judge_from_afar(done: Any, alice: Any, log_in: Any) -> None:
    argv = ["virt-v2v", "-i", "disk", "/srv/a disk.img", "--key", f"ALL:file:{done.jobdir.secrets}/luks-0"]
    done.jobdir.write_job(Job(done.pk, 1, "web01", argv, {"PASSWORD": "hunter2"}, str(done.output_dir), "raw"))
    done.facts = {"virt_v2v_version": "2.2.0", "os": "Debian"}
    done.secrets = {"luks-0": "hunter2"}
    done.save()
    Event.objects.create(conversion=done, attempt=1, type="warning", data={"title": "Careful"}, actor="alice")
    files = bundle(log_in(alice), done)
    assert files["attempt-1/log.txt"] == b"virt-v2v did it\n"
    assert files["attempt-1/command.txt"].startswith(b"virt-v2v -i disk '/srv/a disk.img' --key ALL:file:")
    assert files["result/web01.yaml"] == b"kind: VM\n"
    assert json.loads(files["plan.json"])["name"] == "web01"
    assert json.loads(files["conversion.json"])["state"] == "succeeded"
    assert json.loads(files["versions.json"])["virt_v2v_version"] == "2.2.0"
    events = [json.loads(line) for line in files["events.jsonl"].splitlines()]
    assert [(event["type"], event["actor"], event["title"]) for event in events] == [("warning", "alice", "Careful")]
    assert "web01-sda" not in " ".join(name for name in files if name.startswith("result/"))


def test_secrets_are_nowhere_in_the_evidence(done: Any, alice: Any, log_in: Any) -> None:
    done.jobdir.write_job(Job(done.pk, 1, "web01", ["virt-v2v"], {"X": "hunter2"}, "/out", "raw"))
    done.jobdir.secrets.mkdir()
    (done.jobdir.secrets / "luks-0").write_text("hunter2")
    done.secrets = {"luks-0": "hunter2"}
    done.save()
    response = log_in(alice).get(f"/conversions/{done.pk}/evidence/")
    archive = zipfile.ZipFile(io.BytesIO(body(response)))
    assert len(archive.namelist()) >= 5
    assert not any(b"hunter2" in archive.read(name) for name in archive.namelist())


def test_the_evidence_has_the_logs_of_earlier_attempts(done: Any, alice: Any, log_in: Any) -> None:
    done.attempt = 2
    done.save()
    done.jobdir.path.mkdir(parents=True)
    done.jobdir.log.write_bytes(b"second\n")
    files = bundle(log_in(alice), done)
    assert (files["attempt-1/log.txt"], files["attempt-2/log.txt"]) == (b"virt-v2v did it\n", b"second\n")


def test_a_conversion_that_never_started_has_evidence_too(make_conversion: Any, alice: Any, log_in: Any) -> None:
    files = bundle(log_in(alice), make_conversion(alice))
    assert set(files) == {"conversion.json", "plan.json", "events.jsonl", "versions.json"}


def test_a_bundle_with_a_large_log_comes_in_pieces(tmp_path: Path) -> None:
    import random

    log = tmp_path / "log"
    log.write_bytes(random.Random(1).randbytes(3_000_000))
    pieces = list(results.zipped("x", {}, {"log.txt": log}))
    assert max(map(len, pieces)) < 400_000
    assert len(pieces) > 8


@pytest.mark.django_db(transaction=True)
async def test_the_evidence_is_streamed_under_asgi(make_conversion: Any, alice: Any) -> None:
    from asgiref.sync import sync_to_async

    row = await sync_to_async(make_conversion)(alice, state="failed", log=b"no\n")
    client = AsyncClient()
    await sync_to_async(client.force_login)(alice, "django.contrib.auth.backends.ModelBackend")
    response: Any = await client.get(f"/conversions/{row.pk}/evidence/")
    assert response.is_async
    data = b"".join([piece async for piece in response.streaming_content])
    assert f"v2vweb-{row.pk}-web01/attempt-1/log.txt" in zipfile.ZipFile(io.BytesIO(data)).namelist()


def test_a_name_that_is_no_ascii_survives(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    response = serve_file(RequestFactory().get("/"), tmp_path / "x", 'größe "1".img')
    assert response["Content-Disposition"] == "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe%20%221%22.img"
