"""The guests of an ESXi host whose HTTPS is closed: listed, looked at, switched and planned over SSH alone.

The host is a real sshd with a datastore; vim-cmd is stood in for.
"""

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from conversions import planning, tokens
from conversions.command import build_command
from conversions.models import InventoryGuest, SavedSource
from conversions.problems import RefusedError
from conversions.servers import connection, esxi_guests, esxi_shell, power, refresh, ssh, trust
from conversions.servers.concerns import around, concerns
from conversions.servers.inventory import GuestRecord
from conversions.servers.refreshers import Refreshers
from conversions.source_forms import SETTINGS, SourceForm
from tests.fixtures_ssh import EsxiSsh

pytestmark = [pytest.mark.real, pytest.mark.django_db]

WEB = EsxiSsh.number
HEAD = 'config.version = "8"\ndisplayName = "{name}"\nguestOS = "debian11-64"\nscsi0:0.present = "TRUE"\n'


def listed(saved: SavedSource) -> dict[str, GuestRecord]:
    return {record.name: record for record in esxi_guests.list_guests(saved)}


def ids(record: GuestRecord) -> set[str]:
    return {concern.id for concern in concerns(record, around([record], "ssh")) if concern.severity == "critical"}


def code(step: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        step()
    return caught.value.problem.code


# -- the list ---------------------------------------------------------------------------------------------------------


def test_guests_come_from_the_files_on_the_datastores(saved_esxi: SavedSource, esxi_ssh: EsxiSsh) -> None:
    found = listed(saved_esxi)
    assert set(found) == {esxi_ssh.guest, esxi_ssh.strange_name}
    web = found[esxi_ssh.guest]
    assert (web.id, web.power, web.cpus, web.memory, web.firmware) == (WEB, "off", 2, 1 << 30, "bios")
    assert (web.uuid, web.os_id, web.host) == (
        *("564d1c2a-3b4c-5d6e-7f80-91a2b3c4d5e6", "debian11_64Guest", saved_esxi.host),
    )
    assert web.vmx == "[LocalDS_0] web 04/web 04.vmx"
    (disk,) = web.disks
    assert (disk.file, disk.datastore) == ("[LocalDS_0] web 04/web 04.vmdk", "LocalDS_0")
    assert (disk.layout, disk.controller, disk.capacity) == ("flat", "scsi", 1 << 30)
    assert disk.allocated is not None and 0 < disk.allocated <= disk.capacity
    assert [(nic.mac, nic.network, nic.model) for nic in web.nics] == [("00:0c:29:12:34:56", "VM Network", "vmxnet3")]
    assert ids(web) == set()


def test_one_that_is_registered_nowhere_is_told_as_far_as_its_files_do(
    saved_esxi: SavedSource, esxi_ssh: EsxiSsh
) -> None:
    strange = listed(saved_esxi)[esxi_ssh.strange_name]
    assert strange.id.startswith("vmx-") and strange.power is None
    assert (strange.firmware, strange.secure_boot, strange.snapshots) == ("uefi", True, 2)
    assert (strange.os, strange.disks[0].layout) == ("Microsoft Windows 10 (64-bit)", "delta")
    assert strange.nics[0].is_distributed and strange.nics[0].mac == "00:50:56:ab:cd:ef"
    assert ids(strange) == {"vmware.snapshot.ssh"}
    assert (strange.tools, strange.hostname, strange.needs_consolidation, strange.host_in_maintenance) == (None,) * 4


def test_no_https_is_used_for_anything(saved_esxi: SavedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:  # what nobody may knock at
        probe.bind((saved_esxi.host, 0))
        saved_esxi.port = probe.getsockname()[1]
        probe.listen()
        probe.settimeout(0.2)
        assert {step.state for step in connection.test(saved_esxi)} == {"ok"}
        assert refresh.refresh(saved_esxi) == 2
        assert power.look(saved_esxi, WEB, None).power == "off"
        with pytest.raises(TimeoutError):
            probe.accept()
    assert not refresh.tells_changes(saved_esxi)
    call_command("refresh_source", str(saved_esxi.pk), "--watch")  # reads once and is done


def test_nobody_who_looks_at_it_starts_one_login_after_the_other(saved_esxi: SavedSource) -> None:
    refresh.refresh(saved_esxi)
    from django.utils import timezone

    SavedSource.objects.update(viewed=timezone.now())
    refreshers = Refreshers()
    refreshers.tick()
    assert not refreshers._running


def test_without_vim_cmd_whether_they_run_is_not_known(saved_esxi: SavedSource, without_vim_cmd: None) -> None:
    assert {record.power for record in esxi_guests.list_guests(saved_esxi)} == {None}
    last = list(connection.test(saved_esxi))[-1]
    assert last.state == "warning" and "vim-cmd is not there" in last.text and "yourself" in last.action


# -- bad input --------------------------------------------------------------------------------------------------------


def test_no_guest_at_all_is_said_with_what_to_check(
    saved_esxi: SavedSource, esxi_ssh: EsxiSsh, log_in: Callable[[Any], Any], alice: Any
) -> None:
    aside = esxi_ssh.folder / "aside"
    aside.mkdir()
    for folder in list(esxi_ssh.volume.iterdir()):
        folder.rename(aside / folder.name)
    try:
        last = list(connection.test(saved_esxi))[-1]
        assert (last.id, last.state) == ("guests", "warning") and "no .vmx file" in last.text and last.action
        assert refresh.refresh(saved_esxi) == 0
        assert "The source has no guests" in log_in(alice).get(f"/sources/{saved_esxi.pk}/").content.decode()
    finally:
        for folder in list(aside.iterdir()):
            folder.rename(esxi_ssh.volume / folder.name)
        aside.rmdir()


def test_a_host_without_datastores_is_said(saved_esxi: SavedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esxi_shell, "_SURVEY", esxi_shell._SURVEY.replace("/vmfs/volumes", "/nowhere"))
    step = list(connection.test(saved_esxi))[-1]
    assert (step.id, step.state) == ("datastores", "error") and "/vmfs/volumes" in step.text
    assert code(lambda: refresh.refresh(saved_esxi)) == "no-datastores"


def test_a_refused_key_is_kept_for_people_to_read_and_the_old_list_stays(
    saved_esxi: SavedSource, tmp_path: Path
) -> None:
    refresh.refresh(saved_esxi)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    saved_esxi.secrets = {"key": (tmp_path / "k").read_text()}  # type: ignore[misc]
    assert code(lambda: refresh.refresh(saved_esxi)) == "ssh-refused"
    saved_esxi.refresh_from_db()
    assert saved_esxi.refresh_error["code"] == "ssh-refused" and saved_esxi.guests.count() == 2


def test_another_host_key_blocks_the_source(saved_esxi: SavedSource) -> None:
    saved_esxi.host_keys = [key | {"key": key["key"][:-8] + "AAAAAAAA"} for key in saved_esxi.host_keys]
    assert code(lambda: refresh.refresh(saved_esxi)) == "host-key-changed"
    for step in (power.look, power.shut_down, power.switch_off, power.switch_on):
        assert code(lambda step=step: step(saved_esxi, WEB, None)) == "host-key-changed"  # type: ignore[misc]
    saved_esxi.refresh_from_db()
    assert saved_esxi.blocked and saved_esxi.blocked["code"] == "host-key-changed"


def test_a_file_that_describes_no_guest_stands_in_the_list_and_cannot_be_moved(
    saved_esxi: SavedSource, add_vmx: Callable[..., Path], alice: Any
) -> None:
    add_vmx("nothing", b"")
    add_vmx("binary", b"\x7fELF\0\0")
    add_vmx("huge", b'config.version = "8"\n' + b"# much\n" * 60_000)
    add_vmx("other", "daemon:*:19000:0:99999:7:::\n")
    found = listed(saved_esxi)
    why = {name: found[name].unreadable for name in ("nothing", "binary", "huge", "other")}
    assert why == {
        "nothing": "it is empty",
        "binary": "it is not a text",
        "huge": "it is larger than 256 KiB",
        "other": "it is no description of a guest",
    }
    assert all(ids(found[name]) == {"vmware.vmx.unreadable"} for name in why)
    (told,) = concerns(found["huge"], around(found.values(), "ssh"))[:1]
    assert told.text.endswith("The file [LocalDS_0] huge/huge.vmx: it is larger than 256 KiB.")
    refresh.store(saved_esxi, list(found.values()))
    source = {"kind": "esxi", "source_id": saved_esxi.pk, "guest": "huge"}
    assert code(lambda: plan(alice, source)) == "vmware.vmx.unreadable"


def test_one_that_the_host_does_not_let_be_read_is_said(saved_esxi: SavedSource) -> None:
    found = esxi_shell.Survey(files=["ds/a/a.vmx"])
    record = esxi_guests._guest(found, "ds/a/a.vmx", 0, {"vmx 0": b"", "denied 0": b""}, saved_esxi)
    assert record.unreadable == "the host does not let it be read" and record.name == "a"


def test_a_disk_that_cannot_be_read_is_said_before_anything_starts(
    saved_esxi: SavedSource, add_vmx: Callable[..., Path]
) -> None:
    expected = {
        "../web 04/web 04.vmdk": "vmware.disk.outside",
        "/etc/shadow": "vmware.disk.outside",
        "/vmfs/volumes/LocalDS_0/web 04/web 04.vmdk": "",
        "gone.vmdk": "vmware.disk.missing",
        "alone.vmdk": "vmware.disk.missing",
        "binary.vmdk": "vmware.disk.missing",
        "sparse.vmdk": "vmware.disk.sparse.ssh",
    }
    flat = '# Disk DescriptorFile\ncreateType="vmfs"\nRW 2048 VMFS "alone-flat.vmdk"\n'
    files: dict[str, Any] = {"alone.vmdk": flat, "binary.vmdk": b"\0\1\2" * 1000, "sparse.vmdk": b"KDMV\1\0"}
    for number, disk in enumerate(expected):
        add_vmx(f"odd{number}", HEAD.format(name=disk) + f'scsi0:0.fileName = "{disk}"\n', **files)
    found = listed(saved_esxi)
    told = concerns(found["gone.vmdk"], around([], "ssh"))[0].text
    assert told.endswith("It is about [LocalDS_0] odd3/gone.vmdk.")
    for disk, concern in expected.items():
        assert ids(found[disk.replace("/", "%2f")]) == ({concern} if concern else set()), disk


def test_a_disk_that_the_host_holds_open_is_said(saved_esxi: SavedSource, add_vmx: Callable[..., Path]) -> None:
    """As it does while the guest runs, on whichever host; here a folder is what cannot be opened for reading."""
    flat = '# Disk DescriptorFile\ncreateType="vmfs"\nRW 2048 VMFS "held-flat.vmdk"\n'
    place = add_vmx("held", HEAD.format(name="held") + 'scsi0:0.fileName = "held.vmdk"\n', **{"held.vmdk": flat})
    (place / "held-flat.vmdk").write_bytes(b"")
    record = listed(saved_esxi)["held"]
    assert record.disks[0].layout == "flat"  # an empty one can be opened
    told = {"disk 0": flat.encode(), "flat 0": b"1048576 2048 512\n", "open 0": b""}
    esxi_guests._fill(record.disks[0], 0, told)
    assert record.disks[0].layout == "busy" and ids(record) == {"vmware.disk.busy"}


def test_two_of_the_same_name_are_told_apart_by_their_ids(
    saved_esxi: SavedSource, add_vmx: Callable[..., Path], alice: Any
) -> None:
    add_vmx("one", HEAD.format(name="twin")), add_vmx("two", HEAD.format(name="twin"))
    refresh.refresh(saved_esxi)
    assert {record.folder for record in listed(saved_esxi).values()} >= {
        "/LocalDS_0/two"
    }  # where it lies tells a person
    twins = list(InventoryGuest.objects.filter(name="twin"))
    assert len({row.guest_id for row in twins}) == 2
    assert all("vmware.vm.name.duplicate" in {concern["id"] for concern in row.concerns} for row in twins)
    source = {"kind": "esxi", "source_id": saved_esxi.pk, "guest": "twin"}
    assert code(lambda: plan(alice, source)) == "guest-not-unique"


def test_hostile_names_reach_no_shell(saved_esxi: SavedSource, add_vmx: Callable[..., Path], esxi_ssh: EsxiSsh) -> None:
    for name in ("$(touch pwned)", "'; touch pwned; '", "-rf", "a\nvmx b.vmx"):
        add_vmx(name, HEAD.format(name="x") + "scsi0:0.fileName = \"$(touch pwned)'; touch pwned; '.vmdk\"\n")
    found = esxi_guests.list_guests(saved_esxi)
    assert sum(record.name == "x" for record in found) == 3  # the one with a line's end in its name is left out
    assert not list(esxi_ssh.folder.rglob("pwned"))


def test_a_host_that_never_stops_talking_is_cut_off(saved_esxi: SavedSource) -> None:
    begun = time.monotonic()
    assert code(lambda: ssh.ask(saved_esxi, b"yes", limit=1 << 20, timeout=30)) == "ssh-too-much"
    assert code(lambda: ssh.ask(saved_esxi, b"sleep 30", limit=1 << 20, timeout=1)) == "ssh-no-answer"
    assert time.monotonic() - begun < 20


def test_an_answer_that_breaks_off_is_not_taken_for_an_empty_host(
    saved_esxi: SavedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(esxi_shell, "_SURVEY", esxi_shell._SURVEY.replace("n=0\n", "exit 1\n"))
    assert code(lambda: refresh.refresh(saved_esxi)) == "ssh-broke-off"


def test_more_guests_than_any_host_has_are_refused(saved_esxi: SavedSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esxi_shell, "MOST_GUESTS", 1)
    assert code(lambda: refresh.refresh(saved_esxi)) == "too-many-guests"


def test_https_that_is_closed_is_said_with_the_way_over_ssh(saved_esxi: SavedSource) -> None:
    saved_esxi.transport = "https"
    (step,) = connection.test(saved_esxi)
    assert step.state == "error" and "change this source to SSH" in step.action


# -- conversions ------------------------------------------------------------------------------------------------------


def plan(user: Any, source: dict[str, Any]) -> Any:
    output = {"kind": "files", "format": "raw"}
    return planning.make_plan(name="moved", source=source, options={}, output=output, user=user)


def test_the_command_names_the_file_at_the_host(saved_esxi: SavedSource, alice: Any) -> None:
    refresh.refresh(saved_esxi)
    made, _ = plan(alice, {"kind": "esxi", "source_id": saved_esxi.pk, "guest": "web 04"})
    argv = build_command(made, output_dir=Path("/out"), secrets_dir=Path("/secrets")).argv
    assert argv[1:5] == ("-i", "vmx", "-it", "ssh")
    assert (
        argv[-1] == f"ssh://root@{saved_esxi.host}:{saved_esxi.ssh_port}/vmfs/volumes/LocalDS_0/web%2004/web%2004.vmx"
    )
    assert made.guest.nics[0].mac == "00:0c:29:12:34:56" and made.guest.disks[0].size == 1 << 30


# -- pages and API ----------------------------------------------------------------------------------------------------


def test_the_form_takes_a_key_alone_and_says_that_a_password_is_of_no_use(
    saved_esxi: SavedSource, alice: Any, log_in: Callable[[Any], Any]
) -> None:
    filled = {name: getattr(saved_esxi, name) for name in SETTINGS} | {"name": "new", "shared": True}
    form = SourceForm({**filled, "password": "secret"}, kind="esxi")
    assert form.errors == {"key": ["Over SSH this is needed to log in: a password cannot be used."]}
    form = SourceForm({**filled, "key": saved_esxi.secrets["key"]}, kind="esxi")  # type: ignore[index]
    assert form.is_valid(), form.errors
    assert SourceForm({**filled, "transport": "https"}, kind="esxi").errors == {
        "password": ["This is needed to log in."]
    }
    page = log_in(alice).get("/sources/add/esxi/").content.decode()
    assert "Over SSH none can be used" in page and "SSH alone: where HTTPS is closed" in page


def test_the_table_shows_them_and_the_wizard_takes_them(
    saved_esxi: SavedSource, alice: Any, log_in: Callable[[Any], Any], esxi_ssh: EsxiSsh
) -> None:
    refresh.refresh(saved_esxi)
    browser = log_in(alice)
    page = browser.get(f"/sources/{saved_esxi.pk}/").content.decode()
    assert esxi_ssh.strange_name in page and "not known" in page and "SSH host keys" in page
    assert f"root at {saved_esxi.host}:{saved_esxi.ssh_port}, over SSH" in page
    answer = browser.post(f"/sources/{saved_esxi.pk}/move/", {"move": WEB})
    assert answer.status_code == 302 and "/new/" in answer["Location"]
    assert esxi_ssh.guest in browser.get(answer["Location"], follow=True).content.decode()


def test_the_api_adds_tests_and_lists_it(saved_esxi: SavedSource, alice: Any, esxi_ssh: EsxiSsh) -> None:
    client = Client(headers={"Authorization": f"Bearer {tokens.create(alice)[1]}"})
    keys = [key.fingerprint for key in trust.fetch_host_keys(esxi_ssh.host, esxi_ssh.port)]
    new = {"kind": "esxi", "name": "By API", "host": esxi_ssh.host, "user": "root", "transport": "ssh"}
    new |= {"ssh_port": esxi_ssh.port, "key": esxi_ssh.key, "host_keys": keys}

    def post(path: str, data: dict[str, Any]) -> Any:
        answer = client.post(f"/api/v1{path}", data=json.dumps(data), content_type="application/json")
        return answer.status_code, answer.json()

    status, refusal = post("/sources", new | {"pin_sha256": "00"})
    assert status == 422 and refusal["error"]["field"] == "pin_sha256"
    status, made = post("/sources", new)
    assert status == 201 and made["trusted"]
    status, test = post(f"/sources/{made['id']}/test", {})
    assert status == 200 and test["ok"] and [step["id"] for step in test["steps"]][-1] == "guests"
    refresh.refresh(SavedSource.objects.get(pk=made["id"]))
    guests = client.get(f"/api/v1/sources/{made['id']}/guests").json()["items"]
    assert {(guest["name"], guest["power"]) for guest in guests} == {
        (esxi_ssh.guest, "off"),
        (esxi_ssh.strange_name, None),
    }
    asked = {"name": "Both", "source_id": made["id"], "guests": [esxi_ssh.guest, esxi_ssh.strange_name]}
    status, batch = post("/batches", asked)
    assert status == 201 and len(batch["conversions"]) == 1
    assert batch["refused"][0]["error"]["code"] == "vmware.snapshot.ssh"
