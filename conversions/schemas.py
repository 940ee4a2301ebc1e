"""The API's objects: what comes in and what goes out.  Secrets come in only."""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from ninja import Field, Schema
from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, WithJsonSchema

from .models import Conversion, Event
from .states import State


class Strict(BaseModel):
    """Refuses fields it does not know: a misspelt option must not be left out in silence.

    What comes in is pydantic's own BaseModel: ninja's Schema loses unknown fields and breaks on a text for an object.
    """

    model_config = ConfigDict(extra="forbid")


class SourceIn(BaseModel):
    """Where the guest comes from.  The other fields are the kind's own and are checked by its form."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"kind": "disk", "paths": ["/srv/images/web01.img"], "format": "raw"},
                {"kind": "ova", "path": "/srv/images/web01.ova"},
                {"kind": "ova", "upload_id": "6f1c2b5e-8d0a-4c39-9f57-2b1e4a7d9c10"},
                {"kind": "vcenter", "source_id": 1, "guest": "web01", "shut_down": True, "start_again": True},
            ]
        },
    )

    kind: str = Field(
        description="disk: one or several disk images of one guest (paths, or upload_ids). ova: one OVA file (path, or "
        "upload_id), of several machines in it one (ovf), with the firmware if it does not say (firmware). vcenter, esxi, xen: "
        "a guest (name or id) of a saved source (source_id)."
    )


class OutputIn(BaseModel):
    """Where the result goes.  The other fields are the kind's own and are checked by its form."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"kind": "files", "format": "raw"}, {"kind": "files", "format": "qcow2"}]},
    )

    kind: str = Field("files", description="files: disks and YAML in a folder on the server.")


class LuksKeyIn(Strict):
    """A passphrase for one device only."""

    key: SecretStr
    device: str = Field("", max_length=200, description="Its UUID, or a device as the guest's first look names it.")


def _as_key(value: Any) -> Any:
    if isinstance(value, str):
        return {"key": value}
    if isinstance(value, dict | LuksKeyIn):
        return value
    raise ValueError("a text is needed, or an object with “key” and “device”")


_TEXT = {"type": "string", "format": "password", "writeOnly": True}
_OBJECT = {"type": "object", "properties": {"key": _TEXT, "device": {"type": "string"}}, "required": ["key"]}
#: A text, or an object.  Not a union: pydantic would name its inner types in the field of a refusal.
LuksKey = Annotated[LuksKeyIn, BeforeValidator(_as_key), WithJsonSchema({"anyOf": [_TEXT, _OBJECT]})]


class AddressIn(Strict):
    """An address that a network card of a Windows guest gets at its first start."""

    mac: str = Field(max_length=17, description="Of the card, as the guest's inventory names it.")
    address: str = Field(max_length=60, description="IPv4 or IPv6; the prefix may stand behind it: 10.0.0.5/24.")
    prefix: int | None = Field(None, ge=1, le=128)
    gateway: str | None = Field(None, max_length=60, description="virt-v2v before 2.6 needs one.")
    dns: list[str] = Field([], max_length=8, description="Name servers.")


def _as_addresses(value: Any) -> Any:
    if value in ("leave", "keep"):
        return value
    if isinstance(value, list) and len(value) <= 64:
        return [AddressIn.model_validate(item) for item in value]
    raise ValueError("“leave”, “keep” or a list of addresses is needed")


_ADDRESSES = {"anyOf": [{"enum": ["leave", "keep"]}, {"type": "array", "items": AddressIn.model_json_schema()}]}
#: Not a union, for the same reason as LuksKey.
Addresses = Annotated[Any, BeforeValidator(_as_addresses), WithJsonSchema(_ADDRESSES)]


def addresses_as_json(value: Any) -> Any:
    return [item.model_dump() for item in value] if isinstance(value, list) else value


class OptionsIn(Strict):
    luks_keys: list[LuksKey] = Field(
        default=[], max_length=64, description="Passphrases of encrypted disks; never given back."
    )
    clevis: bool = Field(False, description="Have Clevis open encrypted disks, by asking a Tang server.")
    clevis_devices: list[str] = Field(
        [], max_length=16, description="Those that Clevis opens: UUIDs or devices such as /dev/sda2. Empty: all."
    )
    addresses: Addresses = Field(
        "leave",
        description="IP addresses of a Windows guest: leave; keep, as its tools have reported them; or a list. virt-v2v sets "
        "none in Linux guests.",
    )
    root: str = Field("first", max_length=200, description="first, single or a device such as /dev/sda2.")
    boot_test: bool = Field(False, description="Try whether it boots as soon as it is converted.")
    allocation: Literal["sparse", "preallocated"] | None = Field(
        None, description="sparse (the default) or preallocated; the same as output.allocation."
    )

    def request(self) -> dict[str, Any]:
        """As make_plan() takes them, but for the allocation."""
        return {
            "root": self.root,
            "luks_keys": [{"key": key.key.get_secret_value(), "device": key.device} for key in self.luks_keys],
            "clevis": self.clevis,
            "clevis_devices": self.clevis_devices,
            "addresses": addresses_as_json(self.addresses),
            "boot_test": self.boot_test,
        }


