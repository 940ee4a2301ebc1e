"""Amounts as Kubernetes writes them: "2Gi", "1500m", "1e3"."""

import re
from typing import Any

_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]+)?\Z")
_FACTORS: dict[str, float] = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
                              "P": 10**15, "E": 10**18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
                              "Pi": 2**50, "Ei": 2**60}  # fmt: skip


def quantity_value(value: Any) -> float | None:
    """The number that a quantity of Kubernetes means ("2Gi", "1500m", 1), or None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    found = _QUANTITY.match(value) if isinstance(value, str) and len(value) <= 64 else None
    if found is None:
        return None
    number, suffix = found[1], found[2] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        exponent = int(suffix[1:])
        return float(number) * 10.0**exponent if abs(exponent) <= 30 else None
    factor = _FACTORS.get(suffix, 1)
    if number.lstrip("+-").isdigit() and isinstance(factor, int):
        return int(number) * factor  # whole numbers stay exact
    return float(number) * factor


def quantity(size: int) -> str:
    """Bytes as Kubernetes writes them, rounded up to whole MiB."""
    mib = -(-size // 2**20)
    return f"{mib // 1024}Gi" if mib % 1024 == 0 and mib else f"{mib}Mi"
