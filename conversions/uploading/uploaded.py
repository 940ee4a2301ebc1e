"""Uploaded files as sources of conversions: where they lie, who may use them, which conversion does.

A source may name one as "upload:ID"; in a plan stands its path, so that the command is the user's document's own.
"""

import os
import re
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings

from ..models import Conversion, Upload
from ..problems import Problem, RefusedError
from .stores import get_store
from .stores.base import Place

PREFIX = "upload:"
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def file_name(name: str, exact: bool = False) -> str:
    """A name that is safe for a file, in a command and for QEMU (which gives meaning to commas and colons).

    With `exact` blanks and brackets stay: an OVF names its disks so.
    """
    base = re.split(r"[/\\]", name)[-1]
    safe = re.sub(r"[^A-Za-z0-9._+ ()-]" if exact else r"[^A-Za-z0-9._+-]", "_", base).lstrip(".-")
    stem, dot, ending = safe.rpartition(".")
    return f"{stem[:120]}{dot}{ending[-20:]}" if safe else "file"


def place_of(upload: Upload) -> Place:
    return Place(str(upload.bundle or upload.pk), file_name(upload.name, bool(upload.bundle)), upload.size)


def translate(source: dict[str, Any]) -> dict[str, Any]:
    """{"kind": "ova", "upload_id": ID} as the form of that kind takes it."""
    if "upload_id" not in source and "upload_ids" not in source:
        return source
    translated = {key: value for key, value in source.items() if key not in ("upload_id", "upload_ids")}
    ids = source.get("upload_ids", source.get("upload_id"))
    names = [f"{PREFIX}{one}" for one in (ids if isinstance(ids, list) else [ids])]
    return translated | ({"paths": names} if source.get("kind") == "disk" else {"path": names[0]})


def resolve(text: str) -> Path | None:
    """The path of a complete upload, named as "upload:ID" or by its path; None when the text names something else."""
    upload = _named(text)
    if upload is None:
        return None
    if isinstance(upload, str) or upload.state != Upload.State.READY:
        raise RefusedError(_not_ready(None if isinstance(upload, str) else upload))
    if upload.name.lower().endswith(".ovf"):
        late = Upload.objects.filter(bundle=upload.bundle).exclude(bundle=None).exclude(state=Upload.State.READY)
        if other := late.first():
            raise RefusedError(_not_ready(other))
    path = get_store(upload.storage).path(place_of(upload))
    if path is None:  # in a bucket: where it would be if it were here, and bucket/planned.py shows it there
        return Path(os.path.realpath(settings.UPLOAD_DIR), place_of(upload).folder, place_of(upload).name)
    if not path.is_file():
        raise RefusedError(_not_ready(None))
    return Path(os.path.realpath(path))


def in_bucket(path: str | Path) -> Upload | None:
    """The upload that a path stands for, when that is no file on this machine."""
    upload = _named(str(path))
    return upload if isinstance(upload, Upload) and get_store(upload.storage).path(place_of(upload)) is None else None


def _named(text: str) -> Upload | str | None:
    """The upload that a text names, its id when there is none of that name, or None when it names no upload."""
    folder = os.path.realpath(settings.UPLOAD_DIR)
    if text.startswith(PREFIX):
        key = text.removeprefix(PREFIX)
    elif os.path.normpath(text).startswith((f"{folder}/", f"{settings.UPLOAD_DIR}/")):
        root = folder if os.path.normpath(text).startswith(f"{folder}/") else str(settings.UPLOAD_DIR)
        key = os.path.relpath(text, root).split("/")[0]
    else:
        return None
    if not _UUID.fullmatch(key):
        return key
    found = Upload.objects.filter(pk=uuid.UUID(key)).first()
    if found is None:  # one of several files of a bundle
        rows = Upload.objects.filter(bundle=uuid.UUID(key))
        found = next((row for row in rows if place_of(row).name == text.rsplit("/", 1)[-1]), None)
    return found or key


def _not_ready(upload: Upload | None) -> Problem:
    if upload is None:
        return Problem(
            "upload-gone",
            "This uploaded file is not there any more",
            "It was removed, or it had not been used for a long time.",
            "Upload it again.",
        )
    if upload.state == Upload.State.REFUSED:
        return Problem(**(upload.problem or {}))
    return Problem(
        "upload-not-ready",
        "This file has not arrived yet",
        f"“{upload.name}” is still being uploaded or checked.",
        "Wait until it is there; the page “Uploads” shows how far it is.",
    )


def check_use(user: Any, settings_of_source: dict[str, Any]) -> None:
    """Raises RefusedError when a source's settings name somebody else's upload."""
    for upload in _uploads_in(settings_of_source):
        if not user.has_perm("conversions.change_upload", upload):
            raise RefusedError(
                Problem(
                    "upload-not-yours",
                    "This uploaded file belongs to somebody else",
                    "Your role may convert files that you have uploaded yourself.",
                    "Ask its owner or an operator.",
                ),
                status=403,
            )


def note_use(conversion: Conversion) -> None:
    """Remembers which uploads a new conversion needs."""
    found = _uploads_in(conversion.plan_json["source"]["settings"])
    bundles = [upload.bundle for upload in found if upload.bundle]
    conversion.uploads.set([*found, *Upload.objects.filter(bundle__in=bundles)])


def _uploads_in(values: dict[str, Any]) -> list[Upload]:
    texts = [value for value in values.values() if isinstance(value, str)]
    texts += [text for value in values.values() if isinstance(value, list) for text in value if isinstance(text, str)]
    found = [_named(text) for text in texts if text.startswith((PREFIX, "/"))]
    return [upload for upload in found if isinstance(upload, Upload)]
