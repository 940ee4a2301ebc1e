"""What virt-v2v writes and KubeVirt refuses or loses, put right.  Each repair is one small function with one reason.

virt-v2v 2.2 and 2.4 write a VirtualMachineInstance without network cards or firmware, 2.5.2 adds them, 2.5.5 turns it into
a VirtualMachine; up to master none of them is accepted by KubeVirt as it is.
"""

import re
from typing import Any

from .. import names
from ..problems import Problem, RefusedError
from .fields import FEATURES, MACHINE
from .quantities import quantity_value
from .reading import Path, named
from .walking import dotted, nodes, walk
from .work import DOMAIN, SPEC, Step, Work

#: Mappings that old versions write as nothing or as an empty list when there is nothing in them.
_MAPPINGS: tuple[Path, ...] = (
    (*DOMAIN, "devices"),
    (*DOMAIN, "features"),
    (*DOMAIN, "clock"),
    (*DOMAIN, "clock", "utc"),
    (*DOMAIN, "clock", "timer"),
    (*DOMAIN, "clock", "timer", "hyperv"),
    (*DOMAIN, "devices", "rng"),
    (*DOMAIN, "firmware", "bootloader", "bios"),
    (*DOMAIN, "firmware", "bootloader", "efi"),
    (*DOMAIN, "resources", "requests"),
)
_NOTHING: tuple[Any, ...] = (None, [], "")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_TIB_IN_MIB = 1024 * 1024


def _instance_to_machine(work: Work) -> None:
    if work.vm.get("kind") == "VirtualMachineInstance":
        work.set(("kind",), "VirtualMachine")
        instance = work.vm.pop("spec", None)
        work.note(("spec",), SPEC)
        work.note(new=("spec",), whole=False)
        work.note(new=SPEC[:2], whole=False)
        work.vm["spec"] = {"template": {"spec": instance}}
    work.set(("apiVersion",), "kubevirt.io/v1")
    for path in (("metadata",), ("spec",), SPEC, DOMAIN):
        if not isinstance(work.get(*path), dict):
            raise RefusedError(
                Problem(
                    "manifest-not-understood",
                    "virt-v2v's file is not understood",
                    f"Its {dotted(path)} is missing or is not a mapping, so there is no machine in it.",
                    "Look at the log of the conversion, and convert again.",
                    "administrator",
                )
            )
    _ = work.has_virtio


def _out_of_resources(work: Work) -> None:
    resources = work.get(*DOMAIN, "resources")
    for name in list(resources) if isinstance(resources, dict) else ():
        if name in ("cpu", "features", "clock"):
            work.move((*DOMAIN, "resources", name), (*DOMAIN, name))


def _empty_mappings(work: Work) -> None:
    features = work.get(*DOMAIN, "features")
    more = tuple((*DOMAIN, "features", str(name)) for name in features) if isinstance(features, dict) else ()
    for path in _MAPPINGS + more:
        parent = work.get(*path[:-1])
        if isinstance(parent, dict) and path[-1] in parent and parent[path[-1]] in _NOTHING:
            work.set(path, {})
    if work.get(*DOMAIN, "devices") is None:
        work.set((*DOMAIN, "devices"), {})
    for name in ("resources", "cpu"):
        if work.get(*DOMAIN) and work.get(*DOMAIN, name) in (*_NOTHING, {}):
            work.drop((*DOMAIN, name))


def _firmware_under_os(work: Work) -> None:
    firmware = work.get(*DOMAIN, "os", "firmware")
    if firmware in ("bios", "uefi"):
        work.drop((*DOMAIN, "os"))
        work.set((*DOMAIN, "firmware"), {"bootloader": {"efi" if firmware == "uefi" else "bios": {}}})


def _threads(work: Work) -> None:
    work.move((*DOMAIN, "cpu", "thread"), (*DOMAIN, "cpu", "threads"))


def _guest_memory(work: Work) -> None:
    asked = work.get(*DOMAIN, "resources", "requests", "memory")
    if asked is None:
        return
    if quantity_value(asked) == _TIB_IN_MIB * 1024 * 1024:
        work.concern(
            "memory-looks-wrong",
            "The memory may be wrong",
            "virt-v2v says 1 TiB, which is what versions before 2.6 write when an OVA does not tell its memory.",
            "Set the memory by hand.",
        )
    if work.get(*DOMAIN, "memory", "guest") is None:
        work.move((*DOMAIN, "resources", "requests", "memory"), (*DOMAIN, "memory", "guest"))
    else:
        work.drop((*DOMAIN, "resources", "requests", "memory"))
    for path in ((*DOMAIN, "resources", "requests"), (*DOMAIN, "resources")):
        if work.get(*path) == {}:
            work.drop(path)


def _unknown_features(work: Work) -> None:
    features = work.get(*DOMAIN, "features")
    for name in list(features) if isinstance(features, dict) else ():
        if name not in FEATURES["properties"]:
            work.drop((*DOMAIN, "features", name), f"Here it is “{name}”.")


def _grace_period(work: Work) -> None:
    if work.get(*SPEC, "terminationGracePeriodSeconds") in (0, None):
        work.set((*SPEC, "terminationGracePeriodSeconds"), 180)


