"""Uploads: files that arrive in pieces, over days if need be, and are kept for conversions.

How much has come, the store tells, never the database.  What is refused is a RefusedError with HTTP's number: refusals.py.
"""

import logging
import re
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from ..models import Conversion, Upload
from ..problems import Problem, RefusedError, size_words
from ..states import ACTIVE, State
from .refusals import full, refused, unreachable
from .room import check_room, guard_quota, guard_space, quota_left, space_left, storage
from .stores import get_store
from .stores.base import Body, BusyError, FullError, OffsetError, UnreachableError
from .uploaded import file_name, place_of
from .verdict import judge, kind_of

logger = logging.getLogger(__name__)

_OPEN: dict[str, Any] = {"level": "open", "concerns": []}
#: A verdict is looked for in the first bytes as they come; then it is the follower's work.
LOOK_UNTIL = 64 << 20
MAX_SIZE = 64 << 40
#: How often a row notes that pieces come: not at each of them, which would be a trip to the disk that says nothing new.
NOTE_EVERY = timedelta(seconds=10)
KINDS = {40: "sha1", 64: "sha256", 128: "sha512"}


# -- beginning ---------------------------------------------------------------------------------------------------------


def create(
    user: Any,
    *,
    name: str,
    size: int,
    modified: str = "",
    expected: str = "",
    bundle: uuid.UUID | None = None,
    convert: bool = False,
) -> Upload:
    """Begins an upload.  Raises RefusedError when it could never be used or there is no room."""
    name = "".join(c for c in re.split(r"[/\\]", name)[-1] if c.isprintable())[:255].strip()
    if not name:
        raise refused("upload-no-name", "The file has no name", "Its name is missing.", status=400, field="name")
    if not 0 < size <= MAX_SIZE:
        text = "It is empty." if size == 0 else "Its size is not plausible."
        raise refused(
            "upload-size", "This file cannot be uploaded", text, "Choose another file.", status=413, field="size"
        )
    if kind_of(name) is None:
        problem = judge(settings.DATA_DIR, name, size, ())["problem"]
        raise RefusedError(Problem(**problem), field="name")
    expected = read_expected(expected)
    with transaction.atomic():
        # The row of the person is the lock: two uploads that begin at once do not both see the same room.
        get_user_model().objects.select_for_update().get(pk=user.pk)
        check_room(size, quota_left(user), space_left())
        if bundle is not None:
            _check_bundle(user, bundle, name)
        return Upload.objects.create(
            owner=user,
            name=name,
            size=size,
            modified=modified[:32],
            expected=expected,
            bundle=bundle,
            convert=convert,
            storage=storage(),
            expires=timezone.now() + timedelta(days=settings.ENV.upload_unfinished_days),
        )


def _check_bundle(user: Any, bundle: uuid.UUID, name: str) -> None:
    others = list(Upload.objects.filter(bundle=bundle))
    # The number is the sender's choice, and the folder's name: it must not be that of a single file.
    if any(other.owner_id != user.pk for other in others) or Upload.objects.filter(pk=bundle).exists():
        raise refused(
            "upload-bundle-of-other",
            "These files belong to somebody else",
            "They were begun by another person.",
            status=403,
        )
    if any(place_of(other).name == file_name(name, True) for other in others):
        raise refused(
            "upload-name-twice", "Two files with one name", f"There is already a file “{name}” among them.", status=409
        )


def read_expected(text: str) -> str:
    """ "algorithm:hex" of a checksum as people paste it: the hex alone, or a line of sha256sum or of a manifest."""
    text = text.strip()
    if not text:
        return ""
    found = {match.lower() for match in re.findall(r"\b[0-9a-fA-F]{40,128}\b", text) if len(match) in KINDS}
    if len(found) != 1:
        raise refused(
            "checksum-unreadable",
            "This is no checksum that v2vweb knows",
            "A checksum is 40 (SHA-1), 64 (SHA-256) or 128 (SHA-512) digits and letters from a to f.",
            "Copy it again from where the file came from, or leave it empty.",
            field="checksum",
        )
    digits = found.pop()
    return f"{KINDS[len(digits)]}:{digits}"


def again(user: Any, name: str, size: int, modified: str = "") -> Upload | None:
    """The upload that this very file belongs to, if it was begun: by name, size and time of change."""
    rows = Upload.objects.filter(owner=user, name=name, size=size).exclude(state=Upload.State.REFUSED)
    if modified:
        rows = rows.filter(modified__in=[modified[:32], ""])
    return rows.first()


# -- bytes -------------------------------------------------------------------------------------------------------------


