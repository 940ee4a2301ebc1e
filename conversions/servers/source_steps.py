"""What both sides of a conversion share at its source (source_work.py before it, restarts.py after it): threads that know no
database, and what people read about each step, kept together with the row that says it was done."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from ..models import Conversion, Event, SavedSource, SourceWork
from ..plan import Plan
from .libvirt_uri import domain_name


def guest_of(saved: SavedSource, plan: Plan) -> tuple[SavedSource, str, str | None]:
    settings = plan.source.settings
    return saved, settings["guest_id"], settings.get("uuid")


def name_of(plan: Plan) -> str:
    """As people know it at the source, short enough for a sentence."""
    return domain_name(plan.source.settings.get("guest_name") or plan.name)[:80]


def minutes(plan: Plan) -> int:
    """How long a guest has to shut down."""
    return int(plan.source.settings.get("shut_down_minutes") or 15)


@dataclass(frozen=True)
class Told:
    """What a page tells of a guest that was asked to shut down for a conversion."""

    name: str
    asked: datetime
    minutes: int
    is_off: bool
    hard: bool  #: it is switched off hard after that time
    again: bool  #: it is started again when the conversion does not come to its end


def told(conversion: Conversion) -> Told | None:
    work = conversion.source_work.filter(attempt=conversion.attempt).exclude(asked=None).first()
    if work is None or work.asked is None:
        return None
    plan = conversion.plan
    hard = bool(plan.source.settings.get("power_off"))
    again = work.restart == SourceWork.Restart.OWED
    return Told(name_of(plan), work.asked, minutes(plan), work.ready is not None, hard, again)


def beside(function: Callable[..., Any], *args: Any) -> "Future[Any]":
    """Runs in a thread that does not hold up the end of this process; the row says what is to be done again."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="source-work", daemon=True).start()
    return future


def note(work: SourceWork, *texts: str, receipt: bool = False) -> None:
    """Saves the row together with what people read about it."""
    with transaction.atomic():
        work.save()
        for text in texts:
            Event.objects.create(
                conversion_id=work.conversion_id, attempt=work.attempt, type="source", data={"text": text}
            )
        if receipt:
            row = Conversion.objects.select_for_update().only("receipt", "attempt").get(pk=work.conversion_id)
            if row.attempt == work.attempt:
                source = [*row.receipt.get("source", []), *texts]
                Conversion.objects.filter(pk=row.pk).update(
                    receipt={"removed": [], "kept": [], **row.receipt, "source": source}, updated=timezone.now()
                )
