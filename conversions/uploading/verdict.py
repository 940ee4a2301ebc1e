"""What is said about an uploaded file: from its first bytes, while it arrives, and at the end.

A verdict is plain JSON, kept with the Upload:

    level      "good", "concerns" (works, but read this), "refused" or "open" (too little is known yet)
    kind       "ova", "disk", "ovf", "manifest"; packed: "tar", "tar.gz", "zip"; format: of a disk
    guest      what the OVF says; disks: [{"name", "capacity", "size", "compression", "bus"}]; nics
    unpack     bytes that the conversion needs beside the file itself, because virt-v2v must unpack it
    concerns   problems.Problem as dicts; problem: why it is refused, one such dict
    choices    names of the OVFs, when there are several to choose from
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..archives.ova import read_ova
from ..archives.ova_reader import STOPS_VIRT_V2V, Ova, OvaReader, worked_around
from ..archives.packed import CHUNK, Gunzip, Packed, packed_as, refuse_truncated
from ..archives.tar import BLOCK
from ..disks import peek
from ..disks.images import Image, check_headers
from ..problems import Problem, RefusedError

#: Endings of packed OVAs; an .ova may be packed in each of these ways too.
ARCHIVES = (".ova", ".tar", ".tar.gz", ".tgz", ".ova.gz", ".zip")

#: A range of bytes that is known: (first, behind the last).
Range = tuple[int, int]


def kind_of(name: str) -> str | None:
    """What a file's name promises; None when it is nothing that is converted."""
    lower = name.lower()
    if lower.endswith(ARCHIVES):
        return "ova"
    if lower.endswith((".ovf", ".mf")):
        return "ovf" if lower.endswith(".ovf") else "manifest"
    return "disk" if lower.endswith((*peek.ENDINGS, ".img")) else None


def judge(path: Path, name: str, size: int, known: Sequence[Range], ovf_name: str | None = None) -> dict[str, Any]:
    """A verdict on the file at `path`, of which `known` ranges are there; the rest reads as zeros or not at all.

    `name` and `size` are those of the whole file.  Never raises RefusedError: then the verdict is "refused".
    """
    kind = kind_of(name)
    try:
        if kind is None:
            return _refused(None, _unknown_kind(name))
        if not size:
            return _refused(kind, Problem("file-empty", "The file is empty", f"“{name}” has no bytes at all."))
        if kind == "ova":
            return _ova(path, size, known, ovf_name)
        if kind == "disk":
            return _disk(path, name, size, known)
        return _part(path, kind, size, known)
    except RefusedError as error:
        return _refused(kind, error.problem)


def verdict_of(ova: Ova) -> dict[str, Any]:
    """The verdict on an OVA that was read, wholly or its beginning."""
    stopping = next((concern for concern in ova.concerns if concern.code in STOPS_VIRT_V2V), None)
    if stopping and ova.packed == "folder" and ova.compressed:
        return _refused("ova", stopping) | _facts(ova)
    level = "concerns" if ova.concerns else "good"
    concerns = [worked_around(concern).as_dict() for concern in ova.concerns]
    return {"level": level, "kind": "ova", "concerns": concerns, **_facts(ova)}


def _facts(ova: Ova) -> dict[str, Any]:
    ovf = ova.ovf
    sizes = {member.name: member.size for member in ova.members}
    disks = [
        {
            "name": name,
            "capacity": disk.capacity,
            "size": sizes.get(name, disk.file_size),
            "compression": disk.compression,
            "bus": disk.bus,
        }
        for name, disk in zip(ova.disks, ovf.disks, strict=True)
    ]
    guest = {
        "name": ovf.name,
        "os": ovf.os,
        "os_family": ovf.os_family,
        "firmware": ovf.firmware,
        "secure_boot": ovf.secure_boot,
        "tpm": ovf.tpm,
        "cpus": ovf.cpus,
        "memory": ovf.memory,
        "product": ovf.product,
    }
    return {
        "packed": ova.packed,
        "ovf_version": ovf.version,
        "guest": guest,
        "disks": disks,
        "nics": [{"mac": nic.mac, "model": nic.model, "network": nic.network} for nic in ovf.nics],
        "unpack": _unpack(ova),
        "checksums": len({digest.name for digest in ova.manifest}),
    }


