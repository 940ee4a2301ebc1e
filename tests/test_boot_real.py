"""Trials in real QEMU: each verdict, and that nothing is left or changed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conversions.boot.bootdir import BootDir, Card, Disk, Limits
from tests import fixtures_boot as guests
from tests.fixtures_boot import PROJECT, a_trial, boot_disk, try_it

pytestmark = pytest.mark.real


def below(folder: Path) -> list[str]:
    """Command lines of processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


VERDICTS = {
    "a login on the serial console": (guests.says("\r\nDebian GNU/Linux 12 web01 ttyS0\r\n\r\nweb01 login: "), "login"),
    "a login on the screen": (guests.shows("\r\nDebian GNU/Linux 12 web01 tty1\r\n\r\nweb01 login: "), "login"),
    "a screen that comes to rest": (guests.shows("\r\nWelcome. Press any key."), "steady"),
    "a panic": (guests.says("Kernel panic - not syncing: Attempted to kill init!\r\n"), "panic"),
    "a panic on the screen only": (guests.shows("Kernel panic - not syncing: Fatal exception"), "panic"),
    "no root disk": (guests.says("VFS: Unable to mount root fs on unknown-block(0,0)\r\n"), "no-root-disk"),
    "a boot loader that gives up": (guests.shows("error: no such partition.\r\ngrub rescue> "), "boot-loader"),
    "a boot loader that only stands there": (guests.shows("GNU GRUB  version 2.06"), "boot-loader"),
    "an empty disk": (b"", "no-bootable-device"),
    "a blue screen": (guests.BLUE, "stop-code"),
    "restart after restart": (guests.RESTARTS, "boot-loop"),
    "a guest that goes": (guests.SWITCHES_OFF, "powered-off"),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_each_kind_of_guest_gets_its_verdict_and_pictures(what: str, tmp_path: Path) -> None:
    code, verdict = VERDICTS[what]
    disk = boot_disk(tmp_path / "disk", code)
    if not code:
        disk.write_bytes(bytes(1 << 20))
    checksum = hashlib.sha256(disk.read_bytes()).hexdigest()
    outcome = try_it(tmp_path / "trial", a_trial(disk))
    assert outcome.verdict == verdict, outcome
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == checksum
    assert outcome.disks_unchanged and outcome.fingerprints[0]["before"].startswith("sha256 ")
    assert outcome.pictures
    for picture in outcome.pictures:
        assert (tmp_path / "trial" / picture["name"]).read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "trial" / "tmp").exists() and not (tmp_path / "trial" / "serial.sock").exists()
    assert below(tmp_path) == []
    assert bool(outcome.suggestions) == (
        verdict in ("panic", "no-root-disk", "boot-loader", "no-bootable-device", "stop-code", "boot-loop")
    )


def test_what_the_guest_writes_is_thrown_away(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "disk", guests.WRITES + guests.says("web01 login: "))
    # says() counts on being first: its text stands 18 bytes later now
    code = bytearray(disk.read_bytes()[:512])
    at = code.index(0xBE, 4 + len(guests.WRITES))
    code[at + 1 : at + 3] = (int.from_bytes(code[at + 1 : at + 3], "little") + len(guests.WRITES)).to_bytes(2, "little")
    with disk.open("r+b") as file:
        file.write(code)
    outcome = try_it(tmp_path / "trial", a_trial(disk))
    assert outcome.verdict == "login"
    assert disk.read_bytes()[512:526] == b"left as it was"
    assert outcome.disks_unchanged


@pytest.mark.parametrize(
    ("bus", "model"),
    [(bus, "virtio") for bus in ("virtio", "sata", "scsi", "usb")]
    + [("virtio", model) for model in ("e1000e", "e1000", "rtl8139", "pcnet", "ne2k_pci")],
)
def test_qemu_takes_the_hardware_of_every_manifest(tmp_path: Path, bus: str, model: str) -> None:
    disk = boot_disk(tmp_path / "disk", guests.says("web01 login: "))
    trial = a_trial(disk, disks=(Disk(str(disk), "raw", bus),), cards=(Card(model, "52:54:00:12:34:56"),))  # type: ignore[arg-type]
    assert try_it(tmp_path / "trial", trial).verdict == "login"


def test_qemu_takes_many_disks_and_cards_and_starts_from_the_one_that_is_first_in_boot_order(tmp_path: Path) -> None:
    last = boot_disk(tmp_path / "last", guests.says("web01 login: "))
    empty = boot_disk(tmp_path / "empty", guests.says("Kernel panic - not syncing: the wrong disk\r\n"))
    buses = ["virtio"] * 20 + ["sata"] * 8 + ["scsi"] * 4
    disks = tuple(Disk(str(empty), "raw", bus, number + 2) for number, bus in enumerate(buses))
    trial = a_trial(last, disks=(*disks, Disk(str(last), "raw", "virtio", 1)), cards=(Card(),) * 10)
    assert try_it(tmp_path / "trial", trial).verdict == "login"


@pytest.mark.parametrize("transitional", [False, True])
def test_old_guests_get_old_virtio(tmp_path: Path, transitional: bool) -> None:
    disk = boot_disk(tmp_path / "disk", guests.says("web01 login: "))
    trial = a_trial(disk, transitional=transitional, cards=(Card(),))
    assert try_it(tmp_path / "trial", trial).verdict == "login"


