"""Shows virt-v2v an OVA as it would like it, without copying a disk.  Standard library only: the agent uses it.

virt-v2v 2.2 stumbles over OVAs that are odd but whole: helper files of macOS, "./" before names, two .ovf files, OVF 2.0,
encoded names; and it takes UEFI guests of VirtualBox for BIOS ones.  For those a folder is made with an OVF of our own,
from what ours was able to read, and for each disk a qcow2 that is empty and lies on the disk where it is, in the OVA:
offset, size and format are said, so nothing is probed either.  (Tried with virt-v2v 2.2.0.)
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from ..disks.images import Image
from ..problems import Problem, RefusedError

if TYPE_CHECKING:
    from .ovf import Ovf

OVF_NAME = "guest.ovf"
_NAMESPACES = (
    'xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
    'xmlns:vmw="http://www.vmware.com/schema/ovf"'
)
#: bus -> (rasd:ResourceType, ResourceSubType) of its controller; virt-v2v knows these three
_CONTROLLERS = {"ide": ("5", "PIIX4"), "scsi": ("6", "VirtualSCSI"), "sata": ("20", "AHCI")}
_FIRST_CONTROLLER, _FIRST_DISK = 10, 100


def disk_name(number: int) -> str:
    return f"disk{number}.vmdk"


def describe(ovf: "Ovf", firmware: str | None = None) -> str:
    """An OVF 1.0 of the same guest.  What is not known is left out, so that virt-v2v's own ways apply."""
    disks = list(enumerate(ovf.disks, 1))
    buses = sorted({_bus(disk.bus) for disk in ovf.disks})
    items = []
    if ovf.cpus:
        cores = f"<vmw:CoresPerSocket>{ovf.cores_per_socket}</vmw:CoresPerSocket>" if ovf.cores_per_socket else ""
        items.append(_item(1, "3", VirtualQuantity=ovf.cpus) + cores)
    if ovf.memory:
        items.append(_item(2, "4", AllocationUnits="byte * 2^20", VirtualQuantity=-(-ovf.memory // 2**20)))
    for number, bus in enumerate(buses):
        kind, subtype = _CONTROLLERS[bus]
        items.append(_item(_FIRST_CONTROLLER + number, kind, ResourceSubType=subtype))
    for number, disk in disks:
        parent = _FIRST_CONTROLLER + buses.index(_bus(disk.bus))
        items.append(_item(_FIRST_DISK + number, "17", HostResource=f"ovf:/disk/d{number}", Parent=parent))
    for number, nic in enumerate(ovf.nics, 1):
        said = {"Address": nic.mac, "Connection": nic.network, "ResourceSubType": nic.model}
        items.append(_item(10 * _FIRST_DISK + number, "10", **{key: value for key, value in said.items() if value}))
    firmware = {"uefi": "efi", "bios": "bios"}.get(firmware or ovf.firmware or "")
    config = f'<vmw:Config vmw:key="firmware" vmw:value="{firmware}"/>' if firmware else ""
    files = "".join(f'<File ovf:href="{disk_name(number)}" ovf:id="f{number}"/>' for number, _ in disks)
    described = "".join(
        f'<Disk ovf:diskId="d{number}" ovf:fileRef="f{number}" ovf:capacity="{disk.capacity or 0}" '
        'ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>'
        for number, disk in disks
    )
    name = ovf.name or "guest"
    os = f"<Info/><Description>{escape(ovf.os or '')}</Description>"
    system = f'<OperatingSystemSection ovf:id="1">{os}</OperatingSystemSection>'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Envelope {_NAMESPACES}><References>{files}</References>'
        f"<DiskSection><Info/>{described}</DiskSection><VirtualSystem ovf:id={quoteattr(name)}><Info/>"
        f"<Name>{escape(name)}</Name>{system}<VirtualHardwareSection><Info/>"
        + "".join(f"<Item>{item}</Item>" for item in items)
        + f"{config}</VirtualHardwareSection></VirtualSystem></Envelope>\n"
    )


def _bus(bus: str | None) -> str:
    return bus if bus in _CONTROLLERS else "scsi"


def _item(number: int, kind: str, **texts: object) -> str:
    elements = {"InstanceID": number, "ElementName": f"device {number}", "ResourceType": kind, **texts}
    return "".join(f"<rasd:{name}>{escape(str(value))}</rasd:{name}>" for name, value in elements.items())


def _backing(image: Image) -> str:
    """QEMU's node of a disk where it lies, as the base of a qcow2."""
    file: dict[str, object] = {"driver": "file", "filename": str(image.path)}
    if image.size is not None:  # QEMU wants a multiple of 512; a tar is padded to that
        file = {"driver": "raw", "offset": image.offset, "size": -(-image.size // 512) * 512, "file": file}
    return "json:" + json.dumps({"driver": image.format, "file": file})


def make(folder: Path, ovf_text: str, images: Sequence[Image]) -> None:
    """Makes the folder, or makes it anew; another conversion that reads the old one goes on with that.

    The images must have been vetted: what they refer to is opened.  Raises RefusedError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".view-") as name:
        new = Path(name)
        for number, image in enumerate(images, 1):
            command = [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                image.format,
                "-b",
                _backing(image),
            ]
            done = subprocess.run([*command, str(new / disk_name(number))], capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise RefusedError(
                    Problem(
                        "ova-view",
                        "The OVA cannot be shown to virt-v2v",
                        f"qemu-img did not make a view on “{image.shown}”: {done.stderr.strip()[:300]}",
                        "Pack the OVA again as the warnings say, or tell your administrator.",
                        "administrator",
                    )
                )
        (new / OVF_NAME).write_text(ovf_text, encoding="utf-8")
        keep = {path.name for path in new.iterdir()}
        for path in new.iterdir():
            path.rename(folder / path.name)
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink()
