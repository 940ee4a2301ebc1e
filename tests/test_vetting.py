"""Hostile disk images: each kind of harm is refused with a code of its own, and nothing is opened outside the sandbox."""

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conversions.disks import peek, sandbox, vetting
from conversions.disks.images import Image
from conversions.problems import RefusedError
from tests.fixtures_images import (
    MIB,
    ext4,
    linux_disk,
    mbr_disk,
    qemu_img,
    vmdk_with_descriptor,
    write_image,
)

SECRET = b"the content of a file of this server\n" * 2000


def refusal(path: Path, format: str, **more) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        vetting.examine(Image(path, format, **more))
    problem = refused.value.problem
    assert problem.title and problem.text and problem.action
    assert problem.text.isprintable()
    return refused.value


def code(path: Path, format: str, **more) -> str:
    return refusal(path, format, **more).problem.code


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret.raw"
    path.write_bytes(SECRET.ljust(2 * MIB, b"\0"))
    return path


@pytest.mark.parametrize("format", peek.FORMATS)
def test_an_honest_image_passes_with_its_size_and_what_is_allocated(tmp_path, format):
    found = vetting.examine(Image(write_image(tmp_path / "web01", format), format))
    assert 8 * MIB <= found.size < 9 * MIB  # a VHD rounds up to whole cylinders
    assert found.allocated is not None and found.allocated <= found.size
    assert found.snapshots == 0


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_vmdks_in_one_file_pass_even_when_renamed(tmp_path, subformat):
    path = write_image(tmp_path / "a.vmdk", "vmdk", options=f"subformat={subformat}").rename(
        tmp_path / "other name.vmdk"
    )
    assert vetting.examine(Image(path, "vmdk")).size == 8 * MIB


def test_allocated_is_what_the_data_takes_and_not_the_size_of_the_disk(tmp_path):
    data = mbr_disk((0x83, 1, ext4()), size=64 * MIB)
    data = data[: 8 * MIB] + os.urandom(MIB) + data[9 * MIB :]
    for format in ("qcow2", "vmdk"):
        allocated = vetting.examine(Image(write_image(tmp_path / format, format, data), format)).allocated
        assert MIB <= allocated <= 2 * MIB


def test_it_refuses_a_qcow2_with_a_backing_file(tmp_path, host_file):
    qemu_img("create", "-f", "qcow2", "-b", host_file, "-F", "raw", tmp_path / "b.qcow2")
    refused = refusal(tmp_path / "b.qcow2", "qcow2")
    assert refused.problem.code == "disk-has-backing-file"
    assert str(host_file) in refused.problem.text


def test_it_refuses_a_backing_file_in_whatever_disguise(tmp_path, host_file):
    for name in (f'json:{{"driver":"raw","file.filename":"{host_file}"}}', "nbd://198.51.100.1/x", "/dev/sda"):
        path = tmp_path / "b.qcow2"
        qemu_img("create", "-u", "-f", "qcow2", "-b", name, "-F", "raw", path, "2M")
        assert code(path, "qcow2") == "disk-has-backing-file"


def test_it_refuses_a_qcow2_with_an_external_data_file(tmp_path, host_file):
    qemu_img(
        "create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'd.raw'},data_file_raw=on", tmp_path / "d.qcow2", "2M"
    )
    assert code(tmp_path / "d.qcow2", "qcow2") == "disk-names-other-file"


def test_it_refuses_a_vmdk_that_is_only_a_description(tmp_path, host_file):
    path = tmp_path / "web01.vmdk"
    path.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 4096 FLAT "{host_file}" 0\n'
    )
    refused = refusal(path, "vmdk")
    assert refused.problem.code == "disk-names-other-file"
    assert str(host_file) in refused.problem.text


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_it_refuses_vmdks_in_several_files(tmp_path, subformat):
    qemu_img("create", "-f", "vmdk", "-o", f"subformat={subformat}", tmp_path / "web01.vmdk", "8M")
    assert code(tmp_path / "web01.vmdk", "vmdk") == "disk-names-other-file"