def append(upload: Upload, offset: int, body: Body) -> int:
    """Takes bytes that begin at `offset` and returns how far the file goes now.  Raises RefusedError.

    After an interruption less than was announced may have come; what has come counts.
    """
    if upload.state == Upload.State.REFUSED:
        raise RefusedError(Problem(**(upload.problem or {})), status=422)
    if upload.state != Upload.State.RECEIVING:
        raise refused("upload-complete", "The upload is complete", "All of the file is there.", status=409)
    if body.length > settings.ENV.upload_chunk:
        raise refused(
            "upload-chunk-too-large",
            "The piece is too large",
            f"A request may bring {size_words(settings.ENV.upload_chunk)}.",
            status=413,
        )
    if offset + body.length > upload.size:
        raise refused(
            "upload-too-long", "The file is longer than was said", f"It was to have {upload.size} bytes.", status=413
        )
    guard_quota(upload)
    guard_space(upload, body.length)
    try:
        end = get_store(upload.storage).append(place_of(upload), offset, body)
    except BusyError:
        raise refused(
            "upload-busy", "Somebody is sending this file already", "It is being sent from another page.", status=423
        ) from None
    except OffsetError as error:
        error_text = f"{error.offset} bytes are there."
        raise refused("upload-offset", "The piece does not fit", error_text, status=409) from None
    except FullError:
        raise full() from None
    except UnreachableError as error:
        raise unreachable(error) from None
    received(upload, offset, end)
    return end


def received(upload: Upload, offset: int, end: int) -> None:
    """What follows when more of a file has come: a first verdict, a later expiry, and at the end the follower's check."""
    now = timezone.now()
    expires = now + timedelta(days=settings.ENV.upload_unfinished_days)
    fields: dict[str, Any] = {}
    if upload.expires is None or expires - upload.expires > NOTE_EVERY:
        fields = {"touched": now, "expires": expires}
    if offset < LOOK_UNTIL and upload.verdict.get("level") in (None, "open"):
        fields["verdict"] = first_look(upload, end)
        if fields["verdict"]["level"] == "refused":
            refuse(upload, fields["verdict"])
            raise RefusedError(Problem(**fields["verdict"]["problem"]), status=422)
    if end == upload.size:
        fields |= {"state": Upload.State.CHECKING, "completed": now, "expires": None, "touched": now}
    if not fields:
        return
    Upload.objects.filter(pk=upload.pk, state=Upload.State.RECEIVING).update(**fields)
    for name, value in fields.items():
        setattr(upload, name, value)


def first_look(upload: Upload, end: int) -> dict[str, Any]:
    path = get_store(upload.storage).head(place_of(upload))
    try:  # of an upload that goes to a bucket only the beginning is here, until the follower has read it
        return judge(path, upload.name, upload.size, [(0, min(end, path.stat().st_size))]) if path else _OPEN
    except FileNotFoundError:
        return _OPEN


def refuse(upload: Upload, verdict: dict[str, Any]) -> None:
    """Ends an upload that cannot be used.  Bytes that are not all there go; a whole file waits for its owner's word."""
    whole = upload.state != Upload.State.RECEIVING
    now = timezone.now()
    fields = {
        "state": Upload.State.REFUSED,
        "verdict": verdict,
        "problem": verdict["problem"],
        "expires": now + timedelta(days=settings.ENV.upload_unfinished_days),
    }
    Upload.objects.filter(pk=upload.pk).exclude(state=Upload.State.READY).update(**fields)
    for name, value in fields.items():
        setattr(upload, name, value)
    if not whole:
        _remove_bytes(upload)


def _remove_bytes(upload: Upload) -> None:
    try:
        get_store(upload.storage).remove(place_of(upload))
    except UnreachableError as error:  # the sweeper tries again
        logger.warning("the bytes of upload %s could not be removed: %s", upload.pk, error)


def expect(upload: Upload, text: str) -> None:
    """Sets, corrects or takes away the checksum that the file should have; a refusal for it is looked at again."""
    expected = read_expected(text)
    now = timezone.now()
    Upload.objects.filter(pk=upload.pk).exclude(state=Upload.State.REFUSED).update(expected=expected)
    Upload.objects.filter(pk=upload.pk, state=Upload.State.READY).update(state=Upload.State.CHECKING, touched=now)
    if upload.state == Upload.State.REFUSED and (upload.problem or {}).get("code") == "checksum-differs":
        Upload.objects.filter(pk=upload.pk, state=Upload.State.REFUSED).update(
            expected=expected, state=Upload.State.CHECKING, problem=None, expires=None, touched=now
        )


# -- use and end -------------------------------------------------------------------------------------------------------


def in_use(upload: Upload) -> list[Conversion]:
    """Conversions that wait or run and need the file."""
    return list(upload.conversions.filter(state__in=[*ACTIVE, State.QUEUED]).only("id", "name", "state"))


def remove(upload: Upload) -> None:
    """Removes an upload and its bytes.  Raises RefusedError while a conversion needs it."""
    with transaction.atomic():
        users = in_use(upload)
        if users:
            raise refused(
                "upload-in-use",
                "This file is being converted",
                f"The conversion “{users[0].name}” needs it.",
                "Wait until it is done, or cancel it.",
                status=409,
            )
        Upload.objects.filter(pk=upload.pk).delete()
    _remove_bytes(upload)


def used_by(uploads: Iterable[Upload]) -> dict[uuid.UUID, list[Conversion]]:
    through = Upload.conversions.through.objects.filter(upload__in=list(uploads)).select_related("conversion")
    found: dict[uuid.UUID, list[Conversion]] = {}
    for link in through.defer("conversion__secrets", "conversion__plan_json").order_by("-conversion_id"):
        found.setdefault(link.upload_id, []).append(link.conversion)
    return found
