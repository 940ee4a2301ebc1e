"""From vSphere's properties to guest records.  Pure: takes what vsphere.retrieve() returns."""

from typing import Any

from pyVmomi import vim

from .inventory import DiskRecord, FileSystemRecord, GuestRecord, NicRecord
from .vsphere_addresses import reported

Found = dict[type, dict[str, dict[str, Any]]]

#: Type -> the properties asked of it.  A subclass stands before its base.
PROPERTIES: dict[type, list[str]] = {
    vim.VirtualMachine: [
        "name",
        "parent",
        "config.uuid",
        "config.template",
        "config.guestId",
        "config.guestFullName",
        "config.firmware",
        "config.bootOptions",
        "config.hardware",
        "config.changeTrackingEnabled",
        "config.cpuHotAddEnabled",
        "config.memoryHotAddEnabled",
        "config.cpuAffinity",
        "config.memoryAffinity",
        "config.keyId",
        "config.files.vmPathName",
        "runtime.powerState",
        "runtime.host",
        "runtime.consolidationNeeded",
        "runtime.faultToleranceState",
        "snapshot",
        "guest.toolsRunningStatus",
        "guest.toolsStatus",
        "guest.hostName",
        "guest.net",
        "guest.ipStack",
        "guest.disk",
    ],
    vim.HostSystem: ["name", "parent", "runtime.inMaintenanceMode"],
    vim.ClusterComputeResource: ["name", "parent", "configurationEx"],
    vim.ComputeResource: ["name", "parent"],
    vim.Datacenter: ["name", "parent"],
    vim.Folder: ["name", "parent"],
    vim.dvs.DistributedVirtualPortgroup: ["name", "key"],
}

