"""Looks at a hostile disk image before virt-v2v does.  Standard library only: the agent uses it.

virt-v2v and QEMU guess formats and follow what an image says: a "vmdk" that is a qcow2 with a backing file, or a VMDK
whose extent is /etc/shadow, hands out files of this server (libguestfs: CVE-2010-3851; tried with virt-v2v 2.2 and an
OVA).  So the format is declared, the image is read by that format alone, and whatever names another file is refused:
first by the headers, read here, then by `qemu-img info` inside the sandbox.

A compression bomb is an image that claims, or unpacks to, far more than it is.  A large virtual size alone is no bomb:
sparse disks are that.  Refused are a virtual size above the limit, and data of more than BOMB_RATIO times the file that
holds it; whatever is below that is a matter of free space, which is asked for before the start.
"""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from . import peek, sandbox
from .problems import Problem, RefusedError, size_words
from .sandbox import Limits

SMALLEST = 1 << 20  #: bytes; no operating system fits into less
BOMB_RATIO = 100  #: data : file.  Text compresses 5 to 20 times; zlib ends at about 1000
BOMB_MINIMUM = 1 << 30  #: bytes of data below which nobody minds

_OTHER_FILE = (
    "Whoever made this image must put all of it into one file: qemu-img convert -O qcow2 OLD NEW does that. "
    "Then choose that file."
)


