"""Uploads in a real browser: what people see, by whom it can be used; and the whole way to a guest that boots."""

import io
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ova_files import END, good_members, header, make_ovf, make_tar, padded
from tests.running import Site
from tests.test_browser_wizard import Page, picture
from tests.test_ova import record, zipped
from tests.test_upload_site import item, kill_web, make_ova, sha256, uploads, wait
from tests.test_whole_way import LONG, boots_to_login, download

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(V2VWEB_UPLOAD_CHUNK="1M", V2VWEB_UPLOAD_QUOTA="2G")
    try:
        site.start()
        site.add_people()
        yield site
    finally:
        site.close()


@pytest.fixture
def tab(chromium: Any, site: Site) -> Iterator[Page]:
    page = Page(chromium, site, "charlie")
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ova(tmp_path_factory.mktemp("ova"), 60 << 20)


def test_everybody_can_use_the_pages(tab: Page, ova: Path, tmp_path: Path) -> None:
    page = tab.page
    page.goto("/uploads/")
    page.get_by_text("Nothing has been uploaded yet.").wait_for()
    tab.check()
    page.set_input_files("#files", str(ova))
    item(page, "web01.ova").get_by_text("You may close this page.", exact=False).wait_for(timeout=60_000)
    bad = tmp_path / "notes.ova"
    bad.write_bytes(b"%PDF-1.7" + bytes(2000))
    odd = tmp_path / "two.ova"
    odd.write_bytes(make_tar({"a.ovf": make_ovf(config=""), "b.ovf": make_ovf(), "disk1.vmdk": bytes(600)}))
    page.set_input_files("#files", [str(bad), str(odd)])
    item(page, "notes.ova").get_by_text("The file is a PDF document.", exact=False).wait_for()
    item(page, "two.ova").get_by_text("More than one", exact=False).or_(
        item(page, "two.ova").get_by_text("holds 2 descriptions", exact=False)
    ).first.wait_for()
    page.locator("#upload-list").get_by_text("Ready").first.wait_for(timeout=30_000)
    picture(page, "uploads")
    tab.check()
    item(page, "web01.ova").get_by_role("link", name="Look at it and convert").click()
    page.get_by_text("The file is here and whole.").wait_for(timeout=30_000)
    picture(page, "upload")
    tab.check()
    page.get_by_label("Compare with a checksum", exact=False).fill("a" * 64)
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("The checksum is not the expected one").wait_for(timeout=30_000)
    tab.check()
    page.get_by_label("Compare with a checksum", exact=False).fill(sha256(ova))
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("The file is here and whole.").wait_for(timeout=30_000)
    page.get_by_role("button", name="Convert it").click()
    page.wait_for_url(re.compile("/guest/$"))
    page.get_by_text("Debian GNU/Linux 12").first.wait_for()


def test_the_keyboard_is_enough(tab: Page, ova: Path, tmp_path: Path) -> None:
    copy = tmp_path / "keyboard.ova"
    copy.hardlink_to(ova)
    page = tab.page
    page.goto("/uploads/")
    page.get_by_text("Uploaded files").wait_for()
    with page.expect_file_chooser(timeout=30_000) as chooser:
        page.locator("#files").press("Space")  # focuses at that moment: a list that arrives may take the focus before
    chooser.value.set_files(str(copy))
    row = item(page, "keyboard.ova")
    row.get_by_role("button", name="Pause keyboard.ova").focus()
    page.keyboard.press("Enter")
    row.get_by_text("Paused by you").wait_for()
    row.get_by_role("button", name="Go on keyboard.ova").focus()
    page.keyboard.press("Enter")
    row.get_by_text("You may close this page.", exact=False).wait_for(timeout=60_000)


def test_over_the_quota_nothing_is_sent(tab: Page, tmp_path: Path) -> None:
    big = tmp_path / "big.raw"
    with big.open("wb") as file:
        file.truncate(3 << 30)
        file.seek(510)
        file.write(b"\x55\xaa")
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", str(big))
    item(page, "big.raw").get_by_text("Your space for uploads is used up").wait_for()
    tab.check()


