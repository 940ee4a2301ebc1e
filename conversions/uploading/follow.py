"""Reads behind an upload while it arrives: checksums, the OVA's members, the verdict; and ends it when all is there.

The state of a checksum cannot be kept over a restart, so a new follower begins at the first byte (about a gigabyte a
second).  Runs as a thread of the conductor, one at a time like that.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from ..archives import unpacking
from ..archives.digests import check_digest
from ..archives.ova import check_manifest, read_ova
from ..archives.ova_reader import Ova, OvaReader
from ..archives.packed import Gunzip, Packed, packed_as
from ..archives.tar import Piece
from ..disks.images import Image, check_headers
from ..models import Upload
from ..problems import Problem, RefusedError
from . import autostart, uploads
from .refusals import refused
from .stores import get_store
from .stores.base import UnreachableError
from .sweeper import sweep
from .uploaded import place_of
from .verdict import conclude, judge, kind_of

logger = logging.getLogger(__name__)

PIECE = 1 << 20
TURN = 64 << 20  #: bytes of one upload before it is another's turn
SWEEP_SECONDS = 60
TELL_SECONDS = 2
REST_SECONDS = 15  #: until a place that did not answer is asked again


class Follow:
    """One upload's reader.  Raises RefusedError from step() as soon as the file cannot work."""

    def __init__(self, path: Path, name: str, size: int, expected: str = "") -> None:
        self.path, self.name, self.size = path, name, size
        self.position = 0
        self.compared: list[str] = []  #: names of members whose checksums are right
        self.reader = OvaReader() if kind_of(name) == "ova" else None
        self.packed: Packed | None = None
        self.expected = expected
        self._whole = hashlib.sha256()
        other = expected.partition(":")[0]
        self._other = hashlib.new(other) if other not in ("", "sha256") else None
        self._gunzip: Gunzip | None = None
        self._hashes: dict[str, hashlib._Hash] = {}
        self._digests: dict[str, dict[str, str]] = {}  # member -> algorithm -> what it is

    @property
    def sha256(self) -> str:
        return self._whole.hexdigest()

    def step(self, have: int) -> int:
        """Reads on, at most a turn, of the `have` bytes that are there; returns how many were read."""
        begin = self.position
        end = min(have, begin + TURN)
        if begin >= end:
            return 0
        with self.path.open("rb", buffering=0) as file:
            file.seek(begin)
            while self.position < end and (data := file.read(min(PIECE, end - self.position))):
                self.position += len(data)
                self._whole.update(data)
                if self._other:
                    self._other.update(data)
                if self.reader:
                    self._read(data)
        return self.position - begin

    def _read(self, data: bytes) -> None:
        if self.packed is None:
            self.packed = packed_as(data)
            self._gunzip = Gunzip() if self.packed == "tar.gz" else None
        if self.packed == "zip":
            return
        for part in self._gunzip.feed(data) if self._gunzip else (data,):
            if self.reader:
                for piece in self.reader.feed(part):
                    self._piece(piece)

    def _piece(self, piece: Piece) -> None:
        if piece.member is None or self.reader is None:
            return
        name = piece.member.name
        if piece.what == "begin":
            # When the manifest comes behind the disks (VirtualBox), these two are what it will ask for.
            known = [d for digests in self.reader.manifests.values() for d in digests]
            wanted = {d.algorithm for d in known if d.name == name} if known else {"sha256", "sha1"}
            self._hashes = {algorithm: hashlib.new(algorithm) for algorithm in wanted}
        elif piece.what == "data":
            for running in self._hashes.values():
                running.update(piece.data)
        elif piece.what == "end":
            self._digests[name] = {algorithm: running.hexdigest() for algorithm, running in self._hashes.items()}
            self._compare()

    def _compare(self) -> None:
        """Compares what is known by now with what the manifest says."""
        for digest in (d for digests in self.reader.manifests.values() for d in digests) if self.reader else ():
            actual = self._digests.get(digest.name, {}).get(digest.algorithm)
            if actual and digest.name not in self.compared:
                check_digest(digest, actual)
                self.compared.append(digest.name)

    def opinion(self) -> dict[str, Any] | None:
        """The verdict as far as it has read; None when there is nothing new to say."""
        if self.reader is None or self.packed in (None, "zip") or not self.reader.ovfs:
            return None
        return conclude(self.reader, self.packed, False)

    def finish(self) -> dict[str, Any]:
        """The verdict at the end.  Raises RefusedError."""
        self._check_expected()
        if self.reader is None:
            return judge(self.path, self.name, self.size, [(0, self.size)])
        if self.packed == "zip":
            ova = read_ova(self.path)
            self.compared = list(check_manifest(self.path, ova))
            return judge(self.path, self.name, self.size, [(0, self.size)])
        if self._gunzip:
            self._gunzip.finish()
        verdict = conclude(self.reader, self.packed or "tar", True)
        if verdict["level"] != "refused":
            for name in verdict.get("choices") or [None]:
                self._check_rest(self.reader.finish(self.packed or "tar", name))
        return verdict

    def _check_rest(self, ova: Ova) -> None:
        """Checksums that could not be compared on the way, and what the disks' own headers say."""
        if {digest.name for digest in ova.manifest} & set(self._digests) - set(self.compared):
            self.compared = list(check_manifest(self.path, ova))
        if ova.packed != "tar" or ova.compressed:
            return
        for name in ova.disks:
            member = ova.member(name)
            format = unpacking.format_of(self.path, member.offset, member.size)
            check_headers(Image(self.path, format, name, member.offset, member.size))

    def _check_expected(self) -> None:
        algorithm, _, expected = self.expected.partition(":")
        actual = self._other.hexdigest() if self._other else self.sha256
        if expected and expected != actual:
            raise refused(
                "checksum-differs",
                "The checksum is not the expected one",
                f"The {algorithm.upper()} should be {expected}; it is {actual}.",
                "Compare the checksum with the one that you were given. If it was copied right, the file was damaged or "
                "exchanged: get it again.",
            )


