"""Test connection: one step after another from the name to the privileges, each with what failed and what to do.

No step waits for ever (reach.py, vsphere.py), and none changes anything at the source.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pyVmomi import vim, vmodl

from ..models import SavedSource
from ..problems import Problem, RefusedError
from ..sources.ssh_files import ssh_port
from . import libvirt_uri, programs, ssh, vsphere
from .esxi_shell import Survey, survey
from .reach import check_pin, open_port
from .trust import fetch_certificate

_NBDKIT_SECONDS = 20

State = Literal["ok", "warning", "error", "skipped"]

#: What virt-v2v's manual asks of a user that is no administrator (virt-v2v-input-vmware(1)).
PRIVILEGES = (
    "Datastore.Browse",
    "Datastore.FileManagement",
    "Sessions.ValidateSession",
    "VirtualMachine.GuestOperations.Query",
    "VirtualMachine.Provisioning.DiskRandomAccess",
    "VirtualMachine.Provisioning.DiskRandomRead",
    "VirtualMachine.Provisioning.GetVmFiles",
)


@dataclass(frozen=True)
class Step:
    id: str
    title: str  #: "Password of anna"
    state: State
    text: str = ""  #: what was found, or what failed
    action: str = ""  #: what to do

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def test(saved: SavedSource) -> Iterator[Step]:
    """The steps of a saved source, as they are done; after the first error the rest is left out."""
    for id, title, run in _steps(saved):
        try:
            state, text, action = run()
        except RefusedError as error:
            yield Step(id, title, "error", error.problem.text, error.problem.action)
            return
        yield Step(id, title, state, text, action)


def _steps(saved: SavedSource) -> "Steps":
    if saved.kind == "xen":
        return _xen_steps(saved)
    return _esxi_ssh_steps(saved) if saved.transport == "ssh" else _vsphere_steps(saved)


Outcome = tuple[State, str, str]
Steps = Iterator[tuple[str, str, Callable[[], Outcome]]]


def _ok(text: str = "") -> Outcome:
    return "ok", text, ""


# --- vCenter and ESXi -----------------------------------------------------------------------------------------------


def endpoint_of(saved: SavedSource) -> vsphere.Endpoint:
    return vsphere.Endpoint(saved.host, saved.port, saved.user, pin=saved.pin, ca=saved.ca)


def _vsphere_steps(saved: SavedSource) -> Steps:
    yield "reach", f"{saved.host}, port {saved.port}", lambda: _reach_https(saved)
    yield "certificate", "Certificate", lambda: _certificate(saved)
    hosts: list[str] = []
    yield "login", f"Login as {saved.user}", lambda: _login(saved, hosts)
    if saved.transport == "vddk":
        yield "vddk", "VDDK library and nbdkit's plugin", lambda: _vddk(saved.vddk_libdir)
        for host in hosts if saved.kind == "vcenter" else [saved.host]:
            yield "port-902", f"{host}, port 902", lambda host=host: _port_902(host)  # type: ignore[misc]


def _reach(host: str, port: int) -> Outcome:
    with open_port(host, port) as connection:
        return _ok(f"Answers at {connection.getpeername()[0]}.")


def _reach_https(saved: SavedSource) -> Outcome:
    try:
        return _reach(saved.host, saved.port)
    except RefusedError as error:
        if saved.kind != "esxi" or error.problem.code not in ("port-closed", "no-answer"):
            raise
        action = (
            f"{error.problem.action} Where HTTPS is closed on purpose, change this source to SSH: that needs no HTTPS."
        )
        raise RefusedError(replace(error.problem, action=action), field=error.field) from None


def _certificate(saved: SavedSource) -> Outcome:
    if saved.pin_sha256 and saved.pin:
        check_pin(saved.host, saved.port, saved.pin_sha256)
        return _ok("It is the one that was trusted.")
    found = fetch_certificate(saved.host, saved.port)
    if saved.ca:
        return _ok(f"{found.subject}; it is checked against the CA that was given.")
    raise RefusedError(
        Problem(
            "certificate-not-trusted-yet",
            "The certificate is not trusted yet",
            f"{saved.host} shows {found.subject}, SHA-256 {found.sha256}.",
            "Press “Look at what the server shows” on the source's page, compare it with what the server's administrator "
            "says, then press “Trust it”.",
        )
    )


def _login(saved: SavedSource, hosts: list[str]) -> Outcome:
    with vsphere.session(endpoint_of(saved), (saved.secrets or {}).get("password", "")) as instance:
        content: Any = instance.RetrieveContent()
        about = content.about
        is_vcenter = about.apiType == "VirtualCenter"
        if is_vcenter != (saved.kind == "vcenter"):
            raise RefusedError(
                Problem(
                    "other-kind",
                    "This is another kind of server",
                    f"{saved.host} is {'a vCenter' if is_vcenter else 'an ESXi host'} ({about.fullName}).",
                    f"Change the kind of this source to {'vCenter' if is_vcenter else 'ESXi host'}.",
                )
            )
        found = vsphere.retrieve(instance)
        hosts += sorted({properties["name"] for properties in found[vim.HostSystem].values() if "name" in properties})
        missing = _missing_privileges(content)
        licence = _licence_problem(content)
    text = f"{about.fullName}: {len(found[vim.VirtualMachine])} guests on {len(hosts)} host{'' if len(hosts) == 1 else 's'}."
    if missing:
        return (
            "warning",
            f"{text} The user lacks: {', '.join(missing)}.",
            "Ask the source's administrator to add these privileges to the user's role; copying may be refused without.",
        )
    if licence:
        return "warning", f"{text} {licence}", "Use a licence that includes the vSphere API."
    return _ok(text)


def _missing_privileges(content: Any) -> list[str]:
    """Privileges that the session lacks on the root folder; an unknown one is skipped, as vCenter itself does."""
    manager, session = content.authorizationManager, content.sessionManager.currentSession
    if manager is None or session is None:
        return []
    try:
        known = {privilege.privId for privilege in manager.privilegeList or []}
        asked = [privilege for privilege in PRIVILEGES if not known or privilege in known]
        answer = manager.HasPrivilegeOnEntities([content.rootFolder], session.key, asked)
    except (vmodl.RuntimeFault, vmodl.MethodFault):
        return []
    return [each.privId for entity in answer or [] for each in entity.privAvailability or [] if not each.isGranted]


def _licence_problem(content: Any) -> str:
    """ESXi's free licence lets everybody log in and refuses whatever would change something."""
    try:
        licences = content.licenseManager.licenses if content.licenseManager else []
    except (vmodl.RuntimeFault, vmodl.MethodFault, AttributeError):
        return ""
    names = [licence.name for licence in licences or []]
    if names and all("Hypervisor" in name for name in names):
        return "Its licence is the free one, which does not let programs copy disks."
    return ""


