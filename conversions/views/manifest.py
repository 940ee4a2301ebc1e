"""The manifest of a conversion: virt-v2v's file, ours, the difference; edited, checked as typed, taken away."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import handover
from ..access import allowed
from ..manifest import Views
from ..models import Conversion
from ..problems import RefusedError
from .conversion import conversion_of


@never_cache
@require_safe
@allowed("conversions.see_conversion", conversion_of)
def page(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    try:
        views = handover.real(conversion)
    except RefusedError as refusal:
        return _render(request, conversion, None, status=refusal.status, problem=refusal.problem)
    return _render(request, conversion, views)


def _render(
    request: HttpRequest, conversion: Conversion, views: Views | None, status: int = 200, **context: Any
) -> HttpResponse:
    text = context.pop("text", None)
    if views is not None and text is None:
        text = handover.current(conversion, views)
    context |= {
        "conversion": conversion,
        "views": views,
        "text": text,
        "edited": conversion.edited_manifest,
        "may_change": request.user.has_perm("conversions.change_conversion_run", conversion),
        "nav": "board",
    }
    return render(request, "conversions/manifest/page.html", context, status=status)


@require_POST
@allowed("conversions.change_conversion_run", conversion_of)
def check(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    """The mistakes of a text that is being typed, as a fragment."""
    text = request.POST.get("text", "").replace("\r\n", "\n")
    found = handover.mistakes(conversion, text)
    return render(request, "conversions/manifest/_mistakes.html", {"mistakes": found, "checked": True})


@require_http_methods(["POST"])
@allowed("conversions.change_conversion_run", conversion_of)
def save(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    """Keeps an edit.  With mistakes nothing is kept and nothing that was typed is lost."""
    if "reset" in request.POST:
        handover.reset(conversion, request.user)
        messages.success(request, "The manifest is as v2vweb made it again.")
        return redirect("conversion-manifest", pk=conversion.pk)
    text = request.POST.get("text", "").replace("\r\n", "\n")
    try:
        handover.save(conversion, text, request.user, frozenset(request.POST.getlist("accept")))
    except RefusedError as refusal:
        context = {"problem": refusal.problem, "text": text, "mistakes": handover.mistakes(conversion, text)}
        return _render(request, conversion, handover.real(conversion), status=refusal.status, **context)
    messages.success(request, "Your changes are kept. Downloads and the bundle have them from now on.")
    return redirect("conversion-manifest", pk=conversion.pk)


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def download(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    return _file(handover.current(conversion).encode(), f"{conversion.name}-kubevirt.yaml", "application/yaml")


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def bundle(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    """A tar with a script that uploads the disks with virtctl and makes the machine."""
    return _file(handover.bundle(conversion), f"{conversion.name}-kubevirt.tar", "application/x-tar")


def _file(content: bytes, name: str, type: str) -> HttpResponse:
    headers = {
        "Content-Disposition": content_disposition_header(True, name),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    return HttpResponse(content, content_type=type, headers=headers)
