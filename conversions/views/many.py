"""Many guests of a source: the steps from networks to Start.  choose.py is where they were chosen."""

import shlex
import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from .. import addresses, batches, clevis, drafts, planning, rates, selection
from ..access import allowed, check
from ..address_form import typed_cards
from ..batch_forms import BatchOptionsForm, NetworksForm, StorageForm
from ..drafts import StaleError
from ..host import space
from ..models import Draft, SavedSource, SavedTarget
from ..problems import RefusedError
from ..selection import STEPS
from ..target_form import initial_of
from .wizard_frame import root_of, typed_in, version_of, with_device


def draft_of(draft_id: uuid.UUID) -> Draft:
    return get_object_or_404(Draft.objects.select_related("owner"), pk=draft_id, data__kind=selection.KIND)


@sensitive_post_parameters("luks_keys")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_draft", draft_of)
def step(request: HttpRequest, draft: Draft, step: str) -> HttpResponse:
    """One step's page; a POST saves it and leads to the next."""
    check(request.user, "conversions.start_conversion")
    if batch := batches.started(draft):
        messages.info(request, "It was started already. This is the batch.")
        return redirect("batch", pk=batch.pk)
    saved = get_object_or_404(SavedSource.objects.defer("secrets"), pk=draft.data["source_id"])
    check(request.user, "conversions.use_source", saved)
    guests = selection.guests_of(draft)
    if not guests:
        messages.info(request, "Choose the guests first.")
        return redirect("source", pk=saved.pk)
    may_open = [each.name for each in selection.steps_of(draft, step) if each.open]
    if step not in may_open:
        if step not in STEPS and step != "continue":
            raise Http404
        return redirect("many-step", draft_id=draft.pk, step=may_open[-1])
    return _VIEWS[step](request, draft, saved, guests)


def _show(request: HttpRequest, draft: Draft, step: str, status: int = 200, **context: Any) -> HttpResponse:
    names = list(STEPS)
    at = names.index(step)
    context |= {
        "draft": draft,
        "steps": selection.steps_of(draft, step),
        "step_name": step,
        "step_title": STEPS[step][0],
        "step_number": at + 1,
        "step_count": len(names),
        "before": names[at - 1] if at else "",
        "nav": "sources",
    }
    return render(request, f"conversions/many/{step}.html", context, status=status)


def _save(
    request: HttpRequest, draft: Draft, step: str, data: dict[str, Any], form: Any, **fields: Any
) -> HttpResponse | None:
    """Saves and leads to the next step; None when somebody else has saved meanwhile."""
    left_out = {"luks_keys", "addresses"}  # secret; and with fields of its own, kept as "cards"
    shown = {name: value for name, value in typed_in(form).items() if name not in left_out}
    typed = {**draft.data.get("typed", {}), step: shown}
    if step == "options":
        typed["cards"] = typed_cards(request.POST)
    try:
        drafts.save(draft, version_of(request), request.user, {**data, "typed": typed}, **fields)
    except StaleError:
        return None
    names = list(STEPS)
    return redirect("many-step", draft_id=draft.pk, step=names[names.index(step) + 1])


def _target(
    request: HttpRequest, draft: Draft, saved: SavedSource, guests: list[Any], step: str, form_class: Any, **about: Any
) -> HttpResponse:
    context: dict[str, Any] = {"saved": saved, "guests": guests, "targets": SavedTarget.objects.all()}
    if request.method != "POST":
        initial = draft.data.get("typed", {}).get(step)
        chosen = request.GET.get("from", "")
        if chosen.isascii() and chosen.isdecimal():
            target = get_object_or_404(SavedTarget, pk=int(chosen[:9]))
            initial = initial_of(target.settings, form_class(**about).networks)
        return _show(request, draft, step, form=form_class(initial=initial, **about), **context)
    form = form_class(request.POST, **about)
    if not form.is_valid():
        return _show(request, draft, step, status=422, form=form, **context)
    settings = form.settings(form.cleaned_data)
    done = _save(request, draft, step, {step: settings}, form)
    if done is None:
        return _show(request, draft_of(draft.pk), step, status=409, form=form, stale=True, **context)
    if name := request.POST.get("save_as", "").strip()[:60]:
        _keep(name, settings, request.user)
    return done


