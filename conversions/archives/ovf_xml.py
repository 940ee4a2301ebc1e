"""The XML of an OVF: parsed without trust, and found by local names, as every program has namespaces of its own."""

import re
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ..problems import Problem, RefusedError
from .tar import printable

MAX_OVF = 4 * 1024 * 1024  #: bytes; real ones have some ten thousand
MAX_TEXT = 1000

#: rasd:ResourceType
CPU, MEMORY, IDE, SCSI, NIC, DISK, SATA = "3", "4", "5", "6", "10", "17", "20"


def envelope(data: bytes) -> Element:
    if len(data) > MAX_OVF:
        refuse("ovf-too-large", "The OVF is not plausible", f"It is larger than {MAX_OVF // 1024**2} MiB.")
    try:
        root: Element = ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        refuse("ovf-entities", "The OVF is not safe", "It defines XML entities, which can be used to read other files.")
    except (ParseError, ValueError, LookupError) as error:
        reason = printable(str(error))[:200]
        refuse("ovf-not-xml", "The OVF cannot be read", f"It is not well-formed XML: {reason}.")
    if tag_of(root) != "Envelope":
        refuse(
            "ovf-not-ovf",
            "The OVF cannot be read",
            f"It is XML, but of another kind: “{printable(tag_of(root)[:80])}”.",
        )
    return root


def refuse(code: str, title: str, text: str, action: str = "Export the virtual machine again.") -> NoReturn:
    raise RefusedError(Problem(code, title, text, action))


def tag_of(element: Element) -> str:
    """The local name."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Element, name: str) -> str | None:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value.strip()[:MAX_TEXT]
    return None


def text_of(element: Element | None) -> str | None:
    text = printable((element.text or "").strip()[:MAX_TEXT]) if element is not None else ""
    return text or None


def child_of(element: Element, name: str) -> Element | None:
    return next((e for e in element if tag_of(e) == name), None)


def section_of(element: Element) -> str:
    """ "Disk" for a DiskSection, or for a Section of the type DiskSection_Type (OVF 0.9, oVirt)."""
    name = tag_of(element)
    if name in ("Section", "Content"):
        name = (attribute(element, "type") or "").rpartition(":")[2].removesuffix("_Type")
    return name.removesuffix("Section")


class Item:
    """A piece of hardware: its texts by local name."""

    def __init__(self, element: Element) -> None:
        self.texts: dict[str, str] = {}
        for child in element:
            if text := text_of(child):
                self.texts.setdefault(tag_of(child), text)
        self.type = self.texts.get("ResourceType", "")

    def number(self, name: str) -> int | None:
        text = self.texts.get(name, "")
        return int(text) if re.fullmatch(r"\d{1,18}", text) else None


def unit_bytes(units: str | None) -> int | None:
    """Bytes of an allocation unit: "byte * 2^20", "MegaBytes", "GB", ...; None for one that is not understood."""
    text = re.sub(r"\s+", "", (units or "byte").lower())
    if power := re.fullmatch(r"bytes?(?:\*(2|10|1024|1000)\^(\d{1,2}))?", text):
        return int(int(power[1]) ** int(power[2])) if power[1] else 1
    if word := re.fullmatch(r"(k|kilo|m|mega|g|giga|t|tera)i?b(?:ytes?)?", text):
        return int(1024 ** ("kmgt".index(word[1][0]) + 1))
    return None
