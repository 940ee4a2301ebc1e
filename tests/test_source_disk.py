"""Files on the server, one or several for one guest: what is taken, and with which words the rest is refused."""

import os
import shutil
import socket
from pathlib import Path

import pytest
from django.http import QueryDict

from conversions.problems import RefusedError
from conversions.sources import roots
from conversions.sources.base import FormProblem
from conversions.sources.disk import DiskForm, DiskSource
from tests.fixtures_images import ESP, LINUX, MIB, ext4, gpt_disk, linux_disk, luks, mbr_disk, qemu_img, write_image

UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"


def settings_of(*paths, format=""):
    form = DiskForm({"paths": [str(path) for path in paths], "format": format})
    if form.is_valid():
        return form.cleaned_data
    name, errors = next(iter(form.errors.as_data().items()))
    assert isinstance(errors[0], FormProblem)
    raise RefusedError(errors[0].problem, field=name)


def refusal(*paths, format="") -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        settings_of(*paths, format=format)
    problem = refused.value.problem
    assert problem.title and problem.text and problem.action, "what happened and what next"
    return refused.value


def code(*paths, format="") -> str:
    return refusal(*paths, format=format).problem.code


@pytest.fixture
def image(root: Path) -> Path:
    path = root / "web01.img"
    path.write_bytes(linux_disk())
    return path


def test_it_takes_a_file_by_its_whole_path_or_relative_to_a_root(root, image):
    assert settings_of(image)["paths"] == settings_of("web01.img")["paths"] == [str(image)]
    assert settings_of(image)["format"] == "raw"


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vpc", "vhdx", "vdi"])
def test_it_finds_out_the_format_and_declares_it(root, format):
    ending = "vhd" if format == "vpc" else format
    assert settings_of(write_image(root / f"web01.{ending}", format))["format"] == format


def test_several_files_may_come_as_fields_or_as_lines(root, image):
    second = root / "data.img"
    second.write_bytes(linux_disk())
    typed = QueryDict(mutable=True)
    typed.setlist("paths", [f"{image}\r\n{second}\n"])
    fields = QueryDict(mutable=True)
    fields.setlist("paths", [str(image), str(second)])
    for data in (typed, fields):
        form = DiskForm(data)
        assert form.is_valid(), form.errors
        assert form.cleaned_data["paths"] == [str(image), str(second)]


def test_it_refuses_a_file_that_is_missing(root):
    assert code(root / "nothing.img") == "file-missing"
    assert code("nothing.img") == "file-missing"
    assert code(root / "web01.img" / "x") == "file-missing"


def test_it_refuses_an_empty_file_and_a_folder_and_what_is_no_ordinary_file(root):
    (root / "empty.img").touch()
    assert code(root / "empty.img") == "file-empty"
    assert code(root) == "file-is-folder"
    os.mkfifo(root / "pipe.img")
    assert code(root / "pipe.img") == "not-a-file"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket.img"))
        assert code(root / "socket.img") in ("not-a-file", "file-unreadable")


def test_it_refuses_a_file_that_cannot_be_read_and_sends_the_person_to_the_administrator(root, image, monkeypatch):
    if os.geteuid() == 0:
        # root reads everything; the system call is told to say no
        real = os.open

        def no(path, *args, **more):
            if Path(path) == image:
                raise PermissionError(13, "Permission denied")
            return real(path, *args, **more)

        monkeypatch.setattr(os, "open", no)
    else:
        image.chmod(0)
    refused = refusal(image)
    assert refused.problem.code == "file-unreadable"
    assert refused.problem.whose == "administrator"


def test_it_refuses_what_lies_outside_the_roots_whether_it_is_there_or_not(root, image, tmp_path):
    (tmp_path / "secret.img").write_bytes(linux_disk())
    texts = {
        refusal(path).problem.text.replace(str(path), "PATH")
        for path in (tmp_path / "secret.img", tmp_path / "no-such-file.img")
    }
    assert len(texts) == 1, "the words would tell which files exist"
    for path in ("/etc/shadow", "../secret.img", f"{root}/../secret.img", f"{root}x/y", "/proc/self/environ"):
        assert code(path) == "path-outside-roots", path


