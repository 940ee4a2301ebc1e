"""The cache of guests: read whole, followed change by change, and what a source in trouble leaves behind."""

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from conversions.models import SavedSource
from conversions.problems import RefusedError
from conversions.servers import connection, power, refresh, refreshers, trust, vsphere
from conversions.servers.refreshers import Refreshers
from conversions.source_forms import SourceForm
from tests.fixtures_ssh import XenHost
from tests.fixtures_vsphere import Simulator


@pytest.fixture
def saved(alice: Any, vcenter: Simulator) -> SavedSource:
    found = trust.fetch_certificate(vcenter.host, vcenter.port)
    return SavedSource.objects.create(
        kind="vcenter",
        name="Lab vCenter",
        owner=alice,
        host=vcenter.host,
        port=vcenter.port,
        user=vcenter.user,
        secrets={"password": vcenter.password},
        pin=found.pem,
        pin_sha256=found.sha256,
        pin_sha1=found.sha1,
    )


def states(saved: SavedSource) -> dict[str, str]:
    return {step.id: step.state for step in connection.test(saved)}


def test_it_keeps_every_guest_with_its_concerns(saved: SavedSource) -> None:
    assert refresh.refresh(saved) == 4
    row = saved.guests.get(name="DC0_H0_VM0")
    assert row.worst == "critical" and row.concerns[0]["id"] == "vmware.vm.powered_on"
    assert "dc0_dvpg0" in row.search
    saved.refresh_from_db()
    assert saved.refreshed is not None and saved.refresh_requested is None


def test_a_guest_that_is_gone_at_the_source_leaves_the_cache_too(saved: SavedSource) -> None:
    refresh.refresh(saved)
    records = [refresh.GuestRecord.from_dict(row.record) for row in saved.guests.all()][1:]
    refresh.store(saved, records)
    assert saved.guests.count() == 3


def test_thousands_of_guests_come_and_go_in_one_transaction(saved: SavedSource) -> None:
    guests = [refresh.GuestRecord(id=f"vm-{n}", name=f"g{n}") for n in range(3000)]
    refresh.store(saved, guests)
    refresh.store(saved, guests[:10])
    assert saved.guests.count() == 10


def test_a_wrong_password_is_kept_for_people_to_read_and_the_old_inventory_stays(saved: SavedSource) -> None:
    refresh.refresh(saved)
    saved.secrets = {"password": "wrong"}
    saved.save()
    with pytest.raises(CommandError, match="User or password is wrong"):
        call_command("refresh_source", str(saved.pk))
    saved.refresh_from_db()
    assert saved.refresh_error["code"] == "login-refused" and saved.guests.count() == 4 and saved.blocked is None


def test_a_changed_certificate_blocks_the_source(saved: SavedSource) -> None:
    saved.pin_sha256 = "00:" * 31 + "00"
    saved.save()
    with pytest.raises(RefusedError):
        refresh.refresh(saved)
    saved.refresh_from_db()
    assert saved.blocked["code"] == "certificate-changed"


@pytest.mark.django_db(transaction=True)
def test_a_guest_switched_off_at_the_source_shows_so_by_itself(saved: SavedSource, vcenter: Simulator) -> None:
    refresh.refresh(saved)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(saved, lambda: not done.is_set()), daemon=True)
    watcher.start()
    time.sleep(1.5)
    switch(vcenter, "DC0_H0_VM1", on=False)
    try:
        assert wait_until(lambda: saved.guests.get(name="DC0_H0_VM1").power == "off", 20)
    finally:
        done.set()
        switch(vcenter, "DC0_H0_VM1", on=True)
        watcher.join(30)


def _watch(saved: SavedSource, go_on: Callable[[], bool]) -> None:
    from django.db import connection as database

    refresh.watch(saved, go_on)
    database.close()


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.3)
    return holds()


def switch(vcenter: Simulator, name: str, *, on: bool) -> None:
    endpoint = vsphere.Endpoint(vcenter.host, vcenter.port, vcenter.user, pin=vcenter.certificate)
    with vsphere.session(endpoint, vcenter.password) as instance:
        found = vsphere.retrieve(instance)
        guest: Any = next(p["self"] for kind in found.values() for p in kind.values() if p.get("name") == name)
        guest.PowerOn() if on else guest.PowerOff()
        time.sleep(0.5)


# --- test connection ------------------------------------------------------------------------------------------------


def test_a_good_vcenter_passes_every_step(saved: SavedSource) -> None:
    assert states(saved) == {"reach": "ok", "certificate": "ok", "login": "ok"}


def test_the_test_stops_at_the_step_that_fails_and_says_what_to_do(saved: SavedSource) -> None:
    saved.secrets = {"password": "wrong"}
    steps = list(connection.test(saved))
    assert [step.state for step in steps] == ["ok", "ok", "error"]
    assert "Type the password again" in steps[-1].action


