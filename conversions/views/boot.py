"""Proof of boot on the page of a conversion: asked for, watched, its pictures, and what to try next."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from .. import boot_tests
from ..access import allowed
from ..models import BootTest, Conversion
from ..problems import RefusedError
from ..results import serve_file
from .conversion import conversion_of


@never_cache
@require_safe
@allowed("conversions.see_conversion", conversion_of)
def section(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    """The part of the conversion's page; asks for itself again while a test runs.  Alone it is no page."""
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect(f"{conversion.get_absolute_url()}#boot")
    context = {
        "conversion": conversion,
        "may_change": request.user.has_perm("conversions.change_conversion_run", conversion),
        **boot_tests.told(conversion),
    }
    return render(request, "conversions/conversion/_boot.html", context)


@require_POST
@allowed("conversions.change_conversion_run", conversion_of)
def ask(request: HttpRequest, conversion: Conversion) -> HttpResponse:
    """The button's name says what: a test, one with a suggestion's settings, a cancel, or taking a tried manifest over."""
    try:
        _do(request, conversion)
    except RefusedError as refusal:
        messages.error(request, f"{refusal.problem.text} {refusal.problem.action}")
    return redirect(f"{conversion.get_absolute_url()}#boot")


def _do(request: HttpRequest, conversion: Conversion) -> None:
    if number := request.POST.get("cancel"):
        boot_tests.cancel(_test(conversion, number))
        messages.info(request, "The trial start is being ended.")
    elif number := request.POST.get("take"):
        boot_tests.take_over(_test(conversion, number), request.user)
        messages.success(request, "The manifest that was tried is now the one that you get.")
    elif number := request.POST.get("suggestion"):
        test, _, index = number.partition("-")
        changes = _suggestion(_test(conversion, test), index)
        boot_tests.ask(conversion, request.user, changes)
        messages.info(request, "It is tried anew with this setting.")
    else:
        boot_tests.ask(conversion, request.user)
        messages.info(request, "The new machine is started on this server, as soon as there is room.")


def _test(conversion: Conversion, number: str) -> BootTest:
    found = (
        conversion.boot_tests.filter(pk=int(number[:12])).first() if number.isascii() and number.isdecimal() else None
    )
    if found is None:
        raise Http404("There is no such test.")
    return found


def _suggestion(test: BootTest, index: str) -> dict[str, Any]:
    suggestions = (test.outcome or {}).get("suggestions", [])
    if not (index.isascii() and index.isdecimal() and int(index[:3]) < len(suggestions)):
        raise Http404("There is no such suggestion.")
    return {**test.settings, **suggestions[int(index[:3])]["settings"]}


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def picture(request: HttpRequest, conversion: Conversion, test_id: int, name: str) -> HttpResponseBase:
    """A picture of the screen, or what the serial console said; by its name in the folder's own list."""
    folder = boot_tests.folder_of(_test(conversion, str(test_id)))
    if name == "serial":
        return serve_file(request, folder.serial, f"{conversion.name}-console.txt", "text/plain; charset=utf-8")
    if name not in {path.name for path in folder.path.glob("screen-*.png")}:
        raise Http404("There is no such picture.")
    response = serve_file(request, folder.path / name, name, "image/png")
    response["Content-Disposition"] = "inline"
    return response
