"""What every step of the wizard shares: its page, the version that it was shown with, the way to the next."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone

from .. import drafts
from ..drafts import STEPS, StaleError
from ..models import Draft
from ..sources import get_source


def already_started(request: HttpRequest, draft: Draft) -> HttpResponse:
    """Two tabs, two people, a double click, the Back button: all end at the one conversion."""
    assert draft.conversion
    who, at = drafts.starter_of(draft), timezone.localtime(draft.conversion.created)
    by = "you" if who == request.user.get_username() else who or "somebody"
    messages.info(request, f"Already started by {by} at {at:%H:%M} on {at.day} {at:%B}. This is the conversion.")
    return redirect(draft.conversion)


def version_of(request: HttpRequest) -> int:
    text = request.POST.get("version", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def show(request: HttpRequest, draft: Draft, step: str, status: int = 200, **context: Any) -> HttpResponse:
    stale: StaleError | None = context.pop("stale", None)
    if stale is not None:
        status = 409
        context["changed"] = {
            "by": _who(request, stale.now.data.get("by", "")),
            "at": stale.now.updated,
            "typed": _shown(stale.now.data.get("typed", {}).get(step, {})),
        }
        draft = stale.now
    context |= {
        "draft": draft,
        "source_kind": get_source(draft.data["kind"]),
        "steps": drafts.steps_of(draft, step),
        "step_number": list(STEPS).index(step) + 1,
        "step_title": STEPS[step][0],
        "step_count": len(STEPS),
        "nav": "wizard-new",
    }
    return render(request, f"conversions/wizard/{step}.html", context, status=status)


def _who(request: HttpRequest, name: str) -> str:
    return "you, in another tab," if name == request.user.get_username() else name or "somebody"


def _shown(typed: dict[str, Any]) -> list[tuple[str, str]]:
    """What the other save holds, for people: [("paths", "/a, /b")]."""
    return [
        (name.replace("_", " ").capitalize(), ", ".join(value) if isinstance(value, list) else str(value) or "–")
        for name, value in typed.items()
    ]


def typed_in(form: Any) -> dict[str, Any]:
    """What stands in a bound form's fields, as it was typed."""
    return {name: form[name].data for name in form.fields}


def following(request: HttpRequest, draft: Draft, step: str) -> HttpResponse:
    names = list(STEPS)
    return redirect("wizard-step", draft_id=draft.pk, step=names[names.index(step) + 1])


def with_device(post: QueryDict) -> QueryDict:
    """Three radio buttons and a text field make up OptionsForm's one field."""
    if post.get("root") == "device":
        post = post.copy()
        post["root"] = post.get("root_device", "").strip() or "device"
    return post


def root_of(value: str) -> dict[str, str]:
    """What the three radio buttons and the text field show."""
    value = value or "first"
    is_device = value not in ("first", "single")
    return {"choice": "device" if is_device else value, "device": value if is_device and value != "device" else ""}
