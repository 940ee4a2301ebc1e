"""The REST API: the same plan, permissions and words as the pages, for programs."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from ninja import Query, Status

from ..access import check
from ..jobdir import JobDir
from ..logs import chunks
from ..models import Conversion
from ..planning import create_conversion, make_plan
from ..problems import Problem, RefusedError
from ..results import serve_artifact, stream
from ..roles import visible_to
from ..schemas import (
    ConversionIn,
    ConversionList,
    ConversionOut,
    EventList,
    Page,
    Place,
    Since,
    conversion_out,
    event_out,
)
from ..states import State
from .api_frame import REFUSALS, router

EVENTS_AT_ONCE = 1000


def rows(request: HttpRequest) -> Any:
    """What the user may see.  Without secrets: a wrong key must not take the list away, nor a slip give them out."""
    check(request.user, "conversions.use")
    return visible_to(request.user, Conversion.objects.defer("secrets", "plan_json").select_related("owner"))


def row(request: HttpRequest, id: int, permission: str = "conversions.see_conversion") -> Conversion:
    """A conversion for which the user has the permission; what is hidden from the user does not exist for him or her."""
    found: Conversion | None = rows(request).filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no conversion {id}.")
    check(request.user, permission, found)
    return found


@router.post(
    "/conversions",
    response={201: ConversionOut, **REFUSALS},
    summary="Start a conversion",
    url_name="conversions",
)
def create(request: HttpRequest, response: HttpResponse, data: ConversionIn) -> Any:
    """Checks everything that can be checked at once and queues the conversion."""
    check(request.user, "conversions.start_conversion")
    plan, secrets = make_plan(**data.request(), user=request.user)
    made = create_conversion(plan, secrets, request.user)
    response["Location"] = f"/api/v1/conversions/{made.pk}"
    return Status(201, conversion_out(made))


@router.get(
    "/conversions",
    response={200: ConversionList, **REFUSALS},
    summary="List conversions",
    url_name="conversions",
)
def index(request: HttpRequest, page: Query[Page]) -> ConversionList:
    """Newest first."""
    found = rows(request)
    if page.state:
        found = found.filter(state__in=page.state)
    shown = found[page.offset : page.offset + page.limit]
    return ConversionList(items=[conversion_out(one) for one in shown], count=found.count())


@router.get(
    "/conversions/{int:id}",
    response={200: ConversionOut, **REFUSALS},
    summary="Look at one",
    url_name="conversion",
)
def show(request: HttpRequest, id: int) -> ConversionOut:
    return conversion_out(row(request, id))


@router.post(
    "/conversions/{int:id}/cancel",
    response={200: ConversionOut, **REFUSALS},
    summary="Cancel",
    url_name="cancel",
)
def cancel(request: HttpRequest, id: int) -> ConversionOut:
    """A running one is “cancelling” until nothing of it runs any more."""
    for _ in range(3):  # it may start or end between our look and our move: look again
        found = row(request, id, "conversions.change_conversion_run")
        if not found.can_cancel:
            break
        if found.request_cancel(request.user.get_username()):
            return conversion_out(found)
    sentence = {
        State.CANCELLING: "It is already being cancelled.",
        State.CANCELLED: "It was already cancelled.",
    }.get(State(found.state), f"It is not waiting or running any more, but {found.state}.")
    raise RefusedError(Problem("cannot-cancel", "Cannot be cancelled", sentence), status=409)


@router.post(
    "/conversions/{int:id}/retry",
    response={200: ConversionOut, **REFUSALS},
    summary="Try again",
    url_name="retry",
)
def retry(request: HttpRequest, id: int) -> ConversionOut:
    """Queues another attempt of the same plan."""
    found = row(request, id, "conversions.change_conversion_run")
    if found.can_retry and found.retry(request.user.get_username()):
        return conversion_out(found)
    found = row(request, id, "conversions.change_conversion_run")
    sentence = (
        "It has succeeded. Start a new conversion to make its disks again."
        if found.state == State.SUCCEEDED
        else f"It has not ended: it is {found.state}."
    )
    raise RefusedError(Problem("cannot-retry", "Cannot be tried again", sentence), status=409)


@router.get(
    "/conversions/{int:id}/events",
    response={200: EventList, **REFUSALS},
    summary="What happened, in order",
    url_name="events",
)
def events(request: HttpRequest, id: int, since: Query[Since]) -> EventList:
    """At most 1000 at once; ask again with `after` = `last` until none comes."""
    found = row(request, id).events.filter(pk__gt=since.after)[:EVENTS_AT_ONCE]
    told = [event_out(event) for event in found]
    return EventList(events=told, last=told[-1]["id"] if told else since.after)


_BYTES: dict[str, Any] = {
    "responses": {200: {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}}
}
_FILE: dict[str, Any] = {
    "responses": {
        200: {
            "description": "OK",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    }
}


@router.get(
    "/conversions/{int:id}/log",
    summary="The log from a byte on",
    openapi_extra=_BYTES,
    url_name="log",
)
def log(request: HttpRequest, id: int, place: Query[Place]) -> HttpResponseBase:
    """Text of the log from `offset` to its present end.  The header X-Next-Offset says where to go on, X-Attempt which
    attempt it is of: with a new attempt the log begins again."""
    found = row(request, id)
    attempt = place.attempt or found.attempt
    if attempt > found.attempt:
        raise Http404(f"There is no attempt {attempt} of this conversion.")
    path = JobDir.of(settings.DATA_DIR, found.pk, attempt).log
    end = path.stat().st_size if path.exists() else 0
    start = min(place.offset, end)
    headers = {
        "Content-Length": str(end - start),
        "X-Next-Offset": str(end),
        "X-Attempt": str(attempt),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    pieces = lambda: chunks(path, start, end) if start < end else iter(())  # noqa: E731
    return stream(request, pieces, headers, content_type="text/plain; charset=utf-8")


@router.get(
    "/conversions/{int:id}/files/{path:name}",
    summary="Download a result",
    openapi_extra=_FILE,
    url_name="file",
)
@router.api_operation(["HEAD"], "/conversions/{int:id}/files/{path:name}", include_in_schema=False, url_name="file")
def file(request: HttpRequest, id: int, name: str) -> HttpResponseBase:
    """A disk or the YAML.  Takes Range, so that a broken download can go on."""
    return serve_artifact(request, row(request, id), name)
