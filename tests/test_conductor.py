"""The conductor: rows in the database, agents as real processes; killed with SIGKILL at exact instants."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils import timezone

from conversions import conductor as conductor_module
from conversions import intake, jobs
from conversions.conductor import LEASE, Conductor, max_running
from conversions.credentials import WrongKeyError
from conversions.events import EventWriter
from conversions.host.acceleration import Acceleration, Probe
from conversions.jobdir import Result
from conversions.models import Conversion, Event, Lease
from conversions.plan import Disk, Guest, Plan, Source
from conversions.plan import Output as PlanOutput
from conversions.runners import Alive, Dead, Ended, LocalRunner, Look, NotStarted, Runner
from conversions.states import State

from .fixtures_engine import PROJECT, until

DYING = PROJECT / "tests" / "conductor_that_dies.py"
MakeStandin = Callable[..., Path]


def a_plan(image: Path | str = "/images/guest.img", name: str = "web01") -> Plan:
    return Plan(
        name=name,
        source=Source(kind="disk", settings={"paths": [str(image)], "format": "raw"}),
        guest=Guest(disks=(Disk(name="guest.img", format="raw", size=2**21, allocated=0),)),
        output=PlanOutput(settings={"format": "raw", "allocation": "sparse"}),
    )


class RunnerStandin(Runner):
    """Stands in for a runner: remembers what it was asked and says what it is told to say."""

    def __init__(self, look: Look = NotStarted()) -> None:  # noqa: B008 (frozen)
        self.says = look
        self.started: list[int] = []
        self.stopped: list[int] = []

    def start(self, conversion: Conversion) -> None:
        self.started.append(conversion.pk)
        self.says = Alive()

    def look(self, conversion: Conversion) -> Look:
        return self.says

    def stop(self, conversion: Conversion) -> None:
        self.stopped.append(conversion.pk)

    def clear(self, conversion: Conversion) -> tuple[list[str], list[str]]:
        return ["half a disk"], ["the source, unchanged"]


class ProbeStandin(Probe):
    """Stands in for the measurement of the virtualisation."""

    def __init__(self, answer: Acceleration | None = Acceleration("tcg", "Emulation")) -> None:  # noqa: B008 (frozen)
        self.answer = answer

    def poll(self) -> Acceleration | None:
        return self.answer

    def stop(self) -> None:
        pass


@pytest.fixture
def queue(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Conversion]:
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path / "data")
    (tmp_path / "data").mkdir()

    def make(**fields: Any) -> Conversion:
        owner, _ = get_user_model().objects.get_or_create(username="ann")
        plan = a_plan()
        conversion: Conversion = Conversion.objects.create(
            name=plan.name, owner=owner, plan_json=plan.model_dump(mode="json"), **fields
        )
        return conversion

    return make


def fresh(conversion: Conversion) -> Conversion:
    return Conversion.objects.get(pk=conversion.pk)


def test_a_queued_conversion_is_claimed_and_started_once(queue: Callable[..., Conversion]) -> None:
    conversion, runner = queue(), RunnerStandin()
    leader = Conductor(runner, ProbeStandin())
    leader.tick()
    leader.tick()
    assert fresh(conversion).state == State.RUNNING
    assert fresh(conversion).started
    assert runner.started == [conversion.pk]
    job = conversion.jobdir.read_job()
    assert job.argv[0] == "virt-v2v"
    assert job.env["LIBGUESTFS_BACKEND_SETTINGS"] == "force_tcg"
    assert job.vet[0]["path"] == "/images/guest.img"


def test_those_without_a_place_say_what_they_wait_for(
    queue: Callable[..., Conversion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor_module, "max_running", lambda: 2)
    rows = [queue() for _ in range(4)]
    Conductor(RunnerStandin(), ProbeStandin()).tick()
    words = [fresh(row).waiting_for for row in rows]
    assert words == [
        "",
        "",
        "a free place: 2 of 2 are taken; next in the queue",
        "a free place: 2 of 2 are taken; 1 before it in the queue",
    ]


def test_nothing_starts_while_the_virtualisation_is_being_measured(queue: Callable[..., Conversion]) -> None:
    conversion, probe, runner = queue(), ProbeStandin(None), RunnerStandin()
    leader = Conductor(runner, probe)
    leader.tick()
    assert runner.started == []
    assert "virtualisation" in fresh(conversion).waiting_for
    probe.answer = Acceleration("kvm", "KVM")
    leader.tick()
    assert runner.started == [conversion.pk]


def test_secrets_become_files_for_the_owner_alone_without_a_newline(queue: Callable[..., Conversion]) -> None:
    conversion = queue(secrets={"luks-0": "hunter2"})
    Conductor(RunnerStandin(), ProbeStandin()).tick()
    file = conversion.jobdir.secrets / "luks-0"
    assert file.read_bytes() == b"hunter2"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "hunter2" not in conversion.jobdir.job.read_text()


def test_a_secret_cannot_name_a_file_elsewhere(queue: Callable[..., Conversion]) -> None:
    conversion = queue(secrets={"../../escaped": "x"})
    Conductor(RunnerStandin(), ProbeStandin()).tick()
    assert fresh(conversion).state == State.FAILED
    assert not list(settings.DATA_DIR.rglob("escaped"))


def test_a_conversion_that_cannot_be_started_fails_and_the_next_one_starts(
    queue: Callable[..., Conversion], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, runner = queue(), queue(), RunnerStandin()
    prepare = jobs.prepare

    def with_the_wrong_key(conversion: Conversion, env: Any) -> None:
        if conversion.pk == first.pk:
            raise WrongKeyError
        prepare(conversion, env)

    monkeypatch.setattr(jobs, "prepare", with_the_wrong_key)
    monkeypatch.setattr(conductor_module, "max_running", lambda: 2)
    Conductor(runner, ProbeStandin()).tick()
    error = fresh(first).error
    assert fresh(first).state == State.FAILED
    assert error is not None
    assert error["code"] == "wrong-key"
    assert runner.started == [second.pk]


def test_secrets_of_another_key_fail_their_conversion_and_no_other(queue: Callable[..., Conversion]) -> None:
    conversion, runner = queue(secrets={"luks-0": "x"}), RunnerStandin()
    settings.SECRETS_KEY_FILE.rename(settings.SECRETS_KEY_FILE.with_name("kept"))
    try:
        Conductor(runner, ProbeStandin()).tick()
    finally:
        settings.SECRETS_KEY_FILE.with_name("kept").rename(settings.SECRETS_KEY_FILE)
    assert Conversion.objects.defer("secrets").get(pk=conversion.pk).error["code"] == "wrong-key"
    assert runner.started == []


def running(queue: Callable[..., Conversion], **fields: Any) -> Conversion:
    conversion = queue(state=State.RUNNING, started=timezone.now(), **fields)
    conversion.jobdir.path.mkdir(parents=True)
    return conversion


def test_events_become_rows_and_progress_exactly_once(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    writer = EventWriter(conversion.jobdir.events)
    writer.write("phase", phase="copying")
    writer.write("fact", key="os", value="Debian GNU/Linux 12.15")
    writer.write("disk", disk=1, disks=1, size=2**21, bytes_total=2**21)
    writer.write("progress", disk=1, bytes_done=2**20, bytes_total=2**21, rate=1000)
    writer.write("strange", anything=[1])
    leaders = [Conductor(RunnerStandin(Alive()), ProbeStandin()) for _ in range(2)]
    for leader in leaders:
        leader.tick()
    row = fresh(conversion)
    assert row.phase == "copying"
    assert row.facts == {"os": "Debian GNU/Linux 12.15"}
    assert (row.progress["bytes_done"], row.progress["bytes_total"]) == (2**20, 2**21)
    assert list(row.events.values_list("type", flat=True)) == ["phase", "fact", "strange"]


def test_an_event_that_is_nonsense_stops_nothing(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    lines = [
        '{"type": "phase", "phase": "dancing"}',
        "[]",
        "{",
        '{"type": "progress", "at": 1}',
        '{"type": "fact", "key": 3}',
    ]
    conversion.jobdir.events.write_text("\n".join(lines) + '\n{"at": 1, "type": "phase", "phase": "copying"}\n{"half')
    Conductor(RunnerStandin(Alive()), ProbeStandin()).tick()
    assert fresh(conversion).phase == "copying"


def test_the_log_tells_when_virt_v2v_last_said_something(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    conversion.jobdir.log.write_text("hello\n")
    then = time.time() - 300
    os.utime(conversion.jobdir.log, (then, then))
    Conductor(RunnerStandin(Alive()), ProbeStandin()).tick()
    assert fresh(conversion).last_output.timestamp() == pytest.approx(then, abs=1)


RESULTS = {
    "succeeded": (
        Result("succeeded", 0, artifacts=[{"name": "web01-sda", "size": 1, "allocated": 0}]),
        State.SUCCEEDED,
    ),
    "failed": (Result("failed", 1, error={"code": "x", "title": "It failed", "text": "", "action": ""}), State.FAILED),
    "stopped by somebody else": (Result("cancelled"), State.LOST),
}


@pytest.mark.parametrize(("result", "state"), RESULTS.values(), ids=RESULTS)
def test_an_attempt_that_has_ended_moves_on(queue: Callable[..., Conversion], result: Result, state: State) -> None:
    conversion = running(queue)
    Conductor(RunnerStandin(Ended(result)), ProbeStandin()).tick()
    row = fresh(conversion)
    assert row.state == state
    assert row.ended
    assert row.artifacts == result.artifacts
    assert (row.error is None) == (state == State.SUCCEEDED)


def test_cancelling_asks_the_agent_and_waits_for_its_end(queue: Callable[..., Conversion]) -> None:
    conversion, runner = running(queue), RunnerStandin(Alive())
    leader = Conductor(runner, ProbeStandin())
    assert conversion.request_cancel("ann")
    leader.tick()
    assert runner.stopped == [conversion.pk]
    assert fresh(conversion).state == State.CANCELLING
    runner.says = Ended(Result("cancelled", removed=["half a disk"]))
    leader.tick()
    assert fresh(conversion).state == State.CANCELLED
    assert fresh(conversion).receipt["removed"] == ["half a disk"]


def test_a_cancel_in_the_moment_of_the_start_is_not_lost(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    conversion.state = State.QUEUED  # as somebody has just read it
    assert conversion.request_cancel("ann")
    assert conversion.state == fresh(conversion).state == State.CANCELLING


def test_a_cancel_that_came_too_late_is_a_success(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    conversion.request_cancel("ann")
    Conductor(RunnerStandin(Ended(RESULTS["succeeded"][0])), ProbeStandin()).tick()
    assert fresh(conversion).state == State.SUCCEEDED


def test_a_dead_agent_without_a_result_is_lost_with_a_way_on(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    Conductor(RunnerStandin(Dead()), ProbeStandin()).tick()
    row = fresh(conversion)
    assert row.state == State.LOST
    assert row.can_retry
    assert "Retry" in row.error["action"]
    assert row.receipt["removed"] == ["half a disk"]


def test_an_agent_that_ends_before_it_begins_is_tried_three_times(queue: Callable[..., Conversion]) -> None:
    conversion = queue()
    runner = LocalRunner([sys.executable, "-c", "raise SystemExit('no module named conversions')"])
    leader = Conductor(runner, ProbeStandin())
    until(lambda: leader.tick() is False, what="the end")
    row = fresh(conversion)
    assert row.state == State.FAILED
    assert "no module named conversions" in row.error["text"]


def test_a_broken_conversion_does_not_stop_the_others(
    queue: Callable[..., Conversion], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = running(queue), running(queue)
    runner = RunnerStandin(Ended(RESULTS["succeeded"][0]))

    def look(conversion: Conversion) -> Look:
        if conversion.pk == first.pk:
            raise RuntimeError("on purpose")
        return runner.says

    monkeypatch.setattr(runner, "look", look)
    Conductor(runner, ProbeStandin()).tick()
    assert fresh(first).state == State.RUNNING
    assert fresh(second).state == State.SUCCEEDED


def test_one_conductor_leads_and_another_takes_over_when_the_lease_runs_out(db: None) -> None:
    first, second = Conductor(RunnerStandin(), ProbeStandin()), Conductor(RunnerStandin(), ProbeStandin())
    assert first.lead()
    assert not second.lead()
    Lease.objects.filter(name=LEASE).update(expires=timezone.now() - timedelta(seconds=1))
    assert second.lead()
    first._renewed = 0  # its next renewal is due
    assert not first.lead()
    second.resign()
    assert first.lead()
    assert Lease.objects.get().about["max_running"] == max_running()


def test_how_many_run_at_once_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max_running() >= 1
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"max_running": 7}))
    assert max_running() == 7


# From here on real processes: conductors that are killed, with a database file of their own.


class Site:
    """An installation of its own: data folder, database, conductors."""

    def __init__(self, folder: Path, virt_v2v: Path) -> None:
        self.folder = folder
        self.env = os.environ | {
            "V2VWEB_DATA_DIR": str(folder),
            "V2VWEB_VIRT_V2V": str(virt_v2v),
            "V2VWEB_ACCELERATION": "tcg",
            "V2VWEB_MAX_RUNNING": "3",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "guest.img").write_bytes(b"")
        os.truncate(folder / "guest.img", 2**21)

    def manage(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, PROJECT / "manage.py", *arguments], env=self.env, check=True, capture_output=True
        )

    def queue(self, count: int) -> None:
        plan = a_plan(self.folder / "guest.img").model_dump_json()
        code = (
            "from django.contrib.auth.models import User; from conversions.models import Conversion; import json\n"
            "owner, _ = User.objects.get_or_create(username='ann')\n"
            f"plan = json.loads({plan!r})\n"
            f"for number in range({count}): Conversion.objects.create(name='web01', owner=owner, plan_json=plan)\n"
        )
        self.manage("shell", "-c", code)

    def conduct(self, instant: str = "never") -> "subprocess.Popen[bytes]":
        with (self.folder / "conduct.out").open("ab") as out:
            process = subprocess.Popen([sys.executable, DYING, instant], env=self.env, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "v2vweb.sqlite3", timeout=20) as connection:
            return connection.execute(statement).fetchall()

    def states(self) -> list[str]:
        return [state for (state,) in self.sql("SELECT state FROM conversions_conversion ORDER BY id")]

    def free_the_lease(self) -> None:
        """As if the time of the killed conductor's lease had passed."""
        self.sql("UPDATE conversions_lease SET expires = '2000-01-01 00:00:00'")

    def starts(self) -> int:
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        from conversions.agent import processes

        for job in self.folder.glob("jobs/*/*"):
            processes.end_marked(str(job))


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    env = os.environ | {"V2VWEB_DATA_DIR": str(folder)}
    subprocess.run([sys.executable, PROJECT / "manage.py", "migrate", "-v0"], env=env, check=True)
    with sqlite3.connect(folder / "v2vweb.sqlite3") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "v2vweb.sqlite3"


