"""What is done at a source before and after a conversion: looked at again, shut down, switched off, started again; and what
a conductor that was killed leaves to the next."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from conversions import conductor as conductor_module
from conversions.conductor import Conductor
from conversions.jobs import prepare
from conversions.models import Conversion, InventoryGuest, SavedSource, SourceWork
from conversions.plan import Guest, Plan, Source
from conversions.problems import Problem, RefusedError
from conversions.runners import NotStarted
from conversions.servers import power, restarts, source_work, trust, vsphere
from conversions.servers.inventory import GuestRecord
from conversions.servers.power_answers import Seen
from conversions.servers.source_work import SourceWorker
from conversions.states import State
from conversions.wording import state_sentence
from tests.fixtures_vsphere import Simulator
from tests.test_conductor import ProbeStandin, RunnerStandin

HOST_PATH = ["DC", "esx1"]


class PowerStandin:
    """Stands in for a source with one guest: what was asked of it, and how it answers."""

    def __init__(self) -> None:
        self.power, self.host_path = "on", tuple(HOST_PATH)
        self.calls: list[str] = []
        self.obeys = True  #: shuts down when it is asked to
        self.error: RefusedError | None = None

    def look(self, *args: Any) -> Seen:
        if self.error:
            raise self.error
        return Seen(self.power, self.host_path)

    def shut_down(self, *args: Any) -> None:
        self.calls.append("shut down")
        if self.obeys:
            self.power = "off"

    def switch_off(self, *args: Any) -> None:
        self.calls.append("switch off")
        self.power = "off"

    def switch_on(self, *args: Any) -> bool:
        if self.error:
            raise self.error
        if self.power == "on":
            return False
        self.calls.append("switch on")
        self.power = "on"
        return True


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> PowerStandin:
    standin = PowerStandin()
    for name in ("look", "shut_down", "switch_off", "switch_on"):
        monkeypatch.setattr(power, name, getattr(standin, name))
    monkeypatch.setattr(source_work, "PAUSE", 0.0)
    monkeypatch.setattr(restarts, "WATCH", 0.0)
    return standin


@pytest.fixture
def saved(alice: Any) -> SavedSource:
    return SavedSource.objects.create(
        kind="vcenter", name="Lab", owner=alice, host="vc", port=443, user="anna", secrets={"password": "pw"}
    )


@pytest.fixture
def make(saved: SavedSource, alice: Any) -> Callable[..., Conversion]:
    def conversion(state: State = State.RUNNING, **settings: Any) -> Conversion:
        about = {"source_id": saved.pk, "guest_id": "vm-1", "uuid": "u", "host_path": HOST_PATH} | settings
        plan = Plan(name="web", source=Source(kind="vcenter", settings=about), guest=Guest())
        return Conversion.objects.create(
            name="web", owner=alice, state=state, source=saved, plan_json=plan.model_dump(mode="json")
        )

    return conversion


def until_ready(conversion: Conversion, worker: SourceWorker | None = None, seconds: float = 10) -> SourceWorker:
    worker = worker or SourceWorker()
    end = time.monotonic() + seconds
    while not worker.ready(conversion):
        assert time.monotonic() < end, "it is never ready"
        time.sleep(0.01)
    return worker


def until(check: Callable[[], bool], worker: SourceWorker, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        worker.tick()
        time.sleep(0.01)


def refused(conversion: Conversion) -> str:
    with pytest.raises(RefusedError) as caught:
        until_ready(conversion)
    return caught.value.problem.code


def work(conversion: Conversion) -> SourceWork:
    return SourceWork.objects.get(conversion=conversion, attempt=conversion.attempt)


# -- before -----------------------------------------------------------------------------------------------------------


def test_a_conversion_of_a_file_asks_nobody(alice: Any, source: PowerStandin) -> None:
    plan = Plan(name="w", source=Source(kind="disk"))
    row = Conversion.objects.create(name="w", owner=alice, plan_json=plan.model_dump(mode="json"))
    assert SourceWorker().ready(row) and not SourceWork.objects.exists()


def test_a_guest_that_is_off_is_looked_at_and_left_alone(make: Callable[..., Conversion], source: PowerStandin) -> None:
    source.power = "off"
    conversion = make(shut_down=True, start_again=True)
    until_ready(conversion)
    assert source.calls == [] and work(conversion).restart == "" and conversion.told_at_source() == []


def test_a_guest_that_was_started_since_the_review_is_refused(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    assert refused(make()) == "guest-runs"
    assert source.calls == []


def test_it_asks_the_guest_and_waits_until_it_is_off(make: Callable[..., Conversion], source: PowerStandin) -> None:
    source.obeys = False
    conversion = make(shut_down=True)
    worker = SourceWorker()
    for _ in range(20):
        assert not worker.ready(conversion)
        time.sleep(0.01)
    assert source.calls == ["shut down"]
    conversion.refresh_from_db()
    assert "shut down" in conversion.waiting_for
    source.power = "off"
    until_ready(conversion, worker)
    conversion.refresh_from_db()
    assert conversion.waiting_for == "" and source.calls == ["shut down"]
    assert conversion.told_at_source() == ["The guest was asked to shut down.", "It has shut down."]


def test_the_plug_is_not_pulled_unless_somebody_said_so(make: Callable[..., Conversion], source: PowerStandin) -> None:
    source.obeys = False
    conversion = make(shut_down=True, shut_down_minutes=1)
    SourceWork.objects.create(conversion=conversion, attempt=1, asked=timezone.now() - timedelta(minutes=2))
    assert refused(conversion) == "did-not-shut-down"
    assert "switch off" not in source.calls


def test_the_plug_is_pulled_after_the_time_when_somebody_said_so(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    source.obeys = False
    conversion = make(shut_down=True, shut_down_minutes=1, power_off=True)
    SourceWork.objects.create(conversion=conversion, attempt=1, asked=timezone.now() - timedelta(minutes=2))
    until_ready(conversion)
    assert source.calls == ["switch off"] and "switched off hard" in conversion.told_at_source()[0]


def test_a_conductor_killed_while_the_guest_shuts_down_loses_and_doubles_nothing(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    source.obeys = False
    conversion = make(shut_down=True, start_again=True)
    first = SourceWorker()
    end = time.monotonic() + 5
    while not source.calls and time.monotonic() < end:
        first.ready(conversion)
        time.sleep(0.01)
    asked = work(conversion).asked
    assert asked and work(conversion).restart == "owed"  # written before it was done
    source.obeys = True
    until_ready(conversion)  # another conductor
    assert work(conversion).asked == asked, "the time begins anew"
    assert conversion.told_at_source().count("The guest was asked to shut down.") == 1


def test_a_short_silence_does_not_end_the_wait(make: Callable[..., Conversion], source: PowerStandin) -> None:
    source.obeys = False
    conversion = make(shut_down=True)
    SourceWork.objects.create(conversion=conversion, attempt=1, asked=timezone.now())
    source.error = RefusedError(Problem("session-ended", "t", "x"))
    worker = SourceWorker()
    for _ in range(10):
        assert not worker.ready(conversion)
        time.sleep(0.01)
    source.error, source.power = None, "off"
    until_ready(conversion, worker)


def test_a_cancel_while_it_waits_goes_to_the_agent_that_ends_at_once(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    source.obeys = False
    conversion = make(shut_down=True)
    worker = SourceWorker()
    for _ in range(5):
        worker.ready(conversion)
        time.sleep(0.01)
    conversion.state = State.CANCELLING
    until_ready(conversion, worker)


@pytest.mark.parametrize("code", ["certificate-changed", "host-key-changed"])
def test_another_certificate_at_the_start_blocks_the_source(
    make: Callable[..., Conversion], source: PowerStandin, saved: SavedSource, code: str
) -> None:
    source.error = RefusedError(Problem(code, "Changed", "It changed."))
    assert refused(make()) == code
    saved.refresh_from_db()
    assert saved.blocked["code"] == code


def test_the_cache_learns_that_the_guest_is_off(
    make: Callable[..., Conversion], source: PowerStandin, saved: SavedSource
) -> None:
    concern = {"id": "vmware.vm.powered_on", "severity": "critical", "title": "t", "text": "x"}
    record = GuestRecord(id="vm-1", name="web", power="on").as_dict()
    InventoryGuest.objects.create(
        source=saved, guest_id="vm-1", name="web", power="on", worst="critical", record=record, concerns=[concern]
    )
    until_ready(make(shut_down=True))
    row = saved.guests.get()
    assert (row.power, row.worst, row.concerns, row.record["power"]) == ("off", "", [], "off")


def test_a_guest_that_has_moved_is_converted_from_where_it_is(
    make: Callable[..., Conversion], source: PowerStandin, settings: Any, tmp_path: Any
) -> None:
    settings.DATA_DIR = tmp_path
    source.power, source.host_path = "off", ("DC", "esx2")
    about = {
        "host": "vc", "port": 443, "user": "anna", "transport": "https", "verify": True, "guest_name": "web", "by_uuid": False,
    }  # fmt: skip
    conversion = make(**about)
    until_ready(conversion)
    prepare(conversion, {})
    argv = conversion.jobdir.read_job().argv
    assert any("vc/DC/esx2" in arg for arg in argv) and "esx2" in conversion.told_at_source()[0]
    assert conversion.plan.source.settings["host_path"] == HOST_PATH  # the plan stays as it was reviewed


# -- after ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.LOST])
def test_it_is_started_again_when_the_conversion_did_not_succeed(
    make: Callable[..., Conversion], source: PowerStandin, state: State
) -> None:
    conversion = make(shut_down=True, start_again=True)
    worker = until_ready(conversion)
    worker.tick()
    assert "switch on" not in source.calls
    Conversion.objects.filter(pk=conversion.pk).update(state=state, receipt={"removed": ["x"], "kept": []})
    until(lambda: work(conversion).restart == "done", worker)
    worker.tick()
    conversion.refresh_from_db()
    assert source.calls == ["shut down", "switch on"]
    assert conversion.receipt["removed"] == ["x"] and "started again" in conversion.receipt["source"][-1]


@pytest.mark.parametrize(("state", "again"), [(State.SUCCEEDED, True), (State.FAILED, False)])
def test_it_stays_off_after_success_or_when_nobody_wants_it_back(
    make: Callable[..., Conversion], source: PowerStandin, state: State, again: bool
) -> None:
    conversion = make(shut_down=True, start_again=again)
    worker = until_ready(conversion)
    Conversion.objects.filter(pk=conversion.pk).update(state=state)
    for _ in range(5):
        worker.tick()
        time.sleep(0.01)
    assert source.calls == ["shut down"]


def test_a_restart_that_a_killed_conductor_left_is_done_by_the_next(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    conversion = make(shut_down=True, start_again=True)
    until_ready(conversion)
    Conversion.objects.filter(pk=conversion.pk).update(state=State.LOST)
    source.power = "on"  # it was started, and then the conductor was killed before it wrote so
    until(lambda: work(conversion).restart == "done", SourceWorker())
    assert source.calls == ["shut down"]


def test_a_retry_that_comes_first_takes_over_what_is_owed(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    conversion = make(shut_down=True, start_again=True)
    until_ready(conversion)
    conversion.move(State.FAILED)
    assert conversion.retry("alice") and conversion.move(State.RUNNING)
    worker = until_ready(conversion)
    assert work(conversion).restart == "owed" and SourceWork.objects.get(attempt=1).restart == ""
    conversion.move(State.FAILED)
    until(lambda: work(conversion).restart == "done", worker)
    assert source.calls == ["shut down", "switch on"]


def test_a_guest_that_cannot_be_started_again_is_told_to_people(
    make: Callable[..., Conversion], source: PowerStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "_PAUSE", 0.0)
    conversion = make(shut_down=True, start_again=True)
    worker = until_ready(conversion)
    Conversion.objects.filter(pk=conversion.pk).update(state=State.FAILED)
    source.error = RefusedError(Problem("source-refused", "t", "No licence."))
    until(lambda: work(conversion).restart == "failed", worker)
    conversion.refresh_from_db()
    assert "No licence. Please start it by hand." in conversion.receipt["source"][-1]


def test_one_that_is_cancelled_while_it_shuts_down_is_started_when_it_is_off(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    source.obeys = False
    conversion, worker = asked(make(State.QUEUED, shut_down=True, start_again=True))
    assert conversion.request_cancel("alice")
    assert conversion.receipt["source"] == ["The guest was asked to shut down."]
    for _ in range(20):
        worker.tick()
        time.sleep(0.01)
    assert source.calls == ["shut down"] and work(conversion).restart == "owed"
    conversion.refresh_from_db()
    assert [text for text in conversion.receipt["source"] if "as soon as it has" in text] == [restarts._WATCHED]
    source.power = "off"
    until(lambda: work(conversion).restart == "done", SourceWorker())  # another conductor
    assert source.calls == ["shut down", "switch on"]


def test_one_that_never_shuts_down_is_not_watched_for_ever_and_not_said_to_be_started(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    source.obeys = False
    conversion, worker = asked(make(State.QUEUED, shut_down=True, start_again=True, shut_down_minutes=1))
    conversion.request_cancel("alice")
    SourceWork.objects.update(asked=timezone.now() - timedelta(minutes=3))
    until(lambda: work(conversion).restart == "done", worker)
    conversion.refresh_from_db()
    assert source.calls == ["shut down"] and conversion.receipt["source"][-1] == "It has not shut down and still runs."


def asked(conversion: Conversion) -> tuple[Conversion, SourceWorker]:
    """The guest has been asked to shut down and has not yet."""
    worker, end = SourceWorker(), time.monotonic() + 10
    while not work_asked(conversion):
        assert time.monotonic() < end and not worker.ready(conversion)
        time.sleep(0.01)
    while worker._looks and not all(look.done() for look in worker._looks.values()):
        time.sleep(0.01)
    return conversion, worker


def test_what_was_cancelled_while_it_waited_is_forgotten_and_what_waits_is_not(
    make: Callable[..., Conversion], source: PowerStandin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_work, "PRUNE", 0.0)
    source.obeys = False
    conversion, worker = asked(make(State.QUEUED, shut_down=True))
    other = make(State.QUEUED, shut_down=True)
    worker.ready(other)
    conversion.request_cancel("alice")
    worker.tick()
    assert {*worker._looks, *worker._next, *worker._asked} == {(other.pk, 1)}


def test_a_guest_that_was_started_again_is_forgotten(make: Callable[..., Conversion], source: PowerStandin) -> None:
    source.power, source.error = "off", RefusedError(Problem("no-answer", "No answer", "Nobody there."))
    conversion, worker = make(State.FAILED, start_again=True), SourceWorker()
    owed = SourceWork.objects.create(conversion=conversion, attempt=1, asked=timezone.now(), restart="owed")
    kept = worker.restarts
    until(lambda: kept._tries == {owed.pk: 1}, worker)
    source.error = None
    kept._next.clear()
    until(lambda: work(conversion).restart == "done", worker)
    worker.tick()
    assert (kept._tries, kept._next, kept._going) == ({}, {}, {})


def work_asked(conversion: Conversion) -> bool:
    return SourceWork.objects.filter(conversion=conversion).exclude(asked=None).exists()


# -- beside the queue -------------------------------------------------------------------------------------------------


def rounds(conductor: Conductor, until: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        conductor.tick()
        time.sleep(0.01)


@pytest.fixture
def conductor(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Conductor:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(conductor_module, "max_running", lambda: 1)
    return Conductor(RunnerStandin(), ProbeStandin())


NETWORK = {"host": "vc", "port": 443, "user": "anna", "transport": "https", "verify": True, "by_uuid": False}


def test_a_guest_that_shuts_down_takes_no_place(
    make: Callable[..., Conversion], source: PowerStandin, conductor: Conductor, alice: Any
) -> None:
    source.obeys = False
    first = make(State.QUEUED, shut_down=True, shut_down_minutes=20, guest_name="web 01", **NETWORK)
    rounds(conductor, lambda: source.calls == ["shut down"])
    plan = Plan(name="other", source=Source(kind="disk", settings={"paths": ["/x"], "format": "raw"}))
    other = Conversion.objects.create(name="other", owner=alice, plan_json=plan.model_dump(mode="json"))
    rounds(conductor, lambda: Conversion.objects.get(pk=other.pk).state == State.RUNNING)  # the only place
    first.refresh_from_db()
    assert first.state == State.QUEUED and first.started is None
    assert first.waiting_for == "web 01 to shut down, for at most 20 minutes"
    assert state_sentence(first) == "Waiting for web 01 to shut down, for at most 20 minutes"
    source.power = "off"
    rounds(conductor, lambda: work(first).ready is not None)
    rounds(conductor, lambda: "only one" in Conversion.objects.get(pk=first.pk).waiting_for)
    Conversion.objects.filter(pk=other.pk).update(state=State.SUCCEEDED)
    conductor.runner.says = NotStarted()  # type: ignore[attr-defined]
    rounds(conductor, lambda: Conversion.objects.get(pk=first.pk).state == State.RUNNING)
    rounds(conductor, lambda: first.pk in conductor.runner.started)  # type: ignore[attr-defined]
    assert source.calls == ["shut down"]


def test_it_goes_on_under_another_conductor(
    make: Callable[..., Conversion], source: PowerStandin, conductor: Conductor
) -> None:
    source.obeys = False
    conversion = make(State.QUEUED, shut_down=True, guest_name="web", **NETWORK)
    rounds(conductor, lambda: source.calls == ["shut down"])
    when = work(conversion).asked
    next_one, end = Conductor(RunnerStandin(), ProbeStandin()), time.monotonic() + 0.3
    while time.monotonic() < end:
        next_one.tick()
    source.power = "off"
    rounds(next_one, lambda: conversion.pk in next_one.runner.started)  # type: ignore[attr-defined]
    assert work(conversion).asked == when
    assert conversion.told_at_source() == ["The guest was asked to shut down.", "It has shut down."]


def test_one_that_does_not_shut_down_fails_without_ever_having_had_a_place(
    make: Callable[..., Conversion], source: PowerStandin, conductor: Conductor
) -> None:
    source.obeys = False
    conversion = make(State.QUEUED, shut_down=True, shut_down_minutes=1, **NETWORK)
    SourceWork.objects.create(conversion=conversion, attempt=1, asked=timezone.now() - timedelta(minutes=2))
    rounds(conductor, lambda: Conversion.objects.get(pk=conversion.pk).state == State.FAILED)
    conversion.refresh_from_db()
    assert conversion.error and conversion.error["code"] == "did-not-shut-down" and conversion.started is None
    assert conversion.waiting_for == "" and source.calls == [] and conversion.can_retry


def test_one_that_is_started_while_it_waits_for_its_place_is_not_shut_down_again(
    make: Callable[..., Conversion], source: PowerStandin, conductor: Conductor
) -> None:
    conversion = make(State.QUEUED, shut_down=True, **NETWORK)
    SourceWork.objects.create(conversion=conversion, attempt=1, asked=timezone.now(), ready=timezone.now())
    rounds(conductor, lambda: Conversion.objects.get(pk=conversion.pk).state == State.FAILED)
    conversion.refresh_from_db()
    assert conversion.error and conversion.error["code"] == "guest-runs" and source.calls == []


def test_a_cancel_in_the_moment_before_asks_nothing_of_the_guest(
    make: Callable[..., Conversion], source: PowerStandin
) -> None:
    conversion, worker = make(State.QUEUED, shut_down=True, start_again=True), SourceWorker()
    worker.ready(conversion)  # the look is under way
    Conversion.objects.get(pk=conversion.pk).request_cancel("alice")
    for _ in range(10):  # of a conductor that has read the row before
        worker.ready(conversion)
        time.sleep(0.01)
    assert source.calls == [] and not work_asked(conversion)


def test_the_page_tells_what_it_waits_for_and_what_a_cancel_does(
    make: Callable[..., Conversion], source: PowerStandin, log_in: Callable[[Any], Any], alice: Any
) -> None:
    source.obeys = False
    conversion, _ = asked(make(State.QUEUED, shut_down=True, start_again=True, guest_name="<b>db"))
    client = log_in(alice)
    page = client.get(conversion.get_absolute_url()).content.decode()
    assert "&lt;b&gt;db is shutting down" in page and "takes no place" in page and "console" in page
    assert "If you cancel, it is started again." in page
    asks = client.get(reverse("conversion-cancel", args=[conversion.pk])).content.decode()
    assert "started again as soon as it is off" in asks
    done = client.post(reverse("conversion-cancel", args=[conversion.pk]), follow=True).content.decode()
    assert "it is started again at its source" in done and "The guest was asked to shut down." in done


# -- a vSphere --------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(alice: Any, vcenter: Simulator) -> SavedSource:
    found = trust.fetch_certificate(vcenter.host, vcenter.port)
    return SavedSource.objects.create(
        kind="vcenter", name="Lab vSphere", owner=alice, host=vcenter.host, port=vcenter.port, user=vcenter.user,
        secrets={"password": vcenter.password}, pin=found.pem, pin_sha256=found.sha256, pin_sha1=found.sha1,
    )  # fmt: skip


@pytest.fixture
def guest(real: SavedSource, vcenter: Simulator) -> Any:
    endpoint = vsphere.Endpoint(vcenter.host, vcenter.port, vcenter.user, pin=vcenter.certificate)
    guests = {guest.name: guest for guest in vsphere.list_guests(endpoint, vcenter.password)}
    found = guests["DC0_C0_RP0_VM1"]
    yield found
    power.switch_on(real, found.id, None)


def test_one_look_tells_power_and_the_same_place_as_the_inventory(real: SavedSource, guest: Any) -> None:
    seen = power.look(real, guest.id, None)
    assert seen.power == "on" and list(seen.host_path or ()) == guest.host_path


def test_a_real_one_is_shut_down_and_started_again(real: SavedSource, guest: Any, vcenter: Simulator) -> None:
    try:
        power.shut_down(real, guest.id, None)
    except RefusedError as error:  # the simulator's guests have tools that do not run, until somebody says so
        assert error.problem.code == "tools-needed"
        power.switch_off(real, guest.id, None)
    end = time.monotonic() + 10
    while power.look(real, guest.id, None).power != "off" and time.monotonic() < end:
        time.sleep(0.1)
    assert power.look(real, guest.id, None).power == "off"
    power.switch_on(real, guest.id, None)
    power.switch_on(real, guest.id, None)
    assert power.look(real, guest.id, None).power == "on"


def test_a_vspheres_guest_is_shut_down_beside_the_queue_and_started_again_after_a_cancel(
    real: SavedSource,
    guest: Any,
    conductor: Conductor,
    make: Callable[..., Conversion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conductor_module, "max_running", lambda: 0)  # no place is free
    about = {"source_id": real.pk, "guest_id": guest.id, "guest_name": guest.name, "host_path": guest.host_path}
    conversion = make(State.QUEUED, shut_down=True, start_again=True, **NETWORK | about)
    conductor.tick()
    assert power.look(real, guest.id, None).power == "on"  # nobody is shut down for nothing
    monkeypatch.setattr(conductor_module, "max_running", lambda: 1)
    rounds(conductor, work_asked_of(conversion), 30)
    monkeypatch.setattr(conductor_module, "max_running", lambda: 0)
    rounds(conductor, lambda: work(conversion).ready is not None, 30)
    conversion.refresh_from_db()
    assert conversion.state == State.QUEUED and power.look(real, guest.id, None).power == "off"
    assert conversion.request_cancel("alice")
    rounds(conductor, lambda: work(conversion).restart == "done", 30)
    assert power.look(real, guest.id, None).power == "on"


def work_asked_of(conversion: Conversion) -> Callable[[], bool]:
    return lambda: work_asked(conversion)


def test_a_guest_that_is_gone_says_so(real: SavedSource) -> None:
    with pytest.raises(RefusedError) as caught:
        power.look(real, "vm-99999", None)
    assert caught.value.problem.code == "guest-gone"


def test_a_changed_certificate_gets_no_password(real: SavedSource) -> None:
    real.pin_sha256 = "00:" * 31 + "00"
    with pytest.raises(RefusedError) as caught:
        power.look(real, "vm-1", None)
    assert caught.value.problem.code == "certificate-changed"
