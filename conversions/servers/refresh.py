"""Reads a saved source's guests into the cache: whole on request, and change by change while somebody looks.

Runs in a process of its own (`manage.py refresh_source`), so that no page and no conversion ever waits for a vCenter.
"""

import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any, Literal, cast

from defusedxml.ElementTree import fromstring
from django.db import transaction
from django.utils import timezone
from pyVmomi import vim, vmodl

from ..models import InventoryGuest, SavedSource
from ..names import natural
from ..problems import Problem, RefusedError
from . import esxi_guests, libvirt_uri, vsphere
from .concerns import Around, around, concerns
from .connection import endpoint_of
from .inventory import DiskRecord, GuestRecord, NicRecord
from .reach import check_pin
from .ssh import with_ssh
from .vsphere_records import read_records

#: Problems that stop everything which uses the source, until a person has looked.
_BLOCKING = ("certificate-changed", "certificate-untrusted", "host-key-changed")
_WATCHED = ["name", "runtime.powerState", "runtime.host", "config.template", "snapshot"]
_VIRSH_SECONDS = 120
_WAIT = 10  #: seconds that the server holds a question for changes


def refresh(saved: SavedSource) -> int:
    """Reads all guests; returns how many.  A failure is kept on the source for people to read, and raised."""
    begun = timezone.now()
    try:
        records = _read(saved)
    except RefusedError as error:
        problem = error.problem.as_dict()
        fields: dict[str, Any] = {"refresh_error": problem, "refresh_requested": None}
        if error.problem.code in _BLOCKING:
            fields["blocked"] = problem
        SavedSource.objects.filter(pk=saved.pk).update(**fields)
        raise
    store(saved, records)
    SavedSource.objects.filter(pk=saved.pk).update(refreshed=begun, refresh_error=None)
    # A request that came in meanwhile stays: it may be about a change that this read had passed already.
    SavedSource.objects.filter(pk=saved.pk, refresh_requested__lte=begun).update(refresh_requested=None)
    return len(records)


def _read(saved: SavedSource) -> list[GuestRecord]:
    if saved.kind == "xen":
        return xen_guests(saved)
    return esxi_guests.list_guests(saved) if saved.transport == "ssh" else _vsphere_guests(saved)


def tells_changes(saved: SavedSource) -> bool:
    """vSphere does; libvirt over a read-only connection and the shell of an ESXi host do not."""
    return saved.transport != "ssh"


def _vsphere_guests(saved: SavedSource) -> list[GuestRecord]:
    if saved.pin_sha256:
        check_pin(saved.host, saved.port, saved.pin_sha256)
    return vsphere.list_guests(endpoint_of(saved), (saved.secrets or {}).get("password", ""))


def store(saved: SavedSource, records: list[GuestRecord]) -> None:
    """Replaces the cache by these guests, in one transaction."""
    context = _context(saved, records)
    rows = [row_of(saved, record, context) for record in records]
    fields = ["name", "sort_name", "power", "os", "size", "worst", "search", "record", "concerns"]
    with transaction.atomic():
        saved.guests.exclude(guest_id__in=[row.guest_id for row in rows]).delete() if len(rows) < 900 else _prune(
            saved, rows
        )
        InventoryGuest.objects.bulk_create(
            rows, batch_size=100, update_conflicts=True, unique_fields=["source", "guest_id"], update_fields=fields
        )


def _prune(saved: SavedSource, rows: list[InventoryGuest]) -> None:
    """As above for more guests than one statement of SQLite takes names of."""
    there = {row.guest_id for row in rows}
    gone = [row.pk for row in saved.guests.only("guest_id") if row.guest_id not in there]
    for start in range(0, len(gone), 500):
        InventoryGuest.objects.filter(pk__in=gone[start : start + 500]).delete()


def _context(saved: SavedSource, records: list[GuestRecord]) -> Around:
    return around(records, cast(Literal["https", "vddk", "ssh", "files"], saved.transport))


def row_of(saved: SavedSource, record: GuestRecord, context: Around) -> InventoryGuest:
    found = concerns(record, context)
    words = [record.name, record.hostname, record.os, record.host, record.cluster, record.folder, *record.datastores]
    words += [text for nic in record.nics for text in (nic.network, nic.mac, *nic.ips)]
    return InventoryGuest(
        source=saved,
        guest_id=record.id,
        name=record.name[:255],
        sort_name=natural(record.name[:255]),
        power=record.power or "",
        os=(record.os or "")[:120],
        size=record.size,
        worst=found[0].severity if found else "",
        search=" ".join(word for word in words if word).lower(),
        record=record.as_dict(),
        concerns=[concern.as_dict() for concern in found],
    )


