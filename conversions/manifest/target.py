"""What the person chose for the guest's new home.  Part of Plan.output.settings; nothing here is ever guessed.

`None` and an empty map mean "nobody said": then the source decides, or KubeVirt's own default.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from .. import names
from ..problems import Problem, RefusedError

MIB = 1024 * 1024

SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")

NIC_MODELS = ("virtio", "e1000e", "e1000", "igb", "rtl8139", "ne2k_pci", "pcnet")  #: what KubeVirt offers
DISK_BUSES = ("virtio", "sata", "scsi", "usb")
EVERY_OTHER = "*"  #: the key in `networks` for what no other key names


class _Choice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Choice):
    """Where a network of the source leads: to the pods' network, to a Multus network, or nowhere."""

    type: Literal["pod", "multus", "ignore"]
    name: str | None = None  #: of the NetworkAttachmentDefinition: "name" or "namespace/name"
    binding: Literal["masquerade", "bridge"] | None = None  #: masquerade for pod and bridge for multus when not said

    @model_validator(mode="after")
    def fits(self) -> Self:
        if (self.type == "multus") != (self.name is not None):
            raise ValueError("a Multus network needs a name, and only that one has a name")
        if self.name is not None and not all(SUBDOMAIN.match(part) for part in self.name.split("/", 1)):
            raise ValueError("a Multus network is called “name” or “namespace/name”")
        if self.type == "multus" and self.binding == "masquerade":
            raise ValueError("masquerade is for the pods' network only")
        return self

    @property
    def how(self) -> Literal["masquerade", "bridge"]:
        return self.binding or ("masquerade" if self.type == "pod" else "bridge")


def network_from_text(value: Any) -> Any:
    """The short way to write one: "pod", "pod:bridge", "ignore", "namespace/name"."""
    if not isinstance(value, str):
        return value
    if value in ("pod", "ignore"):
        return {"type": value}
    if value in ("pod:bridge", "pod:masquerade"):
        return {"type": "pod", "binding": value.partition(":")[2]}
    return {"type": "multus", "name": value}


class Storage(_Choice):
    """What disks are kept on."""

    storage_class: str | None = None  #: None: the cluster's default
    volume_mode: Literal["Block", "Filesystem"] | None = (
        None  #: None: Filesystem for claims; CDI's choice for DataVolumes
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] | None = None
    object: Literal["PersistentVolumeClaim", "DataVolume"] = "PersistentVolumeClaim"
    #: Part of a file system that its own books take.  0.06 is what CDI takes when nobody set it (CDIConfig).
    filesystem_overhead: float = Field(default=0.06, ge=0, le=0.5)

    @field_validator("storage_class")
    @classmethod
    def is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not SUBDOMAIN.match(value):
            raise ValueError("a storage class has a name of small letters, digits, dashes and dots")
        return value


class Reference(_Choice):
    """An instance type or a preference of KubeVirt."""

    name: str
    cluster: bool = True  #: the cluster's, or one of the guest's own namespace

    @field_validator("name")
    @classmethod
    def is_a_name(cls, value: str) -> str:
        if not SUBDOMAIN.match(value):
            raise ValueError("it has a name of small letters, digits, dashes and dots")
        return value


def _reference(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Target(_Choice):
    """All that a person may say about the virtual machine to be."""

    namespace: str | None = None
    #: by the source's network name or by MAC address (small letters), or "*" for all others
    networks: dict[str, Annotated[Network, BeforeValidator(network_from_text)]] = Field(
        default_factory=dict, max_length=256
    )
    storage: Storage = Storage()
    start: bool = False
    run_strategy: Literal["Halted", "Always", "RerunOnFailure", "Manual"] | None = None  #: None: as `start` says
    cpus: int | None = Field(default=None, ge=1, le=1024)
    memory: int | None = Field(default=None, ge=16 * MIB, le=64 * 1024 * 1024 * MIB)  #: bytes
    instance_type: Annotated[Reference | None, BeforeValidator(_reference)] = None
    preference: Annotated[Reference | None, BeforeValidator(_reference)] = None
    claims: tuple[str, ...] = Field(default=(), max_length=256)  #: names of the claims, in the order of the disks
    firmware: Literal["bios", "uefi"] | None = None
    secure_boot: bool | None = None
    tpm: bool | None = None
    bus: Literal["virtio", "sata", "scsi"] | None = None  #: for every disk
    nic_model: Literal["virtio", "e1000e", "e1000", "rtl8139"] | None = None  #: for every network card
    machine: str | None = Field(default=None, pattern=r"^(pc-)?q35([a-z0-9.-]{0,32})$")

    @field_validator("namespace")
    @classmethod
    def is_a_label(cls, value: str | None) -> str | None:
        if value is not None and not names.is_valid(value):
            raise ValueError("a namespace has a name of small letters, digits and dashes, at most 63")
        return value

    @field_validator("claims")
    @classmethod
    def are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(SUBDOMAIN.match(name) for name in value):
            raise ValueError("a claim has a name of small letters, digits, dashes and dots")
        if len(set(value)) != len(value):
            raise ValueError("two disks cannot have the same claim")
        return value

    @model_validator(mode="after")
    def agrees(self) -> Self:
        if self.instance_type is not None and (self.cpus is not None or self.memory is not None):
            raise ValueError("an instance type brings its own processors and memory: take one or the other")
        if self.secure_boot and self.firmware == "bios":
            raise ValueError("secure boot needs UEFI firmware")
        return self

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "Target":
        """The part of an output's settings that is about the target.  Raises RefusedError naming the field."""
        mine = {key: value for key, value in settings.items() if key in cls.model_fields and value is not None}
        try:
            return cls.model_validate(mine)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "output"
            raise RefusedError(
                Problem(
                    code="target-setting",
                    title="A setting of the target is not possible",
                    text=f"{field}: {first['msg'].removeprefix('Value error, ')}.",
                    action="Change that setting.",
                ),
                field=field,
            ) from error

    @property
    def strategy(self) -> str:
        return self.run_strategy or ("Always" if self.start else "Halted")

    def network(self, name: str | None, mac: str | None) -> Network | None:
        """What was chosen for a network card; None when nobody said."""
        for key in (mac.lower() if mac else None, name, EVERY_OTHER):
            if key is not None and key in self.networks:
                return self.networks[key]
        return None
