"""QEMU's command line for a Trial: the machine as KubeVirt (libvirt) would build it, as near as can be.

Each PCI device has a root port of its own, network cards first, as with libvirt, so that names of network cards that
depend on the slot (enp1s0) are the same in the cluster.
"""

from dataclasses import dataclass
from pathlib import Path

from ..problems import Problem, RefusedError
from .bootdir import Card, Disk, Trial

WORK = "/work"  #: the trial's folder, inside the sandbox
IMAGES = "/image"  #: the disks, inside the sandbox: disk0, disk1, ...

#: (code, variables) of UEFI firmware as distributions name them: Debian, Fedora and RHEL, openSUSE
_FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)
#: with Microsoft's keys and secure boot on
_SECURE_FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"),
)

_SATA_PORTS = 6  #: of the controller that q35 has
_CARDS = {"e1000e": "e1000e", "e1000": "e1000", "rtl8139": "rtl8139", "ne2k_pci": "ne2k_pci", "pcnet": "pcnet"}
_OLD_PCI = ("e1000", "rtl8139", "ne2k_pci", "pcnet")  #: go into a slot of old PCI, behind a bridge


@dataclass(frozen=True)
class Firmware:
    code: Path
    variables: Path  #: the guest gets a copy


def firmware_for(trial: Trial) -> Firmware | None:
    """The UEFI firmware for a trial, None for BIOS.  Raises RefusedError when it is not installed."""
    if trial.firmware == "bios":
        return None
    for code, variables in _SECURE_FIRMWARE if trial.secure_boot else _FIRMWARE:
        if Path(code).is_file() and Path(variables).is_file():
            return Firmware(Path(code), Path(variables))
    what = "UEFI firmware with secure boot" if trial.secure_boot else "UEFI firmware"
    raise RefusedError(
        Problem(
            "firmware-missing",
            "This server has no UEFI firmware to try with",
            f"The machine starts with {what}, which is not installed on this server.",
            "Install it: apt install ovmf",
            "administrator",
        ),
        status=409,
    )


def command(trial: Trial, firmware: Firmware | None, program: str = "qemu-system-x86_64") -> list[str]:
    """The whole command line, with paths as they are inside the sandbox."""
    smm = "on" if trial.secure_boot else "off"
    argv = [
        program,
        "-name",
        f"guest={trial.name},debug-threads=on",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
    ]
    argv += ["-machine", f"{trial.machine},smm={smm},usb=off,graphics=on,vmport=off"]
    if trial.accelerator == "kvm":
        argv += ["-accel", "kvm", "-cpu", "host"]
    else:
        # Five-level page tables confuse older kernels, and no KubeVirt node offers them by default.
        argv += ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,la57=off"]
    argv += ["-smp", str(trial.cpus), "-m", f"{trial.memory // 2**20}M", "-rtc", "base=utc", "-boot", "strict=on"]
    argv += ["-no-shutdown"]  # a guest that switched itself off leaves its last picture
    argv += ["-chardev", "stdio,id=monitor,signal=off", "-mon", "chardev=monitor,mode=control"]
    argv += ["-chardev", f"socket,id=serial,path={WORK}/serial.sock,server=on,wait=off,logfile={WORK}/serial"]
    argv += ["-device", "isa-serial,chardev=serial"]
    # SeaBIOS tells here what it does, also what it shows on the screen only.
    argv += [
        "-chardev",
        f"file,id=firmware,path={WORK}/firmware",
        "-device",
        "isa-debugcon,iobase=0x402,chardev=firmware",
    ]
    if firmware is not None:
        argv += ["-global", "ICH9-LPC.disable_s3=1"]
        if trial.secure_boot:
            argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={firmware.code}"]
        argv += ["-drive", f"if=pflash,unit=1,format=raw,file={WORK}/tmp/variables.fd"]
    argv += ["-device", "VGA,bus=pcie.0,addr=0x1"]
    ports = _Ports()
    for number, card in enumerate(trial.cards):
        argv += _card(card, number, ports, trial)
    argv += _controllers(trial, ports)
    orders = _boot_indexes(trial)
    for number, disk in enumerate(trial.disks):
        argv += _disk(disk, number, orders[number], ports, trial)
    # For guests whose random numbers would otherwise take minutes under emulation.
    argv += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
    argv += [*ports.next("rng"), "-device", f"virtio-rng-pci{_variant(trial)},rng=rng,bus=rng"]
    return argv


