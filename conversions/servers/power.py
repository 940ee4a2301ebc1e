"""One guest at its source: where it is and whether it runs, asked in the moment before a conversion; and its power switch.

Each call has a session of its own with limits on every wait, and knows no database: it runs in a thread beside the conductor.
"""

import re
import time
from typing import Any

from pyVmomi import vim, vmodl

from ..models import SavedSource
from ..problems import RefusedError
from . import esxi_power, libvirt_uri, vsphere
from .connection import endpoint_of
from .power_answers import Seen, gone, said_no, tools_needed
from .reach import check_pin
from .ssh import check_host_key, with_ssh
from .vsphere_records import host_path_of

_POWER = {"poweredOn": "on", "poweredOff": "off", "suspended": "suspended"}
_XEN_POWER = {"running": "on", "idle": "on", "in shutdown": "on", "shut off": "off", "paused": "suspended"}
_XEN_SECONDS = 60
_TASK_SECONDS = 60
_IS_OFF = re.compile(r"domain.* not running", re.I)  #: libvirt, when it went off in this moment


def look(saved: SavedSource, guest: str, uuid: str | None) -> Seen:
    """Raises RefusedError "guest-gone" when it is not there any more, "certificate-changed", or why nobody answers."""
    if saved.kind == "xen":
        check_host_key(saved)
        state = _virsh(saved, f"domstate {uuid or guest}").strip()
        return Seen(_XEN_POWER.get(state, state))
    if saved.transport == "ssh":
        return esxi_power.look(saved, guest)
    with _guest(saved, guest) as machine:
        # One question for both: the properties of a guest that is being deleted may go away one by one.
        runtime = machine.runtime
        path = host_path_of(runtime.host) if runtime.host else []
        files = machine.config.files if machine.config else None
        vmx = files.vmPathName if files else None
        return Seen(_POWER.get(str(runtime.powerState), str(runtime.powerState)), tuple(path), vmx)


def shut_down(saved: SavedSource, guest: str, uuid: str | None) -> None:
    """Asks the guest to; returns at once.  Raises RefusedError when nothing inside can be asked."""
    if saved.kind == "xen":
        _virsh(saved, f"shutdown {uuid or guest}", unless=_IS_OFF)
        return
    if saved.transport == "ssh":
        return esxi_power.shut_down(saved, guest)
    with _guest(saved, guest) as machine:
        try:
            machine.ShutdownGuest()
        except vim.fault.InvalidPowerState:
            return  # it went off in this moment: the next look tells
        except vim.fault.ToolsUnavailable:
            raise tools_needed() from None


def switch_off(saved: SavedSource, guest: str, uuid: str | None) -> None:
    """Pulls the plug: only when a person has said so."""
    if saved.kind == "xen":
        _virsh(saved, f"destroy {uuid or guest}", unless=_IS_OFF)
        return
    if saved.transport == "ssh":
        return esxi_power.switch_off(saved, guest)
    with _guest(saved, guest) as machine:
        try:
            _done(saved, machine.PowerOffVM_Task())
        except vim.fault.InvalidPowerState:
            return  # it is off


def switch_on(saved: SavedSource, guest: str, uuid: str | None) -> bool:
    """Starts it again; nothing is done, and False returned, when it runs."""
    if look(saved, guest, uuid).power == "on":
        return False
    if saved.kind == "xen":
        _virsh(saved, f"start {uuid or guest}")
    elif saved.transport == "ssh":
        esxi_power.switch_on(saved, guest)
    else:
        with _guest(saved, guest) as machine:
            _done(saved, machine.PowerOnVM_Task())
    return True


def _done(saved: SavedSource, task: Any) -> None:
    """Waits until vSphere has done it; raises why it has not."""
    end = time.monotonic() + _TASK_SECONDS
    while (info := task.info).state in ("queued", "running"):
        if time.monotonic() > end:
            raise said_no(saved, f"it has not answered within {_TASK_SECONDS} seconds")
        time.sleep(0.5)
    if info.state == "error":
        raise info.error


class _guest:  # reads as a function
    """A session, and the guest in it; what vSphere refuses becomes words."""

    def __init__(self, saved: SavedSource, guest: str) -> None:
        self._saved, self._id = saved, guest
        self._session = vsphere.session(endpoint_of(saved), (saved.secrets or {}).get("password", ""))

    def __enter__(self) -> Any:
        if self._saved.pin_sha256:
            check_pin(self._saved.host, self._saved.port, self._saved.pin_sha256)
        instance = self._session.__enter__()
        return vim.VirtualMachine(self._id, instance._stub)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, vmodl.fault.ManagedObjectNotFound):
            self._session.__exit__(None, None, None)
            raise gone(self._saved.name) from None
        if isinstance(error, vmodl.MethodFault) and not isinstance(error, vim.fault.NotAuthenticated | RefusedError):
            self._session.__exit__(None, None, None)
            raise said_no(self._saved, getattr(error, "msg", "") or type(error).__name__) from None
        self._session.__exit__(kind, error, traceback)


def _virsh(saved: SavedSource, command: str, unless: re.Pattern[str] | None = None) -> str:
    uri = libvirt_uri.xen_ssh(saved.user, saved.host, saved.port, saved.libvirt_name)
    done = with_ssh(saved, ["virsh", "-q", "-c", uri, command], timeout=_XEN_SECONDS)
    if done.returncode == 0 or (unless and unless.search(done.stderr)):
        return done.stdout
    why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if "failed to get domain" in done.stderr or "Domain not found" in done.stderr:
        raise gone(saved.name)
    raise said_no(saved, why)
