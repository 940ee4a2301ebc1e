"""The page of one conversion: state, phases, log, results; while it runs and long after."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import addresses, boot_tests
from ..access import allowed
from ..jobdir import JobDir
from ..logs import FRAME, last_lines, line_numbers, read_frame, shown_until
from ..models import Conversion
from ..results import serve_artifact, serve_evidence, serve_file
from ..servers import source_steps
from ..states import State
from ..timeline import timeline
from ..watch import percent, snapshots
from ..wording import state_sentence

AT_ONCE = 4 * FRAME  #: most bytes of the log in one answer over HTTP
LINES_WITHOUT_SCRIPT = 200


def conversion_of(pk: int) -> Conversion:
    # Without the secrets: a page must not fail because their key is wrong.
    found = Conversion.objects.defer("secrets").select_related("owner").filter(pk=pk).first()
    if found is None:
        raise Http404(f"There is no conversion {pk}.")
    return found


def _attempt(request: HttpRequest, conversion: Conversion) -> int:
    """The attempt that is looked at: the latest unless the address names another."""
    asked = request.GET.get("attempt", "")
    if not asked:
        return conversion.attempt
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked[:9]) <= conversion.attempt:
        raise Http404(f"There is no attempt {asked[:20]} of this conversion.")
    return int(asked[:9])


def _log(conversion: Conversion, attempt: int) -> JobDir:
    return JobDir.of(settings.DATA_DIR, conversion.pk, attempt)


def context(request: HttpRequest, conversion: Conversion, attempt: int) -> dict[str, Any]:
    state = snapshots([conversion])[conversion.pk]
    told = timeline(conversion, settings.DATA_DIR, attempt)
    has_card = bool(conversion.error) and attempt == conversion.attempt
    return {
        "conversion": conversion,
        "state": state,
        "sentence": state_sentence(conversion),
        "percent": percent(conversion),
        "timeline": told,
        "has_card": has_card,
        "addresses": addresses.told(conversion.plan),
        "listed": told.listed if has_card else told.notices,
        "attempt": attempt,
        "attempts": range(1, conversion.attempt + 1),
        "is_latest": attempt == conversion.attempt,
        "may_change": request.user.has_perm("conversions.change_conversion_run", conversion),
        **(boot_tests.told(conversion) if conversion.state == State.SUCCEEDED else {}),
        "guest": source_steps.told(conversion) if conversion.can_cancel else None,
        "key": key(state),
        "now": timezone.now(),
        "nav": "board",
    }


def key(state: dict[str, Any]) -> str:
    """Changes when more than numbers changed: live.js then asks for the fragment again.  The same as in live.js."""
    parts = ("attempt", "state", "phase", "waiting_for", "warnings", "errors", "files")
    return "|".join(str(state[part]) for part in parts)


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def page(request: HttpRequest, conversion: Conversion) -> HttpResponseBase:
    attempt = _attempt(request, conversion)
    values = context(request, conversion, attempt)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "conversions/conversion/_live.html", values)
    first, lines = last_lines(_log(conversion, attempt).log, LINES_WITHOUT_SCRIPT)
    return render(request, "conversions/conversion/page.html", values | {"first_line": first, "last_lines": lines})


@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_conversion_run", conversion_of)
def cancel(request: HttpRequest, conversion: Conversion) -> HttpResponseBase:
    """GET asks, POST does."""
    if request.method != "POST":
        values = {"conversion": conversion, "guest": source_steps.told(conversion), "nav": "board"}
        return render(request, "conversions/conversion/cancel.html", values)
    if conversion.request_cancel(request.user.get_username()):
        if conversion.state == State.CANCELLED:
            messages.success(request, f"Cancelled. {_left(source_steps.told(conversion))}")
        else:
            messages.info(request, "It is being stopped. This page says when nothing of it runs any more.")
    else:
        conversion.refresh_from_db(fields=["state"])
        messages.warning(request, f"There was nothing to cancel any more: {state_sentence(conversion)}.")
    return redirect(conversion)


def _left(guest: source_steps.Told | None) -> str:
    if guest is None:
        return "It had not started, so nothing was left behind."
    if guest.again:
        return f"{guest.name} was asked to shut down: it is started again at its source."
    return f"{guest.name} was asked to shut down and stays off: start it at its source when it is needed."


@require_POST
@allowed("conversions.change_conversion_run", conversion_of)
def retry(request: HttpRequest, conversion: Conversion) -> HttpResponseBase:
    if conversion.retry(request.user.get_username()):
        messages.success(request, f"Attempt {conversion.attempt} waits for its turn.")
    else:
        messages.warning(request, "It is not retried: somebody was quicker, or it has not ended.")
    return redirect(conversion)


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def log(request: HttpRequest, conversion: Conversion) -> HttpResponseBase:
    """Without `offset` the log as a file; with it the lines from there on, as a socket would send them."""
    attempt = _attempt(request, conversion)
    if "offset" not in request.GET:
        name = f"{conversion.name}-{conversion.pk}-attempt-{attempt}.log"
        return serve_file(request, _log(conversion, attempt).log, name, content_type="text/plain; charset=utf-8")
    return JsonResponse(log_piece(request, conversion, attempt), headers={"Cache-Control": "no-store"})


def log_piece(request: HttpRequest, conversion: Conversion, attempt: int) -> dict[str, Any]:
    """What a socket would send, for where there is none.  A negative offset counts from the end of the log."""
    path = _log(conversion, attempt).log
    # Read before the log: what is final has all its lines there.
    state = snapshots([conversion])[conversion.pk]
    final = conversion.is_final or attempt != conversion.attempt
    until, size, modified = shown_until(path, final=final)
    try:
        offset = int(request.GET["offset"][:17])
    except ValueError:
        raise Http404("The offset is a number of bytes.") from None
    piece: dict[str, Any] = {"t": "log", "attempt": attempt, "size": size, "modified": modified, "state": state}
    if offset < 0:
        offset = _line_start(path, max(0, until + offset), until)
        piece["line"] = line_numbers(path, [offset]).get(offset, 1)
    frame = read_frame(path, min(offset, until), until, AT_ONCE)
    return piece | {"from": frame.start, "to": frame.end, "data": frame.data, "eof": final and frame.end >= until}


def _line_start(path: Any, offset: int, until: int) -> int:
    """The next place after `offset` where a line begins."""
    if not offset:
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        newline = file.read(min(FRAME, until - offset)).find(b"\n")
    return offset + newline + 1 if newline >= 0 else offset


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def file(request: HttpRequest, conversion: Conversion, name: str) -> HttpResponseBase:
    return serve_artifact(request, conversion, name)


@require_safe
@allowed("conversions.see_conversion", conversion_of)
def evidence(request: HttpRequest, conversion: Conversion) -> HttpResponseBase:
    if request.method == "HEAD":
        return HttpResponse(content_type="application/zip")
    return serve_evidence(request, conversion)
