"""tus 1.0 (https://tus.io/protocols/resumable-upload): core, creation, expiration, termination.

Who is asking is settled at every request: a session with the CSRF token, or a bearer token of the API.  A body is read
piece by piece from where Django has put it, never as a whole.
"""

import base64
import binascii
import contextlib
import functools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import reverse
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt

from .. import tokens
from ..access import check
from ..models import Upload
from ..problems import RefusedError
from ..uploading import room, uploads
from ..uploading.refusals import refused
from ..uploading.stores.base import Body

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,termination"
PATCH_TYPE = "application/offset+octet-stream"
#: Where v2vweb/bodies.py leaves the file of a piece.
SCOPE_KEY = "v2vweb.body"

View = Callable[..., HttpResponse]


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _guarded(request: HttpRequest) -> HttpResponse:
    """What the middleware is asked about: a view that is not exempt."""
    return HttpResponse()


def who(request: HttpRequest) -> Any:
    """The person behind a request.  Raises RefusedError with 401 or 403."""
    header = request.headers.get("Authorization", "")
    if header:
        kind, _, text = header.partition(" ")
        token = tokens.find(text.strip()) if kind.lower() == "bearer" else None
        if token is None:
            raise refused(
                "bad-token", "Token not accepted", "The token is unknown or was revoked.", "Make a new one.", status=401
            )
        request.user = token.user
        return token.user
    if not request.user.is_authenticated:
        text = "Your session is over. What was sent is kept."
        raise refused("not-authenticated", "Please log in again", text, "Log in, then go on.", status=401)
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        csrf = _Csrf(_guarded)
        csrf.process_request(request)
        if csrf.process_view(request, _guarded, (), {}):
            text = "The page that sends is out of date. What was sent is kept."
            raise refused("csrf", "Please load the page again", text, "Load the page again.", status=403)
    return request.user


def tus(view: View) -> View:
    """Speaks tus around a view: version, method override, refusals as JSON with a sentence."""

    @csrf_exempt
    @login_not_required
    @functools.wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        method = request.method or ""
        if method == "POST":  # and nothing else: who() asks for the CSRF token by what the request really is
            method = request.headers.get("X-HTTP-Method-Override", method).upper()
        try:
            if method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
                response: HttpResponse = HttpResponse(status=412)
            else:
                response = view(request, method, *args, **kwargs)
        except RefusedError as error:
            response = _refusal(error)
        except PermissionDenied as error:
            response = _refusal(refused("not-allowed", "Not allowed", str(error), status=403))
        except Http404:
            text = "This upload does not exist any more: it was removed, or nobody went on with it for too long."
            response = _refusal(refused("not-found", "Not there any more", text, status=404))
        response.headers.setdefault("Tus-Resumable", VERSION)
        if response.status_code == 412:
            response.headers["Tus-Version"] = VERSION
        response.headers["Cache-Control"] = "no-store"
        return response

    wrapped.needs = "conversions.start_upload"  # type: ignore[attr-defined]  # tests walk all addresses and look for it
    return wrapped


def _refusal(error: RefusedError) -> HttpResponse:
    response = JsonResponse({"error": {**error.problem.as_dict(), "field": error.field}}, status=error.status)
    if error.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="v2vweb"'
    if error.status == 507:
        response["Retry-After"] = "30"
    return response


def _options() -> HttpResponse:
    response = HttpResponse(status=204)
    response["Tus-Version"] = VERSION
    response["Tus-Extension"] = EXTENSIONS
    response["Tus-Max-Size"] = str(uploads.MAX_SIZE)
    response["V2vweb-Chunk-Size"] = str(settings.ENV.upload_chunk)
    return response


@tus
def collection(request: HttpRequest, method: str) -> HttpResponse:
    """Creation, and what this server can."""
    if method == "OPTIONS":
        return _options()
    user = who(request)
    if method != "POST":
        return HttpResponse(status=405, headers={"Allow": "GET, POST, OPTIONS"})
    check(user, "conversions.start_upload")
    said = _metadata(request.headers.get("Upload-Metadata", ""))
    upload = uploads.create(
        user,
        name=said.get("filename") or said.get("name", ""),
        size=_number(request, "Upload-Length"),
        modified=said.get("modified", ""),
        expected=said.get("checksum", ""),
        bundle=_uuid(said.get("bundle", "")),
        convert=said.get("convert") == "yes",
    )
    response = HttpResponse(status=201)
    response["Location"] = reverse("upload-file", args=[upload.pk])  # relative: a proxy may have another name
    _expires(response, upload)
    return response


