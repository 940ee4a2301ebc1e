"""Bodies of requests while they arrive: how large they may be, and what a full disk does to them."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(V2VWEB_UPLOAD_CHUNK="1M")
    try:
        site.start()
        yield site
    finally:
        site.close()


def answer(site: Site, head: str, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends what is no proper request, perhaps, and reads what comes back."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as line:
        line.sendall(f"{head}\r\nHost: localhost\r\n".encode())
        try:
            for piece in pieces:
                line.sendall(piece)
        except OSError:
            pass  # it has hung up, which is the point
        response = http.client.HTTPResponse(line)
        response.begin()
        return response.status, dict(response.headers), response.read()


@pytest.mark.parametrize(
    "head", ["POST /login/ HTTP/1.1", "POST /api/v1/conversions HTTP/1.1", "PUT /nothing HTTP/1.1"]
)
def test_a_body_larger_than_any_that_we_need_is_cut_off_at_its_announcement(site: Site, head: str) -> None:
    status, headers, body = answer(site, f"{head}\r\nContent-Length: {1 << 40}", b"\r\n")
    assert status == 413 and headers["Connection"] == "close"
    assert json.loads(body)["error"]["text"].endswith(".")


def test_a_piece_of_an_upload_may_have_the_size_that_is_set_and_no_more(site: Site) -> None:
    path = "/uploads/00000000-0000-0000-0000-000000000000"
    status, _, _ = answer(site, f"PATCH {path} HTTP/1.1\r\nContent-Length: {3 << 20}", b"\r\n")
    assert status == 413
    status, _, _ = answer(site, f"PATCH {path} HTTP/1.1\r\nContent-Length: {1 << 20}", b"\r\n", bytes(1 << 20))
    assert status == 412, "it gets to tus, which misses its header"


def test_a_body_without_an_announced_length_is_cut_off_while_it_comes(site: Site) -> None:
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    status, _, _ = answer(site, "POST /login/ HTTP/1.1\r\nTransfer-Encoding: chunked", b"\r\n", *[chunk] * 40)
    assert status == 413


def test_nothing_is_left_of_a_piece_whose_sender_is_nobody(site: Site) -> None:
    path = "/uploads/00000000-0000-0000-0000-000000000000"
    head = f"PATCH {path} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nContent-Length: {1 << 20}"
    status, _, _ = answer(site, head, b"\r\n", bytes(1 << 20))
    assert status == 401
    assert [file for file in Path(site.data_dir, "uploads").rglob("*") if file.is_file()] == []


def test_small_requests_on_one_connection_go_on_as_ever(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    for _ in range(3):
        connection.request("GET", "/login/")
        response = connection.getresponse()
        assert response.status == 200 and b"<form" in response.read()