def _unpack(ova: Ova) -> int:
    """Bytes that virt-v2v writes before it starts: nothing for a plain tar, which it reads in place."""
    if ova.packed in ("tar", "folder") and not ova.compressed:
        return 0
    sizes = {member.name: member.size for member in ova.members}
    need = 0
    for name, disk in zip(ova.disks, ova.ovf.disks, strict=True):
        size = sizes.get(name) or disk.file_size or disk.capacity or 0
        need += size + ((disk.capacity or size) if disk.compression else 0)
    return need


def _refused(kind: str | None, problem: Problem) -> dict[str, Any]:
    return {"level": "refused", "kind": kind, "problem": problem.as_dict(), "concerns": []}


def _unknown_kind(name: str) -> Problem:
    return Problem(
        "file-unknown-kind",
        "This kind of file cannot be converted",
        f"“{name}” is neither an OVA nor a disk image.",
        "Choose an .ova file, an .ovf together with its disks, or a disk image: .vmdk, .qcow2, .raw, .img, .vhd, .vhdx or .vdi.",
    )


def _known_to(known: Sequence[Range]) -> int:
    """Bytes known without a gap from the first on."""
    return next((end for first, end in known if first == 0), 0)


def _is_known(known: Sequence[Range], first: int, end: int) -> bool:
    return any(low <= first and end <= high for low, high in known)


# -- OVA ---------------------------------------------------------------------------------------------------------------


def _ova(path: Path, size: int, known: Sequence[Range], ovf_name: str | None) -> dict[str, Any]:
    with path.open("rb") as file:
        head = file.read(min(BLOCK, _known_to(known)))
    if len(head) < min(BLOCK, size):
        return _open("ova")
    packed = packed_as(head)
    if packed == "zip":
        # Its table of contents stands at the end; what a browser sends beforehand has that, a file that arrives has not.
        if not _is_known(known, max(0, size - 22), size):
            return _open("ova", packed)
        return verdict_of(read_ova(path, ovf_name=ovf_name))
    reader = OvaReader()
    complete = _read_tar(path, reader, size, known) if packed == "tar" else _read_gz(path, reader, size, known)
    return conclude(reader, packed, complete, ovf_name)


def conclude(reader: OvaReader, packed: Packed, complete: bool, ovf_name: str | None = None) -> dict[str, Any]:
    """The verdict on what a reader has taken so far."""
    try:
        if complete and reader.tar.missing:
            refuse_truncated(reader.tar.missing, reader.tar.current.name if reader.tar.current else None)
        if not reader.ovfs and not complete:
            return _open("ova", packed)
        return verdict_of(reader.finish(packed, ovf_name, complete))
    except RefusedError as error:
        choices = [name for name, ovf in reader.ovfs.items() if not isinstance(ovf, RefusedError)]
        if error.problem.code == "ova-two-ovf" and packed == "tar" and choices:
            concerns = [error.problem.as_dict()]
            return {"level": "concerns", "kind": "ova", "packed": packed, "choices": choices, "concerns": concerns}
        return _refused("ova", error.problem) | {"packed": packed}


def _open(kind: str, packed: Packed | None = None) -> dict[str, Any]:
    return {"level": "open", "kind": kind, "packed": packed, "concerns": []}


def _read_tar(path: Path, reader: OvaReader, size: int, known: Sequence[Range]) -> bool:
    """Reads what is known; whether that was all that matters."""
    with path.open("rb") as file:
        while not reader.tar.over:
            if reader.skip() + reader.tar.skip_padding():
                if reader.tar.offset > size:
                    return True
                file.seek(reader.tar.offset)
            want = min(BLOCK if reader.tar.skippable == 0 else CHUNK, size - reader.tar.offset)
            if not want:
                return True
            if not _is_known(known, reader.tar.offset, reader.tar.offset + want):
                have = max((end for first, end in known if first <= reader.tar.offset < end), default=0)
                want = have - reader.tar.offset
                if want <= 0:
                    return False
            data = file.read(want)
            if not data:
                return False
            for _ in reader.feed(data):
                pass
    return True


