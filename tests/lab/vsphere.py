"""Fills a running vSphere simulator with guests, through the vSphere API alone.

    python vsphere.py PORT NAME IMAGE       adds one guest whose disk is IMAGE (a raw file, hard-linked)

Needs pyvmomi.  Facts about a guest can be set afterwards with ReconfigVM_Task and extraConfig keys "SET.<property>", for example
SET.guest.toolsStatus, SET.guest.ipAddress, SET.guest.hostName.
"""

import sys
from pathlib import Path

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim


def connect(port, user="user", password="pass"):
    return SmartConnect(host="127.0.0.1", port=port, user=user, pwd=password, disableSslCertValidation=True)


def add_guest(session, name, image, *, guest_id="debian11_64Guest", firmware="bios", memory_mib=1024, cpus=2):
    """Creates a shut-off VM with one pvscsi disk and one vmxnet3 NIC on "VM Network"; returns its vim.VirtualMachine."""
    datacenter = session.RetrieveContent().rootFolder.childEntity[0]
    compute = datacenter.hostFolder.childEntity[0]
    datastore = datacenter.datastoreFolder.childEntity[0]
    network = next(n for n in datacenter.networkFolder.childEntity if n.name == "VM Network")
    size = Path(image).stat().st_size
    device = vim.vm.device

    def add(dev, **kw):
        return device.VirtualDeviceSpec(operation="add", device=dev, **kw)

    spec = vim.vm.ConfigSpec(
        name=name,
        guestId=guest_id,
        memoryMB=memory_mib,
        numCPUs=cpus,
        firmware=firmware,
        version="vmx-15",
        files=vim.vm.FileInfo(vmPathName=f"[{datastore.name}]"),
        deviceChange=[
            add(device.ParaVirtualSCSIController(key=-101, busNumber=0, sharedBus="noSharing")),
            add(
                device.VirtualDisk(
                    key=-102,
                    controllerKey=-101,
                    unitNumber=0,
                    capacityInKB=size // 1024,
                    capacityInBytes=size,
                    backing=device.VirtualDisk.FlatVer2BackingInfo(
                        fileName=f"[{datastore.name}] {name}/{name}.vmdk", diskMode="persistent", thinProvisioned=True
                    ),
                ),
                fileOperation="create",
            ),
            add(
                device.VirtualVmxnet3(
                    key=-103,
                    addressType="generated",
                    backing=device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network", network=network),
                )
            ),
        ],
    )
    task = datacenter.vmFolder.CreateVM_Task(spec, compute.resourcePool, compute.host[0])
    WaitForTask(task, si=session)
    flat = Path(datastore.info.url, name, f"{name}-flat.vmdk")
    flat.unlink(missing_ok=True)
    flat.hardlink_to(image)
    return task.info.result


if __name__ == "__main__":
    session = connect(int(sys.argv[1]))
    guest = add_guest(session, sys.argv[2], sys.argv[3])
    print(guest, guest.config.files.vmPathName, guest.runtime.powerState, guest.config.uuid)
    Disconnect(session)
