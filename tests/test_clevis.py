"""Disks that open with Clevis: only where virt-v2v and its appliance can, and only what can be named."""

from pathlib import Path
from typing import Any

import pytest

from conversions import clevis, options
from conversions.host.capabilities import parse
from conversions.options import OptionsForm, clevis_ids
from conversions.problems import RefusedError

UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with this virt-v2v; its appliance has Clevis, or not."""

    def make(version: str = "2.2.0", in_appliance: bool = True) -> None:
        lists = tmp_path / "usr/lib/x86_64-linux-gnu/guestfs/supermin.d"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "packages").write_text("bash\nlvm2\n")
        program = tmp_path / "bin/clevis-luks-unlock"
        program.parent.mkdir(exist_ok=True)
        program.touch(0o755)
        if in_appliance:
            (lists / "v2vweb-packages-clevis").write_text("clevis-luks\n")
        monkeypatch.setenv("PATH", str(program.parent))
        monkeypatch.delenv("LIBGUESTFS_PATH", raising=False)
        monkeypatch.setattr(clevis, "ROOT", tmp_path)
        for module in (clevis, options):
            monkeypatch.setattr(module, "capabilities", lambda: parse("virt-v2v", f"virt-v2v {version}", ""))

    return make


def cleaned(**data: Any) -> dict[str, Any]:
    form = OptionsForm(data)
    assert form.is_valid(), form.errors
    return form.cleaned_data


def test_it_is_offered_where_virt_v2v_and_its_appliance_have_it(server: Any) -> None:
    server()
    assert clevis.obstacle() is None
    assert cleaned(clevis=True, clevis_devices=["/dev/sda2"])["clevis_devices"] == ["/dev/sda2"]
    assert cleaned(clevis="on", clevis_devices=f"/dev/sda2, {UUID}")["clevis_devices"] == ["/dev/sda2", UUID]


def test_debians_appliance_has_no_clevis_and_it_is_said(server: Any) -> None:
    server(in_appliance=False)
    problem = clevis.obstacle()
    assert problem and problem.whose == "administrator" and "clevis-luks" in problem.action
    form = OptionsForm({"clevis": True})
    assert "is made without" in str(form.errors["clevis"])


def test_an_old_virt_v2v_does_not_know_it(server: Any) -> None:
    server("2.0.7")
    problem = clevis.obstacle()
    assert problem and "2.0.7" in problem.text


def test_without_clevis_nothing_is_asked_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clevis, "obstacle", lambda: pytest.fail("asked"))
    assert cleaned()["clevis"] is False


@pytest.mark.parametrize("devices", ["/dev/sda2:clevis", "--root=ask", ["/dev/sda2", 7], ["x"] * 17])
def test_odd_devices_are_refused(server: Any, devices: Any) -> None:
    server()
    assert "clevis_devices" in OptionsForm({"clevis": True, "clevis_devices": devices}).errors


def test_devices_without_the_tick_are_pointed_out(server: Any) -> None:
    server()
    assert "tick this too" in str(OptionsForm({"clevis_devices": "/dev/sda2"}).errors["clevis"])


def test_it_opens_what_is_named_or_was_found_or_all_where_virt_v2v_knows_all(server: Any) -> None:
    server("2.2.0")
    assert clevis_ids(False, ["/dev/sda2"], [UUID]) == ()
    assert clevis_ids(True, ["/dev/sda2"], [UUID]) == ("/dev/sda2",)
    assert clevis_ids(True, [], [UUID]) == (UUID,)
    with pytest.raises(RefusedError) as caught:
        clevis_ids(True, [], [])
    assert caught.value.field == "options.clevis_devices" and "Which disk is Clevis" in caught.value.problem.title
    server("2.4.0")
    assert clevis_ids(True, [], []) == ("all",)
