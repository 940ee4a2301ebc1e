"""Many guests of a saved source in one go: their names, a plan for each, and one start for all of them."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Count

from . import names, planning
from .host import space
from .models import Batch, Conversion, Draft, Event, InventoryGuest, SavedSource
from .plan import Plan
from .problems import Problem, RefusedError, size_words
from .states import ACTIVE, FINAL, State

MOST = 500  #: guests in one batch
TEMPLATE = "{name}"
_PARTS = re.compile(r"\{([a-z]*)\}")
_KNOWN = ("name", "number", "hostname")


@dataclass(frozen=True)
class Wanted:
    """A guest that somebody wants to move, and the name that it is to have."""

    guest: InventoryGuest
    name: str
    problem: Problem | None = None  #: why this name cannot be used


@dataclass(frozen=True)
class Planned:
    """What became of a wanted guest: a plan, or the reason why there is none."""

    guest: InventoryGuest
    name: str
    plan: Plan | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    concerns: tuple[Problem, ...] = ()
    problem: Problem | None = None
    field: str | None = None


def check_template(template: str) -> str:
    """The template, or RefusedError for a part that there is not."""
    odd = next((part for part in _PARTS.findall(template) if part not in _KNOWN), None)
    if odd is not None or not template.strip():
        known = ", ".join("{" + part + "}" for part in _KNOWN)
        raise RefusedError(
            Problem(
                "template-not-understood",
                "This pattern for names is not understood",
                f"Beside letters, digits and dashes it may have {known}."
                + (f" “{{{odd}}}” is none of these." if odd else " It is empty."),
                "Take {name} for the names that the guests have now.",
            ),
            field="name_template",
        )
    return template


def name_from(template: str, guest: InventoryGuest, number: int) -> str:
    """ "{name}-new" and "Web 01" -> "web-01-new": always a valid name."""
    hostname = (guest.record.get("hostname") or guest.name).split(".")[0]
    parts = {"name": guest.name, "number": str(number), "hostname": hostname}
    return names.suggest(_PARTS.sub(lambda part: parts.get(part[1], ""), template))


def name_all(guests: Iterable[InventoryGuest], template: str, typed: dict[str, str] | None = None) -> list[Wanted]:
    """A name for each: what was typed for it, or what the template makes, with a number where two would be alike."""
    typed, taken, wanted = typed or {}, set[str](), []
    guests = list(guests)
    own = {guest.guest_id: typed.get(guest.guest_id, "").strip() for guest in guests}
    reserved = {name for name in own.values() if name}
    for number, guest in enumerate(guests, 1):
        problem = None
        if name := own[guest.guest_id]:
            try:
                names.check(name)
            except RefusedError as refusal:
                problem = refusal.problem
            if name in taken:
                problem = _twice(name)
        else:
            name = first = name_from(template, guest, number)
            again = 1
            while name in taken or name in reserved:
                again += 1
                name = f"{first[: names.MAX_LENGTH - 5].rstrip('-')}-{again}"
        taken.add(name)
        wanted.append(Wanted(guest, name, problem))
    return wanted


def _twice(name: str) -> Problem:
    text = f"Two guests of this batch are to be called “{name}”."
    return Problem("name-twice", "The name is there twice", text, "Give one of them another name.")


def plan_all(
    saved: SavedSource,
    wanted: Iterable[Wanted],
    user: Any,
    *,
    source: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    output: dict[str, Any] | None = None,
    keep_running: bool = False,
    cards: dict[str, Any] | None = None,
) -> list[Planned]:
    """A plan for each, through the same forms as a single conversion; one that is refused does not hinder the others.

    `keep_running`: the new machine is started when the guest runs now, and not when it does not.  `cards`: what was said
    of single guests' network cards, beside options["addresses"]: guest id -> a wish's cards (address_form.py), or a wish.
    """
    made = []
    for one in wanted:
        if one.problem:
            made.append(Planned(one.guest, one.name, problem=one.problem, field="name"))
            continue
        asked = {"kind": saved.kind, "source_id": saved.pk, "guest": one.guest.guest_id, **(source or {})}
        try:
            plan, secrets = planning.make_plan(
                name=one.name,
                source=asked,
                options=_options_of(one.guest, options or {}, cards or {}),
                output={"kind": "files", **(output or {})},
                user=user,
                keep_running=keep_running,
            )
        except RefusedError as refusal:
            made.append(Planned(one.guest, one.name, problem=refusal.problem, field=refusal.field))
            continue
        warnings = tuple(
            Problem(c["id"], c["title"], c["text"]) for c in one.guest.concerns if c["severity"] == "warning"
        )
        made.append(Planned(one.guest, one.name, plan, secrets, warnings))
    return made


def _options_of(guest: InventoryGuest, options: dict[str, Any], cards: dict[str, Any]) -> dict[str, Any]:
    """The options of all, with what was said for this guest's network cards."""
    mine = cards.get(guest.guest_id)
    if mine is None:
        return dict(options)
    if not isinstance(mine, dict):
        return {**options, "addresses": mine}
    everybody = options.get("addresses") or "leave"
    return {
        **options,
        "addresses": {"all": everybody["all"] if isinstance(everybody, dict) else everybody, "cards": mine},
    }


