"""Network cards in the manifest: what virt-v2v wrote about them put right, and what the source or the person said.

virt-v2v 2.2 and 2.4 write none.  Later ones write the source's model and the source's network name, for which a cluster
has no meaning: where a network leads to is for the person to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import names
from ..plan import Nic
from ..problems import Problem, RefusedError
from .reading import Path, named
from .target import MAC, NIC_MODELS, Network
from .work import DOMAIN, SPEC, Step, Work

INTERFACES: Path = (*DOMAIN, "devices", "interfaces")
NETWORKS: Path = (*SPEC, "networks")

_NO_MAC = "00:00:00:00:00:00"
_BRIDGE_MAC = "02:00:00:00:00:00"  #: KubeVirt keeps it for its own bridge in the pod
_LIKELY_WITHOUT_DRIVERS = "e1000"  #: every system since Windows Vista and Linux 2.6 has a driver for it


@dataclass
class Card:
    """A network card and its network as they stand in the manifest, with what the source said about it."""

    interface: dict[str, Any]
    network: dict[str, Any] | None
    nic: Nic | None = None

    @property
    def leads_to(self) -> str | None:
        """The source's name for the network."""
        if self.nic is not None and self.nic.network:
            return self.nic.network
        name = (self.network or {}).get("networkName")
        return name if isinstance(name, str) else None

    @property
    def mac(self) -> str | None:
        mac = self.interface.get("macAddress") or (self.nic.mac if self.nic else None)
        return mac.lower() if isinstance(mac, str) else None


def _cards(work: Work) -> list[Card]:
    """virt-v2v writes interfaces and networks in the same order; names tell only when they are unique."""
    interfaces = [card for card in work.list_at(*INTERFACES) if isinstance(card, dict)]
    networks = [network for network in work.list_at(*NETWORKS) if isinstance(network, dict)]
    by_name = {network.get("name"): network for network in networks}
    in_order = [card.get("name") for card in interfaces] == [network.get("name") for network in networks]
    cards = [
        Card(card, networks[index] if in_order else by_name.get(card.get("name")))
        for index, card in enumerate(interfaces)
    ]
    nics = list(work.plan.guest.nics)
    for card in cards:
        same = [nic for nic in nics if nic.mac and card.mac == nic.mac.lower()]
        if same:
            card.nic = same[0]
            nics.remove(same[0])
    if len(cards) == len(work.plan.guest.nics):
        for card, nic in zip(cards, work.plan.guest.nics, strict=True):
            if card.nic is None and nic in nics and (card.mac is None or nic.mac is None):
                card.nic = nic
                nics.remove(nic)
    return cards


def _rename(work: Work, new_name: Callable[[str, set[str]], str]) -> None:
    """Renames cards and their networks together.  `new_name(name, used)` gives the new name."""
    lists = {at: work.list_at(*at) for at in (INTERFACES, NETWORKS)}
    before = {at: named(members) for at, members in lists.items()}
    used: set[str] = set()
    for card in _cards(work):
        new = new_name(str(card.interface.get("name")), used)
        used.add(new)
        card.interface["name"] = new
        if card.network is not None:
            card.network["name"] = new
    work.note_moves(
        [
            ((*at, old), (*at, new))
            for at, members in lists.items()
            for old, new in zip(before[at], named(members), strict=True)
        ]
    )


def _numbered(name: str, used: set[str]) -> str:
    number, candidate = 1, name
    while candidate in used:
        number += 1
        candidate = f"{name[:58]}-{number}"
    return candidate


def _two_on_one(work: Work) -> None:
    _rename(work, _numbered)


def _label_names(work: Work) -> None:
    _rename(work, lambda name, used: name if names.is_valid(name) else names.suggest(name))


