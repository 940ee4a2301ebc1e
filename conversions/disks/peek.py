"""What the first bytes of a file tell: the format of a disk image, and what is on the disk.  Standard library only.

Nothing here runs a program or believes a length that it has read: every read is bounded.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SECTOR = 512
#: How much of the start of a disk is enough to know it: a btrfs superblock ends at 64 KiB + 4 KiB.
HEAD = 72 * 1024

#: The formats that virt-v2v is given, by QEMU's names.
FORMATS = ("raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi")

#: For people.
FORMAT_WORDS = {
    "raw": "raw",
    "qcow2": "qcow2 (QEMU)",
    "vmdk": "VMDK (VMware)",
    "vpc": "VHD (Virtual PC, Hyper-V)",
    "vhdx": "VHDX (Hyper-V)",
    "vdi": "VDI (VirtualBox)",
}

#: What an ending of a file name promises; an ending that is not here promises nothing.
ENDINGS = {
    ".raw": "raw",
    ".qcow2": "qcow2",
    ".vmdk": "vmdk",
    ".vhd": "vpc",
    ".vpc": "vpc",
    ".vhdx": "vhdx",
    ".vdi": "vdi",
}

#: Formats of disk images that v2vweb does not take, by their first bytes.
_OTHER_IMAGES = (
    (b"QFI\xfb\0\0\0\1", "qcow (version 1)"),
    (b"QED\0", "QED"),
    (b"WithoutFreeSpace", "Parallels"),
    (b"WithouFreSpacExt", "Parallels"),
    (b"COWD", "VMDK of an ESX host (COWD)"),
    (b"MSWIM\0\0\0", "Windows image (WIM)"),
)

#: Files that people take for disk images.
_OTHER_FILES = (
    (b"\x1f\x8b", "a file compressed with gzip"),
    (b"\xfd7zXZ\0", "a file compressed with xz"),
    (b"BZh", "a file compressed with bzip2"),
    (b"\x28\xb5\x2f\xfd", "a file compressed with zstd"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)


@dataclass(frozen=True)
class Kind:
    """What a file is: one of FORMATS, or what it is instead."""

    format: str | None = None
    instead: str = ""  #: for people, when format is None: "a PDF document"; "" when nothing is known
    is_image: bool = False  #: a disk image, of a format that v2vweb does not take
    is_archive: bool = False  #: to be unpacked, or an OVA
    has_cd: bool = False  #: there is an ISO 9660 file system: an installation medium


def sniff(path: Path) -> Kind:
    """What a file is, by its content alone.  Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, 2)
        tail = b""
        if size >= SECTOR:
            file.seek(size - SECTOR)
            tail = file.read(SECTOR)
    return classify(head, tail)


def classify(head: bytes, tail: bytes = b"") -> Kind:
    """As sniff(), from the first HEAD bytes and the last 512."""
    if known := _container(head, tail):
        return Kind(format=known)
    for magic, words in _OTHER_IMAGES:
        if head.startswith(magic):
            return Kind(instead=f"a disk image in the format {words}", is_image=True)
    if tail.startswith(b"koly"):
        return Kind(instead="a disk image of macOS (DMG)", is_image=True)
    if head[257:262] == b"ustar":
        return Kind(instead="a tar archive", is_archive=True)
    has_cd = head[0x8001:0x8006] == b"CD001"
    if looks_like_disk(head):
        return Kind(format="raw", has_cd=has_cd)
    if has_cd:
        return Kind(instead="the image of a CD or DVD (ISO)", has_cd=True)
    for magic, words in _OTHER_FILES:
        if head.startswith(magic):
            return Kind(instead=words, is_archive="archive" in words or "compressed" in words)
    if _is_text(head[:4096]):
        return Kind(instead="a text file")
    return Kind()


def _container(head: bytes, tail: bytes) -> str | None:
    if head.startswith(b"QFI\xfb") and head[4:8] in (b"\0\0\0\2", b"\0\0\0\3"):
        return "qcow2"
    if head.startswith(b"KDMV") or head.lstrip().startswith(b"# Disk DescriptorFile"):
        return "vmdk"
    if head.startswith(b"vhdxfile"):
        return "vhdx"
    # The copy of the footer at the start is there for dynamic VHDs only.
    if head.startswith(b"conectix") or tail.startswith(b"conectix"):
        return "vpc"
    if head[64:68] == b"\x7f\x10\xda\xbe":
        return "vdi"
    return None


def _is_text(data: bytes) -> bool:
    if not data or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4  # cut in the middle of a letter
    return True


def looks_like_disk(head: bytes) -> bool:
    """Whether raw bytes are a disk: a partition table, or a file system, LUKS or LVM without one."""
    return _has_boot_sector(head) or file_system(head) is not None


def _has_boot_sector(head: bytes) -> bool:
    return len(head) >= SECTOR and head[510:512] == b"\x55\xaa"


#: (offset, magic, name): what is at the start of a partition or of a whole disk.
_FILE_SYSTEMS = (
    (0, b"LUKS\xba\xbe", "luks"),
    (3, b"-FVE-FS-", "bitlocker"),
    (3, b"NTFS    ", "ntfs"),
    (0, b"XFSB", "xfs"),
    (1080, b"\x53\xef", "ext"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (512, b"LABELONE", "lvm"),
    (82, b"FAT32   ", "fat"),
    (54, b"FAT16   ", "fat"),
    (54, b"FAT12   ", "fat"),
    (4086, b"SWAPSPACE2", "swap"),
)


def file_system(head: bytes) -> str | None:
    """What begins here: luks, bitlocker, ntfs, xfs, ext, btrfs, lvm, fat, swap; None when it is unknown."""
    for offset, magic, name in _FILE_SYSTEMS:
        if head[offset : offset + len(magic)] == magic:
            return name
    return None


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
    if name is None and _has_boot_sector(head):
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
        if len(record) < SECTOR or not _has_boot_sector(record):
            break
        (_, kind, first), (_, next_kind, next_first) = _mbr_entries(record)[:2]
        if kind:
            parts.append(Partition(number, (at + first) * SECTOR))
        if next_kind not in (0x05, 0x0F, 0x85) or not next_first:
            break
        at = extended + next_first
    return parts