class ConversionIn(Strict):
    name: str = Field(max_length=1000, description="Name of the new guest: lower-case letters, digits, '-' and '.'.")
    source: SourceIn
    output: OutputIn = OutputIn(kind="files")
    options: OptionsIn = Field(default_factory=lambda: OptionsIn.model_validate({}))
    keep_running: bool = Field(
        False,
        description="The new machine starts by itself when the guest runs now, whatever output.start says. Only for guests of a "
        "saved source.",
    )

    def request(self) -> dict[str, Any]:
        """The arguments of planning.make_plan(), but for the user."""
        output = self.output.model_dump()
        if self.options.allocation is not None:
            output.setdefault("allocation", self.options.allocation)
        return {
            "name": self.name,
            "source": self.source.model_dump(),
            "options": self.options.request(),
            "output": output,
            "keep_running": self.keep_running,
        }


class Page(Strict):
    """Which conversions to list."""

    state: list[State] = Field([], description="Only those in one of these states; may be given several times.")
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, le=10**9)


class Since(Strict):
    """After which event."""

    after: int = Field(0, ge=0, le=2**62)


class Place(Strict):
    """Where in which log."""

    offset: int = Field(0, ge=0, le=2**62, description="In bytes.")
    attempt: int | None = Field(None, ge=1, le=2**31, description="The latest when it is left out.")


class Refusal(Schema):
    code: str = Field(description="For programs: does not change.")
    title: str
    text: str = Field(description="What happened and what helps, for people.")
    field: str | None = Field(None, description="Which field of the request it is about.")


class RefusalOut(Schema):
    """Every answer from 400 on."""

    error: Refusal


class ErrorOut(Schema):
    """Why a conversion failed."""

    code: str
    title: str
    text: str
    action: str


class ProgressOut(Schema):
    """Of copying the disks; null where nobody knows yet."""

    percent: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    rate: float | None = Field(None, description="Bytes a second.")
    eta_seconds: int | None = Field(None, description="At the latest, as far as one can tell.")


class ArtifactOut(Schema):
    name: str
    size: int
    url: str = Field(description="Takes the same token, and Range.")


class ConversionOut(Schema):
    id: int
    name: str
    owner: str
    state: State
    phase: str | None = Field(description="checking, opening, inspecting, converting, copying, finishing")
    progress: ProgressOut
    waiting_for: str | None = Field(description="Why a queued conversion has not started.")
    error: ErrorOut | None
    attempt: int
    created: datetime
    started: datetime | None
    ended: datetime | None
    artifacts: list[ArtifactOut]


class ConversionList(Schema):
    items: list[ConversionOut]
    count: int = Field(description="How many there are in all.")


class EventList(Schema):
    events: list[dict[str, Any]] = Field(
        description="Each with id, at, type, attempt, actor and the type's own fields."
    )
    last: int = Field(description="Ask for the next ones with ?after= this.")


def progress_out(row: Conversion) -> ProgressOut:
    progress = row.progress or {}
    done, total, eta = progress.get("bytes_done"), progress.get("bytes_total"), progress.get("eta")
    percent = round(min(100.0, 100 * done / total), 1) if total and done is not None else None
    if row.state == State.SUCCEEDED:
        percent = 100.0
    running = row.state == State.RUNNING
    return ProgressOut(
        percent=percent,
        bytes_done=done,
        bytes_total=total,
        rate=progress.get("rate") if running else None,
        eta_seconds=round(eta[1]) if running and eta else None,
    )


def conversion_out(row: Conversion) -> ConversionOut:
    error = row.error and ErrorOut(**{key: row.error.get(key) or "" for key in ErrorOut.model_fields})
    return ConversionOut(
        id=row.pk,
        name=row.name,
        owner=row.owner.get_username(),
        state=State(row.state),
        phase=row.phase or None,
        progress=progress_out(row),
        waiting_for=row.waiting_for or None,
        error=error or None,
        attempt=row.attempt,
        created=row.created,
        started=row.started,
        ended=row.ended,
        artifacts=[
            ArtifactOut(
                name=file["name"],
                size=file["size"],
                url=f"/api/v1/conversions/{row.pk}/files/{quote(file['name'])}",
            )
            for file in row.artifacts
        ],
    )


def event_out(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = event.data
    return data | {
        "id": event.pk,
        "at": event.at,
        "type": event.type,
        "attempt": event.attempt,
        "actor": event.actor,
    }