def _vddk(libdir: str) -> Outcome:
    folder = Path(libdir)
    if not libdir or not any((folder / "lib64").glob("libvixDiskLib.so*")):
        raise RefusedError(
            Problem(
                "vddk-folder",
                "The VDDK library is not there",
                f"{libdir or '(no folder)'} has no lib64/libvixDiskLib.so.",
                "Unpack VMware's vmware-vix-disklib archive on this server and give the folder that holds lib64.",
                "administrator",
            ),
            field="vddk_libdir",
        )
    argv = ["nbdkit", "vddk", "--dump-plugin", f"libdir={libdir}"]
    dump = programs.run(argv, timeout=_NBDKIT_SECONDS, slow=_nbdkit_hangs(libdir))
    if dump.returncode != 0:
        raise RefusedError(
            Problem(
                "vddk-plugin",
                "nbdkit has no VDDK plugin",
                "Debian's nbdkit comes without nbdkit-vddk-plugin.so, because VMware's licence forbids to ship what it needs.",
                "Build nbdkit with VDDK support (./configure --with-vddk) on this server and put the plugin into "
                "the folder that `nbdkit --dump-config` calls plugindir; or choose HTTPS.",
                "administrator",
            ),
            field="transport",
        )
    version = re.search(r"^vddk_library_version=(.*)$", dump.stdout, re.MULTILINE)
    return _ok(f"Library version {version[1]}." if version else "")