def _left_out(work: Work) -> None:
    """Cards of the source that virt-v2v did not write (2.2 and 2.4 write none), and MAC addresses it did not know."""
    cards = _cards(work)
    known = [card.nic for card in cards if card.nic is not None]
    used = {str(card.interface.get("name")) for card in cards}
    for nic in work.plan.guest.nics:
        if any(nic is other for other in known):
            continue
        name = _numbered(f"net-{names.suggest(nic.network or 'default')}"[:60].rstrip("-"), used)
        used.add(name)
        interface: dict[str, Any] = {"name": name}
        if nic.mac:
            interface["macAddress"] = nic.mac.lower()
        if nic.model:
            interface["model"] = nic.model
        for at, value in ((INTERFACES, interface), (NETWORKS, {"name": name, "networkName": nic.network or "default"})):
            parent = work.mapping(*at[:-1])
            if not isinstance(parent.get(at[-1]), list):
                parent[at[-1]] = []
                work.note(new=at, whole=False)
            parent[at[-1]].append(value)
            work.note(new=(*at, f"[{name}]"))
    for card in cards:
        path = (*INTERFACES, f"[{card.interface.get('name')}]", "macAddress")
        if card.nic is not None and card.nic.mac and not card.interface.get("macAddress"):
            card.interface["macAddress"] = card.nic.mac.lower()
            work.note(new=path)


def _addresses(work: Work) -> None:
    for card in _cards(work):
        mac = card.interface.get("macAddress")
        path = (*INTERFACES, f"[{card.interface.get('name')}]", "macAddress")
        if mac is None:
            continue
        usable = str(mac).lower().replace("-", ":")
        if not MAC.match(usable) or usable in (_NO_MAC, _BRIDGE_MAC):
            del card.interface["macAddress"]
            work.note(path, None)
            work.concern("mac-not-usable", "A MAC address cannot be kept",
                         f"The network card has the address {str(mac)[:40]}, which KubeVirt does not take. It will get another.",
                         "If the guest's network depends on its address, set it up again in the guest.")  # fmt: skip
        elif usable != mac:
            card.interface["macAddress"] = usable
            work.note(path, path)


def _models(work: Work) -> None:
    for card in _cards(work):
        model = card.interface.get("model")
        path = (*INTERFACES, f"[{card.interface.get('name')}]", "model")
        new: str
        if work.target.nic_model is not None:
            new, why = work.target.nic_model, "This model was chosen."
        elif work.has_virtio:
            new, why = "virtio", "virt-v2v found virtio drivers in the guest."
        elif model in NIC_MODELS and model != "virtio":
            continue
        else:
            new, why = _LIKELY_WITHOUT_DRIVERS, "The guest has no virtio drivers; it knows this card without any."
        if model != new:
            card.interface["model"] = new
            work.note(path if model is not None else None, path, why)


def _lead_somewhere(work: Work) -> None:
    """Gives each card its network, or takes both out.  A card without a network is refused by KubeVirt."""
    choices: list[tuple[Card, Network | None]] = []
    nobody_said = not work.target.networks
    for number, card in enumerate(_cards(work)):
        choice = work.target.network(card.leads_to, card.mac)
        if choice is None and nobody_said and number == 0:
            choice = Network(type="pod")
        choices.append((card, choice))
    pods = [card for card, choice in choices if choice is not None and choice.type == "pod"]
    if len(pods) > 1:
        raise RefusedError(
            Problem(
                "pod-network-twice",
                "Two network cards lead to the pods' network",
                f"“{pods[0].leads_to or 'default'}” and “{pods[1].leads_to or 'default'}” both lead to the pods' network, "
                "and KubeVirt allows that for one network card only.",
                "Choose another network for one of them, or leave one out.",
            ),
            field="networks",
        )
    for card, choice in choices:
        if choice is None or choice.type == "ignore":
            _take_out(work, card, asked=choice is not None)
        else:
            _connect(work, card, choice)
    for path in (INTERFACES, NETWORKS):
        if work.get(*path) == []:
            work.drop(path)


