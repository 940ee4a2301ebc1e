"""Scratch space that the conversion of a large plain-tar OVA takes, beside the OVA itself and the result.

    python -m tests.benchmarks.bench_scratch [MIB]

The lab's guest with a second disk: a file system full of bytes that do not compress, 700 MiB of them.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_conversion import APPLIANCE, ask
from tests.benchmarks.bench_uploads import send
from tests.benchmarks.measuring import report
from tests.ova_files import make_ovf
from tests.running import CACHE, Site
from tests.scratch import Scratch


def make_ova(guest: Path, ova: Path, mib: int) -> None:
    with tempfile.TemporaryDirectory(dir=ova.parent) as name:
        folder = Path(name)
        (folder / "data").mkdir()
        with (folder / "data" / "noise").open("wb") as noise:
            for _ in range(mib):
                noise.write(os.urandom(1 << 20))
        second = folder / "second.img"
        command = ["mkfs.ext4", "-q", "-m", "0", "-d", folder / "data", second, f"{mib + mib // 16 + 64}M"]
        subprocess.run(command, check=True)
        disks = [folder / "disk1.vmdk", folder / "disk2.vmdk"]
        for image, disk in zip((guest, second), disks, strict=True):
            convert = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
            subprocess.run([*convert, image, disk], check=True)
        (folder / "web01.ovf").write_bytes(make_ovf(disks=[disk.name for disk in disks]))
        with tarfile.open(ova, "w", format=tarfile.USTAR_FORMAT) as tar:
            for file in (folder / "web01.ovf", *disks):
                tar.add(file, file.name)


def main(mib: int) -> None:
    image = CACHE / "guest.img"
    if not image.exists():
        sys.exit(f"there is no {image}: `make test` makes it")
    (CACHE / "appliance").mkdir(exist_ok=True)
    site = Site(**APPLIANCE, LIBGUESTFS_CACHEDIR=str(CACHE / "appliance"))
    try:
        ova = site.source_root / "web01.ova"
        make_ova(image, ova, mib)
        size = ova.stat().st_size
        site.start()
        token = site.manage("token", "admin").strip().splitlines()[-1]
        send(site.port, token, "web01.ova", ova)
        while (upload := ask(site, token, "uploads")["items"][0])["state"] not in ("ready", "refused"):
            time.sleep(0.5)
        body = {"name": "web01", "source": {"kind": "ova", "upload_id": upload["id"]}, "output": {"kind": "files"}}
        with Scratch(site.data_dir / "jobs") as scratch:
            pk = ask(site, token, "conversions", body)["id"]
            while (now := ask(site, token, f"conversions/{pk}"))["state"] in ("queued", "running"):
                time.sleep(0.5)
        if now["state"] != "succeeded":
            sys.exit(f"the conversion ended as {now['state']}: {now['error']}")
        overlays = sum(scratch.unlinked.values())
        report("OVA", size / 2**20, "MiB")
        report("virt-v2v's overlays, all together", overlays / 2**20, "MiB")
        report("most at one time", scratch.most / 2**20, "MiB")
        report("scratch / OVA", 100 * scratch.most / size, "%", 5)
        print("largest files:", *(f"{name} {taken}" for name, taken in scratch.names.most_common(3)))
    finally:
        site.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 700)
