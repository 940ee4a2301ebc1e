"""The REST API of what KubeVirt gets: the manifest in three views, and an edited one."""

from typing import Any, Literal

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from .. import handover
from .api import row
from .api_frame import REFUSALS, router


class Which(Schema):
    view: Literal["ours", "virt-v2v", "diff"] = "ours"


class ManifestIn(Schema):
    text: str = Field(max_length=1_000_000)
    accept: list[str] = Field(default=[], max_length=20, description="Codes of questions that are answered with yes.")


class ManifestOut(Schema):
    view: str
    text: str | None = Field(description="The file; null for the view “diff”.")
    changes: list[dict[str, Any]] | None = Field(description="For “diff”: line by line, with the reason.")
    concerns: list[dict[str, Any]]
    edited_by: str | None


@router.get(
    "/conversions/{int:id}/manifest",
    response={200: ManifestOut, **REFUSALS},
    summary="What KubeVirt gets",
    url_name="manifest",
)
def show(request: HttpRequest, id: int, place: Query[Which]) -> Any:
    """virt-v2v's file, ours (or the edited one), or the difference with its reasons."""
    found = row(request, id)
    views = handover.real(found)
    texts = {"virt-v2v": views.theirs, "ours": handover.current(found, views)}
    return {
        "view": place.view,
        "text": texts.get(place.view),
        "changes": handover.changes(views) if place.view == "diff" else None,
        "concerns": [concern.as_dict() for concern in views.concerns],
        "edited_by": (found.edited_manifest or {}).get("by"),
    }


@router.put(
    "/conversions/{int:id}/manifest",
    response={200: ManifestOut, **REFUSALS},
    summary="Change what KubeVirt gets",
    url_name="manifest",
)
def change(request: HttpRequest, id: int, data: ManifestIn) -> Any:
    """Refused with the line when there is a mistake; 409 with a code when something is to be confirmed."""
    found = row(request, id, "conversions.change_conversion_run")
    handover.save(found, data.text, request.user, frozenset(data.accept))
    return show(request, id, Which())
