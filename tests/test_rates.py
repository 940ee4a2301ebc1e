"""The time on the review page: from what earlier conversions took; a guess is called one."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Conversion, SavedSource
from conversions.plan import Disk, Guest, Plan, Source
from conversions.rates import GUESSED_BEFORE, GUESSED_RATE, pace
from conversions.states import State

pytestmark = pytest.mark.django_db

GB = 10**9
ONE = Plan(name="x", source=Source(kind="vcenter"), guest=Guest(disks=(Disk(name="d", size=10 * GB),)))


@pytest.fixture
def lab(alice: Any) -> SavedSource:
    return SavedSource.objects.create(kind="vcenter", name="Lab", owner=alice, host="h", port=443, user="u", secrets={})


@pytest.fixture
def ended(alice: Any) -> Any:
    """A conversion that took `before` seconds, and then `copying` seconds for its disks."""

    def make(
        source: SavedSource | None, *, size: int = 10 * GB, before: int = 60, copying: int = 100, **more: Any
    ) -> None:
        start = timezone.now() - timedelta(days=1)
        since = start + timedelta(seconds=before)
        fields = {
            "state": State.SUCCEEDED,
            "started": start,
            "ended": since + timedelta(seconds=copying),
            "progress": {"bytes_total": size, "bytes_done": size, "copying_since": since.timestamp()},
        }
        Conversion.objects.create(
            name="old", owner=alice, source=source, plan_json=ONE.model_dump(mode="json"), **fields | more
        )

    return make


def test_the_rate_of_this_source_and_what_comes_before_copying_are_measured_apart(lab: Any, ended: Any) -> None:
    ended(lab, copying=100, before=60)
    ended(lab, size=30 * GB, copying=300, before=80)
    ended(lab, copying=100, before=3000)  # it waited long for its shutdown
    found = pace(lab.pk, "vcenter")
    assert (found.rate, found.before, found.measured) == (pytest.approx(0.1 * GB), pytest.approx(80), 3)
    assert found.time([ONE, ONE]) == pytest.approx(timedelta(seconds=2 * (100 + 80)), abs=timedelta(seconds=1))
    assert found.words == "as measured in 3 earlier conversions from here"


def test_what_failed_or_was_never_copied_is_no_measure(lab: Any, ended: Any) -> None:
    ended(lab, state=State.FAILED)
    ended(lab, progress={})
    ended(lab, copying=-5)
    assert pace(lab.pk, "vcenter").of == "nothing"


def test_other_sources_are_a_guess_and_called_one(lab: Any, ended: Any) -> None:
    ended(None, copying=50)
    found = pace(lab.pk, "vcenter")
    assert found.of == "others" and found.rate == pytest.approx(0.2 * GB) and found.words.startswith("a guess")
    assert pace(None, "vcenter").of == "this source"  # the row's own kind, without a saved source


def test_a_new_server_guesses_and_says_with_what(lab: Any) -> None:
    found = pace(lab.pk, "vcenter")
    assert (found.rate, found.before) == (GUESSED_RATE, GUESSED_BEFORE)
    assert "a guess: nothing was measured" in found.words and "30 MB a second" in found.words


def test_an_unknown_size_gives_no_time(lab: Any) -> None:
    unknown = Plan(name="x", source=Source(kind="disk"), guest=Guest(disks=(Disk(name="d"),)))
    assert pace(lab.pk, "vcenter").time([ONE, unknown]) is None and pace(lab.pk, "vcenter").time([]) is None
