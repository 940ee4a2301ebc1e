"""A guest of an ESXi host over SSH, in the moment before a conversion: where it is, whether it runs, and its switch, vim-cmd."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversions import conductor as conductor_module
from conversions import planning
from conversions.conductor import Conductor
from conversions.models import Conversion, SavedSource
from conversions.problems import RefusedError
from conversions.servers import esxi_guests, esxi_power, esxi_shell, power, refresh, restarts
from conversions.states import State
from tests.fixtures_ssh import EsxiSsh
from tests.test_conductor import ProbeStandin, RunnerStandin

WEB = EsxiSsh.number

pytestmark = [pytest.mark.real, pytest.mark.django_db]


def id_of(saved: SavedSource, name: str) -> str:
    return next(record.id for record in esxi_guests.list_guests(saved) if record.name == name)


def code(step: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        step()
    return caught.value.problem.code


def test_a_guest_is_shut_down_and_started_again(saved_esxi: SavedSource, web_runs: Path) -> None:
    def seen() -> str:
        return power.look(saved_esxi, WEB, None).power

    assert seen() == "on"
    power.shut_down(saved_esxi, WEB, None)
    assert seen() == "off"
    power.shut_down(saved_esxi, WEB, None)  # it went off by itself in the moment before
    power.switch_off(saved_esxi, WEB, None)
    assert power.switch_on(saved_esxi, WEB, None) and seen() == "on"
    assert not power.switch_on(saved_esxi, WEB, None)
    power.switch_off(saved_esxi, WEB, None)
    assert seen() == "off"


def test_one_without_tools_cannot_be_asked(saved_esxi: SavedSource, web_runs: Path, esxi_ssh: EsxiSsh) -> None:
    (esxi_ssh.folder / "tools" / WEB).unlink()
    assert code(lambda: power.shut_down(saved_esxi, WEB, None)) == "tools-needed"
    assert web_runs.read_text() == "on\n"


def test_one_that_is_not_registered_cannot_be_switched(saved_esxi: SavedSource, esxi_ssh: EsxiSsh) -> None:
    strange = id_of(saved_esxi, esxi_ssh.strange_name)
    assert power.look(saved_esxi, strange, None).power == "off"  # as far as the locks on its disks tell
    for step in (power.shut_down, power.switch_off):
        assert code(lambda step=step: step(saved_esxi, strange, None)) == "no-switch"  # type: ignore[misc]


def test_without_vim_cmd_it_says_that_it_cannot(
    saved_esxi: SavedSource, without_vim_cmd: None, esxi_ssh: EsxiSsh
) -> None:
    web = id_of(saved_esxi, esxi_ssh.guest)
    with pytest.raises(RefusedError) as caught:
        power.shut_down(saved_esxi, web, None)
    assert caught.value.problem.code == "no-switch" and "by hand" in caught.value.problem.action


def test_one_that_is_gone_or_suspended_says_so(
    saved_esxi: SavedSource, web_runs: Path, add_vmx: Callable[..., Path]
) -> None:
    assert code(lambda: power.look(saved_esxi, "99", None)) == "guest-gone"
    assert code(lambda: power.look(saved_esxi, "vmx-0123456789abcdef", None)) == "guest-gone"
    web_runs.write_text("suspended\n")
    assert power.look(saved_esxi, WEB, None).power == "suspended"
    add_vmx("asleep", 'config.version = "8"\ncheckpoint.vmState = "asleep.vmss"\n')
    assert power.look(saved_esxi, id_of(saved_esxi, "asleep"), None).power == "suspended"


def test_one_whose_files_have_moved_is_found_where_they_are(saved_esxi: SavedSource, esxi_ssh: EsxiSsh) -> None:
    row, old, new = esxi_ssh.folder / "guests" / WEB, esxi_ssh.volume / "web 04", esxi_ssh.volume / "web 05"
    before = row.read_text()
    old.rename(new)
    row.write_text(before.replace("web 04/web 04.vmx", "web 05/web 04.vmx"))
    try:
        assert power.look(saved_esxi, WEB, None).vmx == "[LocalDS_0] web 05/web 04.vmx"
    finally:
        new.rename(old)
        row.write_text(before)


def test_the_datastores_are_walked_through_once_and_again_only_when_the_number_does_not_fit(
    saved_esxi: SavedSource, web_runs: Path, esxi_ssh: EsxiSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveys: list[SavedSource] = []

    def counting(saved: SavedSource) -> esxi_shell.Survey:
        surveys.append(saved)
        return esxi_shell.survey(saved)

    esxi_power._known.clear()
    monkeypatch.setattr(esxi_power, "survey", counting)
    first = power.look(saved_esxi, WEB, None)
    power.shut_down(saved_esxi, WEB, None)
    then = power.look(saved_esxi, WEB, None)
    assert (first.power, then.power, then.vmx, len(surveys)) == ("on", "off", first.vmx, 1)
    row = esxi_ssh.folder / "guests" / WEB
    before = row.read_text()
    row.write_text(before.replace("web 04/web 04.vmx", "other/other.vmx"))  # the number was given to another guest
    try:
        assert code(lambda: power.switch_off(saved_esxi, WEB, None)) == "guest-gone" and len(surveys) == 2
    finally:
        row.write_text(before)


@pytest.mark.parametrize(
    ("listed", "still"),
    [
        ("4  web  [ds] web/web.vmx  debian\n5  db  [ds] db/db.vmx  debian", True),
        ("5  web  [ds] web/web.vmx  debian", False),
        ("4  db  [ds] db/db.vmx  debian", False),
        ("4  [ds] web/web.vmx  [ds] db/db.vmx  debian", False),  # a guest of that name
        ("4  db  [ds] db/db.vmx  debian\n4  x  [ds] web/web.vmx  in its notes", False),
        ("4  web  [ds] web/web.vmx  debian\n9  x  [ds] web/web.vmx  in its notes", False),
        ("", False),
    ],
)
def test_a_number_is_a_files_only_when_nothing_else_says_so(listed: str, still: bool) -> None:
    assert esxi_shell.is_still(listed, "4", "ds/web/web.vmx") is still


def test_a_conversion_shuts_it_down_first_and_starts_it_after_a_cancel(
    saved_esxi: SavedSource, web_runs: Path, alice: Any, settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(conductor_module, "max_running", lambda: 1)
    monkeypatch.setattr(restarts, "WATCH", 0.5)
    refresh.refresh(saved_esxi)
    source = {"kind": "esxi", "source_id": saved_esxi.pk, "guest": WEB, "shut_down": True, "start_again": True}
    output = {"kind": "files", "format": "raw"}
    plan = planning.make_plan(name="moved", source=source, options={}, output=output, user=alice)
    conversion = planning.create_conversion(*plan, alice)
    conductor = Conductor(RunnerStandin(), ProbeStandin())

    def until(done: Callable[[Conversion], bool]) -> None:
        end = time.monotonic() + 60
        while not done(Conversion.objects.get(pk=conversion.pk)):
            assert time.monotonic() < end, list(Conversion.objects.values())
            conductor.tick()
            time.sleep(0.05)

    until(lambda row: row.pk in conductor.runner.started)  # type: ignore[attr-defined]
    assert web_runs.read_text() == "off\n"
    conversion.refresh_from_db()
    assert conversion.request_cancel("alice")
    Conversion.objects.filter(pk=conversion.pk).update(state=State.CANCELLED)  # as the agent's end does
    until(lambda row: "started again" in str(row.receipt.get("source")))
    assert web_runs.read_text() == "on\n"
