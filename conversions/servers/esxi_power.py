"""A guest of an ESXi host over SSH, in the moment before a conversion: is it there, does it run; and its switch, vim-cmd.

vim-cmd's own end says little: what it prints tells whether it was done (tried words: those of ESXi 5 to 8).
"""

import re
from typing import NamedTuple

from ..models import SavedSource
from . import esxi_guests, vmx
from .esxi_shell import Survey, answers, survey
from .power_answers import Seen, gone, no_switch, said_no, tools_needed
from .ssh import check_reach

_SECONDS = 90  #: to start a guest takes a while
_BYTES = 1 << 20
_FAILED = re.compile(r"\((?:vim|vmodl)\.[\w.]*fault[\w.]*\)|\bfailed\b|command not found|not found", re.I)
_SAID = re.compile(r'msg = "([^"]*)"')
_STATE = "say state; vim-cmd vmsvc/power.getstate {id} 2>&1 </dev/null"


class _Found(NamedTuple):
    survey: Survey
    path: str
    number: str | None  #: by which vim-cmd knows it


def _find(saved: SavedSource, guest: str) -> _Found:
    check_reach(saved)
    found = survey(saved)
    path = esxi_guests.path_of(found, guest)
    if path is None:
        raise gone(saved.name)
    return _Found(found, path, found.registered.get(path))


def look(saved: SavedSource, guest: str) -> Seen:
    it = _find(saved, guest)
    place = vmx.Place(it.path).datastore_path
    if it.number is not None:
        state, said = _vim_cmd(saved, it.number, "")
        if state is None:
            raise said_no(saved, said)
        return Seen(state, vmx=place)
    # Not this host's guest, or a host without vim-cmd: then only the locks on its disks tell.
    (record,) = esxi_guests.read(saved, it.survey, [it.path])
    busy = any(disk.layout == "busy" for disk in record.disks)
    return Seen(record.power or ("held open by another host or program" if busy else "off"), vmx=place)


def shut_down(saved: SavedSource, guest: str) -> None:
    """Asks the guest to; returns at once."""
    state, said = _switch(saved, guest, "shutdown")
    if _FAILED.search(said) and state != "off":
        raise tools_needed() if "ToolsUnavailable" in said else said_no(saved, _why(said))


def switch_off(saved: SavedSource, guest: str) -> None:
    state, said = _switch(saved, guest, "off")
    if state != "off":
        raise said_no(saved, _why(said))


def switch_on(saved: SavedSource, guest: str) -> None:
    state, said = _switch(saved, guest, "on")
    if state != "on":
        raise said_no(saved, _why(said))


def _switch(saved: SavedSource, guest: str, what: str) -> tuple[str | None, str]:
    it = _find(saved, guest)
    if it.number is None:
        raise no_switch(saved.name)
    return _vim_cmd(saved, it.number, f"say done; vim-cmd vmsvc/power.{what} {it.number} 2>&1 </dev/null\n")


def _vim_cmd(saved: SavedSource, number: str, before: str) -> tuple[str | None, str]:
    """(how the guest is afterwards, what was said)"""
    script = f"{before}{_STATE.format(id=number)}\nsay end\n"
    told = {head: body.decode("utf-8", "replace") for head, body in answers(saved, script, _BYTES, _SECONDS)}
    lines = [line.strip() for line in told.get("state", "").split("\n")]
    state = next((esxi_guests.POWER[line] for line in lines if line in esxi_guests.POWER), None)
    return state, told.get("done") or told.get("state", "")


def _why(said: str) -> str:
    """vim-cmd's own sentence, or its last line."""
    lines = [line.strip() for line in said.strip().split("\n") if line.strip()]
    match = _SAID.search(said)
    return match[1] if match else lines[-1] if lines else "no reason given"
