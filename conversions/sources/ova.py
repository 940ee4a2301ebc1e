"""Source "ova": an exported machine in one file on the server."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from django import forms
from django.conf import settings as site

from ..archives import ova_view, unpacking
from ..archives.ova import check_manifest, read_ova
from ..archives.ova_reader import STOPS_VIRT_V2V, Ova, worked_around
from ..archives.ovf_disks import OvfDisk
from ..archives.tar import Member
from ..bucket import planned
from ..disks import vetting
from ..disks.images import Image
from ..plan import Disk, Guest, Nic, Plan
from ..problems import Problem, RefusedError
from . import roots
from .base import Finding, FormProblem, Source
from .disk import look_at

#: Up to this many bytes the checksums are compared while somebody waits; virt-v2v compares those of larger ones itself.
CHECK_NOW = 512 << 20


class OvaForm(forms.Form):
    path = forms.CharField(
        label="OVA file",
        max_length=4096,
        strip=False,
        help_text="The whole path of the .ova file (or of the .ovf, with its disks beside it), or choose it from the list.",
    )

    ovf = forms.CharField(
        label="Which machine",
        max_length=1024,
        required=False,
        help_text="Only for an OVA that holds several machines: the name of the .ovf of the one you mean.",
    )
    firmware = forms.ChoiceField(
        label="Firmware",
        choices=[("", "As the OVA or its disks say"), ("bios", "BIOS"), ("uefi", "UEFI")],
        required=False,
        help_text="Choose it when the OVA does not say and v2vweb asks for it.",
    )

    def clean(self) -> dict[str, Any]:
        return {name: value for name, value in (super().clean() or {}).items() if value}

    def clean_path(self) -> str:
        try:
            return str(roots.resolve(self.cleaned_data["path"].strip(" ")))
        except RefusedError as error:
            raise FormProblem(error.problem) from None


def _ova_of(path: Path) -> Path:
    """What virt-v2v is given: the file, or of an OVA that somebody has unpacked the folder in which the .ovf is."""
    return path.parent if path.suffix.lower() == ".ovf" else path


class OvaSource(Source):
    kind = "ova"
    label = "OVA file on the server"
    help = "A machine exported from VMware, VirtualBox or another program into one .ova file that lies on this server."
    form_class = OvaForm

    def look(self, settings: dict[str, Any]) -> Finding:
        path = settings["path"]
        # Who points at one .ovf of several in a folder means that one.
        meant = settings.get("ovf") or (Path(path).name if path.lower().endswith(".ovf") else None)
        with planned.shown([path]) as seen:
            file, firmware = _ova_of(seen.path(path)), settings.get("firmware")
            return look_at_ova(file, meant, firmware, as_=_ova_of(Path(path)), whole=seen.whole)

    def input_args(self, plan: Plan, secrets: Path) -> list[str]:
        return ["-i", "ova"]

    def guest_args(self, plan: Plan) -> list[str]:
        settings = plan.source.settings
        return [settings["view"]["folder"] if "view" in settings else str(_ova_of(Path(settings["path"])))]

    def vet(self, plan: Plan) -> list[dict[str, Any]]:
        settings = plan.source.settings
        described = {key: settings[key] for key in ("ovf", "ovf_sha256", "disks", "digests", "view") if key in settings}
        return [{"kind": "ova", "path": str(_ova_of(Path(settings["path"])))} | described]

    def scratch_needed(self, plan: Plan) -> int:
        scratch: int = plan.source.settings.get("scratch", 0)
        return scratch + planned.to_download([plan.source.settings["path"]])


def look_at_ova(
    path: Path,
    ovf_name: str | None = None,
    firmware: Literal["bios", "uefi"] | None = None,
    *,
    as_: Path | None = None,
    whole: bool = True,
) -> Finding:
    """What an OVA tells about its guest.  Raises RefusedError when virt-v2v could not, or must not, open it.

    `ovf_name` and `firmware` are what a person has chosen where the OVA leaves it open.  `as_` is where it really is, when
    it is only shown at `path`, and `whole` whether programs may open it there.
    """
    # Of an upload in a bucket the checksums were compared when it came.
    ova, ovf_sha256 = _read(path, ovf_name, compare=as_ in (None, path))
    is_packed = ova.packed not in ("tar", "folder") or ova.compressed
    found = (
        _unseen_finding(ova, _PACKED if is_packed else _IN_BUCKET)
        if is_packed or not whole
        else _look_inside(path, ova)
    )
    guest = _guest(ova, found.guest, firmware)
    concerns = (*_concerns(ova, guest), *found.concerns)
    settings: dict[str, Any] = {
        "ovf": ova.ovf_name,
        "ovf_sha256": ovf_sha256,
        "disks": [
            {"name": name, "gzip": disk.compression is not None, "limit": _limit(path, ova, name, disk)}
            for name, disk in zip(ova.disks, ova.ovf.disks, strict=True)
        ],
        "digests": _digests_for_us(ova),
        "scratch": _scratch(ova) if is_packed else 0,
    }
    if needs_view(ova, guest.firmware):
        # virt-v2v does not see the manifest then: all checksums are ours to compare.
        settings |= {"view": _view(as_ or path, ova, ovf_sha256, guest.firmware), "digests": _digests(ova)}
        if is_packed:  # it lies on disks that each attempt unpacks for itself
            settings["view"]["unpack"] = "yes"
            settings["scratch"] = _scratch_of_view(ova)
        concerns = concerns if any(c.code in STOPS_VIRT_V2V for c in concerns) else (*concerns, _VIEW)
    return Finding(guest, concerns, found.facts | {"settings": settings})


def _read(path: Path, ovf_name: str | None, *, compare: bool) -> tuple[Ova, str]:
    """The OVA, and its OVF's SHA-256."""
    try:
        ova = read_ova(path, ovf_name=ovf_name, quick=True)
        size = sum(member.size for member in ova.members)
        if compare and size <= CHECK_NOW and ova.complete and ova.packed in ("tar", "folder"):
            check_manifest(path, ova)
        return ova, unpacking.sha256_of(path, ova.ovf_name)
    except OSError as error:
        raise RefusedError(
            Problem(
                "file-unreadable",
                "This file cannot be read",
                f"Reading “{path.name}” failed ({error.strerror}).",
                "Ask your administrator to look at the file.",
                "administrator",
            )
        ) from error


