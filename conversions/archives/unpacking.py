"""The disks of an OVA, one after the other, for vetting.  Standard library only: the agent uses it.

The OVA may have been exchanged since the plan was made, so it is read again: the same OVF, its disks wherever they stand
now.  Disks of a plain tar are looked at where they lie; those of a packed OVA are unpacked into a folder, within
limits, and removed again; unless virt-v2v is to be shown them there (ova_view.py), as it could not read this OVA itself.
"""

import hashlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ..disks import peek, sandbox
from ..disks.images import Image
from ..disks.sandbox import Limits
from ..problems import Problem, RefusedError
from .digests import Digest, check_digest
from .packed import CHUNK, Gunzip, Packed, open_zip, packed_as
from .tar import BLOCK, Member, TarReader

#: take(member) says where the bytes of a member go, or None when nobody wants them.
Sink = Callable[[bytes | memoryview], object]
Take = Callable[[Member], Sink | None]


def images_of(item: dict[str, Any], limits: Limits, scratch: Path | None = None) -> Generator[Image, None, None]:
    """Yields each disk of an OVA, to be examined before the next is asked for.

    An item: {"path", "kind": "ova", "ovf", "ovf_sha256", "disks": [{"name", "gzip", "limit"}], "digests"}.  Raises
    RefusedError when the OVA is not the one of the plan any more, or would be read differently by virt-v2v.
    """
    path = Path(item["path"])
    if path.is_dir():
        yield from _in_folder(path, item)
        return
    with path.open("rb") as file:
        packed = packed_as(file.read(BLOCK))
    if packed == "tar" and not any(disk.get("gzip") for disk in item["disks"]):
        yield from _in_place(path, item, limits)
    else:
        yield from _unpacked(path, packed, item, limits, scratch)


def _changed() -> NoReturn:
    raise RefusedError(
        Problem(
            "ova-changed",
            "The OVA has changed since this conversion was planned",
            "It does not hold the same description and disks as when somebody looked at it. It was not opened.",
            "Plan the conversion again with the file as it is now.",
        )
    )


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

    with path.open("rb") as file:
        packed = packed_as(file.read(BLOCK))
    with suppress(_EnoughError):
        _WALKS[packed](path, take)
    if name not in names:
        _changed()
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
            _changed()
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
            _changed()
        for digest in self._digests:
            actual = self._hashes.get((digest["name"], digest["algorithm"]))
            if actual is not None:
                check_digest(Digest(**digest), actual.hexdigest())


def _in_place(path: Path, item: dict[str, Any], limits: Limits) -> Iterator[Image]:
    reading = _Reading(item, {})
    walk_tar(path, reading.take)
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


def walk_tar(path: Path, take: Take) -> None:
    """Goes through a plain tar, reading headers and what is wanted only.  Raises RefusedError for a strange archive."""
    reader = TarReader()
    sink: Sink | None = None
    size = path.stat().st_size
    with path.open("rb") as file:
        while not reader.over:
            if reader.skippable and sink is None:
                for _ in reader.skip(reader.skippable):
                    pass
                if reader.offset > size:
                    break
                file.seek(reader.offset)
            data = file.read(BLOCK if not reader.skippable else CHUNK)
            if not data:
                break
            sink = _feed(reader, data, take, sink)
    if reader.missing or reader.offset > size:
        _changed()


def _feed(reader: TarReader, data: bytes, take: Take, sink: Sink | None) -> Sink | None:
    """Feeds some bytes and hands on what is in them; returns the sink of the member that is not over yet."""
    for piece in reader.feed(data):
        if piece.what == "begin" and piece.member:
            sink = take(piece.member)
        elif piece.what == "data" and sink:
            sink(piece.data)
        elif piece.what == "end":
            sink = None
    return sink


#: "block 3: -rw-r--r-- 0/0   1024 2026-01-01 00:00 disk1.vmdk", as virt-v2v 2.2 reads it (input/OVA.ml).
_LINE = re.compile(r"^block (\d+): \S+ \S+ +\d+ \S+ \S+ (.+)$", re.MULTILINE)


def _offsets_of_gnu_tar(path: Path, limits: Limits) -> dict[str, list[int]]:
    command = ["tar", "--no-auto-compress", "--quoting-style=literal", "--numeric-owner", "-tRvf", sandbox.FILE]
    try:
        listing = sandbox.run(command, path, limits)
    except (sandbox.ProgramFailedError, sandbox.TookTooLongError):
        _changed()
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
    # virt-v2v looks for the .ovf in folders below too, and follows links.
    below = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.name.lower().endswith(".ovf")]
    names = [disk["name"] for disk in item["disks"]]
    if below != [item["ovf"]] or any("/" in name or not _is_plain_file(path / name) for name in [item["ovf"], *names]):
        _changed()
    if sha256_of(path, item["ovf"]) != item["ovf_sha256"]:
        _changed()
    for digest in item.get("digests", []):
        if _is_plain_file(path / digest["name"]):
            with (path / digest["name"]).open("rb") as file:
                check_digest(Digest(**digest), hashlib.file_digest(file, digest["algorithm"]).hexdigest())
    for name in names:
        yield Image(path / name, format_of(path / name, 0, (path / name).stat().st_size))


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


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


def _unpacked(
    path: Path, packed: Packed, item: dict[str, Any], limits: Limits, scratch: Path | None
) -> Iterator[Image]:
    with ExitStack() as remains:
        folder = Path(tempfile.mkdtemp(prefix="vet-", dir=scratch))
        remains.callback(shutil.rmtree, folder, ignore_errors=True)
        with ExitStack() as files:
            sinks = {
                disk["name"]: _Unpacked(disk, files.enter_context((folder / str(number)).open("wb")))
                for number, disk in enumerate(item["disks"])
            }
            reading = _Reading(item, {name: sink.write for name, sink in sinks.items()})
            _WALKS[packed](path, reading.take)
            for sink in sinks.values():
                sink.finish()
        reading.finish()
        for number, name in enumerate(sinks):
            file = folder / str(number)
            yield Image(file, format_of(file, 0, file.stat().st_size), name)
        if item.get("view"):
            remains.pop_all()  # all of them are harmless: the view lies on them, and they go with the attempt's scratch


def _walk_tar_gz(path: Path, take: Take) -> None:
    gunzip, reader = Gunzip(), TarReader()
    sink = None
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            for part in gunzip.feed(data):
                sink = _feed(reader, part, take, sink)
    gunzip.finish()
    if reader.missing:
        _changed()


def _walk_zip(path: Path, take: Take) -> None:
    archive, members = open_zip(path)
    with archive:
        for member, info in zip(members, (i for i in archive.infolist() if not i.is_dir()), strict=True):
            sink = take(member)
            if sink is None:
                continue
            try:
                with archive.open(info) as file:
                    while data := file.read(CHUNK):
                        sink(data)
            except (zipfile.BadZipFile, zlib.error, EOFError):
                _changed()


_WALKS: dict[Packed, Callable[[Path, Take], None]] = {"tar": walk_tar, "tar.gz": _walk_tar_gz, "zip": _walk_zip}
