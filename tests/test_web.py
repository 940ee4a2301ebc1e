"""The web server keeps nothing in memory for those who read slowly."""

import socket
import time
from pathlib import Path
from typing import Any

from tests.fixtures_live import WebSite

SIZE = 300 * 1024 * 1024


def held(web: WebSite) -> float:
    """MiB that the web server holds."""
    assert web.process
    status = Path(f"/proc/{web.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def ask(web: WebSite, path: str, cookie: str, **headers: str) -> socket.socket:
    """A request whose answer nobody has read yet."""
    client = socket.create_connection(("127.0.0.1", web.port), timeout=30)
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{web.port}", f"Cookie: {cookie}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    return client


def test_downloads_that_nobody_reads_cost_no_memory_and_go_on_when_somebody_does(web: WebSite) -> None:
    [pk] = web.make({"name": "big", "state": "succeeded", "files": {"big-sda": "x"}})
    with (web.data_dir / "output" / f"{pk}-big" / "big-sda").open("wb") as disk:
        disk.truncate(SIZE)
    cookie = "; ".join(f"{c['name']}={c['value']}" for c in web.cookies("alice"))
    ask(web, f"/conversions/{pk}/files/big-sda", cookie, Range="bytes=0-9").recv(4096)  # all code is loaded
    before = held(web)
    clients = [ask(web, f"/conversions/{pk}/files/big-sda", cookie) for _ in range(3)]
    time.sleep(4)
    assert held(web) - before < 40
    reader, *stopped = clients
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += reader.recv(65536)
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert f"content-length: {SIZE}".encode() in head.lower()
    got = len(body)
    while got < SIZE and (piece := reader.recv(1 << 20)):
        got += len(piece)
    assert got == SIZE
    for client in stopped:
        client.close()
    answer: Any = ask(web, "/login/", cookie, Connection="close")
    assert answer.recv(15).startswith(b"HTTP/1.1 200")
    assert held(web) - before < 40
