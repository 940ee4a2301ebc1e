"""Uploads in an S3 bucket, against moto's server: parts, the tail, restarts, removal."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from conversions.stores.base import Body, BusyError, OffsetError, Place
from conversions.stores.s3 import S3Store, part_size

moto_server = pytest.importorskip("moto.server")
MIB = 1 << 20


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str, env: Any, settings: Any) -> Iterator[S3Store]:
    env(upload_chunk=5 * MIB)
    options = {
        "bucket_name": "uploads",
        "endpoint_url": endpoint,
        "access_key": "test",
        "secret_key": "test",
        "region_name": "us-east-1",
    }
    default = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    with override_settings(STORAGES=settings.STORAGES | {"default": default}):
        store = S3Store()
        store.client.create_bucket(Bucket="uploads")
        yield store


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
    for piece in store.read(place):
        found.update(piece)
    return found.hexdigest()


@pytest.mark.parametrize("step", [MIB, 5 * MIB, 3 * MIB + 7, 12 * MIB])
def test_pieces_of_any_size_become_one_object_and_nothing_stays_here(store: S3Store, settings: Any, step: int) -> None:
    data = os.urandom(12 * MIB + 345)
    place = Place(f"00000000-0000-0000-0000-{step:012d}", "web01.ova", len(data))
    send(store, place, data, step)
    assert digest(store, place) == hashlib.sha256(data).hexdigest()
    assert [path for path in settings.UPLOAD_DIR.rglob("*") if path.is_file()] == []


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
        dying.setattr("pathlib.Path.unlink", lambda *_, **__: 1 / 0)
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
