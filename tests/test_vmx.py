"""A guest's .vmx file and a disk's descriptor: what is read of them, and what hostile ones come to."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions.servers import vmx
from conversions.servers.esxi_shell import registered
from conversions.servers.inventory import GuestRecord

HEAD = '.encoding = "UTF-8"\nconfig.version = "8"\ndisplayName = "web01"\n'
PLACE = vmx.Place("ds1/web01/web01.vmx")
LABELS = {"5f3c-1": "ds1", "5f3c-2": "ds2"}


def record(text: str) -> GuestRecord:
    return vmx.record_of("1", PLACE, vmx.parse((HEAD + text).encode()), LABELS)


def test_names_numbers_and_hardware_are_read() -> None:
    it = record(
        'guestOS = "oraclelinux8-64"\nmemsize = "4096"\nnumvcpus = "4"\ncpuid.coresPerSocket = "2"\nfirmware = "efi"\n'
        'uefi.secureBoot.enabled = "TRUE"\nvtpm.present = "TRUE"\nuuid.bios = "56 4d 1c 2a 3b 4c 5d 6e-7f 80 91 a2 b3 c4 d5 e6"\n'
        'usb_xhci.present = "TRUE"\nvcpu.hotadd = "TRUE"\npciPassthru0.present = "TRUE"\nsched.cpu.affinity = "0,1"\n'
    )
    assert (it.name, it.os_id, it.memory, it.cpus, it.cores_per_socket) == (
        *("web01", "oracleLinux8_64Guest", 4 << 30, 4, 2),
    )
    assert (it.firmware, it.secure_boot, it.tpm, it.uuid) == (
        *("uefi", True, True, "564d1c2a-3b4c-5d6e-7f80-91a2b3c4d5e6"),
    )
    assert it.usb and it.hot_add and it.passthrough and it.cpu_affinity and not it.is_encrypted
    assert it.vmx == "[ds1] web01/web01.vmx"


def test_what_vmware_leaves_out_is_what_it_takes_then_and_what_only_an_api_tells_is_unknown() -> None:
    it = record("")
    assert (it.cpus, it.firmware, it.memory, it.secure_boot) == (1, "bios", None, False)
    assert (it.power, it.tools, it.hostname, it.needs_consolidation, it.host_in_maintenance) == (None,) * 5


def test_the_system_is_called_as_people_call_it() -> None:
    assert record('guestOS = "windows9-64"').os == "Microsoft Windows 10 (64-bit)"
    assert record('guestOS = "windows2019srvNext-64"').os == "Microsoft Windows Server 2022 (64-bit)"
    told = "guestOS.detailed.data = \"bitness='64' prettyName='Debian GNU/Linux 12 (bookworm)'\"\n"
    assert record(told + 'guestOS = "debian12-64"').os == "Debian GNU/Linux 12 (bookworm)"
    assert record('guestOS = "windows9-64"').os_family == "windows"


def test_cards_have_their_network_address_and_model() -> None:
    first, second = record(
        'ethernet0.present = "TRUE"\nethernet0.virtualDev = "vlance"\nethernet0.networkName = "VM Network"\n'
        'ethernet0.generatedAddress = "00:0C:29:12:34:56"\nethernet1.present = "TRUE"\nethernet1.virtualDev = "vmxnet3"\n'
        'ethernet1.dvs.portgroupId = "dvportgroup-7"\nethernet1.address = "nonsense"\nethernet2.present = "FALSE"\n'
    ).nics
    assert (first.mac, first.model, first.network, first.is_distributed) == (
        *("00:0c:29:12:34:56", "pcnet32", "VM Network", False),
    )
    assert (second.mac, second.model, second.network, second.is_distributed) == (None, "vmxnet3", "dvportgroup-7", True)


def test_disks_stand_in_the_order_of_their_slots_without_cds() -> None:
    disks = record(
        'sata0:1.present = "TRUE"\nsata0:1.fileName = "s.vmdk"\nscsi0:10.present = "TRUE"\nscsi0:10.fileName = "b.vmdk"\n'
        'scsi0:2.present = "TRUE"\nscsi0:2.fileName = "/vmfs/volumes/5f3c-2/other/a.vmdk"\n'
        'scsi0:2.mode = "independent-persistent"\n'
        'ide1:0.present = "TRUE"\nide1:0.deviceType = "atapi-cdrom"\nide1:0.fileName = "auto detect"\n'
        'scsi0:3.present = "FALSE"\nscsi0:3.fileName = "c.vmdk"\n'
    ).disks
    assert [(disk.file, disk.datastore, disk.controller) for disk in disks] == [
        ("[ds2] other/a.vmdk", "ds2", "scsi"),
        ("[ds1] web01/b.vmdk", "ds1", "scsi"),
        ("[ds1] web01/s.vmdk", "ds1", "sata"),
    ]
    assert disks[0].mode == "independent_persistent" and disks[1].mode == "persistent"


@pytest.mark.parametrize(
    "name",
    [
        *("../other/x.vmdk", "../../../etc/shadow.vmdk", "/etc/shadow", "/vmfs/volumes/../../etc/x.vmdk"),
        *(
            "/vmfs/volumes/5f3c-2/../5f3c-1/x.vmdk",
            "/vmfs/devices/disks/naa.1",
            "/vmfs/volumes/x.vmdk",
            "a|0Ab.vmdk|00",
        ),
    ],
)
def test_a_disk_that_is_nowhere_a_disk_may_be_is_not_touched(name: str) -> None:
    (disk,) = record(f'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "{name}"\n').disks
    if "|" in name:  # its control characters are made spaces of: a strange name, but one in the guest's folder
        assert disk.layout is None and not set(disk.file) & {"\n", "\0"}
    else:
        assert disk.layout == "outside" and disk.datastore is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"MZ\x90\0\x03\0\0\0", "not a text"),
        (b"x" * (vmx.LIMIT + 1), "larger than 256 KiB"),
        (b"root:$6$secret:19000:0:99999:7:::\n", "no description"),
        (b'<?xml version="1.0"?>\n', "no description"),
    ],
)
def test_what_is_no_vmx_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        vmx.parse(data)


def test_encodings_and_escapes_are_understood_and_control_characters_are_not_passed_on() -> None:
    assert vmx.parse('.encoding = "windows-1252"\ndisplayName = "Büro"\n'.encode("cp1252"))["displayname"] == "Büro"
    assert vmx.parse('.encoding = "Shift_JIS"\ndisplayName = "日本"\n'.encode("shift_jis"))["displayname"] == "日本"
    assert vmx.parse(b'.encoding = "idna"\ndisplayName = "a|22b|1B[31m|00"\n')["displayname"] == 'a"b [31m '
    assert vmx.parse(b'displayName = "\xff\xfe"\n')["displayname"] == "\ufffd\ufffd"


def test_a_name_is_the_one_that_the_api_gives() -> None:
    assert record('displayName = "50% a/b"').name == "50%25 a%2fb"


@pytest.mark.parametrize("piece", [b"\n", b"a[", b'a = "', b" ", b'"', b"|22", b"scsi0:0.fileName"])
def test_a_file_made_to_be_slow_is_read_at_once(piece: bytes) -> None:
    data = HEAD.encode() + piece * (vmx.LIMIT // len(piece))
    begun = time.process_time()
    vmx.record_of("1", PLACE, vmx.parse(data[: vmx.LIMIT]), {})
    vmx.descriptor(b"# Disk DescriptorFile\n" + piece * (vmx.DESCRIPTOR_LIMIT // len(piece)))
    assert time.process_time() - begun < 2


@given(st.binary(max_size=600), st.sampled_from([b"", HEAD.encode()]))
def test_whatever_a_file_holds_it_is_a_record_or_a_reason(data: bytes, head: bytes) -> None:
    try:
        it = vmx.record_of("1", PLACE, vmx.parse(head + data), LABELS)
    except ValueError as error:
        assert str(error).startswith("it is ")
    else:
        assert not set(it.name) & {*map(chr, range(32)), "\x7f"}
    found = vmx.descriptor(b"# Disk DescriptorFile\n" + data)
    assert found is None or found.capacity is None or 0 <= found.capacity < 1 << 50


SLOTS = st.sampled_from(["scsi0:0", "nvme0:1", "sata1:29", "ide0:0", "ethernet0", "ethernet99"])
KEYS = st.sampled_from(
    ["present", "filename", "devicetype", "mode", "address", "virtualdev", "dvs.portgroupid", "sharing"]
)


@given(
    st.lists(
        st.tuples(SLOTS, KEYS, st.sampled_from(["TRUE", "", "x" * 5000, "../a", "/vmfs/volumes/a/b/c", "|00", "é"]))
    )
)
def test_whatever_hardware_is_written_it_is_a_record(lines: list[tuple[str, str, str]]) -> None:
    it = record("".join(f'{slot}.{key} = "{value}"\n' for slot, key, value in lines))
    assert all(disk.layout in (None, "outside") for disk in it.disks)
    assert GuestRecord.from_dict(json.loads(json.dumps(it.as_dict()))).as_guest().name == "web01"


def test_a_disk_larger_than_any_has_no_size() -> None:
    text = f'{DESCRIPTOR}RW {"9" * 15} VMFS "web01-flat.vmdk"\n'
    assert vmx.descriptor(text.encode()) == vmx.Descriptor("flat", None)


DESCRIPTOR = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="vmfs"\n\n'


def test_a_disk_in_one_piece_tells_its_size() -> None:
    assert vmx.descriptor(f'{DESCRIPTOR}RW 2097152 VMFS "web01-flat.vmdk"\n'.encode()) == vmx.Descriptor(
        "flat", 1 << 30
    )
    flat = f'{DESCRIPTOR.replace("vmfs", "monolithicFlat")}RW 2048 FLAT "x-flat.vmdk" 0\n'
    assert vmx.descriptor(flat.encode()) == vmx.Descriptor("flat", 1 << 20)


def test_other_forms_of_disks_are_told_apart() -> None:
    def layout(text: str) -> str | None:
        found = vmx.descriptor(text.encode())
        return found and found.layout

    child = DESCRIPTOR.replace("parentCID=ffffffff", 'parentCID=1234abcd\nparentFileNameHint="a.vmdk"')
    assert layout(f'{child}RW 2048 VMFSSPARSE "a-000001-delta.vmdk"\n') == "delta"
    assert layout(f'{child}RW 2048 SESPARSE "a-000001-sesparse.vmdk"\n') == "delta"
    assert layout(f'{DESCRIPTOR.replace("vmfs", "vmfsRawDeviceMap")}RW 2048 VMFSRDM "a-rdm.vmdk"\n') == "raw"
    assert layout(f'{DESCRIPTOR}RW 2048 SPARSE "a-s001.vmdk"\nRW 2048 SPARSE "a-s002.vmdk"\n') == "sparse"
    assert layout(f'{DESCRIPTOR}RW 2048 FLAT "a-f001.vmdk" 0\nRW 2048 FLAT "a-f002.vmdk" 0\n') == "sparse"
    assert layout(f'{DESCRIPTOR}RW 2048 VMFS "vsan://52d8-1"\n') == "sparse"
    assert layout("KDMV\1") == "sparse"
    assert layout("root:x:0:0") is None and vmx.descriptor(b"\xeb\x63\x90\0\0") is None


FILES = ["ds1/web01/web01.vmx", "ds1/db 01/db [1].vmx", "ds2/a/a.vmx"]


def test_the_list_of_vim_cmd_tells_which_file_has_which_number() -> None:
    listed = (
        "Vmid   Name    File    Guest OS   Version   Annotation\n"
        "1      web01     [ds1] web01/web01.vmx     debian11_64Guest     vmx-15\n"
        "12     db 01     [ds1] db 01/db [1].vmx    debian11_64Guest     vmx-15    A note.\n\n"
        "   3 more of it\nSkipping invalid VM '7'\n"
        "7      gone      [ds9] gone/gone.vmx       debian11_64Guest     vmx-15\n"
    )
    assert registered(listed, FILES) == {"ds1/web01/web01.vmx": "1", "ds1/db 01/db [1].vmx": "12"}


def test_a_note_that_passes_for_a_row_makes_nobody_another() -> None:
    """Or shutting one guest down would hit another."""
    listed = (
        "1      web01     [ds1] web01/web01.vmx     debian11_64Guest     vmx-15\n"
        "2      a         [ds2] a/a.vmx             debian11_64Guest     vmx-15    note\n"
        "2      web01     [ds1] web01/web01.vmx     debian11_64Guest     vmx-15\n"
    )
    assert registered(listed, FILES) == {}
    assert registered("5  x [ds2] a/a.vmx y [ds1] web01/web01.vmx z vmx-15\n", FILES) == {}


def test_a_long_note_is_passed_over_quickly() -> None:
    begun = time.process_time()
    registered("1 x " + "[a] b" * 1_000_000 + "\n" + "2 x\n" * 100_000, FILES)
    assert time.process_time() - begun < 2