def watch(saved: SavedSource, go_on: Callable[[], bool]) -> None:
    """Follows a vSphere's changes as long as go_on() says so; each batch of changes is a whole read of those guests.

    A collector of its own: another session that waits on the default one would take the changes away.
    """
    with vsphere.session(endpoint_of(saved), (saved.secrets or {}).get("password", "")) as instance:
        content: Any = instance.RetrieveContent()
        query = vmodl.query.PropertyCollector
        collector = content.propertyCollector.CreatePropertyCollector()
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
        traversal = query.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
        collector.CreateFilter(
            query.FilterSpec(
                objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
                propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=_WATCHED)],
            ),
            False,
        )
        version = ""
        while go_on():
            update = collector.WaitForUpdatesEx(
                version, vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=_WAIT)
            )
            if update is None:
                continue
            first, version = not version, update.version
            if not first:  # the first answer tells how everything is, which was just read
                store(saved, read_records(vsphere.retrieve(instance)))
                SavedSource.objects.filter(pk=saved.pk).update(refreshed=timezone.now())
                time.sleep(1)  # a storm of changes is one read


# --- Xen ------------------------------------------------------------------------------------------------------------


def xen_guests(saved: SavedSource) -> list[GuestRecord]:
    """Asked of libvirt on the Xen host: the list, and each guest's XML."""
    uri = libvirt_uri.xen_ssh(saved.user, saved.host, saved.port, saved.libvirt_name)
    names = _virsh(saved, uri, "list --all --uuid").split()
    running = set(_virsh(saved, uri, "list --uuid").split())
    # One login for all: virsh takes several commands, and "dumpxml" of each ends with </domain>.
    if not names:
        return []
    text = _virsh(saved, uri, "; ".join(f"dumpxml --inactive {name}" for name in names))
    documents = [part + "</domain>" for part in text.split("</domain>") if "<domain" in part]
    return [_xen_record(document, saved, running) for document in documents]


def _virsh(saved: SavedSource, uri: str, command: str) -> str:
    done = with_ssh(saved, ["virsh", "-q", "-r", "-c", uri, command], timeout=_VIRSH_SECONDS)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RefusedError(
            Problem(
                "libvirt-refused",
                "libvirt does not answer on the Xen host",
                f"Asking for the guests failed: {last[:300]}",
                "Press “Test connection” on the source's page: it tells which step fails.",
                "source owner",
            )
        )
    return done.stdout


def _xen_record(document: str, saved: SavedSource, running: set[str]) -> GuestRecord:
    root = fromstring(document)
    uuid = root.findtext("uuid") or ""
    disks = []
    for node in root.iterfind("./devices/disk"):
        if node.get("device", "disk") != "disk":
            continue
        source, driver, target = node.find("source"), node.find("driver"), node.find("target")
        attributes = source.attrib if source is not None else {}
        disks.append(
            DiskRecord(
                file=attributes.get("file") or attributes.get("dev") or "",
                datastore=saved.host,
                controller=target.get("bus") if target is not None else None,
                format=driver.get("type") if driver is not None else None,
            )
        )
    nics = [
        NicRecord(
            mac=_attribute(node, "mac", "address"),
            model=_attribute(node, "model", "type"),
            network=_attribute(node, "source", "bridge") or _attribute(node, "source", "network"),
        )
        for node in root.iterfind("./devices/interface")
    ]
    memory = root.findtext("memory")
    loader = root.find("./os/loader")
    return GuestRecord(
        id=uuid,
        uuid=uuid,
        name=root.findtext("name") or uuid,
        power="on" if uuid in running else "off",
        cpus=int(root.findtext("vcpu") or 0) or None,
        memory=int(memory) * 1024 if memory else None,  # libvirt prints KiB
        firmware="uefi" if loader is not None and "ovmf" in (loader.text or "").lower() else "bios",
        disks=disks,
        nics=nics,
        host=saved.host,
    )


def _attribute(node: ElementTree.Element, child: str, name: str) -> str | None:
    found = node.find(child)
    return found.get(name) if found is not None else None