def _nbdkit_hangs(libdir: str) -> RefusedError:
    return RefusedError(
        Problem(
            "vddk-hangs",
            "nbdkit does not answer",
            f"nbdkit was asked to load the VDDK library in {libdir} and had not done it after {_NBDKIT_SECONDS} seconds.",
            "Check that this folder lies on a disk that answers (a network share may hang), or unpack the library on a "
            "disk of this server; or choose HTTPS.",
            "administrator",
        ),
        field="vddk_libdir",
    )


def _port_902(host: str) -> Outcome:
    try:
        open_port(host, 902).close()
    except RefusedError as error:
        text = f"{error.problem.text} VDDK reads disks from each ESXi host's port 902."
        return "warning", text, "Open port 902 of this host for v2vweb's server."
    return _ok()


# --- SSH ------------------------------------------------------------------------------------------------------------


def _xen_steps(saved: SavedSource) -> Steps:
    yield from _ssh_steps(saved)
    yield "nc", "netcat on the Xen host", lambda: _nc(saved)
    yield "libvirt", "libvirt on the Xen host", lambda: _libvirt(saved)


def _esxi_ssh_steps(saved: SavedSource) -> Steps:
    """HTTPS is not asked for anything, so it is not tried."""
    yield from _ssh_steps(saved)
    found: list[Survey] = []
    yield "datastores", "Datastores", lambda: _datastores(saved, found)
    yield "guests", "Guests", lambda: _esxi_guests(found[0])


def _ssh_steps(saved: SavedSource) -> Steps:
    yield "reach", f"{saved.host}, port {ssh_port(saved)}", lambda: _reach_ssh(saved)
    yield "host-key", "SSH host key", lambda: _host_key(saved)
    yield "login", f"Login as {saved.user} with the key", lambda: _ssh_login(saved)


def _reach_ssh(saved: SavedSource) -> Outcome:
    try:
        return _reach(saved.host, ssh_port(saved))
    except RefusedError as error:
        raise ssh.if_off(saved, error) from None


def _host_key(saved: SavedSource) -> Outcome:
    ssh.check_host_key(saved)
    return _ok("It is the one that was trusted.")


def _ssh_login(saved: SavedSource) -> Outcome:
    ssh.run(saved, "true")
    return _ok()


def _datastores(saved: SavedSource, found: list[Survey]) -> Outcome:
    found.append(survey(saved))
    return _ok(", ".join(found[0].folders)[:300] + ".")


def _esxi_guests(found: Survey) -> Outcome:
    count = len(found.files)
    if not count:
        return (
            "warning",
            "There is no guest: no .vmx file was found on the datastores.",
            "Check that this is the right host, and that the datastore with the guests is connected to it.",
        )
    text = f"{count} guest{'' if count == 1 else 's'} found."
    if not found.registered:
        return (
            "warning",
            f"{text} The host does not tell which of them run: vim-cmd "
            f"{'names none of them' if found.has_vim_cmd else 'is not there'}.",
            "Guests can be moved, but you must shut them down and start them yourself.",
        )
    return _ok(f"{text} {len(found.registered)} of them can be shut down and started from here.")


def _nc(saved: SavedSource) -> Outcome:
    if ssh.run(saved, "command -v nc || command -v virt-ssh-helper").returncode != 0:
        raise RefusedError(
            Problem(
                "nc-missing",
                "netcat is missing on the Xen host",
                "libvirt's connection over SSH needs the program nc (netcat) at the other end.",
                "Install it there, for example with: yum install nc",
                "source owner",
            )
        )
    return _ok()


def _libvirt(saved: SavedSource) -> Outcome:
    uri = libvirt_uri.xen_ssh(saved.user, saved.host, saved.port, saved.libvirt_name)
    done = ssh.with_ssh(saved, ["virsh", "-r", "-c", uri, "list", "--all", "--name"], timeout=40)
    if done.returncode != 0:
        raise RefusedError(
            Problem(
                "libvirt-refused",
                "libvirt does not answer on the Xen host",
                f"Asking for the list of guests failed: {ssh.last_line(done.stderr)}",
                "Check that libvirtd runs there (systemctl status libvirtd).",
                "source owner",
            )
        )
    return _ok(f"{len(done.stdout.split())} guests.")
