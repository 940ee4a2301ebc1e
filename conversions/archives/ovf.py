"""Reads the OVF of an OVA: the guest in XML, as VMware, VirtualBox, oVirt, XenServer and others write it.

Nothing is made up: what the file does not say is None.  Elements are found by their local names, because every program
has namespaces of its own.  What virt-v2v 2.2 would make of it differently is told in `concerns`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ..problems import Problem, RefusedError
from .tar import printable

MAX_OVF = 4 * 1024 * 1024  #: bytes; real ones have some ten thousand
MAX_ITEMS = 1000
MAX_TEXT = 1000

CPU, MEMORY, IDE, SCSI, NIC, DISK, SATA = "3", "4", "5", "6", "10", "17", "20"
#: rasd:ResourceType of a controller -> what it is
BUSES = {IDE: "ide", SCSI: "scsi", SATA: "sata"}

#: ovf:OperatingSystemSection's id: CIM_OperatingSystem.OSType
LINUX_IDS = frozenset(map(str, [36, 79, 80, *range(82, 86), *range(93, 102), *range(106, 110)]))
WINDOWS_IDS = frozenset(map(str, [*range(16, 19), 58, 67, *range(69, 75), 76, 77, 103, 105]))
LINUX_WORDS = re.compile(
    r"linux|debian|ubuntu|rhel|red ?hat|centos|fedora|suse|sles|rocky|oracle|photon|coreos|amazon|mint|kali", re.I
)


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
    root = _parse(data)
    system = _one_system(root)
    hardware = next((e for e in system if _section(e) == "VirtualHardware"), None)
    if hardware is None:
        _refuse("ovf-no-hardware", "The OVF describes no hardware", "It has no VirtualHardwareSection.")
    items = [_Item(e) for e in hardware.iter() if _tag(e) in ("Item", "StorageItem", "EthernetPortItem")]
    if len(items) > MAX_ITEMS:
        _refuse("ovf-too-large", "The OVF is not plausible", f"It lists more than {MAX_ITEMS} pieces of hardware.")
    files = {_attr(e, "id") or "": e for e in root.iter() if _tag(e) == "File"}
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
        disks=_disks(root, items, files, concerns),
        nics=tuple(_nic(item) for item in items if item.type == NIC),
        product=_product(system),
        files=tuple(unquote(href) for e in files.values() if (href := _attr(e, "href"))),
        concerns=tuple(concerns),
    )


# -- XML ---------------------------------------------------------------------------------------------------------------


def _parse(data: bytes) -> Element:
    if len(data) > MAX_OVF:
        _refuse("ovf-too-large", "The OVF is not plausible", f"It is larger than {MAX_OVF // 1024**2} MiB.")
    try:
        root: Element = ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        _refuse(
            "ovf-entities", "The OVF is not safe", "It defines XML entities, which can be used to read other files."
        )
    except (ParseError, ValueError, LookupError) as error:
        reason = printable(str(error))[:200]
        _refuse("ovf-not-xml", "The OVF cannot be read", f"It is not well-formed XML: {reason}.")
    if _tag(root) != "Envelope":
        _refuse(
            "ovf-not-ovf", "The OVF cannot be read", f"It is XML, but of another kind: “{printable(_tag(root)[:80])}”."
        )
    return root


def _refuse(code: str, title: str, text: str, action: str = "Export the virtual machine again.") -> NoReturn:
    raise RefusedError(Problem(code, title, text, action))


def _tag(element: Element) -> str:
    """The local name."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _attr(element: Element, name: str) -> str | None:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value.strip()[:MAX_TEXT]
    return None


def _text(element: Element | None) -> str | None:
    text = printable((element.text or "").strip()[:MAX_TEXT]) if element is not None else ""
    return text or None


def _child(element: Element, name: str) -> Element | None:
    return next((e for e in element if _tag(e) == name), None)


