"""Whether there is room for an upload: how far each has come, what is free, who may keep how much."""

from typing import Any

from django.conf import settings
from django.db.models import Sum

from ..host import space
from ..models import Upload
from ..problems import RefusedError, size_words
from .refusals import full, refused, unreachable
from .stores import get_store
from .stores.base import UnreachableError
from .uploaded import place_of


def offset_of(upload: Upload) -> int:
    """Bytes that are there."""
    if upload.state in (Upload.State.CHECKING, Upload.State.READY):
        return upload.size
    try:
        return get_store(upload.storage).offset(place_of(upload))
    except UnreachableError as error:
        raise unreachable(error) from None


def offset_shown(upload: Upload) -> int:
    """For a page: as far as it has been read, when its place does not answer."""
    try:
        return 0 if upload.state == Upload.State.REFUSED else offset_of(upload)
    except RefusedError:
        return int((upload.verdict or {}).get("followed", 0))


def kept(user: Any = None) -> int:
    """Bytes that uploads, of one person (or their number) or of all, take or will take."""
    rows = Upload.objects.exclude(state=Upload.State.REFUSED)
    if user is not None:
        rows = rows.filter(owner=user)
    return rows.aggregate(total=Sum("size"))["total"] or 0


def quota_left(user: Any) -> int | None:
    """Bytes that a person may still upload; None without a limit."""
    left = []
    if settings.ENV.upload_quota:
        left.append(settings.ENV.upload_quota - kept(user))
    if settings.ENV.upload_quota_all:
        left.append(settings.ENV.upload_quota_all - kept())
    return max(0, min(left)) if left else None


def owed() -> int:
    """Bytes that uploads which have begun will still bring."""
    rows = Upload.objects.filter(state=Upload.State.RECEIVING, storage="local")
    return sum(max(0, row.size - offset_of(row)) for row in rows)


def space_left() -> int | None:
    """Bytes for new uploads: what is free without the reserve, what others still bring and what conversions will take."""
    free = get_store(storage()).free()
    if free is None:
        return None
    taken = owed() + settings.ENV.upload_reserve
    settings.UPLOAD_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.UPLOAD_DIR.stat().st_dev == settings.DATA_DIR.stat().st_dev:
        taken += space.reserved()
    return max(0, free - taken)


def storage() -> str:
    """The kind of store that new uploads go to."""
    return "s3" if settings.ENV.s3_bucket else "local"


def check_room(size: int, left: int | None, room: int | None) -> None:
    """Raises RefusedError when a file is larger than what quota_left() and space_left() have told."""
    if left is not None and size > left:
        raise refused(
            "upload-over-quota",
            "Your space for uploads is used up",
            f"The file has {size_words(size)}; you may upload {size_words(left)} more.",
            "Remove uploads that you do not need any more, or ask your administrator for more space.",
            status=413,
            field="size",
        )
    if room is not None and size > room:
        raise refused(
            "upload-no-space",
            "There is not enough free space on this server",
            f"The file has {size_words(size)}; there is room for {size_words(room)} beside what others are sending "
            "and what conversions need.",
            "Ask your administrator for more space, or wait until other uploads and conversions are done.",
            status=507,
            whose="administrator",
        )


def guard_quota(upload: Upload) -> None:
    """A quota that was made smaller stops what goes beyond it, too."""
    own, everybody = settings.ENV.upload_quota, settings.ENV.upload_quota_all
    if (own and kept(upload.owner_id) > own) or (everybody and kept() > everybody):
        raise refused(
            "upload-over-quota",
            "The space for uploads was made smaller",
            "Uploads that have begun do not fit into it any more. Nothing that was sent is lost.",
            "Remove uploads that you do not need any more, then go on; or ask your administrator for more space.",
            status=403,
        )


def guard_space(upload: Upload, length: int) -> None:
    free = get_store(upload.storage).free()
    if free is not None and free - length < settings.ENV.upload_reserve:
        raise full()
