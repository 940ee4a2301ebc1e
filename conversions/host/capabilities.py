"""What the virt-v2v on this machine can do: asked of it, never assumed.  2.2 to the newest must all work.

Its answer to --machine-readable is a word a line; what it has no word for goes by its version.  Kept as long as the program
is the same file.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings

from ..problems import Problem, RefusedError

SECONDS = 10  #: it answers in less than 0.1 s; a hanging file system must not hold a page for ever


@dataclass(frozen=True)
class Ability:
    """Something that only some versions can do, for people."""

    title: str
    there: bool
    text: str  #: what that means


@dataclass(frozen=True)
class Capabilities:
    program: str  #: its path
    version: tuple[int, int, int] | None  #: None when it does not tell one
    version_text: str  #: as it said it, with what a distribution added
    features: frozenset[str]  #: its own words

    def at_least(self, *version: int) -> bool:
        """False as long as nobody knows the version: what is newer is then not used."""
        return self.version is not None and self.version >= version

    def _words(self, prefix: str) -> frozenset[str]:
        return frozenset(word.removeprefix(prefix) for word in self.features if word.startswith(prefix))

    @property
    def inputs(self) -> frozenset[str]:
        return self._words("input:")

    @property
    def outputs(self) -> frozenset[str]:
        return self._words("output:")

    @property
    def guests(self) -> frozenset[str]:
        """linux, windows"""
        return self._words("convert:")

    @property
    def writes_for_kubevirt(self) -> bool:
        return "kubevirt" in self.outputs

    @property
    def has_parallel(self) -> bool:
        """--parallel: several disks at once."""
        return "parallel-option" in self.features or self.at_least(2, 8, 0)

    @property
    def has_key_all(self) -> bool:
        """--key all:..., so that no device needs to be named."""
        return self.at_least(2, 4, 0)

    @property
    def has_key_clevis(self) -> bool:
        """--key ID:clevis: a Tang server opens the disk."""
        return self.at_least(2, 2, 0)

    @property
    def takes_address_without_gateway(self) -> bool:
        """--mac MAC:ip:ADDRESS,,LENGTH: before, what stands between commas must not be empty."""
        return self.at_least(2, 6, 0)

    @property
    def writes_to_given_disks(self) -> bool:
        """-oo disk=PATH and -oo create=false of -o kubevirt: into a PVC's block device without detours."""
        return self.at_least(2, 9, 1)

    def abilities(self) -> list[Ability]:
        """What a person may want to know of this version."""
        windows = "windows" in self.guests or not self.guests  # a version that tells no kinds converts both
        return [
            Ability("Writes for KubeVirt", self.writes_for_kubevirt, "Disks and the YAML of a virtual machine."),
            Ability("VMware over HTTPS", "vcenter-https" in self.features, "Copies from vCenter and ESXi."),
            Ability(
                "VMware with VDDK",
                "vddk" in self.features,
                "Copies faster, with VMware's library; nbdkit must have its plugin as well.",
            ),
            Ability("Xen over SSH", "xen-ssh" in self.features, "Copies from a Xen host."),
            Ability("OVA files", "ova" in self.inputs, "Reads what VMware and VirtualBox export."),
            Ability("Disk images", "disk" in self.inputs, "Reads image files on this server."),
            Ability("Windows guests", windows, "Puts virtio drivers in, when virtio-win is on this server."),
            Ability("Several disks at once", self.has_parallel, "Guests with many disks are copied faster."),
            Ability(
                "Straight into given volumes",
                self.writes_to_given_disks,
                "Writes into block devices that are there already; older ones need a detour by v2vweb.",
            ),
        ]


def capabilities(program: str = "") -> Capabilities:
    """Of the virt-v2v that is used.  Raises RefusedError when it is missing or does not answer."""
    program = program or settings.ENV.virt_v2v
    path = shutil.which(program)
    if path is None:
        raise _unusable(
            "virt-v2v-missing",
            "virt-v2v is not installed",
            f"There is no program “{program}” on this server, and it is what converts.",
            "Install it (apt install virt-v2v), or set V2VWEB_VIRT_V2V to where it is.",
        )
    real = os.path.realpath(path)
    info = os.stat(real)  # noqa: PTH116
    return _ask(path, real, info.st_mtime_ns, info.st_size)


@lru_cache(maxsize=8)
def _ask(path: str, real: str, modified: int, size: int) -> Capabilities:
    return parse(path, _said(path, "--version"), _said(path, "--machine-readable"))


def parse(program: str, version: str, features: str) -> Capabilities:
    """From what it said.  A distribution may add to the version ("2.5.6rhel=9,release=8.el9"), a later one to the words."""
    text = next((line.strip() for line in version.splitlines() if line.strip()), "")
    number = re.search(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", text)
    return Capabilities(
        program=program,
        version=(int(number[1]), int(number[2]), int(number[3] or 0)) if number else None,
        version_text=text.removeprefix("virt-v2v").strip()[:100] or "unknown",
        features=frozenset(
            line.strip() for line in features.splitlines() if re.fullmatch(r"[\w.:/+-]{1,60}", line.strip())
        ),
    )


def _said(path: str, option: str) -> str:
    try:
        done = subprocess.run(
            [path, option],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"did not answer within {SECONDS} seconds" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise _unusable(
            "virt-v2v-broken",
            "virt-v2v does not work",
            f"{path} {option}: {why}.",
            "Run it in a terminal to see what is wrong; installing it again may help (apt install --reinstall virt-v2v).",
        ) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        raise _unusable(
            "virt-v2v-broken",
            "virt-v2v does not work",
            f"{path} {option} ended with {done.returncode}: {(said or ['no message'])[-1][:200]}",
            "Run it in a terminal to see what is wrong; installing it again may help (apt install --reinstall virt-v2v).",
        )
    return done.stdout.decode("utf-8", "replace")


def _unusable(code: str, title: str, text: str, action: str) -> RefusedError:
    return RefusedError(Problem(code, title, text, action, "administrator"), status=409)
