"""The forms of a batch: networks and storage of all guests together, and the options with the names."""

from typing import Any

from django import forms

from . import addresses, batches
from .address_form import rows_of, typed_cards, wish
from .models import InventoryGuest
from .options import OptionsForm
from .outputs import get_output
from .plan import Guest
from .problems import Problem, RefusedError
from .servers.inventory import GuestRecord
from .sources.base import FormProblem
from .sources.remote import RemoteForm
from .target_form import TargetForm


class NetworksForm(TargetForm):
    """Where each network of the chosen guests leads, and the namespace."""

    def __init__(self, *args: Any, guest: Guest, **kwargs: Any) -> None:
        super().__init__(*args, guest=guest, **kwargs)
        keep = {"namespace", *(field for field, _ in self.networks)}
        for name in [name for name in self.fields if name not in keep]:
            del self.fields[name]
        self.order_fields([*(field for field, _ in self.networks), "namespace"])


class StorageForm(TargetForm):
    """What the disks of all are kept on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, guest=Guest(), **kwargs)
        self.networks = []
        for name in [n for n in self.fields if n not in ("storage_class", "volume_mode", "access_mode", "object")]:
            del self.fields[name]


_ABOUT_RUNNING = ("shut_down", "shut_down_minutes", "power_off", "start_again")


class BatchOptionsForm(OptionsForm):
    """Options of all guests, and a name for each: the pattern's, or what was typed for it."""

    batch_name = forms.CharField(label="Name of the batch", max_length=100, help_text="By which you find it again.")
    name_template = forms.CharField(
        label="Pattern for the names of the new machines",
        max_length=200,
        initial=batches.TEMPLATE,
        help_text="{name}: as it is called now, {hostname}: as it calls itself inside, {number}: 1, 2, 3 …",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    keep_running = forms.BooleanField(
        required=False,
        label="Start the new machine if the guest runs now",
        help_text="Otherwise the new machines are there, but shut down.",
    )

    def __init__(self, *args: Any, guests: list[InventoryGuest], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guests = guests
        self.cards: dict[str, Any] = {}
        self.card_problems: dict[int, Problem] = {}
        self.fields |= {name: RemoteForm.base_fields[name] for name in _ABOUT_RUNNING}
        self.fields |= get_output("files").form_class.base_fields
        if not any(guest.power == "on" for guest in guests):
            for name in (*_ABOUT_RUNNING, "keep_running"):
                del self.fields[name]

    @property
    def disk_fields(self) -> list[forms.BoundField]:
        """What is asked about the disks that are made."""
        return [self[name] for name in get_output("files").form_class.base_fields]

    def typed_names(self) -> dict[str, str]:
        """What was typed as a guest's own name: guest id -> name."""
        return {
            guest.guest_id: str(self.data.get(f"name-{guest.pk}", "")).strip()[:200]
            for guest in self.guests
            if str(self.data.get(f"name-{guest.pk}", "")).strip()
        }

    def clean_name_template(self) -> str:
        try:
            return batches.check_template(self.cleaned_data["name_template"])
        except RefusedError as refusal:
            raise FormProblem(refusal.problem) from None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "name_template" in cleaned:
            self.wanted = batches.name_all(self.guests, cleaned["name_template"], self.typed_names())
            for one in self.wanted:
                if one.problem:
                    self.add_error(None, f"{one.guest.name}: {one.problem.title}. {one.problem.action}")
        self._clean_cards(cleaned)
        if cleaned.get("power_off") and not cleaned.get("shut_down"):
            self.add_error("power_off", "This is about guests that are shut down first: tick that too.")
        return cleaned

    def _clean_cards(self, cleaned: dict[str, Any]) -> None:
        """What was typed for single guests' network cards: self.cards, guest id -> a wish's cards."""
        typed, given = typed_cards(self.data), dict[str, str]()
        for guest in self.guests:
            if not any(value for card in typed.get(str(guest.pk), {}).values() for value in card.values()):
                continue
            try:
                mine = wish({"all": addresses.LEAVE, "cards": typed[str(guest.pk)]})
                known = GuestRecord.from_dict(guest.record).as_guest()
                for one in addresses.resolve(mine, known):
                    if other := given.get(one.address):
                        addresses.refuse("address-twice", "Another guest gets this address", f"{one.address}: {other}.")
                    given[one.address] = guest.name
                self.cards[guest.guest_id] = mine["cards"]
            except RefusedError as refusal:
                self.card_problems[guest.pk] = problem = refusal.problem
                self.add_error(None, f"{guest.name}: {problem.title}. {problem.text} {problem.action}")

    def address_rows(self, typed: dict[str, Any]) -> dict[str, Any]:
        """What the part about addresses shows; `typed` as typed_cards() gave it."""
        known = [(guest.pk, guest.name, GuestRecord.from_dict(guest.record).as_guest()) for guest in self.guests]
        return rows_of(known, typed, self.card_problems)

    def settings(self) -> dict[str, Any]:
        """As Draft.data["options"] holds it: without the passphrases."""
        cleaned = self.cleaned_data
        output = get_output("files").form_class.base_fields
        return {
            "batch_name": cleaned["batch_name"],
            "template": cleaned["name_template"],
            "names": self.typed_names(),
            "cards": self.cards,
            "keep_running": bool(cleaned.get("keep_running")),
            "source": {name: cleaned[name] for name in _ABOUT_RUNNING if name in cleaned},
            "options": {n: cleaned[n] for n in OptionsForm.base_fields if n != "luks_keys"},
            "output": {"kind": "files", **{name: cleaned[name] for name in output}},
        }
