"""Guests chosen at a source, one or many: ticked in the table, or named in a pasted list."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from .. import batches, drafts, planning, selection
from ..access import allowed, check
from ..models import Draft, SavedSource
from ..problems import RefusedError
from ..servers import guest_table
from .sources import bar, source_of

MOST_TEXT = 1 << 20  #: bytes of a list of guests


@require_POST
@allowed("conversions.use_source", source_of)
def select(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """Takes over the ticks of one page of the table (`shown` are its guests), all that a search finds, or none."""
    check(request.user, "conversions.start_conversion")
    shown, ticked = set(request.POST.getlist("shown")), request.POST.getlist("guest")
    wanted = request.POST.get("do", "")
    question = guest_table.Question.of(request.POST)
    change: Callable[[list[str]], Iterable[str]]
    if wanted == "none":
        change = lambda now: []  # noqa: E731
    elif wanted == "all":
        found = guest_table.guests(saved, question)
        fit = [guest.guest_id for guest in found if not selection.obstacle(guest)]
        change = lambda now: [*now, *fit]  # noqa: E731
    else:
        known = {guest.guest_id for guest in saved.guests.filter(guest_id__in=ticked[:200]) if _may_choose(guest)}
        change = lambda now: [*(id for id in now if id not in shown), *(i for i in ticked if i in known)]  # noqa: E731
    draft, over = selection.change(request.user, saved, change)
    if over:
        messages.warning(request, f"Only {batches.MOST} guests can be moved in one batch; {over} were left out.")
    if wanted == "move" and selection.ids_of(draft):
        return redirect("many-step", draft_id=draft.pk, step=selection.first_open(draft))
    if wanted == "move":
        messages.info(request, "Tick the guests first.")
    if getattr(request, "htmx", False) and not wanted:
        shown_page = guest_table.page(saved, question)
        context = {**bar(request, saved), "question": question, "page": shown_page}
        return render(request, "conversions/sources/_selection.html", context)
    back = guest_table.address(question)
    response = redirect("source", pk=saved.pk)
    response["Location"] += back
    return response


def _may_choose(guest: Any) -> bool:
    return not selection.obstacle(guest)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.use_source", source_of)
def from_list(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """A pasted or uploaded list of names; a line that fits no guest is told with its reason."""
    check(request.user, "conversions.start_conversion")
    context: dict[str, Any] = {"saved": saved, "nav": "sources"}
    if request.method == "POST":
        text, file = request.POST.get("list", ""), request.FILES.get("file")
        if file:
            text = file.read(MOST_TEXT).decode("utf-8-sig", "replace")
        listed = guest_table.read_list(saved, text[:MOST_TEXT])
        rows = [(line, line.error or (selection.obstacle(line.guest) if line.guest else "")) for line in listed]
        fit = [line.guest.guest_id for line, error in rows if line.guest and not error]
        if fit:
            selection.change(request.user, saved, lambda now: [*now, *fit])
        taken = "1 guest of the list is selected" if len(fit) == 1 else f"{len(fit)} guests of the list are selected"
        context |= {
            "text": text,
            "taken": len(fit),
            "taken_words": taken,
            "errors": [(line, error) for line, error in rows if error],
        }
        if fit and not context["errors"]:
            messages.success(request, f"{taken}.")
            return redirect("source", pk=saved.pk)
        context["empty"] = not rows
        return render(request, "conversions/sources/from_list.html", context, status=200 if fit else 422)
    return render(request, "conversions/sources/from_list.html", context)


@require_POST
@allowed("conversions.use_source", source_of)
def move(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """One guest: the ordinary wizard, with its first step filled in."""
    check(request.user, "conversions.start_conversion")
    guest = request.POST.get("move", "")
    if not saved.guests.filter(guest_id=guest).exists():
        messages.error(request, "This guest is not there any more. Refresh, and choose again.")
        return redirect("source", pk=saved.pk)
    user: Any = request.user
    draft = Draft.objects.create(owner=user, data={"kind": saved.kind})
    typed = {"source_id": saved.pk, "guest": guest}
    try:
        form = planning.forms_for(saved.kind).source(typed)
        form.is_valid()
        finding = planning.look({"kind": saved.kind, **typed}, request.user)
    except RefusedError as refusal:
        drafts.save(draft, draft.version, request.user, {"typed": {"source": typed}})
        if refusal.problem.code != selection.POWERED_ON:  # that step is about just this
            messages.warning(request, f"{refusal.problem.title}. {refusal.problem.text}")
        return redirect("wizard-step", draft_id=draft.pk, step="source")
    drafts.save_source(draft, draft.version, request.user, typed=typed, cleaned=form.cleaned_data, finding=finding)
    return redirect("wizard-step", draft_id=draft.pk, step="guest")
