"""The API's objects about saved sources, their guests and batches.  Secrets come in only."""

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema
from pydantic import SecretStr

from .batches import Planned
from .models import InventoryGuest, SavedSource
from .schemas import Addresses, ConversionOut, OptionsIn, OutputIn, Refusal, Strict
from .servers import pinning


class SourceCreate(Strict):
    """A saved source.  Which fields there are depends on the kind; an unknown or unfit one is refused."""

    kind: Literal["vcenter", "esxi", "xen"]
    name: str = Field(max_length=200)
    host: str = Field(max_length=400)
    port: int | None = Field(None, description="443 for vCenter and ESXi, 22 for Xen.")
    ssh_port: int | None = Field(
        None, description="An ESXi host over SSH: instead of `port`, which is its API's; null: 22."
    )
    user: str = Field(max_length=400)
    password: SecretStr | None = Field(None, description="Never given back.")
    key: SecretStr | None = Field(
        None, description="An SSH private key in OpenSSH's form; never given back. Over SSH a password cannot be used."
    )
    transport: Literal["https", "vddk", "ssh"] | None = None
    vddk_libdir: str | None = None
    ca: str | None = Field(None, description="PEM of a CA of your own, instead of a pinned certificate.")
    libvirt_name: str | None = None
    max_running: int | None = Field(None, description="Conversions from here at once; null: no limit of its own.")
    shared: bool | None = Field(
        None, description="Whether everybody who may start conversions may use it (the default)."
    )
    pin_sha256: str | None = Field(
        None,
        max_length=200,
        description="SHA-256 of the certificate that you trust. It is taken only when the server shows exactly that one now.",
    )
    host_keys: list[str] | None = Field(
        None, max_length=20, description="Over SSH: SHA256:... of the host keys that you trust; taken in the same way."
    )


class SourceChange(Strict):
    """Only what is to be changed; a secret that is left out stays."""

    name: str | None = Field(None, max_length=200)
    host: str | None = Field(None, max_length=400)
    port: int | None = None
    ssh_port: int | None = None
    user: str | None = Field(None, max_length=400)
    password: SecretStr | None = None
    key: SecretStr | None = None
    transport: Literal["https", "vddk", "ssh"] | None = None
    vddk_libdir: str | None = None
    ca: str | None = None
    libvirt_name: str | None = None
    max_running: int | None = None
    shared: bool | None = None
    sure: bool | None = Field(None, description="Change it although conversions from it run or wait.")
    pin_sha256: str | None = Field(None, max_length=200)
    host_keys: list[str] | None = Field(None, max_length=20)


class ProblemOut(Schema):
    code: str
    title: str
    text: str
    action: str
    whose: str


class SourceOut(Schema):
    id: int
    kind: str
    name: str
    owner: str
    shared: bool
    host: str
    port: int
    ssh_port: int | None
    user: str
    transport: str
    vddk_libdir: str
    libvirt_name: str
    max_running: int | None
    trusted: bool = Field(description="Whether somebody has confirmed that it is the right server.")
    pin_sha256: str | None
    thumbprint: str | None = Field(description="The SHA-1 that VDDK wants.")
    host_keys: list[str]
    blocked: ProblemOut | None = Field(
        description="Why nothing that uses it may run, as when its certificate has changed."
    )
    guests: int
    refreshed: datetime | None
    refreshing: bool
    refresh_error: ProblemOut | None


class SourceList(Schema):
    items: list[SourceOut]
    count: int


class StepOut(Schema):
    id: str
    title: str
    state: Literal["ok", "warning", "error", "skipped"]
    text: str
    action: str


class TestOut(Schema):
    ok: bool
    steps: list[StepOut]


class Refreshing(Schema):
    refreshing: bool = True


class CardOut(Schema):
    """A network card, with what the guest's tools reported of it."""

    mac: str | None
    network: str | None
    ips: list[str] = Field([], description="With their prefixes.")
    static_ips: list[str] = Field([], description="Those that were set by hand: options.addresses can keep them.")
    gateways: list[str] = []
    dns: list[str] = []


class GuestOut(Schema):
    id: str
    name: str
    power: str | None
    os: str | None
    cpus: int | None
    memory: int | None
    size: int
    disks: int
    networks: list[str]
    addresses: list[str]
    cards: list[CardOut]
    host: str | None
    folder: str | None
    firmware: str | None
    snapshots: int
    tools: str | None
    worst: Literal["critical", "warning", "information"] | None
    concerns: list[dict[str, Any]] = Field(description="Each with id, severity, title and text, the gravest first.")


