"""Reads a whole OVA, and compares its files with its manifest.  Standard library only but for the OVF's XML.

A plain OVA is a tar archive; it also comes as tar.gz, as zip, or unpacked in a folder.  Nothing is unpacked here.  While an
OVA arrives, follow.py feeds an OvaReader itself.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from .digests import Digest, check_digest
from .ova_reader import MAX_MANIFEST, MAX_OVF, Ova, OvaReader
from .packed import CHUNK, Gunzip, open_zip, packed_as, read_member, refuse_bomb, refuse_truncated
from .tar import BLOCK, Member, TarReader, check_name, refuse

QUICK = 256 * CHUNK


def read_ova(path: Path, *, ovf_name: str | None = None, quick: bool = False) -> Ova:
    """Reads a whole OVA (or a folder with an unpacked one).  Raises RefusedError with what is wrong.

    A plain tar takes milliseconds whatever its size.  A tar.gz must be unpacked to be read, some 300 MB a second; with
    `quick` that ends after 256 MiB when the OVF was among them, and the Ova is not `complete`.
    """
    if path.is_dir():
        return _read_folder(path, ovf_name)
    with path.open("rb") as file:
        packed = packed_as(file.read(BLOCK))
    if packed == "zip":
        return _read_zip(path, ovf_name)
    reader = OvaReader()
    if packed == "tar":
        _read_tar(path, reader)
        return reader.finish("tar", ovf_name)
    unpacked = 0
    gunzip = Gunzip()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            for part in gunzip.feed(data):
                unpacked += len(part)
                for _ in reader.feed(part):
                    pass
            if quick and unpacked > QUICK and reader.ovfs:
                return reader.finish("tar.gz", ovf_name, complete=False)
    gunzip.finish()
    _whole(reader)
    return reader.finish("tar.gz", ovf_name)


def _read_tar(path: Path, reader: OvaReader) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        while not reader.tar.over:
            member = reader.tar.current
            if member and reader.skip():
                if reader.tar.offset > size:
                    refuse_truncated(reader.tar.offset - size, member.name)
                file.seek(reader.tar.offset)
            data = file.read(BLOCK if reader.tar.skippable == 0 else CHUNK)
            if not data:
                break
            # One block at a time between members, so that the next member's bytes can be skipped.
            for _ in reader.feed(data):
                pass
    _whole(reader)


def _whole(reader: OvaReader) -> None:
    if reader.tar.missing:
        refuse_truncated(reader.tar.missing, reader.tar.current.name if reader.tar.current else None)


def _read_zip(path: Path, ovf_name: str | None) -> Ova:
    archive, members = open_zip(path)
    with archive:
        reader = OvaReader()
        for member in members:
            if reader.begin(member):
                limit = MAX_OVF if member.name.lower().endswith(".ovf") else MAX_MANIFEST
                reader.text(member.name, read_member(archive, member.name, limit))
    return reader.finish("zip", ovf_name)


def _read_folder(path: Path, ovf_name: str | None) -> Ova:
    """An unpacked OVA: the files of one folder, not of those below it, links not followed."""
    reader = OvaReader()
    for entry in sorted(path.iterdir()):
        if entry.is_symlink() or not entry.is_file():
            continue
        if reader.begin(Member(check_name(entry.name), 0, entry.stat().st_size)):
            reader.text(entry.name, entry.read_bytes())
    return reader.finish("folder", ovf_name)


# -- checksums ---------------------------------------------------------------------------------------------------------


def check_manifest(path: Path, ova: Ova, on_progress: Callable[[int], None] | None = None) -> tuple[str, ...]:
    """Compares the files with the manifest, reading them once; returns the names of those that were compared.

    `on_progress` is told the bytes of each piece read.  Raises RefusedError at the first that differs.
    """
    wanted: dict[str, list[Digest]] = {}
    for digest in ova.manifest:
        wanted.setdefault(digest.name, []).append(digest)
    done: list[str] = []
    hashes: dict[str, hashlib._Hash] = {}
    for name, data in _contents(path, ova, frozenset(wanted)):
        if data is None:
            for digest in wanted[name]:
                check_digest(digest, hashes[digest.algorithm].hexdigest())
            hashes = {}
            done.append(name)
            continue
        hashes = hashes or {digest.algorithm: hashlib.new(digest.algorithm) for digest in wanted[name]}
        for running in hashes.values():
            running.update(data)
        if on_progress:
            on_progress(len(data))
    return tuple(done)


def _contents(path: Path, ova: Ova, names: frozenset[str]) -> Iterator[tuple[str, bytes | memoryview | None]]:
    """Yields the pieces of the named members, and None behind each member's last."""
    if ova.packed == "tar.gz":
        yield from _contents_of_gz(path, names)
        return
    for member in ova.members:
        if member.name not in names:
            continue
        yield member.name, b""
        if ova.packed == "zip":
            yield from _contents_of_zip(path, member)
        else:
            with (path / member.name if ova.packed == "folder" else path).open("rb") as file:
                file.seek(member.offset)
                rest = member.size
                while rest and (data := file.read(min(CHUNK, rest))):
                    rest -= len(data)
                    yield member.name, data
                if rest:
                    refuse_truncated(rest, member.name)
        yield member.name, None


def _contents_of_gz(path: Path, names: frozenset[str]) -> Iterator[tuple[str, memoryview | None]]:
    tar, gunzip = TarReader(), Gunzip()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            for part in gunzip.feed(data):
                for piece in tar.feed(part):
                    if piece.member and piece.member.name in names:
                        yield piece.member.name, None if piece.what == "end" else piece.data


def _contents_of_zip(path: Path, member: Member) -> Iterator[tuple[str, bytes]]:
    archive, _ = open_zip(path)
    with archive:
        info = next(i for i in archive.infolist() if i.header_offset == member.offset)
        try:
            with archive.open(info) as file:
                left = member.size
                while data := file.read(CHUNK):
                    left -= len(data)
                    if left < 0:
                        refuse_bomb()
                    yield member.name, data
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
            refuse("ova-damaged", "The file is damaged", f"“{member.name}” in it cannot be unpacked.")
