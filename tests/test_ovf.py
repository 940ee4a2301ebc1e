"""The OVF of many programs: what is read of it, what is worrying about it, what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions.archives.ovf import Ovf, OvfNic, read_ovf
from conversions.archives.ovf_xml import MAX_OVF
from conversions.problems import RefusedError
from tests.ova_files import BIOS, CPU_ITEM, ENVELOPE, NIC_ITEM, SCSI_ITEM, disk_item, make_ovf, memory_item


def codes(ovf: Ovf) -> list[str]:
    return [concern.code for concern in ovf.concerns]


def refusal(data: bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read_ovf(data)
    return caught.value


def test_an_ovf_of_vmware_is_read_whole() -> None:
    ovf = read_ovf(
        make_ovf(
            config='<vmw:Config vmw:key="firmware" vmw:value="efi"/>'
            '<vmw:Config vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>',
            items=CPU_ITEM.replace("</Item>", '<vmw:CoresPerSocket ovf:required="false">2</vmw:CoresPerSocket></Item>')
            + memory_item(4096)
            + SCSI_ITEM
            + disk_item(1)
            + NIC_ITEM,
            extra="<ProductSection><Product>Mail relay</Product><Vendor>Example</Vendor></ProductSection>",
        )
    )
    assert (ovf.version, ovf.name, ovf.os, ovf.os_family) == ("1.0", "web01", "Debian GNU/Linux 12", "linux")
    assert (ovf.firmware, ovf.secure_boot, ovf.tpm) == ("uefi", True, None)
    assert (ovf.cpus, ovf.cores_per_socket, ovf.memory) == (2, 2, 4 << 30)
    assert ovf.nics == (OvfNic("00:50:56:aa:bb:cc", "vmxnet3", "VM Network"),)
    assert ovf.product == "Mail relay Example"
    disk = ovf.disks[0]
    assert (disk.href, disk.capacity, disk.bus, disk.compression) == ("disk1.vmdk", 1 << 30, "scsi", None)
    assert ovf.concerns == ()


VIRTUALBOX = """<?xml version="1.0"?>
<Envelope ovf:version="%s" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/%s"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/%s" xmlns:vbox="http://www.virtualbox.org/ovf/machine"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:sasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_StorageAllocationSettingData.xsd"
 xmlns:epasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_EthernetPortAllocationSettingData.xsd">
 <References><File ovf:id="file1" ovf:href="Ubuntu-disk001.vmdk"/></References>
 <DiskSection><Disk ovf:capacity="26843545600" ovf:diskId="vmdisk1" ovf:fileRef="file1"
  ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
 <VirtualSystem ovf:id="Ubuntu">
  <OperatingSystemSection ovf:id="94"><Description>Ubuntu_64</Description>
   <vbox:OSType ovf:required="false">Ubuntu22_LTS_64</vbox:OSType></OperatingSystemSection>
  <VirtualHardwareSection>
   <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
    <rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
   <Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
    <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>
   <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>AHCI</rasd:ResourceSubType><rasd:ResourceType>20</rasd:ResourceType></Item>
   <%s><rasd:HostResource>/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
    <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></%s>
   <Item><rasd:Connection>NAT</rasd:Connection><rasd:InstanceID>5</rasd:InstanceID>
    <rasd:ResourceSubType>E1000</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
  </VirtualHardwareSection>
  <vbox:Machine ovf:required="false" name="Ubuntu"><Hardware><Firmware type="EFI"/>
   <TrustedPlatformModule type="v2_0"/></Hardware></vbox:Machine>
 </VirtualSystem>
