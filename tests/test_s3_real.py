"""An OVA sent in pieces into a bucket, and converted by the real virt-v2v that reads it there."""

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tusclient import client as tusclient

from conversions.bucket import mount
from tests.running import CACHE, Site
from tests.scratch import Scratch

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(mount.missing()), reason=f"no FUSE: {mount.missing()}")]


def test_an_ova_in_a_bucket_is_converted_without_being_downloaded(
    make_bucket: Callable[[str], dict[str, str]], guest_ova: Path, tmp_path: Path
) -> None:
    appliance = CACHE / "appliance"
    appliance.mkdir(exist_ok=True)
    site = Site(**make_bucket("real"), LIBGUESTFS_CACHEDIR=str(appliance))
    try:
        site.start()
        site.add_people()
        token = site.manage("token", "charlie").strip().splitlines()[-1]
        with Scratch(site.data_dir / "jobs") as scratch:
            client = tusclient.TusClient(f"{site.url}/uploads/", headers={"Authorization": f"Bearer {token}"})
            client.uploader(
                str(guest_ova), chunk_size=16 << 20, metadata={"filename": "web01.ova", "convert": "yes"}
            ).upload()
            conversion = wait_for(site, token)
        log = next((site.data_dir / "jobs").rglob("log")).read_text()
        assert conversion["state"] == "succeeded", log
        assert "web01.ova is read in its bucket through FUSE" in log
        everything = b"".join(path.read_bytes() for path in site.data_dir.rglob("*") if is_text(path))
        assert b"X-Amz-Signature" not in everything
        disk = next((site.data_dir / "output").rglob("web01-sda"))
        with disk.open("rb") as file:
            assert disk.stat().st_size == 1 << 30 and file.read(512)[510:] == b"\x55\xaa"
        assert str(site.data_dir) not in Path("/proc/self/mountinfo").read_text()
        assert [path for path in (site.data_dir / "uploads").rglob("*") if path.is_file()] == []
        size = guest_ova.stat().st_size
        print(f"OVA {size}, at most {scratch.most}, unlinked {scratch.unlinked}, {scratch.names.most_common(5)}")
        assert scratch.names["web01.ova"] == 0, "the file that virt-v2v saw has no bytes here"
        assert max(scratch.unlinked.values()) < size / 2
    finally:
        site.close()


def is_text(path: Path) -> bool:
    """Logs, jobs, the database: all but disks and the appliance."""
    return path.is_file() and path.stat().st_size < 20 << 20 and "cache" not in path.parts


def wait_for(site: Site, token: str) -> dict[str, Any]:
    """The one conversion when it has ended; with what is known when it does not even begin within a minute."""
    begin = time.monotonic()
    while time.monotonic() < begin + 380:
        items = asked(site, token, "conversions")
        if items and items[0]["state"] not in ("queued", "running", "cancelling"):
            return items[0]
        if not items and time.monotonic() > begin + 60:
            break
        time.sleep(1)
    logs = "".join(path.read_text()[-3000:] for path in (site.data_dir / "jobs").rglob("log"))
    raise AssertionError(
        f"it did not end: {items} {asked(site, token, 'uploads')} {logs} {site.log.read_text()[-3000:]}"
    )


def asked(site: Site, token: str, what: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{site.url}/api/v1/{what}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
        return items
