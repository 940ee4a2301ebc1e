"""The wizard's step about the guest's new home: what a person may say, and nothing that has to be said."""

from dataclasses import replace
from typing import Any

from django import forms

from .manifest import Target
from .plan import Guest
from .problems import RefusedError
from .sources.base import FormProblem

GIB = 1024**3


def _name(label: str, *, choices: str = "", **kwargs: Any) -> forms.CharField:
    """A field for a name; `choices` is the id of a <datalist> on the page."""
    attrs = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
    if choices:
        attrs |= {"list": choices}
    return forms.CharField(label=label, required=False, widget=forms.TextInput(attrs=attrs), max_length=253, **kwargs)


_ABOUT_NETWORKS = (
    "“pod” for the cluster's own network, “ignore” for no card, or a Multus network as “namespace/name”. "
    "Empty: the cluster's own for the first card, no connection for the others."
)


class TargetForm(forms.Form):
    """Each field may stay empty.  `networks` of the guest become one field each: pod, ignore, or namespace/name."""

    namespace = _name("Namespace", help_text="Where the machine is to live. Empty: wherever the file is applied.")
    storage_class = _name("Storage class", help_text="Empty: the cluster's default.")
    volume_mode = forms.ChoiceField(
        label="Kind of volume",
        required=False,
        choices=[("", "As usual (file system)"), ("Filesystem", "File system"), ("Block", "Block device")],
    )
    access_mode = forms.ChoiceField(
        label="Who may use a volume",
        required=False,
        choices=[
            ("", "One node at a time"),
            ("ReadWriteMany", "Several nodes (needed to move the running machine between nodes)"),
            ("ReadWriteOncePod", "One pod at a time"),
        ],
    )
    object = forms.ChoiceField(
        label="Volumes are asked for as",
        required=False,
        choices=[("", "PersistentVolumeClaim"), ("DataVolume", "DataVolume (CDI)")],
    )
    start = forms.BooleanField(label="Start the machine as soon as it is there", required=False)
    cpus = forms.IntegerField(label="CPUs", required=False, min_value=1, max_value=1024)
    memory_gib = forms.DecimalField(
        label="Memory in GiB", required=False, min_value=0.016, max_value=65536, decimal_places=3, max_digits=9
    )
    instance_type = _name("Instance type", help_text="Instead of CPUs and memory: one that your cluster offers.")
    preference = _name("Preference", help_text="One that your cluster offers, such as “rhel.9”.")
    firmware = forms.ChoiceField(
        label="Firmware",
        required=False,
        choices=[("", "As the source has it"), ("bios", "BIOS"), ("uefi", "UEFI")],
    )

    def __init__(self, *args: Any, guest: Guest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.networks: list[tuple[str, str]] = []  #: (field, network or MAC address)
        for number, key in enumerate(network_keys(guest)):
            field = f"network_{number}"
            self.networks.append((field, key))
            words = "the guest's network" if key == "*" else key
            self.fields[field] = _name(
                f"Network: {words}",
                choices="network-choices",
                # Once is enough: many guests can have many networks.
                help_text=_ABOUT_NETWORKS if number == 0 else "",
            )

    @property
    def sections(self) -> list[tuple[str, list[forms.BoundField]]]:
        """The fields under headings; one that no heading knows stands under the first."""
        named = [
            ("Networks", [field for field, _ in self.networks]),
            ("Storage", ["storage_class", "volume_mode", "access_mode", "object"]),
            ("Hardware", ["cpus", "memory_gib", "instance_type", "preference", "firmware"]),
        ]
        known = {name for _, names in named for name in names}
        first = ("Place", [name for name in self.fields if name not in known])
        return [(title, [self[n] for n in names if n in self.fields]) for title, names in (first, *named) if names]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        try:
            Target.from_settings(self.settings(cleaned))
        except RefusedError as error:
            path = error.field or ""
            name = self._field_of(path)
            if name in self.fields:  # the message stands beside it: no need to say where
                said = error.problem.text.removeprefix(f"{path}: ")
                self.add_error(name, FormProblem(replace(error.problem, text=said[:1].upper() + said[1:])))
            else:
                self.add_error(None, FormProblem(error.problem))
        return cleaned

    def _field_of(self, path: str) -> str:
        """ "networks.VM Network" -> "network_0", "storage.storage_class" -> "storage_class", "memory" -> "memory_gib"."""
        first, _, rest = path.partition(".")
        if first == "networks":
            return next((field for field, key in self.networks if rest == key or rest.startswith(f"{key}.")), "")
        return {"storage": rest, "memory": "memory_gib"}.get(first, first)

    def settings(self, cleaned: dict[str, Any]) -> dict[str, Any]:
        """As Plan.output.settings holds it: only what was said."""
        storage = {key: cleaned.get(key) for key in ("storage_class", "volume_mode", "access_mode", "object")}
        memory = cleaned.get("memory_gib")
        said = {
            "namespace": cleaned.get("namespace"),
            "networks": {key: cleaned[field] for field, key in self.networks if cleaned.get(field)},
            "storage": {key: value for key, value in storage.items() if value},
            "start": cleaned.get("start") or None,
            "cpus": cleaned.get("cpus"),
            "memory": int(memory * GIB) if memory else None,
            "instance_type": cleaned.get("instance_type"),
            "preference": cleaned.get("preference"),
            "firmware": cleaned.get("firmware"),
        }
        return {key: value for key, value in said.items() if value}


def network_keys(guest: Guest) -> list[str]:
    """The networks that a person can map: the source's names, a card without one by its address, or "*" when none is known."""
    keys = [nic.network or nic.mac for nic in guest.nics]
    return list(dict.fromkeys(key for key in keys if key)) or ["*"]


def initial_of(settings: dict[str, Any], form_networks: list[tuple[str, str]]) -> dict[str, Any]:
    """What stands in the fields for settings that were chosen before, or that a saved target brings."""
    storage, networks = settings.get("storage", {}), settings.get("networks", {})
    memory = settings.get("memory")
    return {
        **{key: settings.get(key) for key in ("namespace", "start", "cpus", "instance_type", "preference", "firmware")},
        **storage,
        "memory_gib": memory / GIB if memory else None,
        **{field: networks[key] for field, key in form_networks if key in networks},
    }
