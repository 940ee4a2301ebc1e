"""The pages about uploads: the list with its drop zone, one upload, an opinion before the first byte is sent."""

import contextlib
import io
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import drafts, planning
from ..access import allowed, check
from ..models import Upload
from ..people import led_to_login
from ..problems import Problem, RefusedError, size_words
from ..roles import role_of, visible_to
from ..sources import get_source
from ..uploading import room, uploads
from ..uploading.stores import get_store
from ..uploading.uploaded import PREFIX, place_of
from ..uploading.verdict import judge
from . import tus

PER_PAGE = 50
MAX_SKETCH = 32 << 20  #: bytes of a file that are looked at before it is sent
MAX_RANGES = 4000


def upload_of(pk: uuid.UUID) -> Upload:
    return get_object_or_404(Upload.objects.select_related("owner"), pk=pk)


@csrf_exempt
@login_not_required
def collection(request: HttpRequest) -> HttpResponseBase:
    """One address for people and for tus."""
    if request.method in ("GET", "HEAD"):
        return index(request) if request.user.is_authenticated else led_to_login(request)
    return tus.collection(request)


collection.needs = "conversions.use"  # type: ignore[attr-defined]


@require_safe
@allowed("conversions.use")
def index(request: HttpRequest) -> HttpResponse:
    rows = visible_to(request.user, Upload.objects.select_related("owner"))
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    template = "_list.html" if request.htmx else "list.html"  # type: ignore[attr-defined]
    context = {
        "rows": [shown(upload, used) for upload, used in _with_use(page.object_list)],
        "page": page,
        "chunk": settings.ENV.upload_chunk,
        "quota_left": room.quota_left(request.user),
        "room": room.space_left(),
        "sees_others": role_of(request.user) != "requester",
        "unfinished_days": settings.ENV.upload_unfinished_days,
        "keep_days": settings.ENV.upload_keep_days,
        "bucket": settings.ENV.s3_bucket,
        "nav": "uploads",
    }
    return render(request, f"conversions/uploads/{template}", context)


def _with_use(rows: Any) -> list[tuple[Upload, Any]]:
    rows = list(rows)
    used = uploads.used_by(rows)
    return [(row, used.get(row.pk, [])) for row in rows]


def shown(upload: Upload, used: Any) -> dict[str, Any]:
    """What a row or a page says of an upload."""
    offset = room.offset_shown(upload)
    verdict = upload.verdict or {}
    return {
        "upload": upload,
        "offset": offset,
        "percent": offset * 100 // upload.size,
        "checked_percent": verdict.get("followed", 0) * 100 // upload.size,
        "idle": (timezone.now() - upload.touched).total_seconds() > 60,
        "used": used,
        "verdict": verdict,
        "summary": summary(verdict),
        "active": upload.state in (Upload.State.RECEIVING, Upload.State.CHECKING),
    }


def summary(verdict: dict[str, Any]) -> str:
    """ "Debian GNU/Linux 12, UEFI, 2 processors, 4 GiB, 1 disk of 20 GiB"."""
    guest, disks = verdict.get("guest") or {}, verdict.get("disks") or []
    words = [guest.get("os") or ""]
    words.append({"uefi": "UEFI", "bios": "BIOS"}.get(guest.get("firmware") or "", ""))
    if guest.get("cpus"):
        words.append(f"{guest['cpus']} processor{'s' if guest['cpus'] > 1 else ''}")
    if guest.get("memory"):
        words.append(f"{size_words(guest['memory'])} of memory")
    if disks:
        known = [disk["capacity"] for disk in disks if disk.get("capacity")]
        size = f" of {size_words(sum(known))}" if known else ""
        words.append(f"{len(disks)} disk{'s' if len(disks) > 1 else ''}{size}")
    return ", ".join(word for word in words if word)