def _section(element: Element) -> str:
    """ "Disk" for a DiskSection, or for a Section of the type DiskSection_Type (OVF 0.9, oVirt)."""
    name = _tag(element)
    if name in ("Section", "Content"):
        name = (_attr(element, "type") or "").rpartition(":")[2].removesuffix("_Type")
    return name.removesuffix("Section")


class _Item:
    """A piece of hardware: its texts by local name."""

    def __init__(self, element: Element) -> None:
        self.texts: dict[str, str] = {}
        for child in element:
            if text := _text(child):
                self.texts.setdefault(_tag(child), text)
        self.type = self.texts.get("ResourceType", "")

    def number(self, name: str) -> int | None:
        text = self.texts.get(name, "")
        return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def _sum(numbers: Iterator[int | None]) -> int | None:
    return sum(n for n in numbers if n) or None


def _factor(units: str | None) -> int | None:
    """Bytes of an allocation unit: "byte * 2^20", "MegaBytes", "GB", ...; None for one that is not understood."""
    text = re.sub(r"\s+", "", (units or "byte").lower())
    if power := re.fullmatch(r"bytes?(?:\*(2|10|1024|1000)\^(\d{1,2}))?", text):
        return int(int(power[1]) ** int(power[2])) if power[1] else 1
    if word := re.fullmatch(r"(k|kilo|m|mega|g|giga|t|tera)i?b(?:ytes?)?", text):
        return int(1024 ** ("kmgt".index(word[1][0]) + 1))
    return None


# -- the guest ---------------------------------------------------------------------------------------------------------


