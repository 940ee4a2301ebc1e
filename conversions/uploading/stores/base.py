"""What every kind of store can do."""

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Body:
    """Bytes to be stored: from a request, or from a file in which nginx has put them."""

    length: int  #: so many are announced; fewer may come
    read: Callable[[int], bytes]  #: up to so many bytes; b"" when the sender has no more
    fd: int | None = None  #: of a file that holds them from its beginning, when there is one


@dataclass(frozen=True)
class Place:
    """What a store must know of an upload; its row is none of the store's business."""

    folder: str  #: a UUID
    name: str  #: safe as a file name
    size: int


class BusyError(Exception):
    """Somebody else is writing to this upload at this moment."""


class OffsetError(Exception):
    """The bytes do not go on where those that are there end."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset  #: where they end


class FullError(Exception):
    """The disk is full.  What was written before stays."""


@contextlib.contextmanager
def or_full() -> Iterator[None]:
    """Within, a full disk raises FullError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FullError from error
        raise


class UnreachableError(Exception):
    """The store does not answer, or does not know us.  The text says why, for an administrator."""


class Store(ABC):
    kind: str

    @abstractmethod
    def offset(self, place: Place) -> int:
        """How many bytes are safely there: the only authority for that."""

    @abstractmethod
    def append(self, place: Place, offset: int, body: Body) -> int:
        """Writes the body at `offset`; returns the new offset.  Raises BusyError, OffsetError, FullError."""

    @abstractmethod
    def remove(self, place: Place) -> None:
        """Removes the bytes.  Nothing happens when there are none."""

    @abstractmethod
    def free(self) -> int | None:
        """Bytes that still fit; None when there is no limit."""

    @abstractmethod
    def path(self, place: Place) -> Path | None:
        """The file, when it is one on this machine."""

    def head(self, place: Place) -> Path | None:
        """A file here with the first bytes of an upload that has begun, when there is one."""
        return self.path(place)

    @abstractmethod
    def reading(self, place: Place) -> Path:
        """What is there of the file, to be read by us; b"" where the rest has yet to come.  Raises UnreachableError, and
        FileNotFoundError when it is gone."""

    def followed(self, place: Place, position: int) -> None:  # noqa: B027 (most stores keep nothing for that)
        """The follower has read so far: what was kept for it can go."""