def test_it_refuses_a_part_of_a_split_vmdk(tmp_path):
    qemu_img("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", tmp_path / "web01.vmdk", "8M")
    assert code(tmp_path / "web01-s001.vmdk", "vmdk") in ("disk-names-other-file", "disk-damaged")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('SPARSE "web01.vmdk"', 'FLAT "/etc/shadow" 0'), "disk-names-other-file"),
        (('SPARSE "web01.vmdk"', 'VMFS "/etc/shadow"'), "disk-names-other-file"),
        (('SPARSE "web01.vmdk"', 'SPARSE "../../etc/shadow"'), "disk-names-other-file"),
        (('SPARSE "web01.vmdk"', 'SPARSE "web01.vmdk"\nRW 4096 FLAT "/etc/shadow" 0'), "disk-names-other-file"),
        (('SPARSE "web01.vmdk"', "ZERO"), "disk-names-other-file"),
        (("parentCID=ffffffff", 'parentCID=12345678\nparentFileNameHint="/etc/shadow"'), "disk-has-backing-file"),
        (('createType="monolithicSparse"', 'createType="vmfs"'), "disk-names-other-file"),
    ],
)
def test_it_refuses_a_vmdk_whose_embedded_description_names_another_file(tmp_path, change, expected):
    assert code(vmdk_with_descriptor(tmp_path / "web01.vmdk", change), "vmdk") == expected


def test_it_refuses_the_capacity_of_zero_with_which_qemu_opens_the_files_of_the_description(tmp_path, host_file):
    path = vmdk_with_descriptor(
        tmp_path / "web01.vmdk",
        ('RW 16384 SPARSE "web01.vmdk"', f'RW 4096 FLAT "{host_file}" 0'),
        ("monolithicSparse", "monolithicFlat"),
    )
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 12, 0)
    path.write_bytes(data)
    # This is the harm: without vetting the other file's content is the disk's.
    qemu_img("convert", "-f", "vmdk", "-O", "raw", path, tmp_path / "out")
    assert (tmp_path / "out").read_bytes().startswith(SECRET[:100])
    assert code(path, "vmdk") == "disk-names-other-file"


def test_it_refuses_a_vhd_that_is_a_difference_to_another(tmp_path):
    path = write_image(tmp_path / "web01.vhd", "vpc")
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 60, 4)
    path.write_bytes(data)
    assert code(path, "vpc") == "disk-has-backing-file"


def test_it_refuses_an_image_that_is_not_in_its_declared_format(tmp_path, host_file):
    qemu_img("create", "-f", "qcow2", "-b", host_file, "-F", "raw", tmp_path / "b.vmdk")
    assert code(tmp_path / "b.vmdk", "vmdk") == "disk-format-mismatch"
    assert code(tmp_path / "b.vmdk", "raw") == "disk-format-mismatch"


@pytest.mark.parametrize("method", [1, 2], ids=["aes", "luks"])
def test_it_refuses_an_encrypted_qcow2(tmp_path, method):
    path = write_image(tmp_path / "e.qcow2", "qcow2")
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 32, method)
    path.write_bytes(data)
    assert code(path, "qcow2") == "disk-image-encrypted"


def test_it_refuses_sizes_below_and_above_the_limits(tmp_path):
    qemu_img("create", "-f", "qcow2", tmp_path / "small.qcow2", "64K")
    assert code(tmp_path / "small.qcow2", "qcow2") == "disk-too-small"
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=2M", tmp_path / "large.qcow2", "65T")
    assert code(tmp_path / "large.qcow2", "qcow2") == "disk-too-large"


def test_a_large_and_empty_disk_is_no_bomb(tmp_path):
    qemu_img("create", "-f", "qcow2", tmp_path / "large.qcow2", "8T")
    found = vetting.examine(Image(tmp_path / "large.qcow2", "qcow2"))
    assert (found.size, found.allocated) == (8 << 40, 0)