class Follower:
    """Follows all uploads, a turn each."""

    def __init__(self) -> None:
        self._follows: dict[Any, Follow] = {}
        self._told: dict[Any, float] = {}
        self._rests: dict[Any, float] = {}  #: until when one is left alone
        self._swept = 0.0

    def tick(self) -> bool:
        """One round; whether there was anything to read."""
        states = [Upload.State.RECEIVING, Upload.State.CHECKING]
        rows = list(Upload.objects.filter(state__in=states).defer("sha256"))
        for gone in self._follows.keys() - {row.pk for row in rows}:
            del self._follows[gone]
        busy = False
        for row in rows:
            try:
                busy |= self._follow(row)
            except RefusedError as error:
                self._refuse(row, error.problem)
            except FileNotFoundError:
                if row.state == Upload.State.CHECKING:
                    text = "Its file is not where uploads are kept any more."
                    self._refuse(row, Problem("upload-file-gone", "The file is gone", text, "Upload it again."))
            except UnreachableError as error:
                logger.warning("upload %s: its place does not answer: %s", row.pk, error)
                self._rests[row.pk] = time.monotonic() + REST_SECONDS
            except Exception:
                logger.exception("upload %s", row.pk)
        self._convert()
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            sweep()
        return busy

    def _follow(self, row: Upload) -> bool:
        if time.monotonic() < self._rests.get(row.pk, 0):
            return False
        store, place = get_store(row.storage), place_of(row)
        path = store.reading(place)
        follow = self._follows.get(row.pk)
        if follow is None or follow.expected != row.expected:
            follow = self._follows[row.pk] = Follow(path, row.name, row.size, row.expected)
        # A bucket that has all of it is not asked again at each turn; reading tells when it is gone.
        have = row.size if row.state == Upload.State.CHECKING and store.path(place) is None else store.offset(place)
        if have < follow.position:  # the file was exchanged under our hands: begin again
            follow = self._follows[row.pk] = Follow(path, row.name, row.size, row.expected)
        read = follow.step(have)
        store.followed(place, follow.position)
        if have == row.size and row.state == Upload.State.RECEIVING:  # the web process died between the two
            uploads.received(row, row.size, row.size)
        if follow.position == row.size:
            self._finish(row, follow)
        elif read:
            self._tell(row, follow)
        return bool(read)

    def _tell(self, row: Upload, follow: Follow) -> None:
        now = time.monotonic()
        if now - self._told.get(row.pk, 0) < TELL_SECONDS:
            return
        self._told[row.pk] = now
        verdict = follow.opinion() or row.verdict
        if verdict.get("level") == "refused":
            raise RefusedError(Problem(**verdict["problem"]))
        verdict = {**verdict, "followed": follow.position, "compared": follow.compared}
        Upload.objects.filter(pk=row.pk, state__in=[Upload.State.RECEIVING, Upload.State.CHECKING]).update(
            verdict=verdict
        )

    def _finish(self, row: Upload, follow: Follow) -> None:
        verdict = follow.finish()
        verdict |= {"followed": follow.position, "compared": follow.compared}
        Upload.objects.filter(pk=row.pk).update(sha256=follow.sha256)
        if verdict["level"] == "refused":
            uploads.refuse(row, verdict)
            return
        now = timezone.now()
        Upload.objects.filter(pk=row.pk, state=Upload.State.CHECKING).update(
            state=Upload.State.READY,
            verdict=verdict,
            problem=None,
            completed=row.completed or now,
            expires=now + timedelta(days=settings.ENV.upload_keep_days),
        )

    def _convert(self) -> None:
        """Starts what is to be converted as soon as it, and the other files of the same machine, are here."""
        coming = Upload.objects.filter(state__in=[Upload.State.RECEIVING, Upload.State.CHECKING]).exclude(bundle=None)
        ready = Upload.objects.filter(state=Upload.State.READY, convert=True)
        for row in ready.exclude(bundle__in=coming.values("bundle")).select_related("owner"):
            # Once: a conversion that fails is retried by a person, not by starting others.
            if not Upload.objects.filter(pk=row.pk, state=Upload.State.READY, convert=True).update(convert=False):
                continue
            try:
                autostart.start(row)
            except RefusedError as error:
                verdict = row.verdict | {"not_started": error.problem.as_dict()}
                Upload.objects.filter(pk=row.pk).update(verdict=verdict)

    def _refuse(self, row: Upload, problem: Problem) -> None:
        follow = self._follows.pop(row.pk, None)
        if follow and follow.position == row.size:
            Upload.objects.filter(pk=row.pk).update(sha256=follow.sha256)
        uploads.refuse(row, {**row.verdict, "level": "refused", "problem": problem.as_dict()})


def run(stop: threading.Event, leads: Callable[[], bool]) -> None:
    """Follows as long as `leads` says that this process is the one that does such work."""
    follower = Follower()
    while not stop.is_set():
        pause = 0.5
        try:
            if leads():
                pause = 0.02 if follower.tick() else 0.5
            close_old_connections()
        except Exception:
            logger.exception("following uploads goes on after an error")
            pause = 2.0
        stop.wait(pause)