@tus
def file(request: HttpRequest, method: str, pk: uuid.UUID) -> HttpResponse:
    """One upload: HEAD how far it is, PATCH its next bytes, DELETE it."""
    if method == "OPTIONS":
        return _options()
    user = who(request)
    check(user, "conversions.start_upload")  # who may never upload is not told what there is
    try:
        upload = Upload.objects.get(pk=pk)
    except Upload.DoesNotExist:
        raise Http404 from None
    if not user.has_perm("conversions.see_upload", upload):
        raise Http404
    check(user, "conversions.change_upload", upload)
    if method == "HEAD":
        return _head(upload)
    if method == "PATCH":
        return _patch(request, upload)
    if method == "DELETE":
        uploads.remove(upload)
        return HttpResponse(status=204)
    return HttpResponse(status=405, headers={"Allow": "HEAD, PATCH, DELETE, OPTIONS"})


def _head(upload: Upload) -> HttpResponse:
    if upload.state == Upload.State.REFUSED:
        raise refused("upload-refused", "This file cannot be used", "It was looked at and refused.", status=410)
    response = HttpResponse(status=200)
    response["Upload-Offset"] = str(room.offset_of(upload))
    response["Upload-Length"] = str(upload.size)
    response["Upload-Metadata"] = "filename " + base64.b64encode(upload.name.encode()).decode()
    _expires(response, upload)
    return response


def _patch(request: HttpRequest, upload: Upload) -> HttpResponse:
    if request.content_type != PATCH_TYPE:
        raise refused("content-type", "Not tus", f"The type must be {PATCH_TYPE}.", status=415)
    with _body(request, upload) as body:
        offset = uploads.append(upload, _number(request, "Upload-Offset"), body)
    response = HttpResponse(status=204)
    response["Upload-Offset"] = str(offset)
    _expires(response, upload)
    return response


@contextlib.contextmanager
def _body(request: HttpRequest, upload: Upload) -> Iterator[Body]:
    name = request.headers.get("X-Body-File", "")
    if settings.ENV.upload_body_dir and name:
        with _file_of_nginx(Path(name)) as body:
            yield body
        return
    piece = getattr(request, "scope", {}).get(SCOPE_KEY)
    if piece is not None:  # our own web server has put it into a file (v2vweb/bodies.py)
        fd = piece.fileno()
        os.lseek(fd, 0, os.SEEK_SET)
        yield Body(os.fstat(fd).st_size, lambda count: os.read(fd, count), fd)
        return
    announced = request.headers.get("Content-Length", "")
    rest = max(0, upload.size - _number(request, "Upload-Offset"))

    def read(count: int) -> bytes:
        try:
            return request.read(count)
        except UnreadablePostError:  # the sender is gone: what has come counts
            return b""

    yield Body(int(announced) if announced.isdigit() else min(settings.ENV.upload_chunk, rest), read)


@contextlib.contextmanager
def _file_of_nginx(path: Path) -> Iterator[Body]:
    """nginx has put the body into a file of its own and told its name; docs/nginx.md says how others are kept from that."""
    folder = Path(os.path.realpath(settings.ENV.upload_body_dir or "/nonexistent"))
    if path.parent != folder or path.name in (".", ".."):
        raise refused("body-file", "Not from nginx", "The body's file is not where it should be.", status=400)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        text = f"v2vweb cannot read what nginx has put down for it ({error.strerror})."
        raise refused("body-file", "The web server is not set up right", text, status=500) from error
    try:
        yield Body(os.fstat(fd).st_size, lambda count: os.read(fd, count), fd)
    finally:
        os.close(fd)


def _expires(response: HttpResponse, upload: Upload) -> None:
    if upload.expires:
        response["Upload-Expires"] = http_date(upload.expires.timestamp())


def _number(request: HttpRequest, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise refused("header-missing", "Not tus", f"The header {name} must be a number.", status=400)
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """ "filename d2ViMDEub3Zh,checksum ..." -> {"filename": "web01.ova", ...}"""
    found = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise refused("metadata", "Not tus", "The header Upload-Metadata cannot be read.", status=400) from None
    return found


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        raise refused("metadata", "Not tus", "“bundle” must be a UUID.", status=400) from None
