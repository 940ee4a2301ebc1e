"""OVAs on the server: what is read from them, what is refused, and that they are looked at again before virt-v2v."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from conversions.disks import vetting
from conversions.plan import Plan
from conversions.plan import Source as PlannedSource
from conversions.problems import RefusedError
from conversions.sources.base import FormProblem
from conversions.sources.ova import OvaForm, OvaSource
from tests.fixtures_images import ESP, LINUX, MIB, ext4, gpt_disk, linux_disk, luks, mbr_disk, qemu_img, write_image
from tests.ova_files import END, header, make_ovf, make_tar, manifest, memory_item, padded

UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return vmdk(tmp_path)


def vmdk(folder: Path, raw: bytes | None = None) -> bytes:
    path = write_image(folder / "made.vmdk", "vmdk", raw, "subformat=streamOptimized")
    data = path.read_bytes()
    path.unlink()
    return data


def members(disk: bytes, **ovf: object) -> dict[str, bytes]:
    described = make_ovf(**ovf)
    return {
        "web01.ovf": described,
        "web01.mf": manifest({"web01.ovf": described, "disk1.vmdk": disk}),
        "disk1.vmdk": disk,
    }


def put(root: Path, files: dict[str, bytes], name: str = "web01.ova") -> Path:
    (root / name).write_bytes(make_tar(files))
    return root / name


def look(path: Path):
    return OvaSource().look({"path": str(path)})


def refusal(path: Path) -> str:
    with pytest.raises(RefusedError) as refused:
        look(path)
    problem = refused.value.problem
    assert problem.title and problem.text and problem.action
    return problem.code


def plan_of(path: Path) -> Plan:
    finding = look(path)
    settings = {"path": str(path)} | finding.facts["settings"]
    return Plan(name="web01", source=PlannedSource(kind="ova", settings=settings), guest=finding.guest)


def vet(plan: Plan, scratch: Path | None = None) -> list[vetting.Vetted]:
    return vetting.vet(OvaSource().vet(plan), lambda line: None, scratch=scratch)


def test_the_form_takes_a_file_under_the_roots_only(root, disk, tmp_path):
    path = put(root, members(disk))
    form = OvaForm({"path": "web01.ova"})
    assert form.is_valid(), form.errors
    assert form.cleaned_data == {"path": str(path)}
    for wrong, code in (
        ("/etc/shadow", "path-outside-roots"),
        (str(root), "file-is-folder"),
        ("x.ova", "file-missing"),
    ):
        form = OvaForm({"path": wrong})
        assert not form.is_valid()
        (error,) = form.errors.as_data()["path"]
        assert isinstance(error, FormProblem) and error.problem.code == code


def test_a_look_tells_what_the_ovf_says_and_what_the_disk_is(root, disk):
    finding = look(put(root, members(disk)))
    guest = finding.guest
    assert (guest.name, guest.os, guest.os_family, guest.firmware) == ("web01", "Debian GNU/Linux 12", "linux", "bios")
    assert (guest.cpus, guest.memory) == (2, 2 << 30)
    (nic,) = guest.nics
    assert (nic.mac, nic.model, nic.network) == ("00:50:56:aa:bb:cc", "vmxnet3", "VM Network")
    (found,) = guest.disks
    assert (found.name, found.format, found.size, found.bus) == ("disk1.vmdk", "vmdk", 8 * MIB, "scsi")


def test_what_the_ovf_leaves_out_is_seen_on_the_disk_or_left_out(root, tmp_path):
    disk = vmdk(tmp_path, gpt_disk((ESP, 1, b""), (LINUX, 2, ext4()), (LINUX, 3, luks(UUID))))
    finding = look(put(root, members(disk, config="", memory="", os="", extra_items="")))
    assert finding.guest.firmware == "uefi"
    assert finding.guest.os is None and finding.guest.os_family == "linux"
    assert finding.guest.memory is None and finding.guest.nics == ()
    assert finding.facts["luks"] == [UUID]
    codes = {concern.code for concern in finding.concerns}
    assert {"ovf-memory-missing", "firmware-from-disk", "disk-encrypted"} <= codes


def test_odd_units_of_memory_are_read_and_told(root, disk):
    finding = look(put(root, members(disk, memory=memory_item(2, "byte * 2^30"))))
    assert finding.guest.memory == 2 << 30
    assert "ovf-memory-units" in [concern.code for concern in finding.concerns]


def test_it_refuses_an_ova_with_two_ovf_files(root, disk):
    files = members(disk)
    assert refusal(put(root, files | {"other.ovf": files["web01.ovf"]})) == "ova-two-ovf"


def test_it_refuses_a_wrong_manifest(root, disk):
    files = members(disk)
    assert refusal(put(root, files | {"disk1.vmdk": disk[:-512] + b"x" * 512})) in (
        "ova-checksum",
        "ova-manifest-mismatch",
    )


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/cron.d/x", "a/../../x", "..\\x"])
def test_it_refuses_member_names_that_lead_out(root, disk, name):
    assert refusal(put(root, members(disk) | {name: b"x"})) == "ova-name-escapes"


def test_what_a_mac_packed_is_shown_to_virt_v2v_in_another_form(root, disk):
    path = put(root, {"._web01.ovf": b"\0\5\26\7", **members(disk)})
    plan = plan_of(path)
    (shown,) = OvaSource().guest_args(plan)
    assert shown == plan.source.settings["view"]["folder"] != str(path)
    vet(plan)
    assert sorted(file.name for file in Path(shown).iterdir()) == ["disk1.vmdk", "guest.ovf"]


def test_it_refuses_links_and_a_missing_disk_and_an_ova_cut_off(root, disk):
    files = members(disk)
    whole = make_tar(files)
    link = header("disk1.vmdk", 0, b"2")
    (root / "link.ova").write_bytes(
        header("web01.ovf", len(files["web01.ovf"])) + padded(files["web01.ovf"]) + link + END
    )
    assert refusal(root / "link.ova") == "ova-link"
    assert refusal(put(root, {"web01.ovf": files["web01.ovf"]})) == "ova-disk-missing"
    (root / "cut.ova").write_bytes(whole[: len(whole) // 2])
    assert refusal(root / "cut.ova") == "ova-truncated"


@pytest.mark.parametrize("what", ["qcow2 with a backing file", "flat vmdk", "raw"])
def test_it_refuses_a_disk_that_reads_a_file_of_the_server(root, tmp_path, what):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"secret\n" * 400_000)
    evil = tmp_path / "evil"
    if what == "flat vmdk":
        evil.write_text(
            '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
            f'RW 4096 FLAT "{secret}" 0\n'
        )
    elif what == "raw":
        evil.write_bytes(b"nothing that is known " * 200)
    else:
        qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", evil)
    expected = {"flat vmdk": "disk-names-other-file", "raw": "disk-format-mismatch"}.get(what, "disk-has-backing-file")
    assert refusal(put(root, members(evil.read_bytes()))) == expected


def test_a_disk_in_another_format_than_vmdk_passes_when_qemu_finds_the_same(root, tmp_path):
    qcow2 = write_image(tmp_path / "d.qcow2", "qcow2").read_bytes()
    plan = plan_of(put(root, members(qcow2)))
    assert plan.guest.disks[0].format == "qcow2"
    assert vet(plan)[0].size == 8 * MIB


def test_the_agent_vets_the_disks_where_they_lie(root, disk, tmp_path):
    plan = plan_of(put(root, members(disk)))
    assert [found.size for found in vet(plan)] == [8 * MIB]


def test_an_ova_exchanged_after_the_plan_is_not_opened(root, disk, tmp_path):
    path = put(root, members(disk))
    plan = plan_of(path)
    qemu_img("create", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", tmp_path / "evil", "8M")
    other = members(disk, name="other")
    for files in (other, {"disk1.vmdk": disk}, {"web01.ovf": members(disk)["web01.ovf"]}):
        put(root, files)
        with pytest.raises(RefusedError) as refused:
            vet(plan)
        assert refused.value.problem.code == "ova-changed"
    put(root, members(disk) | {"disk1.vmdk": (tmp_path / "evil").read_bytes()})
    with pytest.raises(RefusedError) as refused:
        vet(plan)
    assert refused.value.problem.code == "disk-has-backing-file"
    # The same members in another order stand elsewhere, and are found there.
    put(root, dict(reversed(members(disk).items())))
    assert vet(plan)[0].size == 8 * MIB


def test_an_archive_that_gnu_tar_reads_differently_is_refused(root, disk, monkeypatch):
    plan = plan_of(put(root, members(disk)))
    from conversions.archives import unpacking

    monkeypatch.setattr(unpacking, "_offsets_of_gnu_tar", lambda path, limits: {"disk1.vmdk": [512, 4096]})
    with pytest.raises(RefusedError) as refused:
        vet(plan)
    assert refused.value.problem.code == "ova-ambiguous"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_gnu_tar_and_we_agree_on_honest_archives(root, disk, format):
    files = members(disk)
    (root / "web01.ova").write_bytes(make_tar(files, format))
    assert vet(plan_of(root / "web01.ova"))[0].size == 8 * MIB


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [lambda files: gzip.compress(make_tar(files)), _zip], ids=["tar.gz", "zip"])
def test_a_packed_ova_is_unpacked_into_scratch_vetted_and_removed_again(root, disk, tmp_path, pack):
    path = root / "web01.ova"
    path.write_bytes(pack(members(disk)))
    plan = plan_of(path)
    assert "ova-packed" in [concern.code for concern in look(path).concerns]
    assert OvaSource().scratch_needed(plan) >= len(disk)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert vet(plan, scratch)[0].size == 8 * MIB
    assert list(scratch.iterdir()) == []
    qemu_img("create", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", tmp_path / "evil", "8M")
    path.write_bytes(pack(members((tmp_path / "evil").read_bytes())))
    with pytest.raises(RefusedError) as refused:
        vet(plan_of(path), scratch)
    assert refused.value.problem.code == "disk-has-backing-file"
    assert list(scratch.iterdir()) == []


def test_a_disk_compressed_inside_the_ova_is_unpacked_up_to_its_size(root, disk, tmp_path):
    files = members(gzip.compress(disk), disks=["disk1.vmdk"], file_attrs='ovf:compression="gzip"')
    plan = plan_of(put(root, files))
    assert vet(plan, tmp_path)[0].size == 8 * MIB
    bomb = gzip.compress(bytes(80 * MIB))
    item = OvaSource().vet(
        plan_of(put(root, members(bomb, file_attrs='ovf:compression="gzip"', capacity=8, units="byte * 2^20")))
    )
    with pytest.raises(RefusedError) as refused:
        vetting.vet(item, print, scratch=tmp_path)
    assert refused.value.problem.code == "disk-is-a-bomb"


def test_checksums_that_virt_v2v_passes_over_are_compared_by_us(root, disk, monkeypatch):
    described = make_ovf()
    sums = manifest({"web01.ovf": described, "disk1.vmdk": disk}, "sha512")
    path = put(root, {"web01.ovf": described, "web01.mf": sums, "disk1.vmdk": disk})
    plan = plan_of(path)
    assert vet(plan)[0].size == 8 * MIB
    other = vmdk(path.parent.parent, mbr_disk((0x83, 2, ext4())))
    assert len(other) == len(disk) or hashlib.sha512(other).digest() != hashlib.sha512(disk).digest()
    put(root, {"web01.ovf": described, "web01.mf": sums, "disk1.vmdk": other})
    with pytest.raises(RefusedError) as refused:
        vet(plan)
    assert "manifest" in refused.value.problem.text.lower() or "checksum" in refused.value.problem.text.lower()


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.7", b"hello world\n" * 100, linux_disk()[:4096], b"\x1f\x8b\x08\0" + b"x" * 600]
)
def test_what_is_no_ova_is_refused(root, content):
    (root / "x.ova").write_bytes(content)
    refusal(root / "x.ova")


def put_folder(root: Path, files: dict[str, bytes]) -> Path:
    folder = root / "unpacked"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_an_ovf_with_its_disks_beside_it_is_taken_as_the_folder_that_they_are_in(root, disk):
    folder = put_folder(root, members(disk))
    form = OvaForm({"path": str(folder / "web01.ovf")})
    assert form.is_valid(), form.errors
    assert form.cleaned_data == {"path": str(folder / "web01.ovf")}
    plan = plan_of(folder / "web01.ovf")
    assert plan.guest.disks[0].size == 8 * MIB
    assert OvaSource().guest_args(plan) == [str(folder)]
    assert vet(plan)[0].size == 8 * MIB


def test_an_unpacked_ova_may_have_its_disks_compressed(root, disk, tmp_path):
    packed = members(gzip.compress(disk), file_attrs='ovf:compression="gzip"', capacity=8, units="byte * 2^20")
    folder = put_folder(root, packed)
    assert vet(plan_of(folder / "web01.ovf"), tmp_path)[0].size == 8 * MIB
    assert not list(tmp_path.glob("vet-*")), "virt-v2v unpacks it for itself"


def test_a_folder_in_which_something_changed_or_is_a_link_is_not_opened(root, disk, tmp_path):
    folder = put_folder(root, members(disk))
    plan = plan_of(folder / "web01.ovf")
    (folder / "below").mkdir()
    (folder / "below" / "other.ovf").write_bytes(members(disk)["web01.ovf"])
    with pytest.raises(RefusedError) as refused:
        vet(plan)
    assert refused.value.problem.code == "ova-changed"
    (folder / "below" / "other.ovf").unlink()
    assert vet(plan)
    (folder / "disk1.vmdk").rename(tmp_path / "elsewhere.vmdk")
    (folder / "disk1.vmdk").symlink_to(tmp_path / "elsewhere.vmdk")
    with pytest.raises(RefusedError) as refused:
        vet(plan)
    assert refused.value.problem.code == "ova-changed"
    assert refusal(folder / "web01.ovf") == "ova-disk-missing"