@require_safe
@allowed("conversions.see_upload", upload_of)
def page(request: HttpRequest, upload: Upload) -> HttpResponse:
    (one,) = _with_use([upload])
    template = "_detail.html" if request.htmx else "detail.html"  # type: ignore[attr-defined]
    context = shown(*one) | {
        "may_change": request.user.has_perm("conversions.change_upload", upload),
        "bucket": settings.ENV.s3_bucket,
        "nav": "uploads",
    }
    return render(request, f"conversions/uploads/{template}", context)


@csrf_exempt
@login_not_required
def file(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    """tus's address of one upload; a person who follows it lands on the page."""
    if request.method == "GET":
        return redirect("upload", pk=pk)
    return tus.file(request, pk=pk)


file.needs = "conversions.start_upload"  # type: ignore[attr-defined]


@login_not_required
@require_safe
def may_send(request: HttpRequest) -> HttpResponse:
    """nginx asks here before it takes a body (docs/nginx.md).  Whose upload it is, is asked again when the body has come."""
    try:
        check(tus.who(request), "conversions.start_upload")
    except RefusedError as error:
        return HttpResponse(status=error.status if error.status in (401, 403) else 403)
    except PermissionDenied:
        return HttpResponse(status=403)
    return HttpResponse(status=204)


may_send.needs = "conversions.start_upload"  # type: ignore[attr-defined]


@require_POST
@allowed("conversions.change_upload", upload_of)
def remove(request: HttpRequest, upload: Upload) -> HttpResponse:
    try:
        uploads.remove(upload)
        messages.success(request, f"“{upload.name}” is removed.")
    except RefusedError as error:
        messages.error(request, str(error))
        return redirect(upload)
    return redirect("uploads")


@require_POST
@allowed("conversions.change_upload", upload_of)
def expect(request: HttpRequest, upload: Upload) -> HttpResponse:
    """The checksum that the person was given, typed before or after the upload."""
    try:
        uploads.expect(upload, request.POST.get("checksum", ""))
    except RefusedError as error:
        messages.error(request, str(error))
    return redirect(upload)


@require_POST
@allowed("conversions.change_upload", upload_of)
def convert(request: HttpRequest, upload: Upload) -> HttpResponse:
    """Begins a conversion with this file and goes on with the wizard's second step."""
    kind = "disk" if upload.verdict.get("kind") == "disk" else "ova"
    field = "paths" if kind == "disk" else "path"
    typed: dict[str, Any] = {field: [f"{PREFIX}{upload.pk}"] if kind == "disk" else f"{PREFIX}{upload.pk}"}
    if kind == "ova":
        typed |= {name: request.POST.get(name, "") for name in ("ovf", "firmware")}
    try:
        form = get_source(kind).form_class(typed)
        if not form.is_valid():
            errors = [error for errors in form.errors.as_data().values() for error in errors]
            problem = next((getattr(error, "problem", None) for error in errors), None)
            text = " ".join(message for error in errors for message in error.messages)
            raise RefusedError(problem or Problem("upload-not-usable", "This file cannot be converted", text))
        draft = drafts.begin(request.user, kind)
        finding = planning.look({"kind": kind, **form.cleaned_data}, request.user)
        drafts.save_source(
            draft, draft.version, request.user, typed=form.cleaned_data, cleaned=form.cleaned_data, finding=finding
        )
    except (RefusedError, drafts.StaleError) as error:
        messages.error(request, str(error))
        return redirect(upload)
    return redirect("wizard-step", draft_id=draft.pk, step="guest")


@require_POST
@allowed("conversions.change_upload", upload_of)
def convert_later(request: HttpRequest, upload: Upload) -> HttpResponse:
    """Ticks or unticks "convert it as soon as it is here"; too late for one that is ready."""
    wanted = request.POST.get("convert") == "yes"
    Upload.objects.filter(pk=upload.pk).exclude(state=Upload.State.READY).update(convert=wanted)
    return redirect(upload)


# -- before the first byte ---------------------------------------------------------------------------------------------


@require_http_methods(["POST"])
@allowed("conversions.start_upload")
def opinion(request: HttpRequest) -> HttpResponse:
    """What would be said about a file, from some ranges of it that the browser has read: {"name", "size", "modified",
    "ranges": [[first, length], ...]} in the field "about", the bytes one after the other in "data"."""
    try:
        about = json.loads(request.POST.get("about", ""))
        name, size, modified = str(about["name"]), int(about["size"]), str(about.get("modified", ""))
        ranges = [(int(first), int(length)) for first, length in about["ranges"][:MAX_RANGES]]
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"error": {"code": "not-understood", "title": "Not understood"}}, status=400)
    data = request.FILES.get("data")
    total = sum(length for _, length in ranges)
    if (
        any(first < 0 or length < 0 or first + length > size for first, length in ranges)
        or not 0 <= size <= uploads.MAX_SIZE
    ):
        return JsonResponse({"error": {"code": "not-understood", "title": "Not understood"}}, status=400)
    if total > MAX_SKETCH or (data.size or 0 if data else 0) != total:
        return JsonResponse({"error": {"code": "sketch", "title": "Not understood"}}, status=400)
    known, head = _sketch(ranges, data)
    with tempfile.TemporaryDirectory(dir=settings.DATA_DIR, prefix="sketch-") as folder:
        path = Path(folder, "file")
        _write(path, size, ranges, data)
        verdict = judge(path, name, size, known)
    left, free = room.quota_left(request.user), room.space_left()
    return JsonResponse(
        {
            "verdict": verdict,
            "summary": summary(verdict),
            "problem": verdict.get("problem") or _no_room(size, left, free),
            "again": _again(request.user, name, size, modified, head),
            "quota_left": left,
            "room": free,
        }
    )


