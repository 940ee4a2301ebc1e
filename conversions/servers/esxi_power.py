"""A guest of an ESXi host over SSH, in the moment before a conversion: is it there, does it run; and its switch, vim-cmd.

vim-cmd's own end says little: what it prints tells whether it was done (tried words: those of ESXi 5 to 8).
"""

import re
from typing import NamedTuple

from ..models import SavedSource
from . import esxi_guests, vmx
from .esxi_shell import Survey, answers, is_still, quoted, survey
from .power_answers import Seen, gone, no_switch, said_no, tools_needed
from .ssh import check_reach

_SECONDS = 90  #: to start a guest takes a while
_BYTES = 8 << 20  #: the list of guests has everybody's notes in it
_MOST_KNOWN = 1000
_FAILED = re.compile(r"\((?:vim|vmodl)\.[\w.]*fault[\w.]*\)|\bfailed\b|command not found|not found", re.I)
_SAID = re.compile(r'msg = "([^"]*)"')
_STATE = "say state; vim-cmd vmsvc/power.getstate {id} 2>&1 </dev/null"


#: (source, number) -> the guest's .vmx at the last survey, of this process: a survey walks through every datastore.
_known: dict[tuple[int, str], str] = {}


class _Found(NamedTuple):
    path: str
    number: str | None  #: by which vim-cmd knows it
    survey: Survey | None = None  #: None where the number was enough
    state: str | None = None  #: how it was in that moment, where the number was enough


def _find(saved: SavedSource, guest: str) -> _Found:
    check_reach(saved)
    known = _known.get((saved.pk, guest))
    if known and (state := _by_number(saved, guest, known)):
        return _Found(known, guest, state=state)
    _known.pop((saved.pk, guest), None)
    found = survey(saved)
    path = esxi_guests.path_of(found, guest)
    if path is None:
        raise gone(saved.name)
    number = found.registered.get(path)
    if number is not None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[saved.pk, number] = path
    return _Found(path, number, found)


def _by_number(saved: SavedSource, number: str, path: str) -> str | None:
    """How the guest is; None when vim-cmd does not know the number, or not as this file's, or the file is not there."""
    script = f"say list; vim-cmd vmsvc/getallvms 2>/dev/null </dev/null\nsay file; [ -f {quoted(path)} ] && echo yes\n"
    state, told = _ask(saved, number, script)
    is_there = told.get("file", "").strip() == "yes"
    return state if is_there and is_still(told.get("list", ""), number, path) else None


def look(saved: SavedSource, guest: str) -> Seen:
    it = _find(saved, guest)
    place = vmx.Place(it.path).datastore_path
    if it.number is not None:
        state, said = (it.state, "") if it.state else _vim_cmd(saved, it.number, "")
        if state is None:
            raise said_no(saved, said)
        return Seen(state, vmx=place)
    # Not this host's guest, or a host without vim-cmd: then only the locks on its disks tell.
    assert it.survey is not None  # without a number there was one
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
    state, told = _ask(saved, number, before)
    return state, told.get("done") or told.get("state", "")


def _ask(saved: SavedSource, number: str, before: str) -> tuple[str | None, dict[str, str]]:
    """(how the guest is afterwards, all answers)"""
    script = f"{before}{_STATE.format(id=number)}\nsay end\n"
    told = {head: body.decode("utf-8", "replace") for head, body in answers(saved, script, _BYTES, _SECONDS)}
    lines = [line.strip() for line in told.get("state", "").split("\n")]
    return next((esxi_guests.POWER[line] for line in lines if line in esxi_guests.POWER), None), told


def _why(said: str) -> str:
    """vim-cmd's own sentence, or its last line."""
    lines = [line.strip() for line in said.strip().split("\n") if line.strip()]
    match = _SAID.search(said)
    return match[1] if match else lines[-1] if lines else "no reason given"
