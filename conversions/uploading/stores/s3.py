"""Uploads in an S3 bucket: each piece goes on as a part of a multipart upload, and no copy of the file stays here.

A part must have 5 MiB at least (but the last), and there may be 10 000: what is too small to be a part waits in a file here,
the tail.  A bucket does not give back a part before all are there, so a part that was sent stays here as "seen" until the
follower has read it, within KEPT bytes; what it could not read by then, it reads from the bucket at the end.

    <uploads>/<folder>/<name>.parts/    stays, empty, as long as the object is kept: by it the sweeper finds objects of nobody
        upload.json                     the multipart upload's id; its being there means that not all has come
        parts                           a JSON line for each part that was sent: number, ETag, size
        tail-N                          what will be part N; it counts as long as there is no line for N
        seen-OFFSET                     a part that the follower has yet to read
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import storages
from urllib3.exceptions import HTTPError

from ...jobdir import write_atomically
from .base import Body, BusyError, FullError, OffsetError, Place, Store, UnreachableError, or_full
from .ranges import RangedPath

SMALLEST_PART = 5 << 20
MOST_PARTS = 9000
PIECE = 1 << 20
KEPT = 256 << 20  #: bytes of parts that wait for the follower; more than a few only when no conductor runs
ADDRESS_SECONDS = 7 * 24 * 3600  #: as long as S3 allows: a conversion may take days


def part_size(size: int) -> int:
    """Bytes of a part of a file of `size` bytes."""
    chunk: int = settings.ENV.upload_chunk
    return max(SMALLEST_PART, chunk, -(-size // MOST_PARTS))


def status_of(error: Exception) -> int:
    """HTTP's number in an answer of the bucket; 0 when there was no answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) if isinstance(error, ClientError) else 0


def _unreachable(error: Exception) -> NoReturn:
    """Raises FileNotFoundError for what is not in the bucket, UnreachableError for all else."""
    if status_of(error) == 404:
        raise FileNotFoundError from error
    raise UnreachableError(str(error)[:300]) from error


