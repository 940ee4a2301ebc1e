"""The wizard's file list: folders of the server that are open for choosing, and what may be picked in them."""

import uuid
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ..access import allowed
from ..models import Draft
from ..problems import RefusedError
from ..sources import get_source
from ..sources import roots as source_roots

#: How many lines of a folder are shown; a page of 10 000 files helps nobody, and the path can be typed.
MAX_ENTRIES = 500


def draft_of(draft_id: uuid.UUID) -> Draft:
    return get_object_or_404(
        Draft.objects.select_related("owner", "conversion").exclude(data__kind="guests"), pk=draft_id
    )  # a selection of guests has steps of its own (many.py)


def with_picked(post: QueryDict, form_class: Any) -> QueryDict:
    """Ticks of the file list join what stands in the text field; with JavaScript they are there already."""
    picked = post.getlist("pick")
    if not picked:
        return post
    post = post.copy()
    if "paths" in form_class.base_fields:
        lines = [line.strip() for text in post.getlist("paths") for line in text.splitlines() if line.strip()]
        post["paths"] = "\n".join(dict.fromkeys([*lines, *picked]))
    elif not post.get("path"):
        post["path"] = picked[-1]
    return post


def picker_of(request: HttpRequest, draft: Draft) -> dict[str, Any]:
    """The file list of the source step; nothing for a kind that is not about files on the server."""
    form_class = get_source(draft.data["kind"]).form_class
    if not form_class.base_fields.keys() & {"path", "paths"}:
        return {}
    # A form's own list of chosen files decides which boxes are ticked.
    typed = draft.data.get("typed", {}).get("source", {})
    chosen = request.GET.getlist("chosen") or typed.get("paths") or [typed.get("path")]
    several = "paths" in form_class.base_fields
    context: dict[str, Any] = {"chosen": chosen, "several": several, "has_picker": True}
    folder = request.GET.get("folder", "")
    try:
        here, entries = source_roots.browse(folder)
        if here is None and len(entries) == 1:  # with one folder only there is nothing to choose from above it
            here, entries = source_roots.browse(entries[0].path)
    except RefusedError as refusal:
        here, entries = source_roots.browse("")
        context["folder_problem"] = refusal.problem
    wanted = "disk" if several else "ova"
    context |= {
        "here": here,
        "up": _parent(here) if here else None,
        "entries": [entry for entry in entries if entry.is_folder or entry.kind == wanted][:MAX_ENTRIES],
        "others": sum(1 for entry in entries if not entry.is_folder and entry.kind != wanted),
        "too_many": len(entries) > MAX_ENTRIES,
        "no_roots": here is None and not entries,
    }
    return context


def _parent(here: Path) -> str | None:
    """The folder above, "" for the list of roots; None where there is nothing above."""
    roots = source_roots.roots()
    if here not in roots:
        return str(here.parent)
    return "" if len(roots) > 1 else None


@never_cache
@require_safe
@allowed("conversions.change_draft", draft_of)
def files(request: HttpRequest, draft: Draft) -> HttpResponse:
    """The file list alone, for htmx."""
    return render(request, "conversions/wizard/_files.html", {**picker_of(request, draft), "draft": draft})
