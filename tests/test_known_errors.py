"""What programs say when something fails -> what a person reads.  The texts are virt-v2v 2.2's, libguestfs's, nbdkit's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions.known_errors import CATALOGUE, WARNINGS, diagnose, warning
from conversions.states import Phase

ERRORS = {
    "inspection could not detect the source guest (or physical machine).\n\nAssuming that you are running ...": (
        "no-operating-system"
    ),
    "No root device found in this operating system image.": "no-operating-system",
    "multi-boot operating systems are not supported by virt-v2v. Use the --root option to change how virt-v2v handles "
    "this.": "multi-boot",
    "root device /dev/sdb9 not found.  Roots found were: /dev/sda1": "root-not-found",
    "virt-v2v is unable to convert this guest type (linux/archlinux)": "guest-not-supported",
    "only Xen kernels are installed in this guest.": "only-xen-kernels",
    "no installed kernel packages were found.": "no-kernel",
    "not enough free space for conversion on filesystem ‘/boot’.  1000 bytes free < 50 MB needed": "guest-disk-full",
    "not enough available inodes for conversion on filesystem ‘/’.  1 inodes available < 100 inodes needed": "guest-disk-full",
    "libguestfs error: could not find key to open LUKS encrypted /dev/sda2.\n\nTry using --key on the command line.\n\n"
    "Original error: cryptsetup_open: cryptsetup exited with status 2: No key available with this passphrase. (0)": "luks-key",
    "unable to mount the disk image for writing. This has probably happened because Windows Hibernation or Fast Restart is "
    "being used in this guest. You have to disable this (in the guest) in order to use virt-v2v.": "windows-hibernated",
    "libguestfs error: mount_ro: mount exited with status 32: mount: unknown filesystem type 'xfs'": "xfs-missing",
    "libguestfs error: mount: mount exited with status 32: mount: /sysroot: Structure needs cleaning": (
        "guest-file-system-damaged"
    ),
    "insufficient free space in the conversion server temporary directory /var/tmp (512M).": "no-temporary-space",
    "libguestfs error: appliance closed the connection unexpectedly, see earlier error messages": "appliance-failed",
    "libguestfs error: guestfs_launch failed, see earlier error messages": "appliance-failed",
    "-i ova: corrupt OVA: checksum of disk disk1.vmdk does not match manifest (actual = 1, expected = 2)": "ova-checksum",
    "no .ovf file was found in /x.ova": "ova-without-ovf",
    "libvirt domain ‘web’ is running or paused.  It must be shut down in order to perform virt-v2v conversion": "guest-running",
    "the virtual size of the input disk 0 is not an exact multiple of 512 bytes.  The virtual size is: 7.": "disk-size-odd",
    "access: No such file or directory: /nonexistent.img": "file-missing",
    "nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: SSLVerifyCertAgainstSystemStore: the thumbprint does not match: "
    "Permission denied": "vddk-thumbprint",
    "nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: Cannot connect to host: incorrect user name or password": "login-refused",
    "internal error: HTTP response code 500 for call to 'Login'. Fault: ServerFaultCode - Cannot complete login due to an "
    "incorrect user name or password.": "login-refused",
    "nbdkit VDDK plugin is not installed or not working": "vddk-missing",
    "nbdkit: error: libvixDiskLib.so.8: cannot open shared object file: No such file or directory": "vddk-missing",
    "Cannot recv data: Host key verification failed.: Connection reset by peer": "host-key-changed",
    "Cannot recv data: root@xen1: Permission denied (publickey,password).: Connection reset by peer": "ssh-refused",
    "ssh: connect to host 10.0.0.5 port 22: Connection refused": "ssh-off",
    "could not copy the VMX file from the remote server, see earlier error messages": "vmx-missing",
    "This transport does not support guests with snapshots. Either collapse the snapshots for this guest and try the "
    "conversion again, or use one of the alternate conversion methods": "snapshot-over-ssh",
    "Fault: ServerFaultCode - The session is not authenticated.": "session-ended",
}


@pytest.mark.parametrize(
    ("before", "code"),
    {
        "Host key verification failed.": "host-key-changed",
        "root@esx1: Permission denied (publickey,keyboard-interactive).": "ssh-refused",
        "ssh: connect to host esx1 port 22: Connection refused": "ssh-off",
        "/usr/bin/scp: /vmfs/volumes/ds/x/x.vmx: No such file or directory": "vmx-missing",
    }.items(),
)
def test_why_the_file_of_an_esxi_guest_could_not_be_read_stands_in_the_lines_before(before: str, code: str) -> None:
    said = "could not copy the VMX file from the remote server, see earlier error messages"
    assert diagnose([said], [before, f"virt-v2v: error: {said}"], exit_code=1).code == code


@pytest.mark.parametrize(("text", "code"), ERRORS.items(), ids=ERRORS.values())
def test_an_error_of_virt_v2v_is_known(text: str, code: str) -> None:
    problem = diagnose([text], [], exit_code=1)
    assert problem.code == code
    assert problem.title
    assert problem.text
    assert problem.action


TAILS = {
    "nbdkit: file.1: error: pwrite: No space left on device": (Phase.COPYING, "target-full"),
    "nbdkit: cow.2: error: pwrite: No space left on device": (Phase.CONVERTING, "no-temporary-space"),
    "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory": (Phase.OPENING, "out-of-memory"),
    "Could not access KVM kernel module: Permission denied": (Phase.OPENING, "kvm-missing"),
    "sh: 1: nbdcopy: not found": (Phase.COPYING, "program-missing"),
    "nbdkit: error: cannot open plugin 'vddk': no such file": (Phase.OPENING, "vddk-missing"),
    "virt-v2v: could not read key from user": (Phase.OPENING, "luks-key"),
    "virt-v2v: could not find key to open LUKS encrypted /dev/sda1.": (Phase.OPENING, "luks-key"),
    "nbdcopy: read: Input/output error": (Phase.COPYING, "io-error"),
}


@pytest.mark.parametrize(("line", "expected"), TAILS.items(), ids=[code for _, code in TAILS.values()])
def test_the_cause_is_found_in_the_lines_before_a_vague_error(line: str, expected: tuple[Phase, str]) -> None:
    phase, code = expected
    vague = "nbdcopy command failed, see earlier error messages"
    assert diagnose([vague], ["[ 1.0] Opening the source", line], exit_code=1, phase=phase).code == code


def test_the_group_of_a_pattern_stands_in_the_text() -> None:
    problem = diagnose(["not enough free space for conversion on filesystem ‘/boot’.  1 < 2"], [], exit_code=1)
    assert "/boot" in problem.text


@pytest.mark.parametrize(("code", "name"), [(-9, "SIGKILL"), (-11, "SIGSEGV")])
def test_a_signal_is_named(code: int, name: str) -> None:
    problem = diagnose([], ["[  1.0] Opening the source"], exit_code=code)
    assert problem.code == "virt-v2v-killed"
    assert name in problem.text


def test_an_unknown_error_is_quoted() -> None:
    problem = diagnose(["frobnication failed"], ["something else"], exit_code=1)
    assert problem.code == "virt-v2v-failed"
    assert "frobnication failed" in problem.text
    assert "exit code 3" in diagnose([], [], exit_code=3).text


def test_warnings_have_titles_and_unknown_ones_their_own_text() -> None:
    assert warning("This guest does not have virtio drivers installed.").code == "guest-without-virtio"
    assert warning("something odd").text == "something odd"


def test_every_entry_is_written_for_people() -> None:
    for known in (*CATALOGUE, *WARNINGS):
        assert known.problem.title[0].isupper() or known.problem.title.startswith(("virt-v2v", "v2vweb"))
        assert not known.problem.title.endswith(".")
        assert known.problem.text.endswith(".")
        assert "!" not in known.problem.text + known.problem.title + known.problem.action
        assert known.problem.whose in ("you", "administrator", "source owner", "v2vweb")


@given(st.lists(st.text(max_size=200), max_size=5), st.lists(st.text(max_size=200), max_size=20), st.integers(-40, 255))
def test_there_is_always_a_diagnosis(errors: list[str], tail: list[str], code: int) -> None:
    problem = diagnose(errors, tail, exit_code=code)
    assert problem.title
    assert problem.text


def test_what_the_source_said_stands_behind_the_helper_machines_end() -> None:
    said = ["libguestfs error: appliance closed the connection unexpectedly, see earlier error messages"]
    tail = ["nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: the thumbprint does not match: Permission denied", "bye"]
    assert diagnose(said, tail, exit_code=1).code == "vddk-thumbprint"
    assert diagnose(said, ["bye"], exit_code=1).code == "appliance-failed"
