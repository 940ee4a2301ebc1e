"""Writing YAML that every reader takes for the same: plain block style, and each line knows which value it is.

Not PyYAML's dumper: it leaves "1e3" and the like without quotes, which Kubernetes then takes for a number, and it cannot
say on which line a value came out.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from .reading import Path, named

#: What no version of YAML takes for anything but a text.  All else stands in quotes.
_PLAIN = re.compile(r"(?:[A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+(?:Ki|Mi|Gi|Ti))\Z")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
#: What JSON leaves as it is and YAML does not take: delete, C1 controls, line separators, a byte order mark, surrogates.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what was written."""

    text: str
    document: int  #: which of the objects, from 0; -1 for comments
    path: Path  #: of the value that stands on it
    value: Any = None  #: that value; {} or [] when it goes on below


def scalar(value: Any) -> str:
    """A single value as YAML."""
    if isinstance(value, str):
        if _PLAIN.match(value) and value.lower() not in _RESERVED:
            return value
        return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def write(objects: list[dict[str, Any]], comments: tuple[str, ...] = ()) -> list[Line]:
    """The objects as YAML documents, with comments before the first."""
    lines = [Line(f"# {comment}", -1, ()) for comment in comments]
    for number, value in enumerate(objects):
        if number:
            lines.append(Line("---", number, ()))
        _mapping(lines, number, value, (), 0, first="")
    return lines


def text_of(lines: list[Line]) -> str:
    return "".join(f"{line.text}\n" for line in lines)


def _mapping(lines: list[Line], number: int, value: dict[str, Any], path: Path, indent: int, first: str) -> None:
    """`first` is what stands before the first key: the dash of a list's member."""
    before = first or " " * indent
    for key, child in value.items():
        _entry(lines, number, f"{before}{scalar(key)}:", child, (*path, key), indent)
        before = " " * indent


def _entry(lines: list[Line], number: int, start: str, value: Any, path: Path, indent: int) -> None:
    if isinstance(value, dict) and value:
        lines.append(Line(start, number, path, {}))
        _mapping(lines, number, value, path, indent + 2, first="")
    elif isinstance(value, list) and value:
        lines.append(Line(start, number, path, []))
        for name, member in zip(named(value), value, strict=True):
            dash = " " * indent + "- "
            if isinstance(member, dict) and member:
                _mapping(lines, number, member, (*path, name), indent + 2, first=dash)
            else:  # a list in a list has no place in any object that we write
                lines.append(Line(dash + _empty_or_scalar(member), number, (*path, name), member))
    else:
        lines.append(Line(f"{start} {_empty_or_scalar(value)}", number, path, value))


def _empty_or_scalar(value: Any) -> str:
    if isinstance(value, dict | list):
        if value:
            raise TypeError("a list in a list has no place in a manifest")
        return "{}" if isinstance(value, dict) else "[]"
    return scalar(value)
