"""An upload that is no file here, as a Path: read by ranged requests, and from what has not left this machine yet.

Only for our own reading (open, stat); a program that wants a file is shown one by conversions/bucket.
"""

import io
import os
import stat
from collections.abc import Callable
from pathlib import PosixPath
from typing import IO, Any

#: Bytes of a first request; each that goes on where the one before ended asks for twice as much, up to the last.
FIRST, MOST = 1 << 20, 64 << 20

#: From the byte `first` to before `end` at most: something to read from; None while nobody has these bytes.
Source = Callable[[int, int], Any]


class RangedPath(PosixPath):
    """`source` is asked for the bytes of the file of `size` bytes."""

    _source: Source
    _size: int

    @classmethod
    def of(cls, name: str, size: int, source: Source) -> "RangedPath":
        path = cls(name)
        path._source, path._size = source, size
        return path

    def open(self, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> IO[Any]:  # type: ignore[override]
        if mode != "rb":
            raise io.UnsupportedOperation(mode)
        reader: Any = RangedFile(self._source, self._size)
        return reader if buffering == 0 else io.BufferedReader(reader, 1 << 16)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat_result((stat.S_IFREG | 0o400, 0, 0, 1, 0, 0, self._size, 0, 0, 0))

    def is_dir(self) -> bool:
        return False

    def is_file(self) -> bool:
        return True


class RangedFile(io.RawIOBase):
    def __init__(self, source: Source, size: int) -> None:
        self._source, self._size = source, size
        self._at = 0
        self._open: Any = None
        self._open_at = -1  #: where what is open goes on
        self._window = FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(min(len(view), self._size - self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, count: int) -> bytes:
        if count <= 0:
            return b""
        for _ in range(2):
            if self._open is None or self._open_at != self._at:
                self._window = min(MOST, self._window * 2) if self._open_at == self._at else FIRST
                self._let_go()
                self._open = self._source(self._at, min(self._size, self._at + max(count, self._window)))
                self._open_at = self._at
            data: bytes = self._open.read(count) if self._open is not None else b""
            if data:
                self._open_at += len(data)
                return data
            self._let_go()  # at its end, and the next goes on there
        return b""

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def close(self) -> None:
        self._let_go()
        super().close()