@pytest.fixture
def make_site(tmp_path: Path, empty_database: Path, make_standin: MakeStandin) -> Iterator[Callable[..., Site]]:
    sites = []

    def make(**script: Any) -> Site:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "v2vweb.sqlite3").write_bytes(empty_database.read_bytes())
        site = Site(folder, make_standin(calls=str(folder / "calls"), **script))
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


INSTANTS = [
    "between claim and preparation",
    "between preparation and start",
    "right after the start",
    "while events become rows",
    "between the end of the agent and the move",
    "right after the move",
]


@pytest.mark.parametrize("instant", INSTANTS)
def test_a_conductor_killed_at_this_instant_starts_nothing_twice_and_leaves_nothing_stuck(
    instant: str, make_site: Callable[..., Site]
) -> None:
    site = make_site(copy=0.1, hang=1)
    site.queue(1)
    killed = site.conduct(instant)
    assert killed.wait(30) == -signal.SIGKILL
    site.free_the_lease()
    site.conduct()
    until(lambda: site.states() == ["succeeded"], 40, "success")
    assert site.starts() == 1
    rows = site.sql("SELECT type, data FROM conversions_event ORDER BY id")
    phases = [json.loads(data)["phase"] for type, data in rows if type == "phase"]
    assert phases == ["checking", "opening", "inspecting", "converting", "copying", "finishing"]
    moves = [json.loads(data)["to"] for type, data in rows if type == "state"]
    assert moves == ["running", "succeeded"]


