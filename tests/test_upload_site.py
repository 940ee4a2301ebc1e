"""Uploads to a running v2vweb: a tus client of somebody else, a browser, restarts in the middle."""

import hashlib
import os
import re
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from tusclient import client as tusclient

from tests.ova_files import make_ovf
from tests.running import Site


def make_ova(folder: Path, size: int, name: str = "web01.ova", seed: int = 1) -> Path:
    """An OVA with a VMDK of about `size` bytes of noise, made without holding it in memory."""
    raw, disk = folder / f"{seed}.raw", folder / f"{seed}.vmdk"
    with raw.open("wb") as file:
        for number in range(size >> 20):
            file.write(hashlib.shake_128(f"{seed}-{number}".encode()).digest(1 << 20))
    command = ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", str(raw), str(disk)]
    subprocess.run(command, check=True)
    raw.unlink()
    (folder / "web01.ovf").write_bytes(make_ovf(capacity=size >> 20, units="byte * 2^20"))
    digests = "".join(
        f"SHA256({name})= {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for name, path in (("web01.ovf", folder / "web01.ovf"), ("disk1.vmdk", disk))
    )
    (folder / "web01.mf").write_text(digests)
    ova = folder / name
    with tarfile.open(ova, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, path in (
            ("web01.ovf", folder / "web01.ovf"),
            ("web01.mf", folder / "web01.mf"),
            ("disk1.vmdk", disk),
        ):
            archive.add(path, member)
    disk.unlink()
    return ova


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def uploads(site: Site, name: str) -> list[Path]:
    return sorted((site.data_dir / "uploads").glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)


def wait(condition: Any, seconds: float = 60, pause: float = 0.1) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)
    return value


def kill_web(site: Site) -> None:
    """Ends the web server with -9; what started it starts it again."""
    for pid in site.pids("v2vweb.web"):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ova(tmp_path_factory.mktemp("ova"), 200 << 20)


@pytest.fixture
def token(site: Site) -> str:
    return site.manage("token", "charlie").strip().splitlines()[-1]


def test_tuspy_uploads_and_resumes_after_the_server_was_killed(site: Site, ova: Path, token: str) -> None:
    client = tusclient.TusClient(f"{site.url}/uploads/", headers={"Authorization": f"Bearer {token}"})
    first = client.uploader(str(ova), chunk_size=4 << 20, metadata={"filename": "tuspy.ova"})
    first.upload(stop_at=80 << 20)
    assert first.url
    kill_web(site)
    second = wait(lambda: _resumed(client, ova, first.url))
    assert second.offset == 80 << 20, "nothing that was acknowledged is lost"
    second.upload()
    (path,) = uploads(site, "tuspy.ova")
    assert sha256(path) == sha256(ova)


def _resumed(client: Any, ova: Path, url: str) -> Any:
    try:
        return client.uploader(str(ova), url=url, chunk_size=4 << 20)
    except requests.RequestException:
        return None


def test_a_piece_that_breaks_off_costs_no_more_than_itself(site: Site, ova: Path, token: str) -> None:
    import socket

    client = tusclient.TusClient(f"{site.url}/uploads/", headers={"Authorization": f"Bearer {token}"})
    uploader = client.uploader(str(ova), chunk_size=4 << 20, metadata={"filename": "broken.ova"})
    uploader.upload(stop_at=8 << 20)
    with socket.create_connection(("127.0.0.1", site.port)) as line:
        head = (
            f"PATCH {uploader.url.split(str(site.port))[1]} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
            f"Upload-Offset: {8 << 20}\r\nContent-Length: {8 << 20}\r\n\r\n"
        )
        line.sendall(head.encode() + bytes(3 << 20))
    time.sleep(0.5)
    uploader.upload()
    (path,) = uploads(site, "broken.ova")
    assert sha256(path) == sha256(ova)


# -- browser -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def context(site: Site, chromium: Any) -> Any:
    context = chromium.new_context()
    context.add_cookies(site.cookies("charlie"))
    yield context
    context.close()


def item(page: Any, name: str) -> Any:
    return page.locator(".upload-item", has=page.get_by_text(name, exact=True))


