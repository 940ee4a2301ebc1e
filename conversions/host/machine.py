"""What this machine has of what conversions need: programs, plugins, drivers, space.  No database; may take seconds."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from django.conf import settings

from ..disks import sandbox
from ..problems import RefusedError, size_words
from .capabilities import capabilities

State = Literal["ok", "warning", "error", "unknown"]
SECONDS = 10  #: that a program may take to tell its version

ROOT = Path("/")  #: of the file system that is looked at


@dataclass(frozen=True)
class Check:
    """One line of the System page."""

    id: str
    title: str
    state: State
    value: str  #: what was found: a version, a number
    meaning: str  #: for people who do not know the thing
    command: str = ""  #: what mends it, for a shell; empty when nothing needs to be mended


#: Debian's package -> Fedora's and RHEL's
_RPM = {
    "libnbd-bin": "libnbd",
    "qemu-utils": "qemu-img",
    "linux-image-amd64": "kernel-core",
    "linux-image-arm64": "kernel-core",
}


def _uses_dnf() -> bool:
    return bool(shutil.which("dnf")) and not shutil.which("apt-get")


def install(*packages: str) -> str:
    """The command that installs packages, in Debian's names, on this machine."""
    if _uses_dnf():
        return "dnf install " + " ".join(_RPM.get(name, name) for name in packages)
    return "apt install " + " ".join(packages)