def _one_system(root: Element) -> Element:
    systems = [e for e in root.iter() if _section(e) == "VirtualSystem"]
    if not systems:
        _refuse("ovf-no-guest", "The OVF describes no virtual machine", "It has no VirtualSystem element.")
    if len(systems) > 1 or _child(root, "VirtualSystemCollection") is not None:
        names = ", ".join(f"“{_name(e) or '?'}”" for e in systems[:10])
        _refuse(
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
    return _text(_child(system, "Name")) or _attr(system, "id")


def _os(system: Element) -> tuple[str | None, Literal["linux", "windows"] | None]:
    section = next((e for e in system if _section(e) == "OperatingSystem"), None)
    if section is None:
        return None, None
    kind = _text(_child(section, "OSType"))
    text = _text(_child(section, "Description")) or kind or _attr(section, "osType")
    words = f"{text} {kind} {_attr(section, 'osType')}"
    number = _attr(section, "id")
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
        name = _tag(element)
        if name in ("Config", "ExtraConfig"):
            key, value = _attr(element, "key"), (_attr(element, "value") or "").lower()
            if key == "firmware" and value in ("bios", "efi", "uefi"):
                said = said or value
            elif key in ("bootOptions.efiSecureBootEnabled", "uefi.secureBoot.enabled"):
                secure_boot = value == "true"
        elif name == "Firmware" and (kind := _attr(element, "type")):
            said, by_virtualbox = said or kind.lower(), True
        elif name == "TrustedPlatformModule":
            tpm = (_attr(element, "type") or "none").lower() != "none"
        elif name == "ResourceSubType" and (_text(element) or "").lower() == "vmware.vtpm":
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


def _memory(items: list[_Item], concerns: list[Problem]) -> int | None:
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
    factor = 1 << 20 if units is None else _factor(units)
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
    section = next((e for e in system if _section(e) == "Product"), None)
    if section is None:
        return None
    parts = (_text(_child(section, key)) for key in ("Product", "Version", "FullVersion", "Vendor"))
    return " ".join(dict.fromkeys(part for part in parts if part))[:MAX_TEXT] or None


def _nic(item: _Item) -> OvfNic:
    mac = item.texts.get("Address") or item.texts.get("MACAddress")
    digits = re.sub(r"[^0-9a-f]", "", (mac or "").lower())
    model = item.texts.get("ResourceSubType")
    return OvfNic(
        mac=":".join(digits[i : i + 2] for i in range(0, 12, 2)) if len(digits) == 12 else None,
        model=model.lower() if model and not model.isdigit() else None,  # oVirt has a number of its own there
        network=item.texts.get("Connection"),
    )


# -- disks -------------------------------------------------------------------------------------------------------------


def _disks(
    root: Element, items: list[_Item], files: dict[str, Element], concerns: list[Problem]
) -> tuple[OvfDisk, ...]:
    drives = [item for item in items if item.type == DISK]
    if not drives:
        _refuse("ovf-no-disks", "The guest has no disk", "The OVF lists no hard disk, so there is nothing to convert.")
    described = {_attr(e, "diskId") or "": e for e in root.iter() if _tag(e) == "Disk" and _attr(e, "diskId")}
    controllers = {i.texts.get("InstanceID") or i.texts.get("InstanceId") or "": i for i in items if i.type != DISK}
    disks = tuple(_disk(item, described, files, controllers) for item in drives)
    twice = {disk.href for disk in disks if [d.href for d in disks].count(disk.href) > 1}
    if twice:
        _refuse(
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
    item: _Item, described: dict[str, Element], files: dict[str, Element], controllers: dict[str, _Item]
) -> OvfDisk:
    resource = item.texts.get("HostResource", "").removeprefix("ovf:")
    kind, _, key = resource.strip("/").partition("/")
    disk = described.get(key if kind == "disk" else resource)
    if disk is None:  # oVirt: HostResource is folder/file, the Disk refers to that as its fileRef
        disk = next((e for e in described.values() if resource and _attr(e, "fileRef") == resource), None)
    file = files.get(key if kind == "file" else (_attr(disk, "fileRef") or "") if disk is not None else "")
    what = printable(item.texts.get("ElementName") or item.texts.get("Caption") or key or "a disk")
    if disk is not None and _attr(disk, "parentRef"):
        _refuse(
            "ovf-parent-disk",
            "A disk builds on another",
            f"“{what}” holds only the changes against another disk (a snapshot); virt-v2v needs whole disks.",
            "Remove the snapshots (or make a full clone) and export again.",
        )
    raw = _attr(file, "href") if file is not None else None
    if file is None or not raw:
        _refuse(
            "ovf-disk-without-file",
            "A disk has no file",
            f"The OVF lists “{what}” without a file that holds its content, and virt-v2v cannot make empty disks.",
            "Remove the empty disk from the virtual machine and export again; add a new one after the move.",
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", raw):
        _refuse(
            "ovf-remote-file",
            "A disk lies elsewhere",
            f"The OVF refers to a file that is not in it: {printable(raw[:200])}.",
        )
    if _attr(file, "chunkSize"):
        _refuse(
            "ovf-chunked",
            "A disk is split into pieces",
            f"“{printable(raw[:200])}” is split into several files, which virt-v2v cannot put together.",
            "Export again without a chunk size.",
        )
    compression = (_attr(file, "compression") or "identity").lower()
    if compression not in ("identity", "gzip"):
        _refuse(
            "ovf-compression",
            "Unknown compression",
            f"“{printable(raw[:200])}” is packed with “{printable(compression)}”; virt-v2v knows gzip only.",
        )
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
        file_size=int(size) if re.fullmatch(r"\d{1,18}", size := _attr(file, "size") or "") else None,
        compression=None if compression == "identity" else compression,
        format=_attr(disk, "format") if disk is not None else None,
        bus=bus,
    )


def _capacity(disk: Element | None) -> int | None:
    """Bytes; None too for "${a.property}", which somebody fills in when the appliance is deployed."""
    if disk is None:
        return None
    number = _attr(disk, "capacity") or _attr(disk, "size") or ""  # oVirt: ovf:size in GiB
    if not re.fullmatch(r"\d{1,18}", number):
        return None
    if _attr(disk, "capacity") is None:
        return int(number) << 30
    factor = _factor(_attr(disk, "capacityAllocationUnits"))
    return int(number) * factor if factor and int(number) * factor < 1 << 60 else None
