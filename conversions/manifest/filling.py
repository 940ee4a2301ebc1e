"""What virt-v2v leaves out and the source or the person said.  Nothing else is filled in."""

from typing import Any

from .. import names
from ..problems import Problem, RefusedError
from . import disks, networks
from .quantities import quantity, quantity_value
from .repairs import RULES, SHAPE
from .work import DOMAIN, SPEC, Step, Work


def _name(work: Work) -> None:
    work.set(("metadata", "name"), names.suggest(work.plan.name))
    if work.target.namespace is not None:
        work.set(("metadata", "namespace"), work.target.namespace)
    else:
        work.drop(("metadata", "namespace"))
    first = {key: work.vm["metadata"].pop(key) for key in ("name", "namespace") if key in work.vm["metadata"]}
    work.vm["metadata"] = {**first, **work.vm["metadata"]}


def _where_from(work: Work) -> None:
    plan, origin = work.plan, work.origin
    if origin.conversion is not None:
        work.set(("metadata", "labels", "v2vweb/conversion"), origin.conversion)
    told = {
        "source": plan.source.kind,
        "guest": plan.guest.name,
        "guest-id": plan.guest.id,
        "virt-v2v": origin.virt_v2v or work.said.version,
        "version": origin.v2vweb,
    }
    for key, value in told.items():
        if value:
            work.set(("metadata", "annotations", f"v2vweb/{key}"), value[:1000])


def _firmware(work: Work) -> None:
    """Person, then source, then virt-v2v's YAML, then virt-v2v's log."""
    path = (*DOMAIN, "firmware", "bootloader")
    bootloader = work.get(*path)
    theirs = None
    if isinstance(bootloader, dict):
        theirs = "uefi" if "efi" in bootloader else "bios" if "bios" in bootloader else None
    theirs = theirs or work.said.firmware
    source = work.plan.guest.firmware or ("uefi" if work.plan.guest.secure_boot else None)
    wanted = work.target.firmware or source or theirs
    if source and theirs and source != theirs and work.target.firmware is None:
        work.concern(
            "firmware-unsure",
            "The firmware is not certain",
            f"The source says {source.upper()}, virt-v2v says {theirs.upper()}. The source was taken at its word.",
            "If the guest does not start, try the other one.",
        )
    if wanted is None:
        return
    key, other = ("efi", "bios") if wanted == "uefi" else ("bios", "efi")
    if isinstance(bootloader, dict) and key in bootloader and other not in bootloader:
        return
    who = "It was chosen." if work.target.firmware else "The source says so." if source else "virt-v2v's log says so."
    work.set(path, {key: {}}, who)


def _tpm(work: Work) -> None:
    wanted = work.target.tpm if work.target.tpm is not None else work.plan.guest.tpm
    if wanted:
        work.set((*DOMAIN, "devices", "tpm"), {"persistent": True})
        work.concern(
            "tpm-starts-empty",
            "The TPM starts empty",
            "What the old TPM kept cannot be taken along. Windows with BitLocker asks for its recovery key at the first start.",
            "Have the recovery key at hand.",
        )


