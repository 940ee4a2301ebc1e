"""The REST API's addresses: all operations together, and JSON for whatever is asked beside them."""

from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from . import api as conversions_api
from . import api_boot, api_manifest, api_sources, api_uploads
from .api_frame import api, refusal, router

OPERATIONS = (conversions_api, api_boot, api_manifest)  #: importing them puts their operations on the router

api.add_router("/v1", router)
api.add_router("/v1", api_sources.router)
api.add_router("/v1", api_uploads.router)


# -- the addresses ----------------------------------------------------------------------------------------------------


def _in_json(view: Any) -> Any:
    """Tells LoginRequiredMiddleware that the view asks who is there itself, and gives 405 our shape."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = view(request, *args, **kwargs)
        if response.status_code == 405:
            allowed = response["Allow"]
            response = refusal(405, "wrong-method", "Wrong method", f"Here one can use {allowed} only.")
            response["Allow"] = allowed
        return response

    answer.login_required = False  # type: ignore[attr-defined]
    answer.csrf_exempt = True  # type: ignore[attr-defined]  # Session above checks it
    return answer


def _open(view: Any) -> Any:
    """The description of the API has no data in it, and generators of clients fetch it without a login."""
    view.login_required = False
    return view


def not_found(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Whatever else somebody asks for under /api/."""
    return refusal(404, "not-found", "Not found", "There is nothing at this address. /api/docs lists what there is.")


def _callback(name: str, view: Any) -> Any:
    if name == "api-root":
        return not_found
    return _open(view) if name.startswith("openapi") else _in_json(view)


urls: tuple[list[Any], str, str] = api.urls
for _pattern in urls[0]:
    _pattern.callback = _callback(str(_pattern.name), _pattern.callback)
not_found.login_required = False  # type: ignore[attr-defined]
not_found.csrf_exempt = True  # type: ignore[attr-defined]
