"""Reads a tar archive piece by piece, as it arrives, and trusts none of it.  Standard library only: the agent uses it.

Python's tarfile wants the whole file, follows links and takes sizes as they come.  This reader knows what OVAs are made
of (ustar, GNU and pax archives with long names and sizes above 8 GiB), refuses the rest, and holds no more than one
header in memory: whoever feeds it gets the members' bytes as views on what was fed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn

from ..problems import Problem, RefusedError

BLOCK = 512
MAX_MEMBERS = 1000  #: an OVA has a handful; a tar of a source tree has thousands
MAX_SIZE = 1 << 46  #: 64 TiB, the largest disk that a VMDK can hold
MAX_META = 64 * 1024  #: bytes of one pax header or GNU long name
MAX_META_IN_A_ROW = 8
MAX_NAME = 1024

_FILES = frozenset(b"07\0")
_LINKS = {0x31: "a hard link", 0x32: "a symbolic link", 0x33: "a device", 0x34: "a device", 0x36: "a pipe"}
_EXPORT_AGAIN = "Export the virtual machine as an OVA again and upload that file."


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    offset: int  #: of its first byte in the archive; in a zip: of its local header
    size: int  #: bytes, unpacked


class Piece(NamedTuple):
    """What a feed brought: a member begins, some of its bytes, it ends; or the archive is over."""

    what: Literal["begin", "data", "end", "over"]
    member: Member | None
    data: memoryview


_NOTHING = memoryview(b"")


def refuse(code: str, title: str, text: str, action: str = _EXPORT_AGAIN) -> NoReturn:
    raise RefusedError(Problem(code, title, text, action))


class TarReader:
    """Feed it the archive's bytes in order; it tells what they mean.

    `offset` counts the bytes taken.  `skippable` bytes from there on are the current member's: who does not want them may
    call skip() and go on behind them.  `over` is set at the end mark (two empty blocks); what follows is ignored.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.over = False
        self.current: Member | None = None
        self.members = 0
        self.dotted = False  #: a name begins with "./", as in the output of "tar -c ./web01.ovf"
        self._rest = 0  # bytes of the current member still to come
        self._padding = 0
        self._header = bytearray()
        self._empty_blocks = 0
        self._meta: bytes | None = None  # the type of the extended header whose text is being collected
        self._meta_left = 0
        self._meta_text = bytearray()
        self._metas = 0
        self._next: dict[str, str] = {}  # what extended headers said about the next member

    @property
    def skippable(self) -> int:
        return self._rest

    @property
    def missing(self) -> int:
        """Bytes that must still come before what has begun is whole; padding and the end mark do not count."""
        if self.over:
            return 0
        header = BLOCK - len(self._header) if self._header or self._metas else 0
        return self._rest + self._meta_left + header

    def skip(self, count: int) -> Iterator[Piece]:
        """Goes on as if `count` bytes of the current member had been fed."""
        if not 0 <= count <= self._rest:
            raise ValueError(count)
        self._rest -= count
        self.offset += count
        if self.current and not self._rest:
            yield self._end()

    def skip_padding(self) -> int:
        """Goes over what fills up a member's last block; returns how many bytes that were."""
        count, self._padding = (self._padding, 0) if not self._rest and self._meta is None else (0, self._padding)
        self.offset += count
        return count

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Piece]:
        """Takes bytes and yields what they were; the caller must use it up.  Raises RefusedError."""
        view = memoryview(data)
        position = 0
        while position < len(view) and not self.over:
            if self._rest:
                taken = min(self._rest, len(view) - position)
                self._rest -= taken
                self.offset += taken
                yield Piece("data", self.current, view[position : position + taken])
                if not self._rest:
                    yield self._end()
            elif self._meta is not None:
                taken = min(self._meta_left, len(view) - position)
                self._meta_text += view[position : position + taken]
                self._meta_left -= taken
                self.offset += taken
                if not self._meta_left:
                    self._end_of_meta()
            elif self._padding:
                taken = min(self._padding, len(view) - position)
                self._padding -= taken
                self.offset += taken
            else:
                taken = min(BLOCK - len(self._header), len(view) - position)
                self._header += view[position : position + taken]
                self.offset += taken
                if len(self._header) == BLOCK:
                    header = bytes(self._header)
                    self._header.clear()
                    yield from self._block(header)
            position += taken

    def _end(self) -> Piece:
        member, self.current = self.current, None
        return Piece("end", member, _NOTHING)

    def _block(self, header: bytes) -> Iterator[Piece]:
        if not any(header):
            self._empty_blocks += 1
            if self._empty_blocks == 2:
                self.over = True
                yield Piece("over", None, _NOTHING)
            return
        self._empty_blocks = 0
        if not _checksum_fits(header):
            first = self.offset == BLOCK
            refuse(
                "ova-not-an-archive" if first else "ova-damaged",
                "This is not an OVA" if first else "The OVA is damaged",
                "The file does not begin like an OVA (a tar archive)."
                if first
                else f"At byte {self.offset - BLOCK} something stands that is not part of a tar archive.",
            )
        kind = header[156]
        size = _number(header[124:136])
        if kind in b"xgLK":
            self._begin_meta(bytes([kind]), size)
            return
        yield from self._member(header, kind, size)

    def _begin_meta(self, kind: bytes, size: int) -> None:
        self._metas += 1
        if self._metas > MAX_META_IN_A_ROW or size > MAX_META:
            refuse(
                "ova-headers-too-large", "The OVA is not plausible", "Its tar headers are far larger than real ones."
            )
        self._padding = -size % BLOCK
        self._meta, self._meta_left = kind, size
        self._meta_text.clear()
        if not size:
            self._end_of_meta()

    def _end_of_meta(self) -> None:
        kind, self._meta = self._meta, None
        text = bytes(self._meta_text)
        if kind == b"L":
            self._next["path"] = _text(text.split(b"\0", 1)[0])
        elif kind in (b"x", b"g"):
            for key, value in _pax_records(text):
                if key.startswith("GNU.sparse"):
                    _refuse_sparse()
                if kind == b"x":
                    self._next[key] = value
                elif key in ("path", "size"):
                    refuse("ova-odd-headers", "The OVA is not plausible", f"It gives one {key} to all of its files.")

    def _member(self, header: bytes, kind: int, size: int) -> Iterator[Piece]:
        said, self._next, self._metas = self._next, {}, 0
        stored = said.get("path") or _name(header)
        name = check_name(stored)
        if kind == 0x53:  # "S"
            _refuse_sparse()
        if kind in _LINKS:
            refuse(
                "ova-link",
                "The OVA holds more than files",
                f"“{name}” in it is {_LINKS[kind]}; an OVA holds files only.",
            )
        if kind == 0x35 or name.endswith("/") or not name:  # "5": a folder, of which only the name matters
            if size:
                refuse("ova-odd-size", "The OVA is not plausible", f"The folder “{name}” in it claims to have content.")
            return
        if kind not in _FILES:
            refuse("ova-odd-member", "The OVA holds more than files", f"“{name}” in it is of an unknown kind.")
        if "size" in said:
            if not re.fullmatch(r"\d{1,20}", said["size"]):
                refuse("ova-odd-size", "The OVA is not plausible", f"The size of “{name}” in it is not a number.")
            size = int(said["size"])
        if size > MAX_SIZE:
            refuse("ova-odd-size", "The OVA is not plausible", f"“{name}” in it claims to be larger than 64 TiB.")
        self.dotted |= name != stored
        self.members += 1
        if self.members > MAX_MEMBERS:
            refuse(
                "ova-too-many-members",
                "The OVA is not plausible",
                f"It holds more than {MAX_MEMBERS} files; an OVA holds a handful.",
            )
        self.current = member = Member(name, self.offset, size)
        self._rest, self._padding = size, -size % BLOCK
        yield Piece("begin", member, _NOTHING)
        if not size:
            yield self._end()


