"""The wizard: a source is picked, looked at, named, given options, reviewed, and started exactly once."""

import shlex
from pathlib import Path
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from .. import addresses, clevis, drafts, handover, planning, rates
from ..access import allowed
from ..address_form import rows_of, typed_cards
from ..drafts import STEPS, StaleError
from ..forms import NameForm
from ..host import space
from ..models import Draft, InventoryGuest
from ..options import OptionsForm
from ..outputs import get_output
from ..plan import Guest, Plan
from ..problems import RefusedError
from ..sources import SOURCES, get_source
from ..sources.base import FormProblem
from .picker import draft_of, picker_of, with_picked
from .wizard_frame import already_started, following, root_of, show, typed_in, version_of, with_device
from .wizard_target import target

#: Which step mends a refusal about a field of make_plan().
STEP_OF_FIELD = {"source": "source", "name": "guest", "options": "options", "output": "options", "target": "target"}


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.start_conversion")
def new(request: HttpRequest) -> HttpResponse:
    """The kinds of source to choose from, and what was left unfinished."""
    if request.method == "POST":
        kind = request.POST.get("kind", "")
        if kind in SOURCES and not get_source(kind).is_saved:
            return redirect("wizard-step", draft_id=drafts.begin(request.user, kind).pk, step="source")
        messages.error(request, "Choose one of the sources below.")
    unfinished = [
        {
            "draft": draft,
            "name": draft.data.get("name") or draft.data.get("suggested") or "",
            "step": STEPS[drafts.first_open(draft)][0],
            "kind": get_source(draft.data["kind"]).label,
        }
        for draft in drafts.unfinished(request.user)[:20]
        if draft.data.get("kind") in SOURCES
    ]
    context = {
        "kinds": [get_source(kind) for kind in SOURCES],
        "unfinished": unfinished,
        "nav": "wizard-new",
    }
    return render(request, "conversions/wizard/new.html", context)


@require_POST
@allowed("conversions.change_draft", draft_of)
def discard(request: HttpRequest, draft: Draft) -> HttpResponse:
    """Takes an unfinished one off the list.  One that was started meanwhile stays: it belongs to its conversion."""
    deleted, _ = Draft.objects.filter(pk=draft.pk, conversion=None).delete()
    if deleted:
        messages.success(request, "The unfinished conversion is removed.")
    elif draft.conversion:
        messages.info(request, "It was started meanwhile, so there is nothing to remove.")
    return redirect("wizard-new")


@sensitive_post_parameters("luks_keys")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_draft", draft_of)
def step(request: HttpRequest, draft: Draft, step: str) -> HttpResponse:
    """One step's page; a POST saves it and leads to the next."""
    if draft.conversion:
        return already_started(request, draft)
    may_open = [each.name for each in drafts.steps_of(draft) if each.open]
    if step not in may_open:
        if step in STEPS:
            messages.info(request, f"“{STEPS[may_open[-1]][0]}” comes first.")
        return redirect("wizard-step", draft_id=draft.pk, step=may_open[-1])
    return _VIEWS[step](request, draft)


def _source(request: HttpRequest, draft: Draft) -> HttpResponse:
    kind = draft.data["kind"]
    form_class = planning.forms_for(kind).source
    if request.method != "POST":
        form = form_class(initial=draft.data.get("typed", {}).get("source"))
        return show(request, draft, "source", form=form, at_source=_at_source(form), **picker_of(request, draft))
    form = form_class(with_picked(request.POST, form_class))
    picker = {**picker_of(request, draft), "at_source": _at_source(form)}
    if version_of(request) != draft.version:
        return show(request, draft, "source", form=form, stale=StaleError(draft), **picker)
    if form.is_valid():
        try:
            finding = planning.look({"kind": kind, **form.cleaned_data}, request.user)
            drafts.save_source(
                draft,
                version_of(request),
                request.user,
                typed=typed_in(form),
                cleaned=form.cleaned_data,
                finding=finding,
            )
            return following(request, draft, "source")
        except RefusedError as refusal:
            name = (refusal.field or "").rpartition(".")[2]
            form.add_error(name if name in form.fields else None, FormProblem(refusal.problem))
        except StaleError as stale:
            if stale.now.conversion:
                return already_started(request, stale.now)
            return show(request, draft, "source", form=form, stale=stale, **picker)
    return show(request, draft, "source", status=422, form=form, **picker)


