"""What was seen during a trial, in words: pure, so that it can be tried with the texts of many guests."""

import re
from dataclasses import dataclass, field
from typing import Any

from .bootdir import Suggestion, Trial

LOOP = 4  #: resets; converted guests restart once or twice by themselves (first-boot scripts, SELinux labels)

#: verdict -> (good, title, what happened, what to do)
WORDS: dict[str, tuple[bool | None, str, str, str]] = {
    "login": (True, "The guest starts", "It started up to its login prompt.", ""),
    "steady": (
        True,
        "The guest starts",
        "Its screen came to rest on a picture, as a system does that waits for somebody.",
        "Look at the last picture: it should show a login screen.",
    ),
    "panic": (False, "The system crashed", "The kernel of the guest stopped with a panic.", "Try a suggestion below."),
    "no-root-disk": (
        False,
        "The system does not find its disk",
        "It began to start and then did not find its own disk, so it has no driver for it or looks for it under another name.",
        "Try a suggestion below.",
    ),
    "boot-loader": (
        False,
        "The boot loader stopped",
        "The boot loader of the guest came up and went no further.",
        "Look at the last picture, and try a suggestion below.",
    ),
    "no-bootable-device": (
        False,
        "Nothing to start from",
        "The firmware found no disk that it can start from.",
        "Try a suggestion below.",
    ),
    "stop-code": (
        False,
        "Windows stopped with a blue screen",
        "Windows began to start and stopped with a stop code; the last picture shows it.",
        "Read the stop code in the last picture, and try a suggestion below.",
    ),
    "boot-loop": (
        False,
        "The guest restarts again and again",
        "It started over several times without coming up.",
        "Look at the pictures, and try a suggestion below.",
    ),
    "emergency": (
        False,
        "The system started into emergency mode",
        "It came up only so far that an administrator can mend it, mostly because a disk in its /etc/fstab is missing.",
        "Look at the end of the console's text.",
    ),
    "powered-off": (
        False,
        "The guest switched itself off",
        "It ended by itself before it had come up.",
        "Look at the pictures.",
    ),
    "undecided": (
        None,
        "Nobody can say",
        "The time was over before anything certain was seen. On a server without KVM guests start slowly.",
        "Look at the last picture, or try again with more time.",
    ),
    "cancelled": (None, "The trial was stopped", "Somebody stopped it.", ""),
    "not-possible": (None, "The trial could not be made", "QEMU did not start.", "Tell the administrator."),
}

#: on the serial console or on a screen in text mode; the first that is found counts
_BAD: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (verdict, re.compile("|".join(texts), re.M))
    for verdict, texts in (
        (
            "no-root-disk",
            (
                r"VFS: (?:Cannot open|Unable to mount) root",
                r"Dropping to a shell!",
                r"\(initramfs\) ?\Z",
                r"dracut-initqueue.{1,80}timeout",
                r"ALERT! .{1,200} does not exist",
                r"dracut: FATAL",
                r"Entering emergency mode\. Exit the shell",
            ),
        ),
        ("panic", (r"Kernel panic - not syncing",)),
        (
            "emergency",
            (
                r"You are in (?:emergency|rescue) mode",
                r"Give root password for maintenance",
                r"Cannot open access to console",
            ),
        ),
        (
            "boot-loader",
            (
                r"grub rescue>",
                r"^grub> ?\Z",
                r"Entering rescue mode\.\.\.",
                r"^LI\Z",
                r"Missing operating system",
                r"Error loading operating system",
                r"BOOTMGR is missing",
                r"NTLDR is missing",
                r"Operating System not found",
            ),
        ),
        (
            "no-bootable-device",
            (
                r"No bootable device",
                r"BdsDxe: No bootable option or device",
                r"UEFI Interactive Shell",
                r"^Shell>",
                r">>\s*Start PXE over IPv[46]",
            ),
        ),
    )
)
#: getty's prompt; a message of the kernel may come right behind it
_LOGIN = re.compile(r"^(?!Last )[\w.-]{1,64} login:(?:\s|\Z)", re.M)
_SIGNATURE = re.compile(r"(Access Denied|Security Violation|bad shim signature|Secure Boot verification failed)", re.I)