def digest(planned: Iterable[Planned]) -> str:
    """Tells whether what is started is what was shown."""
    texts = [one.plan.model_dump_json() if one.plan else f"{one.guest.guest_id}:refused" for one in planned]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def space_needed(planned: Iterable[Planned]) -> int:
    return sum(space.needed(one.plan).total for one in planned if one.plan) + space.RESERVE


def check_space(planned: list[Planned]) -> None:
    need, others, there = space_needed(planned), space.reserved(), space.free()
    if need + others <= there:
        return
    promised = f" Conversions that run or wait will take {size_words(others)} of that." if others else ""
    raise RefusedError(
        Problem(
            "no-space",
            "There is not enough free space on this server for all of them",
            f"Together they need {size_words(need)}; {size_words(there)} are free.{promised}",
            "Choose fewer guests, remove results that nobody needs any more, or ask your administrator for more space.",
            "administrator",
        ),
        status=409,
    )


class _TakenError(Exception):
    pass


def start(name: str, planned: list[Planned], owner: Any, *, by: Any = None, draft: Draft | None = None) -> Batch:
    """Queues one conversion for each plan, all or none.  With a draft: once, whoever presses Start and however often;
    then the existing batch is returned.  Raises RefusedError when there is no plan, or no space."""
    if draft is not None and (existing := started(draft)):
        return existing
    plans = [one for one in planned if one.plan]
    if not plans:
        first = next((one.problem for one in planned if one.problem), None)
        why = f" The first: {first.title}. {first.text}" if first else ""
        raise RefusedError(
            Problem(
                "nothing-to-start",
                "None of these guests can be moved now",
                f"Each of them was refused.{why}",
                "Look at the reason beside each guest.",
            ),
            field="guests",
        )
    check_space(plans)
    try:
        with transaction.atomic():
            batch = Batch.objects.create(name=name[:100], owner=owner)
            _queue(batch, plans, owner, by or owner)
            # The guard is in the UPDATE: of two who start one draft, one finds it taken and takes its own rows back.
            if draft is not None:
                data = {**draft.data, "batch": batch.pk}
                mine = Draft.objects.filter(pk=draft.pk, version=draft.version)
                if not mine.update(data=data, version=draft.version + 1, secrets=None):
                    raise _TakenError
    except _TakenError:
        now = Draft.objects.filter(pk=draft.pk).first() if draft else None
        if now and (existing := started(now)):
            return existing
        raise RefusedError(
            Problem(
                "draft-changed",
                "These settings were changed meanwhile",
                "Somebody, or you in another tab, has changed this batch while you were looking at it. Nothing was started.",
                "Look through it again, and press Start once more.",
            ),
            status=409,
        ) from None
    return batch


def _queue(batch: Batch, planned: list[Planned], owner: Any, by: Any) -> None:
    for one in planned:
        assert one.plan
        conversion = Conversion.objects.create(
            name=one.plan.name,
            owner=owner,
            batch=batch,
            plan_json=one.plan.model_dump(mode="json"),
            source_id=one.plan.source.settings.get("source_id"),
            secrets=one.secrets or None,  # type: ignore[misc]  # encrypted text only in the database
        )
        Event.objects.create(
            conversion=conversion,
            attempt=1,
            type="state",
            data={"from": "", "to": State.QUEUED, "why": f"created with the batch {batch.name}"},
            actor=by.get_username(),
        )


def started(draft: Draft) -> Batch | None:
    """The batch that a draft has become; the row itself is asked, not what was read of it before."""
    now = Draft.objects.filter(pk=draft.pk).first()
    return Batch.objects.filter(pk=now.data.get("batch")).first() if now and now.data.get("batch") else None


def counts(batch: Batch) -> dict[str, int]:
    """State -> how many conversions of the batch are in it."""
    return dict(batch.conversions.order_by().values_list("state").annotate(Count("pk")))


def progress(rows: Iterable[Conversion]) -> int:
    """All of it as one percentage: by bytes where they are known, and each guest by its own size."""
    done = total = 0.0
    for row in rows:
        size = float(sum((disk.get("size") or 0) for disk in row.plan_json["guest"]["disks"]) or 1)
        told = row.progress or {}
        share = (told.get("bytes_done") or 0) / told["bytes_total"] if told.get("bytes_total") else 0.0
        total += size
        done += size * (1.0 if row.state in FINAL else min(1.0, share))
    return int(100 * done / total) if total else 0


def cancel(batch: Batch, actor: str) -> int:
    """Asks all that wait or run to end; how many."""
    rows = batch.conversions.defer("secrets", "plan_json").filter(state__in=[State.QUEUED, *ACTIVE])
    return sum(row.request_cancel(actor) for row in rows)


def retry(batch: Batch, actor: str) -> int:
    """Queues those again that failed, were cancelled or got lost; how many."""
    rows = batch.conversions.defer("secrets", "plan_json").filter(state__in=FINAL - {State.SUCCEEDED})
    return sum(row.retry(actor) for row in rows)