def test_it_refuses_links_that_lead_out_and_follows_those_that_stay_in(root, image, tmp_path):
    (tmp_path / "secret.img").write_bytes(linux_disk())
    (root / "out.img").symlink_to(tmp_path / "secret.img")
    (root / "folder").symlink_to(tmp_path)
    (root / "in.img").symlink_to(image)
    assert code(root / "out.img") == "path-outside-roots"
    assert code(root / "folder" / "secret.img") == "path-outside-roots"
    assert settings_of(root / "in.img")["paths"] == [str(image)]


def test_a_loop_of_links_is_no_file(root):
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    assert code(root / "a") in ("file-unreadable", "path-outside-roots")


def test_v2vwebs_own_folder_stays_closed_even_under_a_root(root, tmp_path, settings):
    settings.SOURCE_ROOTS = (tmp_path,)
    (settings.DATA_DIR / "secrets.key").write_text("key")
    assert code(settings.DATA_DIR / "secrets.key") == "path-outside-roots"
    assert settings.DATA_DIR.name not in [entry.name for entry in roots.browse(str(tmp_path))[1]]


def test_without_roots_it_names_the_setting_to_the_administrator(root, settings):
    settings.SOURCE_ROOTS = ()
    refused = refusal("web01.img")
    assert refused.problem.whose == "administrator"
    assert "V2VWEB_SOURCE_ROOTS" in refused.problem.action


@pytest.mark.parametrize("path", ["a\0b", "\u202egmi.10bew", "\x1b[31mred", "x" * 5000])
def test_it_refuses_paths_with_strange_characters_and_shows_none_of_them(root, path):
    refused = refusal(path)
    assert refused.problem.code == "path-not-allowed"
    assert refused.problem.text.isprintable()


@pytest.mark.parametrize("paths", [None, [], "", 5, [5], {"a": 1}, [["x"]]])
def test_it_refuses_what_is_no_list_of_paths(root, paths):
    form = DiskForm({"paths": paths})
    assert not form.is_valid()
    assert "paths" in form.errors


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"hello\n" * 50, "a text file"),
        ("invoice.pdf", b"%PDF-1.7\n" + bytes(900), "PDF"),
        ("web01.img", b"\x1f\x8b\x08" + bytes(900), "gzip"),
        ("zeros.img", bytes(MIB), "no partition table"),
        ("setup.iso", bytes(0x8001) + b"CD001" + bytes(100), "CD or DVD"),
        ("web01.ova", bytes(257) + b"ustar\0" + bytes(300), "archive"),
        ("old.img", b"QFI\xfb\0\0\0\1" + bytes(900), "qcow (version 1)"),
    ],
)
def test_it_refuses_what_is_no_disk_image_and_says_what_it_is(root, name, content, words):
    (root / name).write_bytes(content)
    refused = refusal(root / name)
    assert refused.problem.code == "not-a-disk-image"
    assert words in refused.problem.text


def test_an_ova_chosen_as_a_disk_image_is_sent_to_the_right_source(root):
    (root / "web01.ova").write_bytes(bytes(257) + b"ustar\0" + bytes(300))
    assert "OVA" in refusal(root / "web01.ova").problem.action


def test_it_refuses_a_declared_format_that_the_file_is_not(root, image):
    refused = refusal(image, format="qcow2")
    assert refused.problem.code == "disk-format-mismatch"
    assert refused.field == "format"
    qcow2 = write_image(root / "b.qcow2", "qcow2")
    assert code(qcow2, format="raw") == "disk-format-mismatch"


def test_a_raw_disk_in_which_the_guest_wrote_another_formats_header_is_not_believed(root):
    disk = write_image(root / "web01.qcow2", "qcow2")
    disguised = root / "web01.raw"
    disk.rename(disguised)
    assert code(disguised) == "format-unclear"
    assert settings_of(disguised, format="qcow2")["format"] == "qcow2"


def test_the_flat_file_beside_a_vmdk_is_raw(root):
    (root / "web01-flat.vmdk").write_bytes(linux_disk())
    assert settings_of(root / "web01-flat.vmdk")["format"] == "raw"
    (root / "web01.vmdk").write_bytes(linux_disk())
    assert code(root / "web01.vmdk") == "format-unclear"


def test_it_refuses_mixed_formats_one_file_twice_and_too_many(root, image):
    assert code(image, write_image(root / "b.qcow2", "qcow2")) == "formats-mixed"
    os.link(image, root / "same.img")
    assert code(image, root / "same.img") == "disk-twice"
    assert code(image, "web01.img") == "disk-twice"
    assert code(*[image] * 17) == "too-many-disks"