def test_an_untrusted_certificate_is_shown_to_be_compared(saved: SavedSource) -> None:
    saved.pin = saved.pin_sha256 = ""
    last = list(connection.test(saved))[-1]
    assert last.id == "certificate" and last.state == "error" and "SHA-256" in last.text


def test_the_kind_is_compared_with_what_answers(saved: SavedSource) -> None:
    saved.kind = "esxi"
    assert "is a vCenter" in list(connection.test(saved))[-1].text


def test_a_vddk_folder_without_the_library_is_told(saved: SavedSource, tmp_path: Any) -> None:
    saved.transport, saved.vddk_libdir = "vddk", str(tmp_path)
    last = list(connection.test(saved))[-1]
    assert last.id == "vddk" and "libvixDiskLib" in last.text


def test_a_missing_plugin_is_told_with_what_to_do(saved: SavedSource, tmp_path: Any) -> None:
    """Debian's nbdkit has none; where one was built in, the stand-in of another test takes its place."""
    import subprocess

    if not subprocess.run(["nbdkit", "vddk", "--dump-plugin"], capture_output=True, check=False).returncode:
        pytest.skip("this nbdkit has a VDDK plugin")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "libvixDiskLib.so.8").touch()
    saved.transport, saved.vddk_libdir = "vddk", str(tmp_path)
    last = list(connection.test(saved))[-1]
    assert (last.id, last.state) == ("vddk", "error") and "or choose HTTPS" in last.action


@pytest.fixture
def vddk(saved: SavedSource, tmp_path: Path) -> SavedSource:
    """With a folder that looks like VMware's."""
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "libvixDiskLib.so.8").touch()
    saved.transport, saved.vddk_libdir = "vddk", str(tmp_path)
    saved.save()
    return saved


