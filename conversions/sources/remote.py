"""What vCenter, ESXi and Xen have in common: a saved source and a guest of its inventory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from django import forms

from ..models import InventoryGuest, SavedSource
from ..plan import Plan
from ..problems import Problem, RefusedError
from ..servers.concerns import Concern, around, concerns
from ..servers.inventory import GuestRecord
from ..servers.libvirt_uri import domain_name
from .base import Finding, Source

Transport = Literal["https", "vddk", "ssh", "files"]


class RemoteForm(forms.Form):
    source_id = forms.IntegerField(label="Source", widget=forms.HiddenInput)
    guest = forms.CharField(label="Guest", max_length=255, help_text="Its name or its id at the source.")
    shut_down = forms.BooleanField(
        required=False,
        label="Shut the guest down first",
        help_text="Its tools are asked to, as if somebody had pressed “Shut down” inside.",
    )
    shut_down_minutes = forms.IntegerField(
        required=False, min_value=1, max_value=1440, initial=15, label="Minutes to wait until it has shut down"
    )
    power_off = forms.BooleanField(
        required=False,
        label="Switch it off hard when it has not shut down by then",
        help_text="Like pulling the plug: what is not saved inside is lost. Otherwise the conversion fails and it runs on.",
    )
    start_again = forms.BooleanField(
        required=False, label="Start it again at the source if the conversion fails or is cancelled"
    )

    def clean_shut_down_minutes(self) -> int:
        return self.cleaned_data["shut_down_minutes"] or 15


class RemoteSource(Source):
    """A guest of a saved source.  Settings after look(): what input_args() needs, all of it from the inventory."""

    form_class = RemoteForm
    is_saved = True

    def look(self, settings: dict[str, Any]) -> Finding:
        saved = self.saved(settings)
        record, all_records = self.find(saved, settings["guest"])
        transport = cast(Transport, saved.transport)
        context = around(all_records(), transport)
        found = [c for c in concerns(record, context) if not _waived(c, record, settings)]
        if critical := [concern for concern in found if concern.severity == "critical"]:
            raise _blocked(record, critical)
        return Finding(
            guest=record.as_guest(),
            concerns=tuple(Problem(c.id, c.title, c.text, whose="source owner") for c in found),
            facts={
                "power": record.power,
                "settings": self.settings_of(saved, record, unique=context.names[record.name] == 1),
            },
        )

    def saved(self, settings: dict[str, Any]) -> SavedSource:
        try:
            saved = SavedSource.objects.get(pk=settings["source_id"], kind=self.kind)
        except SavedSource.DoesNotExist:
            raise RefusedError(
                Problem(
                    "source-unknown",
                    "There is no such source",
                    f"No saved source of this kind has the number {settings['source_id']}.",
                    "Choose one from the list of sources.",
                ),
                field="source.source_id",
                status=404,
            ) from None
        if saved.blocked:
            raise RefusedError(Problem(**saved.blocked), field="source.source_id", status=409)
        return saved

    @staticmethod
    def find(saved: SavedSource, guest: str) -> tuple[GuestRecord, Callable[[], list[GuestRecord]]]:
        """The guest by id, or by a name that only one guest has; and how to get all of them."""
        rows = list(saved.guests.filter(guest_id=guest)[:1]) or list(saved.guests.filter(name=guest)[:2])
        if len(rows) > 1:
            raise _refused_guest(
                "guest-not-unique",
                "Several guests have this name",
                f"At {saved.name} more than one guest is called {guest}.",
                "Choose it in the table, or give its id.",
            )
        if not rows:
            raise _refused_guest(
                "guest-unknown",
                "The guest is not there",
                f"{saved.name} has no guest {guest} in the inventory that v2vweb has read.",
                "Refresh the inventory: the guest may have been renamed, moved or deleted.",
            )

        def everybody() -> list[GuestRecord]:
            # Only who shares the name or a disk file matters to the rules; the table shows them for everybody.
            alike = InventoryGuest.objects.filter(source=saved, name=rows[0].name)
            return [GuestRecord.from_dict(row.record) for row in alike]

        return GuestRecord.from_dict(rows[0].record), everybody

    def settings_of(self, saved: SavedSource, record: GuestRecord, *, unique: bool) -> dict[str, Any]:
        """All that the command needs, frozen; no secret."""
        return {
            "source_name": saved.name,
            "host": saved.host,
            "port": saved.port,
            "user": saved.user,
            "transport": saved.transport,
            "ssh_port": saved.ssh_port,
            "verify": bool(not saved.pin),
            "pin_sha256": saved.pin_sha256,
            "pin_sha1": saved.pin_sha1,
            "libdir": saved.vddk_libdir,
            "libvirt_name": saved.libvirt_name,
            "guest_id": record.id,
            "guest_name": record.name,
            "uuid": record.uuid,
            "by_uuid": record.uuid is not None
            and (not unique or not record.name.isascii() or not record.name.isalnum()),
            "host_path": record.host_path,
            "vmx": record.vmx,
        }

    def guest_args(self, plan: Plan) -> list[str]:
        settings = plan.source.settings
        if settings.get("by_uuid"):
            return [settings["uuid"]]
        return [domain_name(settings["guest_name"])]

    def secrets(self, plan: Plan) -> dict[str, str]:
        """Read anew for each attempt: a password that was changed since the plan was made is the one that counts."""
        saved = SavedSource.objects.get(pk=plan.source.settings["source_id"])
        return dict(saved.secrets or {})


def vmware_args(uri: str, settings: dict[str, Any], secrets: Path) -> list[str]:
    """The user's document: -ic URI -ip FILE, and for VDDK -it vddk -io vddk-libdir=... -io vddk-thumbprint=..."""
    args = ["-ic", uri, "-ip", str(secrets / "password")]
    if settings["transport"] == "vddk":
        args += [
            "-it",
            "vddk",
            "-io",
            f"vddk-libdir={settings['libdir']}",
            "-io",
            f"vddk-thumbprint={settings['pin_sha1']}",
        ]
    return args


def tls_pins(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What the agent checks in the instant before virt-v2v starts: jobdir.Job.pins."""
    if settings["verify"] or settings["transport"] == "ssh":
        return []
    return [{"host": settings["host"], "port": settings["port"], "sha256": settings["pin_sha256"]}]


def _waived(concern: Concern, record: GuestRecord, settings: dict[str, Any]) -> bool:
    """That it runs is no obstacle when it is shut down first, as far as anything there can ask it to."""
    if concern.id != "vmware.vm.powered_on" or not settings.get("shut_down"):
        return False
    if record.tools in ("not running", "not installed") and not settings.get("power_off"):
        raise _no_tools(record)
    return True


def _no_tools(record: GuestRecord) -> RefusedError:
    return RefusedError(
        Problem(
            "tools-needed",
            f"{domain_name(record.name)}: nothing inside can be asked to shut it down",
            "v2vweb asks a guest to shut down through VMware Tools, and they do not run in this one.",
            "Shut it down by hand, start VMware Tools inside, or tick that it may be switched off hard.",
        ),
        field="source.shut_down",
        status=409,
    )


def _blocked(record: GuestRecord, critical: list[Concern]) -> RefusedError:
    first, more = critical[0], len(critical) - 1
    also = f" ({more} more)" if more else ""
    return RefusedError(
        Problem(first.id, f"{domain_name(record.name)}: {first.title}{also}", first.text, "", "source owner"),
        field="source.guest",
        status=409,
    )


def _refused_guest(code: str, title: str, text: str, action: str) -> RefusedError:
    return RefusedError(Problem(code, title, text, action), field="source.guest", status=404)