class GuestList(Schema):
    items: list[GuestOut]
    count: int


class GuestPage(Strict):
    """Which guests to list."""

    q: str = Field("", max_length=200, description="Words that must all occur: name, system, host, network, address.")
    power: Literal["", "on", "off", "suspended"] = ""
    concerns: Literal["", "critical", "warning", "none"] = ""
    sort: str = Field(
        "name", max_length=20, description="name, power, os, size, cpus, memory or host; with - descending."
    )
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, le=10**9)


class SourcePage(Strict):
    """Which rows to list."""

    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, le=10**9)


class BatchGuest(Strict):
    guest: str = Field(max_length=255, description="Name or id.")
    name: str = Field("", max_length=200, description="Of the new machine; empty: as the template says.")
    addresses: Addresses | None = Field(None, description="Instead of options.addresses, for this guest alone.")


class BatchIn(Strict):
    name: str = Field(max_length=100, min_length=1)
    source_id: int
    guests: list[str | BatchGuest] = Field(min_length=1, max_length=500)
    name_template: str = Field("{name}", max_length=200, description="With {name}, {number} and {hostname}.")
    options: OptionsIn = Field(default_factory=lambda: OptionsIn.model_validate({}))
    output: OutputIn = OutputIn(kind="files")
    shutdown: bool = Field(False, description="Shut running guests down first.")
    shutdown_minutes: int = Field(15, ge=1, le=1440)
    power_off: bool = Field(False, description="Switch a guest off hard when it has not shut down by then.")
    start_again: bool = Field(
        False, description="Start it again at the source if its conversion fails or is cancelled."
    )
    keep_running: bool = Field(False, description="The new machine starts by itself when the guest runs now.")


class BatchRefused(Schema):
    guest: str
    error: Refusal


class BatchOut(Schema):
    id: int
    name: str
    owner: str
    created: datetime
    states: dict[str, int]
    percent: int


class BatchDetail(BatchOut):
    conversions: list[ConversionOut]


class BatchStarted(BatchDetail):
    refused: list[BatchRefused]


class BatchList(Schema):
    items: list[BatchOut]
    count: int


def source_out(saved: SavedSource, guests: int | None = None) -> SourceOut:
    return SourceOut(
        **{
            name: getattr(saved, name)
            for name in (
                *("kind", "name", "shared", "host", "port", "ssh_port", "user"),
                *("transport", "vddk_libdir", "libvirt_name"),
            )
        },
        id=saved.pk,
        owner=saved.owner.get_username(),
        max_running=saved.max_running,
        trusted=pinning.is_trusted(saved),
        pin_sha256=saved.pin_sha256 or None,
        thumbprint=saved.pin_sha1 or None,
        host_keys=[key["fingerprint"] for key in saved.host_keys],
        blocked=ProblemOut(**saved.blocked) if saved.blocked else None,
        guests=saved.guests.count() if guests is None else guests,
        refreshed=saved.refreshed,
        refreshing=saved.refresh_requested is not None,
        refresh_error=ProblemOut(**saved.refresh_error) if saved.refresh_error else None,
    )


def guest_out(row: InventoryGuest) -> GuestOut:
    record = row.record
    nics = record.get("nics", [])
    return GuestOut(
        id=row.guest_id,
        name=row.name,
        power=row.power or None,
        os=row.os or None,
        size=row.size,
        disks=len(record.get("disks", [])),
        networks=list(dict.fromkeys(nic["network"] for nic in nics if nic.get("network"))),
        addresses=[ip for nic in nics for ip in nic.get("ips", [])],
        cards=[CardOut(**{name: nic[name] for name in CardOut.model_fields if name in nic}) for nic in nics],
        snapshots=record.get("snapshots") or 0,
        worst=row.worst or None,  # type: ignore[arg-type]
        concerns=row.concerns,
        **{name: record.get(name) for name in ("cpus", "memory", "host", "folder", "firmware", "tools")},
    )


def refused_out(one: Planned) -> BatchRefused:
    assert one.problem
    text = f"{one.problem.text} {one.problem.action}".strip()
    error = Refusal(code=one.problem.code, title=one.problem.title, text=text, field=one.field)
    return BatchRefused(guest=one.guest.guest_id, error=error)