</Envelope>"""


def test_an_ovf_of_virtualbox_tells_uefi_in_its_own_way() -> None:
    ovf = read_ovf((VIRTUALBOX % ("1.0", 1, 1, "Item", "Item")).encode())
    assert (ovf.firmware, ovf.tpm, ovf.memory, ovf.cpus) == ("uefi", True, 2 << 30, 4)
    assert (ovf.disks[0].bus, ovf.disks[0].capacity, ovf.os_family) == ("sata", 26843545600, "linux")
    assert codes(ovf) == ["ovf-firmware-virtualbox"]


def test_an_ovf_2_of_virtualbox_is_read_with_a_concern() -> None:
    ovf = read_ovf(
        (VIRTUALBOX % ("2.0", 2, 2, "StorageItem", "StorageItem")).replace("rasd:Host", "sasd:Host").encode()
    )
    assert ovf.version == "2.0" and ovf.disks[0].href == "Ubuntu-disk001.vmdk"
    assert "ovf-version" in codes(ovf)


def test_an_ovf_of_ovirt_is_read() -> None:
    data = """<?xml version='1.0' encoding='UTF-8'?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
 <References><File ovf:href="img1" ovf:id="img1" ovf:size="1048576"/></References>
 <Section xsi:type="ovf:DiskSection_Type"><Disk ovf:diskId="d1" ovf:size="20" ovf:fileRef="img1"/></Section>
 <Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type"><Name>rhel8</Name>
  <Section ovf:id="x" xsi:type="ovf:OperatingSystemSection_Type"><Description>rhel_8x64</Description></Section>
  <Section xsi:type="ovf:VirtualHardwareSection_Type">
   <Item><rasd:InstanceId>1</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType>
    <rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
   <Item><rasd:InstanceId>d1</rasd:InstanceId><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>img1</rasd:HostResource></Item>
   <Item><rasd:ResourceType>10</rasd:ResourceType><rasd:ResourceSubType>3</rasd:ResourceSubType>
    <rasd:Connection>ovirtmgmt</rasd:Connection><rasd:MACAddress>00:1a:4a:16:01:51</rasd:MACAddress></Item>
  </Section></Content></ovf:Envelope>"""
    ovf = read_ovf(data.encode())
    assert (ovf.name, ovf.os_family, ovf.memory) == ("rhel8", "linux", 1 << 30)
    assert (ovf.disks[0].href, ovf.disks[0].capacity, ovf.disks[0].file_size) == ("img1", 20 << 30, 1 << 20)
    assert ovf.nics == (OvfNic("00:1a:4a:16:01:51", None, "ovirtmgmt"),)


@pytest.mark.parametrize(
    ("quantity", "units", "expected", "concern"),
    [
        (2048, "byte * 2^20", 2 << 30, False),
        (2048, "byte*2^20", 2 << 30, False),
        (2048, "MegaBytes", 2 << 30, False),
        (2048, "MB", 2 << 30, False),
        (2048, None, 2 << 30, False),
        (2, "GB", 2 << 30, True),
        (2, "GigaBytes", 2 << 30, True),
        (2, "byte * 2^30", 2 << 30, True),
        (2147483648, "byte", 2 << 30, True),
        (2097152, "KiloBytes", 2 << 30, True),
        (2147, "byte * 10^6", 2147000000, True),
        (2, "furlongs", None, True),
    ],
)
def test_memory_is_read_in_every_unit(quantity: int, units: str | None, expected: int | None, concern: bool) -> None:
    ovf = read_ovf(make_ovf(memory=memory_item(quantity, units)))
    assert ovf.memory == expected
    assert ("ovf-memory-units" in codes(ovf)) is concern


@pytest.mark.parametrize("memory", ["", memory_item(""), memory_item(0), memory_item("lots"), memory_item(-1)])
def test_missing_memory_is_a_concern_and_not_made_up(memory: str) -> None:
    ovf = read_ovf(make_ovf(memory=memory))
    assert ovf.memory is None and "ovf-memory-missing" in codes(ovf)


@pytest.mark.parametrize(
    ("capacity", "units", "expected"),
    [
        (16, "byte * 2^30", 16 << 30),
        (17179869184, "byte", 16 << 30),
        (16384, "MegaBytes", 16 << 30),
        ("${size}", "byte", None),
    ],
)
def test_the_capacity_of_a_disk_is_in_bytes(capacity: object, units: str, expected: int | None) -> None:
    assert read_ovf(make_ovf(capacity=capacity, units=units)).disks[0].capacity == expected


@pytest.mark.parametrize(
    ("section", "family"),
    [
        ('<OperatingSystemSection ovf:id="1" vmw:osType="windows2019srv_64Guest"/>', "windows"),
        ('<OperatingSystemSection ovf:id="103"/>', "windows"),
        ('<OperatingSystemSection ovf:id="80"/>', "linux"),
        ('<OperatingSystemSection ovf:id="1"><Description>Rocky Linux</Description></OperatingSystemSection>', "linux"),
        ('<OperatingSystemSection ovf:id="1"><Description>FreeBSD</Description></OperatingSystemSection>', None),
        ("", None),
    ],
)
def test_the_family_of_the_operating_system_is_told_or_left_open(section: str, family: str | None) -> None:
    assert read_ovf(make_ovf(os=section)).os_family == family


def test_missing_firmware_is_a_concern_and_not_made_up() -> None:
    ovf = read_ovf(make_ovf(config=""))
    assert ovf.firmware is None and "ovf-firmware-missing" in codes(ovf)


def test_an_encoded_name_is_decoded_and_kept() -> None:
    ovf = read_ovf(make_ovf(disks=["my%20disk.vmdk"]))
    assert (ovf.disks[0].href, ovf.disks[0].raw_href) == ("my disk.vmdk", "my%20disk.vmdk")
    assert "ovf-href-encoded" in codes(ovf)


def test_an_nvme_disk_is_a_concern() -> None:
    nvme = SCSI_ITEM.replace("VirtualSCSI", "vmware.nvme.controller").replace(">6<", ">20<")
    ovf = read_ovf(make_ovf(items=CPU_ITEM + memory_item() + nvme + disk_item(1)))
    assert ovf.disks[0].bus == "nvme" and "ovf-nvme" in codes(ovf)


def test_a_disk_tied_to_its_file_directly_is_read_with_a_concern() -> None:
    ovf = read_ovf(make_ovf(items=CPU_ITEM + memory_item() + SCSI_ITEM + disk_item(1, "ovf:/file/file1")))
    assert ovf.disks[0].href == "disk1.vmdk" and "ovf-host-resource" in codes(ovf)


ONE = make_ovf().decode()
SYSTEM = ONE[ONE.index("<VirtualSystem ") : ONE.index("</Envelope>")]
BAD = {
    "not-xml": (b"web01", "ovf-not-xml", "not well-formed XML"),
    "cut": (make_ovf()[:-20], "ovf-not-xml", "not well-formed XML"),
    "odd-encoding": (b'<?xml version="1.0" encoding="utf-99"?><a/>', "ovf-not-xml", "not well-formed XML"),
    "nothing": (b"", "ovf-not-xml", "not well-formed XML"),
    "other-xml": (b"<domain type='kvm'/>", "ovf-not-ovf", "“domain”"),
    "huge": (b" " * (MAX_OVF + 1), "ovf-too-large", "larger than 4 MiB"),
    "entities": (b'<!DOCTYPE a [<!ENTITY x "y">]><Envelope>&x;</Envelope>', "ovf-entities", "XML entities"),
    "billion-laughs": (
        b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Envelope>&b;</Envelope>',
        "ovf-entities",
        "XML entities",
    ),
    "external-entity": (
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Envelope>&x;</Envelope>',
        "ovf-entities",
        "XML entities",
    ),
    "no-guest": (make_ovf(systems=""), "ovf-no-guest", "no VirtualSystem"),
    "vapp": (
        make_ovf(systems=f'<VirtualSystemCollection ovf:id="v">{SYSTEM}{SYSTEM}</VirtualSystemCollection>'),
        "ovf-several-guests",
        "“web01”, “web01”",
    ),
    "vapp-of-one": (
        make_ovf(systems=f'<VirtualSystemCollection ovf:id="v">{SYSTEM}</VirtualSystemCollection>'),
        "ovf-several-guests",
        "collection",
    ),
    "no-hardware": (make_ovf(systems='<VirtualSystem ovf:id="x"/>'), "ovf-no-hardware", "no VirtualHardwareSection"),
    "no-disks": (make_ovf(items=CPU_ITEM + memory_item()), "ovf-no-disks", "no hard disk"),
    "empty-disk": (make_ovf(files=""), "ovf-disk-without-file", "“Hard disk 1”"),
    "unknown-disk": (make_ovf(disk_section=""), "ovf-disk-without-file", "“Hard disk 1”"),
    "parent": (make_ovf(disk_attrs='ovf:parentRef="vmdisk0"'), "ovf-parent-disk", "changes against another disk"),
    "remote": (make_ovf(disks=["https://example.com/disk.vmdk"]), "ovf-remote-file", "not in it"),
    "file-url": (make_ovf(disks=["file:///etc/shadow"]), "ovf-remote-file", "not in it"),
    "chunked": (make_ovf(file_attrs='ovf:chunkSize="2000000000"'), "ovf-chunked", "split into several files"),
    "bzip2": (make_ovf(file_attrs='ovf:compression="bzip2"'), "ovf-compression", "“bzip2”"),
    "shared-file": (
        make_ovf(
            disks=["a.vmdk", "b.vmdk"],
            files='<File ovf:href="a.vmdk" ovf:id="file1"/><File ovf:href="a.vmdk" ovf:id="file2"/>',
        ),
        "ovf-file-twice",
        "“a.vmdk”",
    ),
    "many-items": (make_ovf(extra_items=NIC_ITEM * 1001), "ovf-too-large", "more than 1000"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_ovf_is_refused_with_its_sentence(name: str) -> None:
    data, code, part = BAD[name]
    problem = refusal(data).problem
    assert (problem.code, part in problem.text) == (code, True), problem
    assert problem.text.endswith(".") and problem.action.endswith("."), problem


@settings(max_examples=200, deadline=1000)
@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        read_ovf(data)
    except RefusedError as error:
        assert error.problem.text


@settings(max_examples=400, deadline=1000)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 60), st.text(max_size=30)), max_size=5))
def test_a_changed_ovf_is_refused_or_read(changes: list[tuple[int, int, str]]) -> None:
    text = make_ovf(extra=BIOS).decode()
    for at, length, new in changes:
        at %= len(text)
        text = text[:at] + new + text[at + length :]
    try:
        ovf = read_ovf(text.encode("utf-8", "surrogatepass"))
    except RefusedError as error:
        assert error.problem.text
    else:
        assert ovf.memory is None or 0 < ovf.memory < 1 << 60


@settings(max_examples=200, deadline=1000)
@given(st.data())
def test_any_values_in_the_right_places_are_read_or_refused(data: st.DataObject) -> None:
    word = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters='<>&"'), max_size=40)
    number = st.one_of(word, st.integers(-5, 10**30).map(str))
    made = make_ovf(
        memory=memory_item(data.draw(number), data.draw(word)),
        capacity=data.draw(number),
        units=data.draw(word),
        disks=[data.draw(word)],
        name=data.draw(word),
        config=f'<vmw:Config vmw:key="firmware" vmw:value="{data.draw(word)}"/>',
        envelope=ENVELOPE,
    )
    try:
        read_ovf(made)
    except RefusedError as error:
        assert error.problem.text


def test_deep_nesting_is_no_danger() -> None:
    depth = 200_000
    data = (
        b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">' + b"<a>" * depth + b"</a>" * depth + b"</Envelope>"
    )
    assert refusal(data).problem.code == "ovf-no-guest"