class _Ports:
    """Root ports, eight to a slot."""

    def __init__(self) -> None:
        self.count = 0

    def next(self, name: str) -> list[str]:
        slot, function = divmod(self.count, 8)
        self.count += 1
        first = ",multifunction=on" if function == 0 else ""
        return [
            "-device",
            f"pcie-root-port,id={name},bus=pcie.0,chassis={self.count},addr={slot + 2:#x}.{function:#x}{first}",
        ]


def _variant(trial: Trial) -> str:
    return "-transitional" if trial.transitional else "-non-transitional"


def _card(card: Card, number: int, ports: _Ports, trial: Trial) -> list[str]:
    mac = f",mac={card.mac.replace('-', ':')}" if card.mac else ""
    # Nothing of the world outside: QEMU answers DHCP itself and lets nothing through; the sandbox has no network anyway.
    argv = ["-netdev", f"user,id=net{number},restrict=on"]
    model = f"virtio-net-pci{_variant(trial)}" if card.model == "virtio" else _CARDS[card.model]
    bus = f"cards{number}"
    argv += ports.next(bus)
    if card.model in _OLD_PCI or (card.model == "virtio" and trial.transitional):
        argv += ["-device", f"pcie-pci-bridge,id=old{bus},bus={bus}"]
        bus = f"old{bus}"
    slot = ",addr=0x1" if bus.startswith("old") else ""
    return [*argv, "-device", f"{model},netdev=net{number},bus={bus}{slot},romfile={mac}"]


def _controllers(trial: Trial, ports: _Ports) -> list[str]:
    argv = []
    if any(disk.bus == "scsi" for disk in trial.disks):
        argv += [*ports.next("scsi"), "-device", f"virtio-scsi-pci{_variant(trial)},id=scsi0,bus=scsi"]
    if any(disk.bus == "usb" for disk in trial.disks):
        argv += [*ports.next("usb"), "-device", "qemu-xhci,id=usb0,bus=usb"]
    sata = sum(disk.bus == "sata" for disk in trial.disks)
    for more in range((max(sata, 1) - 1) // _SATA_PORTS):
        argv += [*ports.next(f"ahci{more}"), "-device", f"ich9-ahci,id=sata{more},bus=ahci{more}"]
    return argv


def _boot_indexes(trial: Trial) -> list[int | None]:
    """As KubeVirt: those with a boot order, or the first disk when none has one."""
    if any(disk.boot_order is not None for disk in trial.disks):
        return [disk.boot_order for disk in trial.disks]
    return [1, *[None] * (len(trial.disks) - 1)]


def _disk(disk: Disk, number: int, order: int | None, ports: _Ports, trial: Trial) -> list[str]:
    # snapshot=on: the image is opened for reading only, what the guest writes goes to a file in TMPDIR that has no name.
    argv = [
        "-drive",
        f"if=none,id=disk{number},file={IMAGES}/disk{number},format={disk.format},snapshot=on,cache=unsafe",
    ]
    boot = f",bootindex={order}" if order is not None else ""
    if disk.bus == "virtio":
        device = f"virtio-blk-pci{_variant(trial)},bus=port{number}"
        argv += ports.next(f"port{number}")
        if trial.transitional:
            argv += ["-device", f"pcie-pci-bridge,id=oldport{number},bus=port{number}"]
            device = f"virtio-blk-pci-transitional,bus=oldport{number},addr=0x1"
    elif disk.bus == "scsi":
        device = "scsi-hd,bus=scsi0.0"
    elif disk.bus == "usb":
        device = "usb-storage,bus=usb0.0"
    else:
        controller, port = divmod(sum(other.bus == "sata" for other in trial.disks[:number]), _SATA_PORTS)
        device = f"ide-hd,bus=ide.{port}" if controller == 0 else f"ide-hd,bus=sata{controller - 1}.{port}"
    return [*argv, "-device", f"{device},drive=disk{number}{boot}"]
