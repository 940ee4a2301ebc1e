"""The table of a source's guests: searched, filtered, sorted and paged in the database; and lists of names pasted or uploaded."""

import csv
import io
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import F, IntegerField, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from ..models import InventoryGuest, SavedSource

PER_PAGE = 50
SORTS = {
    "name": "sort_name",
    "power": "power",
    "os": "os",
    "size": "size",
    "cpus": "sort_cpus",
    "memory": "sort_memory",
    "host": "sort_host",
}
POWERS = {"on": "running", "off": "shut down", "suspended": "suspended"}
WORST = {"critical": "cannot be moved yet", "warning": "with warnings", "none": "ready"}


@dataclass(frozen=True)
class Question:
    """What a person asked of the table; nonsense in the address becomes the default."""

    text: str = ""
    power: str = ""
    worst: str = ""
    sort: str = "name"
    descending: bool = False
    page: int = 1

    @classmethod
    def of(cls, data: Any) -> "Question":
        sort = data.get("sort", "")
        page = data.get("page", "")
        return cls(
            text=data.get("q", "").replace("\0", "").strip()[:200],
            power=data.get("power", "") if data.get("power") in POWERS else "",
            worst=data.get("concerns", "") if data.get("concerns") in WORST else "",
            sort=sort.lstrip("-") if sort.lstrip("-") in SORTS else "name",
            descending=sort.startswith("-"),
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 7 else 1,
        )


def address(question: Question) -> str:
    """The query of the page that shows this: "" or "?q=web&page=2"."""
    values = {
        "q": question.text,
        "power": question.power,
        "concerns": question.worst,
        "sort": ("-" if question.descending else "") + question.sort,
        "page": question.page,
    }
    said = {name: value for name, value in values.items() if value not in ("", "name", 1)}
    return f"?{urlencode(said)}" if said else ""


def guests(saved: SavedSource, question: Question) -> QuerySet[InventoryGuest]:
    rows = saved.guests.all()
    for word in question.text.lower().split():
        rows = rows.filter(search__contains=word)
    if question.power:
        rows = rows.filter(power=question.power)
    if question.worst == "none":
        rows = rows.exclude(worst__in=["critical", "warning"])
    elif question.worst:
        rows = rows.filter(worst=question.worst)
    rows = rows.annotate(
        sort_cpus=Cast(KT("record__cpus"), IntegerField()),
        sort_memory=Cast(KT("record__memory"), IntegerField()) / 1048576,
        sort_host=KT("record__host"),
    ) if question.sort in ("cpus", "memory", "host") else rows  # fmt: skip
    order = F(SORTS[question.sort])
    direction = order.desc(nulls_last=True) if question.descending else order.asc(nulls_last=True)
    return rows.order_by(direction, "sort_name", "id")


def page(saved: SavedSource, question: Question) -> "Page[InventoryGuest]":
    return Paginator(guests(saved, question), PER_PAGE).get_page(question.page)


@dataclass(frozen=True)
class Listed:
    """A line of a pasted or uploaded list, and the guest that it means, or why none."""

    line: int  #: from 1
    text: str
    guest: InventoryGuest | None = None
    error: str = ""


MAX_LINES = 1000


def read_list(saved: SavedSource, text: str) -> list[Listed]:
    """Guests by name or id, one a line or the first column of a CSV; a heading line is passed over."""
    wanted = []
    for number, row in enumerate(csv.reader(io.StringIO(text.replace("\0", ""))), 1):
        cell = row[0].strip() if row else ""
        if cell and not (number == 1 and cell.lower() in ("name", "vm", "guest", "id")):
            wanted.append((number, cell))
    by_name: dict[str, list[InventoryGuest]] = {}
    by_id = {}
    for guest in saved.guests.all():
        by_name.setdefault(guest.name.lower(), []).append(guest)
        by_id[guest.guest_id] = guest
    listed, seen = [], set[int]()
    for number, cell in wanted[:MAX_LINES]:
        found = [by_id[cell]] if cell in by_id else by_name.get(cell.lower(), [])
        if not found:
            listed.append(Listed(number, cell, error="There is no guest of this name or id. Is the inventory fresh?"))
        elif len(found) > 1:
            ids = ", ".join(guest.guest_id for guest in found)
            listed.append(Listed(number, cell, error=f"Several guests have this name; write the id instead: {ids}."))
        elif found[0].pk in seen:
            listed.append(Listed(number, cell, error="It stands in the list twice."))
        else:
            seen.add(found[0].pk)
            listed.append(Listed(number, cell, found[0]))
    if len(wanted) > MAX_LINES:
        listed.append(Listed(wanted[MAX_LINES][0], "", error=f"Only the first {MAX_LINES} lines are taken."))
    return listed
