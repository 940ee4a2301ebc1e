"""What virt-v2v, nbdkit, libguestfs and qemu say when something fails -> a Problem a person can act on.

Standard library only: the agent uses it.  A new entry is one regular expression and one Problem; the first entry that
matches wins, so the exact ones stand before the vague ones.  Unknown text is never an error of ours: it is quoted.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .problems import Problem
from .states import Phase


@dataclass(frozen=True)
class Known:
    pattern: re.Pattern[str]
    problem: Problem  #: {0} in its text is the first group of the pattern
    phases: frozenset[Phase] = field(default_factory=frozenset)  #: only then; empty: always


def _known(pattern: str, code: str, title: str, text: str, action: str, whose: str, *phases: Phase) -> Known:
    return Known(re.compile(pattern, re.I), Problem(code, title, text, action, whose), frozenset(phases))


OWNER, ADMIN, YOU = "source owner", "administrator", "you"

CATALOGUE: tuple[Known, ...] = (
    # What is wrong with the guest
    _known(
        r"hibernation or fast restart|windows hibernation|windows is hibernated|refused to mount.*hibernat",
        "windows-hibernated",
        "Windows was not shut down completely",
        "Windows is hibernated, or was shut down with Fast Startup on, so its disk cannot be changed safely. "
        "The same happens when the guest was still running.",
        "Start the guest at the source, switch Fast Startup off, shut it down with Shift held while choosing "
        "Shut down, and press Retry.",
        OWNER,
    ),
    _known(
        r"no root device found|no operating system was found|inspection could not detect the source guest"
        r"|were you trying to convert a blank disk|no operating systems? (?:could be )?(?:found|detected)",
        "no-operating-system",
        "No operating system was found on the disks",
        "virt-v2v looked at all disks of this guest and found no operating system it knows. The disk may be empty, "
        "hold only data, be encrypted, or be the second disk of a guest.",
        "Check that you chose the disk the guest boots from, with all of its other disks, and start a new conversion.",
        YOU,
    ),
    _known(
        r"multi-boot operating systems are not supported|dual- or multi-boot operating system",
        "multi-boot",
        "More than one operating system was found",
        "This guest can boot several operating systems, and virt-v2v cannot know which one is to be converted.",
        "Start a new conversion and choose the root device of the right one on the Options page.",
        YOU,
    ),
    _known(
        r"root device (\S+) not found",
        "root-not-found",
        "The chosen root device is not there",
        "There is no operating system on {0}, which was chosen as the root device.",
        "Start a new conversion and choose “first” or one of the devices named in the log.",
        YOU,
    ),
    _known(
        r"unable to convert this guest type \(([^)]*)\)",
        "guest-not-supported",
        "This operating system cannot be converted",
        "virt-v2v found the operating system ({0}) but does not know how to prepare it for KubeVirt.",
        "See virt-v2v's list of supported guests. A newer virt-v2v on this server may know it: ask your administrator.",
        ADMIN,
    ),
    _known(
        r"only xen kernels are installed",
        "only-xen-kernels",
        "The guest has kernels for Xen only",
        "Every kernel installed in this guest runs on Xen only, so it could not start in KubeVirt.",
        "Install an ordinary kernel in the guest at the source, shut it down, and press Retry.",
        OWNER,
    ),
    _known(
        r"no installed kernel packages were found|no kernels were found in the bootloader|no bootloader detected"
        r"|no initrd was found in /boot",
        "no-kernel",
        "The guest's kernel or boot loader was not found",
        "virt-v2v found Linux, but not the kernel or the boot loader it starts with. A separate /boot disk may be missing.",
        "Check that all disks of the guest are part of the conversion. If they are, look at the guest's /boot at the source.",
        OWNER,
    ),
    _known(
        r"not enough (?:free space|available inodes) for conversion on filesystem [‘'\"]?([^\s’'\"]+)",
        "guest-disk-full",
        "Not enough free space inside the guest",
        "The file system {0} inside the guest is too full. virt-v2v needs 100 MB on / (on C: in Windows), 50 MB on /boot "
        "and 10 MB elsewhere to put in drivers and a boot image.",
        "Free some space in the guest at the source, shut it down, and press Retry.",
        OWNER,
    ),
    _known(
        r"could not find key to open luks|no key available with this passphrase|cryptsetup_open.*|"
        r"could not read key from user|luks_open.*failed",
        "luks-key",
        "A disk is encrypted and no passphrase opens it",
        "The guest has a disk encrypted with LUKS. No passphrase was given for it, or none of them is right.",
        "Start a new conversion and enter the passphrase on the Options page. The guest's owner knows it.",
        YOU,
    ),
    _known(
        r"bitlocker",
        "bitlocker",
        "A disk is encrypted with BitLocker",
        "Windows has encrypted a disk of this guest with BitLocker, which virt-v2v cannot open.",
        "Decrypt the disk in Windows at the source (Manage BitLocker, Turn off), shut the guest down, and press Retry.",
        OWNER,
    ),
    _known(
        r"unknown filesystem type '?xfs|xfs.*(?:not supported|not available|wrong fs type)|feature 'xfs' is not available"
        r"|mount: .*unknown filesystem type",
        "xfs-missing",
        "This server cannot read the guest's file system",
        "The guest uses a file system (most often XFS, as Red Hat's systems do) for which a package is missing on this server.",
        "Ask your administrator to install libguestfs-xfs (see the System page), then press Retry.",
        ADMIN,
    ),
    _known(
        r"structure needs cleaning|bad superblock|superblock checksum|can't read superblock|filesystem.*corrupt"
        r"|mount exited with status 32|\$MFT.*(?:corrupt|invalid)|ntfs is (?:either )?inconsistent"
        r"|filesystem was mounted read-only, even though we asked",
        "guest-file-system-damaged",
        "A file system of the guest is damaged or was in use",
        "A file system inside the guest cannot be opened for writing. The guest may have been running or have crashed "
        "when its disk was copied, or the disk is damaged.",
        "Start the guest at the source, let it check its disks, shut it down cleanly, and press Retry.",
        OWNER,
    ),
    _known(
        r"virtual size of the input disk.*not an exact multiple of 512",
        "disk-size-odd",
        "The disk's size is not a whole number of sectors",
        "A disk image must be a multiple of 512 bytes long. This one is not, so it may have been cut off while being copied.",
        "Copy the image again and compare the sizes.",
        OWNER,
    ),
    _known(
        r"libvirt domain .* is running or paused",
        "guest-running",
        "The guest is still running",
        "A guest must be shut down before it is converted.",
        "Shut the guest down at the source and press Retry.",
        OWNER,
    ),
    # What is wrong with an OVA
    _known(
        r"corrupt ova: checksum of disk (\S+) does not match",
        "ova-checksum",
        "The OVA is damaged",
        "The checksum of {0} is not the one in the OVA's manifest. The file was changed or damaged on its way here.",
        "Export or copy the OVA again and start a new conversion.",
        OWNER,
    ),
    _known(
        r"no \.ovf file was found|more than one \.ovf file",
        "ova-without-ovf",
        "The OVA has no usable description",
        "An OVA must have exactly one .ovf file, which describes the guest. This one has none, or several.",
        "Export the guest again as one OVA.",
        OWNER,
    ),
    # What is wrong with this server
    _known(
        r"insufficient free space in the conversion server temporary directory (\S+)",
        "no-temporary-space",
        "Not enough temporary space on this server",
        "virt-v2v needs at least 1 GiB of free space in {0} while it works.",
        "Ask your administrator to free some space there, then press Retry.",
        ADMIN,
    ),
    _known(
        r"no space left on device|ENOSPC|disk quota exceeded|file too large",
        "target-full",
        "The disk ran full while the guest was being copied",
        "There was no space left in the folder for the results. The half-written disks were removed.",
        "Free some space (delete results you have already taken away, or ask your administrator), then press Retry.",
        ADMIN,
        Phase.COPYING,
        Phase.FINISHING,
    ),
    _known(
        r"no space left on device|ENOSPC|disk quota exceeded",
        "no-temporary-space",
        "This server ran out of temporary space",
        "There was no space left for the temporary files virt-v2v needs while it prepares the guest.",
        "Ask your administrator to free some space on this server, then press Retry.",
        ADMIN,
    ),
    _known(
        r"cannot allocate memory|out of memory|cannot set up guest memory|oom-kill",
        "out-of-memory",
        "This server ran out of memory",
        "There was not enough memory for the conversion. Each one needs about 2 GiB.",
        "Press Retry when fewer conversions are running. If it comes again, ask your administrator to lower "
        "V2VWEB_MAX_RUNNING or add memory.",
        ADMIN,
    ),
    # What is wrong at the source's end, or on the way to it
    _known(
        r"thumbprint (?:does not match|mismatch)|SSLVerifyCertAgainstSystemStore"
        r"|VixDiskLib.*(?:SSL|certificate).*(?:verif|thumbprint)",
        "vddk-thumbprint",
        "VMware's library does not trust the server's certificate",
        "VDDK was given the fingerprint of the certificate that somebody trusted, and the server shows another one.",
        "Open the source's page, press Certificate, compare with what the server's administrator says, trust the new one, "
        "and start a new conversion.",
        ADMIN,
    ),
    _known(
        r"VixDiskLib_\w+: .*incorrect user name or password|cannot complete login due to an incorrect user name or password"
        r"|login failed due to a bad username or password|InvalidLogin",
        "login-refused",
        "The source refused the user or the password",
        "What is stored for this source does not open it any more: the password was changed, or the account is locked.",
        "Type the new password on the source's page (Change), press Test connection, and then Retry.",
        OWNER,
    ),
    _known(
        r"VDDK plugin is not (?:installed|available)|nbdkit(?: VDDK)? plugin.*vddk.*not|cannot open plugin '?vddk"
        r"|nbdkit-vddk-plugin\.so"
        r"|libvixDiskLib\.so[^\n]*cannot open shared object",
        "vddk-missing",
        "VMware's VDDK cannot be used on this server",
        "nbdkit's VDDK plugin or VMware's library was not found. Debian's nbdkit comes without the plugin, because VMware's "
        "licence forbids to ship what it needs.",
        "Change the source to HTTPS, which needs neither; or press Test connection on its page, which names what is missing.",
        ADMIN,
    ),
    _known(
        r"host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|host key for \S+ has changed",
        "host-key-changed",
        "The host shows another SSH key",
        "The host at the other end does not show the key that was trusted. Either it was installed anew, or somebody stands "
        "between.",
        "Ask the host's administrator; if the key was changed on purpose, trust the new one on the source's page and retry.",
        ADMIN,
    ),
    _known(
        r"permission denied \((?:[a-z-]+,)*publickey|ssh.*no authentication methods|failed to authenticate.*ssh",
        "ssh-refused",
        "SSH refused the login",
        "The host did not let v2vweb in with the key that is stored for this source.",
        "Add the key's public half to ~/.ssh/authorized_keys of that user there, press Test connection, and then Retry.",
        OWNER,
    ),
    _known(
        r"connect to host \S+ port \d+: connection (?:refused|timed out)",
        "ssh-off",
        "Nothing answers over SSH",
        "The host did not answer on its SSH port: SSH is switched off there, or a firewall is closed.",
        "At an ESXi host: Host, Actions, Services, Enable Secure Shell (SSH). Then press Retry.",
        OWNER,
    ),
    _known(
        r"could not copy the vmx file from the remote server",
        "vmx-missing",
        "The guest's file is not on the ESXi host",
        "The description of the guest (its .vmx file) could not be read over SSH. The guest was deleted or moved to another "
        "datastore since the list was read.",
        "Refresh the source's guests, and start a new conversion from where the guest is now.",
        OWNER,
    ),
    _known(
        r"this transport does not support guests with snapshots",
        "snapshot-over-ssh",
        "The guest has a snapshot, or its disk is somewhere else",
        "Over SSH virt-v2v reads only disks without snapshots, from the file whose name ends in -flat.vmdk. There is none.",
        "Remove the guest's snapshots at the source (Delete all snapshots) and press Retry, or change the source to HTTPS.",
        OWNER,
    ),
    _known(
        r"session is not authenticated|the session has expired|NotAuthenticated",
        "session-ended",
        "The source ended the session in the middle",
        "vCenter or the host closed v2vweb's session: it was restarted, or an administrator ended it.",
        "Press Retry.",
        OWNER,
    ),
    _known(
        r"(nbdkit|qemu-nbd|nbdcopy|qemu-img|supermin)(?:: command)?: (?:executable )?not found"
        r"|cannot open plugin '?([\w-]+)|cannot open filter",
        "program-missing",
        "A program that virt-v2v needs is missing",
        "virt-v2v could not start a program or a part of one that it needs on this server.",
        "Ask your administrator to look at the System page, which names it and the command that installs it.",
        ADMIN,
    ),
    _known(
        r"could not access kvm kernel module|failed to initialize kvm|/dev/kvm.*permission denied",
        "kvm-missing",
        "The processor's virtualisation cannot be used",
        "virt-v2v tried to use KVM, which this server does not have or does not let v2vweb use.",
        "Ask your administrator to set V2VWEB_ACCELERATION=tcg (slower, but works everywhere), or to give v2vweb "
        "access to /dev/kvm; then press Retry.",
        ADMIN,
    ),
    _known(
        r"appliance closed the connection unexpectedly|guestfs_launch failed|child process died unexpectedly"
        r"|supermin.*(?:error|failed)|no suitable kernel|failed to launch appliance|appliance.*did not start",
        "appliance-failed",
        "virt-v2v's helper machine did not start",
        "virt-v2v looks into disks with a small virtual machine of its own (the appliance). It did not start, or it ended.",
        "Ask your administrator to look at the System page (the libguestfs test), then press Retry.",
        ADMIN,
    ),
    _known(
        r"input/output error",
        "io-error",
        "A disk could not be read or written",
        "The operating system reported a read or write error on the source or in the folder for the results.",
        "Press Retry. If it comes again, the disk, the network storage or the image is damaged: ask your administrator.",
        ADMIN,
    ),
    _known(
        r"permission denied",
        "permission-denied",
        "v2vweb may not read or write a file",
        "The operating system refused access to a file that the conversion needs.",
        "Ask your administrator to let the account that runs v2vweb read the source and write to its data folder.",
        ADMIN,
    ),
    _known(
        r"no such file or directory",
        "file-missing",
        "A file that the conversion needs is missing",
        "A file was there when the conversion was planned and is not there now, or a disk image names one that does not exist.",
        "Check that the source is still where it was, then press Retry.",
        YOU,
    ),
)

WARNINGS: tuple[Known, ...] = (
    _known(
        r"does not have virtio drivers|no virtio (?:drivers|block device driver)",
        "guest-without-virtio",
        "The guest has no virtio drivers",
        "This guest has no drivers for KubeVirt's fast disks and network cards, so it must be given slower, older "
        "kinds (SATA, e1000).",
        "For Windows, ask your administrator to install virtio-win on this server and convert again.",
        ADMIN,
    ),
    _known(
        r"no virtio network driver",
        "guest-without-virtio-net",
        "The guest has no virtio network driver",
        "This guest has no driver for KubeVirt's fast network card and must be given a slower kind.",
        "",
        ADMIN,
    ),
    _known(
        r"update the configuration of grub2",
        "grub-not-updated",
        "The boot menu was not changed",
        "virt-v2v could not add a serial console to the guest's boot menu. The guest still boots.",
        "",
        YOU,
    ),
    _known(
        r"fstrim on guest filesystem|fstrim.*failed",
        "not-trimmed",
        "Unused space could not be left out",
        "Unused space of a file system in the guest is copied too. That takes longer and does no harm.",
        "",
        YOU,
    ),
)


def _match(catalogue: Sequence[Known], text: str, phase: Phase | None) -> Problem | None:
    for known in catalogue:
        if known.phases and phase not in known.phases:
            continue
        if found := known.pattern.search(text):
            group = next((part for part in found.groups() if part), "")
            return replace(known.problem, text=known.problem.text.replace("{0}", group))
    return None


def warning(text: str) -> Problem:
    """A warning of virt-v2v's: its own text, with a title when we know it."""
    problem = _match(WARNINGS, text, None)
    if problem is None:
        return Problem("virt-v2v-warning", "virt-v2v warns", text)
    return problem


