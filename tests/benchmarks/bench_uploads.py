"""Uploads: speed through Daphne and through nginx, with a script and with Chromium; memory; other pages meanwhile; follower.

python -m tests.benchmarks.bench_uploads [MIB]
"""

import base64
import http.client
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import cpu_seconds, memory_mib, percentile, report
from tests.nginx import Nginx
from tests.running import Site

CHUNK = 16 << 20
TUS = {"Tus-Resumable": "1.0.0"}


def create(port: int, token: str, name: str, size: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    said = {"Upload-Length": str(size), "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}"}
    connection.request("POST", "/uploads/", headers=TUS | {"Authorization": f"Bearer {token}"} | said)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    return str(response.headers["Location"])


def send(port: int, token: str, name: str, path: Path) -> float:
    """Sends a file over one connection; returns the seconds."""
    size = path.stat().st_size
    url = create(port, token, name, size)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = TUS | {"Authorization": f"Bearer {token}", "Content-Type": "application/offset+octet-stream"}
    begin = time.perf_counter()
    with path.open("rb") as file:
        for offset in range(0, size, CHUNK):
            connection.request("PATCH", url, file.read(CHUNK), headers | {"Upload-Offset": str(offset)})
            response = connection.getresponse()
            assert response.status == 204, response.read()
            response.read()
    return time.perf_counter() - begin


class Sampler:
    """Watches a process's memory and a page's time while something else goes on."""

    def __init__(self, site: Site, pid: int) -> None:
        self.site, self.pid = site, pid
        self.peak = memory_mib(pid)
        self.times: list[float] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._memory), threading.Thread(target=self._pages)]

    def __enter__(self) -> "Sampler":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _memory(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, memory_mib(self.pid))

    def _pages(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        cookie = "; ".join(f"{c['name']}={c['value']}" for c in self.site.cookies("charlie"))
        while not self._over.wait(0.05):
            begin = time.perf_counter()
            connection.request("GET", "/", headers={"Cookie": cookie})
            connection.getresponse().read()
            self.times.append(time.perf_counter() - begin)


def followed(site: Site, name: str, size: int) -> float:
    """Waits until the follower has read an upload; returns the seconds."""
    begin = time.perf_counter()
    ask = f"from conversions.models import Upload\nprint(Upload.objects.filter(name={name!r}, state='ready').count())"
    while site.manage("shell", "--no-imports", "-c", ask).strip() != "1":
        time.sleep(0.2)
    return time.perf_counter() - begin


def browser(url: str, site: Site, path: Path, name: str) -> float:
    from playwright.sync_api import sync_playwright

    copy = path.with_name(name)
    copy.hardlink_to(path)
    with sync_playwright() as driver:
        program = shutil.which("chromium")
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        context = chromium.new_context()
        context.add_cookies([{**cookie, "url": url} for cookie in site.cookies("charlie")])
        page = context.new_page()
        page.goto(f"{url}/uploads/")
        begin = time.perf_counter()
        page.set_input_files("#files", str(copy))
        page.get_by_text("All of it is on the server", exact=False).wait_for(timeout=300_000)
        seconds = time.perf_counter() - begin
        chromium.close()
    copy.unlink()
    return seconds


def main(mib: int) -> None:
    from tests.test_upload_site import make_ova

    site = Site()
    folder = Path(tempfile.mkdtemp(prefix="v2v-bench-", dir="/var/tmp"))
    site.environment |= {"V2VWEB_UPLOAD_BODY_DIR": str(site.folder / "bodies"), "V2VWEB_UPLOAD_RESERVE": "0"}
    nginx = Nginx(folder, site.port, site.folder / "bodies") if Nginx.program() else None
    try:
        ova = make_ova(folder, mib << 20)
        size = ova.stat().st_size
        site.start()
        site.add_people()
        token = site.manage("token", "charlie").strip().splitlines()[-1]
        (web,) = site.pids("v2vweb.web")
        send(site.port, token, "warm.raw.ova", ova)
        followed(site, "warm.raw.ova", size)
        idle = memory_mib(web)
        cpu = cpu_seconds(web)
        seconds = send(site.port, token, "quiet.ova", ova)
        report("script, Daphne, 16 MiB pieces", size / seconds / 1e6, "MB/s", 200)
        report("processor time of the web process", (cpu_seconds(web) - cpu) * 1e9 / size, "s/GB", 3.2)
        followed(site, "quiet.ova", size)
        with Sampler(site, web) as sampler:
            send(site.port, token, "one.ova", ova)
        report("web process above idle, one upload", sampler.peak - idle, "MiB", 40)
        report("other pages meanwhile, p95", 1000 * percentile(sampler.times, 95), "ms", 60)
        report("follower behind that, after the last byte", followed(site, "one.ova", size), "s")
        seconds = browser(site.url, site, ova, "chromium1.ova")
        report("Chromium, Daphne", size / seconds / 1e6, "MB/s", 60)
        if nginx:
            nginx.start()
            cpu = cpu_seconds(web)
            seconds = send(nginx.port, token, "two.ova", ova)
            report("script, nginx", size / seconds / 1e6, "MB/s", 600)
            report("processor time of the web process", (cpu_seconds(web) - cpu) * 1e9 / size, "s/GB", 0.43)
            seconds = browser(nginx.url, site, ova, "chromium2.ova")
            report("Chromium, nginx", size / seconds / 1e6, "MB/s", 150)
        follow(ova)
    finally:
        if nginx:
            nginx.stop()
        site.close()
        shutil.rmtree(folder, ignore_errors=True)


def follow(ova: Path) -> None:
    """The follower's own speed, with SHA-256 of the whole and of each member."""
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "v2vweb.settings")
    os.environ.setdefault("V2VWEB_DATA_DIR", str(ova.parent / "data"))
    import django

    django.setup()
    from conversions.follow import Follow

    size = ova.stat().st_size
    reader = Follow(ova, ova.name, size)
    begin = time.process_time()
    while reader.step(size):
        pass
    report("follower with SHA-256, alone (processor time)", size / (time.process_time() - begin) / 1e6, "MB/s", 300)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
