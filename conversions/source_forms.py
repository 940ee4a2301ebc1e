"""The forms of a saved source.  Secrets are write-only: an empty field keeps what is stored."""

from typing import Any

from django import forms

from .models import SavedSource

PORTS = {"vcenter": 443, "esxi": 443, "xen": 22}
TRANSPORTS = {
    "vcenter": [
        ("https", "HTTPS: works everywhere, slower"),
        ("vddk", "VDDK: faster, needs VMware's library on this server"),
    ],
    "esxi": [
        ("https", "HTTPS: works everywhere, slower"),
        ("vddk", "VDDK: faster, needs VMware's library on this server"),
        ("ssh", "SSH alone: where HTTPS is closed; needs a key, and SSH switched on at the host"),
    ],
    "xen": [("ssh", "SSH")],
}


#: Behind “More settings”.
_MORE = ("ssh_port", "ca", "libvirt_name", "max_running", "shared")
#: Of models.SavedSource, as a form takes them.
SETTINGS = (
    *("name", "host", "port", "user", "transport", "max_running", "shared"),
    *("ssh_port", "vddk_libdir", "ca", "libvirt_name"),
)
_ESXI_HELP = {
    "port": "Of its web page. Not used over SSH.",
    "user": "Mostly root.",
    "password": "For HTTPS and VDDK. Over SSH none can be used: virt-v2v takes a key there.",
    "key": "Only for SSH. In OpenSSH's form, without a passphrase; its public half stands in "
    "/etc/ssh/keys-root/authorized_keys at the host.",
}
_XEN_HELP = {
    "name": "By which you and your colleagues know it: “Xen in the cellar”.",
    "host": "As you would write it after “ssh”.",
    "user": "Mostly root: libvirt must let this user manage its guests.",
}


def _text(label: str, **kwargs: Any) -> forms.CharField:
    attrs = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
    return forms.CharField(label=label, widget=forms.TextInput(attrs=attrs), **kwargs)


