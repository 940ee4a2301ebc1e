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
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..archives import ova_view
from ..archives.unpacking import images_of
from ..problems import Problem, size_words
from . import partitions, peek, sandbox
from .images import Image, check_headers, damaged, has_backing_file, mismatch, names_other_file, refused
from .sandbox import Limits

SMALLEST = 1 << 20  #: bytes; no operating system fits into less
BOMB_RATIO = 100  #: data : file.  Text compresses 5 to 20 times; zlib ends at about 1000
BOMB_MINIMUM = 1 << 30  #: bytes of data below which nobody minds


@dataclass(frozen=True)
class Vetted:
    """What is known of an image that was found harmless."""

    size: int  #: virtual, in bytes
    allocated: int | None  #: bytes that hold data once unpacked; None when that could not be found out
    snapshots: int = 0  #: inside a qcow2; only the current state is converted


def vet(
    items: list[dict[str, Any]],
    log: Callable[[str], object],
    limits: dict[str, int] | None = None,
    scratch: Path | None = None,
) -> list[Vetted]:
    """Vets what Job.vet names, right before virt-v2v is started.  Raises RefusedError for the first that is hostile.

    An item is {"path", "kind": "disk", "format"}, or {"kind": "ova", ...} as in unpacking.py.  `scratch` is where a packed
    OVA is unpacked for the while.
    """
    allowed = Limits(**limits) if limits else Limits()
    found = []
    for item in items:
        is_ova = item["kind"] == "ova"
        seen: list[Image] = []
        # Closed at once when an image is refused: what was unpacked must not outlive that.
        with closing(images_of(item, allowed, scratch) if is_ova else _image_of(item)) as images:
            for image in images:
                vetted = examine(image, allowed, probed=is_ova)
                log(f"checked {image.shown!r}: {image.format}, {vetted.size} bytes, names no other file")
                found.append(vetted)
                seen.append(image)
        if view := item.get("view"):
            ova_view.make(Path(view["folder"]), view["ovf"], seen)
            log("virt-v2v is shown the OVA through " + view["folder"])
    return found


def stamps(items: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """What tells whether a vetted file was exchanged or written to since: compare before and after virt-v2v's run."""
    found: dict[str, tuple[int, ...]] = {}
    for item in items:
        path = Path(item["path"])
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if path.is_dir() and item.get("view"):  # other machines' files in the folder are nothing to us
            files = [path / name for name in (item["ovf"], *(disk["name"] for disk in item["disks"]))]
        for file in files:
            try:
                about = file.stat()
                found[str(file)] = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
            except FileNotFoundError:
                found[str(file)] = ()
    return found


def changed(before: dict[str, tuple[int, ...]], items: list[dict[str, Any]]) -> Problem | None:
    """What to say when a file is not the one any more that was vetted: nobody knows then what virt-v2v has read."""
    after = stamps(items)
    names = [Path(path).name for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    if not names:
        return None
    return Problem(
        "source-changed",
        "The source changed while it was converted",
        f"“{names[0]}” was written to or exchanged meanwhile, so the result is a mixture that nobody has checked. "
        "It was removed.",
        "Make sure that nothing uses the file (is the machine still running?), then press Retry.",
        "source owner",
    )


def _image_of(item: dict[str, Any]) -> Generator[Image, None, None]:
    yield Image(Path(item["path"]), item["format"])


def examine(image: Image, limits: Limits = Limits(), *, probed: bool = False) -> Vetted:  # noqa: B008 (frozen)
    """Vets one image.  Raises RefusedError with a code of its own for each kind of harm.

    `probed`: virt-v2v will let QEMU find out the format (it does for the disks of an OVA), so QEMU must come to the same.
    """
    check_headers(image)
    if probed:
        _check_info(image, _qemu_img(["info", "--output=json"], replace(image, probe=True), limits), limits)
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


# What QEMU says, inside the sandbox.


def _qemu_img(command: list[str], image: Image, limits: Limits) -> dict[str, Any]:
    try:
        text = sandbox.run(["qemu-img", *command, image.options], image.path, limits)
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
        raise damaged(image, _readable(error.stderr)) from error
    except ValueError as error:
        raise damaged(image, "qemu-img gave no sensible answer") from error
    if not isinstance(info, dict):
        raise damaged(image, "qemu-img gave no sensible answer")
    return info


def _readable(stderr: str) -> str:
    last = stderr.splitlines()[-1] if stderr else "qemu-img gave no reason"
    text = re.sub(r"^qemu-img: (?:Could not open .*?\}?': )?", "", last)
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300].rstrip(".")


def _check_info(image: Image, info: dict[str, Any], limits: Limits) -> None:
    if info.get("format") != image.format:
        raise mismatch(image, peek.Kind())
    if backing := info.get("backing-filename") or info.get("full-backing-filename"):
        raise has_backing_file(image, str(backing))
    specific = info.get("format-specific", {}).get("data", {})
    if "data-file" in specific:
        raise names_other_file(image, "is a qcow2 with an external data file")
    if info.get("encrypted") or "encrypt" in specific:
        raise refused(
            image,
            "disk-image-encrypted",
            "A disk image is encrypted",
            f"“{image.shown}” is itself encrypted.",
            "Decrypt it with qemu-img convert, then choose the result.",
        )
    extents = specific.get("extents", [])
    if (image.format == "vmdk" and len(extents) != 1) or not all(image.is_itself(e.get("filename")) for e in extents):
        raise names_other_file(image, "has parts in other files")
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
            sandbox.run(["qemu-img", "measure", "--output=json", "-O", "qcow2", image.options], image.path, limits)
        )
        return max(0, int(measured["required"]) - (int(measured["fully-allocated"]) - size))
    except (sandbox.TookTooLongError, sandbox.ProgramFailedError, ValueError, KeyError, TypeError):
        return None


_LINE = re.compile(r"^[0-9a-f]{8,}:  ((?:[0-9a-f]{2} ?){1,16})", re.MULTILINE)


def reader(image: Image, limits: Limits = Limits()) -> partitions.Read:  # noqa: B008 (frozen)
    """Reads the disk inside an image, a few KiB at a time, whatever its format; b"" where that fails.

    Any format but raw is read inside the sandbox, by qemu-io, which prints bytes as hexadecimal.
    """

    def read(offset: int, length: int) -> bytes:
        if length <= 0 or offset < 0:
            return b""
        if image.format == "raw" and image.size is None:
            with suppress(OSError, OverflowError, ValueError), image.path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
            return b""
        start = offset // 512 * 512
        end = -(-(offset + length) // 512) * 512
        command = ["qemu-io", "-r", "-c", f"read -v {start} {end - start}", image.options]
        try:
            text = sandbox.run(command, image.path, limits)
        except (sandbox.ProgramFailedError, sandbox.TookTooLongError):
            return b""
        data = b"".join(bytes.fromhex(line) for line in _LINE.findall(text))
        return data[offset - start : offset - start + length]

    return read
