"""The guests of an ESXi host whose HTTPS is closed, read over SSH: .vmx files, the disks' descriptors, and which of them run.

What only the host's web service could tell (tools, addresses, file systems) stays unknown.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Iterator

from ..models import SavedSource
from . import vmx
from .esxi_shell import Survey, answers, quoted, survey
from .inventory import DiskRecord, GuestRecord
from .ssh import check_reach

_AT_ONCE = 100  #: guests or disks a login
_SECONDS = 180  #: for one login's: vim-cmd takes up to a second for each guest
POWER = {"Powered on": "on", "Powered off": "off", "Suspended": "suspended"}
_SMALLEST = 512


def list_guests(saved: SavedSource) -> list[GuestRecord]:
    """Every guest whose .vmx lies on a datastore that the host sees.  Raises RefusedError with what failed."""
    check_reach(saved)
    found = survey(saved)
    return read(saved, found, found.files)


def id_of(found: Survey, path: str) -> str:
    """The number by which the host and its API know a guest; one that is not registered there goes by where it lies."""
    return found.registered.get(path) or f"vmx-{hashlib.sha256(path.encode()).hexdigest()[:16]}"


def path_of(found: Survey, id: str) -> str | None:
    return next((path for path in found.files if id_of(found, path) == id), None)


def read(saved: SavedSource, found: Survey, paths: Iterable[str]) -> list[GuestRecord]:
    records = []
    for some in _some(list(paths)):
        told = dict(answers(saved, _ask_guests(found, some), _bytes(some), _SECONDS))
        for number, path in enumerate(some):
            records.append(_guest(found, path, number, told, saved))
    _fill_disks(saved, [disk for record in records for disk in record.disks])
    for record in records:
        if record.snapshots == 0 and any(disk.layout == "delta" for disk in record.disks):
            record.snapshots = 1  # at least
    return records


def _some(paths: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), _AT_ONCE):
        yield paths[start : start + _AT_ONCE]


def _bytes(asked: list[str]) -> int:
    return (len(asked) + 1) * (vmx.LIMIT + vmx.DESCRIPTOR_LIMIT + 4096)


def _ask_guests(found: Survey, paths: list[str]) -> str:
    """Of each its .vmx (a byte more than is allowed, so that too much shows), the list of its snapshots, and its power."""
    lines = []
    for number, path in enumerate(paths):
        file, snapshots = quoted(path), quoted(f"{path.removesuffix('.vmx')}.vmsd")
        lines.append(f'say "vmx {number}"; {_head(file, vmx.LIMIT + _SMALLEST)} || say "denied {number}"')
        lines.append(f'say "snapshots {number}"; [ -f {snapshots} ] && {_head(snapshots, vmx.DESCRIPTOR_LIMIT)}')
        if id := found.registered.get(path):
            lines.append(f'say "power {number}"; vim-cmd vmsvc/power.getstate {id} 2>/dev/null </dev/null')
    return "\n".join([*lines, "say end\n"])


def _head(file: str, size: int) -> str:
    return f"dd if={file} bs={size} count=1 2>/dev/null </dev/null"


def _guest(found: Survey, path: str, number: int, told: dict[str, bytes], saved: SavedSource) -> GuestRecord:
    place, id = vmx.Place(path), id_of(found, path)
    try:
        if f"denied {number}" in told:
            raise ValueError("the host does not let it be read")
        entries = vmx.parse(told.get(f"vmx {number}", b""))
    except ValueError as error:
        record = GuestRecord(
            id=id,
            name=place.stem[:255],
            vmx=place.datastore_path,
            folder=f"/{place.folder}",
            needs_consolidation=None,
            host_in_maintenance=None,
            unreadable=str(error),
        )
    else:
        record = vmx.record_of(id, place, entries, found.labels)
        if entries.get("checkpoint.vmstate"):
            record.power = "suspended"
    lines = told.get(f"power {number}", b"").decode("utf-8", "replace").split("\n")
    state = next((POWER[line.strip()] for line in lines if line.strip() in POWER), None)
    record.power = state or record.power  # type: ignore[assignment]
    record.snapshots = _snapshots(told.get(f"snapshots {number}", b""))
    record.host = saved.host
    return record


def _snapshots(vmsd: bytes) -> int:
    try:
        text = vmx.entries(vmsd).get("snapshot.numsnapshots", "0")
    except ValueError:
        return 0
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0


def _fill_disks(saved: SavedSource, disks: list[DiskRecord]) -> None:
    """Of each disk how large it is, and whether virt-v2v will be able to read it."""
    for start in range(0, len(disks), _AT_ONCE):
        some = disks[start : start + _AT_ONCE]
        asked = {number: _path(disk) for number, disk in enumerate(some) if disk.layout is None}
        script = "\n".join([*(_ask_disk(number, path) for number, path in asked.items()), "say end\n"])
        limit = (len(asked) + 1) * (vmx.DESCRIPTOR_LIMIT + 4096)
        told = dict(answers(saved, script, limit, _SECONDS)) if asked else {}
        for number in asked:
            _fill(some[number], number, told)


def _path(disk: DiskRecord) -> str:
    return f"{disk.datastore}/{disk.file.partition('] ')[2]}"


def _ask_disk(number: int, path: str) -> str:
    """Its descriptor, and of the file with its content the size, what is taken of it, and whether it can be opened: the host
    keeps everybody away from the disks of a guest that runs, on whichever host it does."""
    flat = quoted(f"{posixpath.splitext(path)[0]}-flat.vmdk")
    return (
        f'say "disk {number}"; [ -f {quoted(path)} ] && {_head(quoted(path), vmx.DESCRIPTOR_LIMIT)}\n'
        f'say "flat {number}"; [ -f {flat} ] && stat -L -c "%s %b %B" {flat} 2>/dev/null </dev/null\n'
        f'say "open {number}"; [ -f {flat} ] && {_head(flat, _SMALLEST)} >/dev/null && echo yes'
    )


def _fill(disk: DiskRecord, number: int, told: dict[str, bytes]) -> None:
    found = vmx.descriptor(told.get(f"disk {number}", b""))
    sizes = told.get(f"flat {number}", b"").split()
    size, blocks, block = (
        [int(text) for text in sizes] if len(sizes) == 3 and all(map(bytes.isdigit, sizes)) else (None, 0, 0)
    )
    size = size if size is None else vmx.sane(size)
    disk.capacity = found.capacity if found and found.capacity else size
    if found is None:
        disk.layout = "missing"
    elif found.layout != "flat":
        disk.layout, disk.is_rdm = found.layout, found.layout == "raw"
    elif size is None:
        disk.layout = "missing"
    else:
        disk.layout = "flat" if told.get(f"open {number}", b"").strip() == b"yes" else "busy"
        disk.allocated = vmx.sane(blocks * block)