@pytest.fixture
def only_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """PATH has this one alone, and it never ends."""

    def make(name: str) -> None:
        folder = tmp_path / "programs"
        folder.mkdir()
        if name:
            (folder / name).write_text("#!/bin/sh\nexec /bin/sleep 20\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return make


@pytest.mark.parametrize(
    ("program", "words"), [("", "could not start it: No such file"), ("nbdkit", "had not done it after 0.3 seconds")]
)
def test_an_nbdkit_that_is_missing_or_hangs_is_a_step_of_the_page(
    vddk: SavedSource, only_program: Any, monkeypatch: Any, log_in: Any, alice: Any, program: str, words: str
) -> None:
    monkeypatch.setattr(connection, "_NBDKIT_SECONDS", 0.3)
    client = log_in(alice)
    only_program(program)
    answer = client.post(reverse("source-test", args=[vddk.pk]))
    assert answer.status_code == 200
    last = answer.context["steps"][-1]
    assert (last.id, last.state) == ("vddk", "error") and last.action
    assert words in answer.content.decode()


def test_an_ssh_keyscan_that_is_missing_is_told(only_program: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        only_program("")
        with pytest.raises(RefusedError) as caught:
            trust.fetch_host_keys("127.0.0.1", server.getsockname()[1])
    assert caught.value.problem.code == "program-missing" and "ssh-keyscan" in caught.value.problem.text


def test_what_to_press_for_trust_stands_on_the_sources_page(saved: SavedSource, log_in: Any, alice: Any) -> None:
    saved.pin = saved.pin_sha256 = ""
    saved.save()
    action = list(connection.test(saved))[-1].action
    first, last = re.findall("“(.*?)”", action)
    client = log_in(alice)
    assert f">{first}</span>" in client.get(reverse("source", args=[saved.pk])).content.decode()
    assert f">{last}</span>" in client.get(reverse("source-trust", args=[saved.pk])).content.decode()


@pytest.mark.parametrize(
    ("typed", "kept"), [("pw\r\n", "pw"), ("pw\n", "pw"), (" pw ", " pw "), ("p\r\nw", None), ("p\nw", None)]
)
def test_a_line_end_after_a_password_is_left_away_and_one_inside_refused(
    db: None, alice: Any, typed: str, kept: str | None
) -> None:
    data = {"name": "s", "host": "vc", "port": 443, "user": "u", "transport": "https", "password": typed}
    form = SourceForm(data, kind="vcenter")
    assert form.is_valid() is (kept is not None)
    if kept is not None:
        assert form.save(alice).secrets == {"password": kept}
    else:
        assert "line's end" in form.errors["password"][0]


# --- Xen ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "code"), [("virsh", "ssh-no-answer"), ("", "program-missing")])
def test_a_virsh_that_hangs_or_is_missing_is_kept_for_people_to_read_and_not_asked_again(
    alice: Any, only_program: Any, monkeypatch: pytest.MonkeyPatch, program: str, code: str
) -> None:
    monkeypatch.setattr(refresh, "_VIRSH_SECONDS", 0.3)
    xen = SavedSource.objects.create(
        kind="xen", name="Xen", owner=alice, host="192.0.2.1", port=22, user="root", transport="ssh",
        secrets={"key": "k"}, host_keys=[{"type": "t", "key": "k", "fingerprint": "f"}], refresh_requested=timezone.now(),
    )  # fmt: skip
    only_program(program)
    with pytest.raises(CommandError):
        call_command("refresh_source", str(xen.pk))
    xen.refresh_from_db()
    assert xen.refresh_error["code"] == code and xen.refresh_error["action"] and xen.refresh_requested is None


@pytest.mark.real
def test_a_xen_host_passes_every_step(saved_xen: SavedSource) -> None:
    assert states(saved_xen) == {"reach": "ok", "host-key": "ok", "login": "ok", "nc": "ok", "libvirt": "ok"}


@pytest.mark.real
def test_xens_guests_are_listed_with_disks_and_cards(saved_xen: SavedSource, xen_host: XenHost) -> None:
    assert refresh.refresh(saved_xen) == 1
    guest = saved_xen.guests.get().guest_id
    power.switch_on(saved_xen, guest, guest)  # a conversion of another file may have shut it down
    assert refresh.refresh(saved_xen) == 1
    record = saved_xen.guests.get().record
    assert record["name"] == xen_host.guest and record["power"] == "on"
    assert record["disks"][0]["format"] == "raw" and record["nics"][0]["mac"] == "00:16:3e:12:34:56"


@pytest.mark.real
def test_a_host_key_that_changed_is_said(saved_xen: SavedSource) -> None:
    saved_xen.host_keys = [key | {"key": key["key"][:-8] + "AAAAAAAA"} for key in saved_xen.host_keys]
    last = list(connection.test(saved_xen))[-1]
    assert last.id == "host-key" and last.state == "error" and "does not show the key" in last.text


@pytest.mark.real
def test_a_key_that_the_host_does_not_know_is_said(saved_xen: SavedSource, tmp_path: Any) -> None:
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    saved_xen.secrets = {"key": (tmp_path / "k").read_text()}
    last = list(connection.test(saved_xen))[-1]
    assert last.id == "login" and "authorized_keys" in last.action


# --- who is refreshed when --------------------------------------------------------------------------------------------


class ProcessOfTheTest:
    """Stands in for the refresh's process: runs until it is told that it has ended."""

    started: list[str] = []

    def __init__(self, argv: list[str], **_: Any) -> None:
        self.started.append(argv[3])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("conversions.servers.refreshers.subprocess.Popen", ProcessOfTheTest)
    ProcessOfTheTest.started = []
    return ProcessOfTheTest.started


@pytest.fixture
def plain(alice: Any) -> SavedSource:
    return SavedSource.objects.create(
        kind="vcenter", name="Plain", owner=alice, host="192.0.2.1", port=443, user="anna", secrets={"password": "x"}
    )


def test_a_source_is_read_when_somebody_asked_and_once_only(plain: SavedSource, started: list[str]) -> None:
    SavedSource.objects.update(refresh_requested=timezone.now())
    keeper = Refreshers()
    keeper.tick()
    keeper.tick()
    assert started == [str(plain.pk)]


def test_changes_are_followed_while_somebody_looks(plain: SavedSource, started: list[str]) -> None:
    Refreshers().tick()
    assert started == []
    SavedSource.objects.update(refreshed=timezone.now(), viewed=timezone.now())
    Refreshers().tick()
    assert started == [str(plain.pk)]


def test_a_blocked_source_is_left_alone(plain: SavedSource, started: list[str]) -> None:
    SavedSource.objects.update(refresh_requested=timezone.now(), blocked={"code": "certificate-changed"})
    Refreshers().tick()
    assert started == []


def test_a_program_that_breaks_at_once_is_not_started_in_a_storm(
    plain: SavedSource, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessOfTheTest, "poll", lambda self: 1)
    SavedSource.objects.update(refresh_requested=timezone.now())
    keeper = Refreshers()
    for _ in range(5):
        keeper.tick()
    assert started == [str(plain.pk)]


@pytest.mark.parametrize(("code", "words"), [(1, "ended with 1"), (-9, "longer than 15 minutes")])
def test_a_read_that_breaks_without_a_word_is_told_and_not_asked_for_for_ever(
    plain: SavedSource, started: list[str], monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    monkeypatch.setattr(ProcessOfTheTest, "poll", lambda self: code)
    monkeypatch.setattr(refreshers, "_PAUSE", 0.0)
    SavedSource.objects.update(refresh_requested=timezone.now())
    keeper = Refreshers()
    for _ in range(3):
        keeper.tick()
    assert started == [str(plain.pk)]
    plain.refresh_from_db()
    assert plain.refresh_requested is None and words in plain.refresh_error["text"]


def test_a_request_that_came_after_the_broken_read_began_is_still_answered(
    plain: SavedSource, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessOfTheTest, "poll", lambda self: 1)
    monkeypatch.setattr(refreshers, "_PAUSE", 0.0)
    SavedSource.objects.update(refresh_requested=timezone.now())
    keeper = Refreshers()
    keeper.tick()
    SavedSource.objects.update(refresh_requested=timezone.now())
    keeper.tick()
    assert started == [str(plain.pk)] * 2
