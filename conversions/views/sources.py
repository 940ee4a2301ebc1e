"""Saved sources: the list, one's page with its guests, adding and editing, trust, test, refresh, removal."""

from typing import Any

from django.contrib import messages
from django.core.cache import cache
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import selection
from ..access import allowed
from ..models import SavedSource
from ..problems import Problem, RefusedError
from ..roles import role_of
from ..servers import connection, guest_table, pinning, ssh
from ..servers.trust import fetch_certificate
from ..source_forms import SETTINGS, SourceForm
from ..sources import SOURCES, get_source
from ..sources.ssh_files import ssh_port
from ..states import ACTIVE, State

KINDS = [kind for kind in SOURCES if get_source(kind).is_saved]
_BUSY = Q(conversions__state__in=[State.QUEUED, *ACTIVE])


def source_of(pk: int) -> SavedSource:
    return get_object_or_404(SavedSource, pk=pk)


def visible(user: Any) -> Any:
    """The sources that a user may see: a requester's are the shared ones and the own ones."""
    rows = SavedSource.objects.all()
    return rows.filter(Q(shared=True) | Q(owner=user)) if role_of(user) == "requester" else rows


@require_safe
@allowed("conversions.see_source")
def collection(request: HttpRequest) -> HttpResponse:
    rows = visible(request.user).annotate(
        guest_count=Count("guests", distinct=True), busy=Count("conversions", filter=_BUSY, distinct=True)
    )
    for row in rows:
        row.label, row.untrusted = get_source(row.kind).label, _needs_trust(row)
    kinds = [get_source(kind) for kind in KINDS]
    return render(request, "conversions/sources/list.html", {"rows": rows, "kinds": kinds, "nav": "sources"})


@sensitive_post_parameters("password", "key")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_source")
def add(request: HttpRequest, kind: str) -> HttpResponse:
    if kind not in KINDS:
        raise Http404
    form = SourceForm(request.POST if request.method == "POST" else None, kind=kind)
    if request.method == "POST" and form.is_valid():
        return redirect("source-trust", pk=form.save(request.user).pk)
    context = {"form": form, "kind": get_source(kind), "nav": "sources"}
    return render(request, "conversions/sources/edit.html", context, status=422 if form.errors else 200)


