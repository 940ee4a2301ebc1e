"""What is on a disk: its partition table, and what each partition begins with.  Standard library only.

Nothing here runs a program or believes a length that it has read: every read is bounded.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .peek import HEAD, SECTOR, file_system, has_boot_sector


def luks_uuid(head: bytes) -> str | None:
    """The UUID of a LUKS 1 or 2 header, as `cryptsetup luksUUID` prints it; None when there is none."""
    text = head[168:208].split(b"\0", 1)[0]
    try:
        return str(uuid.UUID(text.decode("ascii")))
    except ValueError:
        return None


@dataclass(frozen=True)
class Partition:
    number: int
    start: int  #: bytes
    role: Literal["esp", "bios-boot", "other"] = "other"
    file_system: str | None = None
    luks_uuid: str | None = None


@dataclass(frozen=True)
class Content:
    """What is on a disk, as far as its first sectors and those of its partitions tell."""

    table: Literal["gpt", "mbr"] | None = None
    partitions: tuple[Partition, ...] = ()
    #: Of the whole disk when it has no partition table: number 0.
    whole: Partition | None = None

    @property
    def parts(self) -> tuple[Partition, ...]:
        return (*self.partitions, *((self.whole,) if self.whole else ()))

    @property
    def firmware(self) -> Literal["uefi"] | None:
        """UEFI, when the disk can boot with nothing else; None when it is not certain."""
        roles = {part.role for part in self.partitions}
        return "uefi" if self.table == "gpt" and "esp" in roles and "bios-boot" not in roles else None

    @property
    def os_family(self) -> Literal["linux", "windows"] | None:
        """Linux when a file system of Linux's own is there and none of Windows', and the other way round."""
        found = {part.file_system for part in self.parts}
        linux = bool(found & {"ext", "xfs", "btrfs", "lvm", "luks"})
        windows = bool(found & {"ntfs", "bitlocker"})
        if linux == windows:
            return None
        return "linux" if linux else "windows"

    @property
    def encrypted(self) -> bool:
        return any(part.file_system in ("luks", "bitlocker") for part in self.parts)

    @property
    def luks_uuids(self) -> tuple[str, ...]:
        return tuple(part.luks_uuid for part in self.parts if part.luks_uuid)


#: read(offset, length) -> bytes of the disk, shorter at its end.
Read = Callable[[int, int], bytes]

_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").bytes_le
_BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649").bytes_le
_MAX_PARTITIONS = 128
_MAX_LOOKS = (
    32  #: partitions whose beginning is read; a disk with more is rare, and a hostile one must not cost minutes
)


def content(read: Read) -> Content:
    """Looks at a disk's partition table and at the start of each partition."""
    head = read(0, HEAD)
    for sector in (512, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            return Content("gpt", _look_into(read, _gpt(read, head, sector)))
    name = file_system(head)
    # The boot sector of a file system without a partition table has 55 AA too.
    if name is None and has_boot_sector(head):
        return Content("mbr", _look_into(read, _mbr(read, head)))
    return Content(whole=Partition(0, 0, "other", name, luks_uuid(head) if name == "luks" else None))


def _look_into(read: Read, parts: list[Partition]) -> tuple[Partition, ...]:
    return (*(_look(read, part) for part in parts[:_MAX_LOOKS]), *parts[_MAX_LOOKS:])


def _look(read: Read, part: Partition) -> Partition:
    head = read(part.start, HEAD)
    name = file_system(head)
    return Partition(part.number, part.start, part.role, name, luks_uuid(head) if name == "luks" else None)


def _gpt(read: Read, head: bytes, sector: int) -> list[Partition]:
    if len(head) < sector + 88:
        return []
    entries_at, count, size = struct.unpack_from("<QII", head, sector + 72)
    if not 128 <= size <= 4096 or entries_at > 1 << 40:
        return []
    count = min(count, _MAX_PARTITIONS)
    table = read(entries_at * sector, count * size)
    parts = []
    for number in range(len(table) // size):
        entry = table[number * size : (number + 1) * size]
        kind, first = entry[:16], struct.unpack_from("<Q", entry, 32)[0]
        if kind == bytes(16) or first > 1 << 46:
            continue
        role: Literal["esp", "bios-boot", "other"] = "other"
        if kind == _ESP:
            role = "esp"
        elif kind == _BIOS_BOOT:
            role = "bios-boot"
        parts.append(Partition(number + 1, first * sector, role))
    return parts


def _mbr(read: Read, head: bytes) -> list[Partition]:
    parts = []
    for number, kind, first in _mbr_entries(head):
        if kind in (0x05, 0x0F, 0x85):
            parts += _logical(read, first)
        elif kind:
            parts.append(Partition(number, first * SECTOR, "esp" if kind == 0xEF else "other"))
    return parts


def _mbr_entries(sector: bytes) -> list[tuple[int, int, int]]:
    """(number, type, first sector) of the four entries of a boot record."""
    entries = []
    for number in range(4):
        entry = sector[446 + 16 * number : 462 + 16 * number]
        if len(entry) == 16:
            entries.append((number + 1, entry[4], struct.unpack_from("<I", entry, 8)[0]))
    return entries


def _logical(read: Read, extended: int) -> list[Partition]:
    """The chain of logical partitions, which a hostile disk may have made a ring."""
    parts, at = [], extended
    for number in range(5, 5 + 32):
        record = read(at * SECTOR, SECTOR)
        if len(record) < SECTOR or not has_boot_sector(record):
            break
        (_, kind, first), (_, next_kind, next_first) = _mbr_entries(record)[:2]
        if kind:
            parts.append(Partition(number, (at + first) * SECTOR))
        if next_kind not in (0x05, 0x0F, 0x85) or not next_first:
            break
        at = extended + next_first
    return parts
