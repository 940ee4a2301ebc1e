"""A disk image in a file or in a part of one, and what its headers say.  Standard library only: the agent uses it.

First of the two looks of vetting.py: whatever names another file is refused here, before any program opens the image.
"""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..problems import Problem, RefusedError
from . import peek, sandbox

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
    probe: bool = False  #: let QEMU find out the format, as virt-v2v does: inside the sandbox only

    @property
    def shown(self) -> str:
        return self.name or self.path.name

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.size is None else self.size

    @property
    def node(self) -> dict[str, Any]:
        """QEMU's node of the bytes, inside the sandbox."""
        file = {"driver": "file", "filename": sandbox.FILE}
        if self.size is None:
            return file
        # A size that is no multiple of 512 is refused by QEMU; a tar is padded to 512 anyway.
        return {"driver": "raw", "offset": self.offset, "size": -(-self.size // 512) * 512, "file": file}

    @property
    def options(self) -> str:
        """As QEMU wants it named inside the sandbox: the format is said, unless it is to be probed."""
        return "json:" + json.dumps({"file": self.node} if self.probe else {"driver": self.format, "file": self.node})

    def is_itself(self, filename: object) -> bool:
        """Whether a file name that QEMU tells is this image's own."""
        if isinstance(filename, str) and filename.startswith("json:"):
            return bool(json.loads(filename.removeprefix("json:")) == self.node)
        return filename == sandbox.FILE


def refused(image: Image, code: str, title: str, text: str, action: str, whose: str = "source owner") -> RefusedError:
    return RefusedError(Problem(code, title, text, action, whose))


def check_headers(image: Image) -> None:
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
                raise mismatch(image, kind)
            if image.format == "qcow2":
                _check_qcow2(image, head)
            elif image.format == "vmdk":
                _check_vmdk(image, head, file)
            elif image.format == "vpc" and 4 in (_vhd_type(head), _vhd_type(tail)):
                raise has_backing_file(image, "another VHD")
    except FileNotFoundError:
        raise refused(
            image,
            "file-missing",
            "A disk image is gone",
            f"“{image.path.name}” does not exist any more: it was moved, renamed or removed meanwhile.",
            "Bring it back, or plan the conversion again with the file where it is now.",
            "you",
        ) from None
    except OSError as error:
        raise refused(
            image,
            "file-unreadable",
            "A disk image cannot be read",
            f"Reading “{image.shown}” failed: {error.strerror}.",
            "Ask your administrator to look at the file and its folder, then try again.",
            "administrator",
        ) from error


def mismatch(image: Image, kind: peek.Kind) -> RefusedError:
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


def has_backing_file(image: Image, name: str) -> RefusedError:
    return refused(
        image,
        "disk-has-backing-file",
        "A disk image is only the difference to another file",
        f"“{image.shown}” needs the file “{name[:200]}” beneath it. v2vweb does not follow such names: they could lead to any "
        "file of this server, and without that file the disk is incomplete.",
        _OTHER_FILE,
    )


def names_other_file(image: Image, what: str) -> RefusedError:
    return refused(
        image,
        "disk-names-other-file",
        "A disk image keeps its data in another file",
        f"“{image.shown}” {what}. v2vweb does not follow such names: they could lead to any file of this server.",
        _OTHER_FILE,
    )


def damaged(image: Image, why: str) -> RefusedError:
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
        raise damaged(image, "it ends in the middle of its header")
    version, backing_at, backing_length = struct.unpack_from(">IQI", head, 4)
    if backing_at:
        raise has_backing_file(
            image, head[backing_at : backing_at + min(backing_length, 1023)].decode("utf-8", "replace")
        )
    if version >= 3 and len(head) >= 80 and struct.unpack_from(">Q", head, 72)[0] & 1 << 2:
        raise names_other_file(image, "is a qcow2 with an external data file")
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
        raise names_other_file(image, f"is only the description of a disk whose data is in another file{named}")
    if len(head) < 512:
        raise damaged(image, "it ends in the middle of its header")
    capacity, _, descriptor_at, descriptor_size = struct.unpack_from("<QQQQ", head, 12)
    if not descriptor_at:
        raise names_other_file(image, "is one of several parts of a split VMDK")
    # QEMU takes a capacity of 0 as "open the files that the descriptor names" (block/vmdk.c, vmdk_open_vmdk4).
    if not capacity:
        raise names_other_file(image, "says that all of its data is in other files")
    if not 0 < descriptor_size * 512 <= _MAX_DESCRIPTOR or descriptor_at * 512 > image.length:
        raise damaged(image, "its description is not where it should be")
    file.seek(image.offset + descriptor_at * 512)
    text = file.read(descriptor_size * 512).split(b"\0", 1)[0].decode("utf-8", "replace")
    _check_descriptor(image, text)


def _check_descriptor(image: Image, text: str) -> None:
    fields = {key.lower(): value for key, value in re.findall(r'^\s*(\w+)\s*=\s*"?([^"\r\n]*)', text, re.MULTILINE)}
    if fields.get("parentcid", "ffffffff").lower() != "ffffffff" or "parentfilenamehint" in fields:
        raise has_backing_file(image, fields.get("parentfilenamehint", "another VMDK"))
    extents = _EXTENT.findall(text)
    for kind, name in extents:
        if kind.upper() != "SPARSE" or "/" in name or "\\" in name:
            raise names_other_file(image, f"names a part of the kind {kind[:20]} in “{name[:200]}”")
    if len(extents) != 1:
        raise names_other_file(image, f"has {len(extents)} parts")
    if fields.get("createtype") not in ("monolithicSparse", "streamOptimized"):
        raise names_other_file(image, f"is a VMDK of the kind “{fields.get('createtype', '?')[:40]}”")


def _vhd_type(footer: bytes) -> int | None:
    return struct.unpack_from(">I", footer, 60)[0] if footer.startswith(b"conectix") and len(footer) >= 64 else None
