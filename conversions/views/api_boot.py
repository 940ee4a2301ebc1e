"""The REST API of the proof of boot."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from ninja import Schema, Status
from pydantic import Field

from .. import boot_tests
from ..models import BootTest
from ..problems import Problem, RefusedError
from .api import row
from .api_frame import REFUSALS, router


class BootTestIn(Schema):
    settings: dict[str, Any] = Field({}, description="Of the target, to be tried instead: {“bus”: “sata”}.")


class BootTestOut(Schema):
    id: int
    state: str = Field(description="queued, running, ended, cancelled or lost.")
    verdict: str | None
    good: bool | None
    title: str | None
    text: str | None
    action: str | None
    pictures: list[str] = Field(description="Addresses, the earliest first.")
    suggestions: list[dict[str, Any]]


def boot_test_out(test: BootTest) -> dict[str, Any]:
    outcome = test.outcome or {}
    address = [test.conversion_id, test.pk]
    names = [picture["name"] for picture in outcome.get("pictures", ())]
    return {
        "id": test.pk,
        "state": test.state,
        **{key: outcome.get(key) for key in ("verdict", "good", "title", "text", "action")},
        "pictures": [reverse("boot-picture", args=[*address, name]) for name in names],
        "suggestions": list(outcome.get("suggestions", ())),
    }


@router.post(
    "/conversions/{int:id}/boot-test",
    response={202: BootTestOut, **REFUSALS},
    summary="Try whether it boots",
    url_name="boot-test",
)
def ask(request: HttpRequest, id: int, data: BootTestIn) -> Any:
    """Starts a throw-away copy of the new machine on the server, as soon as there is room."""
    found = row(request, id, "conversions.change_conversion_run")
    return Status(202, boot_test_out(boot_tests.ask(found, request.user, data.settings)))


@router.get(
    "/conversions/{int:id}/boot-test",
    response={200: BootTestOut, **REFUSALS},
    summary="How the latest trial start went",
    url_name="boot-test",
)
def show(request: HttpRequest, id: int) -> Any:
    test = row(request, id).boot_tests.first()
    if test is None:
        raise RefusedError(
            Problem(
                "no-boot-test", "It was not tried", "Nobody has tried yet whether this machine boots.", "POST here."
            ),
            status=404,
        )
    return boot_test_out(test)
