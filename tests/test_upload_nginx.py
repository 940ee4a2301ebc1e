"""Uploads through nginx as docs/nginx.md sets it up: bodies go past Python, and nobody can misuse that."""

import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tusclient import client as tusclient

from tests.nginx import Nginx
from tests.running import Site
from tests.test_upload_site import make_ova, sha256, uploads


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Nginx]]:
    if not Nginx.program():
        pytest.skip("nginx is not installed (apt install nginx-light)")
    if os.geteuid() != 0:
        pytest.skip("only root can run nginx as the user that v2vweb runs as here")
    site = Site()
    bodies = site.folder / "bodies"
    site.environment["V2VWEB_UPLOAD_BODY_DIR"] = str(bodies)
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), site.port, bodies)
    try:
        site.start()
        site.add_people()
        nginx.start()
        yield site, nginx
    finally:
        nginx.stop()
        site.close()


@pytest.fixture
def token(behind: tuple[Site, Nginx]) -> str:
    return behind[0].manage("token", "charlie").strip().splitlines()[-1]


def test_an_upload_through_nginx_is_whole_and_leaves_no_body(
    behind: tuple[Site, Nginx], token: str, tmp_path: Path
) -> None:
    site, nginx = behind
    ova = make_ova(tmp_path, 100 << 20)
    client = tusclient.TusClient(f"{nginx.url}/uploads/", headers={"Authorization": f"Bearer {token}"})
    uploader = client.uploader(str(ova), chunk_size=16 << 20, metadata={"filename": "nginx.ova"})
    assert uploader.url is None
    while not uploader.url or uploader.offset < ova.stat().st_size:
        uploader.upload_chunk()
    (path,) = uploads(site, "nginx.ova")
    assert sha256(path) == sha256(ova)
    assert not list(nginx.bodies.iterdir())


def _patch(nginx: Nginx, path: str, headers: dict[str, str], body: bytes) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=30)
    said = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    connection.request("PATCH", path, body, said | headers)
    return connection.getresponse()


def _create(nginx: Nginx, token: str, size: int) -> str:
    headers = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0", "Upload-Length": str(size)}
    response = requests.post(f"{nginx.url}/uploads/", headers=headers | {"Upload-Metadata": "filename ZGlzay5yYXc="})
    assert response.status_code == 201
    return str(response.headers["Location"])


def test_nobody_fills_the_disk_without_being_known(behind: tuple[Site, Nginx], token: str) -> None:
    _, nginx = behind
    url = _create(nginx, token, 1 << 20)
    assert _patch(nginx, url, {}, bytes(1 << 20)).status == 401
    assert _patch(nginx, url, {"Authorization": "Bearer v2v_wrong"}, bytes(1 << 20)).status == 401
    assert not list(nginx.bodies.iterdir())


@pytest.mark.parametrize("where", ["/uploads/", "piece"])
def test_a_client_cannot_name_a_file_itself(behind: tuple[Site, Nginx], token: str, where: str) -> None:
    _, nginx = behind
    secret = nginx.bodies / "secret"
    secret.write_bytes(b"not yours")
    url = _create(nginx, token, 9)
    headers = {"Authorization": f"Bearer {token}", "X-Body-File": str(secret)}
    if where == "piece":
        _patch(nginx, url, headers, b"")
    else:
        requests.request(
            "PATCH", f"{nginx.url}{url}/", headers=headers | {"Upload-Offset": "0", "Tus-Resumable": "1.0.0"}
        )
    asked = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
    assert requests.head(f"{nginx.url}{url}", headers=asked).headers["Upload-Offset"] == "0"
    secret.unlink()


def test_pages_and_refusals_come_through(behind: tuple[Site, Nginx], token: str) -> None:
    _, nginx = behind
    assert requests.get(f"{nginx.url}/login/").status_code == 200
    response: Any = requests.post(
        f"{nginx.url}/uploads/",
        headers={"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0", "Upload-Length": "5"}
        | {"Upload-Metadata": "filename eC5wZGY="},
    )
    assert response.status_code == 422 and "x.pdf" in response.json()["error"]["text"]


def test_a_piece_that_breaks_off_leaves_nothing(behind: tuple[Site, Nginx], token: str) -> None:
    import socket

    _, nginx = behind
    url = _create(nginx, token, 8 << 20)
    with socket.create_connection(("127.0.0.1", nginx.port)) as line:
        head = (
            f"PATCH {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: {8 << 20}\r\n\r\n"
        )
        line.sendall(head.encode() + bytes(3 << 20))
    for _ in range(50):
        if not list(nginx.bodies.iterdir()):
            break
        time.sleep(0.1)
    assert not list(nginx.bodies.iterdir())
