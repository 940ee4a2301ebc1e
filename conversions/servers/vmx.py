"""A guest's .vmx file and its disks' descriptors, as an ESXi host keeps them: into a guest record.  Pure.

Both are whatever somebody left on a datastore, so sizes and counts have limits, and what is not understood is not guessed.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .inventory import DiskRecord, GuestRecord, NicRecord

LIMIT = 256 * 1024  #: bytes of a .vmx: real ones have some thousand
DESCRIPTOR_LIMIT = 64 * 1024  #: bytes of a disk's descriptor
VOLUMES = "/vmfs/volumes"
_MOST_DISKS, _MOST_CARDS = 256, 64

_LINE = re.compile(r'\s*([A-Za-z0-9_.:-]{1,200})\s*=\s*"(.*)"\s*')
_ESCAPED = re.compile(r"\|([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ENCODING = re.compile(
    r"utf-8|us-ascii|windows-125\d|iso-8859-\d{1,2}|gbk|gb2312|gb18030|big5|shift_jis|euc-(?:jp|kr)", re.I
)
_SLOT = re.compile(r"(scsi|sata|ide|nvme)(\d{1,2}):(\d{1,3})\.filename")
_CARD = re.compile(r"ethernet(\d{1,2})\.present")
#: What stands for no disk of the guest's own: CDs and what is passed through.
_NO_DISK = re.compile(r"cdrom|atapi|passthru")
_EXTENT = re.compile(r'^(?:RW|RDONLY|NOACCESS)[ \t]+(\d{1,15})[ \t]+([A-Z]+)(?:[ \t]+"([^"\n]*)")?', re.M)
_DEFINITION = re.compile(r'^[ \t]*(\w{1,60})[ \t]*=[ \t]*"?([^"\n]*)"?[ \t\r]*$', re.M)
_MODELS = {"vlance": "pcnet32"}
#: VMware's short names of Windows, which mislead: windows9 is 10.
_WINDOWS = {
    "windows7": "Windows 7",
    "windows7srv": "Windows Server 2008 R2",
    "windows8": "Windows 8",
    "windows8srv": "Windows Server 2012",
    "windows9": "Windows 10",
    "windows9srv": "Windows Server 2016",
    "windows11": "Windows 11",
    "windows12": "Windows 12",
    "windows2019srv": "Windows Server 2019",
    "windows2019srvnext": "Windows Server 2022",
    "windows2022srvnext": "Windows Server 2025",
}


def parse(data: bytes) -> dict[str, str]:
    """The entries of a .vmx, keys in small letters.  Raises ValueError with what is wrong, for a sentence's end."""
    found = entries(data)
    if "config.version" not in found and "displayname" not in found:
        raise ValueError("it is no description of a guest")
    return found


def entries(data: bytes) -> dict[str, str]:
    """Of any file in this form, such as the list of snapshots (.vmsd)."""
    if len(data) > LIMIT:
        raise ValueError(f"it is larger than {LIMIT // 1024} KiB")
    if not data.strip():
        raise ValueError("it is empty")
    if b"\0" in data:
        raise ValueError("it is not a text")
    named = re.search(rb'^[ \t]*\.encoding[ \t]*=[ \t]*"([^"\n]{1,40})"', data, re.M | re.I)
    encoding = named[1].decode("ascii", "replace") if named else "utf-8"
    text = data.decode(encoding if _ENCODING.fullmatch(encoding) else "utf-8", "replace")
    return {match[1].lower(): _plain(match[2]) for line in text.split("\n") if (match := _LINE.fullmatch(line))}


def _plain(value: str) -> str:
    """Without VMware's escapes (|22 is a quotation mark) and without what could disturb a terminal or a database."""
    return _CONTROL.sub(" ", _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value))[:4000]


@dataclass(frozen=True)
class Place:
    """Where a .vmx lies: "datastore1/web01/web01.vmx" below /vmfs/volumes, with the datastore's own name."""

    path: str

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.path)

    @property
    def stem(self) -> str:
        return posixpath.basename(self.path).removesuffix(".vmx")

    @property
    def datastore_path(self) -> str:
        return datastore_path(self.path)


