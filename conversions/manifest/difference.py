"""Each line of virt-v2v's file beside its line in ours, with the reason where they differ.

Both files are looked at as values with paths, not as texts: indentation and quotes are no difference.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from .disks import TO_CLAIMS
from .reading import Node, Path, lines
from .walking import dotted
from .work import SPEC, Note
from .writing import Line

Kind = Literal["same", "changed", "moved", "added", "removed", "comment"]

_ELSEWHERE = "The same as in virt-v2v's file, in another place: the order of lines has no meaning."
_STORAGE = "Storage of its own for each disk, as big as the disk needs it there."


@dataclass(frozen=True)
class Row:
    """A line of one file beside its line in the other.  Numbers count from 1."""

    kind: Kind
    theirs: int | None
    ours: int | None
    at: Path = ()
    reason: str = ""
    repair: str = ""

    @property
    def path(self) -> str:
        """For people: spec.template.spec.volumes[disk-0]"""
        return dotted(self.at)


class _History:
    """Where a value of virt-v2v's file ended up, step by step."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.by_old: dict[Path, list[tuple[int, Note]]] = {}
        self.by_new: dict[Path, Note] = {}
        for note in notes:
            if note.old is not None:
                self.by_old.setdefault(note.old, []).append((note.number, note))
            if note.new is not None and not _is_whole_spec(note):
                self.by_new[note.new] = note

    def follow(self, path: Path) -> tuple[Path | None, Note | None]:
        """The path that a value has now (None: dropped) and the last note about it."""
        number, last = -1, None
        while found := self._next(path, number):
            number, note, depth = found
            if not _is_whole_spec(note):
                last = note
            if note.new is None:
                return None, note
            path = (*note.new, *path[depth:])
        return path, last

    def _next(self, path: Path, after: int) -> tuple[int, Note, int] | None:
        best: tuple[int, Note, int] | None = None
        for depth in range(1, len(path) + 1):
            entries = self.by_old.get(path[:depth])
            if not entries:
                continue
            at = bisect_right(entries, after, key=lambda entry: entry[0])
            if at < len(entries) and (best is None or entries[at][0] < best[0]):
                best = (*entries[at], depth)
        return best

    def why(self, path: Path) -> Note | None:
        """The note that tells why our value is there: its own, or that of the nearest part around it."""
        if path in self.by_new:
            return self.by_new[path]
        for depth in range(len(path) - 1, 0, -1):
            note = self.by_new.get(path[:depth])
            if note is not None and note.whole:
                return note
        return None


def _is_whole_spec(note: Note) -> bool:
    """An instance's spec became the template's: every line moved, and none changed by that."""
    return note.old == ("spec",) and note.new == SPEC


def rows_of(text: str, root: Node, written: list[Line], notes: list[Note], sizes: list[str]) -> list[Row]:
    history = _History(notes)
    on_line: dict[int, tuple[Path, Any]] = {}
    for path, line, value in lines(root):
        if path:
            on_line[line] = (path, value)  # the last on a line is the deepest: the key that stands there
    ours_at = {line.path: number for number, line in enumerate(written) if line.document == 0 and line.path}
    pairs: dict[int, int] = {}
    followed: dict[int, tuple[Path | None, Note | None]] = {}
    for number in sorted(on_line):
        followed[number] = history.follow(on_line[number][0])
        now = followed[number][0]
        if now is not None and now in ours_at:
            pairs[number] = ours_at.pop(now)
    beside, paired = _in_order(pairs), frozenset(pairs.values())
    rows: list[Row] = []
    done = 0
    for number in range(1, len(text.splitlines()) + 1):
        if number not in on_line:
            rows.append(Row("comment", number, None))
            continue
        end, note = followed[number]
        if number in beside:
            rows += [_ours_only(written, other, paired, history, sizes) for other in range(done, beside[number])]
            done = beside[number] + 1
            rows.append(_pair(number, written[beside[number]], beside[number], on_line[number][1], note, history))
        else:
            rows.append(_theirs_only(number, end or on_line[number][0], note, moved=number in pairs))
    rows += [_ours_only(written, other, paired, history, sizes) for other in range(done, len(written))]
    return rows


def _pair(number: int, line: Line, other: int, value: Any, note: Note | None, history: _History) -> Row:
    shown = line.path
    if _same(value, line.value):
        if note is None or _stayed(note):
            return Row("same", number, other + 1, shown)
        return Row("moved", number, other + 1, shown, note.reason, note.step.name)
    why = history.why(line.path) or note
    return Row("changed", number, other + 1, shown, why.reason if why else "", why.step.name if why else "")


def _stayed(note: Note) -> bool:
    """Whether only what it belongs to was changed: a disk or a network card got another name."""
    if note.old == note.new or note.old is None or note.new is None:
        return True
    return note.old[:-1] == note.new[:-1] and note.old[-1].startswith("[")


def _same(theirs: Any, ours: Any) -> bool:
    return type(theirs) is type(ours) and bool(theirs == ours)


def _theirs_only(number: int, path: Path, note: Note | None, *, moved: bool) -> Row:
    reason = note.reason if note else _ELSEWHERE if moved else ""
    kind: Kind = "moved" if moved else "removed"
    return Row(kind, number, None, path, reason, note.step.name if note else "")


def _ours_only(written: list[Line], number: int, paired: frozenset[int], history: _History, sizes: list[str]) -> Row:
    line = written[number]
    if not line.path:
        return Row("comment", None, number + 1)
    if line.document > 0:
        why_size = sizes[line.document - 1] if line.path[-1] == "storage" and isinstance(line.value, str) else ""
        return Row("added", None, number + 1, line.path, why_size or _STORAGE, TO_CLAIMS.name)
    why = history.why(line.path)
    moved = number in paired
    reason = why.reason if why else _ELSEWHERE if moved else ""
    kind: Kind = "moved" if moved else "added"
    return Row(kind, None, number + 1, line.path, reason, why.step.name if why else "")


def _in_order(pairs: dict[int, int]) -> dict[int, int]:
    """The most pairs that can stand beside each other without crossing (longest increasing subsequence)."""
    tails: list[int] = []
    tail_keys: list[int] = []
    before: dict[int, int | None] = {}
    for theirs in sorted(pairs):
        ours = pairs[theirs]
        at = bisect_left(tails, ours)
        before[theirs] = tail_keys[at - 1] if at else None
        tails[at : at + 1] = [ours]
        tail_keys[at : at + 1] = [theirs]
    result = {}
    current = tail_keys[-1] if tail_keys else None
    while current is not None:
        result[current] = pairs[current]
        current = before[current]
    return result