def test_a_qcow2_disk_is_started_as_it_is(tmp_path: Path) -> None:
    raw = boot_disk(tmp_path / "raw", guests.says("web01 login: "))
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk], check=True)
    assert try_it(tmp_path / "trial", a_trial(disk, disks=(Disk(str(disk), "qcow2"),))).verdict == "login"


@pytest.mark.parametrize("secure", [False, True])
def test_a_bios_disk_on_uefi_finds_nothing_and_bios_is_suggested(tmp_path: Path, secure: bool) -> None:
    disk = boot_disk(tmp_path / "disk", guests.says("web01 login: "))
    trial = a_trial(disk, firmware="uefi", secure_boot=secure, limits=Limits(wall=120, memory=256 << 20))
    outcome = try_it(tmp_path / "trial", trial)
    assert outcome.verdict == "no-bootable-device"
    assert {"firmware": "bios", **({"secure_boot": False} if secure else {})} in [
        one["settings"] for one in outcome.suggestions
    ]


def test_a_guest_at_work_is_not_taken_for_one_that_waits(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "disk", guests.shows("Loading", guests.WORKS_WITHOUT_END))
    outcome = try_it(tmp_path / "trial", a_trial(disk, limits=Limits(wall=10, memory=256 << 20)))
    assert (outcome.verdict, outcome.good) == ("undecided", None)


def test_a_guest_that_talks_without_end_is_stopped(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "disk", guests.TALKS_WITHOUT_END)
    trial = a_trial(disk, limits=Limits(wall=60, memory=256 << 20, serial=10_000))
    outcome = try_it(tmp_path / "trial", trial)
    assert outcome.verdict == "undecided" and outcome.seconds < 50


def test_a_disk_that_is_no_qcow2_is_told_as_qemu_s_own_complaint(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "disk", b"")
    outcome = try_it(tmp_path / "trial", a_trial(disk, disks=(Disk(str(disk), "qcow2"),)))
    assert outcome.verdict == "not-possible" and "qcow2" in outcome.text


def test_a_disk_that_is_gone_is_told(tmp_path: Path) -> None:
    outcome = try_it(tmp_path / "trial", a_trial(tmp_path / "nothing"))
    assert outcome.verdict == "not-possible" and "nothing" in outcome.text


def start(folder: Path, disk: Path) -> "subprocess.Popen[bytes]":
    boot = BootDir(folder)
    boot.write_trial(a_trial(disk, steady=500.0))
    process = subprocess.Popen([sys.executable, "-m", "conversions.boot", str(folder)], cwd=PROJECT)
    deadline = time.monotonic() + 60
    while boot.read_state() is None:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    return process


@pytest.mark.parametrize("how", ["the cancel file", "a signal"])
def test_a_trial_that_is_stopped_ends_within_seconds_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    process = start(tmp_path / "trial", boot_disk(tmp_path / "disk", guests.shows("waiting")))
    boot = BootDir(tmp_path / "trial")
    assert boot.is_alive()
    boot.cancel.touch() if how == "the cancel file" else process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    outcome = boot.read_outcome()
    assert outcome is not None and outcome.verdict == "cancelled" and outcome.disks_unchanged
    assert below(tmp_path) == [] and not boot.is_alive()


def test_when_it_is_killed_qemu_goes_with_it(tmp_path: Path) -> None:
    process = start(tmp_path / "trial", boot_disk(tmp_path / "disk", guests.shows("waiting")))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while below(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert below(tmp_path) == []
    assert not BootDir(tmp_path / "trial").is_alive()


def test_a_second_trial_in_the_same_folder_goes_away(tmp_path: Path) -> None:
    process = start(tmp_path / "trial", boot_disk(tmp_path / "disk", guests.shows("waiting")))
    second = subprocess.run(
        [sys.executable, "-m", "conversions.boot", tmp_path / "trial"], cwd=PROJECT, timeout=20, check=False
    )
    assert second.returncode == 0 and process.poll() is None and BootDir(tmp_path / "trial").read_outcome() is None
    BootDir(tmp_path / "trial").cancel.touch()
    process.wait(20)


def test_the_sandbox_shows_qemu_the_disks_read_only_and_no_network(tmp_path: Path) -> None:
    process = start(tmp_path / "trial", boot_disk(tmp_path / "disk", guests.shows("waiting")))
    try:
        qemu = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and "guest=web01" in _cmdline(entry) and _cmdline(entry).startswith("qemu")
        ]
        mine = [
            pid
            for pid in qemu
            if str(tmp_path) in Path(f"/proc/{pid}/mountinfo").read_text() or _is_ours(pid, tmp_path)
        ]
        assert len(mine) == 1
        root = Path(f"/proc/{mine[0]}/root")
        assert not (root / "etc/passwd").exists() and not (root / "home").exists() and not (root / "var").exists()
        with pytest.raises(OSError):
            (root / "image/disk0").open("r+b")
        assert Path(f"/proc/{mine[0]}/net/dev").read_text().count(":") <= 1  # lo at most
        assert Path(f"/proc/{mine[0]}/stat").read_text().rpartition(")")[2].split()[16] == "10"  # nice
    finally:
        BootDir(tmp_path / "trial").cancel.touch()
        process.wait(20)


def _cmdline(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _is_ours(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/root/work/trial.json").read_text() == (folder / "trial" / "trial.json").read_text()
    except OSError:
        return False