def _processors(work: Work) -> None:
    guest, path = work.plan.guest, (*DOMAIN, "cpu")
    count = work.target.cpus or guest.cpus
    if work.target.instance_type is not None or count is None:
        return
    now = work.get(*path)
    now = now if isinstance(now, dict) else {}
    per_socket = guest.cores_per_socket if work.target.cpus is None else None
    wanted: dict[str, int] = {"cores": count}
    if per_socket and count % per_socket == 0:
        wanted = {"sockets": count // per_socket, "cores": per_socket}
        if wanted["sockets"] == 1:
            del wanted["sockets"]
    product = 1
    for key in ("sockets", "cores", "threads"):
        value = now.get(key, 1)
        product *= value if isinstance(value, int) else 0
    if product == count and (per_socket is None or now.get("cores", 1) == wanted["cores"]):
        return
    detail = "It was chosen." if work.target.cpus else "The source says so."
    for key in ("sockets", "cores", "threads"):
        if key in wanted:
            work.set((*path, key), wanted[key], detail)
        elif key in now:
            work.drop((*path, key), detail)


def _memory(work: Work) -> None:
    path = (*DOMAIN, "memory", "guest")
    wanted = work.target.memory or work.plan.guest.memory
    if work.target.instance_type is not None:
        return
    if wanted is not None:
        if quantity_value(work.get(*path)) != wanted:
            work.set(path, quantity(wanted), "It was chosen." if work.target.memory else "")
        work.concerns = [concern for concern in work.concerns if concern.code != "memory-looks-wrong"]
    elif work.get(*path) is None:
        raise RefusedError(
            Problem(
                "memory-unknown",
                "The memory is not known",
                "Neither the source nor virt-v2v says how much memory the machine has.",
                "Set the memory by hand.",
            ),
            field="memory",
        )


def _instance_type(work: Work) -> None:
    for key, chosen, kind in (
        ("instancetype", work.target.instance_type, "Instancetype"),
        ("preference", work.target.preference, "Preference"),
    ):
        if chosen is not None:
            cluster = "Cluster" if chosen.cluster else ""
            work.set(("spec", key), {"kind": f"VirtualMachine{cluster}{kind}", "name": chosen.name})
    if work.target.instance_type is None:
        return
    for key in ("sockets", "cores", "threads"):
        work.drop((*DOMAIN, "cpu", key), "The instance type brings its own.")
    if work.get(*DOMAIN, "cpu") == {}:
        work.drop((*DOMAIN, "cpu"))
    work.drop((*DOMAIN, "memory"), "The instance type brings its own.")
    work.drop((*DOMAIN, "resources"), "The instance type brings its own.")


def _machine_type(work: Work) -> None:
    wanted = work.target.machine or "q35"
    if work.target.machine is not None or not isinstance(work.get(*DOMAIN, "machine", "type"), str):
        work.set((*DOMAIN, "machine", "type"), wanted)


FILLINGS: tuple[Step, ...] = (
    Step("name and namespace", "This is the name and the place that were chosen for the machine.", _name),
    Step("where it came from", "So that it can be told later which guest this is and what made it.", _where_from),
    Step("firmware", "A guest starts only with the kind of firmware that it was installed with.", _firmware),
    Step("TPM", "The guest has a TPM at the source.", _tpm),
    Step("processors", "So many processors has the guest.", _processors),
    Step("memory", "So much memory has the guest at the source.", _memory),
    Step("instance type and preference", "This was chosen for the machine.", _instance_type),
    Step("machine type", "KubeVirt's own default, written out so that what was tried is what runs.", _machine_type),
)

DISK_STEPS: tuple[Step, ...] = (disks.LEFT_OUT, disks.BUS, disks.BOOT_ORDER, disks.TO_CLAIMS)
NETWORK_STEPS: tuple[Step, ...] = (
    networks.NAMES,
    networks.TWO_ON_ONE,
    networks.LEFT_OUT,
    networks.ADDRESSES,
    networks.MODELS,
    networks.LEAD,
    networks.NONE,
)

#: All that happens to virt-v2v's file, in order.
STEPS: tuple[Step, ...] = (*SHAPE, *FILLINGS, *DISK_STEPS, *NETWORK_STEPS, *RULES)
#: Those that put right what virt-v2v wrote.
REPAIRS: tuple[Step, ...] = (
    *SHAPE,
    disks.LEFT_OUT,
    disks.TO_CLAIMS,
    networks.TWO_ON_ONE,
    networks.NAMES,
    networks.ADDRESSES,
    networks.MODELS,
    networks.LEAD,
    *RULES,
)


def spec_of(vm: dict[str, Any]) -> dict[str, Any]:
    """The part of a finished VirtualMachine that is about the guest."""
    spec: dict[str, Any] = vm["spec"]["template"]["spec"]
    return spec


__all__ = ["DISK_STEPS", "FILLINGS", "NETWORK_STEPS", "REPAIRS", "SPEC", "STEPS", "spec_of"]
