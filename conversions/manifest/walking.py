"""The walk through an object that finds what a schema does not know or takes for another type.

The same walk goes through our own table (fields.py) and, where they are at hand, through KubeVirt's own OpenAPI documents,
which know each field down to the last.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from .fields import ANY, Q, S, Schema
from .quantities import quantity_value
from .reading import Node, Path, named


@dataclass(frozen=True)
class Fault:
    """What the walk found."""

    path: Path
    line: int
    what: str  #: unknown, type or missing
    text: str


@dataclass(frozen=True)
class Document:
    """An OpenAPI document as KubeVirt and CDI publish it (swagger 2.0: everything under "definitions")."""

    definitions: dict[str, Schema]
    root: str

    @property
    def schema(self) -> Schema:
        return self.definitions[self.root]


@cache
def openapi(folder: FilePath) -> dict[tuple[str, str], Document]:
    """KubeVirt's own schemas from kubevirt-openapi.json and cdi-openapi.json in a folder."""
    kubevirt = json.loads((folder / "kubevirt-openapi.json").read_text())["definitions"]
    cdi = json.loads((folder / "cdi-openapi.json").read_text())["definitions"]
    cdi["v2vweb.Claim"] = {"type": "object", "required": ["spec"], "properties": {
        "apiVersion": S, "kind": S, "status": ANY, "metadata": {"$ref": "#/definitions/v1.ObjectMeta"},
        "spec": {"$ref": "#/definitions/v1.PersistentVolumeClaimSpec"}}}  # fmt: skip
    return {
        ("kubevirt.io/v1", "VirtualMachine"): Document(kubevirt, "v1.VirtualMachine"),
        ("cdi.kubevirt.io/v1beta1", "DataVolume"): Document(cdi, "v1beta1.DataVolume"),
        ("v1", "PersistentVolumeClaim"): Document(cdi, "v2vweb.Claim"),
    }


def walk(schema: Schema, node: Node, path: Path = (), definitions: dict[str, Schema] | None = None) -> Iterator[Fault]:
    """Everything below a node that the schema does not know or takes for another type."""
    schema = _resolved(schema, definitions or {})
    kinds = schema.get("type")
    value = node.value
    if kinds is None and "properties" not in schema:
        return
    if not _fits(kinds, value):
        yield Fault(path, node.line, "type", f"{_name(path)} must be {_wanted(kinds)}, and is {_called(value)}.")
        return
    if isinstance(value, dict):
        yield from _walk_mapping(schema, node, path, definitions)
    elif isinstance(value, list):
        for name, member in zip(named(value), value, strict=True):
            yield from walk(schema.get("items", ANY), member, (*path, name), definitions)
    elif "enum" in schema and value not in schema["enum"]:
        yield Fault(path, node.line, "type", f"{_name(path)} must be one of {', '.join(map(str, schema['enum']))}.")


def _walk_mapping(schema: Schema, node: Node, path: Path, definitions: dict[str, Schema] | None) -> Iterator[Fault]:
    known: dict[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for key, child in node.value.items():
        if key in known:
            if child.value is None and key not in schema.get("required", ()):
                continue  # Kubernetes takes null for "not there"
            yield from walk(known[key], child, (*path, key), definitions)
        elif others is None:
            yield Fault((*path, key), child.line, "unknown", f"KubeVirt knows no field “{key}” in {_name(path)}.")
        elif isinstance(others, dict):
            yield from walk(others, child, (*path, key), definitions)
    for key in schema.get("required", ()):
        if key not in node.value:
            yield Fault(path, node.line, "missing", f"{_name(path)} lacks the field “{key}”.")


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/definitions/")
        if name.endswith("resource.Quantity"):
            return Q
        schema = definitions[name]
    if len(schema.get("allOf", ())) == 1:
        return _resolved(schema["allOf"][0], definitions)
    return schema


def _fits(kinds: Any, value: Any) -> bool:
    if isinstance(kinds, list):
        return any(_fits(kind, value) for kind in kinds)
    if isinstance(value, bool):
        return bool(kinds == "boolean")
    match kinds:
        case None | "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int)
        case "number":
            return isinstance(value, int | float)
        case "quantity":
            return quantity_value(value) is not None
        case "null":
            return value is None
        case _:
            return False


def _wanted(kinds: Any) -> str:
    words = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number", None: "a mapping",
             "boolean": "true or false", "number": "a number", "quantity": "an amount such as 2Gi", "null": "empty"}  # fmt: skip
    return " or ".join(words.get(kind, str(kind)) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _called(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (put it in quotes if it is meant as a text)"
    if isinstance(value, int | float):
        return f"the number {value} (put it in quotes if it is meant as a text)"
    return f"“{value[:40]}”"


def _name(path: Path) -> str:
    return dotted(path) or "the object"


def dotted(path: Path) -> str:
    """A path for people: spec.template.spec.volumes[disk-0].hostDisk"""
    return "".join(part if part.startswith("[") else f".{part}" for part in path).removeprefix(".")


def nodes(value: Any, line: int = 0) -> Node:
    """Plain values as nodes without lines, for the walk."""
    if isinstance(value, dict):
        return Node({key: nodes(child, line) for key, child in value.items()}, line)
    if isinstance(value, list):
        return Node([nodes(child, line) for child in value], line)
    return Node(value, line)