def _sketch(ranges: list[tuple[int, int]], data: Any) -> tuple[list[tuple[int, int]], bytes]:
    """The known ranges, adjoining ones as one; and the file's first bytes."""
    known: list[tuple[int, int]] = []
    for first, length in sorted(ranges):
        if known and known[-1][1] >= first:
            known[-1] = (known[-1][0], max(known[-1][1], first + length))
        else:
            known.append((first, first + length))
    head = b""
    if ranges and ranges[0][0] == 0 and data:
        data.seek(0)
        head = data.read(min(ranges[0][1], 1 << 20))
    return known, head


def _write(path: Path, size: int, ranges: list[tuple[int, int]], data: Any) -> None:
    """A sparse file of the right size with the ranges in their places: what reads it needs no other code."""
    with path.open("wb") as file:
        file.truncate(size)
        if data:
            data.seek(0)
        for first, length in ranges:
            file.seek(first)
            file.write(data.read(length))


def _no_room(size: int, left: int | None, free: int | None) -> dict[str, Any] | None:
    try:
        room.check_room(size, left, free)
    except RefusedError as error:
        return error.problem.as_dict()
    return None


def _again(user: Any, name: str, size: int, modified: str, head: bytes) -> dict[str, Any] | None:
    """The upload that this very file belongs to, when it was begun before, in another browser perhaps."""
    upload = uploads.again(user, name, size, modified)
    if upload is None:
        return None
    path = get_store(upload.storage).head(place_of(upload))
    # Nothing has come yet, or it goes on to a bucket in this moment.
    with contextlib.suppress(FileNotFoundError), path.open("rb") if path else io.BytesIO() as file:
        if not head.startswith(file.read(len(head))):  # another file of the same name, size and time
            return None
    return {
        "id": str(upload.pk),
        "url": reverse("upload-file", args=[upload.pk]),
        "page": upload.get_absolute_url(),
        "offset": room.offset_shown(upload),  # sending asks for it once more
        "state": upload.state,
        "bundle": str(upload.bundle) if upload.bundle else None,
    }
