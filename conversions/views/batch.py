"""Batches: conversions that were started together, followed as one."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import batches
from ..access import allowed
from ..models import Batch
from ..roles import visible_to
from ..states import ACTIVE, FINAL, State
from ..watch import percent
from ..wording import STATE_WORDS

PER_PAGE = 100


def batch_of(pk: int) -> Batch:
    found = Batch.objects.select_related("owner").filter(pk=pk).first()
    if found is None:
        raise Http404(f"There is no batch {pk}.")
    return found


@require_safe
@allowed("conversions.use")
def collection(request: HttpRequest) -> HttpResponse:
    rows = (
        visible_to(request.user, Batch.objects.select_related("owner"))
        .annotate(size=Count("conversions"))
        .order_by("-id")
    )
    page = Paginator(rows, 50).get_page(request.GET.get("page"))
    for batch in page.object_list:
        batch.told = _counts(batch)
    return render(request, "conversions/batches/list.html", {"page": page, "nav": "board"})


def _counts(batch: Batch) -> list[tuple[str, str, int]]:
    found = batches.counts(batch)
    return [(state.value, STATE_WORDS[state], found[state]) for state in State if found.get(state)]


@require_safe
@allowed("conversions.see_batch", batch_of)
def page(request: HttpRequest, batch: Batch) -> HttpResponse:
    """All of it; while something waits or runs, htmx asks for the fragment again every few seconds."""
    rows = list(batch.conversions.defer("secrets").select_related("owner").order_by("id"))
    for row in rows:
        row.percent = percent(row)  # type: ignore[attr-defined]
    # What needs somebody stands first: among fifty it would not be seen.
    rows.sort(key=lambda row: row.state not in (State.FAILED, State.LOST))
    shown = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    going_on = any(row.state in (State.QUEUED, *ACTIVE) for row in rows)
    context: dict[str, Any] = {
        "batch": batch,
        "rows": shown.object_list,
        "page": shown,
        "counts": _counts(batch),
        "total": len(rows),
        "ended": sum(row.state in FINAL for row in rows),
        "percent": batches.progress(rows),
        "going_on": going_on,
        "can_retry": any(row.can_retry for row in rows),
        "may_change": request.user.has_perm("conversions.change_batch", batch),
        "now": timezone.now(),
        "nav": "board",
    }
    is_part = getattr(request, "htmx", False) and not request.htmx.boosted  # type: ignore[attr-defined]
    return render(request, f"conversions/batches/{'_rows' if is_part else 'page'}.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_batch", batch_of)
def cancel(request: HttpRequest, batch: Batch) -> HttpResponse:
    """GET asks, POST does."""
    if request.method != "POST":
        left = batch.conversions.filter(state__in=[State.QUEUED, State.RUNNING]).count()
        return render(request, "conversions/batches/cancel.html", {"batch": batch, "left": left, "nav": "board"})
    count = batches.cancel(batch, request.user.get_username())
    messages.info(
        request, f"{count} conversions are being cancelled." if count else "There was nothing to cancel any more."
    )
    return redirect("batch", pk=batch.pk)


@require_POST
@allowed("conversions.change_batch", batch_of)
def retry(request: HttpRequest, batch: Batch) -> HttpResponse:
    count = batches.retry(batch, request.user.get_username())
    messages.info(
        request, f"{count} conversions wait for their turn again." if count else "There was nothing to retry."
    )
    return redirect("batch", pk=batch.pk)
