"""Which addresses the network cards of a Windows guest get: as they were, others, or whatever the new network gives.

virt-v2v sets no addresses in Linux guests.  address_form.py has what people fill in.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from .host import machine
from .host.capabilities import capabilities
from .plan import Guest, Nic, Plan, StaticAddress
from .problems import Problem, RefusedError

LEAVE, KEEP = "leave", "keep"
MOST_SERVERS = 8
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_FIELDS = ("mac", "address", "prefix", "gateway", "dns")

Wish = dict[str, Any]  #: see address_form.py
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def static_address(item: Any) -> StaticAddress:
    """Checks one: {"mac", "address": "10.0.0.5" or "10.0.0.5/24", "prefix", "gateway", "dns"}."""
    if not isinstance(item, dict) or item.keys() - set(_FIELDS) or not isinstance(item.get("address"), str):
        not_understood()
    mac, (text, slash, behind) = mac_address(item.get("mac")), item["address"].strip().partition("/")
    address = ip(text, "address")
    if address.is_multicast or address.is_loopback or address.is_unspecified or getattr(address, "scope_id", None):
        refuse("address-not-allowed", "No machine can have this address", f"{address} is none that a card can have.")
    prefix = _prefix(behind if slash else item.get("prefix"), address)
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    of_all = (network.network_address, *([network.broadcast_address] if address.version == 4 else []))
    if prefix < address.max_prefixlen - 1 and address in of_all:
        text = f"{address} is the first or the last address of the network {network}, and stands for all of it."
        refuse("address-not-allowed", "No machine can have this address", text)
    gateway = item.get("gateway") or None
    if gateway is not None:
        gateway = ip(gateway, "gateway")
        near = gateway in network or (gateway.version == 6 == address.version and gateway.is_link_local)
        if not near or gateway == address:
            outside(str(gateway), f"{address}/{prefix}")
    servers = item.get("dns") or []
    servers = re.split(r"[\s,;]+", servers.strip()) if isinstance(servers, str) else servers
    if not isinstance(servers, list | tuple) or len(servers) > MOST_SERVERS:
        refuse("dns-not-allowed", "Name servers", f"“dns” is a list of up to {MOST_SERVERS} addresses.")
    dns = tuple(str(ip(server, "name server")) for server in servers)
    return StaticAddress(
        mac=mac, address=str(address), prefix=prefix, gateway=str(gateway) if gateway else None, dns=dns
    )


def mac_address(mac: Any) -> str:
    text = mac.strip().lower().replace("-", ":") if isinstance(mac, str) else ""
    if not _MAC.fullmatch(text):
        said = f"“{str(mac)[:40]}” is no MAC address."
        refuse("mac-not-allowed", "Which network card?", said, "It is six pairs of 0-9 and a-f, as 00:50:56:12:34:56.")
    return text


def ip(text: Any, what: str) -> Address:
    try:
        if not isinstance(text, str):
            raise ValueError
        return ipaddress.ip_address(text.strip())
    except ValueError:
        said = f"“{str(text)[:60]}” was given as {'an' if what == 'address' else 'a'} {what}."
        refuse("address-not-allowed", "This is no IP address", said, "Type it as 10.0.0.5, or as 2001:db8::5.")


def _prefix(given: Any, address: Address) -> int:
    most = address.max_prefixlen
    number = int(given) if isinstance(given, int | str) and re.fullmatch(r"\d{1,3}", str(given)) else 0
    if isinstance(given, bool) or not 1 <= number <= most:
        said = f"/{str(given)[:20]} is none" if given not in (None, "") else "It is missing"
        refuse(
            "prefix-not-allowed",
            f"How large is the network of {address}?",
            f"The length of the prefix, a number from 1 to {most}, tells it. {said}.",
            f"Type it behind the address, as in {address}/{24 if most == 32 else 64}.",
        )
    return number


def outside(gateway: str, address: str) -> NoReturn:
    refuse(
        "gateway-outside",
        "The gateway is not in the card's network",
        f"A machine with the address {address} cannot reach the gateway {gateway} directly.",
        "Look whether the address, its prefix and the gateway belong together.",
    )


def not_understood() -> NoReturn:
    text = "It is “leave”, “keep”, or a list of objects with mac, address, prefix, gateway and dns."
    refuse("addresses-not-understood", "The addresses are not understood", text, "Send it in one of these forms.")


def refuse(code: str, title: str, text: str, action: str = "Check what was typed.", status: int = 422) -> NoReturn:
    raise RefusedError(Problem(code, title, text, action), field="options.addresses", status=status)


# -- from a wish to the plan ------------------------------------------------------------------------------------------


def resolve(wished: Wish, guest: Guest) -> tuple[StaticAddress, ...]:
    """What virt-v2v is to set for this guest.  Raises RefusedError for what it cannot set, unless it was only “keep”."""
    cards, known = wished["cards"], {nic.mac.lower(): nic for nic in guest.nics if nic.mac}
    if unknown := [mac for mac in cards if mac not in known]:
        has = f"It has {', '.join(known)}." if known else "Of this guest no card is known."
        refuse("mac-unknown", "The guest has no such network card", f"None has the address {unknown[0]}. {has}")
    typed = [StaticAddress(**item) for said in cards.values() if isinstance(said, list) for item in said]
    if guest.os_family == "linux":
        if typed:
            refuse(
                "addresses-linux",
                "virt-v2v sets no addresses in Linux guests",
                "A Linux guest keeps what is set inside it; only in Windows guests can an address be set on the way.",
                "Leave the address out, and set it inside the new machine.",
            )
        return ()
    needs_gateway = False
    if typed or KEEP in (wished["all"], *(said for said in cards.values() if isinstance(said, str))):
        needs_gateway = not capabilities().takes_address_without_gateway
    if needs_gateway and (bare := [address for address in typed if not address.gateway]):
        refuse(
            "address-needs-gateway",
            "This virt-v2v needs a gateway",
            f"The virt-v2v on this server cannot set {bare[0].address} without a gateway; versions from 2.6 on can.",
            "Type a gateway, or leave the card alone and set its address inside the new machine.",
        )
    kept = [
        address
        for mac, nic in known.items()
        if cards.get(mac, wished["all"]) == KEEP
        for address in reported(nic)
        if address.gateway or not needs_gateway
    ]
    made = (*typed, *kept)
    _check_twice(made)
    if made and guest.os_family == "windows":
        _check_tools()
    return made


def reported(nic: Nic) -> list[StaticAddress]:
    """What was set by hand on a card, as its guest's tools told it; an odd answer of theirs is left out."""
    lists = {"address": list(nic.static_ips), "gateway": [], "dns": []}
    found: list[StaticAddress] = []
    used: set[str] = set()
    for text in lists["address"]:
        version = 6 if ":" in text else 4
        fitting = [gateway for gateway in nic.gateways if (":" in gateway) == (version == 6) and gateway not in used]
        first = not any((":" in address.address) == (version == 6) for address in found)
        dns = [server for server in nic.dns if (":" in server) == (version == 6)][:MOST_SERVERS] if first else []
        for gateway in [*fitting, None]:
            try:
                item = {"mac": nic.mac, "address": text, "gateway": gateway, "dns": dns}
                found.append(static_address(item))
            except RefusedError:
                continue
            used.update([gateway] if gateway else [])
            break
    return found