def _keep(name: str, settings: dict[str, Any], user: Any) -> None:
    """Adds to a saved target of this name, so that one name can hold networks and storage."""
    target = SavedTarget.objects.filter(name=name).first() or SavedTarget(name=name, owner=user)
    target.settings = {**target.settings, **settings}
    target.save()


def _networks(request: HttpRequest, draft: Draft, saved: SavedSource, guests: list[Any]) -> HttpResponse:
    return _target(request, draft, saved, guests, "networks", NetworksForm, guest=selection.together(guests))


def _storage(request: HttpRequest, draft: Draft, saved: SavedSource, guests: list[Any]) -> HttpResponse:
    return _target(request, draft, saved, guests, "storage", StorageForm)


def _options(request: HttpRequest, draft: Draft, saved: SavedSource, guests: list[Any]) -> HttpResponse:
    stored = drafts.keys_of(draft)
    running = [guest.name for guest in guests if guest.power == "on"]
    context: dict[str, Any] = {"saved": saved, "guests": guests, "stored_keys": len(stored), "running": running}
    if request.method != "POST":
        if request.GET.get("preview"):
            return render(request, "conversions/many/_names.html", {"names": _preview(request.GET, guests)})
        typed = draft.data.get("typed", {}).get("options", {})
        said = draft.data.get("options", {})
        initial = {"batch_name": f"{saved.name}, {timezone.localdate():%d %B %Y}", **typed}
        names = batches.name_all(guests, said.get("template", batches.TEMPLATE), said.get("names"))
        form = BatchOptionsForm(guests=guests, initial=initial)
        context |= {"root": root_of(form["root"].value()), "clevis_problem": clevis.obstacle()}
        context |= form.address_rows(draft.data.get("typed", {}).get("cards", {}))
        context["address_choice"] = said.get("options", {}).get("addresses", {}).get("all")
        return _show(request, draft, "options", form=form, names=_lines(names, said.get("names", {})), **context)
    form = BatchOptionsForm(with_device(request.POST), guests=guests)
    valid = form.is_valid()
    context |= {"root": root_of(form["root"].value()), "clevis_problem": clevis.obstacle()}
    context |= form.address_rows(typed_cards(request.POST))
    context["address_choice"] = request.POST.get("addresses")
    lines = _lines(getattr(form, "wanted", batches.name_all(guests, batches.TEMPLATE)), form.typed_names())
    keys_lost = bool(form["luks_keys"].data)
    if not valid:
        return _show(request, draft, "options", status=422, form=form, names=lines, keys_lost=keys_lost, **context)
    keys = [] if "forget_keys" in request.POST else stored
    keys += [key._asdict() for key in form.cleaned_data["luks_keys"] if key._asdict() not in keys]
    secrets = {"luks_keys": keys} if keys else None
    done = _save(request, draft, "options", {"options": form.settings()}, form, secrets=secrets)
    if done is None:
        now = draft_of(draft.pk)
        return _show(
            request, now, "options", status=409, form=form, names=lines, stale=True, keys_lost=keys_lost, **context
        )
    return done


def _preview(data: QueryDict, guests: list[Any]) -> list[dict[str, Any]]:
    """The names as they would be, while somebody types."""
    form = BatchOptionsForm(data, guests=guests)
    try:
        template = batches.check_template(data.get("name_template", ""))
    except RefusedError:
        template = batches.TEMPLATE
    return _lines(batches.name_all(guests, template, form.typed_names()), form.typed_names())


