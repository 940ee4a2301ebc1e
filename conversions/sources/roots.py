"""Files on the server that people may pick: only under the configured roots, however a path is dressed up."""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from ..names import natural
from ..problems import Problem, RefusedError
from ..uploading import uploaded

_CHOOSE = "Choose another file."

#: What a file's ending suggests, for the picker.  What it really is, its content says later.
KINDS = {
    ".ova": "ova",
    ".ovf": "ova",
    ".raw": "disk",
    ".img": "disk",
    ".qcow2": "disk",
    ".qcow": "disk",
    ".vmdk": "disk",
    ".vhd": "disk",
    ".vhdx": "disk",
    ".vdi": "disk",
    ".vpc": "disk",
}


def _refuse(
    code: str, title: str, text: str, action: str = _CHOOSE, whose: str = "you", status: int = 422
) -> RefusedError:
    return RefusedError(Problem(code, title, text, action, whose), status=status)


def roots() -> list[Path]:
    """The configured folders that exist, with symlinks resolved."""
    return [Path(os.path.realpath(root)) for root in settings.SOURCE_ROOTS if root.is_dir()]


def _is_under_root(path: Path) -> bool:
    data = Path(os.path.realpath(settings.DATA_DIR))
    # Somebody may well have named "/" as a root: v2vweb's own folder (its keys, others' guests) stays closed.
    if path == data or data in path.parents:
        return False
    return any(path == root or root in path.parents for root in roots())


def resolve(text: str) -> Path:
    """The real path of a file somebody named: absolute, or relative to a root.

    Raises RefusedError for whatever is not a readable, non-empty, regular file under a root.  What lies outside is
    refused with the same words whether it exists or not.
    """
    if (uploaded_file := uploaded.resolve(text)) is not None:
        return uploaded_file
    shown = text if text.isprintable() else ascii(text)
    if not text or len(text) > 4096 or not text.isprintable():
        raise _refuse(
            "path-not-allowed",
            "This is no path of a file",
            f"“{shown[:200]}” is empty or has strange characters in it.",
        )
    if not settings.SOURCE_ROOTS:
        raise _refuse(
            "no-source-roots",
            "No folder is open for choosing files",
            "No folder of this server is set up for disk images, so there is nothing to choose from.",
            "Ask your administrator to name the folders in V2VWEB_SOURCE_ROOTS and to restart v2vweb.",
            "administrator",
        )
    candidates = [Path(text)] if text.startswith("/") else [root / text for root in settings.SOURCE_ROOTS]
    real = [Path(os.path.realpath(candidate)) for candidate in candidates]
    inside = [path for path in real if _is_under_root(path)]
    if not inside:
        folders = ", ".join(str(root) for root in settings.SOURCE_ROOTS)
        raise _refuse(
            "path-outside-roots",
            "This file is outside the folders that are open for choosing",
            f"“{shown}” does not lie under {folders}, or it is a link that leads out of there.",
            "Choose a file under one of these folders, or ask your administrator to move it there.",
        )
    path = next((path for path in inside if os.path.lexists(path)), inside[0])
    _check_file(path, shown)
    return path


def _check_file(path: Path, shown: str) -> None:
    try:
        # NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _refuse(
            "file-missing",
            "There is no such file",
            f"“{shown}” does not exist on this server (any more).",
            "Check the name, or choose the file from the list.",
        ) from None
    except OSError as error:
        raise _refuse(
            "file-unreadable",
            "This file cannot be read",
            f"v2vweb is not allowed to read “{shown}” ({error.strerror}).",
            "Ask your administrator to let the user that v2vweb runs as read the file and its folder.",
            "administrator",
        ) from None
    try:
        about = os.fstat(fd)
    finally:
        os.close(fd)
    if stat.S_ISDIR(about.st_mode):
        raise _refuse(
            "file-is-folder",
            "This is a folder",
            f"“{shown}” is a folder, not a file.",
            "Open it and choose a file in it.",
        )
    if not stat.S_ISREG(about.st_mode):
        raise _refuse("not-a-file", "This is not an ordinary file", f"“{shown}” is a device, a pipe or a socket.")
    if about.st_size == 0:
        raise _refuse(
            "file-empty",
            "This file is empty",
            f"“{shown}” has 0 bytes: perhaps copying it here has failed or has not begun.",
            "Copy the file again, or choose another.",
        )


@dataclass(frozen=True)
class Entry:
    """A line of the file picker."""

    name: str
    path: str  #: what to put into the form
    is_folder: bool
    size: int  #: bytes; 0 for a folder
    modified: datetime
    kind: str  #: "disk", "ova", "other" or "folder", by the ending of the name


def browse(folder: str = "") -> tuple[Path | None, list[Entry]]:
    """A folder under the roots and what can be chosen in it, folders first; the roots themselves for "".

    Hidden files, and links that lead out of the roots, are left out.  Raises RefusedError like resolve().
    """
    if not folder:
        return None, [_entry(root, str(root)) for root in roots()]
    real = Path(os.path.realpath(folder)) if folder.isprintable() and folder.startswith("/") else None
    if real is None or not _is_under_root(real) or not real.is_dir():
        raise _refuse(
            "folder-missing",
            "There is no such folder",
            "It does not exist, or is not open for choosing.",
            "Go back to the list of folders.",
            status=404,
        )
    entries = []
    try:
        for path in real.iterdir():
            if path.name.startswith(".") or not path.name.isprintable():
                continue
            target = Path(os.path.realpath(path))
            if _is_under_root(target) and (target.is_dir() or target.is_file()):
                entries.append(_entry(path, path.name))
    except PermissionError:
        raise _refuse(
            "folder-unreadable",
            "This folder cannot be read",
            f"v2vweb is not allowed to look into “{folder}”.",
            "Ask your administrator to let the user that v2vweb runs as read it.",
            "administrator",
        ) from None
    entries.sort(key=lambda entry: (not entry.is_folder, natural(entry.name)))
    return real, entries


def _entry(path: Path, name: str) -> Entry:
    about = path.stat()
    is_folder = stat.S_ISDIR(about.st_mode)
    kind = "folder" if is_folder else KINDS.get(path.suffix.lower(), "other")
    modified = datetime.fromtimestamp(about.st_mtime, UTC)
    return Entry(name, str(path), is_folder, 0 if is_folder else about.st_size, modified, kind)
