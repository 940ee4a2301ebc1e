"""How an OVA can be packed beside plain tar: gzip, unpacked as it arrives, and zip.  Standard library only.

zipfile reads the whole table of contents into memory and believes every size in it, so the table's own size is looked at
first and the sizes are weighed before anybody unpacks.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn

from .tar import BLOCK, MAX_MEMBERS, MAX_SIZE, Member, check_name, printable, refuse

MAX_TABLE = 4 * 1024 * 1024
#: deflate makes at most 1032 bytes of one; beyond this many bytes a whole archive must be packed less well than that
MAX_RATIO, RATIO_MATTERS = 300, 16 << 30


Packed = Literal["tar", "tar.gz", "zip", "folder"]
CHUNK = 1024 * 1024

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"KDMV", "a VMDK disk image"),
    (b"COWD", "a VMDK disk image"),
    (b"# Disk Descriptor", "the description file of a VMDK disk"),
    (b"vhdxfile", "a VHDX disk image"),
    (b"conectix", "a VHD disk image"),
    (b"<<< ", "a VirtualBox disk image"),
    (b"\xfd7zXZ\0", "packed with xz"),
    (b"BZh", "packed with bzip2"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"<!DOCTYPE html", "a web page, perhaps the error page of a download"),
    (b"<html", "a web page, perhaps the error page of a download"),
    (b"\xef\xbb\xbf<?xml", "an OVF without its disks, or another XML file"),
    (b"<?xml", "an OVF without its disks, or another XML file"),
    (b"<", "an OVF without its disks, or another XML file"),
)


def packed_as(head: bytes) -> Packed:
    """How an OVA is packed, by its first bytes.  Raises RefusedError when they are something else's."""
    if not head:
        refuse(
            "ova-empty", "The file is empty", "It has no bytes at all.", "Transfer it again from where it came from."
        )
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    for magic, what in _MAGIC:
        if head[: len(magic)].lower() == magic.lower():
            action = "Choose the .ova file itself."
            if "disk" in what:
                action = "Give it as a disk image."
            elif "packed" in what or "archive" in what:
                action = "Unpack it first, and give the OVA inside."
            if "XML" in what:
                action = "Give the .ovf and its disk files together, or export the virtual machine as one OVA."
            refuse("ova-other-file", "This is not an OVA", f"The file is {what}.", action)
    if len(head) < BLOCK:
        refuse("ova-truncated", "This is not a whole OVA", f"It has only {len(head)} bytes.")
    return "tar"


