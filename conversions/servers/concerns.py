"""What speaks against moving a guest, or should be known before: rules as data, pure, one line each.

critical blocks; a warning asks; information tells.  Ids of Forklift's rules are kept where the rule is the same, so that
people who come from there find them again (facts read in kubev2v/forklift, validation/policies/io/konveyor/forklift/vmware).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from .inventory import GuestRecord

Severity = Literal["critical", "warning", "information"]
MIB = 1024 * 1024


@dataclass(frozen=True)
class Around:
    """What rules need beside the guest itself."""

    transport: Literal["https", "vddk", "ssh", "files"] = "https"
    names: Counter[str] = field(default_factory=Counter)  #: how often each name is there
    shared_files: frozenset[str] = frozenset()  #: disk files that more than one guest has


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    title: str
    text: str  #: what it means for the person, and what to do
    applies: Callable[[GuestRecord, Around], bool]
    detail: Callable[[GuestRecord], str] | None = None  #: of this guest, after the text: which disk, or why


@dataclass(frozen=True)
class Concern:
    id: str
    severity: Severity
    title: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "severity": self.severity, "title": self.title, "text": self.text}


VALID_NAME = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9.]*)?[A-Za-z0-9])?")

#: What virt-v2v 2.2 can convert (convert.ml), as vSphere's guestIds name it.
SUPPORTED = re.compile(
    r"(rhel|centos|oracleLinux|sles|opensuse|debian|ubuntu|fedora|rockylinux|almalinux|redhat|suse|win|other.*[lL]inux)"
)


def _free_space_short(guest: GuestRecord, around: Around) -> bool:
    # The limits are virt-v2v's own: it stops in the middle otherwise (virt-v2v(1), "Free space in the guest").
    def needed(path: str) -> int:
        if path in ("/", "C:\\", "C:"):
            return 100 * MIB
        return 50 * MIB if path == "/boot" else 10 * MIB

    return any(fs.capacity and fs.free < needed(fs.path) for fs in guest.file_systems)


def _unsupported(guest: GuestRecord, around: Around) -> bool:
    return bool(guest.os_id) and not SUPPORTED.match(guest.os_id or "")


def _any_disk(test: Callable[[Any], bool]) -> Callable[[GuestRecord, Around], bool]:
    return lambda guest, around: any(test(disk) for disk in guest.disks)


def _any_nic(test: Callable[[Any], bool]) -> Callable[[GuestRecord, Around], bool]:
    return lambda guest, around: any(test(nic) for nic in guest.nics)


def _has(guest: GuestRecord, layout: str) -> bool:
    return any(disk.layout == layout for disk in guest.disks)


def _which(layout: str) -> Callable[[GuestRecord], str]:
    def words(guest: GuestRecord) -> str:
        files = [disk.file[:200] or "a disk without a name" for disk in guest.disks if disk.layout == layout]
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        return f"It is about {', '.join(files[:3])}{more}."

    return words


RULES: tuple[Rule, ...] = (
    Rule(
        "vmware.vm.powered_on",
        "critical",
        "The guest is running",
        "virt-v2v copies only a guest that is shut down. Shut it down, or let v2vweb do it before the copy.",
        lambda g, a: g.power == "on",
    ),
    Rule(
        "vmware.vm.suspended",
        "critical",
        "The guest is suspended",
        "Its memory is on hold at the source and would be lost. Resume it and shut it down properly.",
        lambda g, a: g.power == "suspended",
    ),
    Rule(
        "vmware.vm.template",
        "critical",
        "This is a template",
        "A template cannot be opened for copying. Deploy a guest from it, or turn it into one, and move that.",
        lambda g, a: g.is_template,
    ),
    Rule(
        "vmware.vm.no_disks",
        "critical",
        "The guest has no disk",
        "There is nothing to move. Look at the source whether the right guest is chosen.",
        lambda g, a: not g.disks and not g.unreadable,
    ),
    Rule(
        "vmware.datastore.missing",
        "critical",
        "A disk has no datastore",
        "The source does not say where one of the disks is. Its administrator must repair or detach the disk.",
        _any_disk(lambda d: d.datastore is None and not d.is_rdm and d.layout != "outside"),
    ),
    Rule(
        "vmware.disk.capacity.invalid",
        "critical",
        "A disk has no size",
        "The source reports a disk of 0 bytes. Its administrator must repair or detach the disk.",
        _any_disk(lambda d: d.capacity is not None and d.capacity <= 0),
    ),
    Rule(
        "vmware.guestDisks.freespace",
        "critical",
        "Too little free space inside the guest",
        "The conversion writes drivers into the guest: it needs 100 MB free on / (or C:), 50 MB on /boot and 10 MB elsewhere.",
        _free_space_short,
    ),
    Rule(
        "vmware.passthrough_device.detected",
        "critical",
        "A device of the host is passed through",
        "A PCI device cannot move. Detach it from the guest first.",
        lambda g, a: g.passthrough,
    ),
    Rule(
        "vmware.vm.encrypted",
        "critical",
        "The guest is encrypted by vSphere",
        "Encrypted disks are readable over VDDK only, with the privilege to decrypt. Choose VDDK, or decrypt the guest.",
        lambda g, a: (g.is_encrypted or any(d.is_encrypted for d in g.disks)) and a.transport != "vddk",
    ),
    Rule(
        "vmware.disk.rdm.https",
        "critical",
        "A disk is a raw LUN",
        "A raw device mapping cannot be copied over HTTPS or SSH. Choose VDDK, or turn the disk into a normal one.",
        lambda g, a: a.transport in ("https", "ssh") and any(d.is_rdm for d in g.disks),
    ),
    Rule(
        "vmware.snapshot.https",
        "critical",
        "The guest has snapshots",
        "Over HTTPS only a disk without snapshots can be read. Delete or consolidate the snapshots, or choose VDDK.",
        lambda g, a: a.transport == "https" and g.snapshots > 0,
    ),
    # --- of guests that were read over SSH, from the host's own files ---
    Rule(
        "vmware.vmx.unreadable",
        "critical",
        "The guest's description cannot be read",
        "The host's administrator can look at its .vmx file, and unregister or delete what is no guest.",
        lambda g, a: g.unreadable is not None,
        lambda g: f"The file {g.vmx}: {g.unreadable}.",
    ),
    Rule(
        "vmware.snapshot.ssh",
        "critical",
        "The guest has snapshots",
        "Over SSH only a disk without snapshots can be read. Delete the snapshots at the source (Delete all snapshots).",
        lambda g, a: _has(g, "delta"),
    ),
    Rule(
        "vmware.disk.missing",
        "critical",
        "A disk's file is not there",
        "The guest names a disk whose files are not on the datastore, or cannot be read. Its administrator must repair or detach "
        "the disk.",
        lambda g, a: _has(g, "missing"),
        _which("missing"),
    ),
    Rule(
        "vmware.disk.outside",
        "critical",
        "A disk lies outside the datastores",
        "The guest's .vmx file names a disk where VMware puts none, so that v2vweb does not touch it. Ask the host's "
        "administrator who wrote that.",
        lambda g, a: _has(g, "outside"),
        _which("outside"),
    ),
    Rule(
        "vmware.disk.sparse.ssh",
        "critical",
        "A disk is kept in a form that cannot be read over SSH",
        "virt-v2v reads only disks in one piece (NAME-flat.vmdk). Clone the disk at the host with vmkfstools, or move the guest "
        "over HTTPS.",
        lambda g, a: _has(g, "sparse"),
        _which("sparse"),
    ),
    Rule(
        "vmware.disk.busy",
        "critical",
        "A disk is held open",
        "The host lets nobody read it: the guest runs on another host, or a backup is under way. Wait or shut it down, then "
        "refresh.",
        lambda g, a: _has(g, "busy") and g.power != "on",
        _which("busy"),
    ),
    Rule(
        "vmware.vm.power_unknown",
        "warning",
        "Whether the guest runs is not known",
        "The host does not tell, mostly because the guest is not registered there. Make sure that it runs nowhere, on other "
        "hosts neither: a copy of a running guest is damaged.",
        lambda g, a: g.power is None and not g.unreadable,
    ),
    Rule(
        "vmware.disk_mode.independent.vddk",
        "critical",
        "A disk is independent",
        "VDDK cannot read independent disks. Change the disk's mode at the source, or choose HTTPS.",
        lambda g, a: a.transport == "vddk" and any((d.mode or "").startswith("independent") for d in g.disks),
    ),
    Rule(
        "vmware.disk.nvme",
        "critical",
        "A disk hangs on an NVMe controller",
        "virt-v2v does not see disks on NVMe controllers and would leave them out. Move the disk to SCSI or SATA at the source.",
        _any_disk(lambda d: d.controller == "nvme"),
    ),
    Rule(
        "vmware.vm.host_unknown",
        "critical",
        "The guest has no host",
        "The source does not say on which host the guest is, so it cannot be opened. Refresh, or look at the source.",
        lambda g, a: a.transport != "files" and g.host is None,
    ),
    Rule(
        "vmware.host.maintenance",
        "warning",
        "The host is in maintenance mode",
        "Copies from a host in maintenance are often refused. Move the guest to another host or wait.",
        lambda g, a: bool(g.host_in_maintenance),
    ),
    Rule(
        "vmware.disk.shared.detected",
        "warning",
        "A disk is shared with another guest",
        "Each guest gets a copy of its own; what the guests share today is then two disks that part.",
        lambda g, a: any(d.is_shared or d.file in a.shared_files for d in g.disks),
    ),
    Rule(
        "vmware.disk.rdm.detected",
        "warning",
        "A disk is a raw LUN",
        "The whole LUN is copied. Ask the owner of the storage whether that is meant.",
        lambda g, a: a.transport not in ("https", "ssh") and any(d.is_rdm for d in g.disks),
    ),
    Rule(
        "vmware.disk_mode.independent",
        "warning",
        "A disk is independent",
        "Independent disks take part in no snapshot: a warm migration of this guest is not possible.",
        lambda g, a: a.transport != "vddk" and any((d.mode or "").startswith("independent") for d in g.disks),
    ),
    Rule(
        "vmware.os.unsupported",
        "warning",
        "virt-v2v may not know this operating system",
        "It converts the common Linux distributions and Windows. The conversion of this guest may stop with a clear message.",
        _unsupported,
    ),
    Rule(
        "vmware.windows.hibernation",
        "warning",
        "Windows must be shut down completely",
        "With Fast Startup or hibernation on, Windows' disk cannot be changed. Shut down with the Shift key held, or switch "
        "Fast Startup off.",
        lambda g, a: g.os_family == "windows" and g.power == "off" and ("10" in (g.os or "") or "11" in (g.os or "")),
    ),
    Rule(
        "vmware.consolidation_needed",
        "warning",
        "The disks need consolidation",
        "Something is left over from an earlier snapshot. Let the source's administrator consolidate the disks first.",
        lambda g, a: bool(g.needs_consolidation),
    ),
    Rule(
        "vmware.changed_block_tracking.disabled",
        "information",
        "Changed block tracking is off",
        "Only needed for a warm migration, which copies while the guest runs.",
        lambda g, a: g.change_tracking is False,
    ),
    Rule(
        "vmware.changed_block_tracking.disk.disabled",
        "information",
        "Changed block tracking is off for a disk",
        "Only needed for a warm migration.",
        lambda g, a: g.change_tracking is True and any(d.change_tracking is False for d in g.disks),
    ),
    Rule(
        "vmware.vm.name.duplicate",
        "warning",
        "Another guest has the same name",
        "v2vweb tells them apart by their ids; give the new guests different names.",
        lambda g, a: a.names[g.name] > 1,
    ),
    Rule(
        "vmware.vm.name.invalid",
        "warning",
        "The name cannot be used in Kubernetes",
        "The new guest gets a name made from it, which can be changed before the start.",
        lambda g, a: len(g.name) >= 64 or not VALID_NAME.fullmatch(g.name),
    ),
    Rule(
        "vmware.hostname.empty",
        "information",
        "The guest does not tell its host name",
        "VMware Tools did not report one.",
        lambda g, a: g.tools == "running" and not g.hostname,
    ),
    Rule(
        "vmware.hostname.default",
        "warning",
        "The guest's host name is localhost.localdomain",
        "It may get another name from the network at its new place.",
        lambda g, a: g.hostname == "localhost.localdomain",
    ),
    Rule(
        "vmware.vm_missing_ip.detected",
        "warning",
        "The guest's addresses are not known",
        "VMware Tools reported none (they do so only while the guest runs, and not over SSH), so static addresses cannot be "
        "kept for it.",
        lambda g, a: bool(g.nics) and not any(nic.ips for nic in g.nics),
    ),
    Rule(
        "vmware.nic.distributed",
        "information",
        "A network card is on a distributed port group",
        "virt-v2v leaves such cards out; v2vweb takes them from the source and puts them into the new guest.",
        _any_nic(lambda n: n.is_distributed),
    ),
    Rule(
        "vmware.device.sriov.detected",
        "warning",
        "A network card is passed through (SR-IOV)",
        "The new guest gets an ordinary card in its place.",
        _any_nic(lambda n: n.is_passthrough),
    ),
    Rule(
        "vmware.nic.no_network",
        "warning",
        "A network card has no network",
        "Say in the step Networks where it is to be connected, or ignore it.",
        _any_nic(lambda n: not n.network),
    ),
    Rule(
        "vmware.nic.mac.missing",
        "warning",
        "A network card has no address of its own",
        "The new guest gets a new MAC address for it.",
        _any_nic(lambda n: not n.mac),
    ),
    Rule(
        "vmware.tpm.detected",
        "warning",
        "The guest has a TPM",
        "What is sealed in it (BitLocker keys, for example) does not move. Have the recovery key at hand.",
        lambda g, a: g.tpm,
    ),
    Rule(
        "vmware.usb_controller.detected",
        "warning",
        "The guest has a USB controller",
        "USB devices plugged into it do not move.",
        lambda g, a: g.usb,
    ),
    Rule(
        "vmware.secure_boot",
        "information",
        "The guest uses secure boot",
        "The new guest gets it too; it needs a cluster that offers it.",
        lambda g, a: bool(g.secure_boot),
    ),
    Rule(
        "vmware.firmware.unknown",
        "warning",
        "BIOS or UEFI is not known",
        "virt-v2v finds out while it converts; until then the new guest's firmware cannot be shown.",
        lambda g, a: g.firmware is None and not g.unreadable,
    ),
    Rule(
        "vmware.cpu_affinity.detected",
        "warning",
        "The guest is bound to CPUs of its host",
        "The binding is not carried over.",
        lambda g, a: g.cpu_affinity,
    ),
    Rule(
        "vmware.host_affinity.detected",
        "warning",
        "A rule of the cluster binds the guest to hosts",
        "The rule is not carried over.",
        lambda g, a: g.host_affinity,
    ),
    Rule(
        "vmware.numa_affinity.detected",
        "warning",
        "The guest is bound to NUMA nodes",
        "The binding is not carried over.",
        lambda g, a: g.numa_affinity,
    ),
    Rule(
        "vmware.cpu_memory.hotplug.enabled",
        "warning",
        "CPU or memory can be added while it runs",
        "The new guest has its present size; adding while it runs is set up differently in KubeVirt.",
        lambda g, a: g.hot_add,
    ),
    Rule(
        "vmware.fault_tolerance.enabled",
        "information",
        "Fault tolerance is on",
        "It is not carried over.",
        lambda g, a: g.fault_tolerance,
    ),
    Rule(
        "vmware.drs.enabled",
        "information",
        "DRS is on in the cluster",
        "The guest may move to another host before the copy; v2vweb looks again at the start.",
        lambda g, a: g.drs,
    ),
    Rule(
        "vmware.dpm.enabled",
        "information",
        "The cluster may switch hosts off",
        "Power management (DPM) could stop the host of a guest that is shut down.",
        lambda g, a: g.dpm,
    ),
    Rule(
        "vmware.snapshot.detected",
        "information",
        "The guest has snapshots",
        "Only the present state is copied, not the snapshots.",
        lambda g, a: a.transport != "https" and g.snapshots > 0 and not _has(g, "delta"),
    ),
    Rule(
        "vmware.disk.count.exceeds.limit",
        "warning",
        "More disks than KubeVirt has places for",
        "A guest can have about 165 disks on virtio.",
        lambda g, a: len(g.disks) > 165,
    ),
    Rule(
        "vmware.disk_serial.truncated",
        "information",
        "A disk's serial number is long",
        "KubeVirt shows 20 characters of it. Software that looks for disks by serial number may need a hint.",
        _any_disk(lambda d: len(d.serial or "") > 20),
    ),
    Rule(
        "vmware.guestDisks.key.not_found",
        "information",
        "File systems and disks cannot be matched",
        "VMware Tools do not tell which file system is on which disk.",
        lambda g, a: g.tools == "running" and not g.file_systems,
    ),
    Rule(
        "vmware.tools.missing",
        "information",
        "VMware Tools do not run",
        "v2vweb cannot ask the guest to shut down by itself, nor see its addresses.",
        lambda g, a: g.power == "on" and g.tools not in (None, "running"),
    ),
)


def around(guests: Iterable[GuestRecord], transport: Literal["https", "vddk", "ssh", "files"]) -> Around:
    """What the rules need to know about all guests of a source together."""
    names: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for guest in guests:
        names[guest.name] += 1
        files.update({disk.file for disk in guest.disks if disk.file})
    return Around(transport, names, frozenset(file for file, times in files.items() if times > 1))


def _text(rule: Rule, guest: GuestRecord) -> str:
    return f"{rule.text} {rule.detail(guest)}" if rule.detail else rule.text


def concerns(guest: GuestRecord, context: Around) -> list[Concern]:
    """The concerns of one guest, the gravest first."""
    found = [Concern(r.id, r.severity, r.title, _text(r, guest)) for r in RULES if r.applies(guest, context)]
    order = {"critical": 0, "warning": 1, "information": 2}
    return sorted(found, key=lambda concern: order[concern.severity])
