"""From an agent's progress events to Conversion.progress: bytes of all disks, rate, and an honest estimate.  Pure."""

from collections.abc import Sequence
from typing import Any

#: No estimate before both: the first seconds and percent of a copy say nothing about the rest of it.
_SECONDS, _SHARE = 30.0, 0.02


def fold(progress: dict[str, Any], event: dict[str, Any], planned: Sequence[int | None]) -> dict[str, Any]:
    """The progress after one more "disk" or "progress" event.  `planned`: the sizes the plan knows, in the disks' order.

    {"bytes_done", "bytes_total" (null while a disk's size is unknown), "rate", "eta" ([low, high] seconds or null),
    "copying_since" (epoch), "disks": [{"disk", "size", "bytes_done", "bytes_total", "rate"}]}
    """
    number = event.get("disk")
    if not isinstance(number, int):
        return progress
    disks = {disk["disk"]: disk for disk in progress.get("disks", [])}
    disk = disks.get(number, {"disk": number, "size": None, "bytes_done": 0, "bytes_total": None, "rate": 0})
    if event["type"] == "disk":
        disk = disk | {"size": event.get("size"), "bytes_total": event.get("bytes_total")}
    else:
        disk = disk | {key: event[key] for key in ("bytes_done", "bytes_total", "rate") if event.get(key) is not None}
    # One after the other: a disk that follows means that those before it are through.
    disks = {key: other | {"rate": 0} if key < number else other for key, other in disks.items()} | {number: disk}
    count = max([event.get("disks") or 0, progress.get("count") or 0, len(planned), *disks])
    totals = [
        disks[index]["bytes_total"] if index in disks else (planned[index - 1] if index <= len(planned) else None)
        for index in range(1, count + 1)
    ]
    new = {
        "bytes_done": sum(disk["bytes_done"] for disk in disks.values()),
        "bytes_total": None if None in totals else sum(total for total in totals if total is not None),
        "rate": disk["rate"],
        "count": count,
        "copying_since": progress.get("copying_since", event["at"]),
        "disks": [disks[key] for key in sorted(disks)],
    }
    return new | {"eta": estimate(new, event["at"])}


def estimate(progress: dict[str, Any], now: float) -> list[int] | None:
    """Seconds left as [low, high]; None as long as a number would be a guess."""
    done, total, rate = progress["bytes_done"], progress["bytes_total"], progress["rate"]
    elapsed = now - progress["copying_since"]
    if not total or not done or not rate or elapsed < _SECONDS or done < total * _SHARE:
        return None
    # The last half minute and the whole copy so far: the truth has been between them or near them.
    rates = (rate, done / elapsed)
    left = max(0, total - done)
    return [int(left / max(rates) * 0.9), int(left / min(rates) * 1.1) + 1]