class Gunzip:
    """Unpacks gzip piece by piece, at most a chunk at a time in memory, and gives up on a bomb."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self._in = self._out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._in += len(data)
        while data:
            if self._stream.eof:  # gzip files may follow one another; zeros at the end are padding
                data = data.lstrip(b"\0")
                if not data:
                    return
                self._stream = zlib.decompressobj(31)
            try:
                part = self._stream.decompress(data, CHUNK)
            except zlib.error:
                refuse(
                    "ova-damaged",
                    "The file is damaged",
                    f"It is packed with gzip and cannot be unpacked behind byte {self._out}.",
                )
            data = self._stream.unconsumed_tail or self._stream.unused_data
            self._out += len(part)
            if self._out > RATIO_MATTERS and self._out > MAX_RATIO * self._in:
                refuse_bomb()
            if part:
                yield part

    def finish(self) -> None:
        if not self._stream.eof:
            refuse_truncated(1)


# -- zip ---


class _Zip(zipfile.ZipFile):
    """Of an open file and not of a path: that may be one of an object in a bucket (stores/ranges.py)."""

    def __init__(self, path: Path) -> None:
        self._opened = path.open("rb")
        try:
            super().__init__(self._opened)
        except BaseException:
            self._opened.close()
            raise

    def close(self) -> None:
        super().close()
        self._opened.close()


def open_zip(path: Path) -> tuple[zipfile.ZipFile, tuple[Member, ...]]:
    """The archive and its files (not its folders).  Raises RefusedError."""
    file_size = path.stat().st_size
    _weigh_table(path, file_size)
    try:
        archive = _Zip(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error, RuntimeError):
        _damaged()
    try:
        return archive, _members(archive, file_size)
    except BaseException:
        archive.close()
        raise


def _damaged() -> NoReturn:
    refuse(
        "ova-damaged", "The file is damaged", "It begins like a zip archive, but its table of contents cannot be read."
    )


def _weigh_table(path: Path, file_size: int) -> None:
    """Refuses a table of contents that would not fit into memory, before zipfile reads it."""
    with path.open("rb") as file:
        tail_size = min(file_size, 22 + 65535 + 20 + 56)
        file.seek(file_size - tail_size)
        tail = file.read(tail_size)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        refuse(
            "ova-truncated",
            "The file is not whole",
            "It begins like a zip archive, but its end, where the table of contents stands, is missing.",
            "Transfer it again from where it came from.",
        )
    # zipfile has rules of its own about which end mark counts: all must be harmless
    position = -1
    while (position := tail.find(b"PK\5\6", position + 1)) >= 0:
        if len(tail) - position >= 22:
            _check_table(*struct.unpack_from("<HI", tail, position + 10))
    position = -1
    while (position := tail.find(b"PK\6\6", position + 1)) >= 0:
        if len(tail) - position >= 56:
            _check_table(*struct.unpack_from("<QQ", tail, position + 32))


def _check_table(count: int, size: int) -> None:
    zip64 = (0xFFFF, 0xFFFFFFFF)
    if (count > MAX_MEMBERS and count != zip64[0]) or (size > MAX_TABLE and size != zip64[1]):
        refuse(
            "ova-too-many-members",
            "The file is not plausible",
            f"It is a zip archive with more than {MAX_MEMBERS} files; a packed OVA holds a handful.",
        )


def _members(archive: zipfile.ZipFile, file_size: int) -> tuple[Member, ...]:
    members: list[Member] = []
    unpacked = packed = 0
    for info in archive.infolist():
        name = check_name(info.orig_filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            refuse("ova-link", "The archive holds more than files", f"“{name}” in it is a symbolic link.")
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            refuse(
                "ova-encrypted",
                "The archive is encrypted",
                f"“{name}” in it needs a password.",
                "Pack it without a password.",
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            refuse(
                "ova-packed-oddly",
                "The archive is packed oddly",
                f"“{name}” is packed in a way that unzip may not know.",
            )
        unpacked, packed = unpacked + info.file_size, packed + info.compress_size
        members.append(Member(name, info.header_offset, info.file_size))
    if len(members) > MAX_MEMBERS:
        _check_table(len(members), 0)
    if packed > file_size or unpacked > MAX_SIZE or (unpacked > RATIO_MATTERS and unpacked > MAX_RATIO * packed):
        refuse_bomb()
    return tuple(members)


def refuse_bomb() -> NoReturn:
    refuse(
        "ova-bomb",
        "The file unpacks to far too much",
        f"It would unpack to more than {MAX_RATIO} times its size, as files do that are made to fill a disk.",
        "If it is a real virtual machine: unpack it yourself and pack the OVA as a plain tar archive.",
    )


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A small member's bytes.  Raises RefusedError when there are more than `limit`, whatever its size claims."""
    for info in archive.infolist():
        if not info.is_dir() and check_name(info.orig_filename) == name:
            try:
                with archive.open(info) as file:
                    data = file.read(limit + 1)
            except (
                zipfile.BadZipFile,
                OSError,
                EOFError,
                ValueError,
                RuntimeError,
                NotImplementedError,
                zlib.error,
            ) as error:
                refuse(
                    "ova-damaged",
                    "The file is damaged",
                    f"“{name}” in it cannot be unpacked: {printable(str(error))[:200]}.",
                )
            if len(data) > limit:
                refuse(
                    "ova-member-too-large",
                    "The file is not plausible",
                    f"“{name}” in it is far too large for its kind.",
                )
            return data
    raise KeyError(name)


def refuse_truncated(missing: int, name: str | None = None) -> NoReturn:
    where = f"“{name}” in it" if name else "It"
    refuse(
        "ova-truncated",
        "The OVA is not whole",
        f"{where} ends too early: at least {missing:,} bytes are missing.",
        "Transfer it again from where it came from; look there whether the file is whole.",
    )
