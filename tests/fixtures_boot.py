"""Disks whose first sector is a whole guest: it writes to the console or the screen, restarts, switches off, ...

Real QEMU and a real BIOS run them within seconds, so that each verdict can be shown without an operating system.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conversions.boot.bootdir import BootDir, Disk, Limits, Outcome, Trial

PROJECT = Path(__file__).resolve().parent.parent
_START = bytes.fromhex("31c0 8ed8")  # the data segment is 0
_HALT = bytes.fromhex("f4 ebfd")  # sleeps, and again after each interrupt


def _printing(loop: str, text: str, then: bytes) -> bytes:
    """mov si, text; each letter of it: `loop`."""
    body = bytes.fromhex(f"ac 84c0 7406 {loop} ebf5") + then
    address = 0x7C00 + len(_START) + 3 + len(body)
    return b"\xbe" + address.to_bytes(2, "little") + body + text.encode() + b"\0"


def says(text: str, then: bytes = _HALT) -> bytes:
    """Writes a text to the serial console."""
    return _printing("baf803 ee", text, then)


def shows(text: str, then: bytes = _HALT) -> bytes:
    """Writes a text to the screen."""
    return _printing("b40e cd10", text, then)


RESTARTS = bytes.fromhex("b0fe e664") + _HALT
SWITCHES_OFF = bytes.fromhex("ba0406 b80020 ef") + _HALT
TALKS_WITHOUT_END = bytes.fromhex("baf803 b041 ee ebfd")
WORKS_WITHOUT_END = bytes.fromhex("ebfe")
#: 320 x 200 pixels in blue, the first ten rows in white
BLUE = bytes.fromhex("b81300 cd10 6800a0 07 31ff b900fa b001 f3aa 31ff b9800c b00f f3aa") + _HALT
#: its own first sector over the second one, by the BIOS
WRITES = bytes.fromhex("31c0 8ec0 bb007c b80103 b90200 ba8000 cd13")


def boot_disk(path: Path, code: bytes, size: int = 1 << 20) -> Path:
    assert len(code) + len(_START) <= 510
    path.write_bytes((_START + code).ljust(510, b"\0") + b"\x55\xaa" + b"left as it was".ljust(512, b"."))
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def a_trial(disk: Path, **changes: object) -> Trial:
    trial = Trial(
        name="web01",
        disks=(Disk(str(disk), "raw"),),
        memory=128 << 20,
        every=1.0,
        steady=5.0,
        limits=Limits(wall=60, memory=256 << 20),
    )
    return replace(trial, **changes)  # type: ignore[arg-type]


def try_it(folder: Path, trial: Trial, timeout: float = 180) -> Outcome:
    """Runs the trial as v2vweb does, in a process of its own."""
    boot = BootDir(folder)
    boot.write_trial(trial)
    done = subprocess.run(
        [sys.executable, "-m", "conversions.boot", str(folder)],
        cwd=PROJECT,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = boot.read_outcome()
    assert outcome is not None, done.stderr
    return outcome


# --- the lab's guest, converted -------------------------------------------------------------------------------------


def convert(image: Path, folder: Path, name: str) -> None:
    """Converts a raw image with the real virt-v2v, unless that was done before with the same image and virt-v2v."""
    version = subprocess.run(["virt-v2v", "--version"], capture_output=True, text=True, check=True).stdout
    done = f"{version}{image.stat().st_mtime_ns}"
    if (folder / "done").is_file() and (folder / "done").read_text() == done:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    argv = [
        "virt-v2v",
        "-i",
        "disk",
        "-if",
        "raw",
        "-o",
        "kubevirt",
        "-os",
        folder,
        "-of",
        "raw",
        "-on",
        name,
        "--",
        image,
    ]
    with (folder / "log").open("wb") as log:
        subprocess.run(argv, stdout=log, stderr=log, check=True, timeout=900, env={**os.environ, "LC_ALL": "C"})
    (folder / "done").write_text(done)


@pytest.fixture(scope="session")
def converted_bios(guest_image: Path) -> Path:
    """A folder with web01-sda, web01.yaml and virt-v2v's log: the lab's guest."""
    from tests.conftest import cached

    with cached(guest_image.parent / "converted-bios") as folder:
        convert(guest_image, folder, "web01")
    return folder


@pytest.fixture(scope="session")
def converted_uefi(guest_image: Path) -> Path:
    """The same of a guest that starts with UEFI."""
    from tests.conftest import cached

    script = Path(__file__).parent / "lab" / "make-uefi-guest.sh"
    with cached(guest_image.parent / "guest-uefi.img") as image:
        newest = max(guest_image.stat().st_mtime, script.stat().st_mtime)
        if not image.is_file() or image.stat().st_mtime < newest:
            if shutil.which("grub-mkstandalone") is None:
                pytest.skip("grub-mkstandalone (Debian: grub-efi-amd64-bin) is not installed")
            subprocess.run([script, guest_image, image], check=True, timeout=300)
    with cached(guest_image.parent / "converted-uefi") as folder:
        convert(image, folder, "web01")
    return folder
