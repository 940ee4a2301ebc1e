"""The wizard's memory: which steps there are, what was typed in each, and who may save over whom.

Draft.data holds, all of it without secrets:

    kind        of the source
    typed       step -> what stood in its fields, as it was typed: shown again when a person comes back
    source      cleaned settings of the source's form
    finding     what the look at the source told: {"guest", "concerns", "facts"}, with "at"
    suggested   the name made from what was found
    name        of the new machine
    options     cleaned: {"root"}; the passphrases are in Draft.secrets
    output      cleaned: {"kind", ...}
    target      settings of manifest.Target: only what was said
    by          who saved last
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from . import names
from .models import Draft, Event
from .plan import Guest, Plan
from .problems import Problem
from .roles import role_of
from .sources.base import Finding

#: step -> (its title, what a finished one leaves in Draft.data)
STEPS: dict[str, tuple[str, str]] = {
    "source": ("Source", "finding"),
    "guest": ("Guest", "name"),
    "options": ("Options", "output"),
    "target": ("Target", "target"),
    "review": ("Review", ""),
}


class StaleError(Exception):
    """Somebody else, or the same person in another tab, saved or started this draft meanwhile; nothing was written."""

    def __init__(self, now: Draft) -> None:
        super().__init__(f"draft {now.pk} is at version {now.version}")
        self.now = now


@dataclass(frozen=True)
class Step:
    """A line of the wizard's list of steps."""

    name: str
    title: str
    done: bool
    open: bool  #: may be visited: all before it are done
    current: bool = False


def steps_of(draft: Draft, current: str = "") -> list[Step]:
    steps, is_open = [], True
    for name, (title, leaves) in STEPS.items():
        done = bool(leaves) and is_open and leaves in draft.data
        steps.append(Step(name, title, done, is_open, name == current))
        is_open = is_open and done
    return steps


def first_open(draft: Draft) -> str:
    """The step to go on with: the last that may be visited."""
    return [step.name for step in steps_of(draft) if step.open][-1]


def begin(user: Any, kind: str) -> Draft:
    """A new draft; an untouched one of the same person and kind is taken again, so that clicking about leaves no litter."""
    untouched = Draft.objects.filter(owner=user, version=1, conversion=None, data={"kind": kind}).first()
    return untouched or Draft.objects.create(owner=user, data={"kind": kind})


def unfinished(user: Any) -> QuerySet[Draft]:
    """What "continue where you left off" lists: one's own, and everybody's for those who may change them."""
    drafts = Draft.objects.filter(conversion=None, version__gt=1).select_related("owner")
    return drafts if role_of(user) in ("operator", "admin") else drafts.filter(owner=user)


def save(draft: Draft, version: int, by: Any, data: dict[str, Any], **fields: Any) -> None:
    """Writes keys of Draft.data (None removes one) and further fields; raises StaleError when `version` is an old one."""
    merged = {**draft.data, **data, "by": by.get_username()}
    merged = {key: value for key, value in merged.items() if value is not None}
    fields |= {"data": merged, "version": version + 1, "updated": timezone.now()}
    with transaction.atomic():
        # The guard is in the UPDATE: the row may have been saved or started since this request read it.
        mine = draft.version == version
        if not mine or not Draft.objects.filter(pk=draft.pk, version=version, conversion=None).update(**fields):
            now = Draft.objects.filter(pk=draft.pk).first()
            raise StaleError(now or draft)
    for name, value in fields.items():
        setattr(draft, name, value)


def save_source(
    draft: Draft, version: int, by: Any, *, typed: dict[str, Any], cleaned: dict[str, Any], finding: Finding
) -> None:
    """The source and what was found there.  Another guest than before wants its name looked at again."""
    suggested = names.suggest(finding.guest.name or "")
    changed = cleaned != draft.data.get("source")
    typed_name = draft.data.get("typed", {}).get("guest", {}).get("name")
    typed_all = {**draft.data.get("typed", {}), "source": typed}
    if changed and typed_name == draft.data.get("suggested"):
        typed_all.pop("guest", None)  # it was the old suggestion, nobody's own idea
    save(
        draft,
        version,
        by,
        {
            "typed": typed_all,
            "source": cleaned,
            "finding": _finding_as_json(finding),
            "suggested": suggested,
            "name": None if changed else draft.data.get("name"),
        },
    )


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "guest": finding.guest.model_dump(mode="json"),
        "concerns": [concern.as_dict() for concern in finding.concerns],
        "facts": finding.facts,
        "at": timezone.now().isoformat(),
    }


def guest_of(draft: Draft) -> Guest:
    return Guest.model_validate(draft.data["finding"]["guest"])


def concerns_of(draft: Draft) -> list[Problem]:
    return [Problem(**concern) for concern in draft.data["finding"]["concerns"]]


def looked_at(draft: Draft) -> datetime:
    return datetime.fromisoformat(draft.data["finding"]["at"])


def keys_of(draft: Draft) -> list[dict[str, str]]:
    """The passphrases: for make_plan() only, never for a page."""
    return list((draft.secrets or {}).get("luks_keys", []))


def request_of(draft: Draft) -> dict[str, Any]:
    """What planning.make_plan() takes."""
    data = draft.data
    return {
        "name": data["name"],
        "source": {"kind": data["kind"], **data["source"]},
        "options": {**data["options"], "luks_keys": keys_of(draft)},
        "output": {**data["output"], **data["target"]},
    }


def digest(plan: Plan) -> str:
    """Tells whether the plan that is started is the one that was shown."""
    return hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:16]


def starter_of(draft: Draft) -> str:
    """Who pressed Start."""
    event = Event.objects.filter(conversion=draft.conversion_id).first() if draft.conversion_id else None
    return event.actor if event else ""