@dataclass
class Seen:
    """All that has been seen so far."""

    serial: str = ""  #: the end of the serial console's text
    screen: str = ""  #: the screen's text, when it is in text mode
    firmware: str = ""  #: the end of what the BIOS said since the last reset
    resets: int = 0
    off: bool = False  #: the guest switched itself off
    changed: bool = False  #: the screen showed something beside the firmware
    still: float = 0.0  #: seconds that the screen has been the same, and not blank
    busy: bool = False  #: its processors were at work nearly all the time of late
    stop_screen: bool = False
    seconds: float = 0.0
    os_family: str | None = None
    marks: set[str] = field(default_factory=set)  #: texts that were met once and may have scrolled away


def judge(seen: Seen, trial: Trial) -> str | None:
    """The verdict as soon as there is one; None: go on looking."""
    text = _plain(seen.serial)
    if _LOGIN.search(text) or _LOGIN.search(seen.screen):
        return "login"
    if seen.off:
        return "powered-off"
    for verdict, pattern in _BAD:
        if pattern.search(text) or pattern.search(seen.screen):
            return verdict
    if "No bootable device" in seen.firmware:
        return "no-bootable-device"
    if seen.resets >= LOOP:
        return "boot-loop"
    if seen.stop_screen and seen.still >= min(10, trial.steady) and seen.os_family != "linux":
        return "stop-code"
    # A kernel that unpacks itself shows the boot loader's last picture for a minute under emulation, and is at work.
    if seen.changed and seen.still >= trial.steady * (3 if seen.busy else 1):
        return "boot-loader" if _in_boot_loader(seen) else "steady"
    if seen.seconds >= trial.limits.wall:
        return "undecided"
    return None


def _in_boot_loader(seen: Seen) -> bool:
    """A steady picture that is still the boot loader's or the firmware's."""
    return bool(re.search(r"GNU GRUB|grub>|iPXE|Booting .{1,80}\.\.\.\s*\Z", seen.screen))


def _plain(text: str) -> str:
    """Without the sequences that move a terminal's cursor, and without the carriage returns of getty."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78c])", "", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x00")


def words(verdict: str, seen: Seen) -> dict[str, Any]:
    """Outcome's good, title, text and action."""
    good, title, text, action = WORDS[verdict]
    if verdict == "panic":
        found = re.search(r"Kernel panic - not syncing:? ?([^\r\n]{0,160})", _plain(seen.serial) + seen.screen)
        if found and found[1].strip():
            text = f"{text[:-1]}: “{found[1].strip()}”."
    if verdict in ("no-bootable-device", "boot-loader") and _SIGNATURE.search(seen.serial + seen.screen):
        text = f"{text} Secure boot refused what is on the disk."
    return {"good": good, "title": title, "text": text, "action": action}


def suggestions(verdict: str, trial: Trial, seen: Seen) -> tuple[Suggestion, ...]:
    """What could help, the likeliest first: each changes one setting of the target."""
    if verdict not in (
        "panic",
        "no-root-disk",
        "boot-loader",
        "no-bootable-device",
        "stop-code",
        "boot-loop",
        "undecided",
    ):
        return ()
    found = []
    bus = Suggestion(
        "Disks on SATA",
        "Every system has a driver for SATA; once it is up, drivers for virtio can be installed in it.",
        {"bus": "sata"},
    )
    other = "bios" if trial.firmware == "uefi" else "uefi"
    firmware = Suggestion(
        f"{other.upper()} firmware",
        "A guest starts only with the kind of firmware that it was installed with.",
        {"firmware": other, **({"secure_boot": False} if trial.secure_boot else {})},
    )
    if trial.secure_boot:
        found.append(
            Suggestion(
                "UEFI without secure boot",
                "What is on the disk may not be signed for this firmware.",
                {"secure_boot": False},
            )
        )
    all_on_sata = all(disk.bus == "sata" for disk in trial.disks)
    if all_on_sata:
        bus = Suggestion("Disks on virtio", "virt-v2v prepares guests for virtio where it can.", {"bus": "virtio"})
    at_firmware = verdict in ("no-bootable-device", "boot-loader")
    if at_firmware:
        found.append(firmware)
    if not all_on_sata or verdict == "no-root-disk":
        found.append(bus)
    if not at_firmware and verdict != "no-root-disk":
        found.append(firmware)
    if (
        not trial.transitional
        and verdict in ("no-root-disk", "panic")
        and any(disk.bus == "virtio" for disk in trial.disks)
    ):
        found.append(
            Suggestion(
                "Disks on virtio-scsi", "Some systems have the driver for it and not for virtio.", {"bus": "scsi"}
            )
        )
    return tuple(found)
