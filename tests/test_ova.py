"""OVAs, good, odd and bad: what is read of them, and the sentence for each that cannot be used."""

import gzip
import io
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions.archives.ova import check_manifest, read_ova
from conversions.archives.ova_reader import Ova, OvaReader
from conversions.archives.packed import packed_as
from conversions.archives.tar import Member, TarReader
from conversions.problems import RefusedError
from tests.ova_files import DISK, END, good_members, header, make_ovf, make_tar, manifest, padded, write


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def refused(path: Path, **kwargs: object) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read_ova(path, **kwargs)  # type: ignore[arg-type]
    return caught.value


def codes(ova: Ova) -> list[str]:
    return [concern.code for concern in ova.concerns]


# -- good ones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_plain_ova_tells_its_members_and_disks(tmp_path: Path, format: int) -> None:
    path = write(tmp_path, make_tar(good_members(), format))
    ova = read_ova(path)
    assert ova.packed == "tar" and ova.complete and not ova.compressed and ova.concerns == ()
    assert ova.disks == ("disk1.vmdk",)
    member = ova.member("disk1.vmdk")
    assert path.read_bytes()[member.offset : member.offset + member.size] == DISK
    assert check_manifest(path, ova) == ("web01.ovf", "disk1.vmdk")


@pytest.mark.parametrize("pack", [lambda m: gzip.compress(make_tar(m)), zipped])
def test_a_packed_ova_is_read_like_a_plain_one(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    path = write(tmp_path, pack(good_members()))
    ova = read_ova(path)
    assert ova.packed in ("tar.gz", "zip") and ova.disks == ("disk1.vmdk",)
    assert ova.member("disk1.vmdk").size == len(DISK)
    assert check_manifest(path, ova) == ("web01.ovf", "disk1.vmdk")


def test_an_unpacked_ova_is_a_folder(tmp_path: Path) -> None:
    for name, data in good_members().items():
        write(tmp_path, data, name)
    (tmp_path / "link.vmdk").symlink_to("/etc/passwd")
    ova = read_ova(tmp_path)
    assert ova.packed == "folder" and ova.disks == ("disk1.vmdk",)
    assert "link.vmdk" not in [member.name for member in ova.members]
    assert len(check_manifest(tmp_path, ova)) == 2


def test_the_disks_come_in_the_order_of_the_ovf_not_of_the_archive(tmp_path: Path) -> None:
    members = {"b.vmdk": DISK, "a.vmdk": DISK, "x.ovf": make_ovf(disks=["a.vmdk", "b.vmdk"])}
    assert read_ova(write(tmp_path, make_tar(members))).disks == ("a.vmdk", "b.vmdk")


def test_names_longer_than_a_tar_header_are_read(tmp_path: Path) -> None:
    long = "x" * 180 + ".vmdk"
    members = {"x.ovf": make_ovf(disks=[long]), long: DISK}
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert read_ova(write(tmp_path, make_tar(members, format))).disks == (long,)


def test_the_prefix_of_a_ustar_name_counts(tmp_path: Path) -> None:
    folder = "f" * 90
    members = {f"{folder}/x.ovf": make_ovf(), f"{folder}/disk1.vmdk": DISK}
    assert read_ova(write(tmp_path, make_tar(members))).disks == (f"{folder}/disk1.vmdk",)


@pytest.mark.parametrize("style", ["base-256", "pax"])
def test_members_larger_than_8_gib_are_followed(tmp_path: Path, style: str) -> None:
    size = 9 << 30
    path = tmp_path / "big.ova"
    with path.open("wb") as file:
        file.write(header("x.ovf", len(make_ovf())) + padded(make_ovf()))
        if style == "pax":
            said = record(f"size={size}")
            file.write(header("pax", len(said), b"x") + padded(said) + header("disk1.vmdk", 0))
        else:
            file.write(header("disk1.vmdk", b"\x80" + size.to_bytes(11, "big")))
        start = file.tell()
        file.seek(start + size)
        file.write(END)
    begin = time.monotonic()
    ova = read_ova(path)
    assert ova.member("disk1.vmdk") == Member("disk1.vmdk", start, size)
    assert time.monotonic() - begin < 1, "9 GiB are skipped, not read"


def test_any_cut_of_the_stream_gives_the_same_members() -> None:
    data = make_tar(good_members(), tarfile.PAX_FORMAT)
    expected = [(m.name, m.offset, m.size) for m in _members_of(data, len(data))]
    for step in (1, 7, 511, 512, 513, 4096):
        assert [(m.name, m.offset, m.size) for m in _members_of(data, step)] == expected


def _members_of(data: bytes, step: int) -> list[Member]:
    reader = TarReader()
    found: list[Member] = []
    content = b""
    for at in range(0, len(data), step):
        for piece in reader.feed(data[at : at + step]):
            if piece.what == "end" and piece.member:
                found.append(piece.member)
            content += piece.data
    assert reader.over and content == b"".join(good_members().values())
    return found


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("line", ["{alg}({name})= {hex}\n", "{alg} ({name}) = {hex}\n", "{alg}({name})={hex}\r\n"])
def test_every_manifest_is_compared(tmp_path: Path, algorithm: str, line: str) -> None:
    described = make_ovf()
    members = {"web01.ovf": described, "disk1.vmdk": DISK}
    good = {**members, "web01.mf": manifest(members, algorithm, line)}
    path = write(tmp_path, make_tar(good))
    assert check_manifest(path, read_ova(path)) == ("web01.ovf", "disk1.vmdk")
    for pack in (make_tar, zipped, lambda m: gzip.compress(make_tar(m))):
        path = write(tmp_path, pack({**good, "disk1.vmdk": DISK[:-1] + b"!"}))
        with pytest.raises(RefusedError) as caught:
            check_manifest(path, read_ova(path))
        assert caught.value.problem.code == "ova-manifest-mismatch"
        assert "disk1.vmdk" in caught.value.problem.text


def test_one_of_two_guests_can_be_chosen(tmp_path: Path) -> None:
    members = {"a.ovf": make_ovf(name="a"), "b.ovf": make_ovf(name="b"), "c.ovf": b"broken", "disk1.vmdk": DISK}
    ova = read_ova(write(tmp_path, make_tar(members)), ovf_name="b.ovf")
    assert ova.ovf.name == "b" and "ova-chosen" in codes(ova)


def test_a_quick_look_at_a_gzipped_ova_ends_early(tmp_path: Path) -> None:
    members = {"x.ovf": make_ovf(), "disk1.vmdk": bytes(400 << 20)}
    path = write(tmp_path, gzip.compress(make_tar(members), 1))
    assert not read_ova(path, quick=True).complete
    assert read_ova(path).complete


# -- odd ones: they are read, with a concern ---------------------------------------------------------------------------

GOOD = good_members()
ODD: dict[str, tuple[dict[str, bytes], str]] = {
    "macos-ovf": ({"._web01.ovf": b"\0\5\x16\7", **GOOD}, "ova-macos-members"),
    "macos-disk": ({**GOOD, "._disk1.vmdk": b"\0\5\x16\7"}, "ova-macos-members"),
    "macos-folder": ({"__MACOSX/web01.ovf": b"x", **GOOD}, "ova-macos-members"),
    "dot-slash": ({f"./{name}": data for name, data in GOOD.items()}, "ova-names"),
    "capitals": ({"WEB01.OVF": make_ovf(), "disk1.vmdk": DISK}, "ova-names"),
    "sha512": ({**GOOD, "web01.mf": manifest(GOOD, "sha512")}, "ova-manifest-sha512"),
    "spaces": ({**GOOD, "web01.mf": manifest(GOOD, line="{alg} ({name}) = {hex}\n")}, "ova-manifest-spaces"),
    "stranger": ({**GOOD, "web01.mf": manifest({**GOOD, "gone.iso": b""})}, "ova-manifest-stranger"),
    "odd-manifest": ({**GOOD, "web01.mf": b"this is no manifest\nSHA256(disk1.vmdk)= 1234\n"}, "ova-manifest-odd"),
    "encoded": ({"x.ovf": make_ovf(disks=["my%20disk.vmdk"]), "my disk.vmdk": DISK}, "ovf-href-encoded"),
    "no-firmware": (good_members(config=""), "ovf-firmware-missing"),
    "no-memory": (good_members(memory=""), "ovf-memory-missing"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_ova_is_read_with_a_concern(tmp_path: Path, name: str) -> None:
    members, code = ODD[name]
    ova = read_ova(write(tmp_path, make_tar(members)))
    assert code in codes(ova)
    assert len(ova.disks) == 1 and ova.member(ova.disks[0]).size == len(DISK)
    concern = next(c for c in ova.concerns if c.code == code)
    assert concern.text.endswith(".") and concern.title


# -- bad ones: each with its sentence ----------------------------------------------------------------------------------

OVF = make_ovf()
START = header("x.ovf", len(OVF)) + padded(OVF)
PLAIN = make_tar(good_members())


def special(kind: bytes) -> bytes:
    info = tarfile.TarInfo("disk1.vmdk")
    info.type, info.linkname = kind, "/etc/passwd"
    return START + info.tobuf(tarfile.USTAR_FORMAT) + END


def record(text: str) -> bytes:
    """A pax record: its length, which counts itself, and key=value."""
    length = len(text) + 2
    while len(f"{length} {text}\n") != length:
        length += 1
    return f"{length} {text}\n".encode()


def pax(said: str | bytes, kind: bytes = b"x") -> bytes:
    text = record(said) if isinstance(said, str) else said
    return START + header("pax", len(text), kind) + padded(text) + header("disk1.vmdk", len(DISK)) + padded(DISK) + END


def with_disk(name: str) -> bytes:
    return make_tar({"x.ovf": OVF, name: DISK})


def zip_of_many() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(1100):
            archive.writestr(str(number), b"")
    return buffer.getvalue()


def zip_claiming(unpacked: int) -> bytes:
    data = bytearray(zipped({"x.ovf": OVF, "disk1.vmdk": DISK}))
    at = data.rfind(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, unpacked)
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(zipped({"x.ovf": OVF, "disk1.vmdk": DISK}))
    data[data.rfind(b"PK\1\2") + 8] |= 1
    return bytes(data)


def zip_with_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("disk1.vmdk")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


BAD: dict[str, tuple[bytes, str, str]] = {
    # what it is: (bytes, code, a part of the sentence)
    "empty": (b"", "ova-empty", "no bytes at all"),
    "short": (b"abc", "ova-truncated", "only 3 bytes"),
    "random": (bytes(range(256)) * 16, "ova-not-an-archive", "does not begin like an OVA"),
    "qcow2": (b"QFI\xfb" + bytes(600), "ova-other-file", "a qcow2 disk image"),
    "vmdk": (b"KDMV" + bytes(600), "ova-other-file", "a VMDK disk image"),
    "vmdk-descriptor": (b"# Disk DescriptorFile\n" + bytes(600), "ova-other-file", "description file of a VMDK"),
    "vhdx": (b"vhdxfile" + bytes(600), "ova-other-file", "a VHDX disk image"),
    "xz": (b"\xfd7zXZ\0" + bytes(600), "ova-other-file", "packed with xz"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(600), "ova-other-file", "a 7-Zip archive"),
    "html": (b"<!doctype HTML><title>404</title>" + bytes(600), "ova-other-file", "a web page"),
    "ovf-alone": (OVF, "ova-other-file", "an OVF without its disks"),
    "only-zeros": (bytes(10240), "ova-no-ovf", "holds no .ovf"),
    "no-ovf": (make_tar({"disk1.vmdk": DISK}), "ova-no-ovf", "holds no .ovf"),
    "two-ovf": (make_tar({"a.ovf": OVF, "b.ovf": OVF, "disk1.vmdk": DISK}), "ova-two-ovf", "“a.ovf”, “b.ovf”"),
    "twenty-ovf": (make_tar({f"{n}.ovf": OVF for n in range(21)}), "ova-two-ovf", "more than 20"),
    "no-disk": (make_tar({"x.ovf": OVF}), "ova-disk-missing", "“disk1.vmdk”"),
    "disk-under-other-name": (with_disk("other.vmdk"), "ova-disk-missing", "“disk1.vmdk”"),
    "dots": (with_disk("../disk1.vmdk"), "ova-name-escapes", "outside of the OVA"),
    "dots-within": (with_disk("a/../../disk1.vmdk"), "ova-name-escapes", "outside of the OVA"),
    "absolute": (with_disk("/etc/cron.d/x"), "ova-name-escapes", "outside of the OVA"),
    "windows-path": (with_disk("..\\disk1.vmdk"), "ova-name-escapes", "outside of the OVA"),
    "drive-letter": (with_disk("C:disk1.vmdk"), "ova-name-escapes", "outside of the OVA"),
    "control-characters": (with_disk("disk\x1b[31m.vmdk"), "ova-odd-name", "odd name"),
    "href-dots": (make_tar({"x.ovf": make_ovf(disks=["../../etc/shadow"])}), "ova-name-escapes", "outside of the OVA"),
    "href-encoded-dots": (make_tar({"x.ovf": make_ovf(disks=["%2e%2e/shadow"])}), "ova-name-escapes", "outside"),
    "symlink": (special(tarfile.SYMTYPE), "ova-link", "a symbolic link"),
    "hard-link": (special(tarfile.LNKTYPE), "ova-link", "a hard link"),
    "device": (special(tarfile.BLKTYPE), "ova-link", "a device"),
    "pipe": (special(tarfile.FIFOTYPE), "ova-link", "a pipe"),
    "unknown-kind": (special(b"M"), "ova-odd-member", "unknown kind"),
    "gnu-sparse": (special(b"S"), "ova-sparse", "--sparse"),
    "pax-sparse": (pax("GNU.sparse.major=1"), "ova-sparse", "--sparse"),
    "name-twice": (
        make_tar([("x.ovf", OVF), ("disk1.vmdk", DISK), ("disk1.vmdk", b"")]),
        "ova-name-twice",
        "two files",
    ),
    "cut-in-disk": (PLAIN[: PLAIN.index(DISK) + 5000], "ova-truncated", "“disk1.vmdk” in it ends too early"),
    "cut-in-header": (START + header("disk1.vmdk", 5)[:100], "ova-truncated", "at least 412 bytes"),
    "cut-between": (
        header("x.ovf", len(make_ovf(disks={"disk1.vmdk": 777}))) + padded(make_ovf(disks={"disk1.vmdk": 777})),
        "ova-truncated",
        "at least 777 bytes",
    ),
    "damaged-in-the-middle": (START + b"x" * 512 + END, "ova-damaged", "not part of a tar archive"),
    "size-not-octal": (START + header("disk1.vmdk", b"99999999999") + END, "ova-odd-size", "not a number"),
    "size-negative": (START + header("disk1.vmdk", b"\xff" * 12) + END, "ova-odd-size", "negative"),
    "size-absurd": (START + header("disk1.vmdk", b"\x80" + b"\x7f" * 11) + END, "ova-odd-size", "64 TiB"),
    "pax-size-not-a-number": (pax("size=-99"), "ova-odd-size", "not a number"),
    "pax-size-absurd": (pax("size=99999999999999999999"), "ova-odd-size", "64 TiB"),
    "pax-path-escapes": (pax("path=../../etc/passwd"), "ova-name-escapes", "outside"),
    "pax-for-all": (pax("path=a.vmdk", kind=b"g"), "ova-odd-headers", "one path"),
    "pax-nonsense": (pax(b"9999 nonsense"), "ova-damaged", "cannot be read"),
    "pax-huge": (START + header("pax", 1 << 30, b"x"), "ova-headers-too-large", "far larger"),
    "pax-in-a-row": (START + header("L", 0, b"L") * 50, "ova-headers-too-large", "far larger"),
    "long-name-huge": (START + header("L", 1 << 30, b"L"), "ova-headers-too-large", "far larger"),
    "folder-with-content": (START + header("d", 512, b"5") + END, "ova-odd-size", "claims to have content"),
    "many-members": (START + b"".join(header(f"f{n}") for n in range(1100)), "ova-too-many-members", "more than 1000"),
    "huge-ovf": (header("x.ovf", 1 << 30), "ova-member-too-large", "larger than 4 MiB"),
    "huge-manifest": (START + header("x.mf", 1 << 30), "ova-member-too-large", "larger than 1 MiB"),
    "broken-ovf": (make_tar({"x.ovf": b"<Envelope>", "disk1.vmdk": DISK}), "ovf-not-xml", "not well-formed XML"),
    "gz-cut": (gzip.compress(PLAIN)[:-40], "ova-truncated", "ends too early"),
    "gz-damaged": (gzip.compress(PLAIN)[:60] + b"?" * 100, "ova-damaged", "cannot be unpacked"),
    "gz-of-something": (gzip.compress(b"hello" * 500), "ova-not-an-archive", "does not begin like an OVA"),
    "zip-cut": (zipped(GOOD)[:-30], "ova-truncated", "its end"),
    "zip-broken-table": (zipped(GOOD).replace(b"PK\1\2", b"PK\1\3"), "ova-damaged", "table of contents"),
    "zip-many": (zip_of_many(), "ova-too-many-members", "more than 1000"),
    "zip-dots": (zipped({"../x.ovf": OVF}), "ova-name-escapes", "outside"),
    "zip-link": (zip_with_link(), "ova-link", "symbolic link"),
    "zip-encrypted": (encrypted_zip(), "ova-encrypted", "needs a password"),
    "zip-bzip2": (zipped(GOOD, zipfile.ZIP_BZIP2), "ova-packed-oddly", "packed in a way"),
    "zip-no-ovf": (zipped({"disk1.vmdk": DISK}), "ova-no-ovf", "holds no .ovf"),
    "zip-damaged-ovf": (
        zipped({"x.ovf": OVF}).replace(b"PK\3\4", b"PK\3\5", 1),
        "ova-not-an-archive",
        "does not begin",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_ova_is_refused_with_its_sentence(tmp_path: Path, name: str) -> None:
    data, code, part = BAD[name]
    problem = refused(write(tmp_path, data)).problem
    assert (problem.code, part in problem.text) == (code, True), problem
    assert problem.text.endswith(".") and problem.action.endswith((".", "vmdk")), problem


def test_a_zip_bomb_is_seen_from_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, zip_claiming(0xFFFFFFF0))
    read_ova(path)  # 4 GiB is a plausible disk
    monkeypatch.setattr("conversions.archives.packed.RATIO_MATTERS", 1 << 30)
    assert refused(path).problem.code == "ova-bomb"


def test_a_gzip_bomb_is_given_up_without_filling_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversions.archives.packed.RATIO_MATTERS", 64 << 20)
    bomb = gzip.compress(START + header("disk1.vmdk", 1 << 30) + bytes(200 << 20), 9)
    path = write(tmp_path, bomb)
    tracemalloc.start()
    problem = refused(path).problem
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problem.code == "ova-bomb" and peak < 16 << 20


# -- fuzz --------------------------------------------------------------------------------------------------------------


def _feed(data: bytes, step: int) -> None:
    reader = OvaReader()
    try:
        for at in range(0, len(data), step):
            for _ in reader.feed(data[at : at + step]):
                pass
        reader.finish()
    except RefusedError as error:
        assert error.problem.text


@settings(max_examples=300, deadline=2000)
@given(st.binary(max_size=4096), st.integers(1, 2048))
def test_any_bytes_are_read_or_refused(data: bytes, step: int) -> None:
    _feed(data, step)


@settings(max_examples=400, deadline=2000)
@given(
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.lists(st.tuples(st.integers(0, 20000), st.binary(min_size=1, max_size=40)), max_size=6),
    st.booleans(),
)
def test_a_changed_ova_is_read_or_refused(format: int, changes: list[tuple[int, bytes]], mend: bool) -> None:
    data = bytearray(make_tar({"x" * 90 + "/" + "y" * 60 + ".ovf": OVF, **GOOD}, format))
    for at, new in changes:
        data[at : at + len(new)] = new
    if mend:  # right checksums, so that the nonsense gets past the first check
        for at in range(0, len(data) - 511, 512):
            if data[at + 257 : at + 262] == b"ustar":
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    _feed(bytes(data), 700)


@settings(max_examples=200, deadline=2000)
@given(
    st.sampled_from([zipped(GOOD), gzip.compress(PLAIN)]),
    st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6),
)
def test_a_changed_zip_or_gzip_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(good)
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new
    path = tmp_path_factory.mktemp("fuzz") / "x.ova"
    path.write_bytes(data)
    try:
        ova = read_ova(path)
        check_manifest(path, ova)
    except RefusedError as error:
        assert error.problem.text


@settings(max_examples=200)
@given(st.binary(max_size=600))
def test_the_first_bytes_tell_how_it_is_packed_or_are_refused(head: bytes) -> None:
    try:
        assert packed_as(head) in ("tar", "tar.gz", "zip")
    except RefusedError as error:
        assert error.problem.text
