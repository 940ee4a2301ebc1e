"""Whether virt-v2v can have encrypted disks opened by Clevis here: without a passphrase, by asking a Tang server."""

import os
import shutil
from pathlib import Path

from .host.capabilities import capabilities
from .problems import Problem, RefusedError

ROOT = Path("/")  #: of the file system that is looked at


def obstacle() -> Problem | None:
    """Why it cannot be used on this server; None when it can."""
    try:
        can = capabilities()
    except RefusedError as refusal:
        return refusal.problem
    if not can.has_key_clevis:
        return _problem(
            f"The virt-v2v on this server ({can.version_text}) does not know Clevis; versions from 2.2 on do.",
            "install a newer virt-v2v",
        )
    if os.environ.get("LIBGUESTFS_PATH") or _in_appliance():
        return None
    return _problem(
        "virt-v2v's small virtual machine (libguestfs) has no Clevis in it. Debian's is made without.",
        "install clevis-luks, and name it in a file of libguestfs's folder supermin.d "
        "(echo clevis-luks > /usr/lib/x86_64-linux-gnu/guestfs/supermin.d/v2vweb-packages-clevis)",
    )


def _in_appliance() -> bool:
    """supermin puts into it what its lists name, as far as it is installed here."""
    if shutil.which("clevis-luks-unlock") is None:
        return False
    lists = (
        path for under in ("lib/*", "lib*") for path in (ROOT / "usr").glob(f"{under}/guestfs/supermin.d/*packages*")
    )
    return any("clevis-luks" in path.read_text(errors="replace").split() for path in lists)


def _problem(text: str, remedy: str) -> Problem:
    return Problem(
        "clevis-missing",
        "Disks cannot be opened with Clevis on this server",
        text,
        f"Type the passphrase instead, or ask your administrator to {remedy}.",
        "administrator",
    )