@sensitive_post_parameters("password", "key")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_source", source_of)
def edit(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    initial = {name: getattr(saved, name) for name in SETTINGS}
    form = SourceForm(request.POST if request.method == "POST" else None, kind=saved.kind, saved=saved, initial=initial)
    if request.method == "POST" and form.is_valid():
        form.save(request.user)
        if _needs_trust(saved):
            messages.success(request, "Saved.")
            return redirect("source-trust", pk=saved.pk)
        # What was wrong may be mended now: nobody should have to know that Refresh comes next.
        SavedSource.objects.filter(pk=saved.pk).update(refresh_requested=timezone.now(), refresh_error=None)
        messages.success(request, "Saved. The guests are being read anew.")
        return redirect("source", pk=saved.pk)
    context = {"form": form, "kind": get_source(saved.kind), "saved": saved, "nav": "sources"}
    return render(request, "conversions/sources/edit.html", context, status=422 if form.errors else 200)


def _needs_trust(saved: SavedSource) -> bool:
    return not pinning.is_trusted(saved)


def bar(request: HttpRequest, saved: SavedSource) -> dict[str, Any]:
    """What is chosen at a source, for its page."""
    draft = selection.of(request.user, saved)
    guests = selection.guests_of(draft) if draft else []
    return {
        "saved": saved,
        "selection": draft,
        "chosen": {guest.guest_id for guest in guests},
        "chosen_size": sum(guest.size for guest in guests),
        "chosen_running": sum(guest.power == "on" for guest in guests),
    }


@never_cache
@require_safe
@allowed("conversions.see_source", source_of)
def page(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """The source and its guests, from the cache; an htmx request gets the table alone."""
    now = timezone.now()
    if saved.viewed is None or (now - saved.viewed).total_seconds() > 60:
        SavedSource.objects.filter(pk=saved.pk).update(viewed=now)
    question = guest_table.Question.of(request.GET)
    may_move = request.user.has_perm("conversions.use_source", saved) and not saved.blocked
    shown = guest_table.page(saved, question)
    for guest in shown.object_list:
        guest.obstacle = selection.obstacle(guest)  # type: ignore[attr-defined]
    context = {
        **(bar(request, saved) if may_move else {}),
        "may_move": may_move,
        "here": guest_table.address(question),
        "saved": saved,
        "kind": get_source(saved.kind),
        "port": ssh_port(saved) if saved.transport == "ssh" else saved.port,
        "question": question,
        "page": shown,
        "powers": guest_table.POWERS,
        "worst": guest_table.WORST,
        "needs_trust": _needs_trust(saved),
        "may_change": request.user.has_perm("conversions.change_source", saved),
        "may_use": request.user.has_perm("conversions.use_source", saved),
        "refreshing": saved.refresh_requested is not None,
        "nav": "sources",
    }
    is_part = getattr(request, "htmx", False) and not request.htmx.boosted  # type: ignore[attr-defined]
    return render(request, "conversions/sources/_guests.html" if is_part else "conversions/sources/page.html", context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_source", source_of)
def trust_page(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """Shows what the server shows; a person accepts exactly that: the fingerprint travels with the form."""
    context: dict[str, Any] = {"saved": saved, "nav": "sources"}
    try:
        keys, certificate, shown = None, None, ""
        if pinning.wants_certificate(saved):
            certificate = fetch_certificate(saved.host, saved.port)
            shown = certificate.sha256
            context |= {"certificate": certificate, "changed": saved.pin_sha256 not in ("", shown)}
        if pinning.wants_host_keys(saved):
            keys = ssh.host_keys(saved)
            shown = ",".join([shown, *(key.fingerprint for key in keys)])
            known = {key["fingerprint"] for key in saved.host_keys}
            context |= {"keys": keys, "known": known}
            context["keys_changed"] = bool(known) and not known >= {key.fingerprint for key in keys}
        context["shown"] = shown
        context["trusted"] = not saved.blocked and _is_trusted(saved, certificate, keys)
    except RefusedError as refusal:
        context["problem"] = refusal.problem
        return render(request, "conversions/sources/trust.html", context, status=409)
    if request.method != "POST":
        return render(request, "conversions/sources/trust.html", context)
    if request.POST.get("shown") != shown:
        context["problem"] = Problem(
            "shown-another",
            "The server shows something else now",
            "Between showing it to you and your pressing “Trust it” it has changed. Nothing was trusted.",
            "Look at what is shown now, and ask the server's administrator why it changes.",
        )
        return render(request, "conversions/sources/trust.html", context, status=409)
    if keys:
        pinning.accept_host_keys(saved, keys)
    if certificate:
        pinning.accept_certificate(saved, certificate)
    messages.success(request, f"{saved.host} is trusted.")
    return redirect("source", pk=saved.pk)


def _is_trusted(saved: SavedSource, certificate: Any, keys: Any) -> bool:
    """Whether all that the server shows was accepted before, so that there is nothing to decide."""
    known = {key["fingerprint"] for key in saved.host_keys}
    return (certificate is None or certificate.sha256 == saved.pin_sha256) and known >= {
        k.fingerprint for k in keys or ()
    }


@never_cache
@require_POST
@allowed("conversions.use_source", source_of)
def test(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """Runs the connection test, which takes up to some tens of seconds; one at a time for a source."""
    key = f"source-test-{saved.pk}"
    if not cache.add(key, 1, 120):
        messages.info(request, "A test of this source is running already.")
        return redirect("source", pk=saved.pk)
    try:
        steps = list(connection.test(saved))
    finally:
        cache.delete(key)
    states = {step.state for step in steps}
    context = {
        "saved": saved,
        "steps": steps,
        "good": states <= {"ok"},
        "failed": not states <= {"ok", "warning"},
        "nav": "sources",
    }
    is_part = getattr(request, "htmx", False)
    return render(request, "conversions/sources/_test.html" if is_part else "conversions/sources/test.html", context)


@require_POST
@allowed("conversions.use_source", source_of)
def refresh(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    SavedSource.objects.filter(pk=saved.pk).update(refresh_requested=timezone.now())
    messages.info(request, "The guests are being read anew. This page shows them as soon as they are there.")
    return redirect("source", pk=saved.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_source", source_of)
def delete(request: HttpRequest, saved: SavedSource) -> HttpResponse:
    """Asks first; refuses while something of it runs or waits."""
    busy = saved.conversions.filter(state__in=[State.QUEUED, *ACTIVE])
    if request.method == "POST" and not busy.exists():
        name = saved.name
        saved.delete()
        messages.success(request, f"{name} is removed, with its password or key. Finished conversions stay.")
        return redirect("sources")
    context = {"saved": saved, "busy": busy[:10], "past": saved.conversions.count(), "nav": "sources"}
    status = 409 if request.method == "POST" else 200
    return render(request, "conversions/sources/delete.html", context, status=status)
