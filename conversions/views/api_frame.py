"""The REST API's frame: who is asking, what is read of a request, and one shape for every refusal (schemas.RefusalOut),
whoever found it: a form, django-ninja or Django."""

import json
import logging
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI, Router
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.security import HttpBearer, SessionAuth

from .. import tokens
from ..credentials import WrongKeyError
from ..problems import RefusedError
from ..schemas import RefusalOut

logger = logging.getLogger(__name__)

PARAMETERS = (["data"], ["page"], ["since"], ["place"])  #: what the operations of api.py call body and query


class Token(HttpBearer):
    """`Authorization: Bearer v2v_...`, made on the page "API tokens" or by `manage.py token USER`."""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        found = tokens.find(token.strip())
        if found is None:
            return None
        request.user = found.user  # what follows asks request.user, whichever way somebody came in
        return found.user


class Session(SessionAuth):
    """The session of the pages; then a POST needs the CSRF token."""

    def __call__(self, request: HttpRequest) -> Any:
        # A bad token must not be covered up by a good cookie; and who is nobody gets 401, not "CSRF failed".
        if "Authorization" in request.headers or not request.user.is_authenticated:
            return None
        return super().__call__(request)


class StrictParser(Parser):
    """JSON that a database and a file system can hold: no NaN, no half of a surrogate pair, no NUL."""

    def parse_body(self, request: HttpRequest) -> Any:
        def no_constant(name: str) -> None:
            raise ValueError(name)

        data = json.loads(request.body, parse_constant=no_constant)
        _refuse_odd_text(data)
        return data


def _refuse_odd_text(data: Any) -> None:
    if isinstance(data, str):
        data.encode()
        if "\0" in data:
            raise ValueError("NUL")
    elif isinstance(data, dict):
        for key, value in data.items():
            _refuse_odd_text(key)
            _refuse_odd_text(value)
    elif isinstance(data, list):
        for value in data:
            _refuse_odd_text(value)


api = NinjaAPI(
    title="v2vweb",
    version="1",
    description="Moves virtual machines into KubeVirt with virt-v2v. Make a token on the page “API tokens” or with "
    "`manage.py token USER`, and send it as `Authorization: Bearer …`.",
    docs_url="/docs",
    openapi_url="/openapi.json",
    parser=StrictParser(),
    auth=[Token(), Session()],
    urls_namespace="api",
)
router = Router(tags=["conversions"])
REFUSALS = dict.fromkeys((400, 401, 403, 404, 409, 413, 422), RefusalOut)


# -- refusals ---------------------------------------------------------------------------------------------------------


def refusal(status: int, code: str, title: str, text: str, field: str | None = None) -> HttpResponse:
    response = JsonResponse({"error": {"code": code, "title": title, "text": text, "field": field}}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="v2vweb"'
    return response


@api.exception_handler(RefusedError)
def _refused(request: HttpRequest, error: RefusedError) -> HttpResponse:
    problem = error.problem
    text = f"{problem.text} {problem.action}".strip()
    return refusal(error.status, problem.code, problem.title, text, error.field)


@api.exception_handler(AuthenticationError)
def _not_authenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    if "Authorization" in request.headers:
        text = "The token is unknown or was revoked, or its owner may no longer log in. Make a new one."
        return refusal(401, "bad-token", "Token not accepted", text)
    text = "Send “Authorization: Bearer TOKEN”. A token is made on the page “API tokens” or with manage.py token USER."
    return refusal(401, "not-authenticated", "Who are you", text)


@api.exception_handler(PermissionDenied)
def _not_allowed(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return refusal(403, "not-allowed", "Not allowed", str(error) or "Your role does not allow this.")


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return refusal(404, "not-found", "Not found", str(error) or "There is nothing at this address.")


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return refusal(413, "too-big", "Request too big", "The request is larger than any request of this API need be.")


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if error.status_code == 400:
        return refusal(400, "not-json", "Not JSON", "The body of the request is not valid JSON in UTF-8.")
    if error.status_code == 403:
        text = "With a session, a changing request needs the page's CSRF token in the header X-CSRFToken."
        return refusal(403, "csrf", "Not sent by one of our pages", text)
    return refusal(error.status_code, f"http-{error.status_code}", "Not possible", error.message)


@api.exception_handler(ValidationError)
def _not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """The first thing that is wrong.  Never the value that was sent: it may be a passphrase."""
    first = error.errors[0]
    place = [str(part) for part in first["loc"][1:]]  # without "body" or "query"; then ninja may name our own parameter
    field = ".".join(place[1:] if place[:1] in PARAMETERS else place) or None
    if field is None:
        return refusal(422, "no-body", "Nothing was sent", "The request needs a JSON object as its body.")
    if first["type"] == "missing":
        return refusal(422, "field-missing", "Something is missing", f"The field “{field}” is missing.", field)
    if first["type"] == "extra_forbidden":
        return refusal(422, "field-unknown", "Unknown field", f"There is no field “{field}”.", field)
    return refusal(
        422, "field-invalid", "A value does not fit", f"“{field}”: {first['msg'].removeprefix('Value error, ')}.", field
    )


@api.exception_handler(WrongKeyError)
def _wrong_key(request: HttpRequest, error: WrongKeyError) -> HttpResponse:
    text = "v2vweb's key file is not the one its secrets were written with. An administrator must put it back."
    return refusal(500, "wrong-key", "Stored secrets cannot be read", text)


@api.exception_handler(Exception)
def _broken(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    text = "This is a fault in v2vweb, not in your request. Its log says more; please tell an administrator."
    return refusal(500, "fault", "Something went wrong", text)