_VIEW = Problem(
    "ova-view",
    "The OVA is shown to virt-v2v in another form",
    "virt-v2v would not read this OVA rightly as it is, so v2vweb describes it anew. The file itself is not changed.",
    "Nothing to do.",
)


def needs_view(ova: Ova, firmware: str | None) -> bool:
    """Whether virt-v2v would stop, or see another guest than there is."""
    codes = {concern.code for concern in ova.concerns}
    takes = "bios" if codes & {"ovf-firmware-missing", "ovf-firmware-virtualbox"} else ova.ovf.firmware
    return bool(codes & STOPS_VIRT_V2V) or firmware not in (None, takes)


def _concerns(ova: Ova, guest: Guest) -> tuple[Problem, ...]:
    """Those of the OVA, without what the guest's firmware being known has settled."""
    settled = {"ovf-firmware-missing", "ovf-firmware-virtualbox"} if guest.firmware else set()
    return tuple(worked_around(concern) for concern in ova.concerns if concern.code not in settled)


def _view(path: Path, ova: Ova, ovf_sha256: str, firmware: str | None) -> dict[str, str]:
    """Where the view will be (the agent makes it, from disks it has just vetted), and the OVF in it."""
    text = ova_view.describe(ova.ovf, firmware)
    key = hashlib.sha256(f"{path}\0{ovf_sha256}\0{text}".encode()).hexdigest()[:32]
    return {"folder": str(site.DATA_DIR / "views" / key), "ovf": text}


def _look_inside(path: Path, ova: Ova) -> Finding:
    members = [ova.member(name) for name in ova.disks]
    return look_at([_image(path, ova, member) for member in members], None, probed=True)


