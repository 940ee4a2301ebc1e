"""Proof of boot without QEMU: hardware from manifests, command lines, pictures, verdicts from texts of real systems."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conversions.boot import qemu, verdict
from conversions.boot.bootdir import BootDir, Card, Disk, Limits, Outcome, State, Trial
from conversions.boot.hardware import File, trial_of
from conversions.boot.monitor import Monitor, MonitorGoneError
from conversions.boot.screen import Picture, text_of
from conversions.boot.trial import fingerprint
from conversions.boot.verdict import WORDS, Seen, judge, suggestions, words
from conversions.manifest import Target, predict, three_views
from conversions.plan import Disk as PlanDisk
from conversions.plan import Nic
from conversions.problems import RefusedError
from tests.fixtures_boot import a_trial
from tests.fixtures_manifest import GIB, Case, a_plan

BOOT = Path(__file__).parent / "data" / "boot"


def trial_for(settings: dict[str, Any] | None = None, *, virtio: bool = True, **guest: object) -> Trial:
    """The trial of the manifest that is made for a guest."""
    plan = a_plan("vcenter", **guest)
    files = Case(plan).files
    views = three_views(
        predict(plan, files, "2.10.0", virtio=virtio), plan, Target.from_settings(settings or {}), files
    )
    converted = {claim: File(f"/out/{file.name}", file.format) for claim, file in zip(views.claims, files, strict=True)}
    return trial_of(views.machine, converted, os_family=plan.guest.os_family)


# --- hardware -------------------------------------------------------------------------------------------------------


def test_a_trial_has_the_hardware_that_the_manifest_names() -> None:
    trial = trial_for(
        cpus=2, memory=GIB, firmware="bios", disks=(PlanDisk(name="a", size=1), PlanDisk(name="b", size=1))
    )
    assert trial == Trial(
        name="web01",
        disks=(Disk("/out/web01-sda", "raw", "virtio", 1), Disk("/out/web01-sdb", "raw", "virtio", 2)),
        cards=(Card("virtio", "52:54:00:aa:00:01"),),
        cpus=2,
        memory=GIB,
        steady=120.0,
    )


def test_a_guest_without_virtio_is_tried_on_sata_and_e1000() -> None:
    trial = trial_for(virtio=False, os_family="windows")
    assert (trial.disks[0].bus, trial.cards[0].model, trial.os_family) == ("sata", "e1000", "windows")


@pytest.mark.parametrize(("secure", "firmware"), [(True, "uefi"), (False, "uefi")])
def test_firmware_and_secure_boot_are_those_of_the_manifest(secure: bool, firmware: str) -> None:
    trial = trial_for(firmware="uefi", secure_boot=secure)
    assert (trial.firmware, trial.secure_boot) == (firmware, secure)


def test_what_is_not_as_in_the_manifest_is_noted() -> None:
    trial = trial_for({"machine": "pc-q35-9.2"}, cpus=16, memory=64 * GIB, tpm=True, firmware="uefi")
    assert (trial.cpus, trial.memory) == (Limits().cpus, Limits().memory)
    assert set(trial.notes) == {
        "Tried without a TPM.",
        "Tried on the machine type q35 in place of pc-q35-9.2.",
        "Tried with 2 processors in place of 16.",
        "Tried with 2.0 GiB of memory in place of 64 GiB.",
    }


def test_an_instance_type_s_size_is_not_known_here_and_that_is_noted() -> None:
    trial = trial_for({"instance_type": "u1.small"})
    assert (trial.cpus, trial.memory) == (1, 2 * GIB)
    assert trial.notes == ("The instance type's processors and memory are not known here.",)


def test_a_card_that_this_qemu_may_not_have_is_replaced_and_noted() -> None:
    machine = _machine(interfaces=[{"name": "n", "model": "igb", "macAddress": "52:54:00:00:00:01"}])
    trial = trial_of(machine, {"c": File("/d", "raw")})
    assert trial.cards == (Card("e1000e", "52:54:00:00:00:01"),)
    assert trial.notes == ("Tried with the network card e1000e in place of igb.",)


def test_disks_that_are_not_ours_are_left_out_and_without_any_there_is_nothing_to_try() -> None:
    with pytest.raises(RefusedError) as refused:
        trial_of(_machine(), {"another": File("/d", "raw")})
    assert refused.value.problem.code == "nothing-to-boot"


def _machine(**devices: object) -> dict[str, Any]:
    """As short as an edited manifest can be."""
    domain = {"devices": {"disks": [{"name": "d", "disk": {}}], **devices}, "memory": {"guest": "1Gi"}}
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]
    return {"metadata": {"name": "x"}, "spec": {"template": {"spec": {"domain": domain, "volumes": volumes}}}}


def test_a_disk_without_a_bus_is_on_sata_as_in_kubevirt() -> None:
    assert trial_of(_machine(), {"c": File("/d", "qcow2")}).disks == (Disk("/d", "qcow2", "sata"),)


def test_a_trial_its_state_and_its_outcome_go_through_their_files(tmp_path: Path) -> None:
    folder, trial = BootDir(tmp_path / "1"), trial_for(cpus=4)
    folder.write_trial(trial)
    assert folder.read_trial() == trial
    assert folder.read_state() is None and folder.read_outcome() is None and not folder.is_alive()
    folder.write_state(State(3.5, "x", ("a.png",), 7))
    assert folder.read_state() == State(3.5, "x", ("a.png",), 7)
    outcome = Outcome(
        "login", True, "a", "b", "", 1.0, notes=("n",), fingerprints=({"path": "p", "before": "1", "after": "2"},)
    )
    folder.write_outcome(outcome)
    assert folder.read_outcome() == outcome and not outcome.disks_unchanged
    held = folder.take()
    assert held is not None and folder.take() is None and folder.is_alive()
    os.close(held)
    assert not folder.is_alive()


# --- QEMU's command line --------------------------------------------------------------------------------------------

_COMMANDS: dict[str, Trial] = {
    "bios-virtio": trial_for(),
    "uefi-sata-e1000": replace(trial_for(virtio=False), firmware="uefi"),
    "secure-boot": trial_for(firmware="uefi", secure_boot=True),
    "scsi-two-cards": replace(
        trial_for(
            {"bus": "scsi", "networks": {"*": "infra/lan"}}, nics=(Nic(mac="52:54:00:00:00:01"), Nic(network="b"))
        ),
        accelerator="kvm",
    ),
    "old-virtio": replace(trial_for(), transitional=True),
    "seven-sata": replace(trial_for(), disks=(*[Disk("/d", "raw", "sata")] * 7, Disk("/u", "qcow2", "usb"))),
}


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_command_line_is_as_it_was_found_good(name: str, golden: Callable[[Path, str], None]) -> None:
    trial = _COMMANDS[name]
    firmware = None
    if trial.firmware == "uefi":
        firmware = qemu.Firmware(Path("/usr/share/code.fd"), Path("/usr/share/variables.fd"))
    argv = qemu.command(trial, firmware)
    golden(BOOT / f"{name}.txt", "\n".join(argv).replace("\n-", "\n\n-") + "\n")


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_network_is_shut_off_and_every_disk_is_only_read(name: str) -> None:
    argv = qemu.command(_COMMANDS[name], qemu.Firmware(Path("/c"), Path("/v")))
    assert all("restrict=on" in value for value in argv if value.startswith("user,"))
    disks = [value for value in argv if value.startswith("if=none")]
    assert len(disks) == len(_COMMANDS[name].disks) and all("snapshot=on" in value for value in disks)


def test_missing_uefi_firmware_is_told_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "_FIRMWARE", (("/none", "/none"),))
    with pytest.raises(RefusedError) as refused:
        qemu.firmware_for(replace(trial_for(), firmware="uefi"))
    assert "ovmf" in refused.value.problem.action
    assert qemu.firmware_for(trial_for()) is None


# --- pictures -------------------------------------------------------------------------------------------------------


def picture(width: int = 64, height: int = 40, colour: tuple[int, int, int] = (0, 0, 0), *, light: int = 0) -> Picture:
    """One colour, with so many white pixels at the start."""
    return Picture(width, height, b"\xff" * 3 * light + bytes(colour) * (width * height - light))


def test_a_picture_of_qemu_becomes_a_png_with_the_same_pixels() -> None:
    source = Picture.from_ppm(b"P6\n3 2\n255\n" + bytes(range(18)))
    png = source.to_png()
    header, data = png[16:29], png[png.index(b"IDAT") + 4 : -16]
    assert struct.unpack(">IIBBBBB", header) == (3, 2, 8, 2, 0, 0, 0)
    assert zlib.decompress(data) == b"\0" + bytes(range(9)) + b"\0" + bytes(range(9, 18))


@pytest.mark.parametrize(
    "data",
    [b"", b"P5\n1 1\n255\nabc", b"P6\n2 2\n255\nabc", b"P6\n99999 1\n255\n", b"P6\n0 0\n255\n", b"P6\nx y\n255\nabc"],
)
def test_what_is_no_picture_of_qemu_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Picture.from_ppm(data)


def test_a_blinking_cursor_is_no_change_and_a_line_of_text_is() -> None:
    screen = picture(720, 400)
    assert screen.is_like(screen) and screen.is_like(picture(720, 400, light=20))
    assert not screen.is_like(picture(720, 400, light=2000))
    assert not screen.is_like(picture(640, 480)) and not screen.is_like(None)


def test_blank_is_one_colour_all_over() -> None:
    assert picture().is_blank and picture(colour=(9, 9, 9)).is_blank and not picture(light=1).is_blank


@pytest.mark.parametrize("colour", [(0, 120, 215), (16, 113, 170), (0, 0, 128), (0, 0, 170)])
def test_windows_blue_screens_are_known_by_their_colours(colour: tuple[int, int, int]) -> None:
    assert picture(colour=colour, light=150).is_stop_screen
    assert not picture(colour=colour).is_stop_screen


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (60, 60, 70), (200, 0, 0)])
def test_other_screens_are_no_blue_screens(colour: tuple[int, int, int]) -> None:
    assert not picture(colour=colour, light=150).is_stop_screen


def test_text_is_read_from_the_memory_of_a_screen_in_text_mode() -> None:
    rows = ["Debian GNU/Linux 12 web01 tty1", "", "web01 login:"]
    memory = b"".join(bytes((ord(letter), 7)) for row in rows for letter in row.ljust(80)).ljust(4000, b"\0")
    assert text_of(memory) == "Debian GNU/Linux 12 web01 tty1\n\nweb01 login:"
    assert text_of(bytes(4000)) == "" and text_of(b"\x01\x02" * 2000) == "" and text_of(b"") == ""


# --- verdicts -------------------------------------------------------------------------------------------------------

TRIAL = a_trial(Path("/d"), steady=60.0, limits=Limits(wall=600))

#: what a console shows -> verdict
CONSOLES = {
    "Debian GNU/Linux 12 web01 ttyS0\r\n\r\nweb01 login: ": "login",
    "\r\nweb01 login: [   60.677131] firstboot.sh[355]: Ign:1": "login",
    "\x1b[0m\r\nAlmaLinux 9.4\r\nKernel 5.14 on an x86_64\r\n\r\nmail-1.example.com login: \x1b[6n": "login",
    "Welcome to Alpine Linux 3.20\r\n\r\nlocalhost login: ": "login",
    "Last login: Mon Nov 23 on tty1\r\n": None,
    "[    1.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n": "panic",
    "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n": "no-root-disk",
    "ALERT!  UUID=93ab48f5 does not exist.  Dropping to a shell!\r\n(initramfs) ": "no-root-disk",
    "dracut-initqueue[311]: Warning: dracut-initqueue timeout - starting timeout scripts": "no-root-disk",
    "You are in emergency mode. After logging in, type \"journalctl -xb\"": "emergency",
    "Give root password for maintenance\r\n(or press Control-D to continue): ": "emergency",
    "error: no such partition.\r\nEntering rescue mode...\r\n": "boot-loader",
    "error: file `/boot/grub/fonts/unicode.pf2' not found.\r\n[    0.0] Linux version 6.1": None,
    "BdsDxe: failed to load Boot0001\r\nBdsDxe: No bootable option or device was found.\r\n": "no-bootable-device",
    "\x1b[2J\x1b[01;01HUEFI Interactive Shell v2.2\r\n": "no-bootable-device",
    ">>Start PXE over IPv4.\r\n": "no-bootable-device",
    "Booting `Debian GNU/Linux'\r\n": None,
    "": None,
}  # fmt: skip


@pytest.mark.parametrize("text", CONSOLES)
def test_what_the_console_says_is_understood(text: str) -> None:
    assert judge(Seen(serial=text), TRIAL) == CONSOLES[text]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(screen="Booting from Hard Disk...\nNo bootable device."), "no-bootable-device"),
        (
            Seen(
                firmware="Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.  Retrying"
            ),
            "no-bootable-device",
        ),
        (Seen(screen="BOOTMGR is missing\nPress Ctrl+Alt+Del to restart"), "boot-loader"),
        (Seen(screen="web01 login: _"), "login"),
        (Seen(resets=3), None),
        (Seen(resets=4), "boot-loop"),
        (Seen(off=True), "powered-off"),
        (Seen(off=True, serial="\nweb01 login: "), "login"),
        (Seen(stop_screen=True, still=12), "stop-code"),
        (Seen(stop_screen=True, still=12, os_family="linux"), None),
        (Seen(stop_screen=True, still=2), None),
        (Seen(changed=True, still=59), None),
        (Seen(changed=True, still=61), "steady"),
        (Seen(changed=True, still=61, busy=True), None),
        (Seen(changed=True, still=181, busy=True), "steady"),
        (Seen(changed=True, still=61, screen="GNU GRUB  version 2.06"), "boot-loader"),
        (Seen(changed=False, still=300), None),
        (Seen(seconds=600), "undecided"),
    ],
)
def test_what_is_seen_is_judged(seen: Seen, expected: str | None) -> None:
    assert judge(seen, TRIAL) == expected


def test_every_verdict_has_words_for_people() -> None:
    named = {value for value in CONSOLES.values() if value} | {name for name, _ in verdict._BAD}
    assert named <= set(WORDS)
    for good, title, text, _ in WORDS.values():
        assert title and text.endswith(".") and (good is not None or title)


def test_a_panic_is_quoted_and_a_refusal_of_secure_boot_is_told() -> None:
    assert (
        "Attempted to kill init"
        in words("panic", Seen(serial="Kernel panic - not syncing: Attempted to kill init!\n"))["text"]
    )
    assert (
        "Secure boot refused"
        in words("no-bootable-device", Seen(serial="BdsDxe: failed to load Boot0001: Access Denied"))["text"]
    )


@pytest.mark.parametrize(
    ("found", "changes", "expected"),
    [
        ("no-root-disk", {}, [{"bus": "sata"}, {"bus": "scsi"}]),
        ("no-root-disk", {"disks": (Disk("/d", "raw", "sata"),)}, [{"bus": "virtio"}]),
        ("no-bootable-device", {}, [{"firmware": "uefi"}, {"bus": "sata"}]),
        (
            "no-bootable-device",
            {"firmware": "uefi", "secure_boot": True},
            [{"secure_boot": False}, {"firmware": "bios", "secure_boot": False}, {"bus": "sata"}],
        ),
        ("stop-code", {}, [{"bus": "sata"}, {"firmware": "uefi"}]),
        ("login", {}, []),
        ("steady", {}, []),
        ("cancelled", {}, []),
    ],
)  # fmt: skip
def test_what_could_help_is_suggested_as_settings(
    found: str, changes: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    trial = replace(TRIAL, **changes)
    assert [one.settings for one in suggestions(found, trial, Seen())] == expected


@pytest.mark.parametrize("found", WORDS)
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_every_suggestion_gives_a_manifest_that_can_be_tried(found: str, firmware: str) -> None:
    plan = a_plan("vcenter", firmware=firmware, secure_boot=firmware == "uefi")
    files = Case(plan).files
    text = predict(plan, files, "2.8.0")
    first = three_views(text, plan, Target(), files)
    trial = trial_of(first.machine, {first.claims[0]: File("/d", "raw")})
    for one in suggestions(found, trial, Seen()):
        again = three_views(text, plan, Target.from_settings(one.settings), files)
        assert trial_of(again.machine, {again.claims[0]: File("/d", "raw")}) != trial, one


# --- the rest -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_sees_each_byte_and_where_it_is(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"a" * 4096)
    os.truncate(disk, 1 << 30)
    first = fingerprint(disk, 1 << 20)
    assert first.startswith("sha256 ") and first == fingerprint(disk, 1 << 20)
    with disk.open("r+b") as file:
        file.seek(512 << 20)
        file.write(b"x")
    second = fingerprint(disk, 1 << 20)
    with disk.open("r+b") as file:
        file.write(b"b")
    assert len({first, second, fingerprint(disk, 1 << 20)}) == 3
    assert fingerprint(disk, 1).startswith("size 1073741824, changed ")
    empty = tmp_path / "empty"
    empty.touch()
    os.truncate(empty, 4096)
    assert fingerprint(empty, 1 << 20).startswith("sha256 ")


STANDIN_MONITOR = """
import json, sys
say = lambda thing: print(json.dumps(thing), flush=True)
say({"QMP": {}})
for line in sys.stdin:
    asked = json.loads(line)["execute"]
    if asked == "quit":
        break
    say({"event": "RESET", "data": {"guest": True}})
    say({"return": asked} if asked != "nonsense" else {"error": {"desc": "what?"}})
"""


def standin_for_qemu() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", STANDIN_MONITOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_monitor_keeps_events_that_come_before_an_answer() -> None:
    process = standin_for_qemu()
    monitor = Monitor(process)
    monitor.greet()
    assert monitor.ask("screendump", filename="x") == "screendump"
    assert monitor.ask("nonsense") == {"error": {"desc": "what?"}}
    assert [event["event"] for event in monitor.events] == ["RESET"] * 3
    process.communicate(b'{"execute": "quit"}\n', timeout=10)


def test_a_qemu_that_ends_is_told() -> None:
    process = standin_for_qemu()
    monitor = Monitor(process)
    monitor.greet()
    with pytest.raises(MonitorGoneError):
        monitor.ask("quit")
    process.wait(10)
    for stream in (process.stdin, process.stdout):
        assert isinstance(stream, io.IOBase)
        stream.close()


def test_it_says_how_it_is_called() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "conversions.boot"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "usage: python -m conversions.boot BOOTDIR\n")


def test_no_process_of_a_trial_needs_more_than_the_standard_library() -> None:
    code = (
        "import sys, conversions.boot.__main__; print([m for m in sys.modules if m in ('django', 'pydantic', 'yaml')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.replace("'", '"')) == []
