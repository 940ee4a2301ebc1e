"""Is the bucket of uploads there, and can conversions read in it without downloading first?  For the System page."""

from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings

from ..host.machine import Check, install
from ..uploading.stores import get_store
from ..uploading.stores.base import UnreachableError
from ..uploading.stores.s3 import S3Store
from . import mount


def bucket() -> Iterator[Check]:
    env = settings.ENV
    if not env.s3_bucket:
        return
    id, title, where = "bucket", "Bucket of uploads", f"{env.s3_bucket} on {env.s3_endpoint or 'Amazon S3'}"
    meaning = "Uploaded files are kept there."
    try:
        store = get_store("s3")
        if isinstance(store, S3Store):
            store.check()
    except UnreachableError as error:
        text = f"{meaning} It does not answer, or does not accept the key: {error}"
        yield Check(id, title, "error", where, f"{text} docs/s3.md says what the key must be allowed to do.")
        return
    key: Path | None = env.s3_key_file
    if key and key.stat().st_mode & 0o077:
        text = f"{meaning} Others on this server can read the file with its key."
        yield Check(id, title, "warning", where, text, f"chmod 600 {key}")
        return
    yield Check(id, title, "ok", where, meaning)


def reading() -> Iterator[Check]:
    if not settings.ENV.s3_bucket:
        return
    id, title = "bucket-mount", "Reading in the bucket"
    if why := mount.missing():
        text = f"A conversion downloads all of an uploaded file first, because {why}."
        yield Check(id, title, "warning", "not possible", text, install("fuse3", "libnbd-bin", "nbdkit"))
        return
    yield Check(
        id, title, "ok", "with FUSE", "A conversion reads what it needs in the bucket; nothing is downloaded first."
    )


MEASUREMENTS: tuple[tuple[str, str, Callable[[], Iterator[Check]]], ...] = (
    ("bucket", "Bucket of uploads", bucket),
    ("bucket-mount", "Reading in the bucket", reading),
)