def _image(path: Path, ova: Ova, member: Member) -> Image:
    if ova.packed == "folder":
        return Image(path / member.name, unpacking.format_of(path / member.name, 0, member.size))
    format = unpacking.format_of(path, member.offset, member.size)
    return Image(path, format, member.name, member.offset, member.size)


_PACKED = Problem(
    "ova-packed",
    "The OVA is packed",
    "Its disks are unpacked and checked when the conversion starts. That takes time, and space for all of them.",
    "Nothing to do. An OVA as a plain tar archive goes quicker.",
)
_IN_BUCKET = Problem(
    "ova-in-bucket",
    "The disks are looked at later",
    "The OVA lies in a bucket, and this server cannot read it there; it is downloaded and checked when the conversion starts.",
    "Nothing to do. With FUSE on this server it goes quicker: your administrator finds that on the page “System”.",
)


def _unseen_finding(ova: Ova, concern: Problem) -> Finding:
    """Of an OVA that is packed, or cannot be opened here, only the description is known before the conversion."""
    disks = tuple(Disk(name=name, size=disk.capacity) for name, disk in zip(ova.disks, ova.ovf.disks, strict=True))
    return Finding(Guest(disks=disks), (concern,))


def _guest(ova: Ova, seen: Guest, firmware: Literal["bios", "uefi"] | None = None) -> Guest:
    """What a person has said, else the OVF; what was seen on the disks only where the OVF says nothing."""
    ovf = ova.ovf
    return Guest(
        name=ovf.name,
        os=ovf.os,
        os_family=ovf.os_family or seen.os_family,
        firmware=firmware or ovf.firmware or seen.firmware,
        secure_boot=ovf.secure_boot,
        tpm=ovf.tpm,
        cpus=ovf.cpus,
        cores_per_socket=ovf.cores_per_socket,
        memory=ovf.memory,
        disks=tuple(
            disk.model_copy(update={"bus": described.bus})
            for disk, described in zip(seen.disks, ovf.disks, strict=True)
        ),
        nics=tuple(Nic(mac=nic.mac, model=nic.model, network=nic.network) for nic in ovf.nics),
        encrypted=seen.encrypted,
    )


def _limit(path: Path, ova: Ova, name: str, disk: OvfDisk) -> int:
    """Bytes beyond which unpacking a disk is given up."""
    if disk.compression is None and ova.complete:
        return ova.member(name).size
    if disk.capacity:
        return disk.capacity + disk.capacity // 8 + (64 << 20)  # a VMDK that does not compress is larger than its disk
    return max(vetting.BOMB_MINIMUM, vetting.BOMB_RATIO * path.stat().st_size)


def _scratch(ova: Ova) -> int:
    """Bytes that virt-v2v unpacks into its temporary folder: all members, and what is compressed once more.

    The vetting before it unpacks no more than that, and removes it first.
    """
    unpacked = 0
    for name, disk in zip(ova.disks, ova.ovf.disks, strict=True):
        size = ova.member(name).size if ova.complete else disk.file_size or disk.capacity or 0
        unpacked += size + (disk.capacity or size if disk.compression else 0)
    return unpacked


def _scratch_of_view(ova: Ova) -> int:
    """Bytes of the disks alone, unpacked to the last: virt-v2v reads those and unpacks nothing."""
    unpacked = 0
    for name, disk in zip(ova.disks, ova.ovf.disks, strict=True):
        size = ova.member(name).size if ova.complete else disk.file_size or disk.capacity or 0
        unpacked += (disk.capacity or size) if disk.compression else size
    return unpacked


def _digests_for_us(ova: Ova) -> list[dict[str, str]]:
    """Checksums that virt-v2v 2.2 does not understand and passes over: then they are ours to compare."""
    if not any(concern.code in ("ova-manifest-sha512", "ova-manifest-spaces") for concern in ova.concerns):
        return []
    return _digests(ova)


def _digests(ova: Ova) -> list[dict[str, str]]:
    return [{"name": digest.name, "algorithm": digest.algorithm, "hex": digest.hex} for digest in ova.manifest]
