"""Reading YAML that somebody else wrote: small limits, no tricks, and each value knows its line.

Values are what Kubernetes' own reader (sigs.k8s.io/yaml) makes of them, not what PyYAML would: "52:54:00:12:34:56" is
a text (YAML 1.1 calls it a number in base 60), "no" is false.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ..problems import Problem, RefusedError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000

Path = tuple[str, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
_BASED = re.compile(r"([-+]?)0([xX][0-9a-fA-F]+|[oO]?[0-7]+|[bB][01]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
for _true, _false in (("true", "false"), ("yes", "no"), ("on", "off"), ("y", "n")):
    for _write in (str, str.capitalize, str.upper):
        _WORDS[_write(_true)], _WORDS[_write(_false)] = True, False


class UnreadableError(RefusedError):
    """The text is no YAML that we take; `line` is where, counted from 1, or None when it is about the whole."""

    def __init__(self, code: str, text: str, line: int | None = None, action: str = "") -> None:
        where = f"Line {line}: " if line else ""
        super().__init__(Problem(code, "The YAML cannot be read", where + text, action))
        self.line = line


@dataclass(slots=True)
class Node:
    """A value with its line (of its key, for a value of a mapping), counted from 1."""

    value: Any  #: dict of Nodes, list of Nodes, or str, int, float, bool, None
    line: int

    def plain(self) -> Any:
        """The value without lines."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, *path: str) -> "Node | None":
        """The node under these keys, or None."""
        node: Node | None = self
        for key in path:
            node = node.value.get(key) if node is not None and isinstance(node.value, dict) else None
        return node

    def items(self) -> "list[Node]":
        """The members when this is a list, else nothing."""
        return self.value if isinstance(self.value, list) else []


def read(text: str | bytes, *, documents: int = 1, max_bytes: int = MAX_BYTES) -> list[Node]:
    """The documents of a text, empty ones left out.  Raises UnreadableError with the line."""
    if len(text) > max_bytes:
        raise UnreadableError("yaml-too-big", f"There are {len(text)} bytes, and at most {max_bytes} are read.")
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            bad = error.object.count(b"\n", 0, error.start) + 1
            raise UnreadableError("yaml-not-text", "This is not UTF-8 text.", bad) from error
    try:
        found = _Reader(text, documents).documents()
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        line = min(mark.line, text.rstrip("\n").count("\n")) + 1 if mark else None
        raise UnreadableError(
            "yaml-syntax",
            f"This line, or one just before it, is not valid YAML ({what}).",
            line,
            "Check indentation and quotes.",
        ) from error
    except yaml.YAMLError as error:
        raise UnreadableError("yaml-not-text", "It holds a character that no text has.", _bad_line(text)) from error
    if not found:
        raise UnreadableError("yaml-empty", "There is nothing in it.")
    return found


def _bad_line(text: str) -> int | None:
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(r"[^\t\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", line):
            return number
    return None


class _Reader:
    """One pass over the parser's events, without recursion, so that depth is bounded by us and not by the stack."""

    def __init__(self, text: str, documents: int) -> None:
        self.events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        self.most = documents
        self.nodes = 0

    def documents(self) -> list[Node]:
        found: list[Node] = []
        started = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                mark: Any = event.start_mark
                started += 1
                if started > self.most:
                    most = "one document is" if self.most == 1 else f"{self.most} documents are"
                    raise UnreadableError("yaml-documents", f"Only {most} expected here.", mark.line + 1)
                node = self._document()
                if node.value is not None:
                    found.append(node)
        return found

    def _document(self) -> Node:
        root: Node | None = None
        open_nodes: list[Node] = []
        keys: list[tuple[str, int] | None] = []  # the key that waits for its value, for each open node
        for event in self.events:
            if isinstance(event, yaml.DocumentEndEvent):
                break
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                open_nodes.pop()
                keys.pop()
                continue
            node = self._node(event)
            if not open_nodes:
                root = node
            elif isinstance(open_nodes[-1].value, list):
                open_nodes[-1].value.append(node)
            elif (waiting := keys[-1]) is None:
                keys[-1] = self._key(event, node, open_nodes[-1].value)
                continue
            else:
                key, node.line = waiting
                open_nodes[-1].value[key] = node
                keys[-1] = None
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                open_nodes.append(node)
                keys.append(None)
                if len(open_nodes) > MAX_DEPTH:
                    raise UnreadableError("yaml-too-deep", f"It is nested deeper than {MAX_DEPTH} levels.", node.line)
        return root or Node(None, 1)

    def _node(self, event: Any) -> Node:
        line = event.start_mark.line + 1
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise UnreadableError("yaml-too-big", f"There are more than {MAX_NODES} values.", line)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            name = event.anchor
            raise UnreadableError("yaml-alias", f"Anchors and aliases (&{name}, *{name}) are not taken.", line,
                                  "Write the value out in each place.")  # fmt: skip
        if event.tag is not None:
            raise UnreadableError("yaml-tag", f"Tags ({event.tag[:40]}) are not taken.", line, "Leave the tag out.")
        if isinstance(event, yaml.MappingStartEvent):
            return Node({}, line)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node([], line)
        return Node(_scalar(event.value) if event.implicit[0] else event.value, line)

    def _key(self, event: Any, node: Node, mapping: dict[str, Node]) -> tuple[str, int]:
        if not isinstance(event, yaml.ScalarEvent):
            raise UnreadableError("yaml-key", "A key must be a word, not a list or a mapping.", node.line)
        key: str = event.value
        if key in mapping:
            raise UnreadableError("yaml-key-twice", f"“{key[:60]}” is written twice in one place.", node.line,
                                  "Remove one of them.")  # fmt: skip
        return key, node.line


def _scalar(text: str) -> Any:
    """What Kubernetes makes of a word without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    if len(text) > 64:  # no number that anybody writes, and int() of thousands of digits is slow
        return text
    if _INTEGER.match(text):
        return int(text.replace("_", ""))
    if based := _BASED.match(text):
        letter = based[2][0].lower()
        number = int(based[2].lstrip("xXoObB"), {"x": 16, "b": 2}.get(letter, 8))
        return -number if based[1] == "-" else number
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def named(items: list[Any]) -> list[str]:
    """How paths call the members of a list: by their name where they have one, as Kubernetes merges them, else by number."""
    seen: dict[str, int] = {}
    result = []
    for index, item in enumerate(items):
        value = item.value if isinstance(item, Node) else item
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, Node):
            name = name.value
        key = f"[{name}]" if isinstance(name, str) else f"[{index}]"
        seen[key] = seen.get(key, 0) + 1
        result.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
    return result


def lines(node: Node, path: Path = ()) -> Iterator[tuple[Path, int, Any]]:
    """Each value below a node with its path and its line; mappings and lists come as {} and [] before what is in them."""
    if isinstance(node.value, dict):
        yield path, node.line, {}
        for key, child in node.value.items():
            yield from lines(child, (*path, key))
    elif isinstance(node.value, list):
        yield path, node.line, []
        for key, child in zip(named(node.value), node.value, strict=True):
            yield from lines(child, (*path, key))
    else:
        yield path, node.line, node.value