def _at_source(form: Any) -> InventoryGuest | None:
    """The guest of a saved source that was chosen in its table, as it was seen there."""
    if not {"source_id", "guest"} <= form.fields.keys():
        return None
    source, guest = str(form["source_id"].value() or ""), str(form["guest"].value() or "")
    if not (source.isascii() and source.isdecimal() and len(source) < 10):
        return None
    return InventoryGuest.objects.select_related("source").filter(source_id=int(source), guest_id=guest).first()


def _guest(request: HttpRequest, draft: Draft) -> HttpResponse:
    suggested = draft.data.get("suggested", "")
    found = {
        "guest": drafts.guest_of(draft),
        "concerns": drafts.concerns_of(draft),
        "looked": drafts.looked_at(draft),
        "suggested": suggested,
    }
    if request.method != "POST":
        name = draft.data.get("name") or draft.data.get("typed", {}).get("guest", {}).get("name") or suggested
        return show(request, draft, "guest", form=NameForm(initial={"name": name}), **found)
    form = NameForm(request.POST)
    if not form.is_valid() and version_of(request) == draft.version:
        return show(request, draft, "guest", status=422, form=form, **found)
    typed = {**draft.data["typed"], "guest": typed_in(form)}
    try:
        drafts.save(draft, version_of(request), request.user, {"name": form.cleaned_data.get("name"), "typed": typed})
    except StaleError as stale:
        if stale.now.conversion:
            return already_started(request, stale.now)
        return show(request, draft, "guest", form=form, stale=stale, **found)
    return following(request, draft, "guest")


def _options(request: HttpRequest, draft: Draft) -> HttpResponse:
    output_kind = draft.data.get("output", {}).get("kind", "files")
    output_class = planning.forms_for(draft.data["kind"], output_kind).output
    typed = draft.data["typed"].get("options", {})
    stored = drafts.keys_of(draft)
    guest = drafts.guest_of(draft)
    shown: dict[str, Any] = {
        "stored_keys": len(stored),
        "encrypted": guest.encrypted,
        "clevis_problem": clevis.obstacle(),
    }
    if request.method != "POST":
        form = OptionsForm(initial={"root": "first", **typed})
        shown |= rows_of([(0, guest.name or "This guest", guest)], draft.data["typed"].get("cards", {}), {})
        shown["address_choice"] = draft.data.get("options", {}).get("addresses", {}).get("all")
        output = output_class(initial=typed, prefix="output")
        return show(request, draft, "options", form=form, output=output, root=root_of(form["root"].value()), **shown)
    form, output = OptionsForm(with_device(request.POST)), output_class(request.POST, prefix="output")
    cards = typed_cards(request.POST)
    shown |= {"form": form, "output": output, "root": root_of(form["root"].value())}
    shown |= rows_of([(0, guest.name or "This guest", guest)], cards, {})
    shown["address_choice"] = request.POST.get("addresses")
    version = version_of(request)
    if version != draft.version:
        return show(request, draft, "options", stale=StaleError(draft), keys_lost=bool(form["luks_keys"].data), **shown)
    _check_addresses(form, guest)
    if not (form.is_valid() and output.is_valid()):
        return show(request, draft, "options", status=422, keys_lost=bool(form["luks_keys"].data), **shown)
    keys = [] if "forget_keys" in request.POST else stored
    keys += [key._asdict() for key in form.cleaned_data["luks_keys"] if key._asdict() not in keys]
    chosen = {name: value for name, value in form.cleaned_data.items() if name != "luks_keys"}
    typed = {name: form[name].data for name in chosen if name != "addresses"}
    typed |= {name: output[name].data for name in output.fields}
    try:
        drafts.save(
            draft,
            version,
            request.user,
            {
                "options": chosen,
                "output": {"kind": output_kind, **output.cleaned_data},
                "typed": {**draft.data["typed"], "options": typed, "cards": cards},
            },
            secrets={"luks_keys": keys} if keys else None,
        )
    except StaleError as stale:
        if stale.now.conversion:
            return already_started(request, stale.now)
        return show(request, draft, "options", stale=stale, keys_lost=bool(form["luks_keys"].data), **shown)
    return following(request, draft, "options")


