"""Odd OVAs as virt-v2v is shown them: the same guest and the same bytes, none of them copied."""

import gzip
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conversions.archives import ova_view
from conversions.archives.ova import read_ova
from conversions.archives.ovf import read_ovf
from conversions.bucket import planned
from conversions.disks import vetting
from conversions.disks.images import Image
from conversions.plan import Plan
from conversions.plan import Source as PlannedSource
from conversions.problems import RefusedError
from conversions.sources.ova import OvaSource
from conversions.uploading.verdict import judge
from tests.ova_files import ENVELOPE, NIC_ITEM, SCSI_ITEM, disk_item, make_ovf, make_tar, manifest, memory_item, write
from tests.test_follow import disk as disk
from tests.test_ova import zipped
from tests.test_ovf import VIRTUALBOX

V2 = ENVELOPE.replace("envelope/1", "envelope/2")


def odd(disk: bytes, file_attrs: str = "") -> dict[str, dict[str, bytes]]:
    made = partial(make_ovf, file_attrs=file_attrs, capacity=8, units="byte * 2^20")
    good = made()
    return {
        "macos": {"._web01.ovf": b"\0\5\x16\7", "web01.ovf": good, "disk1.vmdk": disk},
        "dot-slash": {"./web01.ovf": good, "./disk1.vmdk": disk},
        "capitals": {"WEB01.OVF": good, "disk1.vmdk": disk},
        "encoded": {"web01.ovf": made(disks=["my%20disk.vmdk"]), "my disk.vmdk": disk},
        "ovf2": {"web01.ovf": made(envelope=V2), "disk1.vmdk": disk},
        "file-resource": {
            "web01.ovf": made(items=memory_item() + SCSI_ITEM + disk_item(1, "ovf:/file/file1") + NIC_ITEM),
            "disk1.vmdk": disk,
        },
        "two-ovf": {"web01.ovf": good, "other.ovf": made(name="other"), "disk1.vmdk": disk},
    }


def plan_of(path: Path, **said: str) -> Plan:
    settings: dict[str, Any] = {"path": str(path), **said}
    finding = OvaSource().look(settings)
    source = PlannedSource(kind="ova", settings=settings | finding.facts["settings"])
    return Plan(name="web01", source=source, guest=finding.guest)


