"""Bytes of all disks, and an estimate that is only given when it is honest."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conversions.eta import fold

GIB = 2**30


def copy(at: float, done: int, rate: int, *, disk: int = 1, total: int = 10 * GIB) -> dict[str, Any]:
    return {"at": at, "type": "progress", "disk": disk, "bytes_done": done, "bytes_total": total, "rate": rate}


def begin(at: float, disk: int = 1, disks: int = 1, size: int = 10 * GIB) -> dict[str, Any]:
    return {"at": at, "type": "disk", "disk": disk, "disks": disks, "size": size, "bytes_total": size}


def test_no_estimate_before_half_a_minute_and_two_percent() -> None:
    progress = fold({}, begin(0), [10 * GIB])
    assert fold(progress, copy(29, GIB, GIB // 29), [10 * GIB])["eta"] is None
    assert fold(progress, copy(31, GIB // 10, GIB // 310), [10 * GIB])["eta"] is None
    assert fold(progress, copy(31, GIB, GIB // 31), [10 * GIB])["eta"] is not None


def test_a_steady_copy_has_a_narrow_range_around_the_truth() -> None:
    progress = fold({}, begin(0), [])
    low, high = fold(progress, copy(100, 5 * GIB, 5 * GIB // 100), [])["eta"]
    assert low <= 100 <= high
    assert high - low < 30


def test_a_copy_that_has_slowed_down_has_a_wide_range() -> None:
    progress = fold({}, begin(0), [])
    low, high = fold(progress, copy(100, 5 * GIB, 5 * GIB // 1000), [])["eta"]
    assert low < 100
    assert high >= 1000


def test_a_stalled_copy_has_no_estimate() -> None:
    assert fold(fold({}, begin(0), []), copy(100, GIB, 0), [])["eta"] is None


def test_disks_that_are_still_to_come_count_by_their_planned_size() -> None:
    progress = fold({}, begin(0, 1, 2), [10 * GIB, 30 * GIB])
    assert progress["bytes_total"] == 40 * GIB
    progress = fold(progress, copy(50, 10 * GIB, GIB), [10 * GIB, 30 * GIB])
    progress = fold(progress, begin(51, 2, 2, 30 * GIB), [10 * GIB, 30 * GIB])
    progress = fold(progress, copy(60, 2 * GIB, GIB, disk=2, total=30 * GIB), [10 * GIB, 30 * GIB])
    assert (progress["bytes_done"], progress["bytes_total"]) == (12 * GIB, 40 * GIB)
    assert [disk["rate"] for disk in progress["disks"]] == [0, GIB]


def test_a_size_nobody_knows_gives_no_total_and_no_estimate() -> None:
    progress = fold({}, begin(0, 1, 2), [])
    progress = fold(progress, copy(100, 5 * GIB, GIB), [])
    assert progress["bytes_total"] is None
    assert progress["eta"] is None


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**9)), max_size=20))
def test_low_is_never_above_high(samples: list[tuple[int, int]]) -> None:
    progress = fold({}, begin(0, size=10**12), [])
    for at, (done, rate) in enumerate(samples):
        progress = fold(progress, copy(at * 20, done, rate, total=10**12), [])
        if eta := progress["eta"]:
            assert all(a <= b for a, b in pairwise([0, *eta]))
