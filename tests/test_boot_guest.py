"""The whole proof: the lab's guest converted by the real virt-v2v, its manifest, and its disk started on what that names."""

import hashlib
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conversions.boot.bootdir import BootDir, Trial
from conversions.boot.hardware import File, trial_of
from conversions.boot.trial import STAYING
from conversions.manifest import Origin, Target, Views, check, disk_files, expected, said, three_views
from conversions.plan import Nic
from tests.fixtures_boot import PROJECT, try_it
from tests.fixtures_manifest import a_plan

pytestmark = pytest.mark.real

MAC = "52:54:00:ab:cd:ef"


def manifest(converted: Path, settings: dict[str, Any] | None = None) -> Views:
    """Ours from what the real virt-v2v wrote and said."""
    plan = a_plan("disk", nics=(Nic(mac=MAC, network="lan", model="vmxnet3"),), memory=1 << 30)
    text = (converted / "web01.yaml").read_text()
    log = (converted / "log").read_text(errors="replace").replace("\r", "\n")
    files = disk_files(converted, "web01", "raw")
    return three_views(text, plan, Target.from_settings(settings or {}), files, said(log, text), Origin("7"))


def trial(converted: Path, views: Views) -> Trial:
    files = disk_files(converted, "web01", "raw")
    found = {
        claim: File(str(converted / file.name), file.format) for claim, file in zip(views.claims, files, strict=True)
    }
    made = trial_of(views.machine, found, os_family="linux")
    return replace(made, limits=replace(made.limits, wall=400))


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_manifest_of_a_real_conversion_passes_the_strict_schema(
    firmware: str, request: pytest.FixtureRequest, kubevirt_schemas: Path
) -> None:
    views = manifest(request.getfixturevalue(f"converted_{firmware}"))
    assert check(views.ours, expected(views, Target()), kubevirt_schemas) == []
    bootloader = views.machine["spec"]["template"]["spec"]["domain"].get("firmware", {}).get("bootloader", {})
    assert bootloader == ({"efi": {"secureBoot": False}} if firmware == "uefi" else {})


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_real_guest_starts_on_the_hardware_of_its_manifest_with_its_network_card_up(
    firmware: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    converted: Path = request.getfixturevalue(f"converted_{firmware}")
    disk = converted / "web01-sda"
    checksum = _sha256(disk)
    views = manifest(converted)
    made = trial(converted, views)
    assert (made.firmware, made.disks[0].bus, made.cards[0].model, made.cards[0].mac) == (
        firmware,
        "virtio",
        "virtio",
        MAC,
    )
    boot = BootDir(tmp_path)
    boot.write_trial(replace(made, stay=120.0))
    process = subprocess.Popen([sys.executable, "-m", "conversions.boot", tmp_path], cwd=PROJECT)
    try:
        _wait_until_up(boot, process)
        answer = _ask(
            tmp_path,
            "d=$(ls /sys/class/net | grep -v lo); ip link set $d up; sleep 2; "
            "echo CARD $d $(cat /sys/class/net/$d/address) $(cat /sys/class/net/$d/carrier) "
            "$(basename $(readlink /sys/class/net/$d/device/driver)); "
            "echo DISK $(findmnt -no SOURCE /); echo UEFI $(ls -d /sys/firmware/efi); echo M''ARK",
        )
    finally:
        boot.cancel.touch()
        process.wait(60)
    found = re.search(r"CARD (\S+) (\S+) (\d) (\S+)", answer)
    assert found is not None and found.groups() == ("enp1s0", MAC, "1", "virtio_net"), answer
    assert re.search(r"DISK /dev/vda\d", answer), answer
    assert ("UEFI /sys/firmware/efi" in answer) == (firmware == "uefi"), answer
    outcome = boot.read_outcome()
    assert outcome is not None and outcome.verdict == "login" and outcome.disks_unchanged
    assert outcome.pictures and "web01 login:" in boot.serial.read_text(errors="replace")
    assert _sha256(disk) == checksum


def test_a_guest_that_cannot_find_its_disk_is_told_so_and_what_is_suggested_then_works(
    converted_bios: Path, tmp_path: Path
) -> None:
    """The lab's guest has drivers for virtio in its initial RAM disk and none for SATA."""
    wrong = manifest(converted_bios, {"bus": "sata"})
    outcome = try_it(tmp_path / "1", trial(converted_bios, wrong), timeout=500)
    assert (outcome.verdict, outcome.good) == ("no-root-disk", False)
    again = manifest(converted_bios, {"bus": "sata", **outcome.suggestions[0]["settings"]})
    assert try_it(tmp_path / "2", trial(converted_bios, again), timeout=500).verdict == "login"


def test_a_bios_guest_with_uefi_in_its_manifest_is_told_so(converted_bios: Path, tmp_path: Path) -> None:
    outcome = try_it(tmp_path, trial(converted_bios, manifest(converted_bios, {"firmware": "uefi"})), timeout=500)
    assert outcome.verdict == "no-bootable-device"
    assert outcome.suggestions[0]["settings"] == {"firmware": "bios"}


def _wait_until_up(boot: BootDir, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 420
    while True:
        state = boot.read_state()
        if state is not None and state.text == STAYING:
            return
        assert process.poll() is None and time.monotonic() < deadline, (state, boot.read_outcome())
        time.sleep(1)


def _ask(folder: Path, command: str) -> str:
    """Logs in on the serial console as root, gives a command, and returns what came back up to MARK."""
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(90)
        console.connect(str(folder / "serial.sock"))
        text = ""

        def until(part: str) -> None:
            nonlocal text
            while part not in text:
                text += console.recv(4096).decode("utf-8", "replace")

        console.sendall(b"\r")
        until("login:")
        console.sendall(b"root\r")
        until("assword:")
        console.sendall(b"secret\r")
        until("# ")
        text = ""
        console.sendall(command.encode() + b"\r")
        until("MARK")
        return text


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
