"""From what somebody asked for to a frozen Plan and a Conversion: the one way in, for wizard, API and command line."""

from typing import Any

from .models import Conversion, Draft
from .plan import Plan

Secrets = dict[str, str]


def make_plan(
    *, name: str, source: dict[str, Any], options: dict[str, Any], output: dict[str, Any], user: Any
) -> tuple[Plan, Secrets]:
    """Validates through the forms of the kinds, looks at the source and freezes the plan.

    source {"kind": "disk", "paths": [...], "format": "" } or {"kind": "ova", "path": ...}; options {"root", "luks_keys": [...]};
    output {"kind": "files", "format": "raw"|"qcow2", "allocation": "sparse"|"preallocated"}.
    Raises RefusedError (with field) for whatever is wrong.
    """
    raise NotImplementedError


def create_conversion(plan: Plan, secrets: Secrets, owner: Any, draft: Draft | None = None) -> Conversion:
    """Queues a conversion.  With a draft: exactly once, whoever presses Start and however often; then the existing one is
    returned.  Raises RefusedError when the plan's space is not there."""
    raise NotImplementedError
