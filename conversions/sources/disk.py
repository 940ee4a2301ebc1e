"""Source "disk": one or several disk images of one guest, in files on the server."""

from pathlib import Path
from typing import Any

from django import forms

from ..bucket import planned
from ..disks import partitions, peek, vetting
from ..disks.images import Image, check_headers
from ..plan import Disk, Guest, Plan
from ..problems import Problem, RefusedError
from . import roots
from .base import Finding, FormProblem, Source

MAX_DISKS = 16


class PathsWidget(forms.Textarea):
    """Takes a list (API), several fields of one name, or one text with a path on each line."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        values = data.getlist(name) if hasattr(data, "getlist") else data.get(name)
        values = [values] if isinstance(values, str) else values or []
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
            return ["\0"]  # numbers, objects: no path, and refused as one
        return [line.strip() for value in values for line in value.split("\n") if line.strip()]

    def format_value(self, value: Any) -> str | None:
        return "\n".join(value) if isinstance(value, (list, tuple)) else value


class PathsField(forms.Field):
    widget = PathsWidget

    def clean(self, value: Any) -> list[str]:
        """The real paths of the files, each checked; raises FormProblem."""
        try:
            return resolve_all(value or [])
        except RefusedError as error:
            raise FormProblem(error.problem) from None


def resolve_all(paths: list[str]) -> list[str]:
    if not paths:
        raise _refuse(
            "no-disk", "No disk image was chosen", "A machine needs at least one disk.", "Choose a disk image."
        )
    if len(paths) > MAX_DISKS:
        raise _refuse(
            "too-many-disks",
            "These are too many disks",
            f"{len(paths)} files were chosen; a machine can have up to {MAX_DISKS} disks here.",
            "Choose only the disks of one machine.",
        )
    resolved = [roots.resolve(path) for path in paths]
    seen: set[tuple[object, ...]] = set()
    for path in resolved:
        # By inode: two names of one file are one disk too.
        if (key := _identity(path)) in seen:
            raise _refuse(
                "disk-twice",
                "One disk image was chosen twice",
                f"“{path.name}” is in the list more than once.",
                "Take one of them out.",
            )
        seen.add(key)
    return [str(path) for path in resolved]


def _identity(path: Path) -> tuple[object, ...]:
    if planned.readable(path) is not path:  # in a bucket
        return (path,)
    about = path.stat()
    return (about.st_dev, about.st_ino)


class DiskForm(forms.Form):
    paths = PathsField(
        label="Disk images",
        help_text="All disks of one machine, the one it starts from first; one path on each line.",
    )
    format = forms.ChoiceField(
        label="Format",
        choices=[("", "Find out from the file"), *peek.FORMAT_WORDS.items()],
        required=False,
        help_text="Leave it open unless v2vweb asks for it.",
    )

    def clean(self) -> dict[str, Any]:
        """Settles the format: from here on it is declared, and nobody guesses it again."""
        cleaned = super().clean() or {}
        if "paths" in cleaned and "format" in cleaned:
            try:
                cleaned["format"] = settle_format([Path(path) for path in cleaned["paths"]], cleaned["format"])
            except RefusedError as error:
                field = "format" if error.field == "format" else "paths"
                self.add_error(field, FormProblem(error.problem))
        return cleaned


def settle_format(paths: list[Path], declared: str) -> str:
    """The one format of all the files: declared, or else what each says it is when its name does not say otherwise."""
    formats = {path: _format_of(path, declared) for path in paths}
    if len(set(formats.values())) > 1:
        listed = ", ".join(f"“{path.name}” is {peek.FORMAT_WORDS[format]}" for path, format in formats.items())
        raise _refuse(
            "formats-mixed",
            "The disk images have different formats",
            f"{listed}. virt-v2v takes the disks of a machine only when all are in one format.",
            "Bring them into one format first (qemu-img convert -O qcow2 OLD NEW), or choose others.",
        )
    return next(iter(formats.values()))


def _format_of(path: Path, declared: str) -> str:
    try:
        kind = peek.sniff(planned.readable(path))
    except OSError as error:
        raise _refuse(
            "file-unreadable",
            "This file cannot be read",
            f"Reading “{path.name}” failed ({error.strerror}).",
            "Ask your administrator to look at the file.",
            "administrator",
        ) from error
    if kind.format is None:
        raise _no_disk(path, kind)
    if declared and declared != kind.format:
        raise _refuse(
            "disk-format-mismatch",
            "The format is not the one that was chosen",
            f"“{path.name}” is {peek.FORMAT_WORDS[kind.format]}, not {peek.FORMAT_WORDS[declared]}.",
            f"Choose {peek.FORMAT_WORDS[kind.format]}, or leave it open.",
            field="format",
        )
    promised = peek.ENDINGS.get(path.suffix.lower())
    if path.stem.endswith("-flat"):
        promised = "raw"  # the data of a VMware disk beside its description
    # The content of a raw disk is the guest's own: it can write what looks like another format's header there.
    if not declared and promised not in (None, kind.format):
        raise _refuse(
            "format-unclear",
            "The name and the content of this file say different things",
            f"“{path.name}” ends like {peek.FORMAT_WORDS[promised or 'raw']} but begins like {peek.FORMAT_WORDS[kind.format]}.",
            "Choose the format if you know it; otherwise ask whoever made the file.",
            field="format",
        )
    return kind.format


def _no_disk(path: Path, kind: peek.Kind) -> RefusedError:
    if path.suffix.lower() == ".ova" or kind.instead == "a tar archive":
        return _refuse(
            "not-a-disk-image",
            "This is no disk image",
            f"“{path.name}” is an archive, as OVA files are.",
            "If it is an OVA, go back and choose “OVA file” as the source.",
        )
    if kind.is_image:
        action = "Convert it first: qemu-img convert -O qcow2 OLD NEW. Then choose the new file."
    elif kind.is_archive:
        action = "Unpack it on the server first, then choose what was in it."
    elif kind.has_cd:
        action = "A machine starts from its hard disk, not from an installation medium: choose that disk's image."
    else:
        action = "Choose the file that holds the machine's disk."
    what = kind.instead or "nothing that v2vweb knows: there is no partition table and no file system at its start"
    return _refuse(
        "not-a-disk-image", "This is no disk image that can be converted", f"“{path.name}” is {what}.", action
    )


def _refuse(
    code: str, title: str, text: str, action: str, whose: str = "you", field: str | None = None
) -> RefusedError:
    return RefusedError(Problem(code, title, text, action, whose), field=field)


class DiskSource(Source):
    kind = "disk"
    label = "Disk image on the server"
    help = "The hard disk of a machine in one file (raw, qcow2, VMDK, VHD, VHDX or VDI) that lies on this server."
    form_class = DiskForm

    def look(self, settings: dict[str, Any]) -> Finding:
        paths, format = settings["paths"], settings["format"]
        with planned.shown(paths) as seen:
            images = [Image(seen.path(path), format, Path(path).name) for path in paths]
            name = _guest_name(Path(paths[0]))
            return look_at(images, name=name) if seen.whole else _look_at_headers(images, name)

    def input_args(self, plan: Plan, secrets: Path) -> list[str]:
        return ["-i", "disk", "-if", plan.source.settings["format"]]

    def guest_args(self, plan: Plan) -> list[str]:
        return [str(path) for path in plan.source.settings["paths"]]

    def vet(self, plan: Plan) -> list[dict[str, Any]]:
        settings = plan.source.settings
        return [{"path": path, "kind": "disk", "format": settings["format"]} for path in settings["paths"]]

    def scratch_needed(self, plan: Plan) -> int:
        return planned.to_download(plan.source.settings["paths"])


def _guest_name(path: Path) -> str:
    stem = path.stem if path.suffix.lower() in roots.KINDS else path.name
    return stem.removesuffix("-flat").removesuffix("-sda").removesuffix("-disk1") or path.name


def _look_at_headers(images: list[Image], name: str | None) -> Finding:
    """Of images in a bucket that no program can open here: they are downloaded and vetted when the conversion starts."""
    for image in images:
        check_headers(image)
    concern = Problem(
        "disk-in-bucket",
        "The disk is looked at later",
        "It lies in a bucket, and this server cannot read it there; it is downloaded and checked when the conversion starts.",
        "Nothing to do. With FUSE on this server it goes quicker: your administrator finds that on the page “System”.",
    )
    disks = (Disk(name=image.shown, format=image.format, size=None) for image in images)
    return Finding(Guest(name=name, disks=tuple(disks)), (concern,))


def look_at(images: list[Image], name: str | None, *, probed: bool = False) -> Finding:
    """What the images tell about their guest.  Raises RefusedError when one of them must not be opened."""
    disks, contents = [], []
    concerns: list[Problem] = []
    luks: list[str] = []
    for image in images:
        vetted = vetting.examine(image, probed=probed)
        disks.append(Disk(name=image.shown, format=image.format, size=vetted.size, allocated=vetted.allocated))
        concerns += _concerns(image, vetted)
        content = partitions.content(vetting.reader(image))
        contents.append(content)
        luks += content.luks_uuids
    families = {content.os_family for content in contents} - {None}
    encrypted = any(content.encrypted for content in contents)
    firmware = contents[0].firmware
    if firmware:
        concerns.append(
            Problem(
                "firmware-from-disk",
                "The machine seems to start with UEFI",
                "The first disk has an EFI system partition and no place for a BIOS boot loader. That is taken as UEFI.",
                "Nothing to do, unless you know better.",
            )
        )
    if encrypted and luks:
        concerns.append(
            Problem(
                "disk-encrypted",
                "A disk inside the machine is encrypted",
                "virt-v2v has to open it to prepare the machine, and needs the passphrase for that.",
                "Enter the passphrase under Options.",
            )
        )
    guest = Guest(
        name=name,
        os_family=families.pop() if len(families) == 1 else None,
        firmware=firmware,
        disks=tuple(disks),
        encrypted=True if encrypted else None,
    )
    return Finding(guest, tuple(concerns), {"luks": luks})


def _concerns(image: Image, vetted: vetting.Vetted) -> list[Problem]:
    concerns = []
    if vetted.snapshots:
        concerns.append(
            Problem(
                "disk-has-snapshots",
                "The disk image has snapshots inside",
                f"“{image.shown}” holds {vetted.snapshots} older state(s) of the disk. Only the newest is converted.",
                "If you want an older one, ask whoever made the image to export that.",
            )
        )
    if image.format == "raw" and image.length % 512:
        concerns.append(
            Problem(
                "disk-odd-size",
                "The disk image may be incomplete",
                f"“{image.shown}” ends in the middle of a sector, as files do whose copying was broken off.",
                "Compare its size with the original. If they are the same, go on.",
            )
        )
    return concerns