def datastore_path(path: str) -> str:
    """As vSphere writes it: "[datastore1] web01/web01.vmx"."""
    datastore, _, rest = path.partition("/")
    return f"[{datastore}] {rest}"


def disk_path(folder: str, name: str, labels: dict[str, str]) -> str | None:
    """Where a disk named in a .vmx lies, below /vmfs/volumes; None when it is nowhere that a guest's disk may be.

    VMware writes a disk of the guest's own folder by its name, any other by its whole path; it never climbs with "..".
    """
    if _CONTROL.search(name) or ".." in name.split("/") or len(name) > 1000:
        return None
    if not name.startswith("/"):
        return f"{folder}/{posixpath.normpath(name)}"
    parts = posixpath.normpath(name).split("/")
    if parts[:3] != ["", "vmfs", "volumes"] or len(parts) < 5:
        return None
    return "/".join([labels.get(parts[3], parts[3]), *parts[4:]])


def disk_names(entries: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """(slot "scsi0:0", controller, file name) of each disk, in the order of the slots."""
    found = []
    for key in entries:
        if (match := _SLOT.fullmatch(key)) is None:
            continue
        slot = key.removesuffix(".filename")
        kind = entries.get(f"{slot}.devicetype", "").lower()
        if _yes(entries, f"{slot}.present") and not _NO_DISK.search(kind) and kind != "disk-image":
            found.append(((match[1], int(match[2]), int(match[3])), slot))
    # SCSI first, as vSphere lists them by their device keys.
    order = {"scsi": 0, "sata": 1, "ide": 2, "nvme": 3}
    for (controller, *_), slot in sorted(found, key=lambda each: (order[each[0][0]], *each[0][1:]))[:_MOST_DISKS]:
        yield slot, controller, entries[f"{slot}.filename"]


@dataclass(frozen=True)
class Descriptor:
    """What a disk's small .vmdk says of it."""

    layout: Literal["flat", "delta", "sparse", "raw"]
    capacity: int | None


def descriptor(data: bytes) -> Descriptor | None:
    """None when it is none."""
    if data.startswith((b"KDMV", b"COWD")):
        return Descriptor("sparse", None)
    text = data.decode("utf-8", "replace")
    if b"\0" in data.rstrip(b"\0") or "# Disk DescriptorFile" not in text[:200]:
        return None
    defined = {match[1].lower(): match[2] for match in _DEFINITION.finditer(text)}
    extents = _EXTENT.findall(text)
    capacity = sane(512 * sum(int(sectors) for sectors, _, _ in extents)) if extents else None
    kind = defined.get("createtype", "").lower()
    if defined.get("parentcid", "ffffffff").lower() != "ffffffff" or defined.get("parentfilenamehint"):
        return Descriptor("delta", capacity)
    if "rawdevice" in kind or any(type == "VMFSRDM" for _, type, _ in extents):
        return Descriptor("raw", capacity)
    # virt-v2v over SSH reads NAME-flat.vmdk, whatever the descriptor says.
    is_flat = len(extents) == 1 and extents[0][1] in ("FLAT", "VMFS") and not extents[0][2].startswith("vsan:")
    return Descriptor("flat" if is_flat else "sparse", capacity)


def sane(size: int) -> int | None:
    """A size in bytes; None when no disk is so large (VMware's limit is 62 TiB)."""
    return size if 0 <= size < 1 << 50 else None


def record_of(id: str, place: Place, entries: dict[str, str], labels: dict[str, str]) -> GuestRecord:
    """All but its power and what only the disks' own files tell (`fill_disk`)."""
    firmware = entries.get("firmware", "").lower()
    return GuestRecord(
        id=id,
        # As vSphere's inventory holds names, so that a guest is called the same over HTTPS and over SSH.
        name=_escaped(entries.get("displayname") or place.stem)[:255],
        uuid=_uuid(entries.get("uuid.bios", "")),
        os=_system(entries),
        os_id=_os_id(entries.get("guestos", "")),
        cpus=_number(entries, "numvcpus") or 1,  # VMware leaves out what is as always
        cores_per_socket=_number(entries, "cpuid.corespersocket"),
        memory=(_number(entries, "memsize") or 0) * 1024 * 1024 or None,
        firmware="uefi" if firmware == "efi" else "bios" if firmware in ("", "bios") else None,
        secure_boot=_yes(entries, "uefi.secureboot.enabled"),
        tpm=_yes(entries, "vtpm.present"),
        is_encrypted="encryption.keysafe" in entries or "encryption.encryptedkey" in entries,
        disks=[_disk(entries, *each, place, labels) for each in disk_names(entries)],
        nics=list(_cards(entries)),
        change_tracking=_yes(entries, "ctkenabled"),
        needs_consolidation=None,
        host_in_maintenance=None,
        folder=f"/{place.folder}",
        hot_add=_yes(entries, "vcpu.hotadd") or _yes(entries, "mem.hotadd"),
        cpu_affinity=entries.get("sched.cpu.affinity", "all").lower() != "all",
        numa_affinity=entries.get("sched.mem.affinity", "all").lower() != "all",
        passthrough=any(_yes(entries, key) for key in entries if re.fullmatch(r"pcipassthru\d+\.present", key)),
        usb=any(_yes(entries, key) for key in ("usb.present", "usb_xhci.present", "ehci.present")),
        vmx=place.datastore_path,
    )


def _disk(
    entries: dict[str, str], slot: str, controller: str, name: str, place: Place, labels: dict[str, str]
) -> DiskRecord:
    path = disk_path(place.folder, name, labels)
    shared_bus = entries.get(f"{slot.partition(':')[0]}.sharedbus", "none").lower() != "none"
    return DiskRecord(
        file=datastore_path(path) if path else name[:400],
        datastore=path.partition("/")[0] if path else None,
        controller=controller,
        mode=entries.get(f"{slot}.mode", "persistent").replace("independent-", "independent_") or None,
        is_shared=shared_bus or entries.get(f"{slot}.sharing", "").lower() == "multi-writer",
        change_tracking=_yes(entries, f"{slot}.ctkenabled"),
        layout=None if path else "outside",
    )


def _cards(entries: dict[str, str]) -> Iterator[NicRecord]:
    numbers = sorted(int(match[1]) for key in entries if (match := _CARD.fullmatch(key)))
    for number in [n for n in numbers if _yes(entries, f"ethernet{n}.present")][:_MOST_CARDS]:
        card = f"ethernet{number}"
        mac = (entries.get(f"{card}.address") or entries.get(f"{card}.generatedaddress") or "").lower()
        model = entries.get(f"{card}.virtualdev", "").lower()
        group = entries.get(f"{card}.dvs.portgroupid")
        yield NicRecord(
            mac=mac if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac) else None,
            model=_MODELS.get(model, model[:20]) or None,
            network=(group or entries.get(f"{card}.networkname") or "")[:255] or None,
            is_distributed=group is not None,
            is_passthrough=model == "sriov",
        )


