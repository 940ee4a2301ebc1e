"""The guest's disks in the manifest: entries that virt-v2v left out, claims instead of host paths, buses, boot order."""

from pathlib import PurePosixPath
from typing import Any

from ..problems import Problem, RefusedError
from .claims import claim_names, claims
from .reading import Path
from .work import DOMAIN, SPEC, Step, Work

DISKS: Path = (*DOMAIN, "devices", "disks")
VOLUMES: Path = (*SPEC, "volumes")


def _refused(code: str, title: str, text: str) -> RefusedError:
    return RefusedError(
        Problem(code, title, text, "Convert again; if it happens again, tell the administrator."), status=409
    )


def _check_files(work: Work) -> None:
    """Each entry has its file and each file its entry, or virt-v2v left all entries out."""
    if not work.disks:
        raise _refused("no-disks", "There are no disks", "No converted disk was found beside virt-v2v's file.")
    files = [file.name for file in work.disks]
    listed = []
    for volume in work.list_at(*VOLUMES):
        if _is_host_disk(volume):
            path = volume["hostDisk"].get("path")
            listed.append(PurePosixPath(path).name if isinstance(path, str) else "without a name")
    if not listed:
        return
    if strangers := [name for name in listed if name not in files]:
        raise _refused("entry-without-disk", "A disk is missing",
                       f"virt-v2v's file names the disk {strangers[0][:80]}, and there is no such file.")  # fmt: skip
    if forgotten := [name for name in files if name not in listed]:
        raise _refused("disk-without-entry", "A disk is not in virt-v2v's file",
                       f"The disk {forgotten[0][:80]} was written, and virt-v2v's file says nothing about it.")  # fmt: skip
    if len(set(listed)) != len(listed):
        raise _refused("disk-twice", "A disk is named twice", "virt-v2v's file names the same disk in two places.")


def _is_host_disk(volume: Any) -> bool:
    return isinstance(volume, dict) and isinstance(volume.get("hostDisk"), dict)


def _left_out(work: Work) -> None:
    _check_files(work)
    if any(_is_host_disk(volume) for volume in work.list_at(*VOLUMES)):
        return
    disks, volumes = work.mapping(*DISKS[:-1]), work.mapping(*SPEC)
    disks["disks"], volumes["volumes"] = [], []
    work.note(new=DISKS)
    work.note(new=VOLUMES)
    for index, file in enumerate(work.disks):
        disks["disks"].append({"disk": {"bus": "sata"}, "name": f"disk-{index}"})
        volumes["volumes"].append({"name": f"disk-{index}", "hostDisk": {"path": file.name, "type": "Disk"}})


def _bus(work: Work) -> None:
    if work.target.bus is None:
        return
    for disk in work.list_at(*DISKS):
        if isinstance(disk, dict) and isinstance(disk.get("disk"), dict) and disk["disk"].get("bus") != work.target.bus:
            disk["disk"]["bus"] = work.target.bus
            path = (*DISKS, f"[{disk.get('name')}]", "disk", "bus")
            work.note(path, path)


def _boot_order(work: Work) -> None:
    """Only what the source said.  Disks for which it said nothing come after, in their own order."""
    said = [disk.boot_order for disk in work.plan.guest.disks]
    disks = work.list_at(*DISKS)
    if len(said) != len(disks) or not any(order is not None for order in said):
        return
    index_of = _index_by_name(work)
    ranked = sorted(
        disks, key=lambda disk: _rank(said[index_of.get(disk.get("name"), 0)], index_of.get(disk.get("name"), 0))
    )
    for order, disk in enumerate(ranked, 1):
        if disk.get("bootOrder") != order:
            path = (*DISKS, f"[{disk['name']}]", "bootOrder")
            old = path if "bootOrder" in disk else None
            name = disk.pop("name")
            disk.pop("bootOrder", None)
            disk.update(bootOrder=order, name=name)
            work.note(old, path)


def _rank(order: int | None, index: int) -> tuple[bool, int, int]:
    return order is None, order or 0, index


def _index_by_name(work: Work) -> dict[Any, int]:
    """Which disk of the source an entry is: by its file, whose letters count."""
    files = {file.name: index for index, file in enumerate(work.disks)}
    return {
        volume.get("name"): files[PurePosixPath(volume["hostDisk"]["path"]).name]
        for volume in work.list_at(*VOLUMES)
        if _is_host_disk(volume)
    }


def _to_claims(work: Work) -> None:
    index_of = _index_by_name(work)
    names = claim_names(work.plan.name, work.target.claims, len(work.disks))
    storage = work.target.storage
    for volume in work.list_at(*VOLUMES):
        if not _is_host_disk(volume):
            continue
        name, claim = volume["name"], names[index_of[volume["name"]]]
        volume.clear()
        volume["name"] = name
        if storage.object == "DataVolume":
            volume["dataVolume"] = {"name": claim}
        else:
            volume["persistentVolumeClaim"] = {"claimName": claim}
        path = (*VOLUMES, f"[{name}]")
        work.note((*path, "hostDisk"), (*path, "dataVolume" if "dataVolume" in volume else "persistentVolumeClaim"))
    metadata: dict[str, Any] = {}
    if work.target.namespace is not None:
        metadata["namespace"] = work.target.namespace
    for key in ("labels", "annotations"):
        mine = {name: text for name, text in (work.get("metadata", key) or {}).items() if name.startswith("v2vweb/")}
        if mine:
            metadata[key] = mine
    work.claims = claims(names, work.disks, storage, metadata)


LEFT_OUT = Step(
    "disks that virt-v2v left out",
    "virt-v2v lists only disks for guests with virtio drivers; SATA is what every guest without them can start from.",
    _left_out,
)
BUS = Step("the disks' bus that was chosen", "This is the bus that was chosen for the disks.", _bus)
BOOT_ORDER = Step("disk order and boot order", "The source starts from its disks in this order.", _boot_order)
TO_CLAIMS = Step(
    "hostDisk to a claim",
    "A path on the conversion server is nothing that the cluster can reach; a claim is storage of its own.",
    _to_claims,
)