def test_an_agent_whose_conductor_was_killed_is_adopted_and_one_that_was_killed_too_is_lost(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(hang=6)
    site.queue(2)
    killed = site.conduct()
    until(lambda: site.starts() == 2, what="two starts")
    killed.kill()
    killed.wait()
    agent = json.loads((site.folder / "jobs/2/1/agent.json").read_text())["pid"]
    os.kill(agent, signal.SIGKILL)
    site.free_the_lease()
    site.conduct()
    until(lambda: site.states() == ["succeeded", "lost"], 40, "one success, one lost")
    assert site.starts() == 2
    assert not (site.folder / "jobs/2/1/tmp").exists()
    assert not (site.folder / "jobs/2/1/secrets").exists()
    assert not list(site.folder.glob("output/2-*/*"))


def test_two_conductors_at_once_start_everything_once(make_site: Callable[..., Site]) -> None:
    site = make_site(hang=0.5)
    site.queue(6)
    first, second = site.conduct(), site.conduct()
    until(lambda: site.starts() >= 1, what="a start")
    # Both for a while: neither holds a lease any more.
    for _ in range(10):
        site.free_the_lease()
        time.sleep(0.3)
    until(lambda: site.states() == ["succeeded"] * 6, 60, "six successes")
    assert site.starts() == 6
    assert first.poll() is None
    assert second.poll() is None


def test_killed_again_and_again_at_random_everything_is_done_once(make_site: Callable[..., Site]) -> None:
    site = make_site(hang=1)
    site.queue(6)
    chance = random.Random(7)
    for _ in range(5):
        conductor = site.conduct()
        time.sleep(chance.uniform(1.2, 3.0))
        conductor.kill()
        conductor.wait()
        site.free_the_lease()
    site.conduct()
    until(lambda: site.states() == ["succeeded"] * 6, 60, "six successes")
    assert site.starts() == 6


def test_told_to_end_it_leaves_at_once_and_its_agents_go_on(make_site: Callable[..., Site]) -> None:
    site = make_site(hang=5)
    site.queue(1)
    conductor = site.conduct()
    until(lambda: site.starts() == 1, what="a start")
    began = time.monotonic()
    conductor.terminate()
    assert conductor.wait(10) == 0
    assert time.monotonic() - began < 3
    assert site.states() == ["running"]
    site.conduct()  # takes over at once: the first has given its lease back
    until(lambda: site.states() == ["succeeded"], 30, "success")
    assert site.starts() == 1


def test_a_cancelled_conversion_can_be_retried_and_keeps_the_log_of_both_attempts(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(hang=3)
    site.queue(1)
    site.conduct()
    until(lambda: site.starts() == 1, what="a start")
    cancel = "from conversions.models import Conversion; Conversion.objects.get().request_cancel('ann')"
    site.manage("shell", "-c", cancel)
    until(lambda: site.states() == ["cancelled"], 30, "the end")
    assert not list(site.folder.glob("output/*/*"))
    site.manage(
        "shell", "-c", "from conversions.models import Conversion; assert Conversion.objects.get().retry('ann')"
    )
    until(lambda: site.states() == ["succeeded"], 40, "success")
    assert site.starts() == 2
    assert (site.folder / "jobs/1/1/log").exists()
    assert (site.folder / "jobs/1/2/log").exists()
    assert sorted(path.name for path in site.folder.glob("output/*/*")) == ["web01-sda", "web01.yaml"]


def test_the_loop_goes_on_after_an_error_of_the_database(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, stop, rounds = Conductor(RunnerStandin(), ProbeStandin()), threading.Event(), []

    def lead() -> bool:
        rounds.append(1)
        if len(rounds) == 2:
            stop.set()
            return False
        raise RuntimeError("database is away")

    monkeypatch.setattr(leader, "lead", lead)
    leader.run(stop)
    assert len(rounds) == 2


def test_events_of_an_earlier_attempt_do_not_reach_the_next(queue: Callable[..., Conversion]) -> None:
    conversion = running(queue)
    EventWriter(conversion.jobdir.events).write("phase", phase="copying")
    old = fresh(conversion)
    conversion.move(State.LOST)
    assert conversion.retry("ann")
    conversion.move(State.RUNNING)
    intake.read(old)
    assert fresh(conversion).phase == ""
    assert not Event.objects.filter(type="phase").exists()