def missing_program(name: str) -> Problem:
    return Problem(
        "virt-v2v-missing",
        "virt-v2v is not installed on this server",
        f"The program {name} was not found, so nothing was started.",
        "Ask your administrator to install virt-v2v (see the System page), then press Retry.",
        ADMIN,
    )


def killed(number: int) -> Problem:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL:
        text = f"Something ended virt-v2v from outside ({name}). Most often that is Linux itself when memory runs out."
    else:
        text = f"virt-v2v ended with {name}: it crashed, or something ended it from outside."
    return Problem(
        "virt-v2v-killed",
        "virt-v2v was ended from outside",
        text,
        "Press Retry when fewer conversions are running. If it comes again, ask your administrator to look at this server's "
        "memory and system log.",
        ADMIN,
    )


_VAGUE = ("appliance-failed", "io-error", "program-missing", "vmx-missing")
_AT_THE_SOURCE = (
    "vddk-thumbprint",
    "login-refused",
    "vddk-missing",
    "host-key-changed",
    "ssh-refused",
    "ssh-off",
    "session-ended",
)


def diagnose(
    errors: Sequence[str],
    tail: Sequence[str],
    *,
    exit_code: int,
    phase: Phase | None = None,
) -> Problem:
    """Why virt-v2v failed: from its own errors, then from the last lines of the log.  A negative exit code is a signal."""
    said = "\n".join(errors)
    # virt-v2v's own words first: the lines around them come from many programs, and some of them are harmless.
    problem = _match(CATALOGUE, said, phase) or _match(CATALOGUE, "\n".join(tail), phase)
    if problem and problem.code in _VAGUE:
        # The helper machine ends too when the source shuts the door; who did that stands in nbdkit's lines above.
        behind = _match([known for known in CATALOGUE if known.problem.code in _AT_THE_SOURCE], "\n".join(tail), phase)
        problem = behind or problem
    if exit_code < 0 and (problem is None or not errors):
        return killed(-exit_code)
    if problem:
        return problem
    last = errors[-1] if errors else next((line for line in reversed(tail) if re.search(r"\berror\b", line, re.I)), "")
    last = last or (tail[-1] if tail else "")
    quote = f" Its last words: “{last[:500]}”" if last else " It gave no reason."
    return Problem(
        "virt-v2v-failed",
        "virt-v2v stopped with an error",
        f"virt-v2v ended with exit code {exit_code}.{quote}",
        "The log has the details. Press Retry if the cause is gone; otherwise give the evidence file to your administrator.",
        ADMIN,
    )
