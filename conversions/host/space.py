"""Free space: what a conversion needs under the data directory, what is free, and what others will still take."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from ..models import Conversion
from ..outputs import get_output
from ..plan import Plan
from ..problems import Problem, RefusedError, size_words
from ..sources import get_source
from ..states import ACTIVE, State

#: virt-v2v's own overlay: "tens or low hundreds of megabytes per disk" (virt-v2v(1), "Disk space").
OVERLAY = 256 << 20
#: virt-v2v refuses to start with less than 1 GiB free in its temporary folder (2.2, v2v.ml).
RESERVE = 1 << 30


@dataclass(frozen=True)
class Need:
    """Bytes under the data directory."""

    disks: int  #: in the output folder; 0 when nobody knows
    overlay: int  #: what virt-v2v changes, until it is copied
    scratch: int  #: unpacking, as of a compressed OVA

    @property
    def total(self) -> int:
        return self.disks + self.overlay + self.scratch


def needed(plan: Plan) -> Need:
    return Need(
        disks=get_output(plan.output.kind).space_needed(plan) or 0,
        overlay=OVERLAY * max(1, len(plan.guest.disks)),
        scratch=get_source(plan.source.kind).scratch_needed(plan),
    )


def free(folder: Path | None = None) -> int:
    return shutil.disk_usage(folder or settings.DATA_DIR).free


def reserved() -> int:
    """Bytes that conversions which run or wait will still take."""
    # Without the secrets: one that cannot be read must not keep others from starting.
    rows = Conversion.objects.defer("secrets").filter(state__in=[*ACTIVE, State.QUEUED])
    return sum(max(0, needed(row.plan).total - _written(row.output_dir)) for row in rows.iterator())


def _written(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in entries)
    except OSError:
        return 0


def check(plan: Plan) -> None:
    """Raises RefusedError when a conversion would not fit beside those that run or wait."""
    need, others, there = needed(plan).total + RESERVE, reserved(), free()
    if need + others <= there:
        return
    promised = f" Conversions that run or wait will take {size_words(others)} of that." if others else ""
    raise RefusedError(
        Problem(
            "no-space",
            "There is not enough free space on this server",
            f"This conversion needs {size_words(need)} while it runs; {size_words(there)} are free.{promised}",
            "Remove results that nobody needs any more, choose sparse disks, or ask your administrator for more space.",
            "administrator",
        ),
        status=409,
    )