def _check_twice(made: Iterable[StaticAddress]) -> None:
    seen = set[str]()
    for address in made:
        if address.address in seen:
            text = f"{address.address} is to be set twice."
            refuse("address-twice", "Two cards cannot have one address", text, "Give one of them another address.")
        seen.add(address.address)


def _check_tools() -> None:
    """virt-v2v has Windows set its addresses at the first start; what does that there has to be on this server."""
    check = next(iter(machine.virt_tools()))
    if check.state != "ok":
        raise RefusedError(
            Problem(
                "rhsrvany-missing",
                "Addresses cannot be set: a program for Windows is missing on this server",
                "virt-v2v puts rhsrvany.exe into a Windows guest, which sets the addresses at its first start.",
                f"Leave the addresses alone, or ask your administrator to install it ({check.command}).",
                "administrator",
            ),
            field="options.addresses",
            status=409,
        )


def args(plan: Plan) -> list[str]:
    """virt-v2v's --mac MAC:ip:ADDRESS,GATEWAY,LENGTH,SERVER...: each part was checked, so no comma comes from outside."""
    made = []
    for one in plan.options.addresses:
        made += ["--mac", f"{one.mac}:ip:" + ",".join((one.address, one.gateway or "", str(one.prefix), *one.dns))]
    return made


def told(plan: Plan) -> list[str]:
    """For people, card by card: what is set, and what the guest had where nothing is set."""
    lines = []
    for nic in plan.guest.nics:
        mine = [one for one in plan.options.addresses if one.mac == (nic.mac or "").lower()]
        name = f"Card {nic.mac or 'without an address'}" + (f" on {nic.network}" if nic.network else "")
        if mine:
            lines.append(f"{name}: set at the first start to {'; '.join(words(one) for one in mine)}.")
        if nic.ips and not mine:
            own = f"{', '.join(nic.ips)}" + (f"; gateway {', '.join(nic.gateways)}" if nic.gateways else "")
            own += f"; name servers {', '.join(nic.dns)}" if nic.dns else ""
            lines.append(f"{name}: had {own}. {_what_becomes(plan, nic)}")
    return lines


def _what_becomes(plan: Plan, nic: Nic) -> str:
    if plan.guest.os_family == "linux":
        return "virt-v2v sets none in Linux guests: look inside whether it is still set, as the card may have another name."
    if nic.static_ips:
        return "It is not set for you: look at it inside the new machine."
    return "It was given out by the network."


def words(one: StaticAddress) -> str:
    return (
        f"{one.address}/{one.prefix}"
        + (f", gateway {one.gateway}" if one.gateway else "")
        + (f", name servers {', '.join(one.dns)}" if one.dns else "")
    )
