"""KubeVirt's and CDI's own OpenAPI documents, which are not part of this project, and cases for the golden files."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conversions.manifest import DiskFile, Said, Target
from conversions.plan import Disk, Guest, Nic, Plan, Source

GIB = 1 << 30
YAML = Path(__file__).parent / "data" / "yaml"


@pytest.fixture(scope="session")
def kubevirt_schemas() -> Path:
    """The folder with kubevirt-openapi.json and cdi-openapi.json, as a cluster with KubeVirt publishes them."""
    named = os.environ.get("V2VWEB_KUBEVIRT_SCHEMAS")
    if not named:
        pytest.skip("V2VWEB_KUBEVIRT_SCHEMAS does not name a folder with KubeVirt's OpenAPI documents")
    folder = Path(named)
    assert (folder / "kubevirt-openapi.json").is_file(), f"{folder} has no kubevirt-openapi.json"
    return folder


@dataclass(frozen=True)
class Case:
    """One golden input with all that is known beside it."""

    plan: Plan
    target: Target = field(default_factory=Target)
    said: Said = field(default_factory=Said)
    disks: tuple[DiskFile, ...] = field(default=())

    @property
    def files(self) -> tuple[DiskFile, ...]:
        letters = "abcdefgh"
        return self.disks or tuple(
            DiskFile(f"{self.plan.name}-sd{letters[number]}", disk.size or 0)
            for number, disk in enumerate(self.plan.guest.disks)
        )


def a_plan(kind: str = "ova", name: str = "web01", **guest: object) -> Plan:
    if kind != "disk":
        guest.setdefault("nics", (Nic(mac="52:54:00:aa:00:01", model="virtio", network="lan"),))
    guest.setdefault("disks", (Disk(name="disk1.vmdk", size=GIB),))
    return Plan(name=name, source=Source(kind=kind), guest=Guest(**guest))


_TWO_NICS = (
    Nic(mac="00:50:56:aa:00:01", model="vmxnet3", network="VM Network"),
    Nic(mac="00:50:56:aa:00:02", model="vmxnet3", network="DMZ/public"),
)

#: name of the file tests/data/yaml/NAME.virt-v2v.yaml -> what is known beside it
CASES: dict[str, Case] = {
    "2.2.0-linux": Case(a_plan("disk", "fedora-test")),
    "2.2.0-no-virtio": Case(a_plan("disk", "win7", os_family="windows"), said=Said(virtio=False)),
    "2.2.0-empty-features": Case(
        a_plan("xen", "xenguest", cpus=2, memory=1 * GIB, nics=(Nic(mac="00:16:3e:01:02:03", network="xenbr0"),)),
        Target(networks={"xenbr0": "vlan10"}),
    ),
    "2.2.0-uefi-in-the-log": Case(a_plan("disk", "uefi"), said=Said(firmware="uefi")),
    "2.2.0-several-disks": Case(
        a_plan(
            name="db01",
            memory=8 * GIB,
            cpus=4,
            cores_per_socket=2,
            disks=(
                Disk(name="system.vmdk", size=40 * GIB, boot_order=2),
                Disk(name="data.vmdk", size=100 * GIB + 512, boot_order=1),
                Disk(name="log.vmdk", size=7 * GIB),
            ),
        ),
        Target.model_validate(
            {"storage": {"storage_class": "ceph-block", "volume_mode": "Block", "access_mode": "ReadWriteMany"}}
        ),
    ),
    "2.4.0-windows-clock": Case(
        a_plan("vcenter", "win2019", os_family="windows", nics=_TWO_NICS, firmware="bios", memory=4 * GIB)
    ),
    "2.5.3-os-firmware": Case(a_plan("vcenter", "mid", firmware="uefi", nics=_TWO_NICS[:1])),
    "2.6.0-several-nics": Case(
        a_plan("vcenter", "gateway", nics=_TWO_NICS, cpus=4, cores_per_socket=2, memory=2 * GIB),
        Target.model_validate(
            {"namespace": "prod", "networks": {"VM Network": "pod", "DMZ/public": "infra/dmz"}, "start": True}
        ),
    ),
    "2.6.0-two-nics-on-one-network": Case(
        a_plan(
            "vcenter",
            "twice",
            nics=(
                Nic(mac="00:50:56:aa:00:01", model="vmxnet3", network="VM Network"),
                Nic(mac="00:50:56:aa:00:02", model="e1000e", network="VM Network"),
            ),
        ),
        Target(networks={"VM Network": "infra/lan"}),
    ),
    "2.8.0-uefi": Case(a_plan("ova", "uefi28", firmware="uefi")),
    "2.8.0-odd-names": Case(
        a_plan("libvirt", "odd", nics=(Nic(mac="52:54:00:00:00:01", model="ne2k_isa", network="Überlandleitung #7"),)),
        Target(networks={"*": "pod:bridge"}),
    ),
    "2.10.0-boot-order": Case(
        a_plan("vcenter", "boot", disks=(Disk(name="a", size=GIB), Disk(name="b", size=2 * GIB)), firmware="bios"),
        Target.model_validate({"instance_type": "u1.medium", "preference": {"name": "rhel.9", "cluster": False}}),
    ),
    "2.10.0-data-volumes": Case(
        a_plan("ova", "dv"), Target.model_validate({"storage": {"object": "DataVolume", "storage_class": "fast"}})
    ),
    "master-secure-boot": Case(
        a_plan(
            "vcenter",
            "win2022",
            os_family="windows",
            firmware="uefi",
            secure_boot=True,
            tpm=True,
            memory=8 * GIB,
            cpus=4,
        )
    ),
    "master-secure-boot-only-in-the-file": Case(a_plan("libvirt", "sb", firmware="uefi")),
    "master-unknown-part": Case(a_plan("ova", "future")),
}
