import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions.disks import partitions, peek
from tests.fixtures_images import BIOS_BOOT, ESP, LINUX, MIB, ext4, gpt_disk, luks, mbr_disk

UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"


def look(disk: bytes) -> partitions.Content:
    return partitions.content(lambda offset, length: disk[offset : offset + length])


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"KDMV\1\0\0\0", "vmdk"),
        (b"# Disk DescriptorFile\nversion=1\n", "vmdk"),
        (b"vhdxfile", "vhdx"),
        (b"conectix\0\0", "vpc"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "vdi"),
        (mbr_disk()[:1024], "raw"),
        (ext4(), "raw"),
        (luks(UUID), "raw"),
    ],
)
def test_it_knows_a_format_by_its_first_bytes(head, format):
    assert peek.classify(head).format == format


def test_a_fixed_vhd_is_known_by_its_last_sector_though_it_begins_like_a_raw_disk():
    assert peek.classify(mbr_disk()[: peek.HEAD], b"conectix".ljust(512, b"\0")).format == "vpc"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"hello\nworld\n", "a text file"),
        (b"\x1f\x8b\x08", "a file compressed with gzip"),
        (b"QFI\xfb\0\0\0\1", "a disk image in the format qcow (version 1)"),
        (bytes(257) + b"ustar\0" + bytes(300), "a tar archive"),
        (bytes(0x8001) + b"CD001" + bytes(100), "the image of a CD or DVD (ISO)"),
        (bytes(4096), ""),
    ],
)
def test_it_says_what_a_file_is_that_is_no_disk_image(head, words):
    kind = peek.classify(head)
    assert kind.format is None
    assert kind.instead == words


@pytest.mark.parametrize("sector", [512, 4096])
def test_gpt_with_an_efi_partition_and_no_bios_boot_partition_is_uefi(sector):
    disk = gpt_disk((ESP, 1, b""), (LINUX, 2, ext4()), sector=sector)
    found = look(disk)
    assert found.firmware == "uefi"
    assert [part.file_system for part in found.partitions] == [None, "ext"]
    assert found.os_family == "linux"


def test_a_disk_that_can_start_either_way_says_nothing_about_the_firmware():
    assert look(gpt_disk((ESP, 1, b""), (BIOS_BOOT, 2, b""))).firmware is None
    assert look(mbr_disk((0x83, 1, ext4()))).firmware is None


def test_windows_is_known_by_ntfs_and_a_mixture_is_left_open():
    ntfs = b"\xeb\x52\x90NTFS    ".ljust(512, b"\0")
    assert look(mbr_disk((7, 1, ntfs))).os_family == "windows"
    assert look(mbr_disk((7, 1, ntfs), (0x83, 2, ext4()))).os_family is None


def test_luks_is_seen_in_a_partition_and_on_a_whole_disk():
    assert look(mbr_disk((0x83, 1, ext4()), (0x83, 2, luks(UUID)))).luks_uuids == (UUID,)
    assert look(luks(UUID)).luks_uuids == (UUID,)
    assert look(luks("no uuid")).luks_uuids == ()
    assert look(luks("no uuid")).encrypted


def test_logical_partitions_are_followed_and_a_ring_of_them_ends():
    disk = bytearray(mbr_disk((5, 2, b"")))
    disk[2 * MIB + 510 : 2 * MIB + 512] = b"\x55\xaa"
    struct.pack_into("<BxxxBxxxII", disk, 2 * MIB + 446, 0, 0x83, 2048, 2048)
    struct.pack_into("<BxxxBxxxII", disk, 2 * MIB + 462, 0, 5, 2048, 2048)
    at = 3 * MIB
    disk[at + 510 : at + 512] = b"\x55\xaa"
    struct.pack_into("<BxxxBxxxII", disk, at + 446, 0, 0x83, 2048, 2048)
    struct.pack_into("<BxxxBxxxII", disk, at + 462, 0, 5, 2048, 2048)  # back to itself
    disk[at + MIB + 1080 : at + MIB + 1082] = b"\x53\xef"
    found = look(bytes(disk))
    assert len(found.partitions) <= 40
    assert found.partitions[0].number == 5
    assert found.partitions[1].file_system == "ext"


def test_a_disk_with_very_many_partitions_is_not_read_for_minutes():
    disk = gpt_disk(*[(LINUX, 1 + number % 6, b"") for number in range(120)])
    reads = []
    partitions.content(lambda offset, length: (reads.append(offset), disk[offset : offset + length])[1])
    assert len(look(disk).partitions) == 120
    assert len(reads) < 40


@given(st.binary(max_size=4096), st.binary(max_size=600))
def test_no_bytes_make_it_fail(head, tail):
    peek.classify(head, tail)
    look(head)
    look(mbr_disk()[:512] + head)
    look(mbr_disk()[:512] + b"EFI PART" + head)
