"""Starts a conversion with the usual settings when an upload is ready, for somebody who has gone home meanwhile."""

from typing import Any

from .. import names
from ..models import Conversion, Upload
from ..planning import create_conversion, make_plan
from ..problems import Problem, RefusedError
from .uploaded import PREFIX


def start(upload: Upload) -> Conversion:
    """Raises RefusedError when a person must answer something first, or the conversion cannot be started."""
    is_disk = upload.verdict.get("kind") == "disk"
    named = f"{PREFIX}{upload.pk}"
    source: dict[str, Any] = {"kind": "disk", "paths": [named]} if is_disk else {"kind": "ova", "path": named}
    guest = upload.verdict.get("guest") or {}
    name = names.suggest(guest.get("name") or upload.name.rpartition(".")[0])
    plan, secrets = make_plan(name=name, source=source, options={}, output={}, user=upload.owner)
    if not is_disk and plan.guest.firmware is None:
        raise RefusedError(
            Problem(
                "firmware-unknown",
                "One question is open",
                "Neither the OVA nor its disks tell whether the guest starts with BIOS or UEFI.",
                "Choose the firmware below and press “Convert it”.",
            )
        )
    return create_conversion(plan, secrets, upload.owner)
