"""Names of guests as KubeVirt takes them: the rule, the check, a valid name made from any text; and their order."""

import re
import unicodedata

from .problems import Problem, RefusedError

MAX_LENGTH = 63

#: The rule in words, shown beside the field.
RULE = (
    "Up to 63 characters: lower case letters a to z, digits and “-”, with a letter or a digit at both ends. "
    "For example web01 or mail-server-2."
)

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")

#: Letters that Unicode does not take apart into a plain letter and its accent.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ħ": "h", "ı": "i", "ŋ": "n"}
)


def is_valid(name: str) -> bool:
    """Whether a name is an RFC 1123 label, which is what KubeVirt wants for a VirtualMachine."""
    return _LABEL.fullmatch(name) is not None


def suggest(text: str) -> str:
    """A valid name that is as near to a text as can be: "Büro Server (alt)" -> "buro-server-alt"."""
    if is_valid(text):
        return text
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    ascii_only = plain.encode("ascii", "ignore").decode().lower()
    # Letters of other scripts leave nothing behind: a name made of what is left between them would mislead nobody.
    label = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:MAX_LENGTH].strip("-")
    return label or "guest"


def natural(name: str) -> str:
    """What names are sorted by, so that VM2 comes before VM10: each number with its count of digits before it."""
    return re.sub(r"0*([0-9]+)", lambda found: f"{len(found[1]):03}{found[1]}", name.casefold())


def check(name: object, field: str = "name") -> str:
    """The name, when it is valid; otherwise raises RefusedError with one that would be."""
    if isinstance(name, str) and is_valid(name):
        return name
    if not isinstance(name, str) or not name.strip():
        raise RefusedError(
            Problem("name-missing", "The new machine needs a name", f"No name was given. {RULE}", "Type a name."),
            field=field,
        )
    raise RefusedError(
        Problem(
            "name-not-allowed",
            "This name is not allowed",
            f"“{name[:80]}” cannot be the name of a machine in KubeVirt. {RULE}",
            f"Take “{suggest(name)}”, or type another name.",
        ),
        field=field,
    )
