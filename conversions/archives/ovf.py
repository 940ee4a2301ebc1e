"""Reads the OVF of an OVA: the guest in XML, as VMware, VirtualBox, oVirt, XenServer and others write it.

Nothing is made up: what the file does not say is None.  What virt-v2v 2.2 would make of it differently is told in `concerns`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from ..problems import Problem
from .ovf_disks import OvfDisk, disks_of
from .ovf_xml import (
    CPU,
    MAX_TEXT,
    MEMORY,
    NIC,
    Item,
    attribute,
    child_of,
    envelope,
    refuse,
    section_of,
    tag_of,
    text_of,
    unit_bytes,
)

MAX_ITEMS = 1000

#: ovf:OperatingSystemSection's id: CIM_OperatingSystem.OSType
LINUX_IDS = frozenset(map(str, [36, 79, 80, *range(82, 86), *range(93, 102), *range(106, 110)]))
WINDOWS_IDS = frozenset(map(str, [*range(16, 19), 58, 67, *range(69, 75), 76, 77, 103, 105]))
LINUX_WORDS = re.compile(
    r"linux|debian|ubuntu|rhel|red ?hat|centos|fedora|suse|sles|rocky|oracle|photon|coreos|amazon|mint|kali", re.I
)


@dataclass(frozen=True)
class OvfNic:
    mac: str | None  #: lower case with colons
    model: str | None  #: vmxnet3, e1000, ... in lower case
    network: str | None


@dataclass(frozen=True)
class Ovf:
    version: str | None  #: of the OVF standard, by its namespace: "0.9", "1.0", "2.0"
    name: str | None
    os: str | None  #: for people
    os_family: Literal["linux", "windows"] | None
    firmware: Literal["bios", "uefi"] | None  #: None: the file does not say
    secure_boot: bool | None
    tpm: bool | None
    memory: int | None  #: bytes
    cpus: int | None
    cores_per_socket: int | None
    disks: tuple[OvfDisk, ...]  #: in the order in which the guest, and virt-v2v, has them
    nics: tuple[OvfNic, ...]
    product: str | None  #: which program or vendor made the appliance
    files: tuple[str, ...]  #: every file that the OVF refers to, URL-decoded
    concerns: tuple[Problem, ...]


def read_ovf(data: bytes) -> Ovf:
    """Reads an OVF.  Raises RefusedError when it is none, or describes what virt-v2v cannot convert."""
    root = envelope(data)
    system = _one_system(root)
    hardware = next((e for e in system if section_of(e) == "VirtualHardware"), None)
    if hardware is None:
        refuse("ovf-no-hardware", "The OVF describes no hardware", "It has no VirtualHardwareSection.")
    items = [Item(e) for e in hardware.iter() if tag_of(e) in ("Item", "StorageItem", "EthernetPortItem")]
    if len(items) > MAX_ITEMS:
        refuse("ovf-too-large", "The OVF is not plausible", f"It lists more than {MAX_ITEMS} pieces of hardware.")
    files = {attribute(e, "id") or "": e for e in root.iter() if tag_of(e) == "File"}
    concerns: list[Problem] = []
    version = _version(root, concerns)
    os_text, os_family = _os(system)
    firmware, secure_boot, tpm = _firmware(system, concerns)
    return Ovf(
        version=version,
        name=_name(system),
        os=os_text,
        os_family=os_family,
        firmware=firmware,
        secure_boot=secure_boot,
        tpm=tpm,
        memory=_memory(items, concerns),
        cpus=_sum(item.number("VirtualQuantity") for item in items if item.type == CPU),
        cores_per_socket=next((n for i in items if i.type == CPU and (n := i.number("CoresPerSocket"))), None),
        disks=disks_of(root, items, files, concerns),
        nics=tuple(_nic(item) for item in items if item.type == NIC),
        product=_product(system),
        files=tuple(unquote(href) for e in files.values() if (href := attribute(e, "href"))),
        concerns=tuple(concerns),
    )


def _sum(numbers: Iterator[int | None]) -> int | None:
    return sum(n for n in numbers if n) or None


def _one_system(root: Element) -> Element:
    systems = [e for e in root.iter() if section_of(e) == "VirtualSystem"]
    if not systems:
        refuse("ovf-no-guest", "The OVF describes no virtual machine", "It has no VirtualSystem element.")
    if len(systems) > 1 or child_of(root, "VirtualSystemCollection") is not None:
        names = ", ".join(f"“{_name(e) or '?'}”" for e in systems[:10])
        refuse(
            "ovf-several-guests",
            "The OVA is a vApp",
            f"It describes a collection of virtual machines ({names}); virt-v2v converts one at a time.",
            "Export each of its virtual machines as an OVA of its own.",
        )
    return systems[0]


def _version(root: Element, concerns: list[Problem]) -> str | None:
    namespace = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else ""
    match namespace.rstrip("/"):
        case "http://schemas.dmtf.org/ovf/envelope/1":
            return "1.0"
        case "http://schemas.dmtf.org/ovf/envelope/2":
            version = "2.0"
        case "http://www.vmware.com/schema/ovf/1/envelope" | "http://schemas.dmtf.org/ovf/1/envelope":
            version = "0.9"
        case _:
            version = ""
    concerns.append(
        Problem(
            "ovf-version",
            "Another version of OVF",
            f"The OVF is of version {version or 'unknown'}; virt-v2v reads version 1 and may find no disks in this one.",
            "In VirtualBox choose the format “OVF 1.0” when exporting.",
        )
    )
    return version or None


def _name(system: Element) -> str | None:
    return text_of(child_of(system, "Name")) or attribute(system, "id")


def _os(system: Element) -> tuple[str | None, Literal["linux", "windows"] | None]:
    section = next((e for e in system if section_of(e) == "OperatingSystem"), None)
    if section is None:
        return None, None
    kind = text_of(child_of(section, "OSType"))
    text = text_of(child_of(section, "Description")) or kind or attribute(section, "osType")
    words = f"{text} {kind} {attribute(section, 'osType')}"
    number = attribute(section, "id")
    if re.search(r"windows|\bwin(dows)?\d", words, re.I) or number in WINDOWS_IDS:
        return text, "windows"
    if LINUX_WORDS.search(words) or number in LINUX_IDS:
        return text, "linux"
    return text, None


def _firmware(
    system: Element, concerns: list[Problem]
) -> tuple[Literal["bios", "uefi"] | None, bool | None, bool | None]:
    """VMware: <vmw:Config key="firmware" value="efi">; VirtualBox: <Firmware type="EFI"> in its Machine element."""
    said: str | None = None
    by_virtualbox = False
    secure_boot: bool | None = None
    tpm: bool | None = None
    for element in system.iter():
        name = tag_of(element)
        if name in ("Config", "ExtraConfig"):
            key, value = attribute(element, "key"), (attribute(element, "value") or "").lower()
            if key == "firmware" and value in ("bios", "efi", "uefi"):
                said = said or value
            elif key in ("bootOptions.efiSecureBootEnabled", "uefi.secureBoot.enabled"):
                secure_boot = value == "true"
        elif name == "Firmware" and (kind := attribute(element, "type")):
            said, by_virtualbox = said or kind.lower(), True
        elif name == "TrustedPlatformModule":
            tpm = (attribute(element, "type") or "none").lower() != "none"
        elif name == "ResourceSubType" and (text_of(element) or "").lower() == "vmware.vtpm":
            tpm = True
    firmware: Literal["bios", "uefi"] | None = None
    if said:
        firmware = "uefi" if "efi" in said else "bios"
    if firmware is None or (firmware == "uefi" and by_virtualbox):
        concerns.append(
            Problem(
                "ovf-firmware-missing" if firmware is None else "ovf-firmware-virtualbox",
                "Firmware is not told",
                "The OVA does not say whether the guest starts with BIOS or UEFI; virt-v2v then takes BIOS."
                if firmware is None
                else "The guest starts with UEFI, but the OVA says so in VirtualBox’s own way, which "
                "virt-v2v does not read: it takes BIOS.",
                "Look at the source machine’s settings and choose the firmware; "
                "a guest started with the wrong one finds no disk.",
            )
        )
    return firmware, secure_boot, tpm


def _memory(items: list[Item], concerns: list[Problem]) -> int | None:
    item = next((i for i in items if i.type == MEMORY), None)
    quantity = item.number("VirtualQuantity") if item else None
    if item is None or not quantity:
        concerns.append(
            Problem(
                "ovf-memory-missing",
                "Memory is not told",
                "The OVA does not say how much memory the guest has; virt-v2v would write 1 TiB.",
                "Say how much memory the guest shall have.",
            )
        )
        return None
    units = item.texts.get("AllocationUnits")
    # Without units the standard says bytes; every program that leaves them out means MiB, as virt-v2v does.
    factor = 1 << 20 if units is None else unit_bytes(units)
    if factor is None or factor != 1 << 20:
        meant = "cannot be understood" if factor is None else f"comes to {quantity * factor / 2**20:,.0f} MiB"
        concerns.append(
            Problem(
                "ovf-memory-units",
                "Memory in unusual units",
                f"The OVA gives the memory as {quantity} × “{units}”, which {meant}; virt-v2v reads the number as MiB.",
                "Compare the memory on the review page with the source machine’s.",
            )
        )
    return quantity * factor if factor and quantity * factor < 1 << 60 else None


def _product(system: Element) -> str | None:
    section = next((e for e in system if section_of(e) == "Product"), None)
    if section is None:
        return None
    parts = (text_of(child_of(section, key)) for key in ("Product", "Version", "FullVersion", "Vendor"))
    return " ".join(dict.fromkeys(part for part in parts if part))[:MAX_TEXT] or None


def _nic(item: Item) -> OvfNic:
    mac = item.texts.get("Address") or item.texts.get("MACAddress")
    digits = re.sub(r"[^0-9a-f]", "", (mac or "").lower())
    model = item.texts.get("ResourceSubType")
    return OvfNic(
        mac=":".join(digits[i : i + 2] for i in range(0, 12, 2)) if len(digits) == 12 else None,
        model=model.lower() if model and not model.isdigit() else None,  # oVirt has a number of its own there
        network=item.texts.get("Connection"),
    )