def _yes(entries: dict[str, str], key: str) -> bool:
    return entries.get(key, "").strip().lower() in ("true", "yes", "1")


def _number(entries: dict[str, str], key: str) -> int | None:
    text = entries.get(key, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else None


def _uuid(text: str) -> str | None:
    """From "56 4d 1c 2a 00 00 00 00-00 00 00 00 00 00 00 01", VMware's own way."""
    digits = re.sub(r"[\s-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        return None
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _os_id(short: str) -> str | None:
    """vSphere's guestId from a .vmx's: debian11-64 is debian11_64Guest."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", short):
        return None
    name = short.replace("-64", "_64").replace("-", "_")
    return f"{'oracleLinux' + name[11:] if name.lower().startswith('oraclelinux') else name}Guest"


def _system(entries: dict[str, str]) -> str | None:
    """As VMware Tools have told it once, or by the kind that was chosen for the guest."""
    for key in ("guestos.detailed.data", "guestinfo.detailed.data"):
        if match := re.search(r"prettyName='([^']{1,120})'", entries.get(key, "")):
            return match[1]
    short = entries.get("guestos", "").lower()
    name = _WINDOWS.get(short.removesuffix("-64"))
    if name:
        return f"Microsoft {name}{' (64-bit)' if short.endswith('-64') else ''}"
    return short[:120] or None


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")
