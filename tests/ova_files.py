"""Makes OVAs, good, odd and bad, for the tests."""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ENVELOPE = (
    '<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
    'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
    'xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
)
CPU_ITEM = (
    "<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>"
    "<rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>"
)
SCSI_ITEM = (
    "<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>"
    "<rasd:ResourceType>6</rasd:ResourceType></Item>"
)
NIC_ITEM = (
    "<Item><rasd:Address>00:50:56:AA:BB:CC</rasd:Address><rasd:Connection>VM Network</rasd:Connection>"
    "<rasd:InstanceID>9</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>"
    "<rasd:ResourceType>10</rasd:ResourceType></Item>"
)
BIOS = '<vmw:Config vmw:key="firmware" vmw:value="bios"/>'


def memory_item(quantity: object = 2048, units: str | None = "byte * 2^20") -> str:
    unit = f"<rasd:AllocationUnits>{units}</rasd:AllocationUnits>" if units is not None else ""
    return (
        f"<Item>{unit}<rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>"
        f"<rasd:VirtualQuantity>{quantity}</rasd:VirtualQuantity></Item>"
    )


def disk_item(number: int, resource: str | None = None, parent: str = "3") -> str:
    return (
        f"<Item><rasd:AddressOnParent>{number}</rasd:AddressOnParent><rasd:ElementName>Hard disk {number}</rasd:ElementName>"
        f"<rasd:HostResource>{resource or f'ovf:/disk/vmdisk{number}'}</rasd:HostResource>"
        f"<rasd:InstanceID>{10 + number}</rasd:InstanceID><rasd:Parent>{parent}</rasd:Parent>"
        f"<rasd:ResourceType>17</rasd:ResourceType></Item>"
    )


def make_ovf(
    *,
    disks: Mapping[str, int] | Iterable[str] = ("disk1.vmdk",),
    capacity: object = 1,
    units: str = "byte * 2^30",
    file_attrs: str = "",
    disk_attrs: str = "",
    files: str | None = None,
    disk_section: str | None = None,
    name: str = "web01",
    os: str = '<OperatingSystemSection ovf:id="96" vmw:osType="debian10_64Guest"><Description>Debian GNU/Linux 12</Description>'
    "</OperatingSystemSection>",
    memory: str = memory_item(),
    config: str = BIOS,
    items: str | None = None,
    extra_items: str = NIC_ITEM,
    systems: str | None = None,
    envelope: str = ENVELOPE,
    extra: str = "",
) -> bytes:
    """An OVF as VMware writes it; each part can be another."""
    sizes = disks if isinstance(disks, Mapping) else dict.fromkeys(disks, 0)
    numbered = list(enumerate(sizes.items(), 1))
    if files is None:
        files = "".join(
            f'<File ovf:href="{href}" ovf:id="file{n}"{f" ovf:size={chr(34)}{size}{chr(34)}" if size else ""} {file_attrs}/>'
            for n, (href, size) in numbered
        )
    if disk_section is None:
        disk_section = "".join(
            f'<Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="{units}" ovf:diskId="vmdisk{n}" '
            f'ovf:fileRef="file{n}" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" '
            f"{disk_attrs}/>"
            for n, _ in numbered
        )
    if items is None:
        items = CPU_ITEM + memory + SCSI_ITEM + "".join(disk_item(n) for n, _ in numbered) + extra_items
    if systems is None:
        systems = (
            f'<VirtualSystem ovf:id="{name}"><Info/><Name>{name}</Name>{os}'
            f"<VirtualHardwareSection><Info/>{items}{config}</VirtualHardwareSection>{extra}</VirtualSystem>"
        )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{envelope}<References>{files}</References>'
        f"<DiskSection><Info/>{disk_section}</DiskSection>{systems}</Envelope>"
    ).encode()


def manifest(members: Mapping[str, bytes], algorithm: str = "sha256", line: str = "{alg}({name})= {hex}\n") -> bytes:
    return "".join(
        line.format(alg=algorithm.upper(), name=name, hex=hashlib.new(algorithm, data).hexdigest())
        for name, data in members.items()
    ).encode()


def make_tar(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


DISK = b"KDMV" + bytes(range(256)) * 40


def good_members(**ovf: object) -> dict[str, bytes]:
    described = make_ovf(**ovf)  # type: ignore[arg-type]
    return {
        "web01.ovf": described,
        "web01.mf": manifest({"web01.ovf": described, "disk1.vmdk": DISK}),
        "disk1.vmdk": DISK,
    }


def header(name: str, size: int | bytes = 0, kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    """One tar header with a right checksum, whatever nonsense it says."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(512)
    block[0:100] = name.encode()[:100].ljust(100, b"\0")
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = field.ljust(12, b"\0")[:12]
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = magic
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)


def write(folder: Path, data: bytes, name: str = "test.ova") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
