"""Uploads in an S3 bucket, against moto's server: parts, the tail, restarts, removal."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from conversions.uploading.stores import s3 as module
from conversions.uploading.stores.base import Body, BusyError, FullError, OffsetError, Place, UnreachableError
from conversions.uploading.stores.s3 import S3Store, part_size

MIB = 1 << 20


@pytest.fixture
def store(s3: S3Store) -> S3Store:
    return s3


def body(data: bytes) -> Body:
    left = [data]

    def read(count: int) -> bytes:
        data, left[0] = left[0][:count], left[0][count:]
        return data

    return Body(len(data), read)


def send(store: S3Store, place: Place, data: bytes, step: int, begin: int = 0) -> None:
    for at in range(begin, len(data), step):
        end = min(at + step, len(data))
        assert store.append(place, at, body(data[at:end])) == end == store.offset(place)


def digest(store: S3Store, place: Place) -> str:
    found = hashlib.sha256()
    with store.reading(place).open("rb") as file:
        while piece := file.read(MIB):
            found.update(piece)
    return found.hexdigest()


@pytest.mark.parametrize("step", [MIB, 5 * MIB, 3 * MIB + 7, 12 * MIB])
def test_pieces_of_any_size_become_one_object_and_nothing_stays_here(store: S3Store, settings: Any, step: int) -> None:
    data = os.urandom(12 * MIB + 345)
    place = Place(f"00000000-0000-0000-0000-{step:012d}", "web01.ova", len(data))
    send(store, place, data, step)
    store.followed(place, len(data))
    assert [path for path in settings.UPLOAD_DIR.rglob("*") if path.is_file()] == []
    assert digest(store, place) == hashlib.sha256(data).hexdigest()


def test_another_process_goes_on_where_the_first_one_stopped(store: S3Store) -> None:
    data = os.urandom(11 * MIB)
    place = Place("00000000-0000-0000-0000-000000000001", "web01.ova", len(data))
    send(store, place, data[: 7 * MIB], MIB)
    again = S3Store()
    assert again.offset(place) == 7 * MIB
    send(again, place, data, MIB, 7 * MIB)
    assert digest(again, place) == hashlib.sha256(data).hexdigest()


def test_a_death_between_part_and_tail_counts_no_byte_twice(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(8 * MIB)
    place = Place("00000000-0000-0000-0000-000000000002", "web01.ova", len(data))
    send(store, place, data[: 4 * MIB], MIB)
    with monkeypatch.context() as dying:
        dying.setattr("pathlib.Path.rename", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.append(place, 4 * MIB, body(data[4 * MIB : 5 * MIB]))
    assert store.offset(place) == 5 * MIB
    send(store, place, data, MIB, 5 * MIB)
    assert digest(store, place) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("offset", [0, MIB - 1, MIB + 1])
def test_bytes_that_do_not_fit_are_refused(store: S3Store, offset: int) -> None:
    place = Place(f"00000000-0000-0000-0001-{offset:012d}", "web01.ova", 10 * MIB)
    send(store, place, os.urandom(MIB), MIB)
    with pytest.raises(OffsetError) as caught:
        store.append(place, offset, body(b"x"))
    assert caught.value.offset == MIB == store.offset(place)


def test_one_writer_at_a_time(store: S3Store) -> None:
    place = Place("00000000-0000-0000-0000-000000000003", "web01.ova", 10 * MIB)
    send(store, place, os.urandom(MIB), MIB)
    with store._lock(store._folder(place)), pytest.raises(BusyError):
        S3Store().append(place, MIB, body(b"x"))


def test_removal_takes_parts_object_and_tail(store: S3Store, settings: Any) -> None:
    place = Place("00000000-0000-0000-0000-000000000004", "web01.ova", 10 * MIB)
    send(store, place, os.urandom(7 * MIB), MIB)
    store.remove(place)
    open_ones = store.client.list_multipart_uploads(Bucket="uploads").get("Uploads", [])
    assert store.offset(place) == 0 and place.folder not in {one["Key"].split("/")[0] for one in open_ones}
    whole = Place("00000000-0000-0000-0000-000000000005", "web01.ova", MIB)
    send(store, whole, os.urandom(MIB), MIB)
    store.remove(whole)
    assert store.offset(whole) == 0
    assert [path for path in settings.UPLOAD_DIR.rglob("*") if path.is_file()] == []


def test_the_largest_files_fit_into_the_parts_that_s3_allows(env: Any) -> None:
    env(upload_chunk=16 * MIB)
    assert part_size(1 << 30) == 16 * MIB
    for size in (500 << 30, 5 << 40):
        assert -(-size // part_size(size)) <= 10_000


def test_a_part_that_could_not_be_sent_goes_when_the_bucket_answers_again(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(11 * MIB)
    place = Place("00000000-0000-0000-0000-000000000006", "web01.ova", len(data))
    send(store, place, data[: 4 * MIB], MIB)
    with out_of_reach(store, monkeypatch), pytest.raises(UnreachableError):
        store.append(place, 4 * MIB, body(data[4 * MIB : 5 * MIB]))
    assert store.offset(place) == 5 * MIB  # acknowledged or not, nothing is lost
    send(store, place, data[: 10 * MIB], MIB, 5 * MIB)
    with out_of_reach(store, monkeypatch), pytest.raises(UnreachableError):
        store.append(place, 10 * MIB, body(data[10 * MIB :]))
    assert store.offset(place) == len(data)
    assert store.client.head_object(Bucket="uploads", Key=store.key(place))["ContentLength"] == len(data)
    assert digest(store, place) == hashlib.sha256(data).hexdigest()


def test_a_file_is_whole_only_when_the_bucket_has_made_an_object_of_it(store: S3Store) -> None:
    data = os.urandom(6 * MIB)
    place = Place("00000000-0000-0000-0000-000000000011", "web01.ova", len(data))
    send(store, place, data[: 5 * MIB], MIB)
    (store._folder(place) / "tail-2").write_bytes(data[5 * MIB :])  # the web process has written this, and goes on
    with store._lock(store._folder(place)):
        assert store.offset(place) == len(data) - 1
    assert store.offset(place) == len(data) and digest(store, place) == hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def out_of_reach(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bucket refuses every connection within."""
    with monkeypatch.context() as patch:

        def refuse(*args: object, **kwargs: object) -> None:
            raise EndpointConnectionError(endpoint_url="http://bucket")

        patch.setattr(type(store.client), "_make_api_call", refuse)
        yield


