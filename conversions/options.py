"""What virt-v2v is told about any guest: which system to convert, and the passphrases of encrypted disks."""

import re
import uuid
from typing import Any, NamedTuple

from django import forms

from . import clevis
from .address_form import AddressesField
from .host.capabilities import capabilities
from .problems import Problem, RefusedError
from .sources.base import FormProblem

MAX_KEYS = 16
MAX_KEY_BYTES = 512  #: cryptsetup reads no more of a passphrase

#: What libguestfs calls disks, partitions and logical volumes.  No ":": virt-v2v's --key splits there.
_DEVICE = re.compile(r"/dev/[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*")


class LuksKey(NamedTuple):
    key: str  #: a secret
    device: str = ""  #: a device, a LUKS UUID, or "": whatever encrypted device is found


def _refuse(code: str, title: str, text: str, action: str, field: str = "") -> RefusedError:
    return RefusedError(Problem(code, title, text, action), field=field or None)


class LuksKeysWidget(forms.Textarea):
    """A list of texts or {"key", "device"} (API); or two lists of fields, NAME and NAME_device; or a key on each line."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[Any]:
        if not hasattr(data, "getlist"):
            value = data.get(name) or []
            return value if isinstance(value, list) else [value]
        keys = [key for text in data.getlist(name) for key in re.split(r"\r?\n", text)]
        devices = data.getlist(f"{name}_device")
        pairs = zip(keys, [*devices, *[""] * len(keys)], strict=False)
        return [{"key": key, "device": device.strip()} for key, device in pairs if key]

    def format_value(self, value: Any) -> str | None:
        return None  # secrets are never shown again


class LuksKeysField(forms.Field):
    widget = LuksKeysWidget

    def clean(self, value: Any) -> list[LuksKey]:
        try:
            if len(value or []) > MAX_KEYS:
                raise _refuse(
                    "too-many-keys",
                    "Too many passphrases",
                    f"Up to {MAX_KEYS} passphrases are taken.",
                    "Leave some out.",
                )
            return [_luks_key(item) for item in value or []]
        except RefusedError as error:
            raise FormProblem(error.problem) from None


def _luks_key(item: Any) -> LuksKey:
    if isinstance(item, LuksKey):
        item = item._asdict()
    if isinstance(item, str):
        item = {"key": item}
    if isinstance(item, dict) and item.get("device", "") is None:
        item = item | {"device": ""}
    texts = isinstance(item, dict) and all(isinstance(value, str) for value in item.values())
    if not texts or "key" not in item or item.keys() - {"key", "device"}:
        raise _refuse(
            "key-not-understood",
            "A passphrase is not understood",
            "Each passphrase is a text, or an object with “key” and “device”.",
            "Send it in one of these forms.",
        )
    key, device = item["key"], item.get("device", "")
    # virt-v2v reads the first line of a key file only (2.2: libguestfs-common, options/keys.c).
    if not key or len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES or any(letter in key for letter in "\n\r\0"):
        raise _refuse(
            "key-not-allowed",
            "A passphrase cannot be used",
            f"A passphrase is one line of 1 to {MAX_KEY_BYTES} bytes; this one is empty, longer, or has a line break in it.",
            "Type the passphrase again. Key files with several lines or binary content cannot be used with virt-v2v.",
        )
    return LuksKey(key, _luks_id(device))


def _luks_id(device: str) -> str:
    try:
        return str(uuid.UUID(device)) if device and not device.startswith("/") else _device(device)
    except ValueError:
        raise _refuse(
            "key-device-not-allowed",
            "This is no encrypted device",
            f"“{device[:80]}” is neither a device inside the machine (/dev/sda2) nor the UUID of an encrypted partition.",
            "Type one of them, or leave it empty.",
        ) from None


def _device(text: str) -> str:
    if text and not _DEVICE.fullmatch(text):
        raise ValueError
    return text


class DevicesField(forms.CharField):
    """Devices or UUIDs: a list (API), or a text with spaces or commas between them."""

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            value = re.split(r"[\s,;]+", value or "")
        if not isinstance(value, list) or len(value) > MAX_KEYS or not all(isinstance(item, str) for item in value):
            error = _refuse("devices-not-understood", "Which devices?", f"A list of up to {MAX_KEYS} is taken.", "")
            raise FormProblem(error.problem)
        try:
            return [_luks_id(item) for item in value if item]
        except RefusedError as error:
            raise FormProblem(error.problem) from None


class OptionsForm(forms.Form):
    root = forms.CharField(
        label="Operating system to convert",
        required=False,
        max_length=255,
        initial="first",
        help_text="“first”: the first one that is found. “single”: refuse when there are several. "
        "Or the device it is on, such as /dev/sda2.",
    )
    luks_keys = LuksKeysField(
        label="Passphrases of encrypted disks",
        required=False,
        help_text="Only when disks inside the machine are encrypted (LUKS). They are kept encrypted and are removed at the end.",
    )

    clevis = forms.BooleanField(
        label="Open encrypted disks with Clevis",
        required=False,
        help_text="For disks that open by themselves in your network, by asking a Tang server. No passphrase is needed; "
        "this server must be able to reach the Tang server.",
    )
    clevis_devices = DevicesField(
        label="Devices that Clevis opens",
        required=False,
        help_text="Such as /dev/sda2, with spaces between several. Empty: all encrypted ones that are found.",
    )
    addresses = AddressesField(label="IP addresses of Windows guests", required=False)
    boot_test = forms.BooleanField(
        label="Try whether it boots, right after the conversion",
        required=False,
        help_text="v2vweb starts a throw-away copy of the new machine on this server and keeps pictures of its screen.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("clevis") and (problem := clevis.obstacle()):
            self.add_error("clevis", FormProblem(problem))
        if cleaned.get("clevis_devices") and not cleaned.get("clevis") and "clevis" not in self.errors:
            self.add_error("clevis", "Devices for Clevis were named: tick this too, or empty them.")
        return cleaned

    def clean_root(self) -> str:
        root: str = self.cleaned_data["root"] or "first"
        if root not in ("first", "single") and (not root.startswith("/") or not _DEVICE.fullmatch(root)):
            why = "virt-v2v would wait for an answer that nobody can give" if root == "ask" else "it is no device"
            raise FormProblem(
                Problem(
                    "root-not-allowed",
                    "This does not say which operating system to convert",
                    f"“{root[:80]}” cannot be used: {why}.",
                    "Take “first”, “single”, or a device such as /dev/sda2.",
                )
            )
        return root


def pair_keys(keys: list[LuksKey], found: list[str]) -> tuple[tuple[str, ...], ...]:
    """For each passphrase the encrypted devices it is tried on: the one it is for, or all that were found.

    virt-v2v 2.2 has no "--key all:", so each device must be named; `found` holds the LUKS UUIDs that a look at the disks
    gave.  Raises RefusedError when a passphrase has no device and none is known.
    """
    everything = _everything("options.luks_keys", found) if any(not key.device for key in keys) else ()
    return tuple((key.device,) if key.device else everything for key in keys)


def clevis_ids(wanted: bool, devices: list[str], found: list[str]) -> tuple[str, ...]:
    """What Clevis is to open, as virt-v2v's --key names it.  Raises RefusedError when nothing is known to be encrypted."""
    if not wanted:
        return ()
    return tuple(devices) or _everything("options.clevis_devices", found)


def _everything(field: str, found: list[str]) -> tuple[str, ...]:
    if found:
        return tuple(found)
    if capabilities().has_key_all:
        return ("all",)
    raise _refuse(
        "key-needs-device",
        "Which disk is the passphrase for?" if field == "options.luks_keys" else "Which disk is Clevis to open?",
        "No encrypted partition can be seen from outside (it may lie inside a logical volume, or at a server), and the "
        "virt-v2v on this server has to be told which one it is; versions from 2.4 on try all.",
        "Name the device inside the machine (such as /dev/sda2 or /dev/vg/root) or the UUID of its encryption; "
        "“lsblk -f” inside the machine shows both. If nothing is encrypted, leave this out.",
        field=field,
    )
