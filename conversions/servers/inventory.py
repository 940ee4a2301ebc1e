"""What is known of a guest at its source: the record that the table, the concerns and the plan are made from.

`None` means that the source did not say.  Sizes are bytes.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..plan import Disk, Guest, Nic


@dataclass(slots=True)
class DiskRecord:
    file: str = ""  #: "[datastore] folder/name.vmdk", or a path
    datastore: str | None = None
    key: int | None = None  #: vSphere's device key
    capacity: int | None = None
    allocated: int | None = None
    controller: str | None = None  #: scsi, sata, ide, nvme, xen, ...
    mode: str | None = None  #: persistent, independent_persistent, ...
    format: str | None = None
    is_rdm: bool = False
    is_shared: bool = False
    is_encrypted: bool = False
    change_tracking: bool | None = None
    serial: str | None = None
    #: Over SSH, where virt-v2v reads NAME-flat.vmdk and nothing else: flat, delta (of a snapshot), sparse, raw (a LUN),
    #: missing, busy (held open at the host), outside (no place for a guest's disk)
    layout: Literal["flat", "delta", "sparse", "raw", "missing", "busy", "outside"] | None = None


@dataclass(slots=True)
class NicRecord:
    mac: str | None = None
    model: str | None = None  #: vmxnet3, e1000, ...
    network: str | None = None
    is_distributed: bool = False  #: virt-v2v drops these: the plan keeps them from here
    is_passthrough: bool = False  #: SR-IOV
    ips: tuple[str, ...] = ()  #: "10.0.0.5/24", as the guest tools reported them
    static_ips: tuple[str, ...] = ()  #: those of them that somebody has set by hand: not DHCP's, not link-local
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


@dataclass(slots=True)
class FileSystemRecord:
    """A file system inside the guest, as its tools report it."""

    path: str
    capacity: int
    free: int


@dataclass(slots=True)
class GuestRecord:
    id: str  #: vm-12 at vCenter, a number at ESXi, a UUID at Xen
    name: str  #: as the source holds it (vSphere: with %2f)
    uuid: str | None = None  #: what libvirt calls it
    power: Literal["on", "off", "suspended"] | None = None
    is_template: bool = False
    os: str | None = None
    os_id: str | None = None  #: vSphere's guestId: rhel8_64Guest
    hostname: str | None = None
    cpus: int | None = None
    cores_per_socket: int | None = None
    memory: int | None = None
    firmware: Literal["bios", "uefi"] | None = None
    secure_boot: bool | None = None
    tpm: bool = False
    is_encrypted: bool = False
    disks: list[DiskRecord] = field(default_factory=list)
    nics: list[NicRecord] = field(default_factory=list)
    file_systems: list[FileSystemRecord] = field(default_factory=list)
    host: str | None = None
    host_in_maintenance: bool | None = False
    cluster: str | None = None
    folder: str | None = None  #: "/DC/vm/Linux"
    host_path: list[str] = field(default_factory=list)  #: libvirt_uri.vpx's path
    snapshots: int = 0
    tools: str | None = None  #: running, not running, not installed
    change_tracking: bool | None = None
    needs_consolidation: bool | None = False
    hot_add: bool = False
    cpu_affinity: bool = False
    numa_affinity: bool = False
    host_affinity: bool = False
    fault_tolerance: bool = False
    drs: bool = False
    dpm: bool = False
    passthrough: bool = False
    usb: bool = False
    vmx: str | None = None  #: "[datastore] folder/name.vmx"
    unreadable: str | None = None  #: why its description cannot be read; then nothing else of it is known

    @property
    def size(self) -> int:
        return sum(disk.capacity or 0 for disk in self.disks)

    @property
    def datastores(self) -> list[str]:
        return sorted({disk.datastore for disk in self.disks if disk.datastore})

    @property
    def os_family(self) -> Literal["linux", "windows"] | None:
        text = f"{self.os_id or ''} {self.os or ''}".lower()
        if "windows" in text or text.startswith("win"):
            return "windows"
        linux = ("linux", "rhel", "centos", "debian", "ubuntu", "sles", "suse", "fedora", "rocky", "alma", "photon")
        return "linux" if any(word in text for word in linux) else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "GuestRecord":
        return cls(
            **data
            | {
                "disks": [DiskRecord(**disk) for disk in data.get("disks", [])],
                "nics": [_nic(nic) for nic in data.get("nics", [])],
                "file_systems": [FileSystemRecord(**fs) for fs in data.get("file_systems", [])],
            }
        )

    def as_guest(self) -> Guest:
        """The part that goes into a plan: also what virt-v2v drops, such as cards on distributed port groups."""
        return Guest(
            name=self.name,
            id=self.id,
            os=self.os,
            os_family=self.os_family,
            firmware=self.firmware,
            secure_boot=self.secure_boot,
            tpm=self.tpm,
            cpus=self.cpus,
            cores_per_socket=self.cores_per_socket,
            memory=self.memory,
            disks=tuple(
                Disk(
                    name=disk.file,
                    format=disk.format,
                    size=disk.capacity,
                    allocated=disk.allocated,
                    bus=disk.controller,
                )
                for disk in self.disks
            ),
            nics=tuple(
                Nic(
                    mac=nic.mac and nic.mac.lower(),
                    model=nic.model,
                    network=nic.network,
                    ips=nic.ips,
                    static_ips=nic.static_ips,
                    gateways=nic.gateways,
                    dns=nic.dns,
                )
                for nic in self.nics
            ),
        )


def _nic(data: dict[str, Any]) -> NicRecord:
    lists = {name: tuple(data.get(name, ())) for name in ("ips", "static_ips", "gateways", "dns")}
    return NicRecord(**data | lists)