def print_source(folder: str) -> str:
    """What virt-v2v understands of an OVA."""
    command = ["virt-v2v", "-i", "ova", folder, "--print-source"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


ODD = ["macos", "dot-slash", "capitals", "encoded", "ovf2", "file-resource", "two-ovf"]


@pytest.mark.real
@pytest.mark.parametrize("name", ODD)
def test_virt_v2v_reads_through_the_view_what_it_could_not_read_itself(
    tmp_path: Path, disk: bytes, settings: Any, name: str
) -> None:
    settings.DATA_DIR = tmp_path
    path = write(tmp_path, make_tar(odd(disk)[name]))
    plan = plan_of(path, **({"ovf": "web01.ovf"} if name == "two-ovf" else {}))
    vetting.vet(OvaSource().vet(plan), lambda line: None)
    (folder,) = OvaSource().guest_args(plan)
    told = print_source(folder)
    for part in ("source name: web01", "memory: 2147483648 (bytes)", "0 [scsi]", "00:50:56:aa:bb:cc"):
        assert part in told
    ova = read_ova(path, ovf_name="web01.ovf" if name == "two-ovf" else None)
    member = ova.member(ova.disks[0])
    original = Image(path, "vmdk", "", member.offset, member.size)
    view = Path(folder, "disk1.vmdk")
    assert view.stat().st_size < 1 << 20, "nothing is copied"
    subprocess.run(["qemu-img", "compare", "-q", str(view), ova_view._backing(original)], check=True)


def test_several_guests_are_refused_until_one_is_chosen(tmp_path: Path, disk: bytes) -> None:
    path = write(tmp_path, make_tar(odd(disk)["two-ovf"]))
    with pytest.raises(RefusedError, match=r"web01\.ovf"):
        OvaSource().look({"path": str(path)})
    assert OvaSource().look({"path": str(path), "ovf": "other.ovf"}).guest.name == "other"


@pytest.mark.real
def test_a_uefi_guest_of_virtualbox_is_a_uefi_guest_for_virt_v2v(tmp_path: Path, disk: bytes, settings: Any) -> None:
    settings.DATA_DIR = tmp_path
    described = (VIRTUALBOX % ("1.0", 1, 1, "Item", "Item")).encode()
    path = write(tmp_path, make_tar({"u.ovf": described, "Ubuntu-disk001.vmdk": disk}))
    assert "firmware: bios" in print_source(str(path))
    plan = plan_of(path)
    vetting.vet(OvaSource().vet(plan), lambda line: None)
    assert "firmware: uefi" in print_source(OvaSource().guest_args(plan)[0])


def test_a_person_decides_what_the_ova_leaves_open(tmp_path: Path, disk: bytes) -> None:
    path = write(tmp_path, make_tar({"web01.ovf": make_ovf(config=""), "disk1.vmdk": disk}))
    open_ended = plan_of(path)
    assert open_ended.guest.firmware is None and "view" not in open_ended.source.settings
    chosen = plan_of(path, firmware="uefi")
    assert chosen.guest.firmware == "uefi"
    assert 'vmw:value="efi"' in chosen.source.settings["view"]["ovf"]
    assert "view" not in plan_of(path, firmware="bios").source.settings, "virt-v2v takes BIOS by itself"


def test_checksums_that_virt_v2v_does_not_get_to_see_are_compared_all_the_same(tmp_path: Path, disk: bytes) -> None:
    described = make_ovf()
    members = {"web01.ovf": described, "disk1.vmdk": disk}
    made = {"._x": b"x", **members, "web01.mf": manifest(members)}
    path = write(tmp_path, make_tar(made))
    plan = plan_of(path)
    assert {digest["name"] for digest in plan.source.settings["digests"]} == set(members)
    path.write_bytes(make_tar({**made, "disk1.vmdk": disk[:-1] + b"!"}))
    with pytest.raises(RefusedError, match="checksum"):
        vetting.vet(OvaSource().vet(plan), lambda line: None)


PACKS = {"tar.gz": lambda members: gzip.compress(make_tar(members)), "zip": zipped}


def attempt(plan: Plan, folder: Path) -> Plan:
    """The plan as the agent of an attempt gets it, with a scratch folder of its own."""
    folder.mkdir()
    there, objects, secrets = planned.placed(plan, folder / "source")
    assert objects == [] and secrets == {}
    return there


def same_disk(view: Path, disk: bytes, folder: Path) -> None:
    (folder / "original").write_bytes(disk)
    subprocess.run(["qemu-img", "compare", "-q", "-F", "vmdk", str(view), str(folder / "original")], check=True)


#: "./" before names is nothing odd in a zip: unzip drops it
PACKED_AND_ODD = [(name, packed) for name in ODD for packed in PACKS if (name, packed) != ("dot-slash", "zip")]


@pytest.mark.parametrize(("name", "packed"), PACKED_AND_ODD)
def test_a_packed_and_odd_ova_is_unpacked_and_then_shown(
    tmp_path: Path, disk: bytes, settings: Any, name: str, packed: str
) -> None:
    settings.DATA_DIR = tmp_path
    path = write(tmp_path, PACKS[packed](odd(disk)[name]))
    plan = plan_of(path, **({"ovf": "web01.ovf"} if name == "two-ovf" else {}))
    assert OvaSource().scratch_needed(plan) == len(disk), "its disk, once"
    assert judge(path, path.name, path.stat().st_size, [(0, path.stat().st_size)], "web01.ovf")["level"] == "concerns"
    scratch = tmp_path / "attempt"
    there = attempt(plan, scratch)
    vetting.vet(OvaSource().vet(there), lambda line: None, scratch=scratch)
    folder = Path(OvaSource().guest_args(there)[0])
    assert folder.parent == scratch and sorted(file.name for file in folder.iterdir()) == ["disk1.vmdk", "guest.ovf"]
    same_disk(folder / "disk1.vmdk", disk, tmp_path)


@pytest.mark.real
@pytest.mark.parametrize(("name", "packed"), [("macos", "zip"), ("encoded", "tar.gz")])
def test_virt_v2v_reads_what_was_packed_and_odd(
    tmp_path: Path, disk: bytes, settings: Any, name: str, packed: str
) -> None:
    settings.DATA_DIR = tmp_path
    there = attempt(plan_of(write(tmp_path, PACKS[packed](odd(disk)[name]))), tmp_path / "attempt")
    vetting.vet(OvaSource().vet(there), lambda line: None, scratch=tmp_path / "attempt")
    assert "source name: web01" in print_source(OvaSource().guest_args(there)[0])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", [name for name in ODD if name != "dot-slash"])
def test_an_odd_ova_that_somebody_has_unpacked_is_shown_too(
    tmp_path: Path, disk: bytes, settings: Any, name: str, compressed: bool
) -> None:
    settings.DATA_DIR = tmp_path
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for member, data in odd(disk, 'ovf:compression="gzip"' if compressed else "")[name].items():
        (folder / member).write_bytes(gzip.compress(data) if compressed and data is disk else data)
    plan = plan_of(next(path for path in folder.iterdir() if path.name.lower() == "web01.ovf"))
    there = attempt(plan, tmp_path / "attempt")
    items = OvaSource().vet(there)
    before = vetting.stamps(items)
    vetting.vet(items, lambda line: None, scratch=tmp_path / "attempt")
    same_disk(Path(OvaSource().guest_args(there)[0], "disk1.vmdk"), disk, tmp_path)
    assert list((tmp_path / "attempt").glob("vet-*/0")) if compressed else not list((tmp_path / "attempt").iterdir())
    (folder / "another.vmdk").write_bytes(b"of another machine")
    assert vetting.changed(before, items) is None
    (folder / plan.source.settings["disks"][0]["name"]).write_bytes(b"")
    assert vetting.changed(before, items) is not None


def test_attempts_with_one_packed_ova_do_not_share_what_is_unpacked(tmp_path: Path, disk: bytes, settings: Any) -> None:
    settings.DATA_DIR = tmp_path
    plan = plan_of(write(tmp_path, zipped(odd(disk)["macos"])))
    folders = []
    for name in ("1", "2"):
        there = attempt(plan, tmp_path / name)
        vetting.vet(OvaSource().vet(there), lambda line: None, scratch=tmp_path / name)
        folders.append(Path(OvaSource().guest_args(there)[0]))
    shutil.rmtree(tmp_path / "1")
    subprocess.run(["qemu-img", "check", "-q", str(folders[1] / "disk1.vmdk")], check=True)


def test_a_disk_compressed_inside_an_odd_ova_is_unpacked_to_the_last(
    tmp_path: Path, disk: bytes, settings: Any
) -> None:
    settings.DATA_DIR = tmp_path
    described = make_ovf(file_attrs='ovf:compression="gzip"', capacity=8, units="byte * 2^20")
    members = {"._web01.ovf": b"x", "web01.ovf": described, "disk1.vmdk": gzip.compress(disk)}
    there = attempt(plan_of(write(tmp_path, make_tar(members))), tmp_path / "attempt")
    assert OvaSource().scratch_needed(there) == 8 << 20
    vetting.vet(OvaSource().vet(there), lambda line: None, scratch=tmp_path / "attempt")
    same_disk(Path(OvaSource().guest_args(there)[0], "disk1.vmdk"), disk, tmp_path)


@pytest.mark.parametrize("packed", PACKS)
@pytest.mark.parametrize("fault", ["backing file", "bomb", "checksum"])
def test_a_packed_and_odd_ova_that_is_hostile_leaves_nothing_unpacked(
    tmp_path: Path, disk: bytes, settings: Any, fault: str, packed: str
) -> None:
    settings.DATA_DIR = tmp_path
    good = {"._x": b"x", "web01.ovf": make_ovf(file_attrs='ovf:compression="gzip"' if fault == "bomb" else "")}
    bad, code = disk[:-1] + b"!", "ova-manifest-mismatch"
    if fault == "backing file":
        evil = tmp_path / "evil"
        create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", str(evil), "8M"]
        subprocess.run(create, check=True)
        bad, code = evil.read_bytes(), "disk-has-backing-file"
    if fault == "bomb":
        bad, code = gzip.compress(bytes(1 << 20)), "disk-is-a-bomb"
    members = good | {"disk1.vmdk": disk if fault == "checksum" else bad}
    path = write(tmp_path, PACKS[packed](members | {"web01.mf": manifest(members)}))
    plan = plan_of(path)
    if fault == "checksum":
        path.write_bytes(PACKS[packed](members | {"disk1.vmdk": bad, "web01.mf": manifest(members)}))
    if fault == "bomb":
        plan.source.settings["disks"][0]["limit"] = 1 << 16
    there = attempt(plan, tmp_path / "attempt")
    with pytest.raises(RefusedError) as refused:
        vetting.vet(OvaSource().vet(there), lambda line: None, scratch=tmp_path / "attempt")
    assert refused.value.problem.code == code
    assert list((tmp_path / "attempt").iterdir()) == []


@pytest.mark.parametrize("firmware", [None, "uefi", "bios"])
def test_what_is_described_anew_is_the_same_guest(firmware: str | None) -> None:
    ovf = read_ovf(
        make_ovf(
            disks=["a&b.vmdk", "c.vmdk"],
            files='<File ovf:href="a&amp;b.vmdk" ovf:id="file1"/><File ovf:href="c.vmdk" ovf:id="file2"/>',
            name="&lt;web&gt; &quot;01&quot;",
            memory=memory_item(3, "GB"),
        )
    )
    again = read_ovf(ova_view.describe(ovf, firmware).encode())
    assert (again.name, again.memory, again.cpus, again.nics, again.os) == (ovf.name, 3 << 30, 2, ovf.nics, ovf.os)
    assert [disk.href for disk in again.disks] == ["disk1.vmdk", "disk2.vmdk"]
    assert [(d.capacity, d.bus) for d in again.disks] == [(d.capacity, d.bus) for d in ovf.disks]
    assert again.firmware == (firmware or "bios") and again.concerns == ()


def test_a_view_made_anew_takes_the_place_of_the_old_one(tmp_path: Path, disk: bytes) -> None:
    path = write(tmp_path, make_tar({"web01.ovf": make_ovf(), "disk1.vmdk": disk}))
    member = read_ova(path).member("disk1.vmdk")
    image = Image(path, "vmdk", "disk1.vmdk", member.offset, member.size)
    folder = tmp_path / "views" / "1"
    ova_view.make(folder, "<old/>", [image, image])
    with (folder / "disk1.vmdk").open("rb") as old:
        ova_view.make(folder, "<new/>", [image])
        assert old.read(4) == b"QFI\xfb", "who reads the old one goes on"
    assert sorted(file.name for file in folder.iterdir()) == ["disk1.vmdk", "guest.ovf"]
    assert (folder / "guest.ovf").read_text() == "<new/>" and list(folder.parent.iterdir()) == [folder]
