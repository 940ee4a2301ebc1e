"""What KubeVirt refuses although its schema does not say so, and what v2vweb does not let out of its hands.

After KubeVirt's admission webhooks (pkg/virt-api/webhooks/validating-webhook/admitters, pkg/network/admitter,
pkg/storage/admitters; read in August 2026).  A rule looks at one VirtualMachine and tells each mistake with its line.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator

from .. import names
from . import network_rules
from .machine import Machine, Member, Mistake
from .quantities import quantity_value
from .target import DISK_BUSES
from .walking import dotted
from .work import DOMAIN, SPEC

MOST = 256  #: members of a list of devices (arrayLenMax)
RUN_STRATEGIES = ("Always", "Halted", "Manual", "RerunOnFailure", "Once", "WaitAsReceiver")
_MACHINE = re.compile(r"(pc-)?q35[a-z0-9.-]*\Z")
_BUSES = {"disk": DISK_BUSES, "lun": ("virtio", "sata", "scsi"), "cdrom": ("virtio", "sata", "scsi")}


def _run_strategy(machine: Machine) -> Iterator[Mistake]:
    strategy, running = machine.at("spec", "runStrategy"), machine.at("spec", "running")
    if strategy is None and running is None:
        yield machine.mistake(
            ("spec", "runStrategy"),
            "run-strategy-missing",
            "Say when the machine is to run: add “runStrategy: Halted” (or Always) below “spec”.",
        )
    if strategy is not None and running is not None:
        yield machine.mistake(
            ("spec", "running"),
            "run-strategy-twice",
            "“running” and “runStrategy” exclude each other: remove “running”.",
        )
    if strategy is not None and strategy.value not in RUN_STRATEGIES:
        yield machine.mistake(
            ("spec", "runStrategy"),
            "run-strategy-unknown",
            f"“runStrategy” must be one of {', '.join(RUN_STRATEGIES)}.",
        )


def _duplicates(machine: Machine) -> Iterator[Mistake]:
    for what, members in (
        ("disk", machine.disks),
        ("volume", machine.volumes),
        ("network card", machine.interfaces),
        ("network", machine.networks),
    ):
        seen: set[str] = set()
        for member in members:
            if member.name in seen:
                yield member.mistake("name-twice", f"There is another {what} named “{member.name}”.", "name")
            if member.name is not None:
                seen.add(member.name)
        if len(members) > MOST:
            yield members[MOST].mistake(
                "too-many", f"KubeVirt takes at most {MOST} of these, and there are {len(members)}."
            )


def _disks_and_volumes(machine: Machine) -> Iterator[Mistake]:
    disk_names = {disk.name for disk in machine.disks}
    disk_names |= {member.name for member in machine.members(*DOMAIN, "devices", "filesystems")}
    volume_names = {volume.name for volume in machine.volumes}
    for disk in machine.disks:
        if disk.name not in volume_names:
            yield disk.mistake(
                "disk-without-volume",
                f"The disk “{disk.name}” has no volume: add one of that name below “volumes”.",
                "name",
            )
    for volume in machine.volumes:
        if volume.name not in disk_names and volume.node.get("memoryDump") is None:
            yield volume.mistake(
                "volume-without-disk",
                f"The volume “{volume.name}” has no disk: KubeVirt would attach it in a way of its own.",
                "name",
                asks=True,
            )
        kinds = [key for key in volume.node.value if key != "name"]
        if len(kinds) != 1:
            yield volume.mistake(
                "volume-kind",
                f"The volume “{volume.name}” must say what it is made of exactly once, and does {len(kinds)} times.",
            )
        if volume.name is not None and not names.is_valid(volume.name):
            yield volume.mistake(
                "name-not-allowed", f"“{volume.name[:70]}” cannot be the name of a volume. {names.RULE}", "name"
            )


def _disk_kinds(machine: Machine) -> Iterator[Mistake]:
    for disk in machine.disks:
        kinds = [kind for kind in _BUSES if disk.node.get(kind) is not None]
        if len(kinds) > 1:
            yield disk.mistake("disk-kind", f"“{disk.name}” is {' and '.join(kinds)} at the same time: take one.")
        for kind in kinds:
            bus = disk.node.get(kind, "bus")
            if bus is not None and bus.value not in _BUSES[kind]:
                yield Mistake(
                    bus.line,
                    dotted((*disk.path, kind, "bus")),
                    "bus-unknown",
                    f"The bus must be one of {', '.join(_BUSES[kind])}.",
                )


def _boot_order(machine: Machine) -> Iterator[Mistake]:
    seen: dict[object, str | None] = {}
    for member in (*machine.disks, *machine.interfaces):
        order = member.node.get("bootOrder")
        if order is None or not isinstance(order.value, int):
            continue
        if order.value < 1:
            yield member.mistake("boot-order", "A boot order is 1 or more.", "bootOrder")
        if order.value in seen:
            yield member.mistake(
                "boot-order-twice", f"“{seen[order.value]}” has the boot order {order.value} too.", "bootOrder"
            )
        seen[order.value] = member.name


def _firmware(machine: Machine) -> Iterator[Mistake]:
    path = (*DOMAIN, "firmware", "bootloader")
    efi = machine.at(*path, "efi")
    if efi is None or not isinstance(efi.value, dict):
        return
    if machine.at(*path, "bios") is not None:
        yield machine.mistake((*path, "bios"), "two-firmwares", "The machine has either “bios” or “efi”: remove one.")
    smm = machine.at(*DOMAIN, "features", "smm")
    has_smm = smm is not None and machine.value(*DOMAIN, "features", "smm", "enabled") is not False
    if machine.value(*path, "efi", "secureBoot") is not False and not has_smm:
        yield machine.mistake(
            (*path, "efi"),
            "secure-boot-without-smm",
            "Secure boot is on (it is unless “secureBoot: false” is written) and needs “smm: {enabled: true}” below “features”.",
        )


def _processors_and_memory(machine: Machine) -> Iterator[Mistake]:
    for key in ("cores", "sockets", "threads"):
        count = machine.value(*DOMAIN, "cpu", key)
        if isinstance(count, int) and not 1 <= count <= 1024:
            yield machine.mistake((*DOMAIN, "cpu", key), "cpu-count", f"“{key}” must be from 1 to 1024.")
    guest = quantity_value(machine.value(*DOMAIN, "memory", "guest"))
    asked = quantity_value(machine.value(*DOMAIN, "resources", "requests", "memory"))
    limit = quantity_value(machine.value(*DOMAIN, "resources", "limits", "memory"))
    if machine.at("spec", "instancetype") is None:
        if guest is None and not asked and machine.at(*DOMAIN, "memory", "hugepages") is None:
            yield machine.mistake(
                (*DOMAIN, "memory", "guest"),
                "memory-missing",
                "Say how much memory the machine has: “memory: {guest: 2Gi}” below “domain”.",
            )
    else:
        for path in (
            ("cpu", "cores"),
            ("cpu", "sockets"),
            ("cpu", "threads"),
            ("memory", "guest"),
            ("resources", "requests"),
            ("resources", "limits"),
        ):
            if machine.at(*DOMAIN, *path) is not None:
                yield machine.mistake(
                    (*DOMAIN, *path),
                    "instancetype-conflict",
                    f"The instance type brings its own “{'.'.join(path)}”: remove it.",
                )
    if guest is not None and guest < 1024 * 1024:
        yield machine.mistake(
            (*DOMAIN, "memory", "guest"),
            "memory-too-small",
            "The memory is less than 1 MiB: is a unit missing, as in 2Gi?",
        )
    if limit and ((guest or 0) > limit or (asked or 0) > limit):
        yield machine.mistake(
            (*DOMAIN, "resources", "limits", "memory"),
            "memory-limit",
            "The limit is less than the memory of the machine.",
        )


def _machine_type(machine: Machine) -> Iterator[Mistake]:
    kind = machine.value(*DOMAIN, "machine", "type")
    if isinstance(kind, str) and kind and not _MACHINE.match(kind):
        yield machine.mistake(
            (*DOMAIN, "machine", "type"),
            "machine-type",
            "KubeVirt allows the machine types q35 and pc-q35-…, unless its administrator changed that.",
            asks=True,
        )


def _grace_period(machine: Machine) -> Iterator[Mistake]:
    path = (*SPEC, "terminationGracePeriodSeconds")
    seconds = machine.value(*path)
    if isinstance(seconds, int) and seconds < 0:
        yield machine.mistake(path, "grace-period", "The time to shut down cannot be less than 0 seconds.")


def _what_stays_outside(machine: Machine) -> Iterator[Mistake]:
    """What would reach into the cluster's nodes, or run other programs, under v2vweb's name."""
    for volume in machine.volumes:
        for kind in ("hostDisk", "containerPath"):
            if volume.node.get(kind) is not None:
                yield volume.mistake(
                    "host-path",
                    f"“{kind}” names a path on the cluster's nodes, which v2vweb does not hand out: use a claim.",
                    kind,
                )
    for at in (("metadata",), ("spec", "template", "metadata")):
        notes = machine.at(*at, "annotations")
        for key, node in (notes.value if notes is not None and isinstance(notes.value, dict) else {}).items():
            if key.startswith("hooks.kubevirt.io/"):
                yield Mistake(
                    node.line,
                    dotted((*at, "annotations", key)),
                    "hook",
                    "Hooks run other programs beside the guest, which v2vweb does not hand out.",
                )


def _claimed_twice(machine: Machine) -> Iterator[Mistake]:
    claims = [(volume, claim_of(volume)) for volume in machine.volumes]
    often = Counter(claim for _, claim in claims if claim is not None)
    for volume, claim in claims:
        if claim is not None and often[claim] > 1:
            yield volume.mistake("claim-twice", f"Two volumes use the claim “{claim}”.")
            often[claim] = 0


def claim_of(volume: Member) -> str | None:
    """The claim or DataVolume behind a volume."""
    for path in (("persistentVolumeClaim", "claimName"), ("dataVolume", "name")):
        node = volume.node.get(*path)
        if node is not None and isinstance(node.value, str):
            return node.value
    return None


RULES: tuple[Callable[[Machine], Iterator[Mistake]], ...] = (
    _run_strategy,
    _duplicates,
    _disks_and_volumes,
    _disk_kinds,
    _boot_order,
    network_rules.network_cards,
    network_rules.networks,
    _firmware,
    _processors_and_memory,
    _machine_type,
    _grace_period,
    _what_stays_outside,
    _claimed_twice,
)
