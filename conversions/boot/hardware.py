"""The hardware that a manifest names, as a Trial.  What QEMU here cannot do as KubeVirt does is noted, never kept quiet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..problems import Problem, RefusedError, size_words
from .bootdir import Card, Disk, Limits, Trial

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "": 1}
#: Network cards of KubeVirt that QEMU before version 8 does not have.
_NEWER_CARDS = {"igb": "e1000e"}


@dataclass(frozen=True)
class File:
    """A converted disk on this server."""

    path: str
    format: str


def trial_of(
    machine: Mapping[str, Any],
    files: Mapping[str, File],
    *,
    os_family: str | None = None,
    accelerator: Literal["kvm", "tcg"] = "tcg",
    limits: Limits | None = None,
) -> Trial:
    """The Trial for a VirtualMachine (plain values).  `files`: the converted disk behind each claim.

    Raises RefusedError when there is no disk to start from.
    """
    spec = machine["spec"]["template"]["spec"]
    domain = spec["domain"]
    devices = domain.get("devices") or {}
    limits = limits or Limits()
    notes: list[str] = []
    disks = _disks(spec, devices, files, notes)
    if not disks:
        raise RefusedError(
            Problem(
                "nothing-to-boot",
                "There is no disk to start from",
                "None of the converted disks is in the manifest, so there is nothing to try.",
                "Put a disk into the manifest.",
            )
        )
    bootloader = (domain.get("firmware") or {}).get("bootloader") or {}
    efi = bootloader.get("efi")
    if devices.get("tpm") is not None:
        notes.append("Tried without a TPM.")
    return Trial(
        name=str(machine["metadata"]["name"]),
        disks=tuple(disks),
        cards=tuple(_cards(devices, notes)),
        machine=_machine(domain, notes),
        firmware="uefi" if efi is not None else "bios",
        secure_boot=efi is not None and efi.get("secureBoot") is not False,
        transitional=devices.get("useVirtioTransitional") is True,
        cpus=_cpus(machine, domain, limits, notes),
        memory=_memory(machine, domain, limits, notes),
        os_family=os_family,
        accelerator=accelerator,
        # Emulated guests are some ten times slower: what waits for somebody there may just be thinking.
        steady=60.0 if accelerator == "kvm" else 120.0,
        limits=limits,
        notes=tuple(notes),
    )


def _disks(
    spec: Mapping[str, Any], devices: Mapping[str, Any], files: Mapping[str, File], notes: list[str]
) -> list[Disk]:
    claims = {}
    for volume in spec.get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or (volume.get("dataVolume") or {}).get(
            "name"
        )
        claims[volume["name"]] = claim
    found = []
    for disk in devices.get("disks") or ():
        file = files.get(claims.get(disk["name"]) or "")
        if file is None:
            notes.append(f"Tried without the disk “{disk['name']}”, which is not one of the converted ones.")
            continue
        kind = disk.get("disk") or disk.get("lun") or disk.get("cdrom") or {}
        # KubeVirt takes SATA when nothing is said.
        found.append(Disk(file.path, file.format, kind.get("bus") or "sata", disk.get("bootOrder")))
    return found


def _cards(devices: Mapping[str, Any], notes: list[str]) -> list[Card]:
    cards = []
    for interface in devices.get("interfaces") or ():
        model = interface.get("model") or "virtio"
        if model in _NEWER_CARDS:
            notes.append(f"Tried with the network card {_NEWER_CARDS[model]} in place of {model}.")
            model = _NEWER_CARDS[model]
        cards.append(Card(model, interface.get("macAddress")))
    return cards


def _machine(domain: Mapping[str, Any], notes: list[str]) -> str:
    """Any version of q35 is tried on this QEMU's own: an older server does not have the newer ones."""
    kind = (domain.get("machine") or {}).get("type") or "q35"
    if kind != "q35":
        notes.append(f"Tried on the machine type q35 in place of {kind}.")
    return "q35"


def _cpus(machine: Mapping[str, Any], domain: Mapping[str, Any], limits: Limits, notes: list[str]) -> int:
    cpu = domain.get("cpu") or {}
    wanted = int(cpu.get("sockets") or 1) * int(cpu.get("cores") or 1) * int(cpu.get("threads") or 1)
    if machine["spec"].get("instancetype"):
        notes.append("The instance type's processors and memory are not known here.")
    if wanted > limits.cpus:
        notes.append(f"Tried with {limits.cpus} processors in place of {wanted}.")
    return min(wanted, limits.cpus)


def _memory(machine: Mapping[str, Any], domain: Mapping[str, Any], limits: Limits, notes: list[str]) -> int:
    text = (domain.get("memory") or {}).get("guest")
    if text is None:
        text = ((domain.get("resources") or {}).get("requests") or {}).get("memory")
    wanted = _bytes(text) if text is not None else 2 << 30
    if wanted > limits.memory:
        notes.append(f"Tried with {size_words(limits.memory)} of memory in place of {size_words(wanted)}.")
    return max(min(wanted, limits.memory), 64 << 20)


def _bytes(text: Any) -> int:
    """Bytes of a checked quantity such as 2Gi; 2 GiB for the rare ways to write one that are not worth reading here."""
    digits = str(text).rstrip("KMGTik")
    unit = str(text)[len(digits) :]
    return int(digits) * _UNITS[unit] if digits.isdigit() and unit in _UNITS else 2 << 30