def _take_out(work: Work, card: Card, *, asked: bool) -> None:
    label = card.leads_to or "default"
    detail = "It was chosen to be left out." if asked else "No network was chosen for it."
    for value, at in ((card.interface, INTERFACES), (card.network, NETWORKS)):
        members = work.list_at(*at)
        if value is not None:
            index = next(number for number, member in enumerate(members) if member is value)
            work.note((*at, named(members)[index]), None, detail)
            del members[index]
    if not asked:
        work.concern(
            "network-not-chosen",
            "A network card is left out",
            f"Nobody said where the network “{label}” leads to in the cluster, so its network card is left out.",
            "Choose a network for it.",
        )


def _connect(work: Work, card: Card, choice: Network) -> None:
    interface, name = card.interface, str(card.interface.get("name"))
    if card.network is None:
        card.network = {"name": name}
        parent = work.mapping(*NETWORKS[:-1])
        if not isinstance(parent.get(NETWORKS[-1]), list):
            parent[NETWORKS[-1]] = []
            work.note(new=NETWORKS, whole=False)
        parent[NETWORKS[-1]].append(card.network)
        work.note(new=(*NETWORKS, f"[{name}]"))
    at, how = (*INTERFACES, f"[{name}]"), choice.how
    for old in ("bridge", "masquerade", "slirp"):
        if old in interface and (old != how or interface[old] != {}):
            del interface[old]
            work.note((*at, old), None)
    if how not in interface:
        rest = dict(interface)
        interface.clear()
        interface.update({"name": rest.pop("name"), how: {}, **rest})
        work.note(None, (*at, how))
    at = (*NETWORKS, f"[{name}]")
    if "networkName" in card.network:
        del card.network["networkName"]
        work.note((*at, "networkName"), None)
    card.network[choice.type] = {} if choice.type == "pod" else {"networkName": choice.name}
    work.note(None, (*at, choice.type))


def _none_at_all(work: Work) -> None:
    """Without any card KubeVirt adds one on the pods' network by itself: say so, or say that it must not."""
    if work.list_at(*INTERFACES):
        return
    choice = work.target.network(None, None)
    has_none = choice is None and work.plan.source.kind != "disk"  # every other source tells its network cards
    if work.plan.guest.nics or has_none or (choice is not None and choice.type == "ignore"):
        work.set((*DOMAIN, "devices", "autoattachPodInterface"), False)
        if has_none and not work.plan.guest.nics:
            work.concern(
                "no-network-card",
                "The machine has no network card",
                "The guest has no network card at its source, so it gets none.",
                "To give it one, choose a network under “Target” in the next conversion, or add it to the file for KubeVirt.",
            )
        return
    choice = choice or Network(type="pod")
    model = work.target.nic_model or ("virtio" if work.has_virtio else _LIKELY_WITHOUT_DRIVERS)
    network = {"name": "default", choice.type: {} if choice.type == "pod" else {"networkName": choice.name}}
    work.set(INTERFACES, [{"name": "default", choice.how: {}, "model": model}])
    work.set(NETWORKS, [network])


TWO_ON_ONE = Step("two NICs on one network",
                  "KubeVirt ties one card to one network entry, so the second card gets an entry of its own.",
                  _two_on_one)  # fmt: skip
LEFT_OUT = Step("network cards from the source", "The source has this network card; virt-v2v did not write it.",
                _left_out)  # fmt: skip
NAMES = Step("names that are no DNS labels", "Kubernetes takes only small letters, digits and dashes in this name.",
             _label_names)  # fmt: skip
ADDRESSES = Step("MAC addresses that KubeVirt does not take", "A MAC address is six pairs of hexadecimal digits.",
                 _addresses)  # fmt: skip
MODELS = Step("models KubeVirt does not know", "KubeVirt offers its own few models of network cards.", _models)
LEAD = Step("network without a type",
            "KubeVirt wants to know where a network leads to: the pods' network, or one that Multus makes.",
            _lead_somewhere)  # fmt: skip
NONE = Step("no network card", "KubeVirt gives a machine without network cards one on the pods' network, unless told.",
            _none_at_all)  # fmt: skip
