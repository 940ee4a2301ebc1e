"""The board: all conversions that somebody may see, live."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from ..access import allowed
from ..models import Conversion
from ..names import natural
from ..roles import role_of, visible_to
from ..states import ACTIVE, State
from ..watch import FIELDS, counts_by_state, percent
from ..wording import STATE_WORDS

PER_PAGE = 50
ROWS_AT_ONCE = 100
#: what a person sorts by -> columns; each ends with the id, so that pages do not overlap
SORTS = {
    "id": ("id",),
    "name": ("name", "id"),
    "state": ("state", "id"),
    "owner": ("owner__username", "id"),
    "started": ("started", "id"),
}
COLUMNS = (("name", "Name"), ("state", "State"), ("owner", "Owner"), ("started", "Started"))


@dataclass(frozen=True)
class Filter:
    """What the address asks for; what is no word of ours counts as not said."""

    state: str = ""  #: a State, "active" or ""
    text: str = ""
    mine: bool = False
    sort: str = "-id"

    @classmethod
    def of(cls, request: HttpRequest) -> "Filter":
        state, sort = request.GET.get("state", ""), request.GET.get("sort", "-id")
        return cls(
            state=state if state in (*State, "active") else "",
            text=request.GET.get("q", "").replace("\0", "").strip()[:200],
            mine=request.GET.get("owner") == "mine",
            sort=sort if sort.removeprefix("-") in SORTS else "-id",
        )

    def rows(self, user: Any) -> Any:
        """All that match, whatever their state."""
        rows = visible_to(user, Conversion.objects.all())
        if self.mine:
            rows = rows.filter(owner=user)
        if self.text:
            match = Q(name__icontains=self.text) | Q(owner__username__icontains=self.text)
            if self.text.isascii() and self.text.isdigit():
                match |= Q(pk=int(self.text[:18]))
            rows = rows.filter(match)
        return rows

    def states(self) -> tuple[str, ...]:
        if self.state == "active":
            return tuple(sorted({*ACTIVE, State.QUEUED}))
        return (self.state,) if self.state else tuple(State)

    def order(self) -> list[str]:
        minus = "-" if self.sort.startswith("-") else ""
        return [minus + column for column in SORTS[self.sort.removeprefix("-")]]

    @property
    def by_name(self) -> bool:
        return self.sort.removeprefix("-") == "name"

    def query(self, **changes: Any) -> str:
        """The address of the same list with something changed."""
        values = {"state": self.state, "q": self.text, "owner": "mine" if self.mine else "", "sort": self.sort}
        values |= changes
        return "?" + urlencode({k: v for k, v in values.items() if v and (k, v) != ("sort", "-id")})


class _Natural:
    """Rows by name as people count, web2 before web10, which no database does: sorted by names alone, then one page read."""

    def __init__(self, rows: Any, wanted: Filter) -> None:
        self.rows, self.wanted = rows, wanted

    def __getitem__(self, part: slice) -> list[Conversion]:
        names = [(natural(name), pk) for name, pk in self.rows.order_by().values_list("name", "pk")]
        names.sort(reverse=self.wanted.sort.startswith("-"))
        ids = [pk for _, pk in names[part]]
        found = self.rows.in_bulk(ids)
        return [found[pk] for pk in ids if pk in found]


@require_safe
@allowed("conversions.use")
def board(request: HttpRequest) -> HttpResponseBase:
    wanted = Filter.of(request)
    if "ids" in request.GET:
        return _rows(request, wanted)
    found = wanted.rows(request.user)
    counts = counts_by_state(found)  # also the length of the list: no second count
    rows = found if not wanted.state else found.filter(state__in=wanted.states())
    rows = rows.only(*FIELDS, "owner__username").select_related("owner")
    ordered: Any = _Natural(rows, wanted) if wanted.by_name else rows.order_by(*wanted.order())
    paginator: Any = Paginator(ordered, PER_PAGE)
    paginator.count = sum(counts.get(state, 0) for state in wanted.states())
    page = paginator.get_page(request.GET.get("page"))
    template = "_list.html" if request.htmx and not request.htmx.boosted else "board.html"  # type: ignore[attr-defined]
    return render(
        request,
        f"conversions/board/{template}",
        {
            "page": page,
            "rows": [_row(row) for row in page.object_list],
            "wanted": wanted,
            "tabs": _tabs(wanted, counts),
            "headings": [_heading(wanted, name, text) for name, text in COLUMNS],
            "total": sum(counts.values()),
            "filtered": bool(wanted.text or wanted.mine or wanted.state),
            "sees_others": role_of(request.user) != "requester",
            "previous": wanted.query(page=page.number - 1) if page.has_previous() else "",
            "next": wanted.query(page=page.number + 1) if page.has_next() else "",
            "here": wanted.query(page=page.number if page.number > 1 else ""),
            "now": timezone.now(),
        },
    )


def _rows(request: HttpRequest, wanted: Filter) -> HttpResponseBase:
    """The rows that a page shows already, as they are now, and the counts: what the socket named."""
    asked = request.GET["ids"].split(",")[:ROWS_AT_ONCE]
    ids = [int(part) for part in asked if part.isascii() and part.isdigit() and len(part) < 19]
    rows = visible_to(request.user, Conversion.objects.filter(pk__in=ids))
    counts = counts_by_state(wanted.rows(request.user))
    return render(
        request,
        "conversions/board/_rows.html",
        {
            "rows": [_row(row) for row in rows.only(*FIELDS, "owner__username").select_related("owner")],
            "tabs": _tabs(wanted, counts),
            "now": timezone.now(),
        },
    )


def _row(row: Conversion) -> Conversion:
    row.percent = percent(row)  # type: ignore[attr-defined]
    return row


def _tabs(wanted: Filter, counts: dict[str, int]) -> list[dict[str, Any]]:
    tabs = [("", "All", sum(counts.values()))]
    tabs += [(state, STATE_WORDS[state], counts.get(state, 0)) for state in State]
    return [
        {
            "state": state,
            "text": text,
            "count": count,
            "url": wanted.query(state=state),
            "current": wanted.state == state,
        }
        for state, text, count in tabs
        if count or state in ("", State.RUNNING, wanted.state)
    ]


def _heading(wanted: Filter, name: str, text: str) -> dict[str, Any]:
    direction = {name: "ascending", f"-{name}": "descending"}.get(wanted.sort, "none")
    following = {"none": name, "ascending": f"-{name}", "descending": "-id"}[direction]
    return {"name": name, "text": text, "direction": direction, "url": wanted.query(sort=following)}