def _run_strategy(work: Work) -> None:
    if work.get("spec", "running") is not None:
        work.drop(("spec", "running"))
    spec = work.mapping("spec")
    if spec.get("runStrategy") != work.target.strategy:
        # First in spec, where people look for it.
        old = spec.pop("runStrategy", None)
        work.vm["spec"] = {"runStrategy": work.target.strategy, **spec}
        path = ("spec", "runStrategy")
        work.note(path if old is not None else None, path)


def _label_values(work: Work) -> None:
    labels = work.get("metadata", "labels")
    if not isinstance(labels, dict):
        work.drop(("metadata", "labels"))
        return
    for key, value in list(labels.items()):
        text = value if isinstance(value, str) else "" if value is None else str(value)
        fitting = re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:63].strip("-_.")
        if not _LABEL_KEY.match(key) or (text and not fitting):
            work.drop(("metadata", "labels", key))
        elif value != fitting:
            work.set(("metadata", "labels", key), fitting)


def _disk_names(work: Work) -> None:
    """Disks and volumes are one by their name, so both are renamed."""
    disks, volumes = work.list_at(*DOMAIN, "devices", "disks"), work.list_at(*SPEC, "volumes")
    used = {volume.get("name") for volume in volumes if isinstance(volume, dict)}
    for volume, old_volume in zip(volumes, named(volumes), strict=True):
        name = volume.get("name") if isinstance(volume, dict) else None
        if not isinstance(name, str) or names.is_valid(name):
            continue
        new = names.suggest(name)
        while new in used:
            new = f"{new[:60]}-x"
        used.add(new)
        for disk, old_disk in zip(disks, named(disks), strict=True):
            if isinstance(disk, dict) and disk.get("name") == name:
                disk["name"] = new
                work.note((*DOMAIN, "devices", "disks", old_disk), (*DOMAIN, "devices", "disks", f"[{new}]"))
        volume["name"] = new
        work.note((*SPEC, "volumes", old_volume), (*SPEC, "volumes", f"[{new}]"))


def _firmware_rules(work: Work) -> None:
    bootloader = work.get(*DOMAIN, "firmware", "bootloader")
    efi = isinstance(bootloader, dict) and isinstance(bootloader.get("efi"), dict)
    said = work.target.secure_boot if work.target.secure_boot is not None else work.plan.guest.secure_boot
    path = (*DOMAIN, "firmware", "bootloader", "efi", "secureBoot")
    wanted = said if said is not None else work.get(*path) is True
    if wanted and not efi:
        raise RefusedError(
            Problem(
                "secure-boot-needs-uefi",
                "Secure boot needs UEFI firmware",
                "Secure boot is asked for, and the machine starts with BIOS firmware, which has none.",
                "Choose UEFI as firmware, or leave secure boot out.",
            ),
            field="secure_boot",
        )
    if not efi:
        return
    work.set(path, wanted)
    if wanted:
        work.set((*DOMAIN, "features", "smm"), {"enabled": True})


def _not_understood(work: Work) -> None:
    """The last repair: what no version of KubeVirt that we know has a field for is taken out and told, never kept quiet."""
    for fault in list(walk(MACHINE, nodes(work.vm))):
        if fault.what != "unknown":
            continue
        parent: Any = work.vm
        for key in fault.path[:-1]:
            parent = parent[named(parent).index(key)] if isinstance(parent, list) else parent[key]
        parent.pop(fault.path[-1], None)
        work.note(fault.path, None)
        work.concern(
            "part-not-understood",
            "A part of virt-v2v's file was not understood",
            f"virt-v2v wrote “{dotted(fault.path)}”, for which KubeVirt has no field. It was left out of our file.",
            "Compare both files, and put in by hand what is missed.",
        )


SHAPE: tuple[Step, ...] = (
    Step("VirtualMachineInstance to VirtualMachine",
         "An instance is gone for good once it is stopped; a VirtualMachine can be started again.",
         _instance_to_machine),
    Step("cpu, features and clock out of resources",
         "KubeVirt has this field under “domain”; under “resources” it is refused, or lost without a word.",
         _out_of_resources),
    Step("firmware out of os", "KubeVirt has the firmware under “firmware.bootloader”.", _firmware_under_os),
    Step("nothing written as a mapping",
         "KubeVirt wants a mapping here ({} when empty), or nothing at all.", _empty_mappings),
    Step("thread to threads", "KubeVirt calls this field “threads”.", _threads),
    Step("memory as guest memory",
         "“memory.guest” is what the guest sees; “requests” is what the cluster sets aside, and KubeVirt works that out.",
         _guest_memory),
    Step("features KubeVirt does not know", "KubeVirt has no switch for this feature of the processor or machine.",
         _unknown_features),
    Step("labels that Kubernetes refuses", "A label is a short text of letters, digits, dashes, dots and underscores.",
         _label_values),
    Step("disk names that are no DNS labels", "Kubernetes takes only small letters, digits and dashes in this name.",
         _disk_names),
)  # fmt: skip

RULES: tuple[Step, ...] = (
    Step("EFI without secure boot unless the source had it, SMM when it had",
         "KubeVirt turns secure boot on unless told otherwise, and secure boot needs SMM.", _firmware_rules),
    Step("time to shut down",
         "0 seconds pulls the plug at each stop; with 180 the guest can shut down first.", _grace_period),
    Step("a run strategy", "KubeVirt wants to be told whether the machine is to run: Halted until somebody starts it.",
         _run_strategy),
    Step("parts that were not understood", "KubeVirt has no such field, and a file with it is refused.", _not_understood),
)  # fmt: skip
