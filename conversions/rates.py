"""How long conversions take: from what earlier ones took, of the same source if there are any."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Literal

from .models import Conversion
from .plan import Plan
from .states import State

LOOKED_AT = 50  #: the last ones that succeeded

#: Where nothing was ever measured: a slow network's rate, and what opening and converting a small guest takes.
GUESSED_RATE, GUESSED_BEFORE = 30e6, 180.0


@dataclass(frozen=True)
class Pace:
    """Bytes of disk a second while disks are copied, and the seconds that a guest takes before that."""

    rate: float
    before: float
    measured: int  #: how many conversions this comes from; 0: a guess
    of: Literal["this source", "others", "nothing"]

    def time(self, plans: Iterable[Plan]) -> timedelta | None:
        """For these, one after the other; None when the size of one is not known."""
        sizes = [plan.guest.virtual_size for plan in plans]
        known = [size for size in sizes if size is not None]
        if not known or len(known) < len(sizes):
            return None
        return timedelta(seconds=sum(known) / self.rate + self.before * len(known))

    @property
    def words(self) -> str:
        """What the time comes from, for people."""
        some = "an earlier conversion" if self.measured == 1 else f"{self.measured} earlier conversions"
        if self.of == "this source":
            return f"as measured in {some} from here"
        if self.of == "others":
            return f"a guess: nothing was moved from here yet, but {some} from elsewhere went like this"
        return (
            f"a guess: nothing was measured on this server yet, so it counts with {GUESSED_RATE / 1e6:.0f} MB a second"
        )


def pace(source_id: int | None, kind: str) -> Pace:
    """Of a saved source, or of a kind that has none; else of whatever there was; else a guess."""
    rows = Conversion.objects.filter(state=State.SUCCEEDED).defer("secrets").order_by("-id")
    # A kind is in the plan's JSON; the rows of a saved source are found without looking into it.
    mine = rows.filter(source_id=source_id) if source_id else rows.filter(source_id=None, plan_json__source__kind=kind)
    return (
        _of(mine[:LOOKED_AT], "this source")
        or _of(rows[:LOOKED_AT], "others")
        or Pace(GUESSED_RATE, GUESSED_BEFORE, 0, "nothing")
    )


def _of(rows: Iterable[Conversion], of: Literal["this source", "others"]) -> Pace | None:
    copied = seconds = 0.0
    before: list[float] = []
    for row in rows:
        told = row.progress or {}
        since, size = told.get("copying_since"), told.get("bytes_total")
        if not (since and size and row.started and row.ended and row.started.timestamp() <= since):
            continue
        if (took := row.ended.timestamp() - since) > 0:
            copied, seconds = copied + size, seconds + took
            before.append(since - row.started.timestamp())
    return Pace(copied / seconds, median(before), len(before), of) if copied else None
