"""The power switch of a guest of the lab's Xen host, through libvirt and SSH: libvirt's test driver stands in for Xen and
answers at once; what a guest does that takes its time is in test_source_work.py."""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conversions import conductor as conductor_module
from conversions import planning
from conversions.conductor import Conductor
from conversions.models import Conversion, SavedSource
from conversions.problems import RefusedError
from conversions.servers import power, refresh, restarts
from conversions.states import State
from tests.test_conductor import ProbeStandin, RunnerStandin

pytestmark = [pytest.mark.real, pytest.mark.django_db]


@pytest.fixture
def guest(saved_xen: SavedSource) -> Iterator[str]:
    refresh.refresh(saved_xen)
    found = saved_xen.guests.get().guest_id
    yield found
    power.switch_on(saved_xen, found, found)


def test_a_guest_of_xen_is_shut_down_and_started_again(saved_xen: SavedSource, guest: str) -> None:
    def seen() -> str:
        return power.look(saved_xen, guest, guest).power

    assert seen() == "on"
    power.shut_down(saved_xen, guest, guest)
    assert seen() == "off"
    power.shut_down(saved_xen, guest, guest)  # it went off by itself in the moment before
    power.switch_off(saved_xen, guest, guest)
    assert power.switch_on(saved_xen, guest, guest) and seen() == "on"
    assert not power.switch_on(saved_xen, guest, guest)
    power.switch_off(saved_xen, guest, guest)
    assert seen() == "off"


def test_a_guest_that_xen_does_not_know_any_more_says_so(saved_xen: SavedSource) -> None:
    with pytest.raises(RefusedError) as caught:
        power.look(saved_xen, "nobody", "00000000-0000-0000-0000-000000000001")
    assert caught.value.problem.code == "guest-gone"


def test_another_host_key_stops_it_before_anything_is_asked(saved_xen: SavedSource, guest: str) -> None:
    other = copy.copy(saved_xen)
    other.host_keys = [key | {"key": key["key"][:-8] + "AAAAAAAA"} for key in saved_xen.host_keys]
    for step in (power.look, power.shut_down, power.switch_off, power.switch_on):
        with pytest.raises(RefusedError) as caught:
            step(other, guest, guest)
        assert caught.value.problem.code == "host-key-changed"


def test_the_conductor_shuts_it_down_before_it_takes_a_place_and_starts_it_after_a_cancel(
    saved_xen: SavedSource, guest: str, alice: Any, settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(conductor_module, "max_running", lambda: 1)
    monkeypatch.setattr(restarts, "WATCH", 0.5)
    asked: list[str] = []
    virsh = power._virsh

    def spy(saved: SavedSource, command: str, *rest: Any, **more: Any) -> str:
        asked.append(command.split()[0])
        return virsh(saved, command, *rest, **more)

    monkeypatch.setattr(power, "_virsh", spy)
    source = {"kind": "xen", "source_id": saved_xen.pk, "guest": guest, "shut_down": True, "start_again": True}
    plan, own = planning.make_plan(
        name="moved", source=source, options={}, output={"kind": "files", "format": "raw"}, user=alice
    )
    conversion = planning.create_conversion(plan, own, alice)
    conductor = Conductor(RunnerStandin(), ProbeStandin())

    def until(done: Callable[[Conversion], bool]) -> None:
        end = time.monotonic() + 30
        while not done(Conversion.objects.get(pk=conversion.pk)):
            assert time.monotonic() < end, (asked, Conversion.objects.values())
            conductor.tick()
            time.sleep(0.05)

    until(lambda row: row.state == State.RUNNING)
    assert asked.count("shutdown") == 1 and power.look(saved_xen, guest, guest).power == "off"
    until(lambda row: row.pk in conductor.runner.started)  # type: ignore[attr-defined]
    conversion.refresh_from_db()
    assert conversion.request_cancel("alice")
    Conversion.objects.filter(pk=conversion.pk).update(state=State.CANCELLED)  # as the agent's end does
    until(lambda row: "started again" in str(row.receipt.get("source")))
    assert power.look(saved_xen, guest, guest).power == "on"
    assert "destroy" not in asked
