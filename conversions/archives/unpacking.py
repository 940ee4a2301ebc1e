"""The disks of an OVA, one after the other, for vetting.  Standard library only: the agent uses it.

The OVA may have been exchanged since the plan was made, so it is read again: the same OVF, its disks wherever they stand
now.  Disks of a plain tar are looked at where they lie; those of a packed OVA are unpacked into a folder, within
limits, and removed again; unless virt-v2v is to be shown them there (ova_view.py), as it could not read this OVA itself.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..disks import peek, sandbox
from ..disks.images import Image
from ..disks.sandbox import Limits
from ..problems import Problem, RefusedError
from .digests import Digest, check_digest
from .packed import Gunzip, Packed
from .tar import BLOCK, Member
from .walking import Sink, has_changed, how_packed, walk


def images_of(item: dict[str, Any], limits: Limits, scratch: Path | None = None) -> Generator[Image, None, None]:
    """Yields each disk of an OVA, to be examined before the next is asked for.

    An item: {"path", "kind": "ova", "ovf", "ovf_sha256", "disks": [{"name", "gzip", "limit"}], "digests"}.  Raises
    RefusedError when the OVA is not the one of the plan any more, or would be read differently by virt-v2v.
    """
    path = Path(item["path"])
    packed = how_packed(path)
    if packed == "folder" and not item.get("view"):
        _check_alone(path, item["ovf"])
    if packed not in ("tar", "folder") or any(disk.get("gzip") for disk in item["disks"]):
        yield from _unpacked(path, packed, item, scratch)
    elif packed == "folder":
        yield from _in_folder(path, item)
    else:
        yield from _in_place(path, item, limits)


class _EnoughError(Exception):
    pass


def sha256_of(path: Path, name: str) -> str:
    """The SHA-256 of a member, reading no further than needed."""
    if path.is_dir():
        with (path / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    names: list[str] = []

    def take(member: Member) -> Sink | None:
        if name in names:
            raise _EnoughError
        names.append(member.name)
        return found.update if member.name == name else None

    with suppress(_EnoughError):
        walk(path, how_packed(path), take)
    if name not in names:
        has_changed()
    return found.hexdigest()


# -- a plain tar -------------------------------------------------------------------------------------------------------


class _Reading:
    """What one pass over an OVA gathers: where its members are, and whether OVF and checksums are as they should be."""

    def __init__(self, item: dict[str, Any], sinks: dict[str, Sink]) -> None:
        self.members: dict[str, Member] = {}
        self._ovf, self._ovf_sha256 = item["ovf"], item["ovf_sha256"]
        self._names = {disk["name"] for disk in item["disks"]}
        self._digests = item.get("digests", [])
        self._hashes: dict[tuple[str, str], hashlib._Hash] = {}
        self._sinks = sinks

    def take(self, member: Member) -> Sink | None:
        if member.name in self.members:
            has_changed()
        self.members[member.name] = member
        wanted = {digest["algorithm"] for digest in self._digests if digest["name"] == member.name}
        if member.name == self._ovf:
            wanted.add("sha256")
        running = [hashlib.new(algorithm) for algorithm in wanted]
        self._hashes |= {(member.name, hash.name): hash for hash in running}
        sinks: list[Sink] = [hash.update for hash in running]
        if member.name in self._sinks:
            sinks.append(self._sinks[member.name])

        def all_of_them(data: bytes | memoryview) -> None:
            for sink in sinks:
                sink(data)

        return all_of_them if sinks else None

    def finish(self) -> None:
        """Raises RefusedError when the OVA is not the one of the plan, or not what its manifest says."""
        ovf = self._hashes.get((self._ovf, "sha256"))
        if ovf is None or ovf.hexdigest() != self._ovf_sha256 or not self._names <= set(self.members):
            has_changed()
        for digest in self._digests:
            actual = self._hashes.get((digest["name"], digest["algorithm"]))
            if actual is not None:
                check_digest(Digest(**digest), actual.hexdigest())


def _in_place(path: Path, item: dict[str, Any], limits: Limits) -> Iterator[Image]:
    reading = _Reading(item, {})
    walk(path, "tar", reading.take)
    reading.finish()
    # A view tells virt-v2v where the disks are; else it asks GNU tar.
    offsets = _offsets_of_gnu_tar(path, limits) if not item.get("view") else None
    for name in (disk["name"] for disk in item["disks"]):
        member = reading.members[name]
        # virt-v2v asks GNU tar where a member is.  A file that the two read differently was made to be read differently.
        if offsets is not None and offsets.get(name) != [member.offset]:
            raise RefusedError(
                Problem(
                    "ova-ambiguous",
                    "The OVA is ambiguous",
                    f"Programs do not agree where in the archive “{name}” is, so what was checked may not be what is converted.",
                    "Pack it again with: tar --format=ustar -cf NAME.ova NAME.ovf NAME.mf DISK.vmdk",
                    "source owner",
                )
            )
        yield Image(path, format_of(path, member.offset, member.size), name, member.offset, member.size)


#: "block 3: -rw-r--r-- 0/0   1024 2026-01-01 00:00 disk1.vmdk", as virt-v2v 2.2 reads it (input/OVA.ml).
_LINE = re.compile(r"^block (\d+): \S+ \S+ +\d+ \S+ \S+ (.+)$", re.MULTILINE)


def _offsets_of_gnu_tar(path: Path, limits: Limits) -> dict[str, list[int]]:
    command = ["tar", "--no-auto-compress", "--quoting-style=literal", "--numeric-owner", "-tRvf", sandbox.FILE]
    try:
        listing = sandbox.run(command, path, limits)
    except (sandbox.ProgramFailedError, sandbox.TookTooLongError):
        has_changed()
    found: dict[str, list[int]] = {}
    for block, name in _LINE.findall(listing):
        found.setdefault(name, []).append((int(block) + 1) * BLOCK)
    return found


def format_of(path: Path, offset: int, size: int) -> str:
    """The format that a disk says it has: virt-v2v lets QEMU probe those of an OVA, so there is none to declare."""
    with path.open("rb") as file:
        file.seek(offset)
        head = file.read(min(size, peek.HEAD))
        file.seek(offset + max(0, size - peek.SECTOR))
        tail = file.read(min(size, peek.SECTOR))
    # What is none is refused as no VMDK, which is what an OVA's disk should be.
    return peek.classify(head, tail).format or "vmdk"


# -- a folder with what was in an OVA ----------------------------------------------------------------------------------


def _in_folder(path: Path, item: dict[str, Any]) -> Iterator[Image]:
    reading = _Reading(item, {})
    walk(path, "folder", reading.take)
    reading.finish()
    for name in (disk["name"] for disk in item["disks"]):
        yield Image(path / name, format_of(path / name, 0, reading.members[name].size))


def _check_alone(path: Path, ovf: str) -> None:
    """virt-v2v looks for the .ovf in folders below too, and follows links: there must be none but this."""
    if [file.relative_to(path).as_posix() for file in path.rglob("*") if file.name.lower().endswith(".ovf")] != [ovf]:
        has_changed()


# -- packed ------------------------------------------------------------------------------------------------------------


class _Unpacked:
    """A disk being unpacked into a file, through gzip where the OVF says so, up to a limit."""

    def __init__(self, disk: dict[str, Any], file: BinaryIO) -> None:
        self.name: str = disk["name"]
        self._gunzip = Gunzip() if disk.get("gzip") else None
        self._left: int = disk["limit"]
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        for part in self._gunzip.feed(bytes(data)) if self._gunzip else [data]:
            self._left -= len(part)
            if self._left < 0:
                raise RefusedError(
                    Problem(
                        "disk-is-a-bomb",
                        "A disk unpacks to far more than it should",
                        f"“{self.name}” in the OVA becomes larger than the disk that the OVF describes.",
                        "Ask whoever made the OVA for a clean export.",
                        "source owner",
                    )
                )
            self._file.write(part)

    def finish(self) -> None:
        if self._gunzip:
            self._gunzip.finish()


def _unpacked(path: Path, packed: Packed, item: dict[str, Any], scratch: Path | None) -> Iterator[Image]:
    with ExitStack() as remains:
        folder = Path(tempfile.mkdtemp(prefix="vet-", dir=scratch))
        remains.callback(shutil.rmtree, folder, ignore_errors=True)
        with ExitStack() as files:
            sinks = {
                disk["name"]: _Unpacked(disk, files.enter_context((folder / str(number)).open("wb")))
                for number, disk in enumerate(item["disks"])
            }
            reading = _Reading(item, {name: sink.write for name, sink in sinks.items()})
            walk(path, packed, reading.take)
            for sink in sinks.values():
                sink.finish()
        reading.finish()
        for number, name in enumerate(sinks):
            file = folder / str(number)
            yield Image(file, format_of(file, 0, file.stat().st_size), name)
        if item.get("view"):
            remains.pop_all()  # all of them are harmless: the view lies on them, and they go with the attempt's scratch
