"""An edited manifest: every mistake with its line, before it is taken."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from .. import names
from ..problems import Problem, RefusedError
from .fields import KINDS
from .machine import Machine, Mistake
from .quantities import quantity_value
from .reading import Node, UnreadableError, read
from .rules import RULES, claim_of
from .target import SUBDOMAIN
from .walking import dotted, nodes, openapi, walk

MOST_DOCUMENTS = 300


@dataclass(frozen=True)
class Expected:
    """What an edit must leave as it is."""

    name: str | None = None
    namespace: str | None = None  #: None: the file must not name one
    claims: tuple[str, ...] = ()  #: one for each converted disk


def check(text: str, expected: Expected = Expected(), schemas: FilePath | None = None) -> list[Mistake]:
    """All mistakes in a manifest, in the order of their lines.  `schemas`: a folder with KubeVirt's own OpenAPI documents."""
    try:
        documents = read(text, documents=MOST_DOCUMENTS)
    except UnreadableError as error:
        return [Mistake(error.line or 1, "", error.problem.code, error.problem.text)]
    return check_objects(documents, expected, schemas)


def check_plain(objects: list[dict[str, Any]], expected: Expected, schemas: FilePath | None = None) -> list[Mistake]:
    """The same for objects that were made here and are not text yet: lines are all 0."""
    return check_objects([nodes(value) for value in objects], expected, schemas)


def check_objects(documents: list[Node], expected: Expected, schemas: FilePath | None) -> list[Mistake]:
    mistakes: list[Mistake] = []
    machines: list[Machine] = []
    claims: dict[str, Node] = {}
    for document in documents:
        kind = _kind(document)
        if kind not in KINDS:
            mistakes.append(_unknown_kind(document))
            continue
        faults = list(_faults(document, kind, schemas))
        mistakes += faults
        mistakes += _metadata(document, expected)
        if kind[1] == "VirtualMachine":
            machines.append(Machine(document))
            if not any(fault.code in ("type", "missing") for fault in faults):
                mistakes += [mistake for rule in RULES for mistake in rule(machines[-1])]
        else:
            mistakes += _claim(document, claims)
    if len(machines) != 1:
        text = "There is no VirtualMachine in it." if not machines else "There is more than one VirtualMachine in it."
        mistakes.append(Mistake(machines[1].root.line if machines else 1, "", "one-machine", text))
    else:
        mistakes += _disks(machines[0], claims, expected)
    return sorted(mistakes, key=lambda mistake: mistake.line)


def checked(
    text: str, expected: Expected, accept: frozenset[str] = frozenset(), schemas: FilePath | None = None
) -> None:
    """Raises RefusedError for the first mistake that is not a question which was answered with its code in `accept`."""
    for mistake in check(text, expected, schemas):
        if mistake.asks and mistake.code in accept:
            continue
        raise RefusedError(
            Problem(
                mistake.code,
                "Please confirm this change" if mistake.asks else "The file has a mistake",
                f"Line {mistake.line}: {mistake.text}",
                "Confirm it, or put it back." if mistake.asks else "Mend that line.",
            ),
            field="manifest",
            status=409 if mistake.asks else 422,
        )


def _kind(document: Node) -> tuple[str, str]:
    version, kind = document.get("apiVersion"), document.get("kind")
    return str(version.value if version else ""), str(kind.value if kind else "")


def _unknown_kind(document: Node) -> Mistake:
    version, kind = _kind(document)
    node = document.get("kind") or document
    known = ", ".join(f"{name} ({group})" for group, name in KINDS)
    what = f"“{kind[:60]}” of “{version[:60]}”" if kind else "an object without a kind"
    return Mistake(node.line, "kind", "kind-not-allowed", f"This is {what}. Only these can be in the file: {known}.")


def _faults(document: Node, kind: tuple[str, str], schemas: FilePath | None) -> Iterator[Mistake]:
    """Ours first; KubeVirt's own then finds what ours leaves to it, and the same faults are told once."""
    seen = set()
    for fault in walk(KINDS[kind], document):
        seen.add((fault.path, fault.what))
        yield Mistake(fault.line, dotted(fault.path), fault.what, fault.text)
    if schemas is None:
        return
    source = openapi(schemas)[kind]
    for fault in walk(source.schema, document, definitions=source.definitions):
        if (fault.path, fault.what) not in seen:
            yield Mistake(fault.line, dotted(fault.path), fault.what, fault.text)