def test_it_refuses_a_compression_bomb(tmp_path, monkeypatch):
    """128 MiB of the same byte in some 100 KB: compressed clusters, as qemu-img itself writes them."""
    monkeypatch.setattr(vetting, "BOMB_MINIMUM", 64 * MIB)
    path = write_image(tmp_path / "bomb.raw", "raw", b"\x01" * (128 * MIB))
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", path, tmp_path / "bomb.qcow2")
    refused = refusal(tmp_path / "bomb.qcow2", "qcow2")
    assert refused.problem.code == "disk-is-a-bomb"
    assert "128 MiB" in refused.problem.text


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vhdx", "vdi", "vpc"])
def test_a_damaged_image_is_refused_in_one_readable_sentence(tmp_path, format):
    path = write_image(tmp_path / "web01", format)
    data = path.read_bytes()
    path.write_bytes(data[:80] + b"\xff" * 400 + data[480:600])
    refused = refusal(path, format)
    assert len(refused.problem.text) < 700
    assert "/image/disk" not in refused.problem.text and "json:" not in refused.problem.text


def test_snapshots_inside_a_qcow2_are_told(tmp_path):
    path = write_image(tmp_path / "web01.qcow2", "qcow2")
    qemu_img("snapshot", "-c", "one", path)
    assert vetting.examine(Image(path, "qcow2")).snapshots == 1


def test_the_agents_call_vets_every_item_and_says_so_in_the_log(tmp_path, host_file):
    good = write_image(tmp_path / "a.qcow2", "qcow2")
    lines: list[str] = []
    found = vetting.vet([{"path": str(good), "kind": "disk", "format": "qcow2"}], lines.append)
    assert [vetted.size for vetted in found] == [8 * MIB]
    assert "a.qcow2" in lines[0]
    qemu_img("create", "-f", "qcow2", "-b", host_file, "-F", "raw", tmp_path / "b.qcow2")
    items = [{"path": str(path), "kind": "disk", "format": "qcow2"} for path in (good, tmp_path / "b.qcow2")]
    with pytest.raises(RefusedError):
        vetting.vet(items, lines.append)


def test_an_image_exchanged_after_the_plan_is_caught_when_the_agent_vets_it(tmp_path, host_file):
    path = write_image(tmp_path / "a.qcow2", "qcow2")
    item = {"path": str(path), "kind": "disk", "format": "qcow2"}
    vetting.vet([item], print)
    qemu_img("create", "-f", "qcow2", "-b", host_file, "-F", "raw", path)
    with pytest.raises(RefusedError):
        vetting.vet([item], print)
    path.unlink()
    with pytest.raises(RefusedError) as refused:
        vetting.vet([item], print)
    assert refused.value.problem.code == "file-missing"


def test_a_file_that_is_written_to_or_exchanged_while_it_is_converted_is_noticed(tmp_path):
    path = write_image(tmp_path / "a.qcow2", "qcow2")
    items = [{"path": str(path), "kind": "disk", "format": "qcow2"}]
    before = vetting.stamps(items)
    path.read_bytes()
    assert vetting.changed(before, items) is None, "reading changes nothing"
    data = path.read_bytes()
    path.rename(tmp_path / "b.qcow2")
    assert vetting.changed(before, items).code == "source-changed"
    path.write_bytes(data)
    assert vetting.changed(before, items).code == "source-changed"


# -- the sandbox -------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "--disk, name=x.img"
    path.write_bytes(linux_disk())
    return path


def test_inside_there_is_that_file_and_nothing_else_of_the_server(file):
    seen = sandbox.run(["find", "/", "-xdev", "-not", "-path", "/usr/*", "-type", "f"], file).split()
    assert set(seen) <= {sandbox.FILE, "/etc/ld.so.cache"}
    assert sandbox.FILE in sandbox.run(["find", "/image"], file)


