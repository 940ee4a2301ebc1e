"""The exact commands for vCenter, ESXi and Xen, against golden files, and what is refused before there is one."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from conversions.models import InventoryGuest, SavedSource
from conversions.plan import Guest, Plan, Source
from conversions.problems import RefusedError
from conversions.servers.inventory import DiskRecord, GuestRecord, NicRecord
from conversions.sources.esxi import EsxiSource
from conversions.sources.remote import RemoteSource
from conversions.sources.vcenter import VcenterSource
from conversions.sources.xen import XenSource
from tests.fixtures_vsphere import save_vcenter

GOLDEN = Path(__file__).parent / "data" / "commands"
SHA1 = ":".join(["AB"] * 20)

KINDS: dict[str, RemoteSource] = {"vcenter": VcenterSource(), "esxi": EsxiSource(), "xen": XenSource()}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "source_id": 1,
        "source_name": "Lab",
        "host": "vcenter.lab",
        "port": 443,
        "user": "administrator@vsphere.local",
        "transport": "https",
        "verify": False,
        "pin_sha256": "CD",
        "pin_sha1": SHA1,
        "libdir": "/opt/vmware-vix-disklib-distrib",
        "guest_id": "vm-12",
        "guest_name": "web01",
        "uuid": "265104de-1472-547c-b873-6dc7883fb6cb",
        "by_uuid": False,
        "host_path": ["Prod DC", "Cluster A", "esx1.lab"],
        "vmx": "[data store] web 01/web 01.vmx",
    } | changes


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vcenter-https": ("vcenter", {}),
    "vcenter-https-verified": ("vcenter", {"verify": True}),
    "vcenter-vddk": ("vcenter", {"transport": "vddk"}),
    "vcenter-by-uuid": ("vcenter", {"by_uuid": True}),
    "vcenter-odd-guest-name": ("vcenter", {"guest_name": "dörte%2f50%25 #1"}),
    "vcenter-name-like-an-option": ("vcenter", {"guest_name": "--root"}),
    "esxi-https": ("esxi", {"host": "esx1.lab", "user": "root"}),
    "esxi-vddk": ("esxi", {"host": "esx1.lab", "user": "root", "transport": "vddk"}),
    "esxi-ssh": ("esxi", {"host": "esx1.lab", "user": "root", "transport": "ssh"}),
    "xen": ("xen", {"host": "xen1.lab", "port": 22, "user": "root", "transport": "ssh"}),
    "xen-port": ("xen", {"host": "xen1.lab", "port": 2222, "user": "root", "transport": "ssh"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_command_is_what_the_manual_says(case: str, golden: Any) -> None:
    kind, changes = CASES[case]
    plan = Plan(name="web01", source=Source(kind=kind, settings=settings(**changes)), guest=Guest())
    source = KINDS[kind]
    args = ["virt-v2v", *source.input_args(plan, Path("/job/secrets")), "--", *source.guest_args(plan)]
    golden(GOLDEN / f"source-{case}.txt", shlex.join(args) + "\n")


def test_only_an_unverified_connection_is_checked_by_its_pin() -> None:
    plan = Plan(name="w", source=Source(kind="vcenter", settings=settings()))
    assert VcenterSource().pins(plan) == [{"host": "vcenter.lab", "port": 443, "sha256": "CD"}]
    verified = Plan(name="w", source=Source(kind="vcenter", settings=settings(verify=True)))
    assert VcenterSource().pins(verified) == []


# --- look() ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(alice: Any) -> SavedSource:
    saved: SavedSource = save_vcenter(alice, secrets={"password": "pw-of-anna"}, pin_sha256="CD", pin_sha1=SHA1)
    return saved


def add(saved: SavedSource, id: str, name: str, **changes: Any) -> InventoryGuest:
    record = GuestRecord(
        id=id,
        name=name,
        uuid=f"uuid-of-{id}",
        power="off",
        os_id="debian11_64Guest",
        firmware="uefi",
        disks=[DiskRecord(f"[ds] {name}/{name}.vmdk", "ds", 2000, 1 << 30, controller="scsi")],
        nics=[NicRecord("00:50:56:00:00:01", "vmxnet3", "dvs-prod", is_distributed=True)],
        host="esx1",
        host_path=["DC", "esx1"],
    )
    for key, value in changes.items():
        setattr(record, key, value)
    return InventoryGuest.objects.create(source=saved, guest_id=id, name=name, record=record.as_dict())


def look(saved: SavedSource, guest: str) -> Any:
    return VcenterSource().look({"source_id": saved.pk, "guest": guest})


def test_it_freezes_what_the_inventory_knows_and_no_secret(saved: SavedSource) -> None:
    add(saved, "vm-1", "web01")
    found = look(saved, "web01")
    assert found.guest.nics[0].network == "dvs-prod" and found.guest.firmware == "uefi"
    assert found.facts["settings"]["host_path"] == ["DC", "esx1"]
    assert "pw-of-anna" not in repr(found)


def test_a_guest_is_found_by_its_id_too(saved: SavedSource) -> None:
    add(saved, "vm-1", "web01")
    assert look(saved, "vm-1").guest.name == "web01"


@pytest.mark.parametrize(("name", "by_uuid"), [("web01", False), ("web 01", True), ("wéb", True)])
def test_an_odd_name_is_replaced_by_the_uuid(saved: SavedSource, name: str, by_uuid: bool) -> None:
    add(saved, "vm-1", name)
    assert look(saved, "vm-1").facts["settings"]["by_uuid"] is by_uuid


def test_two_guests_of_one_name_are_told_apart_by_id_and_uuid(saved: SavedSource) -> None:
    add(saved, "vm-1", "web01")
    add(saved, "vm-2", "web01")
    with pytest.raises(RefusedError) as caught:
        look(saved, "web01")
    assert caught.value.problem.code == "guest-not-unique"
    assert look(saved, "vm-2").facts["settings"]["by_uuid"] is True


def test_a_guest_that_is_gone_is_refused_with_what_to_do(saved: SavedSource) -> None:
    with pytest.raises(RefusedError) as caught:
        look(saved, "nosuch")
    assert caught.value.problem.code == "guest-unknown" and "Refresh" in caught.value.problem.action


def test_a_critical_concern_blocks_and_says_why(saved: SavedSource) -> None:
    add(saved, "vm-1", "web01", power="on")
    with pytest.raises(RefusedError) as caught:
        look(saved, "web01")
    assert caught.value.problem.code == "vmware.vm.powered_on" and caught.value.status == 409


def test_a_warning_is_passed_on(saved: SavedSource) -> None:
    add(saved, "vm-1", "web01", tpm=True)
    assert "vmware.tpm.detected" in {problem.code for problem in look(saved, "web01").concerns}


def test_a_source_whose_certificate_changed_stops_everything(saved: SavedSource) -> None:
    add(saved, "vm-1", "web01")
    saved.blocked = {
        "code": "certificate-changed",
        "title": "Changed",
        "text": "It changed.",
        "action": "",
        "whose": "you",
    }
    saved.save()
    with pytest.raises(RefusedError) as caught:
        look(saved, "web01")
    assert caught.value.problem.code == "certificate-changed"


def test_the_secret_is_read_when_an_attempt_starts(saved: SavedSource) -> None:
    plan = Plan(name="w", source=Source(kind="vcenter", settings=settings(source_id=saved.pk)))
    SavedSource.objects.filter(pk=saved.pk).update(secrets={"password": "new one"})
    assert VcenterSource().secrets(plan) == {"password": "new one"}
