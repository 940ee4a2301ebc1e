"""What the person may choose, how big claims are, and which file is which disk."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions.manifest import DiskFile, Target, disk_files, predicted_disks, said
from conversions.manifest.claims import claim_names, claim_size, virtual_size
from conversions.manifest.quantities import quantity, quantity_value
from conversions.manifest.target import Network
from conversions.plan import Disk
from conversions.problems import RefusedError
from tests.fixtures_manifest import a_plan

MIB = 1 << 20


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"namespace": "Kube System"}, "namespace"),
        ({"networks": {"a": "one/two/three"}}, "networks.a"),
        ({"networks": {"a": {"type": "multus"}}}, "networks.a"),
        ({"networks": {"a": {"type": "pod", "name": "x"}}}, "networks.a"),
        ({"networks": {"a": {"type": "multus", "name": "x", "binding": "masquerade"}}}, "networks.a"),
        ({"networks": "pod"}, "networks"),
        ({"storage": {"volume_mode": "Tape"}}, "storage.volume_mode"),
        ({"storage": {"filesystem_overhead": 1}}, "storage.filesystem_overhead"),
        ({"storage": {"storage_class": "A B"}}, "storage.storage_class"),
        ({"storage": {"colour": "red"}}, "storage.colour"),
        ({"cpus": 0}, "cpus"),
        ({"memory": 1}, "memory"),
        ({"claims": ["a", "a"]}, "claims"),
        ({"claims": ["-a"]}, "claims"),
        ({"machine": "pc-i440fx"}, "machine"),
        ({"run_strategy": "Sometimes"}, "run_strategy"),
        ({"instance_type": "u1.small", "cpus": 2}, "output"),
        ({"firmware": "bios", "secure_boot": True}, "output"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_field(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Target.from_settings(settings)
    assert (refused.value.problem.code, refused.value.field) == ("target-setting", field)


def test_settings_of_the_output_that_are_not_about_the_target_are_left_alone() -> None:
    target = Target.from_settings({"format": "raw", "namespace": "prod", "cpus": None, "start": True})
    assert (target.namespace, target.cpus, target.strategy) == ("prod", None, "Always")


def test_settings_go_to_json_and_back() -> None:
    target = Target.from_settings(
        {"networks": {"lan": "pod", "*": "infra/dmz"}, "storage": {"volume_mode": "Block"}, "instance_type": "u1.small"}
    )
    assert Target.from_settings(target.model_dump(mode="json")) == target


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("pod", Network(type="pod")),
        ("pod:bridge", Network(type="pod", binding="bridge")),
        ("ignore", Network(type="ignore")),
        ("lan", Network(type="multus", name="lan")),
        ("infra/lan", Network(type="multus", name="infra/lan")),
    ],
)
def test_a_network_can_be_written_in_short(text: str, network: Network) -> None:
    assert Target.model_validate({"networks": {"x": text}}).networks == {"x": network}


def test_an_address_wins_over_a_name_and_a_name_over_all_others() -> None:
    target = Target.model_validate({"networks": {"52:54:00:00:00:01": "a", "lan": "b", "*": "c"}})
    chosen = [target.network("lan", "52:54:00:00:00:01"), target.network("lan", None), target.network("x", None)]
    assert [network.name for network in chosen if network] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("size", "mode", "overhead", "wanted"),
    [
        (1 << 30, "Block", 0.06, 1 << 30),
        ((1 << 30) + 1, "Block", 0.06, (1 << 30) + MIB),
        (512, "Block", 0.06, MIB),
        (1 << 30, "Filesystem", 0.06, 1090 * MIB),  # 1024 / 0.94 = 1089.4
        (1 << 30, "Filesystem", 0.055, 1084 * MIB),
        (1 << 30, "Filesystem", 0, 1 << 30),
        (100 << 30, "Filesystem", 0.06, 108937 * MIB),
    ],
)
def test_a_claim_is_as_big_as_its_disk_needs_it(size: int, mode: str, overhead: float, wanted: int) -> None:
    assert claim_size(size, mode, overhead) == wanted


@given(st.integers(1, 1 << 50), st.floats(0, 0.5))
def test_a_file_system_of_the_claimed_size_has_room_for_the_disk(size: int, overhead: float) -> None:
    """CDI's GetUsableSpace, rounded down to MiB, is what must hold the disk."""
    claimed = claim_size(size, "Filesystem", overhead)
    assert claimed % MIB == 0
    assert claimed * (1 - overhead) >= size * (1 - 1e-12)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2Gi", 2 << 30), ("2048Mi", 2 << 30), ("1500m", 1.5), ("1e3", 1000.0), ("1.5Gi", 1.5 * (1 << 30)), ("1k", 1000), (7, 7),
     ("", None), ("2 GB", None), ("Gi", None), ("1e99", None), (True, None), (None, None), ("9" * 100, None)],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_reads_them(text: Any, value: float | None) -> None:
    assert quantity_value(text) == value


@given(st.integers(1, 1 << 60))
def test_a_written_quantity_is_never_less_than_what_was_meant(size: int) -> None:
    value = quantity_value(quantity(size))
    assert value is not None and size <= value < size + MIB


def test_claims_are_named_as_chosen_and_the_rest_after_the_machine() -> None:
    assert claim_names("web01", ("system",), 3) == ["system", "web01-disk-1", "web01-disk-2"]
    assert claim_names("web01", ("web01-disk-1",), 2) == ["web01-disk-1", "web01-disk-1x"]
    assert len(claim_names("x" * 63, (), 1)[0]) <= 63


def test_the_disks_of_a_folder_are_found_in_their_order_with_the_size_a_guest_sees(tmp_path: Path) -> None:
    for letter, size in (("a", 3 * MIB), ("b", 5 * MIB)):
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / f"web01-sd{letter}", str(size)], check=True
        )
    (tmp_path / "web01-sdd").touch()  # not the next letter: some other file
    assert disk_files(tmp_path, "web01", "qcow2") == (
        DiskFile("web01-sda", 3 * MIB, "qcow2"),
        DiskFile("web01-sdb", 5 * MIB, "qcow2"),
    )
    os.truncate(tmp_path / "web01-sda", 4096)
    assert virtual_size(tmp_path / "web01-sda", "raw") == 4096


def test_a_qcow2_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "web01-sda").write_bytes(b"QFI\xfb")
    with pytest.raises(RefusedError) as refused:
        disk_files(tmp_path, "web01", "qcow2")
    assert refused.value.problem.code == "disk-not-qcow2"


def test_disks_of_unknown_size_cannot_be_predicted() -> None:
    with pytest.raises(RefusedError) as refused:
        predicted_disks(a_plan(disks=(Disk(name="a.vmdk"),)))
    assert refused.value.problem.code == "disk-size-unknown"


@pytest.mark.parametrize(
    ("log", "firmware", "virtio"),
    [
        ("virt-v2v: This guest requires UEFI on the target to boot.\n", "uefi", None),
        ("virt-v2v: This guest has virtio drivers installed.\n", None, True),
        ("x\nvirt-v2v: This guest does not have virtio drivers installed.\n", None, False),
        ("the guest said: virt-v2v: This guest requires UEFI on the target to boot.", None, None),
    ],
)
def test_virt_v2v_s_log_tells_about_firmware_and_drivers(log: str, firmware: str | None, virtio: bool | None) -> None:
    assert (said(log).firmware, said(log).virtio) == (firmware, virtio)
