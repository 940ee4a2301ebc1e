"""Whether KVM works is measured once, with a limit, without holding anybody up."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversions.host.acceleration import Acceleration, Probe

from .fixtures_engine import until


@pytest.fixture
def make_probe(tmp_path: Path) -> Callable[..., Probe]:
    """A probe whose guestfish is a stand-in: a line of Python."""

    def make(code: str, setting: Any = "auto", **fields: Any) -> Probe:
        program = tmp_path / "guestfish-standin"
        text = f"#!{sys.executable}\n{code}\n"
        if not program.exists() or program.read_text() != text:
            program.write_text(text)
            program.chmod(0o755)
        device = tmp_path / "kvm"
        device.touch()
        defaults = {"environ": {"PATH": os.environ["PATH"]}, "device": device, "program": str(program), "limit": 1.0}
        return Probe(tmp_path, setting, **(defaults | fields))

    return make


def answer(probe: Probe) -> Acceleration:
    found: Acceleration = until(probe.poll)
    return found


def test_an_appliance_that_starts_means_kvm(make_probe: Callable[..., Probe]) -> None:
    found = answer(make_probe("import time; time.sleep(0.1)"))
    assert (found.mode, found.env) == ("kvm", {"LIBGUESTFS_BACKEND": "direct"})
    assert found.seconds is not None


def test_an_appliance_that_hangs_means_emulation_and_leaves_nothing_running(
    tmp_path: Path, make_probe: Callable[..., Probe]
) -> None:
    code = f"import os, time; os.fork(); open('{tmp_path}/pid-%d' % os.getpid(), 'w'); time.sleep(300)"
    found = answer(make_probe(code))
    assert (found.mode, found.env["LIBGUESTFS_BACKEND_SETTINGS"]) == ("tcg", "force_tcg")
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    assert not (tmp_path / "cache" / "tmp").exists()
    until(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_answer_is_kept_until_something_changes(make_probe: Callable[..., Probe]) -> None:
    answer(make_probe("pass"))
    assert make_probe("pass").poll() is not None  # at once
    assert make_probe("pass  # another version of the program").poll() is None


@pytest.mark.parametrize("mode", ["kvm", "tcg"])
def test_the_setting_is_obeyed_without_measuring(make_probe: Callable[..., Probe], mode: str) -> None:
    found = make_probe("raise SystemExit('not to be called')", mode).poll()
    assert found is not None
    assert found.mode == mode


def test_what_the_environment_says_is_left_alone(make_probe: Callable[..., Probe]) -> None:
    found = make_probe("", environ={"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}).poll()
    assert found is not None
    assert found.env == {}


def test_without_a_device_or_guestfish_it_is_emulation(make_probe: Callable[..., Probe]) -> None:
    for fields in ({"device": Path("/no/such/kvm")}, {"program": "no-such-guestfish"}):
        found = make_probe("", **fields).poll()
        assert found is not None
        assert found.mode == "tcg"