def _read_gz(path: Path, reader: OvaReader, size: int, known: Sequence[Range]) -> bool:
    gunzip, left = Gunzip(), _known_to(known)
    with path.open("rb") as file:
        while left and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            for part in gunzip.feed(data):
                for _ in reader.feed(part):
                    pass
    if _known_to(known) < size:
        return False
    gunzip.finish()
    return True


# -- disk images and parts ---------------------------------------------------------------------------------------------

#: Refusals by the first bytes of an image that is not whole yet; others ("damaged") may only mean that more must come.
_CERTAIN = frozenset({"disk-has-backing-file", "disk-names-other-file", "disk-image-encrypted"})


def _disk(path: Path, name: str, size: int, known: Sequence[Range]) -> dict[str, Any]:
    have = min(_known_to(known), peek.HEAD)
    complete = _is_known(known, 0, size)
    with path.open("rb") as file:
        head, tail = file.read(have), b""
        if _is_known(known, max(0, size - BLOCK), size) and size >= BLOCK:
            file.seek(size - BLOCK)
            tail = file.read(BLOCK)
    if have < min(size, peek.HEAD):
        return _open("disk")
    seen = peek.classify(head, tail)
    promised = next((format for ending, format in peek.ENDINGS.items() if name.lower().endswith(ending)), None)
    format = seen.format or (promised if promised == "vpc" and not tail else None)
    if format is None:
        raise RefusedError(_no_image(name, seen.instead))
    try:
        check_headers(Image(path, format, name, 0, size if complete else path.stat().st_size))
    except RefusedError as error:
        if complete or error.problem.code in _CERTAIN:
            raise
    concerns = []
    if promised not in (None, format) and not (promised == "raw" and format == "vpc"):
        text = f"“{name}” ends like {peek.FORMAT_WORDS[promised or 'raw']} but is {peek.FORMAT_WORDS[format]}."
        concerns.append(
            Problem(
                "format-unclear",
                "The name and the content say different things",
                text,
                "You will be asked for the format.",
            )
        )
    return {
        "level": "concerns" if concerns else "good",
        "kind": "disk",
        "format": format,
        "disks": [{"name": name, "capacity": _capacity(head, format, size), "size": size}],
        "concerns": [concern.as_dict() for concern in concerns],
        "unpack": 0,
    }


def _capacity(head: bytes, format: str, size: int) -> int | None:
    """Bytes of the virtual disk, by the header; the vetting asks QEMU."""
    if format == "raw":
        return size
    if format == "qcow2":
        return int.from_bytes(head[24:32], "big")
    if format == "vmdk" and head.startswith(b"KDMV"):
        return int.from_bytes(head[12:20], "little") * 512
    return None


def _no_image(name: str, instead: str) -> Problem:
    what = instead or "nothing that v2vweb knows: there is no partition table and no file system at its start"
    action = "Choose the file that holds the machine's hard disk."
    if "archive" in what or "compressed" in what:
        action = "Unpack it first and choose what was in it."
    return Problem("not-a-disk-image", "This is no disk image that can be converted", f"“{name}” is {what}.", action)


def _part(path: Path, kind: str, size: int, known: Sequence[Range]) -> dict[str, Any]:
    """An .ovf or .mf that goes with disks of its own upload."""
    if size > 4 << 20:
        text = "Files of this kind have some kilobytes, not more than 4 MiB."
        return _refused(
            kind, Problem("part-too-large", "This file is far too large", text, "Look whether it is the right file.")
        )
    if not _is_known(known, 0, size):
        return _open(kind)
    if kind == "ovf":
        from ..archives.ovf import read_ovf

        with path.open("rb") as file:
            ovf = read_ovf(file.read(size))
        return {
            "level": "concerns" if ovf.concerns else "good",
            "kind": "ovf",
            "guest": {"name": ovf.name, "os": ovf.os, "firmware": ovf.firmware, "cpus": ovf.cpus, "memory": ovf.memory},
            "disks": [{"name": disk.href, "capacity": disk.capacity, "size": disk.file_size} for disk in ovf.disks],
            "concerns": [concern.as_dict() for concern in ovf.concerns],
        }
    return {"level": "good", "kind": kind, "concerns": []}
