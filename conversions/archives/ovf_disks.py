"""The disks that an OVF describes: in which file each is, how large, on which bus.  What virt-v2v cannot convert is refused."""

import re
from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from ..problems import Problem
from .ovf_xml import DISK, IDE, SATA, SCSI, Item, attribute, refuse, tag_of, unit_bytes
from .tar import printable

#: rasd:ResourceType of a controller -> what it is
BUSES = {IDE: "ide", SCSI: "scsi", SATA: "sata"}


@dataclass(frozen=True)
class OvfDisk:
    id: str  #: ovf:diskId
    href: str  #: the file's name, URL-decoded
    raw_href: str  #: as it stands in the OVF, which is what virt-v2v 2.2 looks for
    capacity: int | None  #: bytes of the virtual disk
    file_size: int | None  #: bytes of the file, as the OVF says
    compression: str | None  #: "gzip", ...; None: not compressed
    format: str | None  #: the URI of its format
    bus: str | None  #: ide, scsi, sata, nvme


def disks_of(
    root: Element, items: list[Item], files: dict[str, Element], concerns: list[Problem]
) -> tuple[OvfDisk, ...]:
    drives = [item for item in items if item.type == DISK]
    if not drives:
        refuse("ovf-no-disks", "The guest has no disk", "The OVF lists no hard disk, so there is nothing to convert.")
    described = {attribute(e, "diskId") or "": e for e in root.iter() if tag_of(e) == "Disk" and attribute(e, "diskId")}
    controllers = {i.texts.get("InstanceID") or i.texts.get("InstanceId") or "": i for i in items if i.type != DISK}
    disks = tuple(_disk(item, described, files, controllers) for item in drives)
    twice = {disk.href for disk in disks if [d.href for d in disks].count(disk.href) > 1}
    if twice:
        refuse(
            "ovf-file-twice",
            "Two disks share a file",
            f"The OVF gives “{printable(min(twice))}” to more than one disk.",
        )
    if not all(item.texts.get("HostResource", "").removeprefix("ovf:").startswith("/disk/") for item in drives):
        concerns.append(
            Problem(
                "ovf-host-resource",
                "Disks tied to the guest in another way",
                "The OVF ties its disks to the guest in a way of its own, which virt-v2v 2.2 does not read.",
            )
        )
    if any(disk.bus == "nvme" for disk in disks):
        concerns.append(
            Problem(
                "ovf-nvme",
                "NVMe disk",
                "A disk hangs on an NVMe controller, which virt-v2v 2.2 does not know; it warns and goes on.",
            )
        )
    if any(disk.href != disk.raw_href for disk in disks):
        concerns.append(
            Problem(
                "ovf-href-encoded",
                "Encoded file names",
                "The OVF names its disk files in URL style (%20 for a space); "
                "virt-v2v does not decode that and may not find them.",
            )
        )
    return disks


def _disk(
    item: Item, described: dict[str, Element], files: dict[str, Element], controllers: dict[str, Item]
) -> OvfDisk:
    resource = item.texts.get("HostResource", "").removeprefix("ovf:")
    kind, _, key = resource.strip("/").partition("/")
    disk = described.get(key if kind == "disk" else resource)
    if disk is None:  # oVirt: HostResource is folder/file, the Disk refers to that as its fileRef
        disk = next((e for e in described.values() if resource and attribute(e, "fileRef") == resource), None)
    file = files.get(key if kind == "file" else (attribute(disk, "fileRef") or "") if disk is not None else "")
    what = printable(item.texts.get("ElementName") or item.texts.get("Caption") or key or "a disk")
    if disk is not None and attribute(disk, "parentRef"):
        refuse(
            "ovf-parent-disk",
            "A disk builds on another",
            f"“{what}” holds only the changes against another disk (a snapshot); virt-v2v needs whole disks.",
            "Remove the snapshots (or make a full clone) and export again.",
        )
    file, raw, compression = _file(what, file)
    controller = controllers.get(item.texts.get("Parent", ""))
    bus = None
    if controller is not None:
        subtype = controller.texts.get("ResourceSubType", "").lower()
        bus = "nvme" if "nvme" in subtype else BUSES.get(controller.type)
    return OvfDisk(
        id=key or resource,
        href=unquote(raw),
        raw_href=raw,
        capacity=_capacity(disk),
        file_size=int(size) if re.fullmatch(r"\d{1,18}", size := attribute(file, "size") or "") else None,
        compression=None if compression == "identity" else compression,
        format=attribute(disk, "format") if disk is not None else None,
        bus=bus,
    )


def _file(what: str, file: Element | None) -> tuple[Element, str, str]:
    """A disk's file, its name as written, and its compression.  Raises RefusedError for one that virt-v2v cannot read."""
    raw = attribute(file, "href") if file is not None else None
    if file is None or not raw:
        refuse(
            "ovf-disk-without-file",
            "A disk has no file",
            f"The OVF lists “{what}” without a file that holds its content, and virt-v2v cannot make empty disks.",
            "Remove the empty disk from the virtual machine and export again; add a new one after the move.",
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", raw):
        refuse(
            "ovf-remote-file",
            "A disk lies elsewhere",
            f"The OVF refers to a file that is not in it: {printable(raw[:200])}.",
        )
    if attribute(file, "chunkSize"):
        refuse(
            "ovf-chunked",
            "A disk is split into pieces",
            f"“{printable(raw[:200])}” is split into several files, which virt-v2v cannot put together.",
            "Export again without a chunk size.",
        )
    compression = (attribute(file, "compression") or "identity").lower()
    if compression not in ("identity", "gzip"):
        refuse(
            "ovf-compression",
            "Unknown compression",
            f"“{printable(raw[:200])}” is packed with “{printable(compression)}”; virt-v2v knows gzip only.",
        )
    return file, raw, compression


def _capacity(disk: Element | None) -> int | None:
    """Bytes; None too for "${a.property}", which somebody fills in when the appliance is deployed."""
    if disk is None:
        return None
    number = attribute(disk, "capacity") or attribute(disk, "size") or ""  # oVirt: ovf:size in GiB
    if not re.fullmatch(r"\d{1,18}", number):
        return None
    if attribute(disk, "capacity") is None:
        return int(number) << 30
    factor = unit_bytes(attribute(disk, "capacityAllocationUnits"))
    return int(number) * factor if factor and int(number) * factor < 1 << 60 else None
