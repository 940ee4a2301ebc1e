"""Uploads as plain files: <uploads>/<id>/<name>, written once, in place, and given to virt-v2v as they are."""

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.conf import settings

from .base import Body, BusyError, OffsetError, Place, Store, or_full

PIECE = 1024 * 1024
#: fdatasync for each chunk costs a third of the speed; for each 256 MiB it costs little, and keeps the last one short.
SYNC_EVERY = 256 * 1024 * 1024
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Python has no name for it; musl neither
_START_WRITING = 2  # SYNC_FILE_RANGE_WRITE


_beside = ThreadPoolExecutor(1, "start-writing")


def start_writing(path: Path, begin: int, end: int) -> None:
    """Has the kernel begin to write a range to the disk, so that the next fdatasync finds little left to wait for.

    Beside the answer to the sender: finding blocks for a piece takes the kernel a tenth of the piece's time.
    """
    if _sync_file_range is not None and end > begin:
        _beside.submit(_start_writing, _sync_file_range, path, begin, end)


def _start_writing(sync_file_range: Callable[..., int], path: Path, begin: int, end: int) -> None:
    with contextlib.suppress(OSError):  # removed meanwhile
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            sync_file_range(fd, ctypes.c_int64(begin), ctypes.c_int64(end - begin), ctypes.c_uint(_START_WRITING))
        finally:
            os.close(fd)


class LocalStore(Store):
    kind = "local"

    def path(self, place: Place) -> Path:
        folder: Path = settings.UPLOAD_DIR
        return folder / place.folder / place.name

    def reading(self, place: Place) -> Path:
        return self.path(place)

    def offset(self, place: Place) -> int:
        try:
            return self.path(place).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, place: Place, offset: int, body: Body) -> int:
        with self._writer(place) as fd:
            at = os.fstat(fd).st_size
            if at != offset:
                raise OffsetError(at)
            end = offset + body.length
            with or_full():
                if body.fd is not None:
                    at = self._copy(body.fd, fd, at, end)
                while at < end and (data := body.read(min(PIECE, end - at))):
                    at = self._write(fd, data, at)
            whole = at == place.size or at // SYNC_EVERY > offset // SYNC_EVERY
            if whole:
                os.fdatasync(fd)
        if not whole:  # not before the file is closed: the two would wait for each other
            start_writing(self.path(place), offset, at)
        return at

    @staticmethod
    def _copy(source: int, fd: int, at: int, end: int) -> int:
        """Lets the kernel copy, or only link the blocks where the file system can; the rest is read and written."""
        begin = at
        with contextlib.suppress(OSError):  # EXDEV and the like: not between these two file systems
            while at < end and (count := os.copy_file_range(source, fd, end - at, at - begin, at)):
                at += count
        os.lseek(source, at - begin, os.SEEK_SET)
        return at

    @staticmethod
    def _write(fd: int, data: bytes, at: int) -> int:
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, at)
            at += written
            view = view[written:]
        return at

    @contextlib.contextmanager
    def _writer(self, place: Place) -> Iterator[int]:
        """The file, open and locked: one writer at a time, in whatever process."""
        path = self.path(place)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError from None
            yield fd
        finally:
            os.close(fd)

    def remove(self, place: Place) -> None:
        path = self.path(place)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with contextlib.suppress(OSError):  # other files of the same bundle are still there
            path.parent.rmdir()

    def free(self) -> int:
        folder: Path = settings.UPLOAD_DIR
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free