def test_what_was_sent_is_here_to_be_read_until_the_follower_has_read_it(store: S3Store, settings: Any) -> None:
    data = os.urandom(12 * MIB)
    place = Place("00000000-0000-0000-0000-000000000007", "web01.ova", 20 * MIB)
    send(store, place, data, 3 * MIB)
    with store.reading(place).open("rb", buffering=0) as file:
        read = b""
        while piece := file.read(MIB):
            read += piece
    assert read == data
    store.followed(place, 6 * MIB)
    kept = {path.name for path in settings.UPLOAD_DIR.rglob("seen-*")}
    assert kept == {f"seen-{5 * MIB}"}
    with store.reading(place).open("rb", buffering=0) as file:
        assert file.read(10) == b""  # gone from here, and the bucket gives nothing back yet


def test_parts_that_nobody_reads_do_not_fill_the_disk(
    store: S3Store, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 11 * MIB)
    data = os.urandom(26 * MIB)
    place = Place("00000000-0000-0000-0000-000000000008", "web01.ova", len(data))
    send(store, place, data, 5 * MIB)
    assert sum(path.stat().st_size for path in settings.UPLOAD_DIR.rglob("*") if path.is_file()) <= 11 * MIB
    assert digest(store, place) == hashlib.sha256(data).hexdigest()  # from here and from the bucket


def test_ranges_are_read_without_the_rest(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(12 * MIB)
    place = Place("00000000-0000-0000-0000-000000000009", "web01.ova", len(data))
    send(store, place, data, 5 * MIB)
    store.followed(place, len(data))
    asked: list[tuple[int, int]] = []
    stream = store.stream
    monkeypatch.setattr(store, "stream", lambda place, *range: asked.append(range) or stream(place, *range))
    with store.reading(place).open("rb") as file:
        assert file.read(512) == data[:512]
        file.seek(-700, os.SEEK_END)
        assert file.read() == data[-700:]
    assert sum(end - first for first, end in asked) <= 2 * MIB
    store.remove(place)
    with store.reading(place).open("rb") as file, pytest.raises(FileNotFoundError):
        file.read(1)


def test_a_full_disk_keeps_what_was_written(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("00000000-0000-0000-0000-000000000010", "web01.ova", 10 * MIB)
    send(store, place, os.urandom(MIB), MIB)
    opened = Path.open
    with monkeypatch.context() as full:

        def no_space(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if mode == "ab":
                raise OSError(errno.ENOSPC, "No space left on device")
            return opened(path, mode, *args, **kwargs)

        full.setattr(Path, "open", no_space)
        with pytest.raises(FullError):
            store.append(place, MIB, body(b"x"))
    assert store.offset(place) == MIB


def test_a_disk_that_is_full_at_the_beginning_spoils_nothing(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(6 * MIB)
    place = Place("00000000-0000-0000-0000-000000000012", "web01.ova", len(data))
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(FullError):
            store.append(place, 0, body(data))
    open_ones = store.client.list_multipart_uploads(Bucket="uploads").get("Uploads", [])
    assert place.folder not in {one["Key"].split("/")[0] for one in open_ones}, "nobody would ever take it away"
    send(store, place, data, MIB)
    assert digest(store, place) == hashlib.sha256(data).hexdigest()


def test_a_disk_that_is_full_while_a_part_is_noted_loses_no_part(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(12 * MIB)
    place = Place("00000000-0000-0000-0000-000000000013", "web01.ova", len(data))
    send(store, place, data[: 4 * MIB], MIB)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(FullError):
            store.append(place, 4 * MIB, body(data[4 * MIB : 5 * MIB]))
    journal = store._folder(place) / "parts"
    journal.write_text(journal.read_text()[:20])  # so much of the line was written
    assert store.offset(place) == 5 * MIB
    send(store, place, data, MIB, 5 * MIB)
    assert digest(store, place) == hashlib.sha256(data).hexdigest()


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_bucket_that_does_not_answer_is_not_waited_for_for_long(store: S3Store) -> None:
    config = store.client.meta.config
    assert config.connect_timeout <= 5 and config.retries["total_max_attempts"] == 2
    assert config.s3["addressing_style"] == "path" and config.signature_version == "s3v4"


def test_without_a_bucket_in_the_settings_it_says_so(settings: Any) -> None:
    with pytest.raises(UnreachableError, match="V2VWEB_S3_BUCKET"):
        S3Store()
