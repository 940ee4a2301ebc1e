"""The VirtualMachine while it is being made, and the notes that tell why each line is as it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..plan import Plan
from ..problems import Problem
from .claims import DiskFile
from .hints import Said
from .reading import Path
from .target import Target

SPEC: Path = ("spec", "template", "spec")
DOMAIN: Path = (*SPEC, "domain")


@dataclass(frozen=True)
class Origin:
    """Where an object came from, for its labels and annotations."""

    conversion: str | None = None
    virt_v2v: str | None = None  #: version
    v2vweb: str | None = None  #: version


@dataclass(frozen=True)
class Step:
    """A named repair or filling-in.  `reason` is one sentence, shown beside the lines that it changed."""

    name: str
    reason: str
    apply: Callable[["Work"], None]


@dataclass(frozen=True)
class Note:
    """One thing that a step did.  `old` was there before (at the time of the step), `new` is there after it."""

    step: Step
    old: Path | None
    new: Path | None
    reason: str
    whole: bool  #: all that is below is meant too
    number: int  #: the order in which things were done; what was done at once has one number


@dataclass
class Work:
    vm: dict[str, Any]
    plan: Plan
    target: Target
    disks: tuple[DiskFile, ...]
    said: Said = field(default_factory=Said)
    origin: Origin = field(default_factory=Origin)
    claims: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    concerns: list[Problem] = field(default_factory=list)
    step: Step | None = None

    def run(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            self.step = step
            step.apply(self)

    def note(self, old: Path | None = None, new: Path | None = None, detail: str = "", *, whole: bool = True) -> None:
        """Something was changed, dropped (only old), added (only new) or moved (both, and they differ)."""
        assert self.step is not None
        reason = f"{self.step.reason} {detail}" if detail else self.step.reason
        self.notes.append(Note(self.step, old, new, reason, whole, len(self.notes)))

    def note_moves(self, moves: list[tuple[Path, Path]]) -> None:
        """Several moves at once: none of them sees what another has done, so that two names can change places."""
        assert self.step is not None
        number = len(self.notes)
        self.notes += [Note(self.step, old, new, self.step.reason, True, number) for old, new in moves if old != new]

    def concern(self, code: str, title: str, text: str, action: str = "", whose: str = "you") -> None:
        self.concerns.append(Problem(code, title, text, action, whose))

    # Reading and writing the object.  Paths here have no lists in them.

    def get(self, *path: str) -> Any:
        value: Any = self.vm
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def mapping(self, *path: str) -> dict[str, Any]:
        """The mapping at a path, made when there is none.  An empty list or nothing counts as an empty mapping: old
        virt-v2v writes both for one."""
        value = self.vm
        for depth, key in enumerate(path):
            child = value.get(key)
            if not isinstance(child, dict):
                child = value[key] = {}
                self.note(new=path[: depth + 1], whole=False)
            value = child
        return value

    def set(self, path: Path, new: Any, detail: str = "") -> None:
        """Puts a value in its place and notes it, unless it is there already."""
        parent = self.mapping(*path[:-1])
        if path[-1] in parent and parent[path[-1]] == new and type(parent[path[-1]]) is type(new):
            return
        old = path if path[-1] in parent else None
        parent[path[-1]] = new
        self.note(old, path, detail)

    def drop(self, path: Path, detail: str = "") -> Any:
        """Takes a value away and notes it; gives it back."""
        parent = self.get(*path[:-1])
        if not isinstance(parent, dict) or path[-1] not in parent:
            return None
        self.note(path, None, detail)
        return parent.pop(path[-1])

    def move(self, old: Path, new: Path, detail: str = "") -> None:
        """Moves a value, to stand as near as can be to where it stood: a difference is easier to read then."""
        parent = self.get(*old[:-1])
        if not isinstance(parent, dict) or old[-1] not in parent:
            return
        shared = next(depth for depth in range(len(old)) if depth >= len(new) - 1 or old[depth] != new[depth])
        around, anchor, first = self.get(*old[:shared]), old[shared], new[shared]
        keys = list(around)
        if first not in keys:
            keys.insert(keys.index(anchor), first)
        value = parent.pop(old[-1])
        self.mapping(*new[:-1])[new[-1]] = value
        self.note(old, new, detail)
        in_order = {key: around[key] for key in keys if key in around}
        around.clear()
        around.update(in_order)

    def list_at(self, *path: str) -> list[Any]:
        """The list at a path, or a new one that is not yet part of the object."""
        value = self.get(*path)
        return value if isinstance(value, list) else []

    @cached_property
    def has_virtio(self) -> bool:
        """Whether the guest has virtio drivers: virt-v2v lists disks only then, or said so in its log.  Asked first before
        disks are changed, and then kept."""
        if self.said.virtio is not None:
            return self.said.virtio
        return any(
            isinstance(disk, dict) and isinstance(disk.get("disk"), dict) and disk["disk"].get("bus") == "virtio"
            for disk in self.list_at(*DOMAIN, "devices", "disks")
        )
