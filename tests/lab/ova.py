"""Makes an OVA of a raw disk image, as VMware's export writes it.  Standard library and qemu-img only.

python tests/lab/ova.py IMAGE OVA [NAME]
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from string import Template

#: Form and order of elements as vSphere's export and ovftool write them; $... is ours.
OVF = Template("""<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-20842708" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="$disk" ovf:id="file1" ovf:size="$file_size"/>
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
    <Disk ovf:capacity="$capacity" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="$populated"/>
  </DiskSection>
  <NetworkSection>
    <Info>The list of logical networks</Info>
    <Network ovf:name="VM Network">
      <Description>The VM Network network</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="$name">
    <Info>A virtual machine</Info>
    <Name>$name</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian11_64Guest">
      <Info>The kind of installed guest operating system</Info>
      <Description>Debian GNU/Linux 11 (64-bit)</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>$name</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-15</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:Description>Number of Virtual CPUs</rasd:Description>
        <rasd:ElementName>2 virtual CPU(s)</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity>
        <vmw:CoresPerSocket ovf:required="false">2</vmw:CoresPerSocket>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Description>Memory Size</rasd:Description>
        <rasd:ElementName>1024MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>1024</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Description>SCSI Controller</rasd:Description>
        <rasd:ElementName>SCSI Controller 0</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>
        <rasd:ResourceType>6</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Hard Disk 1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>7</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>VM Network</rasd:Connection>
        <rasd:Description>VmxNet3 ethernet adapter on &quot;VM Network&quot;</rasd:Description>
        <rasd:ElementName>Ethernet 1</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
""")  # noqa: E501


def make_ova(image: Path, ova: Path, *, name: str = "web01") -> None:
    """Writes an OVA with one disk; the file appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=ova.parent, prefix=".ova.") as temporary:
        folder = Path(temporary)
        disk = folder / f"{name}-disk1.vmdk"
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk"]
        subprocess.run(
            [*convert, "-o", "subformat=streamOptimized,adapter_type=lsilogic", image, disk], check=True, timeout=600
        )
        ovf = folder / f"{name}.ovf"
        ovf.write_text(
            OVF.substitute(
                name=name,
                disk=disk.name,
                file_size=disk.stat().st_size,
                capacity=image.stat().st_size,
                populated=image.stat().st_blocks * 512,
            )
        )
        manifest = folder / f"{name}.mf"
        manifest.write_text("".join(f"SHA256({file.name})= {_sha256(file)}\n" for file in (ovf, disk)))
        packed = folder / "packed"
        with tarfile.open(packed, "w", format=tarfile.USTAR_FORMAT) as tar:
            for file in (ovf, manifest, disk):
                tar.add(file, file.name, filter=_as_vmware)
        packed.replace(ova)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _as_vmware(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 64
    member.uname = member.gname = "someone"
    member.mode = 0o644
    return member


if __name__ == "__main__":
    make_ova(Path(sys.argv[1]), Path(sys.argv[2]), name=sys.argv[3] if len(sys.argv) > 3 else "web01")