def check_name(name: str) -> str:
    """A file's name as we go by it, without "./"; refuses those that point out of the archive."""
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        refuse(
            "ova-name-escapes",
            "The OVA is not safe",
            f"The file name “{printable(name)}” in it points to a place outside of the OVA.",
            "Ask whoever made this file for a clean export.",
        )
    if len(name) > MAX_NAME or printable(name) != name:
        refuse(
            "ova-odd-name", "The OVA is not plausible", f"It holds a file with the odd name “{printable(name[:80])}”."
        )
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def printable(text: str) -> str:
    """A text from the file, fit to be shown."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _refuse_sparse() -> NoReturn:
    refuse(
        "ova-sparse",
        "The OVA has holes",
        "It was packed with tar's --sparse option, which virt-v2v cannot read.",
        "Pack it again without --sparse: tar --format=ustar -cf NAME.ova NAME.ovf NAME.mf DISK.vmdk",
    )


def _checksum_fits(header: bytes) -> bool:
    try:
        said = _number(header[148:156])
    except RefusedError:
        return False
    rest = header[:148] + b" " * 8 + header[156:]
    return said in (sum(rest), sum(byte - 256 if byte > 127 else byte for byte in rest))


def _number(field: bytes) -> int:
    """A number of a tar header: octal text, or base 256 for what is larger (GNU)."""
    if field[0] & 0x80:
        if field[0] != 0x80:  # 0xff: negative
            refuse("ova-odd-size", "The OVA is not plausible", "It holds a file with a negative or impossible size.")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        refuse("ova-odd-size", "The OVA is damaged", "It holds a file whose size is not a number.")
    return int(digits or b"0", 8)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\ufffd")


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":  # GNU's own magic has other things in the prefix field
        prefix = header[345:500].split(b"\0", 1)[0]
        if prefix:
            name = prefix + b"/" + name
    return _text(name)


def _pax_records(text: bytes) -> Iterator[tuple[str, str]]:
    """The "length key=value\\n" records of a pax header."""
    position = 0
    while position < len(text):
        match = re.compile(rb"(\d{1,6}) ([^=\n]{1,256})=").match(text, position)
        if not match:
            break
        end = position + int(match[1])
        if end > len(text) or end <= match.end() or text[end - 1 : end] != b"\n":
            break
        yield _text(match[2]), _text(text[match.end() : end - 1])
        position = end
    if text[position:].strip(b"\0"):
        refuse("ova-damaged", "The OVA is damaged", "An extended header in it cannot be read.")