def _check_addresses(form: OptionsForm, guest: Guest) -> None:
    """What can only be told with the guest at hand: whether it has such a card, and whether virt-v2v can set it."""
    if form.is_valid():
        try:
            addresses.resolve(form.cleaned_data["addresses"], guest)
        except RefusedError as refusal:
            form.add_error("addresses", FormProblem(refusal.problem))


def _review(request: HttpRequest, draft: Draft) -> HttpResponse:
    try:
        plan, secrets = planning.make_plan(**drafts.request_of(draft), user=request.user)
    except RefusedError as refusal:
        return _refused(request, draft, refusal)
    seen = drafts.digest(plan)
    context: dict[str, Any] = {
        "plan": plan,
        "output_kind": get_output(plan.output.kind),
        "command": [shlex.quote(arg) for arg in planning.preview(plan).argv],
        "need": space.needed(plan),
        "need_total": space.needed(plan).total + space.RESERVE,
        "free": space.free(),
        "reserved": space.reserved(),
        "pace": (pace := rates.pace(plan.source.settings.get("source_id"), plan.source.kind)),
        "time": pace.time([plan]),
        "addresses": addresses.told(plan),
        "file": Path(str(plan.source.settings.get("path", ""))).name,
        "concerns": [*drafts.concerns_of(draft), *planning.namesakes(plan)],
        "source_changed": plan.guest != drafts.guest_of(draft),
        "seen": seen,
    }
    context |= _what_kubevirt_gets(plan)
    context["fits"] = context["need_total"] + context["reserved"] <= context["free"]
    if request.method != "POST":
        return show(request, draft, "review", **context)
    if version_of(request) != draft.version:
        return show(request, draft, "review", stale=StaleError(draft), **context)
    if request.POST.get("seen") != seen:
        return show(request, draft, "review", status=409, plan_changed=True, **context)
    try:
        conversion = planning.create_conversion(plan, secrets, draft.owner, draft, by=request.user)
    except RefusedError as refusal:
        return _refused(request, draft, refusal)
    draft.conversion = conversion
    if drafts.starter_of(draft) != request.user.get_username():
        return already_started(request, draft)
    messages.success(request, f"“{conversion.name}” is on its way. This page follows it; you may close it at any time.")
    return redirect(conversion)


def _what_kubevirt_gets(plan: Plan) -> dict[str, Any]:
    try:
        return {"views": handover.predicted(plan)}
    except RefusedError as refusal:
        return {"views_problem": refusal.problem}


def _refused(request: HttpRequest, draft: Draft, refusal: RefusedError) -> HttpResponse:
    """The source is gone, or the space: what is wrong, and the step that mends it."""
    mend = STEP_OF_FIELD.get((refusal.field or "").partition(".")[0])
    status = refusal.status if request.method == "POST" else 200
    context = {"problem": refusal.problem, "mend": mend, "mend_title": STEPS[mend][0] if mend else ""}
    return show(request, draft, "review", status=status, **context)


_VIEWS = {"source": _source, "guest": _guest, "options": _options, "target": target, "review": _review}
