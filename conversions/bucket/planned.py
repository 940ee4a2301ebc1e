"""Uploads in a bucket as sources of conversions: shown to whoever plans, and to the agent of an attempt.

In a plan stands the path that such a file would have if it were here (uploaded.resolve).
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from ..models import Upload
from ..plan import Plan
from ..problems import Problem, RefusedError
from ..uploading import uploaded
from ..uploading.stores import get_store
from ..uploading.stores.base import UnreachableError
from ..uploading.stores.s3 import S3Store
from . import mount

SMALL = 4 << 20


@dataclass
class Shown:
    """Files to be looked at: by which path, and whether programs may open them too."""

    paths: dict[str, Path] = field(default_factory=dict)
    whole: bool = True  #: False: only our own reading gets at the bytes

    def path(self, path: str | Path) -> Path:
        return self.paths.get(str(path), Path(path))


def readable(path: Path) -> Path:
    """A file for our own reading, wherever it lies."""
    upload = uploaded.in_bucket(path)
    return get_store(upload.storage).reading(uploaded.place_of(upload)) if upload else path


def to_download(paths: list[str]) -> int:
    """Bytes that an attempt downloads first: nothing where objects can be mounted."""
    return sum(upload.size for _, upload in _all(paths)) if mount.missing() else 0


@contextlib.contextmanager
def shown(paths: list[str]) -> Iterator[Shown]:
    """Shows what of these files lies in a bucket.  Raises RefusedError when the bucket does not answer."""
    files = _all(paths)
    if not files:
        yield Shown()
        return
    folder = settings.DATA_DIR / "shown"
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as name, contextlib.ExitStack() as stack:
            yield _show(files, Path(name), stack)
    except (UnreachableError, FileNotFoundError) as error:
        raise _no_answer() from error


def _show(files: list[tuple[str, Upload]], folder: Path, stack: contextlib.ExitStack) -> Shown:
    found = Shown(whole=not mount.missing())
    for number, (path, upload) in enumerate(files):
        store, place = _store(upload), uploaded.place_of(upload)
        file = folder / "files" / place.folder / place.name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found.paths[path] = file
        if place.size <= SMALL:
            with store.reading(place).open("rb") as source:
                file.write_bytes(source.read())
            continue
        if found.whole:
            work = folder / str(number)
            work.mkdir(mode=0o700)
            (work / "address").touch(mode=0o600)
            (work / "address").write_text(store.address(place))
            try:
                stack.enter_context(mount.mounted(file, place.size, work / "address", work))
                continue
            except mount.CannotMountError:
                found.whole = False
        if upload.bundle:  # one of several files in a folder: its size is all that is looked at
            with file.open("wb") as empty:
                empty.truncate(place.size)
        else:
            found.paths[path] = store.reading(place)
    return found


def placed(plan: Plan, folder: Path) -> tuple[Plan, list[dict[str, Any]], dict[str, str]]:
    """A plan for an attempt whose files of a bucket are to be shown in `folder`: the plan with those paths, Job.objects, and
    the name of each secret with the path that it is the address of."""
    given = plan.source.settings
    named = [given["path"]] if isinstance(given.get("path"), str) else list(given.get("paths", []))
    files = _all(named)
    if not files and "unpack" not in given.get("view", {}):
        return plan, [], {}
    where = {path: str(folder / Path(path).parent.name / Path(path).name) for path, _ in files}
    changed: dict[str, Any] = {
        key: where.get(value, value) if key == "path" else [where.get(one, one) for one in value]
        for key, value in given.items()
        if key in ("path", "paths")
    }
    # Shared by all conversions of a plain file that is here; of another one each attempt has a view of its own.
    if "view" in given:
        changed["view"] = given["view"] | {"folder": str(folder.parent / "view")}
    source = plan.source.model_copy(update={"settings": given | changed})
    objects = [
        {"path": where[path], "size": upload.size, "secret": f"address-{number}"}
        for number, (path, upload) in enumerate(files)
    ]
    secrets = {f"address-{number}": path for number, (path, _) in enumerate(files)}
    return plan.model_copy(update={"source": source}), objects, secrets


def addresses(secrets: dict[str, str]) -> dict[str, str]:
    """The presigned addresses.  Raises RefusedError when a file is gone."""
    found = {}
    for name, path in secrets.items():
        upload = uploaded.in_bucket(path)
        if upload is None:
            raise _no_answer()
        try:
            found[name] = _store(upload).address(uploaded.place_of(upload))
        except UnreachableError as error:
            raise _no_answer() from error
    return found


def _all(paths: list[str]) -> list[tuple[str, Upload]]:
    """The uploads in a bucket that these paths stand for, and what was uploaded together with them."""
    found: dict[str, Upload] = {}
    for path in paths:
        upload = uploaded.in_bucket(path)
        if upload is None:
            continue
        together = (
            Upload.objects.filter(bundle=upload.bundle) if path.lower().endswith(".ovf") and upload.bundle else ()
        )
        for one in (upload, *together):
            found[str(Path(path).with_name(uploaded.place_of(one).name))] = one
    return list(found.items())


def _store(upload: Upload) -> S3Store:
    store = get_store(upload.storage)
    if not isinstance(store, S3Store):
        raise TypeError(store)
    return store


def _no_answer() -> RefusedError:
    return RefusedError(
        Problem(
            "bucket-unreachable",
            "The uploaded file cannot be read from its bucket",
            "The bucket in which uploads are kept does not answer, or the file is not in it any more.",
            "Look at “Bucket of uploads” on the page “System”; when it answers, try again.",
            "administrator",
        ),
        status=409,
    )
