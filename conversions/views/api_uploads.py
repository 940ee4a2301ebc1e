"""The REST API's part about uploads.  Sending them is tus's, under /uploads/: this lists, looks and removes."""

import uuid
from datetime import datetime
from typing import Any, Literal

from django.http import Http404, HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import Field

from ..access import check
from ..models import Upload
from ..roles import visible_to
from ..schemas import Strict
from ..uploading import room, uploads
from .api_frame import REFUSALS

router = Router(tags=["uploads"])


class UploadPage(Strict):
    """Which uploads to list."""

    state: list[Literal["receiving", "checking", "ready", "refused"]] = Field(
        [], description="Only those in one of these."
    )
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, le=10**9)


class UploadOut(Schema):
    id: uuid.UUID
    name: str
    owner: str
    size: int = Field(description="Bytes of the whole file.")
    offset: int = Field(description="Bytes that are here.")
    state: str = Field(description="receiving, checking, ready or refused.")
    url: str = Field(description="tus's address of it.")
    verdict: dict[str, Any] = Field(
        description="What was found out about it: level, kind, guest, disks, nics, concerns, ..."
    )
    error: dict[str, Any] | None = Field(description="Why it is refused.")
    sha256: str | None = Field(description="Of the whole file, once all of it is here.")
    expected: str | None = Field(description="The checksum that was announced: “sha256:...”.")
    created: datetime
    completed: datetime | None
    expires: datetime | None = Field(description="When it is removed, unless something is done with it.")
    conversions: list[int] = Field(description="Numbers of the conversions that were made from it.")


class UploadList(Schema):
    items: list[UploadOut]
    count: int


def upload_out(upload: Upload, used: list[Any]) -> dict[str, Any]:
    return {
        "id": upload.pk,
        "name": upload.name,
        "owner": upload.owner.get_username(),
        "size": upload.size,
        "offset": room.offset_shown(upload),
        "state": upload.state,
        "url": f"/uploads/{upload.pk}",
        "verdict": upload.verdict,
        "error": upload.problem,
        "sha256": upload.sha256 or None,
        "expected": upload.expected or None,
        "created": upload.created,
        "completed": upload.completed,
        "expires": upload.expires,
        "conversions": [conversion.pk for conversion in used],
    }


def _row(request: HttpRequest, id: uuid.UUID, permission: str) -> Upload:
    """What is hidden from the user does not exist for him or her."""
    check(request.user, "conversions.use")
    found: Upload | None = visible_to(request.user, Upload.objects.select_related("owner")).filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no upload {id}.")
    check(request.user, permission, found)
    return found


@router.get("/uploads", response={200: UploadList, **REFUSALS}, summary="List uploads", url_name="uploads")
def index(request: HttpRequest, page: Query[UploadPage]) -> dict[str, Any]:
    """Newest first."""
    check(request.user, "conversions.use")
    found = visible_to(request.user, Upload.objects.select_related("owner"))
    if page.state:
        found = found.filter(state__in=page.state)
    rows = list(found[page.offset : page.offset + page.limit])
    used = uploads.used_by(rows)
    return {"items": [upload_out(row, used.get(row.pk, [])) for row in rows], "count": found.count()}


@router.get("/uploads/{uuid:id}", response={200: UploadOut, **REFUSALS}, summary="Look at one", url_name="upload")
def show(request: HttpRequest, id: uuid.UUID) -> dict[str, Any]:
    upload = _row(request, id, "conversions.see_upload")
    return upload_out(upload, uploads.used_by([upload]).get(upload.pk, []))


@router.delete("/uploads/{uuid:id}", response={204: None, **REFUSALS}, summary="Remove it", url_name="upload")
def remove(request: HttpRequest, id: uuid.UUID) -> Any:
    """Its bytes go too. Refused (409) while a conversion needs them."""
    uploads.remove(_row(request, id, "conversions.change_upload"))
    return Status(204, None)
