"""The main job on real input, as a person does it: a Debian guest through the browser and real virt-v2v to `login:`.

Everything is real here: the web server, the conductor, the agent, virt-v2v, the download, QEMU.  It also takes the picture
for the README (docs/board.png).
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import Site
from tests.scratch import Scratch

pytestmark = [pytest.mark.real, pytest.mark.browser]

PROJECT = Path(__file__).resolve().parent.parent
LONG = 420_000  #: milliseconds: a conversion under emulation, on a machine that does other things too


@pytest.fixture(scope="module")
def real_site(guest_image: Path, guest_ova: Path) -> Iterator[Site]:
    site = Site()
    try:
        link_or_copy(guest_image, site.source_root / "web01.img")
        link_or_copy(guest_ova, site.source_root / "web02.ova")
        site.start()
        site.add_people()
        yield site
    finally:
        site.close()


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        subprocess.run(["cp", "--sparse=always", source, target], check=True)


@pytest.fixture
def page(chromium: Any, real_site: Site) -> Iterator[Any]:
    context = chromium.new_context(
        base_url=real_site.url, viewport={"width": 1280, "height": 800}, accept_downloads=True
    )
    context.add_cookies(real_site.cookies("alice"))
    yield context.new_page()
    context.close()


def through_the_wizard(page: Any, kind: str, file: str, name: str, *, boot_test: bool = False) -> None:
    page.goto("/new/")
    page.get_by_role("button", name=kind).click()
    page.get_by_label(file).check()
    for _ in range(9):
        if page.url.endswith("/guest/"):
            page.get_by_label("Name of the new machine").fill(name)
        if page.url.endswith("/options/") and boot_test:
            page.get_by_label("Try whether it boots").check()
        if page.url.endswith("/review/"):
            break
        here = page.url
        page.get_by_role("button", name="Next").click()
        page.wait_for_url(lambda url, here=here: url != here)
    page.get_by_role("button", name="Start the conversion").click()
    page.wait_for_url(re.compile(r"/conversions/\d+/$"))


def download(page: Any, name: str, folder: Path) -> Path:
    with page.expect_download(timeout=120_000) as download:
        page.get_by_label(f"Download {name}", exact=True).click()
    path = folder / name
    download.value.save_as(path)
    return path


def boots_to_login(disk: Path, machine: dict[str, Any], folder: Path) -> bool:
    """Starts QEMU on what the manifest names: machine type, bus and card; nothing is written to the disk."""
    domain = machine["spec"]["template"]["spec"]["domain"]
    [entry] = domain["devices"]["disks"]
    bus = {"virtio": "virtio", "sata": "ide", "scsi": "scsi"}[entry["disk"]["bus"]]
    console = folder / "console"
    qemu = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "1024", "-display", "none", "-no-reboot"),
            *("-drive", f"file={disk},format=raw,if={bus},snapshot=on", "-serial", f"file:{console}", "-nic", "none"),
        ]
    )
    try:
        end = time.monotonic() + 240
        while time.monotonic() < end and qemu.poll() is None:
            if console.exists() and b" login:" in console.read_bytes():
                return True
            time.sleep(1)
        return False
    finally:
        qemu.kill()
        qemu.wait()


def test_a_disk_image_becomes_a_guest_that_boots(page: Any, tmp_path: Path) -> None:
    through_the_wizard(page, "Disk image on the server", "web01.img", "web01", boot_test=True)
    page.get_by_role("heading", name="Result").wait_for(timeout=LONG)
    assert page.locator("#sentence").inner_text()

    disk, theirs = download(page, "web01-sda", tmp_path), download(page, "web01.yaml", tmp_path)
    assert yaml.safe_load(theirs.read_text())["kind"] == "VirtualMachineInstance"
    page.get_by_role("link", name="What KubeVirt gets").click()
    with page.expect_download() as ours:
        page.get_by_role("link", name="Download the YAML").click()
    ours.value.save_as(tmp_path / "ours.yaml")
    machine, *claims = yaml.safe_load_all((tmp_path / "ours.yaml").read_text())
    assert machine["kind"] == "VirtualMachine" and [claim["kind"] for claim in claims] == ["PersistentVolumeClaim"]
    assert boots_to_login(disk, machine, tmp_path)

    page.get_by_role("link", name="Back to the conversion").click()
    page.locator("#boot").get_by_text(re.compile("login", re.IGNORECASE)).first.wait_for(timeout=LONG)
    assert page.locator("#boot img").count() >= 1

    page.goto("/")
    page.get_by_role("link", name="web01").first.wait_for()
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(PROJECT / "docs" / "board.png"))


def test_an_ova_becomes_disks_and_a_description(page: Any, real_site: Site, tmp_path: Path) -> None:
    with Scratch(real_site.data_dir / "jobs") as scratch:
        through_the_wizard(page, "OVA file", "web02.ova", "web02")
        page.get_by_role("heading", name="Result").wait_for(timeout=LONG)
    # The overlays hold what virt-v2v changes in the guest: they grow with its kernels, not with the OVA.
    size, overlays = (real_site.source_root / "web02.ova").stat().st_size, sum(scratch.unlinked.values())
    print(f"OVA of {size} bytes: overlays {overlays}, all at most {scratch.most}, {scratch.names.most_common(3)}")
    assert 0 < overlays < 48 << 20, "it was watched"
    assert scratch.most - overlays <= size * 0.05 and sum(scratch.names.values()) <= size * 0.05
    disk = download(page, "web02-sda", tmp_path)
    assert disk.stat().st_size == 1 << 30 and disk.read_bytes()[510:512] == b"\x55\xaa"
    leftovers = [path for path in (real_site.data_dir / "jobs").rglob("*") if path.name in ("tmp", "secrets")]
    assert leftovers == []
