"""What VMware Tools report of a guest's addresses: which were set by hand, gateways and name servers of each card.  Pure."""

import ipaddress
from typing import Any

#: What IpAddress.origin says of addresses that nobody has set by hand.
_NOT_BY_HAND = ("dhcp", "linklayer", "random")


def reported(cards: list[Any], stacks: list[Any]) -> dict[str, dict[str, tuple[str, ...]]]:
    """MAC address (small letters) -> fields of NicRecord.  `cards`: guest.net, `stacks`: guest.ipStack."""
    found = {}
    for index, card in enumerate(cards):
        if not card.macAddress:
            continue
        addresses = [ip for ip in (card.ipConfig.ipAddress or [] if card.ipConfig else []) if ip.ipAddress]
        found[card.macAddress.lower()] = {
            "ips": tuple(f"{ip.ipAddress}/{ip.prefixLength}" for ip in addresses),
            "static_ips": tuple(f"{ip.ipAddress}/{ip.prefixLength}" for ip in addresses if _by_hand(ip, card)),
            "gateways": tuple(dict.fromkeys(gateway for stack in stacks for gateway in _gateways(stack, index))),
            "dns": _name_servers(card.dnsConfig)
            or next(filter(None, (_name_servers(s.dnsConfig) for s in stacks)), ()),
        }
    return found


def _by_hand(ip: Any, card: Any) -> bool:
    try:
        address = ipaddress.ip_address(ip.ipAddress)
    except ValueError:
        return False
    if address.is_link_local or address.is_loopback or str(ip.origin) in _NOT_BY_HAND:
        return False
    if str(ip.origin) == "manual":
        return True
    # Older tools name no origin; then DHCP's own switch tells.
    dhcp = card.ipConfig.dhcp
    of_family = dhcp and (dhcp.ipv4 if address.version == 4 else dhcp.ipv6)
    return not (of_family and of_family.enable)


def _gateways(stack: Any, index: int) -> list[str]:
    """Of the default routes over the card with this place in guest.net, which is how a route names it."""
    routes = stack.ipRouteConfig.ipRoute if stack.ipRouteConfig else None
    return [
        route.gateway.ipAddress
        for route in routes or []
        if route.prefixLength == 0
        and route.gateway
        and route.gateway.ipAddress
        and route.gateway.device in (str(index), None)
    ]


def _name_servers(config: Any) -> tuple[str, ...]:
    return tuple(config.ipAddress or ()) if config else ()
