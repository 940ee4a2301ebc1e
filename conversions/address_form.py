"""What somebody wishes about addresses, from a page's fields or the API, as options and drafts hold it.

{"all": "leave" or "keep", "cards": {MAC address: "leave", "keep", or a list of {"mac", "address", "prefix", "gateway",
"dns"}}}.  addresses.py makes a plan's addresses of it.
"""

import ipaddress
import re
from typing import Any

from django import forms

from .addresses import (
    KEEP,
    LEAVE,
    Wish,
    ip,
    mac_address,
    not_understood,
    outside,
    refuse,
    reported,
    static_address,
    words,
)
from .plan import Guest
from .problems import RefusedError
from .sources.base import FormProblem

MOST_CARDS = 32
_CARD = re.compile(r"card-(\d+)-([0-9a-f]{12})-(how|address|gateway|dns)")


class AddressesWidget(forms.Widget):
    """A value (API); or two radio buttons and, for each card, the fields card-0-MAC-how, -address, -gateway and -dns."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        if not hasattr(data, "getlist"):
            return data.get(name)
        return {"all": data.get(name) or LEAVE, "cards": typed_cards(data).get("0", {})}


class AddressesField(forms.Field):
    widget = AddressesWidget

    def clean(self, value: Any) -> Wish:
        try:
            return wish(value)
        except RefusedError as error:
            raise FormProblem(error.problem) from None


def typed_cards(data: Any) -> dict[str, dict[str, Any]]:
    """What stands in the fields of cards: {number of the guest on the page: {MAC address: {"how", "address", ...}}}."""
    found: dict[str, dict[str, Any]] = {}
    for key in data:
        if match := _CARD.fullmatch(key):
            guest, mac, field = match.groups()
            mac = ":".join(mac[i : i + 2] for i in range(0, 12, 2))
            found.setdefault(guest, {}).setdefault(mac, {})[field] = data[key].strip()[:400]
    return found


def wish(value: Any) -> Wish:
    """Raises RefusedError for what is no wish."""
    if value in (None, "", LEAVE, KEEP):
        return {"all": value or LEAVE, "cards": {}}
    if isinstance(value, list):
        cards: dict[str, Any] = {}
        for item in value:
            address = static_address(item)
            cards.setdefault(address.mac, []).append(address.model_dump(mode="json"))
        value = {"all": LEAVE, "cards": cards}
    if not isinstance(value, dict) or value.get("all") not in (LEAVE, KEEP) or not isinstance(value.get("cards"), dict):
        not_understood()
    if len(value["cards"]) > MOST_CARDS:
        refuse("too-many-cards", "Too many network cards", f"Addresses of up to {MOST_CARDS} cards are taken.")
    cards = {mac: _card(mac, said) for mac, said in value["cards"].items()}
    return {"all": value["all"], "cards": {mac: said for mac, said in cards.items() if said}}


def _card(mac: Any, said: Any) -> Any:
    """ "leave", "keep", a list of addresses, or "" for a card about which nothing was said."""
    mac = mac_address(mac)
    if said in (LEAVE, KEEP):
        return said
    if isinstance(said, dict):
        return _typed(mac, said)
    if not isinstance(said, list):
        not_understood()
    addresses = [static_address(item) for item in said]
    for version in (4, 6):
        alike = [a for a in addresses if a.gateway and ipaddress.ip_address(a.address).version == version]
        if len(alike) > 1:
            text = f"The card {mac} would get two gateways for IPv{version}; Windows takes one."
            refuse("two-gateways", "A network card has one gateway", text, "Leave one of them out.")
    return [address.model_dump(mode="json") for address in addresses]


def _typed(mac: str, said: dict[str, str]) -> Any:
    """From the fields of a page: addresses with prefixes, gateways and name servers, each with spaces or commas between."""
    parts = {name: re.split(r"[\s,;]+", said.get(name, "").strip(" ,;")) for name in ("address", "gateway", "dns")}
    lists = {name: [part for part in found if part] for name, found in parts.items()}
    how = said.get("how", "")
    if not any(lists.values()):
        if how == "set":
            text = f"Nothing was typed for the card {mac}."
            refuse("address-missing", "Which address?", text, "Type it as 10.0.0.5/24, or choose another line.")
        return how if how in (LEAVE, KEEP) else ""
    if how in (LEAVE, KEEP):
        refuse(
            "address-and-choice",
            "This can be read in two ways",
            f"An address was typed for the card {mac}, but it is also said to be {'kept' if how == KEEP else 'left alone'}.",
            "Empty the fields, or choose to set what is typed.",
        )
    if not lists["address"]:
        text = f"A gateway or name server was typed for the card {mac}, but no address."
        refuse("address-missing", "Which address?", text, "Type it as 10.0.0.5/24.")
    return _card(mac, _items(mac, lists))


def _items(mac: str, lists: dict[str, list[str]]) -> list[dict[str, Any]]:
    """One item for each address; each gateway goes with the first address of its kind, IPv4 or IPv6."""
    items: list[dict[str, Any]] = [{"mac": mac, "address": text, "dns": []} for text in lists["address"]]
    for name in ("gateway", "dns"):
        for text in lists[name]:
            version = ip(text, "gateway" if name == "gateway" else "name server").version
            fitting = next((item for item in items if (":" in item["address"]) == (version == 6)), None)
            if fitting is None and name == "gateway":
                outside(text, lists["address"][0])
            fitting = fitting or items[0]
            if name == "dns":
                fitting["dns"].append(text)
            elif "gateway" in fitting:
                text = f"The card {mac} would get two gateways for IPv{version}; Windows takes one."
                refuse("two-gateways", "A network card has one gateway", text, "Leave one of them out.")
            else:
                fitting["gateway"] = text
    return items


def cards_of(number: object, guest: Guest, typed: dict[str, Any]) -> list[dict[str, Any]]:
    """The cards of a guest for a page: what is known of them, and what was typed.  `number`: of the guest on the page."""
    return [
        {
            "field": f"card-{number}-{nic.mac.replace(':', '').lower()}",
            "mac": nic.mac,
            "network": nic.network,
            "ips": nic.ips,
            "kept": "; ".join(words(one) for one in reported(nic)),
            "how": "",
            **typed.get(nic.mac.lower(), {}),
        }
        for nic in guest.nics
        if nic.mac
    ]


def rows_of(
    guests: list[tuple[int, str, Guest]], typed: dict[str, dict[str, Any]], problems: dict[int, Any]
) -> dict[str, Any]:
    """What a page's part about addresses shows.  `guests`: number on the page, name, guest; `typed`: as typed_cards()."""
    rows, linux = [], []
    for number, name, guest in guests:
        if guest.os_family == "linux":
            linux.append({"name": name, "cards": [nic for nic in guest.nics if nic.ips]})
            continue
        mine = typed.get(str(number), {})
        cards = cards_of(number, guest, mine)
        if cards:
            said = any(value for card in mine.values() for value in card.values())
            problem = problems.get(number)
            rows.append({"name": name, "cards": cards, "problem": problem, "open": said or problem is not None})
    return {"address_rows": rows, "address_linux": linux, "address_open": any(row["open"] for row in rows)}
