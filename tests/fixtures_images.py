"""Disk images, good and hostile, for the tests of sources and vetting; a folder that is open for choosing."""

import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


@pytest.fixture
def root(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """The one folder of the server that is open for choosing."""
    folder = tmp_path / "images"
    folder.mkdir()
    settings.SOURCE_ROOTS = (folder,)
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    yield folder


def qemu_img(*args: object) -> None:
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True)


def mbr_disk(*partitions: tuple[int, int, bytes], size: int = 8 * MIB) -> bytes:
    """A raw disk with an MBR; a partition is (type, first MiB, its first bytes)."""
    disk = bytearray(size)
    disk[510:512] = b"\x55\xaa"
    for number, (kind, start, data) in enumerate(partitions):
        struct.pack_into("<BxxxBxxxII", disk, 446 + 16 * number, 0, kind, start * 2048, 2048)
        disk[start * MIB : start * MIB + len(data)] = data
    return bytes(disk)


def gpt_disk(*partitions: tuple[uuid.UUID, int, bytes], size: int = 8 * MIB, sector: int = 512) -> bytes:
    disk = bytearray(mbr_disk((0xEE, 0, b""), size=size))
    struct.pack_into("<8s64xQII", disk, sector, b"EFI PART", 2, 128, 128)
    for number, (kind, start, data) in enumerate(partitions):
        entry = 2 * sector + 128 * number
        disk[entry : entry + 16] = kind.bytes_le
        struct.pack_into("<QQ", disk, entry + 32, start * MIB // sector, (start + 1) * MIB // sector - 1)
        disk[start * MIB : start * MIB + len(data)] = data
    return bytes(disk)


def ext4() -> bytes:
    return bytes(1080) + b"\x53\xef" + bytes(100)


def luks(id: str) -> bytes:
    return b"LUKS\xba\xbe\0\2" + bytes(160) + id.encode().ljust(40, b"\0") + bytes(300)


def linux_disk(size: int = 8 * MIB) -> bytes:
    return mbr_disk((0x83, 1, ext4()), size=size)


def write_image(path: Path, format: str, raw: bytes | None = None, options: str = "") -> Path:
    """A disk image with the bytes of a raw disk in it."""
    source = path.with_name(f".{path.name}.raw")
    source.write_bytes(linux_disk() if raw is None else raw)
    qemu_img("convert", "-f", "raw", "-O", format, *(["-o", options] if options else []), source, path)
    source.unlink()
    return path


def vmdk_with_descriptor(path: Path, *changes: tuple[str, str]) -> Path:
    """A monolithicSparse VMDK in whose description texts were exchanged for others."""
    write_image(path, "vmdk")
    data = bytearray(path.read_bytes())
    start = data.index(b"# Disk DescriptorFile")
    end = data.index(b"\0", start)
    text = data[start:end].decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    data[start : start + 10240] = text.encode().ljust(10240, b"\0")
    path.write_bytes(data)
    return path
