"""Which guests somebody has chosen at a source: kept in a Draft, so that it lasts over pages, searches and days.

Draft.data of such a draft, all of it without secrets:

    kind        "guests": no kind of source, so that the single guest's wizard leaves it alone
    source_id   of the saved source
    guests      their ids, in the order in which they were chosen
    networks    settings of manifest.Target about networks and namespace
    storage     and those about storage
    options     cleaned: options, output, source (shutting down), template, names, cards, keep_running
    typed       step -> what stood in its fields; "cards": those of network cards
    batch       the batch that was started; the draft is over then
"""

from collections.abc import Callable, Iterable
from typing import Any

from . import batches, drafts
from .drafts import StaleError
from .models import Draft, InventoryGuest, SavedSource
from .plan import Guest, Nic

KIND = "guests"
#: step -> (its title, what a finished one leaves in Draft.data)
STEPS = {
    "networks": ("Networks", "networks"),
    "storage": ("Storage", "storage"),
    "options": ("Options", "options"),
    "review": ("Review", ""),
}
POWERED_ON = "vmware.vm.powered_on"


def of(user: Any, saved: SavedSource) -> Draft | None:
    """The selection that somebody has open at a source."""
    rows = Draft.objects.filter(owner=user, conversion=None, data__kind=KIND, data__source_id=saved.pk)
    return rows.filter(data__batch__isnull=True).order_by("created").first()


def ids_of(draft: Draft | None) -> list[str]:
    return list(draft.data.get("guests", [])) if draft else []


def guests_of(draft: Draft) -> list[InventoryGuest]:
    """As the inventory has them now, in the order of the choice; one that is gone is left out."""
    wanted = ids_of(draft)
    found = {
        row.guest_id: row
        for start in range(0, len(wanted), 400)
        for row in InventoryGuest.objects.filter(
            source_id=draft.data["source_id"], guest_id__in=wanted[start : start + 400]
        )
    }
    return [found[id] for id in wanted if id in found]


def change(user: Any, saved: SavedSource, how: Callable[[list[str]], Iterable[str]]) -> tuple[Draft, int]:
    """Changes the selection; how many did not fit any more.  Two tabs at once lose nothing: the change is made anew."""
    for _ in range(5):
        draft = of(user, saved) or Draft.objects.create(
            owner=user, data={"kind": KIND, "source_id": saved.pk, "guests": []}
        )
        chosen = list(dict.fromkeys(how(ids_of(draft))))
        try:
            drafts.save(draft, draft.version, user, {"guests": chosen[: batches.MOST]})
        except StaleError:
            continue
        return draft, max(0, len(chosen) - batches.MOST)
    raise RuntimeError("the selection is being changed all the time")


def obstacle(guest: InventoryGuest) -> str:
    """Why a guest cannot be chosen; "" when it can: that it runs is no obstacle, it can be shut down first."""
    grave = [c for c in guest.concerns if c["severity"] == "critical" and c["id"] != POWERED_ON]
    return f"{grave[0]['title']}. {grave[0]['text']}" if grave else ""


def together(guests: Iterable[InventoryGuest]) -> Guest:
    """One guest with the cards of all, each network once: the form of a target asks about its networks."""
    cards = [nic for guest in guests for nic in guest.record.get("nics", [])]
    keys = dict.fromkeys((nic.get("network"), None if nic.get("network") else nic.get("mac")) for nic in cards)
    return Guest(nics=tuple(Nic(network=network, mac=mac and mac.lower()) for network, mac in keys))


def first_open(draft: Draft) -> str:
    return next((name for name, (_, leaves) in STEPS.items() if not leaves or leaves not in draft.data), "review")


def steps_of(draft: Draft, current: str) -> list[drafts.Step]:
    steps, is_open = [], True
    for name, (title, leaves) in STEPS.items():
        done = bool(leaves) and is_open and leaves in draft.data
        steps.append(drafts.Step(name, title, done, is_open, name == current))
        is_open = is_open and done
    return steps