def test_a_look_tells_sizes_family_and_a_name_and_that_the_firmware_is_seen_on_the_disk(root):
    image = root / "Web 01.img"
    image.write_bytes(gpt_disk((ESP, 1, b""), (LINUX, 2, ext4())))
    finding = DiskSource().look(settings_of(image))
    guest = finding.guest
    assert (guest.name, guest.os, guest.os_family, guest.firmware) == ("Web 01", None, "linux", "uefi")
    assert guest.memory is None and guest.cpus is None and guest.nics == (), "nothing is made up"
    (disk,) = guest.disks
    assert (disk.name, disk.format, disk.size) == ("Web 01.img", "raw", 8 * MIB)
    assert "firmware-from-disk" in [concern.code for concern in finding.concerns]


@pytest.mark.parametrize("format", ["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi"])
def test_a_look_reads_the_disk_inside_whatever_its_format(root, format):
    disk = mbr_disk((0x83, 1, ext4()), (0x83, 3, luks(UUID)))
    ending = "vhd" if format == "vpc" else format
    finding = DiskSource().look(settings_of(write_image(root / f"web01.{ending}", format, disk)))
    assert finding.facts["luks"] == [UUID]
    assert finding.guest.encrypted is True
    assert finding.guest.os_family == "linux"
    assert finding.guest.disks[0].size >= 8 * MIB  # a VHD rounds up to whole cylinders


def test_a_look_warns_of_snapshots_inside_and_of_a_file_cut_off(root, image):
    qcow2 = write_image(root / "b.qcow2", "qcow2")
    qemu_img("snapshot", "-c", "before", qcow2)
    assert "disk-has-snapshots" in [c.code for c in DiskSource().look(settings_of(qcow2)).concerns]
    with image.open("ab") as file:
        file.write(b"x" * 100)
    assert "disk-odd-size" in [c.code for c in DiskSource().look(settings_of(image)).concerns]


def test_a_look_refuses_a_hostile_image(root, image):
    qemu_img("create", "-f", "qcow2", "-b", image, "-F", "raw", root / "b.qcow2")
    with pytest.raises(RefusedError) as refused:
        DiskSource().look(settings_of(root / "b.qcow2"))
    assert refused.value.problem.code == "disk-has-backing-file"


def test_a_file_that_went_away_after_the_form_is_a_refusal_too(root, image):
    settings = settings_of(image)
    image.unlink()
    with pytest.raises(RefusedError) as refused:
        DiskSource().look(settings)
    assert refused.value.problem.code == "file-missing"


def test_the_list_shows_folders_first_and_leaves_out_hidden_files_and_links_that_lead_out(root, image, tmp_path):
    (root / "vm").mkdir()
    (root / "Notes.txt").write_text("x")
    (root / "b.ova").write_text("x")
    (root / ".hidden.img").write_text("x")
    (root / "out.img").symlink_to("/etc/hostname")
    (root / "dangling.img").symlink_to(root / "gone")
    (root / "in.img").symlink_to(image)
    here, entries = roots.browse(str(root))
    assert here == root
    assert [(entry.name, entry.kind) for entry in entries] == [
        ("vm", "folder"),
        ("b.ova", "ova"),
        ("in.img", "disk"),
        ("Notes.txt", "other"),
        ("web01.img", "disk"),
    ]
    assert entries[-1].size == 8 * MIB
    assert entries[-1].modified.tzinfo is not None
    assert settings_of(entries[-1].path)["paths"] == [str(image)]


def test_the_list_begins_with_the_roots_and_shows_no_other_folder(root, tmp_path):
    here, entries = roots.browse()
    assert here is None
    assert [entry.path for entry in entries] == [str(root)]
    for folder in ("/etc", f"{root}/..", "images", f"{root}/nothing", "\0", str(tmp_path)):
        with pytest.raises(RefusedError) as refused:
            roots.browse(folder)
        assert refused.value.problem.code == "folder-missing"
        assert refused.value.status == 404


def test_a_root_that_is_a_link_or_is_not_there_does_no_harm(root, image, tmp_path, settings):
    (tmp_path / "link").symlink_to(root)
    settings.SOURCE_ROOTS = (tmp_path / "link", tmp_path / "not mounted")
    assert settings_of("web01.img")["paths"] == [str(image)]
    assert settings_of(tmp_path / "link" / "web01.img")["paths"] == [str(image)]
    shutil.rmtree(root)
    assert roots.browse() == (None, [])
