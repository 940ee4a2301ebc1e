"""What an ESXi host's own shell tells over SSH: its datastores, the .vmx files there, and the guests that it has registered.

The shell is busybox's: globs, dd and stat are all that is used of it.  Each answer stands behind a line that nobody at the
other end can foresee, so that a file's content passes for nothing but a file's content.
"""

import re
import secrets
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..models import SavedSource
from ..problems import Problem, RefusedError
from . import ssh

MOST_GUESTS = 2000  #: an ESXi host runs 1024 at most; a shared datastore has those of other hosts too
_SURVEY_SECONDS, _SURVEY_BYTES = 90, 8 << 20
_ROW = 2000  #: letters of a row that are looked at: a name and a path are shorter, notes may be long
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REGISTERED = re.compile(r"^(\d{1,9})\s+\S")
_FILE = re.compile(r"\[([^\[\]/]+)\] (\S[^\n]*?\.vmx)(?=\s)")

#: A datastore's name is a link to the folder that has it: the links first, then what no link leads to.
_SURVEY = r"""
nl='
'
cd /vmfs/volumes 2>/dev/null || { say nothing; say end; exit; }
targets=/
for v in *; do
    [ -h "$v" ] || continue
    t=$(readlink "$v"); t=${t##*/}
    targets="$targets$t/"
    case $v$t in *"$nl"*) continue;; esac
    say "volume $v/$t"
done
n=0
for v in *; do
    if [ ! -h "$v" ]; then case $targets in */"$v"/*) continue;; esac; fi
    [ -d "$v" ] || continue
    say "folder $v"
    for f in "$v"/*.vmx "$v"/*/*.vmx "$v"/*/*/*.vmx "$v"/*/*/*/*.vmx; do
        [ -f "$f" ] || continue
        case $f in *"$nl"*) continue;; esac
        n=$((n + 1)); [ $n -gt MOST ] && break 2
        say "vmx $f"
    done
done
if command -v vim-cmd >/dev/null 2>&1; then
    say registered
    vim-cmd vmsvc/getallvms 2>/dev/null </dev/null
fi
say end
"""


@dataclass
class Survey:
    """Paths are below /vmfs/volumes, with the datastores' own names: "datastore1/web01/web01.vmx"."""

    labels: dict[str, str] = field(default_factory=dict)  #: a datastore's folder -> its name
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    registered: dict[str, str] = field(default_factory=dict)  #: file -> the number by which vim-cmd knows the guest
    has_vim_cmd: bool = False


def survey(saved: SavedSource) -> Survey:
    """One login.  Raises RefusedError when the datastores cannot be read, or SSH says no."""
    found, listed = Survey(), ""
    for head, body in answers(saved, _SURVEY.replace("MOST", str(MOST_GUESTS)), _SURVEY_BYTES, _SURVEY_SECONDS):
        kind, _, rest = head.partition(" ")
        if kind == "volume":
            label, _, folder = rest.partition("/")
            found.labels[folder] = label
        elif kind == "folder":
            found.folders.append(rest)
        elif kind == "vmx" and _is_name(rest):
            found.files.append(rest)
        elif kind == "registered":
            found.has_vim_cmd, listed = True, body.decode("utf-8", "replace")
    if not found.folders:
        raise _no_datastores(saved)
    if len(found.files) >= MOST_GUESTS:
        raise _too_many(saved)
    found.registered = registered(listed, found.files)
    return found


def _is_name(path: str) -> bool:
    """Whether a database, a terminal and an address can have it in them."""
    return not _CONTROL.search(path) and len(path) < 1000 and path.isprintable()


def registered(listed: str, files: Iterable[str]) -> dict[str, str]:
    """File -> number, of what `vim-cmd vmsvc/getallvms` prints.

    Names and notes of guests stand in it as they are, notes over several lines: whoever may write one could make up a row.
    So a row counts only for a file that is there, and a number or a file that occurs twice counts for nothing.
    """
    there, found = set(files), list[tuple[str, str]]()
    for line in listed.splitlines():
        if row := _REGISTERED.match(line):
            named = {f"{match[1]}/{match[2]}" for match in _FILE.finditer(f"{line[:_ROW]} ")} & there
            found += [(path, row[1]) for path in named]
    paths, numbers = Counter(path for path, _ in found), Counter(number for _, number in found)
    return {path: number for path, number in found if paths[path] == 1 and numbers[number] == 1}


def is_still(listed: str, number: str, path: str) -> bool:
    """Whether the number is this file's and nobody else's.  Nobody has looked which files are there: so a row that names more
    than this one, or a second row with the number or the file, counts as no."""
    rows = list[tuple[str, set[str]]]()
    for line in listed.splitlines():
        if row := _REGISTERED.match(line):
            rows.append((row[1], {f"{match[1]}/{match[2]}" for match in _FILE.finditer(f"{line[:_ROW]} ")}))
    return [row for row in rows if row[0] == number or path in row[1]] == [(number, {path})]


def answers(saved: SavedSource, script: str, limit: int, seconds: float) -> list[tuple[str, bytes]]:
    """Runs a script in which `say TEXT` begins an answer: each TEXT with all that was printed after it."""
    mark = secrets.token_hex(8)
    begin = f"say() {{ printf '\\n%s %s\\n' {mark} \"$1\"; }}\n"
    # The shell reads the script from its standard input: what it calls must not read on there.
    printed = ssh.ask(saved, (begin + script).encode("utf-8", "surrogateescape"), limit=limit, timeout=seconds)
    found = []
    for piece in printed.split(f"\n{mark} ".encode())[1:]:
        head, _, body = piece.partition(b"\n")
        found.append((head.decode("utf-8", "surrogateescape"), body))
    if not found or found[-1][0] != "end":
        raise ssh.broke_off(saved, "the end of the answer is missing.")
    return found[:-1]


def quoted(path: str) -> str:
    """A path below /vmfs/volumes, for a script."""
    return shlex.quote(f"/vmfs/volumes/{path}")


def _no_datastores(saved: SavedSource) -> RefusedError:
    return RefusedError(
        Problem(
            "no-datastores",
            "There are no datastores to be seen over SSH",
            f"{saved.host} has no folder in /vmfs/volumes that {saved.user} may read.",
            f"Check that this is the ESXi host itself, and that {saved.user} may read its datastores.",
            "source owner",
        )
    )


def _too_many(saved: SavedSource) -> RefusedError:
    return RefusedError(
        Problem(
            "too-many-guests",
            "Too many guests for SSH",
            f"{saved.host} sees {MOST_GUESTS} .vmx files or more on its datastores.",
            "Move the guests through vCenter, which tells which of them are this host's.",
            "source owner",
        )
    )