_CONTROLLERS: tuple[tuple[type, str], ...] = (
    (vim.vm.device.VirtualSCSIController, "scsi"),
    (vim.vm.device.VirtualSATAController, "sata"),
    (vim.vm.device.VirtualIDEController, "ide"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
)

_MODELS: tuple[tuple[type, str], ...] = (
    (vim.vm.device.VirtualVmxnet3, "vmxnet3"),
    (vim.vm.device.VirtualVmxnet2, "vmxnet2"),
    (vim.vm.device.VirtualVmxnet, "vmxnet"),
    (vim.vm.device.VirtualE1000e, "e1000e"),
    (vim.vm.device.VirtualE1000, "e1000"),
    (vim.vm.device.VirtualPCNet32, "pcnet32"),
    (vim.vm.device.VirtualSriovEthernetCard, "sriov"),
)

_POWER: dict[str, Any] = {"poweredOn": "on", "poweredOff": "off", "suspended": "suspended"}
_FIRMWARE: dict[str, Any] = {"bios": "bios", "efi": "uefi"}
_TOOLS = {
    "guestToolsRunning": "running",
    "guestToolsExecutingScripts": "running",
    "guestToolsNotRunning": "not running",
}


def read_records(found: Found) -> list[GuestRecord]:
    """One record a guest, in the order of the server."""
    places = _Places(found)
    return [_guest(id, properties, places) for id, properties in found[vim.VirtualMachine].items()]


class _Places:
    """Names and parents of everything above the guests."""

    def __init__(self, found: Found) -> None:
        self.nodes = {id: properties for kind in PROPERTIES if kind is not vim.VirtualMachine
                      for id, properties in found[kind].items()}  # fmt: skip
        self.port_groups = {
            properties.get("key"): properties.get("name")
            for properties in found[vim.dvs.DistributedVirtualPortgroup].values()
        }
        self._host_paths: dict[str, list[str]] = {}

    def above(self, reference: Any) -> list[dict[str, Any]]:
        """The nodes from an object's parent up to the root folder, which is left out where the server leaves it out."""
        chain = []
        while reference is not None and (node := self.nodes.get(reference._moId)) is not None:
            chain.append(node)
            reference = node.get("parent")
        return chain

    def host_path(self, host: Any) -> list[str]:
        """libvirt_uri.vpx's path: datacenter's folders, datacenter, host folders, cluster, host."""
        if host._moId not in self._host_paths:
            names: list[str] = []
            chain = self.above(host)
            for node, parent in zip(chain, [*chain[1:], None], strict=True):
                thing = node["self"]
                if isinstance(thing, vim.Folder) and (parent is None or isinstance(parent["self"], vim.Datacenter)):
                    continue  # the root folder, and the datacenter's own folder "host": libvirt's path has neither
                if isinstance(thing, vim.ComputeResource) and not isinstance(thing, vim.ClusterComputeResource):
                    names.clear()  # a stand-alone host is named by its compute resource alone
                names.append(node.get("name", ""))
            self._host_paths[host._moId] = names[::-1]
        return self._host_paths[host._moId]


def host_path_of(host: Any) -> list[str]:
    """The same path for one host, its parents asked of the server one by one."""
    found: Found = {kind: {} for kind in PROPERTIES}
    thing = host
    while thing is not None:
        kind = next((kind for kind in PROPERTIES if isinstance(thing, kind)), None)
        if kind is None:
            break
        parent = thing.parent
        found[kind][thing._moId] = {"self": thing, "name": thing.name, "parent": parent}
        thing = parent
    return _Places(found).host_path(host)


def _guest(id: str, p: dict[str, Any], places: _Places) -> GuestRecord:
    hardware = p.get("config.hardware")
    devices = hardware.device if hardware else []
    host = p.get("runtime.host")
    host_node = places.nodes.get(host._moId, {}) if host else {}
    above = places.above(host)[1:] if host else []
    cluster = next((node for node in above if isinstance(node["self"], vim.ClusterComputeResource)), None)
    boot = p.get("config.bootOptions")
    snapshot = p.get("snapshot")
    record = GuestRecord(
        id=id,
        name=p.get("name", ""),
        uuid=p.get("config.uuid"),
        power=_POWER.get(str(p.get("runtime.powerState"))),
        is_template=bool(p.get("config.template")),
        os=p.get("config.guestFullName"),
        os_id=p.get("config.guestId"),
        hostname=p.get("guest.hostName"),
        cpus=hardware.numCPU if hardware else None,
        cores_per_socket=hardware.numCoresPerSocket if hardware else None,
        memory=hardware.memoryMB * 1024 * 1024 if hardware else None,
        firmware=_FIRMWARE.get(str(p.get("config.firmware"))),
        secure_boot=boot.efiSecureBootEnabled if boot else None,
        is_encrypted=p.get("config.keyId") is not None,
        file_systems=[
            FileSystemRecord(d.diskPath, d.capacity or 0, d.freeSpace or 0) for d in p.get("guest.disk") or []
        ],
        host=host_node.get("name"),
        host_in_maintenance=bool(host_node.get("runtime.inMaintenanceMode")),
        cluster=cluster.get("name") if cluster else None,
        folder="/" + "/".join(node.get("name", "") for node in reversed(places.above(p.get("parent")))),
        host_path=places.host_path(host) if host else [],
        snapshots=_count(snapshot.rootSnapshotList) if snapshot else 0,
        tools=_tools(p),
        change_tracking=p.get("config.changeTrackingEnabled"),
        needs_consolidation=bool(p.get("runtime.consolidationNeeded")),
        hot_add=bool(p.get("config.cpuHotAddEnabled") or p.get("config.memoryHotAddEnabled")),
        cpu_affinity=bool(getattr(p.get("config.cpuAffinity"), "affinitySet", None)),
        numa_affinity=bool(getattr(p.get("config.memoryAffinity"), "affinitySet", None)),
        fault_tolerance=str(p.get("runtime.faultToleranceState", "notConfigured")) != "notConfigured",
        vmx=p.get("config.files.vmPathName"),
    )
    _cluster(record, cluster, id)
    _devices(record, devices, p, places)
    return record


def _tools(p: dict[str, Any]) -> str | None:
    if str(p.get("guest.toolsStatus")) == "toolsNotInstalled":
        return "not installed"
    return _TOOLS.get(str(p.get("guest.toolsRunningStatus")))


def _count(snapshots: list[Any]) -> int:
    return sum(1 + _count(snapshot.childSnapshotList) for snapshot in snapshots)


def _cluster(record: GuestRecord, cluster: dict[str, Any] | None, id: str) -> None:
    configuration = cluster.get("configurationEx") if cluster else None
    if not isinstance(configuration, vim.cluster.ConfigInfoEx):
        return
    record.drs = bool(configuration.drsConfig and configuration.drsConfig.enabled)
    record.dpm = bool(configuration.dpmConfigInfo and configuration.dpmConfigInfo.enabled)
    groups = {
        group.name
        for group in configuration.group or []
        if isinstance(group, vim.cluster.VmGroup) and any(vm._moId == id for vm in group.vm or [])
    }
    record.host_affinity = any(
        isinstance(rule, vim.cluster.VmHostRuleInfo) and rule.vmGroupName in groups for rule in configuration.rule or []
    )


def _devices(record: GuestRecord, devices: list[Any], p: dict[str, Any], places: _Places) -> None:
    kinds = vim.vm.device
    controllers: dict[int | None, tuple[str | None, bool]] = {}
    for device in devices:
        if isinstance(device, kinds.VirtualController):
            kind = next((name for type, name in _CONTROLLERS if isinstance(device, type)), None)
            shared = str(getattr(device, "sharedBus", "noSharing")) != "noSharing"
            controllers[device.key] = (kind, shared)
            record.usb = record.usb or isinstance(device, kinds.VirtualUSBController | kinds.VirtualUSBXHCIController)
    addresses = reported(p.get("guest.net") or [], p.get("guest.ipStack") or [])
    for device in devices:
        if isinstance(device, kinds.VirtualDisk):
            record.disks.append(_disk(device, *controllers.get(device.controllerKey, (None, False))))
        elif isinstance(device, kinds.VirtualEthernetCard):
            record.nics.append(_nic(device, addresses, places))
        elif isinstance(device, kinds.VirtualPCIPassthrough):
            record.passthrough = True
        elif isinstance(device, kinds.VirtualTPM):
            record.tpm = True


def _disk(device: Any, controller: str | None, shared_bus: bool) -> DiskRecord:
    backing = device.backing
    file = getattr(backing, "fileName", "") or ""
    return DiskRecord(
        file=file,
        datastore=file[1 : file.index("]")] if file.startswith("[") and "]" in file else None,
        key=device.key,
        capacity=device.capacityInBytes or (device.capacityInKB or 0) * 1024,
        controller=controller,
        mode=getattr(backing, "diskMode", None),
        is_rdm=isinstance(backing, vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo),
        is_shared=shared_bus or str(getattr(backing, "sharing", None)) == "sharingMultiWriter",
        is_encrypted=getattr(backing, "keyId", None) is not None,
        change_tracking=bool(backing.changeId) if getattr(backing, "changeId", None) is not None else None,
        serial=getattr(backing, "uuid", None),
    )


def _nic(device: Any, addresses: dict[str, dict[str, tuple[str, ...]]], places: _Places) -> NicRecord:
    backing = device.backing
    distributed = isinstance(backing, vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo)
    mac = device.macAddress.lower() if device.macAddress else None
    return NicRecord(
        mac=mac,
        model=next((name for type, name in _MODELS if isinstance(device, type)), None),
        network=places.port_groups.get(backing.port.portgroupKey)
        if distributed
        else getattr(backing, "deviceName", None),
        is_distributed=distributed,
        is_passthrough=isinstance(device, vim.vm.device.VirtualSriovEthernetCard),
        **addresses.get(mac or "", {}),
    )