class S3Store(Store):
    kind = "s3"

    def __init__(self) -> None:
        storage: Any = storages["default"]
        if not hasattr(storage, "bucket_name"):
            raise UnreachableError("V2VWEB_S3_BUCKET is not set any more")
        self._storage = storage
        self._bucket: str = storage.bucket_name

    @property
    def client(self) -> Any:
        return self._storage.connection.meta.client

    @staticmethod
    def key(place: Place) -> str:
        return f"{place.folder}/{place.name}"

    def path(self, place: Place) -> None:
        return None

    def free(self) -> None:
        return None

    def offset(self, place: Place) -> int:
        folder = self._folder(place)
        if self._upload_id(folder) is None:
            return self._whole(place) if folder.is_dir() else 0
        parts = self._parts(folder)
        at = _size(parts) + _size_of(folder / f"tail-{len(parts) + 1}")
        if at < place.size:
            return at
        # All has come, and the bucket has not made an object of it: it was out of reach, or we died, or it is at it just now.
        with contextlib.suppress(BusyError, FullError), self._lock(folder):
            self._finish(place, folder)
        # Only an object is a whole file: nobody reads it before.
        return at if self._upload_id(folder) is None else at - 1

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(self, place: Place, offset: int, body: Body) -> int:
        folder = self._folder(place)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock(folder):
            if self._upload_id(folder) is None:
                self._begin(place, folder)
            parts = self._parts(folder)
            number, stored = len(parts) + 1, _size(parts)
            at = stored + _size_of(folder / f"tail-{number}")
            if at != offset:
                raise OffsetError(at)
            left, size = body.length, part_size(place.size)
            while True:
                if at - stored >= size:  # also a tail that could not be sent when it became full
                    self._send(place, number, stored, folder)
                    number, stored = number + 1, at
                data = body.read(min(PIECE, left, size - (at - stored))) if left else b""
                if not data:
                    break
                at += _add(folder / f"tail-{number}", data)
                left -= len(data)
            if at == place.size:
                self._finish(place, folder)
            return at

    def _begin(self, place: Place, folder: Path) -> None:
        try:
            answer = self.client.create_multipart_upload(Bucket=self._bucket, Key=self.key(place))
        except (BotoCoreError, ClientError) as error:
            _unreachable(error)
        try:
            with or_full():
                write_atomically(folder / "upload.json", json.dumps({"id": answer["UploadId"]}))
        except BaseException:
            with contextlib.suppress(BotoCoreError, ClientError):
                self._abort(place, answer["UploadId"])
            raise

    def _abort(self, place: Place, upload_id: str) -> None:
        with contextlib.suppress(self.client.exceptions.NoSuchUpload):
            self.client.abort_multipart_upload(Bucket=self._bucket, Key=self.key(place), UploadId=upload_id)

    def _send(self, place: Place, number: int, offset: int, folder: Path) -> None:
        """Makes a part of its tail.  The same part may be sent twice when this process dies in between: the later one counts."""
        tail = folder / f"tail-{number}"
        try:
            with tail.open("rb") as file:
                answer = self.client.upload_part(
                    Bucket=self._bucket,
                    Key=self.key(place),
                    UploadId=self._upload_id(folder),
                    PartNumber=number,
                    Body=file,
                )
        except (BotoCoreError, ClientError) as error:
            _unreachable(error)
        size = tail.stat().st_size
        line = {"PartNumber": number, "ETag": answer["ETag"], "Size": size}
        with or_full(), (folder / "parts").open("a") as journal:
            journal.write(f"\n{json.dumps(line)}\n")  # on a line of its own even behind one that was cut off
            journal.flush()
            os.fsync(journal.fileno())
        if sum(map(_size_of, folder.glob("seen-*"))) + size <= max(KEPT, 2 * size):
            tail.rename(folder / f"seen-{offset}")
        else:
            tail.unlink()

    def _finish(self, place: Place, folder: Path) -> None:
        """Sends the last part and has the bucket make an object of all.  Nothing happens when that was done."""
        upload_id = self._upload_id(folder)
        if upload_id is None:
            return
        parts = self._parts(folder)
        if _size_of(folder / f"tail-{len(parts) + 1}"):
            self._send(place, len(parts) + 1, _size(parts), folder)
        told = [{key: part[key] for key in ("PartNumber", "ETag")} for part in self._parts(folder)]
        try:
            self.client.complete_multipart_upload(
                Bucket=self._bucket, Key=self.key(place), UploadId=upload_id, MultipartUpload={"Parts": told}
            )
        except (BotoCoreError, ClientError) as error:
            # It may have been done by one of us that died before it could write that down.
            if not (status_of(error) == 404 and self._whole(place) == place.size):
                raise UnreachableError(str(error)[:300]) from error
        for file in [*folder.glob("tail-*"), folder / "upload.json", folder / "parts"]:
            file.unlink(missing_ok=True)

    def _whole(self, place: Place) -> int:
        try:
            return int(self.client.head_object(Bucket=self._bucket, Key=self.key(place))["ContentLength"])
        except (BotoCoreError, ClientError) as error:
            with contextlib.suppress(FileNotFoundError):
                _unreachable(error)
            return 0

    def remove(self, place: Place) -> None:
        folder = self._folder(place)
        upload_id = self._upload_id(folder)
        try:
            if upload_id:
                self._abort(place, upload_id)
            self.client.delete_object(Bucket=self._bucket, Key=self.key(place))
        except (BotoCoreError, ClientError) as error:
            raise UnreachableError(str(error)[:300]) from error
        if folder.is_dir():
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()

    # -- reading -----------------------------------------------------------------------------------------------------

    def head(self, place: Place) -> Path | None:
        folder = self._folder(place)
        return next((path for path in (folder / "seen-0", folder / "tail-1") if path.exists()), None)

    def reading(self, place: Place) -> Path:
        return RangedPath.of(place.name, place.size, lambda first, end: self._source(place, first, end))

    def _source(self, place: Place, first: int, end: int) -> Any:
        """Something to read from: a part that is still here, else the object once there is one."""
        folder = self._folder(place)
        parts = self._parts(folder)
        tail = _size(parts), folder / f"tail-{len(parts) + 1}"
        seen = [(int(path.name.partition("-")[2]), path) for path in folder.glob("seen-*")]
        for offset, path in (*seen, tail):
            if offset <= first < offset + _size_of(path):
                with contextlib.suppress(FileNotFoundError):
                    file = path.open("rb", buffering=0)
                    file.seek(first - offset)
                    return file
        return None if self._upload_id(folder) is not None else self.stream(place, first, end)

    def followed(self, place: Place, position: int) -> None:
        for path in self._folder(place).glob("seen-*"):
            if int(path.name.partition("-")[2]) + _size_of(path) <= position:
                path.unlink(missing_ok=True)

    def stream(self, place: Place, first: int, end: int) -> "_Answer":
        """The bytes of an object from `first` to before `end`, to be read.  Raises FileNotFoundError when it is gone."""
        try:
            asked = f"bytes={first}-{end - 1}"
            return _Answer(self.client.get_object(Bucket=self._bucket, Key=self.key(place), Range=asked)["Body"])
        except (BotoCoreError, ClientError) as error:
            _unreachable(error)

    def address(self, place: Place) -> str:
        """Where the object can be fetched by whoever knows this: a secret."""
        params = {"Bucket": self._bucket, "Key": self.key(place)}
        try:
            return str(self.client.generate_presigned_url("get_object", Params=params, ExpiresIn=ADDRESS_SECONDS))
        except (BotoCoreError, ClientError) as error:
            _unreachable(error)

    def check(self) -> None:
        """Raises UnreachableError when the bucket does not answer or does not know us."""
        try:
            self.client.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as error:
            raise UnreachableError(str(error)[:300]) from error

    # -- what is remembered here -------------------------------------------------------------------------------------

    @staticmethod
    def _folder(place: Place) -> Path:
        root: Path = settings.UPLOAD_DIR
        return root / place.folder / f"{place.name}.parts"

    @staticmethod
    def _upload_id(folder: Path) -> str | None:
        try:
            return str(json.loads((folder / "upload.json").read_text())["id"])
        except FileNotFoundError:
            return None

    @staticmethod
    def _parts(folder: Path) -> list[dict[str, Any]]:
        try:
            lines = (folder / "parts").read_text().splitlines()
        except FileNotFoundError:
            return []
        parts: dict[int, dict[str, Any]] = {}
        for line in lines:
            with contextlib.suppress(ValueError):  # cut off by a full disk (that part's tail is still there), or empty
                part = json.loads(line)
                parts[part["PartNumber"]] = part
        return [parts[number] for number in sorted(parts)]

    @staticmethod
    @contextlib.contextmanager
    def _lock(folder: Path) -> Iterator[None]:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError from None
            yield
        finally:
            os.close(fd)


class _Answer:
    """An answer's body, whose errors are ours."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.close = body.close

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._body.read(count))
        except (BotoCoreError, HTTPError, OSError) as error:
            raise UnreachableError(str(error)[:300]) from error


def _size(parts: list[dict[str, Any]]) -> int:
    return sum(int(part["Size"]) for part in parts)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _add(path: Path, data: bytes) -> int:
    """Appends all of it; a full disk may have taken a part, and that counts."""
    with or_full(), path.open("ab") as file:
        return file.write(data)
