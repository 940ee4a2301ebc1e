"""What an OVA is, collected from its members as they come: which there are, the OVF, the manifest, what is odd about it.

No member's name becomes a path.  Standard library only but for the OVF's XML.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..problems import Problem, RefusedError
from .digests import Digest, read_manifest
from .packed import CHUNK, Packed, refuse_truncated
from .tar import Member, Piece, TarReader, check_name, printable, refuse

if TYPE_CHECKING:
    from .ovf import Ovf
    from .ovf_disks import OvfDisk

MAX_OVF = 4 * 1024 * 1024
MAX_MANIFEST = 1024 * 1024
MAX_OVFS = 20

#: concerns with which virt-v2v 2.2 stops, or finds another guest than there is (tried with 2.2.0)
STOPS_VIRT_V2V = frozenset(
    {"ova-names", "ova-macos-members", "ova-chosen", "ovf-version", "ovf-href-encoded", "ovf-host-resource"}
)


def worked_around(concern: Problem) -> Problem:
    """A concern as it is told when virt-v2v is shown the OVA in a form that it reads (ova_view.py)."""
    if concern.code not in STOPS_VIRT_V2V:
        return concern
    return replace(concern, action="v2vweb works around this. Nothing to do.")


@dataclass(frozen=True)
class Ova:
    members: tuple[Member, ...]
    ovf: "Ovf"
    disks: tuple[str, ...]  #: names of members, in the order of the OVF's disks
    compressed: bool  #: a disk is packed with gzip inside: virt-v2v unpacks the whole OVA first
    packed: Packed
    ovf_name: str
    manifest: tuple[Digest, ...]  #: empty when there is none
    concerns: tuple[Problem, ...]  #: of the archive and the OVF
    complete: bool = True  #: False: only its beginning was read (quick), or more is to come

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)


class OvaReader:
    """Collects what an OVA is from its members, in whatever order they come.

    `ovfs` has the OVFs read so far by name, or why one cannot be used.  finish() makes an Ova of it all, or says what is missing.
    """

    def __init__(self) -> None:
        self.tar = TarReader()
        self.members: list[Member] = []
        self.ovfs: dict[str, Ovf | RefusedError] = {}
        self.manifests: dict[str, tuple[Digest, ...]] = {}
        self.concerns: list[Problem] = []
        self._ignored: list[str] = []
        self._text: bytearray | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Piece]:
        """Takes the next bytes of the tar archive; the caller must use the pieces up.  Raises RefusedError."""
        for piece in self.tar.feed(data):
            self._take(piece)
            yield piece

    def skip(self) -> int:
        """Goes over bytes of a member that nobody needs to see; returns how many."""
        if self._text is not None:
            return 0
        count = self.tar.skippable
        for piece in self.tar.skip(count):
            self._take(piece)
        return count

    def _take(self, piece: Piece) -> None:
        if piece.member is None:
            return
        if piece.what == "begin":
            if self.begin(piece.member):
                self._text = bytearray()
        elif piece.what == "data" and self._text is not None:
            self._text += piece.data
        elif piece.what == "end" and self._text is not None:
            text, self._text = bytes(self._text), None
            self.text(piece.member.name, text)

    def begin(self, member: Member) -> bool:
        """Notes a member and says whether its text is wanted."""
        if any(other.name == member.name for other in self.members):
            refuse("ova-name-twice", "The OVA is ambiguous", f"It holds two files with the name “{member.name}”.")
        base = posixpath.basename(member.name)
        if base.startswith("._") or base == ".DS_Store" or member.name.startswith("__MACOSX/"):
            self._ignored.append(member.name)
            return False
        self.members.append(member)
        kind = base.lower().rpartition(".")[2]
        limit = {"ovf": MAX_OVF, "mf": MAX_MANIFEST}.get(kind)
        if limit and member.size > limit:
            text = f"“{member.name}” in it is larger than {limit // CHUNK} MiB; real ones have some kilobytes."
            refuse("ova-member-too-large", "The OVA is not plausible", text)
        if kind == "ovf" and len(self.ovfs) == MAX_OVFS:
            refuse("ova-two-ovf", "More than one guest", f"The OVA holds more than {MAX_OVFS} .ovf files.")
        return limit is not None

    def text(self, name: str, text: bytes) -> None:
        """Takes the text of a member that begin() asked for."""
        from .ovf import read_ovf

        if name.lower().endswith(".ovf"):
            try:
                self.ovfs[name] = read_ovf(text)
            except RefusedError as error:  # with several OVFs another one may be chosen
                self.ovfs[name] = error
        else:
            self.manifests[name] = read_manifest(name, text, self.concerns)

    def finish(self, packed: Packed = "tar", ovf_name: str | None = None, complete: bool = True) -> Ova:
        """Puts it together.  `ovf_name` chooses among several OVFs; without it several are refused."""
        name = self._one_ovf(ovf_name)
        ovf = self.ovfs[name]
        if isinstance(ovf, RefusedError):
            raise ovf
        concerns = [*self.concerns, *self._oddities(name), *ovf.concerns]
        digests = self.manifests.get(name[:-4] + ".mf") or next(iter(self.manifests.values()), ())
        names = {member.name for member in self.members}
        disks = tuple(_find(disk, name, names) for disk in ovf.disks)
        if complete:
            self._all_there(ovf, disks, names)
        strangers = sorted({digest.name for digest in digests} - names)
        if strangers and complete:
            concerns.append(
                Problem(
                    "ova-manifest-stranger",
                    "The manifest names files that are not there",
                    f"The manifest has checksums for files that the OVA does not hold: {', '.join(strangers[:5])}.",
                )
            )
        return Ova(
            members=tuple(self.members),
            ovf=ovf,
            disks=disks,
            compressed=any(disk.compression for disk in ovf.disks),
            packed=packed,
            ovf_name=name,
            manifest=digests,
            concerns=tuple(concerns),
            complete=complete,
        )

    def _one_ovf(self, chosen: str | None) -> str:
        if not self.ovfs:
            refuse(
                "ova-no-ovf",
                "There is no OVF in it",
                "The file holds no .ovf, the description of a virtual machine, so it is not an OVA.",
                "A disk image alone goes in as a disk image. Otherwise export the virtual machine as an OVA again.",
            )
        if chosen in self.ovfs:
            return chosen
        if len(self.ovfs) > 1:
            names = ", ".join(f"“{name}”" for name in self.ovfs)
            refuse(
                "ova-two-ovf",
                "More than one guest",
                f"The OVA holds {len(self.ovfs)} descriptions of a virtual machine: {names}.",
                "Choose one of them, or export the virtual machine again on its own.",
            )
        return next(iter(self.ovfs))

    def _all_there(self, ovf: "Ovf", disks: tuple[str, ...], names: set[str]) -> None:
        missing = [(name, disk) for name, disk in zip(disks, ovf.disks, strict=True) if name not in names]
        if not missing:
            return
        if self.tar.offset and not self.tar.over:  # no end mark: cut off between two files
            refuse_truncated(sum(disk.file_size or 1 for _, disk in missing))
        refuse(
            "ova-disk-missing",
            "A disk is missing",
            f"The OVF speaks of the disk “{printable(missing[0][0])}”, but the OVA does not hold it.",
            "Export the virtual machine again, with its disks.",
        )

    def _oddities(self, ovf_name: str) -> Iterator[Problem]:
        if self._ignored:
            count = f"{len(self._ignored)} helper file{'s' if len(self._ignored) > 1 else ''}"
            yield Problem(
                "ova-macos-members",
                "Packed on a Mac",
                f"It holds {count} of macOS (“{self._ignored[0]}”), which virt-v2v 2.2 takes for the guest's own.",
                "On the Mac pack with: COPYFILE_DISABLE=1 tar -cf NAME.ova NAME.ovf DISK.vmdk",
            )
        if len(self.ovfs) > 1:
            yield Problem(
                "ova-chosen",
                "One of several guests",
                f"Of the {len(self.ovfs)} guests in the OVA “{ovf_name}” was chosen.",
            )
        if self.tar.dotted or not ovf_name.endswith(".ovf"):
            yield Problem(
                "ova-names",
                "Unusual file names",
                "The files in the OVA are named in a way (“./” before the name, or .OVF in capitals) in which "
                "virt-v2v 2.2 does not find them.",
                "Pack it again with: tar -cf NAME.ova NAME.ovf DISK.vmdk",
            )


def _find(disk: "OvfDisk", ovf_name: str, names: set[str]) -> str:
    """The name of a disk's member, whether it is there or not: as the OVF writes it, else URL-decoded."""
    folder = posixpath.dirname(ovf_name)
    wanted = [posixpath.join(folder, check_name(name)) for name in (disk.raw_href, disk.href)]
    return next((name for name in wanted if name in names), wanted[1])
