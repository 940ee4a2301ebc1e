"""What the first bytes of a file tell: the format of a disk image, or what it is instead.  Standard library only.

Nothing here runs a program or believes a length that it has read: every read is bounded.
"""

from dataclasses import dataclass
from pathlib import Path

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
    return has_boot_sector(head) or file_system(head) is not None


def has_boot_sector(head: bytes) -> bool:
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
