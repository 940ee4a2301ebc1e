"""Uploads in an S3 bucket: each piece goes on as a part of a multipart upload, and no copy of the file stays here.

A part must have 5 MiB at least (but the last), and there may be 10 000: what is too small to be a part waits in a file
here, the tail.  How much is there: the parts that the bucket lists, and the tail.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import storages

from .base import Body, BusyError, OffsetError, Place, Store

SMALLEST_PART = 5 << 20
MOST_PARTS = 9000
PIECE = 1 << 20


def part_size(size: int) -> int:
    """Bytes of a part of a file of `size` bytes."""
    chunk: int = settings.ENV.upload_chunk
    return max(SMALLEST_PART, chunk, -(-size // MOST_PARTS))


def _size(parts: list[dict[str, Any]]) -> int:
    return sum(int(part["Size"]) for part in parts)


class S3Store(Store):
    kind = "s3"

    def __init__(self) -> None:
        storage: Any = storages["default"]
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
        upload_id = self._upload_id(folder)
        if upload_id is None:
            return self._whole(place)
        parts = self._parts(place, upload_id)
        return _size(parts) + self._tail_size(folder, len(parts) + 1)

    def append(self, place: Place, offset: int, body: Body) -> int:
        folder = self._folder(place)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock(folder):
            upload_id = self._upload_id(folder) or self._begin(place, folder)
            parts = self._parts(place, upload_id)
            number, stored = len(parts) + 1, _size(parts)
            at = stored + self._tail_size(folder, number)
            if at != offset:
                raise OffsetError(at)
            left, size = body.length, part_size(place.size)
            while left and (data := body.read(min(PIECE, left, size - (at - stored)))):
                left -= len(data)
                at += len(data)
                with (folder / f"tail-{number}").open("ab") as tail:
                    tail.write(data)
                if at - stored == size or at == place.size:
                    self._send(place, upload_id, number, folder)
                    number, stored = number + 1, at
            if at == place.size:
                self._complete(place, upload_id, folder)
            return at

    def _send(self, place: Place, upload_id: str, number: int, folder: Path) -> None:
        """Makes a part of its tail.  When this process dies before the tail is removed, the part is listed already, and a
        tail counts only for the part that is not."""
        tail = folder / f"tail-{number}"
        with tail.open("rb") as file:
            self.client.upload_part(
                Bucket=self._bucket, Key=self.key(place), UploadId=upload_id, PartNumber=number, Body=file
            )
        tail.unlink()

    def _begin(self, place: Place, folder: Path) -> str:
        answer = self.client.create_multipart_upload(Bucket=self._bucket, Key=self.key(place))
        (folder / "upload.json").write_text(json.dumps({"id": answer["UploadId"]}))
        return str(answer["UploadId"])

    def _complete(self, place: Place, upload_id: str, folder: Path) -> None:
        parts = [{key: part[key] for key in ("PartNumber", "ETag")} for part in self._parts(place, upload_id)]
        self.client.complete_multipart_upload(
            Bucket=self._bucket, Key=self.key(place), UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
        self._forget(folder)

    def _parts(self, place: Place, upload_id: str) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=self.key(place), UploadId=upload_id
        )
        return [part for page in pages for part in page.get("Parts", [])]

    def _whole(self, place: Place) -> int:
        try:
            return int(self.client.head_object(Bucket=self._bucket, Key=self.key(place))["ContentLength"])
        except self.client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return 0
            raise

    def remove(self, place: Place) -> None:
        folder = self._folder(place)
        if upload_id := self._upload_id(folder):
            with contextlib.suppress(self.client.exceptions.NoSuchUpload):
                self.client.abort_multipart_upload(Bucket=self._bucket, Key=self.key(place), UploadId=upload_id)
        self.client.delete_object(Bucket=self._bucket, Key=self.key(place))
        self._forget(folder)

    def read(self, place: Place) -> Iterator[bytes]:
        """The bytes of a whole file, once all parts are put together."""
        answer = self.client.get_object(Bucket=self._bucket, Key=self.key(place))
        yield from answer["Body"].iter_chunks(PIECE)

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
    def _tail_size(folder: Path, number: int) -> int:
        try:
            return (folder / f"tail-{number}").stat().st_size
        except FileNotFoundError:
            return 0

    @staticmethod
    def _forget(folder: Path) -> None:
        for file in [*folder.glob("tail-*"), folder / "upload.json", folder / "lock"]:
            file.unlink(missing_ok=True)
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):
                empty.rmdir()

    @staticmethod
    @contextlib.contextmanager
    def _lock(folder: Path) -> Iterator[None]:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError from None
            yield
        finally:
            os.close(fd)
