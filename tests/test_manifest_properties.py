"""Any plan and any of virt-v2v's shapes gives a manifest that KubeVirt takes, or a refusal with a name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversions.manifest import DiskFile, Said, Target, Views, check, expected, predict, three_views
from conversions.manifest.claims import drive_letters
from conversions.manifest.reading import lines, read
from conversions.manifest.walking import dotted
from conversions.plan import Disk, Guest, Nic, Plan, Source
from conversions.problems import RefusedError

VERSIONS = ["2.2.0", "2.3.1", "2.4.0", "2.5.3", "2.5.7", "2.6.0", "2.8.0", "2.10.0", "2.12.0", "2.13.3", None]
NETWORKS = ["VM Network", "DMZ/öffentlich", "lan", "a" * 90, "- #x: {y}", "Lan", 'with "quotes"', "yes"]
MACS = ["52:54:00:aa:00:01", "52:54:00:AA:00:02", "00:00:00:00:00:00", "02:00:00:00:00:00", "nonsense", None]

#: refusals that are right for a plan that asks for what cannot be
NAMED = {"pod-network-twice", "secure-boot-needs-uefi", "manifest-refused", "target-setting"}

nics = st.lists(
    st.builds(
        Nic,
        mac=st.sampled_from(MACS),
        model=st.sampled_from(["vmxnet3", "e1000", "e1000e", "virtio", "ne2k_isa", None]),
        network=st.sampled_from([*NETWORKS, None]),
    ),
    max_size=5,
)
maybe = st.none() | st.booleans()
guests = st.builds(
    Guest,
    name=st.none() | st.text(max_size=80),
    id=st.none() | st.text(max_size=80),
    os_family=st.sampled_from(["linux", "windows", None]),
    firmware=st.sampled_from(["bios", "uefi", None]),
    secure_boot=maybe,
    tpm=maybe,
    cpus=st.none() | st.integers(1, 512),
    cores_per_socket=st.none() | st.integers(1, 64),
    memory=st.none() | st.integers(1 << 20, 1 << 42),
    disks=st.lists(
        st.builds(
            Disk, name=st.text(max_size=20), size=st.integers(1, 1 << 46), boot_order=st.none() | st.integers(0, 4)
        ),
        min_size=1,
        max_size=4,
    ),
    nics=nics,
)
names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
plans = st.builds(
    Plan,
    name=names,
    source=st.sampled_from(["disk", "ova", "vcenter", "xen"]).map(lambda k: Source(kind=k)),
    guest=guests,
)
leads = st.sampled_from(["pod", "pod:bridge", "ignore", "infra/lan", "lan"])
targets = st.fixed_dictionaries(
    {},
    optional={
        "namespace": st.sampled_from(["prod", "default"]),
        "networks": st.dictionaries(st.sampled_from([*NETWORKS, "*", "52:54:00:aa:00:01"]), leads, max_size=4),
        "storage": st.fixed_dictionaries(
            {},
            optional={
                "volume_mode": st.sampled_from(["Block", "Filesystem"]),
                "storage_class": st.just("fast"),
                "object": st.sampled_from(["DataVolume", "PersistentVolumeClaim"]),
                "filesystem_overhead": st.floats(0, 0.5),
            },
        ),
        "start": st.booleans(),
        "cpus": st.integers(1, 1024),
        "memory": st.integers(16 << 20, 1 << 40),
        "instance_type": st.just("u1.small"),
        "preference": st.just({"name": "windows.2k22", "cluster": False}),
        "claims": st.lists(names, max_size=3, unique=True).map(tuple),
        "firmware": st.sampled_from(["bios", "uefi"]),
        "secure_boot": st.booleans(),
        "tpm": st.booleans(),
        "bus": st.sampled_from(["virtio", "sata", "scsi"]),
        "nic_model": st.sampled_from(["virtio", "e1000e"]),
    },
)
heard = st.builds(Said, firmware=st.sampled_from(["uefi", None]), virtio=st.none())


def make(plan: Plan, settings: dict[str, Any], version: str | None, virtio: bool, said: Said) -> tuple[Views, Target]:
    target = Target.from_settings(settings)
    files = tuple(
        DiskFile(f"{plan.name}-sd{drive_letters(number)}", disk.size or 0)
        for number, disk in enumerate(plan.guest.disks)
    )
    text = predict(plan, files, version, folder="/data", virtio=virtio)
    return three_views(text, plan, target, files, said), target


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans, targets, st.sampled_from(VERSIONS), st.booleans(), heard)
def test_any_plan_and_any_shape_is_a_good_manifest_or_a_named_refusal(
    plan: Plan, settings: dict[str, Any], version: str | None, virtio: bool, said: Said
) -> None:
    try:
        views, target = make(plan, settings, version, virtio, said)
    except RefusedError as refused:
        assert refused.problem.code in NAMED, refused
        if refused.problem.code == "manifest-refused":  # the one that names no choice of the person: say which it was
            assert "cpu" in refused.problem.text or "memory" in refused.problem.text, refused
        return
    assert check(views.ours, expected(views, target)) == []
    every_difference_has_a_reason(views)
    nothing_is_lost_and_nothing_invented(views)


def every_difference_has_a_reason(views: Views) -> None:
    for row in views.rows:
        assert row.kind in ("same", "comment") or row.reason, row
    for side, text in (("theirs", views.theirs), ("ours", views.ours)):
        shown = [getattr(row, side) for row in views.rows if getattr(row, side)]
        assert shown == list(range(1, len(text.splitlines()) + 1))


def nothing_is_lost_and_nothing_invented(views: Views) -> None:
    """A line that is called the same, or the same in another place, has the same value in both files."""
    ours = {dotted(path): value for path, _, value in lines(read(views.ours, documents=100)[0])}
    ours_by_line = {line: value for _, line, value in lines(read(views.ours, documents=100)[0])}
    theirs_by_line = {line: value for path, line, value in lines(read(views.theirs)[0]) if path}
    for row in views.rows:
        if row.kind == "same":
            assert row.theirs and row.ours and theirs_by_line[row.theirs] == ours_by_line[row.ours], row
        elif row.reason.startswith("The same as in virt-v2v's file"):
            value = theirs_by_line[row.theirs] if row.theirs else ours_by_line[row.ours or 0]
            assert ours[row.path] == value, row
    assert set(theirs_by_line) == {row.theirs for row in views.rows if row.theirs and row.kind != "comment"}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans, targets, st.sampled_from(VERSIONS), st.booleans(), heard)
def test_any_manifest_has_no_property_that_kubevirt_s_own_schema_does_not_know(
    kubevirt_schemas: Path, plan: Plan, settings: dict[str, Any], version: str | None, virtio: bool, said: Said
) -> None:
    try:
        views, target = make(plan, settings, version, virtio, said)
    except RefusedError:
        return
    assert check(views.ours, expected(views, target), kubevirt_schemas) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_to_virt_v2v_s_file_is_mended_or_refused_and_never_an_error(data: st.DataObject) -> None:
    """Lines are taken out, doubled, or hold something else."""
    plan = Plan(
        name="web01",
        source=Source(kind="vcenter"),
        guest=Guest(
            disks=(Disk(name="a", size=1 << 30),), nics=(Nic(network="a b"), Nic(network="a b")), firmware="uefi"
        ),
    )
    files = (DiskFile("web01-sda", 1 << 30),)
    version = data.draw(st.sampled_from(VERSIONS))
    rows = predict(plan, files, version).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(rows) - 1))
        key, _, _ = rows[number].partition(":")
        what = data.draw(
            st.sampled_from(
                ["", rows[number] * 2, f"{key}: 7", f"{key}: x", f"{key}: [a]", f"{key}: {{b: c}}", f"{key}:"]
            )
        )
        rows[number] = what
    text = "\n".join(rows)
    target = Target.model_validate({"networks": {"*": "infra/lan"}})
    try:
        views = three_views(text, plan, target, files)
    except RefusedError as refused:
        assert refused.problem.code and refused.problem.text
        return
    assert [mistake for mistake in check(views.ours, expected(views, target)) if not mistake.asks] == []


@pytest.mark.parametrize("index", [0, 25, 26, 27, 701, 702])
def test_disks_are_lettered_as_virt_v2v_letters_them(index: int) -> None:
    assert drive_letters(index) == {0: "a", 25: "z", 26: "aa", 27: "ab", 701: "zz", 702: "aaa"}[index]