def test_a_file_that_is_found_damaged_at_its_end_does_not_offer_its_conversion(
    tab: Page, ova: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.ova"
    data = bytearray(ova.read_bytes())
    data[-(1 << 20)] ^= 1
    damaged.write_bytes(data)
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", str(damaged))
    row = item(page, "damaged.ova")
    row.get_by_text("A checksum is wrong").wait_for(timeout=60_000)
    assert not row.get_by_text("100 %").is_visible()
    row.get_by_role("link", name="See why").click()
    page.get_by_text("A checksum is wrong", exact=False).first.wait_for()
    tab.check()


def big_ova(path: Path, style: str, described: bytes) -> Path:
    """An OVA of more than 9 GiB, most of it holes, with its OVF at the end."""
    size = 9 << 30
    with path.open("wb") as file:
        if style == "pax":
            said = record(f"size={size}")
            file.write(header("pax", len(said), b"x") + padded(said) + header("disk1.vmdk", 0))
        else:
            file.write(header("disk1.vmdk", b"\x80" + size.to_bytes(11, "big")))
        file.seek(size, os.SEEK_CUR)
        file.write(header("web01.ovf", len(described)) + padded(described) + END)
    return path


@pytest.mark.parametrize("style", ["pax", "base-256"])
def test_a_large_ova_is_judged_by_its_headers_within_seconds(tab: Page, tmp_path: Path, style: str) -> None:
    good = big_ova(tmp_path / "good.ova", style, make_ovf())
    bad = big_ova(tmp_path / "bad.ova", style, make_ovf(disks=["gone.vmdk"]))
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", [str(good), str(bad)])
    row = item(page, "good.ova")
    row.get_by_text("Debian GNU/Linux 12, BIOS", exact=False).wait_for(timeout=15_000)
    row.get_by_text("Your space for uploads is used up").wait_for()
    item(page, "bad.ova").get_by_text("“gone.vmdk”", exact=False).wait_for(timeout=15_000)


def test_a_zip_is_judged_by_its_table(tab: Page, tmp_path: Path) -> None:
    for name, members in (("good.ova", good_members()), ("bad.ova", {"x.ovf": make_ovf(disks=["gone.vmdk"])})):
        (tmp_path / name).write_bytes(zipped(members))
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", str(tmp_path / "bad.ova"))
    item(page, "bad.ova").get_by_text("“gone.vmdk”", exact=False).wait_for(timeout=15_000)
    item(page, "bad.ova").get_by_text("Not sent", exact=False).wait_for()
    page.set_input_files("#files", str(tmp_path / "good.ova"))
    item(page, "good.ova").get_by_text("Debian GNU/Linux 12, BIOS", exact=False).wait_for(timeout=15_000)


def test_an_ovf_and_its_disks_are_sent_as_one_machine(tab: Page, site: Site, tmp_path: Path) -> None:
    described = make_ovf(disks=["my disk.vmdk"])
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", tmp_path / "my disk.vmdk", "10M"], check=True)
    (tmp_path / "web03.ovf").write_bytes(described)
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", [str(tmp_path / "web03.ovf"), str(tmp_path / "my disk.vmdk")])
    for name in ("web03.ovf", "my disk.vmdk"):
        item(page, name).get_by_text("You may close this page.", exact=False).wait_for(timeout=30_000)
    (ovf,) = uploads(site, "web03.ovf")
    assert (ovf.parent / "my disk.vmdk").is_file()


def test_two_tabs_send_a_file_once(tab: Page, site: Site, ova: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tabs.ova"
    copy.hardlink_to(ova)
    first, second = tab.page, tab.context.new_page()
    for page in (first, second):
        page.goto("/uploads/")
    first.set_input_files("#files", str(copy))
    wait(lambda: uploads(site, "tabs.ova"), pause=0.02)
    second.set_input_files("#files", str(copy))
    for page in (first, second):
        item(page, "tabs.ova").get_by_text("You may close this page.", exact=False).wait_for(timeout=90_000)
    (path,) = uploads(site, "tabs.ova")
    assert sha256(path) == sha256(copy)


def test_a_session_that_ends_in_the_middle_costs_nothing(tab: Page, site: Site, ova: Path, tmp_path: Path) -> None:
    copy = tmp_path / "session.ova"
    copy.hardlink_to(ova)
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", str(copy))
    path = wait(lambda: next(iter(uploads(site, "session.ova")), None), pause=0.02)
    tab.context.clear_cookies()
    row = item(page, "session.ova")
    row.get_by_text("Please log in again").wait_for(timeout=30_000)
    # The list below the upload asks in vain and says so, once; the page with the upload stays.
    page.get_by_role("link", name="Log in again").wait_for(timeout=30_000)
    assert page.locator("#messages .pf-v6-c-alert").count() == 1 and not page.get_by_label("Password").count()
    reached = path.stat().st_size
    assert reached < copy.stat().st_size
    tab.context.add_cookies(site.cookies("charlie"))
    row.get_by_role("button", name="Go on session.ova").click()
    row.get_by_text("You may close this page.", exact=False).wait_for(timeout=60_000)
    page.get_by_role("link", name="Log in again").wait_for(state="detached", timeout=30_000)
    assert sha256(path) == sha256(copy)


@pytest.mark.real
def test_dragged_in_and_gone_home_it_becomes_a_guest_that_boots(
    tab: Page, site: Site, guest_ova: Path, tmp_path: Path
) -> None:
    """Packed with gzip and odd on purpose, at which virt-v2v 2.2 itself would stop, and which no test but this takes the
    whole way: "./" before the names, a helper file of macOS, memory in another unit."""
    packed = tmp_path / "web02.ova"
    make_odd(guest_ova, packed)
    page = tab.page
    page.goto("/uploads/")
    page.get_by_label("Convert each machine", exact=False).check()
    page.set_input_files("#files", str(packed))
    path = wait(lambda: next(iter(uploads(site, "web02.ova")), None), pause=0.02)
    wait(lambda: path.stat().st_size > packed.stat().st_size * 0.4, pause=0.02)
    kill_web(site)
    assert path.stat().st_size < packed.stat().st_size
    item(page, "web02.ova").get_by_text("You may close this page.", exact=False).wait_for(timeout=120_000)
    assert sha256(path) == sha256(packed)
    page.goto("about:blank")  # gone home

    later = Page(tab.context.browser, site, "charlie").page
    later.goto("/")
    later.get_by_role("link", name="web01").first.click(timeout=60_000)
    later.get_by_role("heading", name="Result").wait_for(timeout=LONG)
    disk = download(later, "web01-sda", tmp_path)
    later.get_by_role("link", name="What KubeVirt gets").click()
    with later.expect_download() as ours:
        later.get_by_role("link", name="Download the YAML").click()
    ours.value.save_as(tmp_path / "ours.yaml")
    machine, *_ = yaml.safe_load_all((tmp_path / "ours.yaml").read_text())
    assert machine["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "1024Mi"
    assert boots_to_login(disk, machine, tmp_path)
    assert not [path for path in (site.data_dir / "jobs").rglob("*") if path.name == "tmp"], "nothing unpacked is left"


def make_odd(ova: Path, packed: Path) -> None:
    with (
        tarfile.open(ova) as source,
        tarfile.open(packed, "w:gz", format=tarfile.USTAR_FORMAT, compresslevel=1) as target,
    ):
        target.addfile(tarfile.TarInfo("./._web01.ovf"))
        for info in source:
            if info.name.endswith(".mf"):  # it has the checksum of the other OVF
                continue
            content: Any = source.extractfile(info)
            if info.name.endswith(".ovf"):
                text = content.read().replace(b"byte * 2^20", b"byte * 2^30").replace(b">1024<", b">1<")
                info.size, content = len(text), io.BytesIO(text)
            info.name = f"./{info.name}"
            target.addfile(info, content)


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 128 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    image, folder = tmp_path / "small.img", tmp_path / "small"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no loop devices here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("reserve", ["0", "20M"])
def test_a_full_disk_pauses_and_loses_nothing(
    chromium: Any, small_disk: Path, ova: Path, tmp_path: Path, reserve: str
) -> None:
    site = Site(V2VWEB_UPLOAD_DIR=str(small_disk), V2VWEB_UPLOAD_CHUNK="1M", V2VWEB_UPLOAD_RESERVE=reserve)
    try:
        site.start()
        site.add_people()
        tab = Page(chromium, site, "charlie")
        page = tab.page
        page.goto("/uploads/")
        page.set_input_files("#files", str(ova))
        path = wait(lambda: next(iter(small_disk.glob("*/web01.ova")), None), pause=0.01)
        with (small_disk / "others").open("wb") as others:  # somebody else fills the disk meanwhile
            try:
                for _ in range(120):
                    others.write(bytes(1 << 20))
                    others.flush()
            except OSError:
                pass
        row = item(page, "web01.ova")
        row.get_by_text("goes on by itself as soon as the server has space", exact=False).wait_for(timeout=60_000)
        reached = path.stat().st_size
        assert reached < ova.stat().st_size
        with ova.open("rb") as file, path.open("rb") as there:
            assert file.read(reached) == there.read(), "what is there is right"
        (small_disk / "others").unlink()
        row.get_by_text("You may close this page.", exact=False).wait_for(timeout=90_000)
        assert sha256(path) == sha256(ova)
        tab.context.close()
    finally:
        site.close()


def test_sleep_and_another_network(tab: Page, site: Site, ova: Path, tmp_path: Path) -> None:
    """The connection stops without a word, as when a laptop sleeps: the web server is halted and goes on later."""
    copy = tmp_path / "sleep.ova"
    copy.hardlink_to(ova)
    page = tab.page
    page.goto("/uploads/")
    page.set_input_files("#files", str(copy))
    path = wait(lambda: next(iter(uploads(site, "sleep.ova")), None), pause=0.02)
    tab.context.set_offline(True)
    item(page, "sleep.ova").get_by_text("No connection to the server; tries again").wait_for(timeout=30_000)
    (web,) = site.pids("v2vweb.web")
    os.kill(web, signal.SIGSTOP)
    tab.context.set_offline(False)
    time.sleep(2)
    os.kill(web, signal.SIGCONT)
    item(page, "sleep.ova").get_by_text("You may close this page.", exact=False).wait_for(timeout=90_000)
    assert sha256(path) == sha256(copy)