@pytest.mark.browser
def test_a_browser_uploads_over_a_killed_server(site: Site, ova: Path, context: Any, tmp_path: Path) -> None:
    copy = tmp_path / "killed.ova"
    copy.hardlink_to(ova)
    page = context.new_page()
    failures: list[str] = []
    page.on("console", lambda message: failures.append(message.text) if "Content Security" in message.text else None)
    page.goto(f"{site.url}/uploads/")
    page.set_input_files("#files", str(copy))
    row = item(page, "killed.ova")
    row.get_by_text("Debian GNU/Linux 12", exact=False).wait_for()
    path = wait(lambda: next(iter(uploads(site, "killed.ova")), None))
    wait(lambda: path.stat().st_size > copy.stat().st_size * 0.4)
    kill_web(site)
    row.get_by_text("You may close this page.", exact=False).wait_for(timeout=90_000)
    assert sha256(path) == sha256(copy)
    assert len(uploads(site, "killed.ova")) == 1
    row.get_by_role("link", name="Look at it and convert").click()
    page.get_by_text("The file is here and whole.").wait_for(timeout=30_000)
    assert page.locator("#sha256").inner_text() == sha256(copy)
    assert "2 of 2 compared and right" in page.content()
    assert not failures


@pytest.mark.browser
def test_another_browser_goes_on_where_the_first_one_stopped(
    site: Site, ova: Path, chromium: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "twice.ova"
    copy.hardlink_to(ova)
    first = chromium.new_context()
    first.add_cookies(site.cookies("charlie"))
    page = first.new_page()
    page.goto(f"{site.url}/uploads/")
    page.set_input_files("#files", str(copy))
    path = wait(lambda: next(iter(uploads(site, "twice.ova")), None))
    wait(lambda: path.stat().st_size > 16 << 20)
    assert "Keep this page open" in page.locator("#safe").inner_text()
    first.close()
    time.sleep(1)
    reached = path.stat().st_size
    assert 0 < reached < copy.stat().st_size
    second = chromium.new_context()  # nothing of the first one's storage
    second.add_cookies(site.cookies("charlie"))
    page = second.new_page()
    page.goto(f"{site.url}/uploads/")
    page.get_by_text("% is here", exact=False).first.wait_for()
    page.set_input_files("#files", str(copy))
    item(page, "twice.ova").get_by_text("You may close this page.", exact=False).wait_for(timeout=60_000)
    assert uploads(site, "twice.ova") == [path] and sha256(path) == sha256(copy)
    second.close()


@pytest.mark.browser
def test_a_file_that_cannot_work_is_refused_before_a_byte_is_sent(site: Site, context: Any, tmp_path: Path) -> None:
    bad = tmp_path / "vapp.ova"
    with tarfile.open(bad, "w") as archive:
        (tmp_path / "x.ovf").write_bytes(make_ovf(disks=["gone.vmdk"]))
        archive.add(tmp_path / "x.ovf", "x.ovf")
    page = context.new_page()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method in ("PATCH",) else None)
    page.goto(f"{site.url}/uploads/")
    page.set_input_files("#files", str(bad))
    row = item(page, "vapp.ova")
    row.get_by_text("Not sent", exact=False).wait_for()
    assert "gone.vmdk" in row.inner_text() and not sent
    assert not uploads(site, "vapp.ova")


@pytest.mark.browser
def test_pause_and_go_on(site: Site, ova: Path, context: Any, tmp_path: Path) -> None:
    copy = tmp_path / "pause.ova"
    copy.hardlink_to(ova)
    page = context.new_page()
    page.goto(f"{site.url}/uploads/")
    page.set_input_files("#files", str(copy))
    row = item(page, "pause.ova")
    path = wait(lambda: next(iter(uploads(site, "pause.ova")), None))
    row.get_by_role("button", name="Pause pause.ova").click()
    row.get_by_text("Paused by you").wait_for()
    assert page.locator("#safe").inner_text().startswith("Nothing is being sent at the moment.")
    time.sleep(1)
    reached = path.stat().st_size
    time.sleep(1)
    assert path.stat().st_size == reached < copy.stat().st_size
    row.get_by_role("button", name="Go on pause.ova").click()
    row.get_by_text("You may close this page.", exact=False).wait_for(timeout=60_000)
    assert sha256(path) == sha256(copy)


@pytest.mark.browser
def test_several_files_at_once_with_rate_and_time_left(site: Site, ova: Path, context: Any, tmp_path: Path) -> None:
    copies = [tmp_path / f"several{number}.ova" for number in range(3)]
    for copy in copies:
        copy.hardlink_to(ova)
    page = context.new_page()
    page.goto(f"{site.url}/uploads/")
    page.set_input_files("#files", [str(copy) for copy in copies])
    seen = wait(lambda: re.search(r"\(\d+ %\), [\d.]+ \wiB a second, .* left", page.locator("#sending").inner_text()))
    assert seen
    for copy in copies:
        item(page, copy.name).get_by_text("You may close this page.", exact=False).wait_for(timeout=90_000)
        (path,) = uploads(site, copy.name)
        assert sha256(path) == sha256(ova)