@dataclass(frozen=True)
class Image:
    """A disk image: a file, or a part of one (a member of an OVA, which is a tar)."""

    path: Path
    format: str  #: declared: one of peek.FORMATS
    name: str = ""  #: for people; the file's name when empty
    offset: int = 0
    size: int | None = None  #: bytes of the part; None for all of the file

    @property
    def shown(self) -> str:
        return self.name or self.path.name

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.size is None else self.size

    def options(self, path: str = sandbox.FILE) -> str:
        """As QEMU wants it named: the format is said, never probed."""
        file: dict[str, Any] = {"driver": "file", "filename": path}
        if self.size is not None:
            # A size that is no multiple of 512 is refused by QEMU; a tar is padded to 512 anyway.
            file = {"driver": "raw", "offset": self.offset, "size": -(-self.size // 512) * 512, "file": file}
        return "json:" + json.dumps({"driver": self.format, "file": file})


@dataclass(frozen=True)
class Vetted:
    """What is known of an image that was found harmless."""

    size: int  #: virtual, in bytes
    allocated: int | None  #: bytes that hold data once unpacked; None when that could not be found out
    snapshots: int = 0  #: inside a qcow2; only the current state is converted


def vet(
    items: list[dict[str, Any]], log: Callable[[str], object], limits: dict[str, int] | None = None
) -> list[Vetted]:
    """Vets what Job.vet names, right before virt-v2v is started.  Raises RefusedError for the first that is hostile.

    An item: {"path", "kind": "disk", "format"} with "name", "offset", "size" for a part of a file.
    """
    allowed = Limits(**limits) if limits else Limits()
    found = []
    for item in items:
        image = Image(Path(item["path"]), item["format"], item.get("name", ""), item.get("offset", 0), item.get("size"))
        vetted = examine(image, allowed)
        log(f"checked {image.shown!r}: {image.format}, {vetted.size} bytes, names no other file")
        found.append(vetted)
    return found


def examine(image: Image, limits: Limits = Limits()) -> Vetted:  # noqa: B008 (frozen)
    """Vets one image.  Raises RefusedError with a code of its own for each kind of harm."""
    _check_headers(image)
    info = _qemu_img(["info", "--output=json"], image, limits)
    _check_info(image, info, limits)
    size = int(info["virtual-size"])
    allocated = _allocated(image, size, limits)
    if allocated is not None and allocated > max(BOMB_MINIMUM, BOMB_RATIO * image.length):
        raise refused(
            image,
            "disk-is-a-bomb",
            "This disk image unpacks to far more than it is",
            f"“{image.shown}” has {size_words(image.length)} and would become {size_words(allocated)} of data: more than "
            f"{BOMB_RATIO} times as much. Real machines do not look like that; images made to fill up a server do.",
            "Ask whoever made the image. If it is right, unpack it by hand (qemu-img convert -O raw) and choose the result.",
        )
    return Vetted(size, allocated, len(info.get("snapshots", ())))


def refused(image: Image, code: str, title: str, text: str, action: str, whose: str = "source owner") -> RefusedError:
    return RefusedError(Problem(code, title, text, action, whose))


# What the headers say, read here.


def _check_headers(image: Image) -> None:
    try:
        with image.path.open("rb") as file:
            length = image.length
            file.seek(image.offset)
            head = file.read(min(peek.HEAD, length))
            tail = b""
            if length >= 512:
                file.seek(image.offset + length - 512)
                tail = file.read(512)
            kind = peek.classify(head, tail)
            # Any bytes are a raw disk; only a file that says it is something else is none.
            if kind.format != image.format and (image.format != "raw" or kind.format is not None):
                raise _mismatch(image, kind)
            if image.format == "qcow2":
                _check_qcow2(image, head)
            elif image.format == "vmdk":
                _check_vmdk(image, head, file)
            elif image.format == "vpc" and 4 in (_vhd_type(head), _vhd_type(tail)):
                raise _has_backing_file(image, "another VHD")
    except OSError as error:
        raise refused(
            image,
            "file-unreadable",
            "A disk image cannot be read",
            f"Reading “{image.shown}” failed: {error.strerror}.",
            "Ask your administrator to look at the file and its folder, then try again.",
            "administrator",
        ) from error


def _mismatch(image: Image, kind: peek.Kind) -> RefusedError:
    is_what = (
        f"a {peek.FORMAT_WORDS[kind.format]} image"
        if kind.format
        else kind.instead or "no disk image that v2vweb knows"
    )
    return refused(
        image,
        "disk-format-mismatch",
        "A disk image is not what it is said to be",
        f"“{image.shown}” should be in the format {peek.FORMAT_WORDS.get(image.format, image.format)}, but it is {is_what}.",
        "Choose the right format for it, or another file." if kind.format else "Choose another file.",
        "you",
    )


def _has_backing_file(image: Image, name: str) -> RefusedError:
    return refused(
        image,
        "disk-has-backing-file",
        "A disk image is only the difference to another file",
        f"“{image.shown}” needs the file “{name[:200]}” beneath it. v2vweb does not follow such names: they could lead to any "
        "file of this server, and without that file the disk is incomplete.",
        _OTHER_FILE,
    )


def _names_other_file(image: Image, what: str) -> RefusedError:
    return refused(
        image,
        "disk-names-other-file",
        "A disk image keeps its data in another file",
        f"“{image.shown}” {what}. v2vweb does not follow such names: they could lead to any file of this server.",
        _OTHER_FILE,
    )


def _damaged(image: Image, why: str) -> RefusedError:
    return refused(
        image,
        "disk-damaged",
        "A disk image is damaged",
        f"“{image.shown}” begins like a {peek.FORMAT_WORDS[image.format]} image, but it cannot be read as one: {why}.",
        "It may have been copied incompletely: copy or export it again.",
    )


def _check_qcow2(image: Image, head: bytes) -> None:
    """https://www.qemu.org/docs/master/interop/qcow2.html: the header."""
    if len(head) < 72:
        raise _damaged(image, "it ends in the middle of its header")
    version, backing_at, backing_length = struct.unpack_from(">IQI", head, 4)
    if backing_at:
        raise _has_backing_file(
            image, head[backing_at : backing_at + min(backing_length, 1023)].decode("utf-8", "replace")
        )
    if version >= 3 and len(head) >= 80 and struct.unpack_from(">Q", head, 72)[0] & 1 << 2:
        raise _names_other_file(image, "is a qcow2 with an external data file")
    if struct.unpack_from(">I", head, 32)[0]:
        raise refused(
            image,
            "disk-image-encrypted",
            "A disk image is encrypted",
            f"“{image.shown}” is a qcow2 that is itself encrypted (which is not the same as encrypted disks inside a guest).",
            "Decrypt it with qemu-img convert, then choose the result.",
        )


_EXTENT = re.compile(r'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\S+)(?:\s+"([^"]*)")?', re.IGNORECASE | re.MULTILINE)
_MAX_DESCRIPTOR = 1 << 20  #: bytes; real ones are below 2 KiB


def _check_vmdk(image: Image, head: bytes, file: BinaryIO) -> None:
    """VMware's "Virtual Disk Format 5.0": a sparse extent with its descriptor inside, and nothing else."""
    if not head.startswith(b"KDMV"):
        names = [name for kind, name in _EXTENT.findall(head.decode("utf-8", "replace"))]
        named = f" (“{names[0][:200]}”)" if names else ""
        raise _names_other_file(image, f"is only the description of a disk whose data is in another file{named}")
    if len(head) < 512:
        raise _damaged(image, "it ends in the middle of its header")
    capacity, _, descriptor_at, descriptor_size = struct.unpack_from("<QQQQ", head, 12)
    if not descriptor_at:
        raise _names_other_file(image, "is one of several parts of a split VMDK")
    # QEMU takes a capacity of 0 as "open the files that the descriptor names" (block/vmdk.c, vmdk_open_vmdk4).
    if not capacity:
        raise _names_other_file(image, "says that all of its data is in other files")
    if not 0 < descriptor_size * 512 <= _MAX_DESCRIPTOR or descriptor_at * 512 > image.length:
        raise _damaged(image, "its description is not where it should be")
    file.seek(image.offset + descriptor_at * 512)
    text = file.read(descriptor_size * 512).split(b"\0", 1)[0].decode("utf-8", "replace")
    _check_descriptor(image, text)


def _check_descriptor(image: Image, text: str) -> None:
    fields = {key.lower(): value for key, value in re.findall(r'^\s*(\w+)\s*=\s*"?([^"\r\n]*)', text, re.MULTILINE)}
    if fields.get("parentcid", "ffffffff").lower() != "ffffffff" or "parentfilenamehint" in fields:
        raise _has_backing_file(image, fields.get("parentfilenamehint", "another VMDK"))
    extents = _EXTENT.findall(text)
    for kind, name in extents:
        if kind.upper() != "SPARSE" or "/" in name or "\\" in name:
            raise _names_other_file(image, f"names a part of the kind {kind[:20]} in “{name[:200]}”")
    if len(extents) != 1:
        raise _names_other_file(image, f"has {len(extents)} parts")
    if fields.get("createtype") not in ("monolithicSparse", "streamOptimized"):
        raise _names_other_file(image, f"is a VMDK of the kind “{fields.get('createtype', '?')[:40]}”")


def _vhd_type(footer: bytes) -> int | None:
    return struct.unpack_from(">I", footer, 60)[0] if footer.startswith(b"conectix") and len(footer) >= 64 else None


# What QEMU says, inside the sandbox.


def _qemu_img(command: list[str], image: Image, limits: Limits) -> dict[str, Any]:
    try:
        text = sandbox.run(["qemu-img", *command, image.options()], image.path, limits)
        info = json.loads(text)
    except sandbox.TookTooLongError:
        raise refused(
            image,
            "disk-check-too-long",
            "Checking a disk image took too long",
            f"Looking at “{image.shown}” used up its {limits.wall} seconds or its memory, which no ordinary image does.",
            "Try again when the server is less busy. If it happens again, ask whoever made the image.",
        ) from None
    except sandbox.ProgramFailedError as error:
        raise _damaged(image, _readable(error.stderr)) from error
    except ValueError as error:
        raise _damaged(image, "qemu-img gave no sensible answer") from error
    if not isinstance(info, dict):
        raise _damaged(image, "qemu-img gave no sensible answer")
    return info


def _readable(stderr: str) -> str:
    last = stderr.splitlines()[-1] if stderr else "qemu-img gave no reason"
    text = re.sub(r"^qemu-img: (?:Could not open .*?\}?': )?", "", last)
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300].rstrip(".")


def _check_info(image: Image, info: dict[str, Any], limits: Limits) -> None:
    if info.get("format") != image.format:
        raise _mismatch(image, peek.Kind())
    if backing := info.get("backing-filename") or info.get("full-backing-filename"):
        raise _has_backing_file(image, str(backing))
    specific = info.get("format-specific", {}).get("data", {})
    if "data-file" in specific:
        raise _names_other_file(image, "is a qcow2 with an external data file")
    if info.get("encrypted") or "encrypt" in specific:
        raise refused(
            image,
            "disk-image-encrypted",
            "A disk image is encrypted",
            f"“{image.shown}” is itself encrypted.",
            "Decrypt it with qemu-img convert, then choose the result.",
        )
    if any(extent.get("filename") != info.get("filename") for extent in specific.get("extents", ())):
        raise _names_other_file(image, "has parts in other files")
    size = info.get("virtual-size")
    if not isinstance(size, int) or size < SMALLEST:
        raise refused(
            image,
            "disk-too-small",
            "This disk is too small",
            f"“{image.shown}” is a disk of {size_words(size or 0)}: no operating system fits into that.",
            "Choose another file.",
            "you",
        )
    if size > limits.virtual_size:
        raise refused(
            image,
            "disk-too-large",
            "This disk is too large",
            f"“{image.shown}” says that it is a disk of {size_words(size)}; the limit is {size_words(limits.virtual_size)}.",
            "Ask whoever made the image: such a size is most likely a mistake, or meant to do harm.",
        )


def _allocated(image: Image, size: int, limits: Limits) -> int | None:
    """Bytes of data once unpacked; None when finding out takes too long.

    `qemu-img measure -O qcow2` counts clusters with data, reading metadata only (-O raw gives the virtual size).
    """
    if image.format == "raw" and image.size is None:
        return image.path.stat().st_blocks * 512
    try:
        measured = json.loads(
            sandbox.run(["qemu-img", "measure", "--output=json", "-O", "qcow2", image.options()], image.path, limits)
        )
        return max(0, int(measured["required"]) - (int(measured["fully-allocated"]) - size))
    except (sandbox.TookTooLongError, sandbox.ProgramFailedError, ValueError, KeyError, TypeError):
        return None


_LINE = re.compile(r"^[0-9a-f]{8,}:  ((?:[0-9a-f]{2} ?){1,16})", re.MULTILINE)


def reader(image: Image, limits: Limits = Limits()) -> peek.Read:  # noqa: B008 (frozen)
    """Reads the disk inside an image, a few KiB at a time, whatever its format; b"" where that fails.

    The format is read inside the sandbox by qemu-io, which prints bytes as hexadecimal.
    """

    def read(offset: int, length: int) -> bytes:
        if length <= 0 or offset < 0:
            return b""
        start = offset // 512 * 512
        end = -(-(offset + length) // 512) * 512
        command = ["qemu-io", "-r", "-c", f"read -v {start} {end - start}", image.options()]
        try:
            text = sandbox.run(command, image.path, limits)
        except (sandbox.ProgramFailedError, sandbox.TookTooLongError):
            return b""
        data = b"".join(bytes.fromhex(line) for line in _LINE.findall(text))
        return data[offset - start : offset - start + length]

    return read
