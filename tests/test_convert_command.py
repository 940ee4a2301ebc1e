"""manage.py convert: the API's arguments on a command line, the log in the terminal, an exit code that tells."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from conversions import terminal
from conversions.address_form import wish
from conversions.management.commands import convert
from conversions.models import Conversion, Lease
from conversions.plan import Plan, Source
from conversions.problems import Problem, RefusedError
from conversions.states import State
from conversions.terminal import Screen
from tests.fixtures_images import linux_disk

PROJECT = Path(__file__).resolve().parent.parent


def run(*args: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    out, err = StringIO(), StringIO()
    try:
        call_command("convert", *args, stdout=out, stderr=err)
    except CommandError as error:
        return error.returncode, out.getvalue(), str(error)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


@pytest.fixture
def conductor(db: None) -> Lease:
    """A live lease: somebody conducts."""
    about = {"host": "here", "pid": 1}
    return Lease.objects.create(
        name="conductor", holder="here:1", expires=timezone.now() + timedelta(hours=1), about=about
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> list[dict[str, Any]]:
    """What make_plan() was asked for.  Stands in for the look at real disks."""
    requests: list[dict[str, Any]] = []

    def make_plan_stand_in(**request: Any) -> tuple[Plan, dict[str, str]]:
        requests.append(request)
        return Plan(name=request["name"], source=Source(kind=request["source"]["kind"])), {}

    def create_stand_in(plan: Plan, secrets: dict[str, str], owner: Any) -> Conversion:
        return Conversion.objects.create(name=plan.name, owner=owner, plan_json=plan.model_dump(mode="json"))

    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setattr(convert, "make_plan", make_plan_stand_in)
    monkeypatch.setattr(convert, "create_conversion", create_stand_in)
    return requests


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Conversion], Iterator[Any]]], None]:
    """story(tell): each time the command waits, tell() goes on to its next yield, as agent and conductor would."""

    def set_story(tell: Callable[[Conversion], Iterator[Any]]) -> None:
        steps: list[Iterator[Any]] = []

        def sleep(seconds: float) -> None:
            if not steps:
                row = Conversion.objects.defer("secrets").get()
                row.jobdir.path.mkdir(parents=True)
                steps.append(tell(row))
            next(steps[0])

        monkeypatch.setattr(terminal, "ASK", 0.0)
        monkeypatch.setattr(terminal.time, "sleep", sleep)

    return set_story


def log(row: Conversion, text: bytes) -> None:
    with row.jobdir.log.open("ab") as file:
        file.write(text)


# -- before the start -------------------------------------------------------------------------------------------------


def test_without_a_conductor_it_says_so_and_starts_nothing(root_admin: Any, asked: list[Any]) -> None:
    code, _, error = run("--name", "web01", "/srv/web01.img")
    assert code == 2
    assert "No conductor is running" in error and "manage.py conduct" in error
    assert asked == [] and not Conversion.objects.exists()


def test_its_arguments_are_the_apis(root_admin: Any, conductor: Lease, asked: list[Any], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("open sesame \n")
    code, out, _ = run(
        "--name", "web01", "--kind", "disk", "/srv/a.img", "b.img", "--source-format", "raw", "--format", "qcow2",
        "--allocation", "preallocated", "--root", "/dev/sda2", "--luks-key-file", str(key), "--detach",
    )  # fmt: skip
    assert code == 0
    assert out.strip() == str(Conversion.objects.get().pk)
    assert asked[0].pop("user") == root_admin
    assert asked[0] == {
        "name": "web01",
        "source": {"kind": "disk", "paths": ["/srv/a.img", str(Path("b.img").absolute())], "format": "raw"},
        "options": {"root": "/dev/sda2", "luks_keys": ["open sesame "]},
        "output": {"kind": "files", "format": "qcow2", "allocation": "preallocated"},
    }


def test_clevis_and_addresses_are_the_apis_too(root_admin: Any, conductor: Lease, asked: list[Any]) -> None:
    run("--name", "web01", "/srv/a.img", "--detach", "--clevis")
    run("--name", "web01", "/srv/a.img", "--detach", "--clevis-device", "/dev/sda2", "--clevis-device", "/dev/sdb1")
    first, second = (request["options"] for request in asked)
    assert (first["clevis"], first["clevis_devices"]) == (True, [])
    assert (second["clevis"], second["clevis_devices"]) == (True, ["/dev/sda2", "/dev/sdb1"])
    card = "00:50:56:12:34:56"
    run(
        "--name", "web01", "/srv/a.img", "--detach",
        "--mac", f"{card}:ip:10.0.0.5,10.0.0.1,24,10.0.0.2,10.0.0.3", "--mac", f"{card}:ip:2001:db8::5,,64",
    )  # fmt: skip
    addresses = asked[2]["options"]["addresses"]
    assert addresses == [
        {"mac": card, "address": "10.0.0.5", "gateway": "10.0.0.1", "prefix": "24", "dns": ["10.0.0.2", "10.0.0.3"]},
        {"mac": card, "address": "2001:db8::5", "gateway": None, "prefix": "64", "dns": []},
    ]
    made = wish(addresses)["cards"][card]  # as the form takes them
    assert [one["prefix"] for one in made] == [24, 64]


@pytest.mark.parametrize("text", ["10.0.0.5", "00:50:56:12:34:56:10.0.0.5", "00:50:56:12:34:56:ip:", ""])
def test_an_address_that_is_not_understood_is_told_with_an_example(
    root_admin: Any, conductor: Lease, asked: list[Any], text: str
) -> None:
    code, _, error = run("--name", "web01", "/x", f"--mac={text}")
    assert code == 2 and "Write it as 00:50:56:12:34:56:ip:10.0.0.5" in error and not asked


def test_an_ova_is_one_file(root_admin: Any, conductor: Lease, asked: list[Any]) -> None:
    assert run("--name", "web01", "--kind", "ova", "/srv/a.ova", "--detach")[0] == 0
    assert asked[0]["source"] == {"kind": "ova", "path": "/srv/a.ova"}
    assert asked[0]["output"] == {"kind": "files"}
    code, _, error = run("--name", "web01", "--kind", "ova", "/srv/a.ova", "/srv/b.ova")
    assert (code, len(asked)) == (2, 1)
    assert "one PATH" in error


def test_a_refusal_is_told_with_what_helps(root_admin: Any, conductor: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(**request: Any) -> Any:
        raise RefusedError(Problem("empty", "The file is empty", "web01.img has no bytes.", "Copy it again."))

    monkeypatch.setattr(convert, "make_plan", refuses)
    assert run("--name", "web01", "/x") == (2, "", "The file is empty: web01.img has no bytes. Copy it again.")


def test_an_unknown_user_and_a_missing_key_file_are_told(root_admin: Any, conductor: Lease, asked: list[Any]) -> None:
    assert "no user “nobody”" in run("--name", "web01", "/x", "--user", "nobody")[2]
    code, _, error = run("--name", "web01", "/x", "--luks-key-file", "/none")
    assert code == 2 and "/none cannot be read" in error


def test_no_argument_takes_a_passphrase() -> None:
    parser = convert.Command().create_parser("manage.py", "convert")
    options = {option for action in parser._actions for option in action.option_strings}
    assert {option for option in options if "luks" in option or "pass" in option} == {"--luks-key-file"}


# -- following --------------------------------------------------------------------------------------------------------


def test_it_prints_the_log_as_it_grows_and_ends_with_the_results(
    root_admin: Any, conductor: Lease, asked: list[Any], story: Any
) -> None:
    def tell(row: Conversion) -> Iterator[None]:
        Conversion.objects.update(waiting_for="a free place")
        yield
        yield
        row.move(State.RUNNING)
        log(row, b"[   0.0] Opening the sour")
        yield
        log(row, "ce ünd\n".encode()[:5])
        yield
        log(row, "ce ünd\n".encode()[5:])
        artifacts = [{"name": "web01-sda", "size": 1 << 30, "allocated": 5}]
        row.move(State.SUCCEEDED, artifacts=artifacts)
        yield

    story(tell)
    code, out, err = run("--name", "web01", "/x")
    assert code == 0
    assert out.startswith("[   0.0] Opening the source ünd\n")
    assert "web01-sda  1.0 GiB" in out
    assert err.count("Waiting: a free place") == 1


@pytest.mark.parametrize(("state", "code"), [(State.FAILED, 1), (State.CANCELLED, 3), (State.LOST, 4)])
def test_its_exit_code_tells_how_it_ended(
    root_admin: Any, conductor: Lease, asked: list[Any], story: Any, state: State, code: int
) -> None:
    def tell(row: Conversion) -> Iterator[None]:
        Conversion.objects.update(state=State.CANCELLING)
        log(row, b"the last words\n")
        row.refresh_from_db(fields=["state"])
        error = Problem("x", "It broke", "This happened.", "Do that.").as_dict() if state != State.CANCELLED else None
        row.move(state, error=error)
        yield

    story(tell)
    ended, out, err = run("--name", "web01", "/x")
    assert ended == code
    assert out == "the last words\n"
    assert ("It broke\nThis happened.\nDo that." in err) == (state != State.CANCELLED)


def test_a_second_attempt_is_followed_from_its_beginning(
    root_admin: Any, conductor: Lease, asked: list[Any], story: Any
) -> None:
    def tell(row: Conversion) -> Iterator[None]:
        row.move(State.RUNNING)
        log(row, b"first attempt\n")
        yield
        row.refresh_from_db(fields=["state"])
        Conversion.objects.update(state=State.RUNNING, attempt=2)
        row.attempt = 2
        row.jobdir.path.mkdir()
        log(row, b"second\n")
        yield
        Conversion.objects.update(state=State.CANCELLED)
        yield

    story(tell)
    code, out, err = run("--name", "web01", "/x")
    assert (code, out) == (3, "first attempt\nsecond\n")
    assert "attempt 2" in err


def test_it_says_when_the_conductor_has_gone(
    root_admin: Any, conductor: Lease, asked: list[Any], story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "ORPHANED", 0.0)

    def tell(row: Conversion) -> Iterator[None]:
        Lease.objects.update(expires=timezone.now() - timedelta(seconds=1))
        yield
        yield
        yield
        Conversion.objects.update(state=State.CANCELLED)
        yield

    story(tell)
    assert run("--name", "web01", "/x")[2].count("No conductor is running") == 1


# -- the screen -------------------------------------------------------------------------------------------------------


def test_of_control_sequences_only_colours_reach_the_terminal() -> None:
    hostile = "\x1b[31mred\x1b[0m \x1b]52;c;cm0gLXJm\x07 \x1b[2J\x1b[6n \x9b31m \x00\x08\x7f\x1bc\r\n\tend"
    assert Screen().text(hostile.encode(), final=True) == ("\x1b[31mred\x1b[0m ]52;c;cm0gLXJm [2J[6n 31m c\r\n\tend")


def test_what_is_cut_in_two_comes_whole() -> None:
    data = "ü\x1b[1;31mrot\x1b[0m\x1b]0;title\x07".encode()
    for cut in range(len(data) + 1):
        screen = Screen()
        assert screen.text(data[:cut]) + screen.text(data[cut:], final=True) == "ü\x1b[1;31mrot\x1b[0m]0;title"


def test_bytes_that_are_no_text_do_not_end_it() -> None:
    screen = Screen()
    assert screen.text(b"\xff\xfe ok\xc3") + screen.text(b"", final=True) == "\ufffd\ufffd ok\ufffd"


# -- the whole thing, with processes ----------------------------------------------------------------------------------


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, environment: dict[str, str], *args: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "convert", *args],
            cwd=PROJECT, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.seen}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # the other side has closed
                    data = b""
                assert data, f"it ended without {text!r}:\n{self.seen}"
                self.seen += data.decode("utf-8", "replace")

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_ctrl_c_asks_whether_to_cancel_or_to_leave(make_site: Any, make_standin: Any) -> None:
    """With a stand-in for virt-v2v that hangs; web, conductor, agent and sandbox are the real ones."""
    site = make_site(V2VWEB_VIRT_V2V=str(make_standin(hang=300)))
    image = site.source_root / "web01.img"
    image.write_bytes(linux_disk())
    terminals = []
    try:
        terminals.append(Terminal(site.environment, "--name", "web01", str(image)))
        first = terminals[0]
        first.wait_for("Opening the source")
        first.interrupt()
        first.wait_for("go on watching")
        first.press("\n")
        time.sleep(0.5)
        assert first.process.poll() is None
        first.interrupt()
        first.press("l\n")
        first.wait_for("goes on without this terminal")
        assert first.process.wait(20) == 130
        assert site.manage("shell", "--no-imports", "-c", STATE).split() == ["running"]
        terminals.append(Terminal(site.environment, "--name", "web02", str(image)))
        second = terminals[1]
        second.wait_for("Conversion 2")
        second.interrupt()
        second.wait_for("go on watching")
        second.press("c\n")
        second.wait_for("The conversion is cancelled")
        assert second.process.wait(30) == 3
        assert site.manage("shell", "--no-imports", "-c", STATE).split() == ["cancelled", "running"]
    finally:
        for terminal in terminals:
            terminal.close()


STATE = "from conversions.models import Conversion; print(*Conversion.objects.values_list('state', flat=True))"
