"""Disks: which file is which, how big a claim must be, and the claims themselves."""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from .. import names as guest_names
from ..plan import Plan
from ..problems import Problem, RefusedError
from .quantities import quantity
from .target import MIB, Storage


@dataclass(frozen=True)
class DiskFile:
    """A disk that virt-v2v wrote, or is going to write."""

    name: str  #: of the file: "web01-sda"
    size: int  #: virtual size in bytes, not what the file takes
    format: str = "raw"  #: raw or qcow2


def drive_letters(index: int) -> str:
    """a, b, ... z, aa, ab, ...: how virt-v2v counts disks."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def predicted_disks(plan: Plan, format: str = "raw") -> tuple[DiskFile, ...]:
    """The disks that virt-v2v is going to write.  Refused as long as the source has not told their sizes."""
    files = []
    for index, disk in enumerate(plan.guest.disks):
        if disk.size is None:
            raise RefusedError(
                Problem(
                    code="disk-size-unknown",
                    title="The size of a disk is not known yet",
                    text=f"The source does not say how big “{disk.name}” is, so no claim can be made for it.",
                    action="This can be shown once the disks have been converted.",
                )
            )
        files.append(DiskFile(f"{plan.name}-sd{drive_letters(index)}", disk.size, format))
    return tuple(files)


def disk_files(folder: FilePath, name: str, format: str) -> tuple[DiskFile, ...]:
    """The disks NAME-sda, NAME-sdb, ... that are in a folder, in that order."""
    found = []
    index = 0
    while (path := folder / f"{name}-sd{drive_letters(index)}").is_file():
        found.append(DiskFile(path.name, virtual_size(path, format), format))
        index += 1
    return tuple(found)


def virtual_size(path: FilePath, format: str) -> int:
    """Bytes that a guest sees.  Of a qcow2 file it stands in the header (docs/interop/qcow2.txt: big endian, at 24)."""
    if format != "qcow2":
        return path.stat().st_size
    with path.open("rb") as file:
        header = file.read(32)
    if len(header) < 32 or header[:4] != b"QFI\xfb":
        raise RefusedError(
            Problem(
                code="disk-not-qcow2",
                title="A converted disk is not what it should be",
                text=f"{path.name} should be a qcow2 image and is not.",
                action="Convert again; if it happens again, tell the administrator.",
                whose="administrator",
            )
        )
    size: int = struct.unpack(">Q", header[24:32])[0]
    return size


def claim_size(size: int, mode: str, overhead: float) -> int:
    """Bytes to ask for so that a disk of `size` bytes fits.

    A block device must be as big as the disk, in whole MiB.  A file system keeps a part for itself: the size is what
    CDI's CalculateOverheadSpace gives for the aligned disk (pkg/util, rounded up to MiB).
    """
    aligned = math.ceil(size / MIB) * MIB
    if mode == "Block":
        return aligned
    return math.ceil(aligned / (1 - overhead) / MIB) * MIB


def size_reason(file: DiskFile, storage: Storage) -> str:
    """Why a claim is as big as it is, for people."""
    start = f"The disk {file.name} has {file.size} bytes"
    if storage.object == "DataVolume":
        return f"{start}; CDI adds by itself what a file system needs."
    if storage.volume_mode == "Block":
        return f"{start}; a block device takes it in whole MiB."
    return f"{start}; a file system keeps {storage.filesystem_overhead:.1%} of the room for itself."


def claim_names(name: str, chosen: tuple[str, ...], count: int) -> list[str]:
    """A name for each disk's claim: as chosen, the rest NAME-disk-0, NAME-disk-1, ..."""
    base = guest_names.suggest(name)[:50].rstrip("-")
    names = list(chosen[:count])
    for index in range(len(names), count):
        candidate = f"{base}-disk-{index}"
        while candidate in chosen:
            candidate += "x"
        names.append(candidate)
    return names


def claims(
    names: Iterable[str], files: Iterable[DiskFile], storage: Storage, metadata: dict[str, Any]
) -> list[dict[str, Any]]:
    """One PersistentVolumeClaim or DataVolume for each disk.  `metadata` is what all of them get beside their name."""
    make = _data_volume if storage.object == "DataVolume" else _claim
    return [make(name, file, storage, {"name": name, **metadata}) for name, file in zip(names, files, strict=True)]


def _claim(name: str, file: DiskFile, storage: Storage, metadata: dict[str, Any]) -> dict[str, Any]:
    mode = storage.volume_mode or "Filesystem"
    spec: dict[str, Any] = {
        "accessModes": [storage.access_mode or "ReadWriteOnce"],
        "volumeMode": mode,
        "resources": {"requests": {"storage": quantity(claim_size(file.size, mode, storage.filesystem_overhead))}},
    }
    if storage.storage_class is not None:
        spec["storageClassName"] = storage.storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def _data_volume(name: str, file: DiskFile, storage: Storage, metadata: dict[str, Any]) -> dict[str, Any]:
    """With `storage` CDI adds the file system's share itself and knows each class's modes, so only the disk's size is told."""
    spec: dict[str, Any] = {"resources": {"requests": {"storage": quantity(file.size)}}}
    if storage.access_mode is not None:
        spec["accessModes"] = [storage.access_mode]
    if storage.volume_mode is not None:
        spec["volumeMode"] = storage.volume_mode
    if storage.storage_class is not None:
        spec["storageClassName"] = storage.storage_class
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": metadata,
        "spec": {"source": {"upload": {}}, "storage": spec},
    }
