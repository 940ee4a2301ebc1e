"""Goes through an OVA however it is packed, and hands the bytes of each member to whoever wants them.  Standard library only.

All ways raise RefusedError when the archive is not the one any more that somebody has looked at.
"""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..problems import Problem, RefusedError
from .packed import CHUNK, Gunzip, Packed, open_zip, packed_as
from .tar import BLOCK, Member, TarReader, check_name

#: take(member) says where the bytes of a member go, or None when nobody wants them.
Sink = Callable[[bytes | memoryview], object]
Take = Callable[[Member], Sink | None]


def how_packed(path: Path) -> Packed:
    """Raises RefusedError when it is no OVA at all."""
    if path.is_dir():
        return "folder"
    with path.open("rb") as file:
        return packed_as(file.read(BLOCK))


def walk(path: Path, packed: Packed, take: Take) -> None:
    _WALKS[packed](path, take)


def has_changed() -> NoReturn:
    raise RefusedError(
        Problem(
            "ova-changed",
            "The OVA has changed since this conversion was planned",
            "It does not hold the same description and disks as when somebody looked at it. It was not opened.",
            "Plan the conversion again with the file as it is now.",
        )
    )


def _walk_tar(path: Path, take: Take) -> None:
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
        has_changed()


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


def _walk_tar_gz(path: Path, take: Take) -> None:
    gunzip, reader = Gunzip(), TarReader()
    sink = None
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            for part in gunzip.feed(data):
                sink = _feed(reader, part, take, sink)
    gunzip.finish()
    if reader.missing:
        has_changed()


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
                has_changed()


def _walk_folder(path: Path, take: Take) -> None:
    """The files of one folder, not of those below it, links not followed."""
    for entry in sorted(path.iterdir()):
        if entry.is_symlink() or not entry.is_file():
            continue
        sink = take(Member(check_name(entry.name), 0, entry.stat().st_size))
        if sink is None:
            continue
        with entry.open("rb") as file:
            while data := file.read(CHUNK):
                sink(data)


_WALKS: dict[Packed, Callable[[Path, Take], None]] = {
    "tar": _walk_tar,
    "tar.gz": _walk_tar_gz,
    "zip": _walk_zip,
    "folder": _walk_folder,
}
