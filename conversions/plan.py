"""The plan: one migration, frozen, to and from JSON, without secrets and without a database.

`None` always means "nobody said": nothing is invented for the guest that the source or the person did not state.
Settings of one kind of source or output are that kind's own (see sources/ and outputs/) and are plain JSON here,
so that a new kind is one file and one registry line.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value that does not change and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Disk(Frozen):
    """A disk of the guest as the source describes it."""

    name: str  #: what a person knows it by: a file name, a member of the OVA, a datastore path
    format: str | None = None  #: raw, qcow2, vmdk, vpc, vhdx, vdi: as declared, never guessed later
    size: int | None = None  #: virtual size in bytes
    allocated: int | None = None  #: bytes really used at the source
    bus: str | None = None  #: scsi, sata, ide, virtio, ...
    boot_order: int | None = None


class Nic(Frozen):
    """A network card of the guest as the source describes it."""

    mac: str | None = None  #: lower case with colons
    model: str | None = None  #: as the source names it: vmxnet3, e1000, ...
    network: str | None = None  #: the source's network or bridge
    ips: tuple[str, ...] = ()  #: "10.0.0.5/24", as the guest's tools reported them
    static_ips: tuple[str, ...] = ()  #: those of them that somebody has set by hand
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


class Guest(Frozen):
    """What the source or a look at its files told about the guest."""

    name: str | None = None  #: at the source
    id: str | None = None  #: the source's own id for it
    os: str | None = None  #: for people: "Debian GNU/Linux 12 (bookworm)"
    os_family: Literal["linux", "windows"] | None = None
    firmware: Literal["bios", "uefi"] | None = None
    secure_boot: bool | None = None
    tpm: bool | None = None
    cpus: int | None = None
    cores_per_socket: int | None = None
    memory: int | None = None  #: bytes
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    encrypted: bool | None = None  #: LUKS or BitLocker was seen

    @property
    def virtual_size(self) -> int | None:
        """Bytes of all disks together; None as long as one of them is unknown."""
        sizes = [disk.size for disk in self.disks if disk.size is not None]
        return sum(sizes) if sizes and len(sizes) == len(self.disks) else None


class Source(Frozen):
    kind: str  #: a key of sources.SOURCES
    settings: dict[str, Any] = Field(default_factory=dict)  #: that kind's own Settings


class Output(Frozen):
    kind: str = "files"  #: a key of outputs.OUTPUTS
    settings: dict[str, Any] = Field(default_factory=dict)


class StaticAddress(Frozen):
    """An address that a network card of a Windows guest gets at the first start of the new machine."""

    mac: str  #: lower case with colons
    address: str
    prefix: int
    gateway: str | None = None
    dns: tuple[str, ...] = ()


class Options(Frozen):
    """What virt-v2v is told about the guest, whatever the source."""

    root: str = "first"  #: "first", "single" or a device: virt-v2v would ask on a terminal otherwise
    luks_keys: int = 0  #: how many passphrases there are; the texts are secrets "luks-0", "luks-1", ..., not here
    #: For each passphrase the encrypted devices it is tried on: LUKS UUIDs, or libguestfs names ("/dev/sda2").
    luks_ids: tuple[tuple[str, ...], ...] = ()
    clevis: tuple[str, ...] = ()  #: encrypted devices that Clevis opens over the network: as in luks_ids, or "all"
    addresses: tuple[StaticAddress, ...] = ()  #: for Windows; virt-v2v sets none in Linux guests
    boot_test: bool = False  #: try whether it boots as soon as it is converted


class Plan(Frozen):
    version: Literal[1] = 1
    name: str  #: of the guest to be: RFC 1123, see names.py
    source: Source
    guest: Guest = Guest()
    options: Options = Options()
    output: Output = Output()
