"""Makes our manifest from virt-v2v's file: both, the difference, and what a person should know before using ours."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..plan import Plan
from ..problems import Problem, RefusedError
from .checking import Expected, check_plain
from .claims import DiskFile, claim_names, size_reason
from .difference import Kind, Row, rows_of
from .filling import STEPS
from .hints import Said
from .reading import Node, read
from .target import Target
from .work import Origin, Work
from .writing import text_of, write

_COMMENTS = (
    "Made by v2vweb from the file that virt-v2v wrote. Each difference is explained on the page of the conversion.",
)


@dataclass(frozen=True)
class Change:
    """A row that is not the same, with both texts."""

    kind: Kind
    path: str
    line_theirs: int | None
    line_ours: int | None
    text_theirs: str | None
    text_ours: str | None
    reason: str
    repair: str


@dataclass(frozen=True)
class Views:
    theirs: str
    ours: str
    rows: tuple[Row, ...]
    concerns: tuple[Problem, ...]  #: what a person should know before using it
    objects: tuple[dict[str, Any], ...]  #: ours, not as text: the machine, then its claims
    claims: tuple[str, ...]  #: the claims' names in the order of the disks

    @property
    def changes(self) -> list[Change]:
        """What is not the same, line by line."""
        theirs, ours = self.theirs.splitlines(), self.ours.splitlines()
        return [
            Change(
                row.kind,
                row.path,
                row.theirs,
                row.ours,
                theirs[row.theirs - 1] if row.theirs else None,
                ours[row.ours - 1] if row.ours else None,
                row.reason,
                row.repair,
            )
            for row in self.rows
            if row.kind not in ("same", "comment")
        ]

    @property
    def groups(self) -> list[tuple[str, list[Change]]]:
        """The changes in their order, those that follow each other for the same reason together: (reason, changes)."""
        return [(reason, list(changes)) for reason, changes in groupby(self.changes, key=lambda change: change.reason)]

    @property
    def machine(self) -> dict[str, Any]:
        return self.objects[0]


def three_views(
    virt_v2v: str | bytes,
    plan: Plan,
    target: Target,
    disks: tuple[DiskFile, ...],
    said: Said | None = None,
    origin: Origin | None = None,
) -> Views:
    """Makes our manifest from virt-v2v's.  Raises RefusedError when that cannot be done, with what is wrong.

    `disks` are what virt-v2v wrote (disk_files()), or for a prediction what it is going to write (predicted_disks()).
    """
    root = read(virt_v2v)[0]
    text = virt_v2v.decode() if isinstance(virt_v2v, bytes) else virt_v2v
    work = Work(
        vm=_machine(root), plan=plan, target=target, disks=disks, said=said or Said(), origin=origin or Origin()
    )
    work.run(STEPS)
    objects = [work.vm, *work.claims]
    _refuse_what_kubevirt_would(objects, plan, target)
    written = write(objects, _COMMENTS)
    return Views(
        theirs=text,
        ours=text_of(written),
        rows=tuple(rows_of(text, root, written, work.notes, [size_reason(disk, target.storage) for disk in disks])),
        concerns=tuple(work.concerns),
        objects=tuple(objects),
        claims=tuple(claim_names(plan.name, target.claims, len(disks))),
    )


def expected(views: Views, target: Target) -> Expected:
    """What an edit of our file must leave as it is."""
    return Expected(views.machine["metadata"]["name"], target.namespace, views.claims)


def _machine(root: Node) -> dict[str, Any]:
    vm = root.plain()
    kind = vm.get("kind") if isinstance(vm, dict) else None
    version = str(vm.get("apiVersion")) if isinstance(vm, dict) else ""
    if kind in ("VirtualMachine", "VirtualMachineInstance") and version.startswith("kubevirt.io/"):
        _lists_of_named_things(root)
        machine: dict[str, Any] = vm
        return machine
    what = f"“{str(kind)[:60]}” of “{version[:60]}”" if kind else "no object of Kubernetes"
    raise RefusedError(
        Problem(
            "manifest-another-kind",
            "This is not the file of a virtual machine",
            f"Line {root.line}: virt-v2v's file should describe a VirtualMachine of kubevirt.io, and it is {what}.",
            "Look at the log of the conversion, and convert again.",
            "administrator",
        )
    )


def _lists_of_named_things(root: Node) -> None:
    """Disks, volumes, network cards and networks are known by their names, so each must have one."""
    spec = root.get("spec", "template", "spec") or root.get("spec")
    for path in (("domain", "devices", "disks"), ("domain", "devices", "interfaces"), ("volumes",), ("networks",)):
        found = spec.get(*path) if spec is not None else None
        if found is None or found.value in (None, []):
            continue
        members = found.value if isinstance(found.value, list) else [found]
        for member in members:
            name = member.get("name")
            if name is None or not isinstance(name.value, str):
                raise RefusedError(
                    Problem(
                        "manifest-not-understood",
                        "virt-v2v's file is not understood",
                        f"Line {member.line}: “{path[-1]}” should be a list of things with a name each.",
                        "Look at the log of the conversion, and convert again.",
                        "administrator",
                    )
                )


def _refuse_what_kubevirt_would(objects: list[dict[str, Any]], plan: Plan, target: Target) -> None:
    name = objects[0]["metadata"].get("name")
    # All claims are made alike here, so one tells for all.
    for mistake in check_plain(objects[:2], Expected(name, target.namespace), None):
        if not mistake.asks:
            raise RefusedError(
                Problem(
                    "manifest-refused",
                    "No machine that KubeVirt takes can be made of this",
                    f"{mistake.path}: {mistake.text}",
                    "Change the settings of the target, or take virt-v2v's file and edit it by hand.",
                    "administrator",
                )
            )
