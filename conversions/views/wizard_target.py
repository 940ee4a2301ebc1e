"""The wizard's step about the new home: namespace, networks, storage; saved targets fill it in."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from .. import drafts
from ..drafts import StaleError
from ..models import Draft, SavedTarget
from ..target_form import TargetForm, initial_of
from .wizard_frame import already_started, following, show, typed_in, version_of


def target(request: HttpRequest, draft: Draft) -> HttpResponse:
    guest = drafts.guest_of(draft)
    saved = SavedTarget.objects.all()
    context: dict[str, Any] = {"saved": saved, "guest": guest}
    if request.method != "POST":
        return show(request, draft, "target", form=_form_to_fill(request, draft, guest), **context)
    form = TargetForm(request.POST, guest=guest)
    version = version_of(request)
    if version != draft.version:
        return show(request, draft, "target", form=form, stale=StaleError(draft), **context)
    if not form.is_valid():
        return show(request, draft, "target", status=422, form=form, **context)
    settings = form.settings(form.cleaned_data)
    if name := request.POST.get("save_as", "").strip()[:60]:
        _keep(name, settings, request.user)
    typed = {**draft.data["typed"], "target": typed_in(form)}
    try:
        drafts.save(draft, version, request.user, {"target": settings, "typed": typed})
    except StaleError as stale:
        if stale.now.conversion:
            return already_started(request, stale.now)
        return show(request, draft, "target", form=form, stale=stale, **context)
    return following(request, draft, "target")


def _form_to_fill(request: HttpRequest, draft: Draft, guest: Any) -> TargetForm:
    """What was typed before, or what a saved target brings when one was chosen."""
    chosen = request.GET.get("from", "")
    if chosen.isascii() and chosen.isdecimal() and (found := SavedTarget.objects.filter(pk=int(chosen[:9])).first()):
        blank = TargetForm(guest=guest)
        return TargetForm(guest=guest, initial=initial_of(found.settings, blank.networks))
    # The new machine is started when the old one runs, unless somebody says otherwise.
    runs = draft.data["finding"]["facts"].get("power") == "on"
    return TargetForm(guest=guest, initial=draft.data.get("typed", {}).get("target") or {"start": runs})


def _keep(name: str, settings: dict[str, Any], user: Any) -> None:
    SavedTarget.objects.update_or_create(
        name=name, defaults={"settings": settings}, create_defaults={"settings": settings, "owner": user}
    )