def _metadata(document: Node, expected: Expected) -> Iterator[Mistake]:
    name, namespace = document.get("metadata", "name"), document.get("metadata", "namespace")
    is_machine = _kind(document)[1] == "VirtualMachine"
    if name is None or not isinstance(name.value, str):
        where = document.get("metadata") or document
        yield Mistake(where.line, "metadata.name", "name-missing", "The object needs a name: “name” below “metadata”.")
    elif is_machine and not names.is_valid(name.value):
        yield Mistake(
            name.line, "metadata.name", "name-not-allowed", f"“{name.value[:70]}” is not allowed. {names.RULE}"
        )
    elif not is_machine and not SUBDOMAIN.match(name.value):
        yield Mistake(
            name.line, "metadata.name", "name-not-allowed", "A claim's name has small letters, digits, dashes and dots."
        )
    elif is_machine and expected.name is not None and name.value != expected.name:
        yield Mistake(
            name.line, "metadata.name", "name-changed", f"The machine was to be named “{expected.name}”.", asks=True
        )
    if namespace is not None and namespace.value != expected.namespace:
        wanted = f"“{expected.namespace}”" if expected.namespace else "no namespace in the file"
        yield Mistake(
            namespace.line,
            "metadata.namespace",
            "other-namespace",
            f"Another namespace is named than was chosen ({wanted}).",
        )
    template = document.get("spec", "template", "metadata", "namespace")
    if template is not None and template.value != expected.namespace:
        yield Mistake(
            template.line,
            "spec.template.metadata.namespace",
            "other-namespace",
            "Another namespace is named than was chosen.",
        )


def _claim(document: Node, claims: dict[str, Node]) -> Iterator[Mistake]:
    name = document.get("metadata", "name")
    if name is not None and isinstance(name.value, str):
        if name.value in claims:
            yield Mistake(name.line, "metadata.name", "name-twice", f"There is another claim named “{name.value}”.")
        claims[name.value] = document
    body = "spec" if _kind(document)[1] == "PersistentVolumeClaim" else None
    spec = document.get("spec") if body else document.get("spec", "storage") or document.get("spec", "pvc")
    near: Node = spec or document
    for path in (("resources",), ("resources", "requests"), ("resources", "requests", "storage")):
        near = (spec.get(*path) if spec is not None else None) or near
    size = spec.get("resources", "requests", "storage") if spec is not None else None
    if size is None or not (quantity_value(size.value) or 0) > 0:
        yield Mistake(
            near.line,
            "spec.resources.requests.storage",
            "claim-size",
            "A claim must say how big it is: “storage” below “resources.requests”.",
        )
    if body and not document.get("spec", "accessModes"):
        where = document.get("spec") or document
        yield Mistake(
            where.line, "spec.accessModes", "claim-access", "A claim must have “accessModes”, such as [ReadWriteOnce]."
        )
    mode = spec.get("volumeMode") if spec is not None else None
    if mode is not None and mode.value not in ("Block", "Filesystem"):
        yield Mistake(mode.line, "spec.volumeMode", "claim-mode", "“volumeMode” must be Block or Filesystem.")


def _disks(machine: Machine, claims: dict[str, Node], expected: Expected) -> Iterator[Mistake]:
    used = {claim for volume in machine.volumes if (claim := claim_of(volume)) is not None}
    for claim in expected.claims:
        if claim not in used:
            path = ("spec", "template", "spec", "volumes")
            yield machine.mistake(
                path, "disk-removed", f"The converted disk “{claim}” is not used any more.", asks=True
            )
        elif claim not in claims:
            path = ("spec", "template", "spec", "volumes")
            yield machine.mistake(
                path,
                "claim-removed",
                f"The claim “{claim}” is not in the file any more: it must be in the cluster already.",
                asks=True,
            )
    for volume in machine.volumes:
        stranger = claim_of(volume)
        if stranger is not None and stranger not in claims and stranger not in expected.claims:
            yield volume.mistake(
                "claim-elsewhere",
                f"The claim “{stranger}” is not in the file: it must be in the cluster already.",
                asks=True,
            )
    for name, document in claims.items():
        if name not in used:
            yield Mistake(
                document.line, "metadata.name", "claim-unused", f"No disk uses the claim “{name}”.", asks=True
            )