def _lines(wanted: list[batches.Wanted], typed: dict[str, str]) -> list[dict[str, Any]]:
    return [{"one": one, "typed": typed.get(one.guest.guest_id, "")} for one in wanted]


def planned_of(draft: Draft, saved: SavedSource, guests: list[Any], user: Any) -> list[batches.Planned]:
    said = draft.data["options"]
    return batches.plan_all(
        saved,
        batches.name_all(guests, said["template"], said["names"]),
        user,
        source=said["source"],
        options={**said["options"], "luks_keys": drafts.keys_of(draft)},
        output={**said["output"], **draft.data["networks"], **draft.data["storage"]},
        keep_running=said["keep_running"],
        cards=said.get("cards"),
    )


def _review(request: HttpRequest, draft: Draft, saved: SavedSource, guests: list[Any]) -> HttpResponse:
    if request.method == "POST" and "leave_out" in request.POST:
        out = set(request.POST.getlist("leave_out"))
        try:
            kept = [id for id in selection.ids_of(draft) if id not in out]
            drafts.save(draft, version_of(request), request.user, {"guests": kept})
        except StaleError:
            messages.warning(request, "The selection was changed meanwhile. Below is how it is now.")
        return redirect("many-step", draft_id=draft.pk, step="review")
    planned = planned_of(draft, saved, guests, request.user)
    context = _review_context(draft, saved, planned)
    if request.method != "POST":
        return _show(request, draft, "review", **context)
    if version_of(request) != draft.version or request.POST.get("seen") != context["seen"]:
        return _show(request, draft, "review", status=409, changed=True, **context)
    if context["warned"] and "accept" not in request.POST:
        return _show(request, draft, "review", status=422, not_accepted=True, **context)
    try:
        batch = batches.start(draft.data["options"]["batch_name"], planned, draft.owner, by=request.user, draft=draft)
    except RefusedError as refusal:
        return _show(request, draft, "review", status=refusal.status, problem=refusal.problem, **context)
    messages.success(request, f"{batch.conversions.count()} conversions are queued. This page follows them.")
    return redirect("batch", pk=batch.pk)


def _review_context(draft: Draft, saved: SavedSource, planned: list[batches.Planned]) -> dict[str, Any]:
    good = [one for one in planned if one.plan]
    need, size = batches.space_needed(planned), sum(one.guest.size for one in good)
    pace = rates.pace(saved.pk, saved.kind)
    return {
        "saved": saved,
        "good": [
            {"one": one, "command": _command(one), "addresses": addresses.told(one.plan)} for one in good if one.plan
        ],
        # The name stands beside it: no need to say it in the title as well.
        "refused": [(one, one.problem.title.removeprefix(f"{one.guest.name}: ")) for one in planned if one.problem],
        "must_shut_down": any(one.problem.code == selection.POWERED_ON for one in planned if one.problem),
        "warnings": _warnings(good),
        "gone": len(selection.ids_of(draft)) - len(planned),
        "warned": any(one.concerns for one in good),
        "size": size,
        "need": need,
        "free": space.free(),
        "reserved": space.reserved(),
        "fits": need + space.reserved() <= space.free(),
        "pace": pace,
        "time": pace.time([one.plan for one in good if one.plan]),
        "seen": batches.digest(planned),
        "said": draft.data["options"],
    }


def _warnings(good: list[batches.Planned]) -> list[tuple[Any, list[str]]]:
    """Each warning once, with the guests that it is about: fifty guests mostly share theirs."""
    found: dict[tuple[str, str], tuple[Any, list[str]]] = {}
    for one in good:
        for concern in one.concerns:
            found.setdefault((concern.title, concern.text), (concern, []))[1].append(one.guest.name)
    return list(found.values())


def _command(one: batches.Planned) -> str:
    assert one.plan
    return shlex.join(planning.preview(one.plan).argv)


_VIEWS = {"networks": _networks, "storage": _storage, "options": _options, "review": _review}
