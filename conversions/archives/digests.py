"""The manifest (.mf) of an OVA: the checksums that its files should have.  Standard library only: the agent uses it."""

import posixpath
import re
from dataclasses import dataclass

from ..problems import Problem
from .tar import check_name, refuse


@dataclass(frozen=True)
class Digest:
    """A line of the manifest."""

    name: str
    algorithm: str  #: sha1, sha256, sha512
    hex: str  #: lower case


_MANIFEST_LINE = re.compile(r"(SHA-?(?:1|256|512)) ?\((.+)\) ?= ?([0-9a-f]+)", re.I)
_HEX = {"sha1": 40, "sha256": 64, "sha512": 128}


def read_manifest(name: str, text: bytes, concerns: list[Problem]) -> tuple[Digest, ...]:
    folder = posixpath.dirname(name)
    digests: list[Digest] = []
    odd = skipped_by_virt_v2v = 0
    for raw in text.decode("utf-8", "backslashreplace").splitlines():
        line = raw.strip().lstrip("\ufeff")
        if not line:
            continue
        match = _MANIFEST_LINE.fullmatch(line)
        algorithm = match[1].lower().replace("-", "") if match else ""
        if match is None or len(match[3]) != _HEX[algorithm]:
            odd += 1
            continue
        skipped_by_virt_v2v += algorithm == "sha512" or not re.match(r"SHA(1|256)\(.+\)= ", line)
        digests.append(Digest(posixpath.join(folder, check_name(match[2])), algorithm, match[3].lower()))
    if odd:
        concerns.append(
            Problem(
                "ova-manifest-odd",
                "Part of the manifest cannot be read",
                f"{odd} line{'s' if odd > 1 else ''} of “{name}” cannot be read as checksums, so those files go unchecked.",
            )
        )
    if skipped_by_virt_v2v:
        concerns.append(
            Problem(
                "ova-manifest-sha512" if any(d.algorithm == "sha512" for d in digests) else "ova-manifest-spaces",
                "Checksums that virt-v2v does not know",
                "virt-v2v 2.2 does not compare the manifest's checksums as they are written here; v2vweb does.",
            )
        )
    return tuple(digests)


def check_digest(digest: Digest, actual: str) -> None:
    """Raises RefusedError when a file is not what its manifest says."""
    if digest.hex != actual:
        refuse(
            "ova-manifest-mismatch",
            "A checksum is wrong",
            f"“{digest.name}” is not what the OVA's manifest says: the {digest.algorithm.upper()} should be "
            f"{digest.hex} and is {actual}. The file was damaged or changed after the export.",
            "Transfer the OVA again; if the checksum is still wrong, export the virtual machine again.",
        )