def said(*argv: str) -> str | None:
    """What a program prints; None when it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def virt_v2v() -> Iterator[Check]:
    title = "virt-v2v"
    try:
        found = capabilities()
    except RefusedError as error:
        problem = error.problem
        meaning = f"{problem.text} It is the program that converts, so nothing can be converted."
        yield Check("virt-v2v", title, "error", problem.title, meaning, install("virt-v2v"))
        return
    value = f"{found.version_text} ({found.program})"
    if not found.writes_for_kubevirt:
        meaning = "It is too old: it cannot write for KubeVirt, so nothing can be converted. 2.2 or newer can."
        yield Check("virt-v2v", title, "error", value, meaning, install("virt-v2v"))
    else:
        yield Check("virt-v2v", title, "ok", value, "The program that converts.")


def program(id: str, title: str, argv: tuple[str, ...], package: str, meaning: str) -> Iterator[Check]:
    """A program without which nothing can be converted."""
    text = said(*argv)
    if text is None:
        without = f"{meaning} It is missing or does not work, so nothing can be converted."
        yield Check(id, title, "error", "missing", without, install(package))
    else:
        yield Check(id, title, "ok", (text.strip().splitlines() or ["there"])[0][:100], meaning)


#: nbdkit's parts: (kind, name, what is not possible without it, whether that is everything)
_PARTS = (
    ("plugin", "file", "nothing can be converted", True),
    ("plugin", "nbd", "disks cannot be read through another nbdkit", False),
    ("plugin", "curl", "nothing can be copied from vCenter or ESXi over HTTPS", False),
    ("plugin", "ssh", "nothing can be copied from Xen hosts, or from ESXi over SSH", False),
    ("filter", "cow", "nothing can be converted", True),
    ("filter", "rate", "the speed of copying cannot be limited", False),
    ("filter", "retry", "a short failure of the network ends a conversion", False),
)


def nbdkit() -> Iterator[Check]:
    config = said("nbdkit", "--dump-config")
    if config is None:
        meaning = (
            "It reads the source's disks for virt-v2v. It is missing or does not work, so nothing can be converted."
        )
        yield Check("nbdkit", "nbdkit", "error", "missing", meaning, install("nbdkit"))
        return
    about = dict(line.split("=", 1) for line in config.splitlines() if "=" in line)
    folders = {"plugin": Path(about.get("plugindir", "")), "filter": Path(about.get("filterdir", ""))}

    def there(kind: str, name: str) -> bool:
        return (folders[kind] / f"nbdkit-{name}-{kind}.so").exists()

    missing = [part for part in _PARTS if not there(*part[:2])]
    value = about.get("version", "unknown version")
    if missing:
        state: State = "error" if any(part[3] for part in missing) else "warning"
        value += ", without " + ", ".join(f"{name} ({kind})" for kind, name, _, _ in missing)
        meaning = "It reads the source's disks. As it is, " + "; ".join(part[2] for part in missing) + "."
        yield Check("nbdkit", "nbdkit", state, value, meaning, install("nbdkit"))
    else:
        value += "; plugins file, nbd, curl, ssh; filters cow, rate, retry"
        yield Check("nbdkit", "nbdkit", "ok", value, "It reads the source's disks for virt-v2v.")
    yield _vddk(there("plugin", "vddk"))


def _vddk(there: bool) -> Check:
    title = "nbdkit's VDDK plugin"
    if there:
        meaning = "With VMware's VDDK library, copies from vCenter and ESXi faster than HTTPS does."
        return Check("nbdkit-vddk", title, "ok", "there", meaning)
    meaning = (
        "Without it, copying from vCenter and ESXi goes over HTTPS, which is slower. Debian's nbdkit has no such plugin; "
        "RHEL's and Fedora's have, and so has an nbdkit that was built from its source. VMware's own library is needed too."
    )
    command = "dnf install nbdkit-vddk-plugin" if _uses_dnf() else ""
    return Check("nbdkit-vddk", title, "warning", "missing", meaning, command)


def bubblewrap() -> Iterator[Check]:
    """Really tried: that the program is there says nothing, because a container may forbid what it does."""
    title = "Sandbox for disk images (bubblewrap)"
    meaning = "Disk images may come from anywhere, so they are looked at inside a sandbox."
    with tempfile.NamedTemporaryFile(prefix="v2vweb-") as file:
        try:
            sandbox.run(["qemu-img", "--version"], Path(file.name))
        except RefusedError as error:
            without = f"{meaning} {error.problem.text} {error.problem.action}"
            yield Check("bubblewrap", title, "error", "does not work", without, install("bubblewrap", "qemu-utils"))
        except (sandbox.ProgramFailedError, sandbox.TookTooLongError) as error:
            without = f"{meaning} A test in it failed ({error or 'it took too long'}), so no disk image can be used."
            yield Check(
                "bubblewrap", title, "error", "does not work", without, "bwrap --ro-bind / / --unshare-all true"
            )
        else:
            version = (said("bwrap", "--version") or "").strip()
            yield Check("bubblewrap", title, "ok", f"{version}, tried: works".removeprefix(", "), meaning)


def kernel() -> Iterator[Check]:
    """supermin takes a kernel from /boot with modules of the same name, and must be able to read it."""
    title = "Kernel for the conversion's virtual machine"
    meaning = "virt-v2v works on a guest inside a small virtual machine, which boots this server's own kernel."
    if os.environ.get("LIBGUESTFS_PATH") or os.environ.get("SUPERMIN_KERNEL"):
        yield Check("kernel", title, "ok", "set by the environment", meaning)
        return
    images = sorted((ROOT / "boot").glob("vmlinuz-*"))
    usable = [path for path in images if (ROOT / "lib/modules" / path.name.removeprefix("vmlinuz-")).is_dir()]
    readable = [path for path in usable if os.access(path, os.R_OK)]
    if readable:
        yield Check("kernel", title, "ok", ", ".join(path.name for path in readable[-3:]), meaning)
    elif usable:
        without = f"{meaning} v2vweb may not read it, so nothing can be converted."
        yield Check("kernel", title, "error", f"{usable[-1]} is not readable", without, f"chmod 0644 {usable[-1]}")
    else:
        package = "linux-image-arm64" if platform.machine() == "aarch64" else "linux-image-amd64"
        without = f"{meaning} There is none in /boot with its modules, so nothing can be converted."
        yield Check("kernel", title, "error", "none", without, install(package))


def xfs() -> Iterator[Check]:
    title = "XFS file systems"
    meaning = "Red Hat Enterprise Linux, CentOS, Rocky and others keep their files on XFS."
    if os.environ.get("LIBGUESTFS_PATH"):
        yield Check("xfs", title, "unknown", "a prepared appliance is used (LIBGUESTFS_PATH)", meaning)
    elif any(
        path for under in ("lib/*", "lib*") for path in (ROOT / "usr").glob(f"{under}/guestfs/supermin.d/*packages-xfs")
    ):
        yield Check("xfs", title, "ok", "libguestfs-xfs", meaning)
    else:
        without = f"{meaning} Without libguestfs-xfs, virt-v2v finds no operating system in such guests."
        yield Check("xfs", title, "warning", "missing", without, install("libguestfs-xfs"))


def virtio_win() -> Iterator[Check]:
    title = "virtio-win"
    meaning = "Drivers that Windows guests need for KubeVirt's fast disks and network cards."
    place = Path(os.environ.get("VIRTIO_WIN") or ROOT / "usr/share/virtio-win")
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        yield Check("virtio-win", title, "ok", str(place), meaning)
        return
    without = f"{meaning} Without them Windows guests get slow emulated devices. Other guests do not need them."
    command = (
        f"mkdir -p {place} && wget -P {place} "
        "https://fedorapeople.org/groups/virt/virtio-win/direct-downloads/stable-virtio/virtio-win.iso"
    )
    command = "dnf install virtio-win" if _uses_dnf() else command
    yield Check("virtio-win", title, "warning", "missing", without, command)


def virt_tools() -> Iterator[Check]:
    title = "rhsrvany"
    meaning = "With it, virt-v2v has a Windows guest finish its change at the first start: drivers, static addresses."
    place = Path(os.environ.get("VIRT_TOOLS_DATA_DIR") or ROOT / "usr/share/virt-tools")
    names = [name for name in ("rhsrvany.exe", "pvvxsvc.exe", "pnp_wait.exe") if (place / name).exists()]
    if any(name != "pnp_wait.exe" for name in names):
        yield Check("virt-tools", title, "ok", ", ".join(str(place / name) for name in names), meaning)
        return
    without = f"{meaning} Without it such steps are left out or the guest is refused. Other guests do not need it."
    dnf = "dnf install mingw32-srvany"
    deb = f"mkdir -p {place} && cp rhsrvany.exe pnp_wait.exe {place}/   # from https://github.com/rwmjones/rhsrvany"
    yield Check("virt-tools", title, "warning", "missing", without, dnf if _uses_dnf() else deb)


def data_space() -> Iterator[Check]:
    """virt-v2v does not even start with less than 1 GiB free in its temporary folder."""
    usage = shutil.disk_usage(settings.DATA_DIR)
    value = f"{size_words(usage.free)} free of {size_words(usage.total)} in {settings.DATA_DIR}"
    meaning = "Converted disks, uploads and virt-v2v's own files stand here."
    state: State = "ok" if usage.free >= 10 << 30 else "warning" if usage.free >= 2 << 30 else "error"
    if state != "ok":
        meaning += " It is nearly full: conversions that do not fit are refused." + (
            " As it is, no conversion can start." if state == "error" else ""
        )
    yield Check(
        "data-space",
        "Space for results",
        state,
        value,
        meaning,
        "" if state == "ok" else f"du -sh {settings.DATA_DIR}/*",
    )


def source_roots() -> Iterator[Check]:
    roots: tuple[Path, ...] = settings.SOURCE_ROOTS
    meaning = "Folders whose disk images and OVAs people may pick."
    if not roots:
        without = f"{meaning} None is set, so no image on this server can be picked."
        yield Check(
            "source-roots", "Source folders", "warning", "none", without, "V2VWEB_SOURCE_ROOTS=/srv/images make run"
        )
    for number, root in enumerate(roots, 1):
        id, title = f"source-root-{number}", f"Source folder {root}"
        if not root.is_dir():
            yield Check(id, title, "error", "not there", f"{meaning} Is it mounted?", f"mkdir -p {root}")
        elif not os.access(root, os.R_OK | os.X_OK):
            without = f"{meaning} v2vweb may not read it."
            yield Check(id, title, "error", "not readable", without, f"chmod a+rx {root}")
        else:
            usage = shutil.disk_usage(root)
            yield Check(id, title, "ok", f"{size_words(usage.free)} free of {size_words(usage.total)}", meaning)


MEASUREMENTS: tuple[tuple[str, str, Callable[[], Iterator[Check]]], ...] = (
    ("virt-v2v", "virt-v2v", virt_v2v),
    ("nbdkit", "nbdkit", nbdkit),
    (
        "nbdcopy",
        "nbdcopy",
        partial(
            program, "nbdcopy", "nbdcopy", ("nbdcopy", "--version"), "libnbd-bin", "It copies the disks for virt-v2v."
        ),
    ),
    (
        "qemu-img",
        "qemu-img",
        partial(
            program,
            "qemu-img",
            "qemu-img",
            ("qemu-img", "--version"),
            "qemu-utils",
            "It reads and writes disk formats.",
        ),
    ),
    ("bubblewrap", "Sandbox for disk images (bubblewrap)", bubblewrap),
    ("kernel", "Kernel for the conversion's virtual machine", kernel),
    ("xfs", "XFS file systems", xfs),
    ("virtio-win", "virtio-win", virtio_win),
    ("virt-tools", "rhsrvany", virt_tools),
    ("data-space", "Space for results", data_space),
    ("source-roots", "Source folders", source_roots),
)
