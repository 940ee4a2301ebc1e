"""Uploads: speed through Daphne and through nginx, with a script and with Chromium, beside what the machine gives at all;
memory; other pages meanwhile; follower.

python -m tests.benchmarks.bench_uploads [MIB]
"""

import base64
import contextlib
import http.client
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import floors
from tests.benchmarks.measuring import cpu_seconds, memory_mib, percentile, report
from tests.nginx import Nginx
from tests.running import Site

CHUNK = 16 << 20
SYNC_EVERY = 256 << 20  #: as in conversions/stores/local.py, which needs Django
SAMPLES = 40  #: of other pages
TUS = {"Tus-Resumable": "1.0.0"}


def create(port: int, token: str, name: str, size: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    said = {"Upload-Length": str(size), "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}"}
    connection.request("POST", "/uploads/", headers=TUS | {"Authorization": f"Bearer {token}"} | said)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    return str(response.headers["Location"])


def send(port: int, token: str, name: str, path: Path) -> float:
    """Sends a file over one connection, as curl would: the kernel takes it from the file; returns the seconds."""
    size = path.stat().st_size
    url = create(port, token, name, size)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = TUS | {"Authorization": f"Bearer {token}", "Content-Type": "application/offset+octet-stream"}
    begin = time.perf_counter()
    with path.open("rb") as file:
        for offset in range(0, size, CHUNK):
            piece = min(CHUNK, size - offset)
            connection.putrequest("PATCH", url)
            for name, value in headers.items() | {("Upload-Offset", str(offset)), ("Content-Length", str(piece))}:
                connection.putheader(name, value)
            connection.endheaders()
            assert connection.sock.sendfile(file, offset, piece) == piece
            response = connection.getresponse()
            assert response.status == 204, response.read()
            response.read()
    return time.perf_counter() - begin


class Sampler:
    """Watches a process's memory and a page's time while something else goes on."""

    def __init__(self, site: Site, pid: int) -> None:
        self.site, self.pid = site, pid
        self.cookie = "; ".join(f"{c['name']}={c['value']}" for c in site.cookies("charlie"))
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
        while not self._over.wait(0.05):
            begin = time.perf_counter()
            connection.request("GET", "/", headers={"Cookie": self.cookie})
            connection.getresponse().read()
            self.times.append(time.perf_counter() - begin)


def followed(site: Site, name: str, size: int) -> float:
    """Waits until the follower has read an upload; returns the seconds."""
    begin = time.perf_counter()
    ask = f"from conversions.models import Upload\nprint(Upload.objects.filter(name={name!r}, state='ready').count())"
    while site.manage("shell", "--no-imports", "-c", ask).strip() != "1":
        time.sleep(0.2)
    return time.perf_counter() - begin


@contextlib.contextmanager
def chromium(url: str, site: Site) -> Iterator[Any]:
    """The page of the uploads in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        program = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context()
        context.add_cookies([{**cookie, "url": url} for cookie in site.cookies("charlie")])
        page = context.new_page()
        page.goto(f"{url}/uploads/")
        yield page
        browser.close()


#: From the person's choice to the word that all is there, by the page's own clock: driving it adds half a second.
WATCH = """() => {
  document.getElementById("files").addEventListener("change", () => { window.chosen = performance.now(); }, true);
  new MutationObserver(() => {
    if (!window.arrived && document.getElementById("sending").textContent.includes("All of it is on the server"))
      window.arrived = performance.now();
  }).observe(document.getElementById("sending"), { subtree: true, childList: true, characterData: true });
}"""


def choose(page: Any, path: Path, name: str) -> float:
    """Has the page send a file; returns the seconds."""
    copy = path.with_name(name)
    copy.hardlink_to(path)
    page.evaluate(WATCH)
    page.set_input_files("#files", str(copy))
    page.get_by_text("All of it is on the server", exact=False).wait_for(timeout=300_000)
    copy.unlink()
    return float(page.evaluate("window.arrived - window.chosen")) / 1000


def bare_fetch(page: Any, path: Path) -> float:
    page.evaluate("document.body.append(Object.assign(document.createElement('input'), {type: 'file', id: 'floor'}))")
    page.set_input_files("#floor", str(path))
    return float(page.evaluate(floors.FETCH, ["floor", "/_floor", CHUNK]))


def main(mib: int) -> None:
    from tests.test_upload_site import make_ova

    site = Site()
    folder = Path(tempfile.mkdtemp(prefix="v2v-bench-", dir="/var/tmp"))
    bodies = site.folder / "bodies"
    site.environment |= {"V2VWEB_UPLOAD_BODY_DIR": str(bodies), "V2VWEB_UPLOAD_RESERVE": "0"}
    location = floors.LOCATION.replace("BODIES", str(bodies))
    nginx = Nginx(folder, site.port, bodies, location) if Nginx.program() else None
    try:
        ova = make_ova(folder, mib << 20)
        site.start()
        site.add_people()
        token = site.manage("token", "charlie").strip().splitlines()[-1]
        through_daphne(site, token, ova)
        if nginx:
            nginx.start()
            through_nginx(site, nginx, token, ova)
        else:
            print("nginx is not installed: nothing is measured behind it")
        follow(ova)
    finally:
        if nginx:
            nginx.stop()
        site.close()
        shutil.rmtree(folder, ignore_errors=True)


def through_daphne(site: Site, token: str, ova: Path) -> None:
    size = ova.stat().st_size
    (web,) = site.pids("v2vweb.web")
    send(site.port, token, "warm.raw.ova", ova)
    followed(site, "warm.raw.ova", size)
    idle, cpu = memory_mib(web), cpu_seconds(web)
    seconds = send(site.port, token, "quiet.ova", ova)
    report("script, Daphne, 16 MiB pieces", size / seconds / 1e6, "MB/s", 200)
    report("processor time of the web process", (cpu_seconds(web) - cpu) * 1e9 / size, "s/GB", 3.2)
    followed(site, "quiet.ova", size)
    with Sampler(site, web) as sampler:
        for number in itertools.count():
            send(site.port, token, name := f"one{number}.ova", ova)
            if len(sampler.times) >= SAMPLES:
                break
    report("web process above idle, one upload", sampler.peak - idle, "MiB", 40)
    report("other pages meanwhile, p95", 1000 * percentile(sampler.times, 95), "ms", 60)
    report("follower behind that, after the last byte", followed(site, name, size), "s")
    with chromium(site.url, site) as page:
        report("Chromium, Daphne", size / choose(page, ova, "chromium1.ova") / 1e6, "MB/s", 60)


def through_nginx(site: Site, nginx: Nginx, token: str, ova: Path) -> None:
    """The best of several, of the bare floors too: what the host of a virtual machine does to a run is not ours."""
    size = ova.stat().st_size
    (web,) = site.pids("v2vweb.web")
    floor, speed, cost = [], [], []
    for number in range(3):
        floors.touch_memory(nginx.folder, 4 * size)
        floor.append(floors.disk(nginx.bodies, size // CHUNK * CHUNK, SYNC_EVERY))
        cpu = cpu_seconds(web)
        speed.append(size / send(nginx.port, token, f"nginx{number}.ova", ova))
        cost.append((cpu_seconds(web) - cpu) * 1e9 / size)
        followed(site, f"nginx{number}.ova", size)
    report("floor: a bare process writes, copies, removes", max(floor) / 1e6, "MB/s")
    report("script, nginx", max(speed) / 1e6, "MB/s", 600)
    report("that, of the floor", max(speed) / max(floor), "")
    report("processor time of the web process", min(cost), "s/GB", 0.43)
    bare, whole = [], []
    for number in range(2):
        with chromium(nginx.url, site) as page:
            floors.touch_memory(nginx.folder, 3 * size)
            bare.append(size / bare_fetch(page, ova))
            floors.touch_memory(nginx.folder, 3 * size)
            whole.append(size / choose(page, ova, f"chromium-nginx{number}.ova"))
    report("floor: Chromium's bare fetch() to the same nginx", max(bare) / 1e6, "MB/s")
    report("Chromium, nginx", max(whole) / 1e6, "MB/s", 150)
    report("that, of the floor", max(whole) / max(bare), "")


def follow(ova: Path) -> None:
    """The follower's own speed, with SHA-256 of the whole and of each member."""
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "v2vweb.settings")
    os.environ.setdefault("V2VWEB_DATA_DIR", str(ova.parent / "data"))
    import django

    django.setup()
    from conversions.uploading.follow import Follow

    size = ova.stat().st_size
    reader = Follow(ova, ova.name, size)
    begin = time.process_time()
    while reader.step(size):
        pass
    report("follower with SHA-256, alone (processor time)", size / (time.process_time() - begin) / 1e6, "MB/s", 300)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