def test_inside_nothing_can_be_written_but_scratch(file):
    for path in (sandbox.FILE, "/usr/x", "/image/x"):
        with pytest.raises(sandbox.ProgramFailedError):
            sandbox.run(["sh", "-c", f"echo x >> {path}"], file)
    assert file.read_bytes() == linux_disk()


def test_inside_there_is_no_network_and_no_other_process(file):
    program = "import socket; s = socket.socket(); s.settimeout(2); s.connect(('127.0.0.1', 22))"
    with pytest.raises(sandbox.ProgramFailedError) as failed:
        sandbox.run(["/usr/bin/python3", "-I", "-c", program], file)
    assert "unreachable" in failed.value.stderr or "refused" in failed.value.stderr
    assert int(sandbox.run(["sh", "-c", "echo $$"], file)) < 10, "its own process numbers"


def test_inside_there_is_nothing_of_our_environment(file, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    assert "SECRET" not in sandbox.run(["env"], file)


def test_time_memory_processor_and_output_have_limits(file):
    quick = sandbox.Limits(wall=1, cpu=1, memory=256 << 20, output=1 << 20)
    began = time.monotonic()
    for command in (["sleep", "20"], ["sh", "-c", "while :; do :; done"], ["yes"]):
        with pytest.raises(sandbox.TookTooLongError):
            sandbox.run(command, file, quick)
    assert time.monotonic() - began < 10
    with pytest.raises((sandbox.ProgramFailedError, sandbox.TookTooLongError)):
        sandbox.run(["/usr/bin/python3", "-c", "x = bytearray(1 << 30)"], file, quick)


def test_what_took_too_long_leaves_no_process_behind(file):
    with pytest.raises(sandbox.TookTooLongError):
        sandbox.run(["sleep", "4321"], file, sandbox.Limits(wall=1))
    for _ in range(50):
        left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x004321" in _bytes(p)]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"still there: {left}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_without_bubblewrap_nothing_is_looked_at_and_the_administrator_is_told(file, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("prlimit", "qemu-img"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    refused = refusal(file, "raw")
    assert refused.problem.code == "sandbox-unusable"
    assert refused.problem.whose == "administrator"
    assert "bwrap" in refused.problem.text and "apt install bubblewrap" in refused.problem.action


def test_when_bubblewrap_cannot_work_there_is_no_way_around_it(file, monkeypatch):
    # What a kernel without user namespaces makes of it: bwrap itself ends with its own message.
    monkeypatch.setattr(sandbox, "walls", lambda path: ["--ro-bind", "/no/such/file", "/x"])
    refused = refusal(file, "raw")
    assert refused.problem.code == "sandbox-unusable"
    assert "bwrap:" in refused.problem.text


def test_a_program_inside_that_speaks_like_bubblewrap_only_gets_its_own_image_refused(file):
    with pytest.raises((sandbox.ProgramFailedError, RefusedError)):
        sandbox.run(["sh", "-c", "echo bwrap: hello >&2; exit 1"], file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own files that others cannot read")
def test_root_looks_at_files_of_others_that_nobody_else_may_read(tmp_path):
    path = tmp_path / "web01.img"
    path.write_bytes(linux_disk())
    os.chown(path, 12345, 12345)
    path.chmod(0o600)
    assert vetting.examine(Image(path, "raw")).size == 8 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_works_for_a_user_without_privileges(tmp_path):
    path = tmp_path / "web01.img"
    path.write_bytes(linux_disk())
    for folder in (path, *list(path.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    program = (
        "from pathlib import Path; from conversions.disks import vetting; from conversions.disks.images import Image; "
        f"print(vetting.examine(Image(Path({str(path)!r}), 'raw')).size)"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", program],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(8 * MIB), done.stderr


def test_vetting_imports_nothing_but_the_standard_library_and_our_own():
    program = (
        "import sys; before = set(sys.modules); import conversions.disks.vetting; "
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); {program}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['conversions']"