class SourceForm(forms.Form):
    """For adding and editing; `kind` decides which fields there are."""

    name = _text("Name", max_length=60, help_text="By which you and your colleagues know it: “vCenter Berlin”.")
    host = _text("Host name or address", max_length=253, help_text="As in its address in the browser, without https://")
    port = forms.IntegerField(label="Port", min_value=1, max_value=65535)
    user = _text("User", max_length=200, help_text="At vCenter with the domain: administrator@vsphere.local")
    password = forms.CharField(
        label="Password",
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
    )
    key = forms.CharField(
        label="SSH private key",
        required=False,
        strip=False,
        max_length=20000,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
        help_text="In OpenSSH's form, without a passphrase; its public half stands in ~/.ssh/authorized_keys of the user there.",
    )
    transport = forms.ChoiceField(label="How disks are read", widget=forms.RadioSelect)
    vddk_libdir = _text(
        "Folder of VMware's VDDK library",
        required=False,
        max_length=400,
        help_text="On this server: the folder that holds lib64. Only for VDDK.",
    )
    ssh_port = forms.IntegerField(
        label="SSH port", required=False, min_value=1, max_value=65535, help_text="Empty: 22. Only for SSH."
    )
    ca = forms.CharField(
        label="CA certificate",
        required=False,
        max_length=20000,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="Only if the server's certificate is signed by a CA of your own (PEM). Otherwise you will be shown the "
        "certificate and can trust it.",
    )
    libvirt_name = _text(
        "libvirt driver at the other end",
        required=False,
        max_length=400,
        help_text="Leave it empty, unless the Xen host's libvirt is set up in an unusual way.",
    )
    max_running = forms.IntegerField(
        label="Conversions at once from here",
        required=False,
        min_value=1,
        max_value=1000,
        help_text="Empty: only the limit of the whole server.",
    )
    shared = forms.BooleanField(label="Everybody who may start conversions may use it", required=False, initial=True)
    sure = forms.BooleanField(label="Change it although it is in use", required=False)

    def __init__(self, *args: Any, kind: str, saved: SavedSource | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind, self.saved = kind, saved
        drop = {
            "xen": ("password", "vddk_libdir", "ca", "ssh_port"),
            "vcenter": ("key", "libvirt_name", "ssh_port"),
            "esxi": ("libvirt_name",),
        }
        for name in drop[kind]:
            del self.fields[name]
        self.fields["port"].initial = PORTS[kind]
        transport = self.fields["transport"]
        assert isinstance(transport, forms.ChoiceField)
        transport.choices, transport.initial = TRANSPORTS[kind], TRANSPORTS[kind][0][0]
        if len(TRANSPORTS[kind]) == 1:
            transport.widget = forms.HiddenInput()
        for name, words in {"xen": _XEN_HELP, "esxi": _ESXI_HELP}.get(kind, {}).items():
            self.fields[name].help_text = words
        if saved is None or not saved.conversions.filter(state__in=["queued", "running", "cancelling"]).exists():
            del self.fields["sure"]
        stored = (saved.secrets if saved else None) or {}
        for name in ("password", "key"):
            if name in self.fields and name in stored:
                self.fields[name].help_text = "One is stored and never shown again. Leave it empty to keep it."
        if kind != "esxi":  # which of the two depends on how disks are read: clean()
            login = "key" if kind == "xen" else "password"
            self.fields[login].required = login not in stored
            self.fields[login].error_messages["required"] = "This is needed to log in."

    @property
    def first_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in _MORE]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name in _MORE]

    @property
    def more_is_set(self) -> bool:
        """Whether something behind “More settings” is to be seen at once."""
        return any(field.errors or (field.name != "shared" and field.value()) for field in self.more_fields)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        others = SavedSource.objects.filter(name__iexact=name)
        if (others.exclude(pk=self.saved.pk) if self.saved else others).exists():
            raise forms.ValidationError("There is a source of this name already. Choose another.")
        return name

    def clean_host(self) -> str:
        host: str = self.cleaned_data["host"].strip().strip("[]")
        if "/" in host or "@" in host or any(letter.isspace() for letter in host) or host.startswith("-"):
            raise forms.ValidationError("Give only the host's name or address, as in vcenter.example.com or 10.0.0.5.")
        return host

    def clean_user(self) -> str:
        user: str = self.cleaned_data["user"]
        if user.startswith("-"):
            raise forms.ValidationError("A user's name does not begin with “-”.")
        return user

    def clean_password(self) -> str:
        # A password copied from a file or a mail often has a line's end at its end, which no server accepts.
        password: str = self.cleaned_data["password"].rstrip("\r\n")
        if any(letter in password for letter in "\r\n\0"):
            raise forms.ValidationError("A password cannot have a line's end in it. Type it instead of pasting it.")
        return password

    def clean_key(self) -> str:
        key: str = self.cleaned_data["key"].replace("\r\n", "\n").strip()
        if key and not (key.startswith("-----BEGIN ") and "PRIVATE KEY-----" in key):
            raise forms.ValidationError("This is no private key in OpenSSH's form: it begins with -----BEGIN.")
        return f"{key}\n" if key else ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        needed = "key" if cleaned.get("transport") == "ssh" else "password"
        stored = (self.saved.secrets or {}) if self.saved else {}
        if not cleaned.get(needed) and needed not in stored and needed not in self.errors:
            over_ssh = self.kind == "esxi" and needed == "key"
            words = "Over SSH this is needed to log in: a password cannot be used." if over_ssh else ""
            self.add_error(needed, words or "This is needed to log in.")
        if cleaned.get("transport") == "vddk" and not cleaned.get("vddk_libdir"):
            self.add_error("vddk_libdir", "VDDK needs the folder of VMware's library on this server.")
        if "sure" in self.fields and not cleaned.get("sure"):
            self.add_error(
                "sure",
                "Conversions from this source are running or waiting. Those that wait will use the new settings; tick the box "
                "to go on, or wait until they are done.",
            )
        return cleaned

    def save(self, owner: Any) -> SavedSource:
        saved = self.saved or SavedSource(kind=self.kind, owner=owner)
        cleaned = self.cleaned_data
        moved = (saved.host, saved.port) != (cleaned["host"], cleaned["port"]) or saved.ca != cleaned.get("ca", "")
        for name in ("name", "host", "port", "user", "transport", "max_running", "shared"):
            setattr(saved, name, cleaned[name])
        for name in ("vddk_libdir", "ca", "libvirt_name"):
            setattr(saved, name, cleaned.get(name, ""))
        if saved.ssh_port != cleaned.get("ssh_port"):
            saved.ssh_port, saved.host_keys = cleaned.get("ssh_port"), []
        given = {name: cleaned[name] for name in ("password", "key") if cleaned.get(name)}
        if given:
            saved.secrets = {**(saved.secrets or {}), **given}
        if moved:  # trust was given to another server
            saved.pin = saved.pin_sha256 = saved.pin_sha1 = ""
            saved.host_keys, saved.blocked = [], None
        saved.save()
        return saved
