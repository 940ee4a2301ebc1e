"""What KubeVirt refuses about network cards and networks (pkg/network/admitter), each with its line."""

import re
from collections.abc import Iterator

from .. import names
from .machine import Machine, Member, Mistake
from .target import MAC, NIC_MODELS, SUBDOMAIN
from .walking import dotted

_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
_BINDINGS = ("bridge", "masquerade", "sriov", "passtBinding", "binding", "macvtap", "passt", "slirp")
_NETWORK_TYPES = ("pod", "multus", "resourceClaim")


def network_cards(machine: Machine) -> Iterator[Mistake]:
    known = {network.name: network for network in machine.networks}
    for card in machine.interfaces:
        if card.name is not None and not _INTERFACE_NAME.match(card.name):
            yield card.mistake(
                "name-not-allowed",
                "The name of a network card has letters, digits, dashes and underscores only.",
                "name",
            )
        network = known.get(card.name)
        if network is None:
            yield card.mistake(
                "interface-without-network",
                f"The network card “{card.name}” has no network: add one of that name below “networks”.",
                "name",
            )
        model = card.node.get("model")
        if model is not None and model.value not in NIC_MODELS:
            yield card.mistake("model-unknown", f"The model must be one of {', '.join(NIC_MODELS)}.", "model")
        ways = [way for way in _BINDINGS if card.node.get(way) is not None]
        if len(ways) != 1:
            how = "in no way" if not ways else "in more than one way"
            yield card.mistake(
                "binding",
                f"The network card “{card.name}” is connected {how}: write one of masquerade, bridge or sriov.",
            )
        if "masquerade" in ways and network is not None and network.node.get("pod") is None:
            yield card.mistake(
                "masquerade-without-pod", "“masquerade” works on the pods' network only: write “bridge”.", "masquerade"
            )
        yield from _address(card, masquerade="masquerade" in ways)


def _address(card: Member, *, masquerade: bool) -> Iterator[Mistake]:
    mac = card.node.get("macAddress")
    if mac is None or not isinstance(mac.value, str):
        return
    address = mac.value.lower().replace("-", ":")
    if not MAC.match(address):
        yield card.mistake(
            "mac-malformed",
            "A MAC address is six pairs of hexadecimal digits, such as 52:54:00:12:34:56.",
            "macAddress",
        )
    elif masquerade and address == "02:00:00:00:00:00":
        yield card.mistake("mac-reserved", "KubeVirt keeps this MAC address for itself.", "macAddress")


def networks(machine: Machine) -> Iterator[Mistake]:
    cards = {card.name for card in machine.interfaces}
    pods: list[Member] = []
    defaults: list[Member] = []
    for network in machine.networks:
        if network.name is not None and not names.is_valid(network.name):
            yield network.mistake(
                "name-not-allowed", f"“{network.name[:70]}” cannot be the name of a network. {names.RULE}", "name"
            )
        if network.name not in cards:
            yield network.mistake(
                "network-without-interface", f"No network card uses the network “{network.name}”.", "name"
            )
        kinds = [kind for kind in _NETWORK_TYPES if network.node.get(kind) is not None]
        if len(kinds) != 1:
            yield network.mistake(
                "network-type",
                f"The network “{network.name}” must say once where it leads to: “pod: {{}}” or “multus”.",
            )
        if "pod" in kinds:
            pods.append(network)
        name, default = network.node.get("multus", "networkName"), network.node.get("multus", "default")
        if name is not None and isinstance(name.value, str) and not _is_multus_name(name.value):
            yield Mistake(
                name.line,
                dotted((*network.path, "multus", "networkName")),
                "multus-name",
                "A Multus network is called “name” or “namespace/name”.",
            )
        if default is not None and default.value is True:
            defaults.append(network)
    for network in pods[1:]:
        yield network.mistake("pod-network-twice", "Only one network card can be on the pods' network.")
    for network in defaults[1:] + (defaults[:1] if pods else []):
        yield network.mistake(
            "default-network-twice", "Only one network can be the default, and none when there is a pods' network."
        )


def _is_multus_name(name: str) -> bool:
    return name.count("/") <= 1 and all(SUBDOMAIN.match(part) for part in name.split("/"))
