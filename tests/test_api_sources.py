"""Saved sources, guests and batches over the API: the pages' rules, write-only secrets, trust only for what is shown."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from conversions import planning, tokens
from conversions.models import Batch, Conversion, InventoryGuest, SavedSource
from conversions.problems import RefusedError
from conversions.servers import trust
from conversions.servers.concerns import around
from conversions.servers.inventory import DiskRecord, GuestRecord, NicRecord
from conversions.servers.refresh import row_of
from tests.fixtures_vsphere import Simulator, save_vcenter

SECRET = "pw-of-anna-3141"


class Api:
    """A client with a person's token."""

    def __init__(self, user: Any) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {tokens.create(user)[1]}"})

    def ask(self, method: str, path: str, data: Any = None) -> tuple[int, Any]:
        body = {} if data is None else {"data": json.dumps(data), "content_type": "application/json"}
        response = getattr(self.client, method)(f"/api/v1{path}", **body)
        assert SECRET not in response.content.decode()
        return response.status_code, json.loads(response.content) if response.content else None


@pytest.fixture
def api(alice: Any) -> Api:
    return Api(alice)


@pytest.fixture
def saved(alice: Any) -> SavedSource:
    saved: SavedSource = save_vcenter(alice, secrets={"password": SECRET}, pin_sha256="CD", pin_sha1="AB")
    return saved


@pytest.fixture
def add(saved: SavedSource) -> Callable[..., InventoryGuest]:
    def make(name: str, **changes: Any) -> InventoryGuest:
        id = f"vm-{saved.guests.count() + 1}"
        record = GuestRecord(
            id=id,
            name=name,
            uuid=f"uuid-of-{id}",
            power="off",
            os_id="debian11_64Guest",
            tools="running",
            hostname=f"{id}.example.org",
            disks=[DiskRecord(f"[ds] {name}/{name}.vmdk", "ds", 2000, 1 << 20, controller="scsi")],
            nics=[NicRecord("00:50:56:00:00:01", "vmxnet3", "VM Network", ips=("10.0.0.5/24",))],
            host="esx1",
            host_path=["DC", "esx1"],
        )
        for key, value in changes.items():
            setattr(record, key, value)
        row = row_of(saved, record, around([record], "https"))
        row.save()
        return row

    return make


def new(server: Simulator, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "vcenter", "name": "vC", "host": server.host, "port": server.port, "user": server.user, "password": SECRET,
    } | changes  # fmt: skip


# -- sources ----------------------------------------------------------------------------------------------------------


def test_a_source_is_added_and_trusted_with_the_fingerprint_that_the_server_shows(api: Api, vcenter: Simulator) -> None:
    shown = trust.fetch_certificate(vcenter.host, vcenter.port).sha256
    status, made = api.ask("post", "/sources", new(vcenter, pin_sha256=shown.replace(":", "").lower()))
    assert status == 201 and made["trusted"] and made["pin_sha256"] == shown and made["refreshing"]
    assert SavedSource.objects.get().secrets == {"password": SECRET}


def test_another_fingerprint_is_refused_and_nothing_is_saved(api: Api, vcenter: Simulator) -> None:
    status, answer = api.ask("post", "/sources", new(vcenter, pin_sha256="00:11"))
    assert status == 409 and answer["error"]["code"] == "shown-another" and answer["error"]["field"] == "pin_sha256"
    assert not SavedSource.objects.exists()


def test_without_a_fingerprint_it_is_not_trusted_yet(api: Api, vcenter: Simulator) -> None:
    status, made = api.ask("post", "/sources", new(vcenter))
    assert status == 201 and not made["trusted"] and not made["refreshing"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": "https://vcenter/"}, "host"),
        ({"password": ""}, "password"),
        ({"password": "two\r\nlines"}, "password"),
        ({"transport": "vddk"}, "vddk_libdir"),
        ({"key": "-----BEGIN"}, "key"),
        ({"port": 0}, "port"),
        ({"colour": "red"}, "colour"),
        ({"kind": "hyperv"}, "kind"),
    ],
)
def test_what_a_form_would_refuse_is_refused_with_its_field(
    api: Api, vcenter: Simulator, changes: dict[str, Any], field: str
) -> None:
    status, answer = api.ask("post", "/sources", new(vcenter, **changes))
    assert status == 422 and answer["error"]["field"] == field
    assert not SavedSource.objects.exists()


def test_a_change_keeps_what_was_not_sent(api: Api, saved: SavedSource) -> None:
    status, changed = api.ask("patch", f"/sources/{saved.pk}", {"name": "Berlin", "max_running": 2})
    assert status == 200 and (changed["name"], changed["max_running"], changed["user"]) == ("Berlin", 2, "anna")
    saved.refresh_from_db()
    assert saved.secrets == {"password": SECRET} and saved.pin == "PEM"


def test_another_host_takes_the_trust_away(api: Api, saved: SavedSource) -> None:
    status, changed = api.ask("patch", f"/sources/{saved.pk}", {"host": "other.lab"})
    assert status == 200 and not changed["trusted"]


def test_a_source_in_use_is_not_removed(api: Api, saved: SavedSource, alice: Any) -> None:
    row = Conversion.objects.create(name="w", owner=alice, plan_json={}, source=saved)
    assert api.ask("delete", f"/sources/{saved.pk}")[0] == 409
    row.delete()
    assert api.ask("delete", f"/sources/{saved.pk}")[0] == 204
    assert not SavedSource.objects.exists()


def test_the_test_tells_its_steps(api: Api, vcenter: Simulator) -> None:
    shown = trust.fetch_certificate(vcenter.host, vcenter.port).sha256
    _, made = api.ask("post", "/sources", new(vcenter, pin_sha256=shown))
    status, told = api.ask("post", f"/sources/{made['id']}/test")
    assert status == 200 and not told["ok"]
    assert [(step["id"], step["state"]) for step in told["steps"]][-1] == ("login", "error")


def test_guests_are_searched_and_paged(api: Api, saved: SavedSource, add: Callable[..., Any]) -> None:
    for name in ("web01", "web02", "mail"):
        add(name)
    status, found = api.ask("get", f"/sources/{saved.pk}/guests?q=web&limit=1&offset=1")
    assert status == 200 and found["count"] == 2 and [guest["name"] for guest in found["items"]] == ["web02"]
    assert found["items"][0]["addresses"] == ["10.0.0.5/24"] and found["items"][0]["networks"] == ["VM Network"]


def test_a_refresh_is_asked_for(api: Api, saved: SavedSource) -> None:
    assert api.ask("post", f"/sources/{saved.pk}/refresh") == (202, {"refreshing": True})
    saved.refresh_from_db()
    assert saved.refresh_requested


# -- who may ----------------------------------------------------------------------------------------------------------


def test_a_source_that_is_not_shared_does_not_exist_for_a_requester(
    saved: SavedSource, add: Callable[..., Any], charlie: Any
) -> None:
    add("web01")
    SavedSource.objects.filter(pk=saved.pk).update(shared=False)
    api = Api(charlie)
    assert api.ask("get", "/sources")[1]["count"] == 0
    assert api.ask("get", f"/sources/{saved.pk}")[0] == 404
    source = {"kind": "vcenter", "source_id": saved.pk, "guest": "web01"}
    status, answer = api.ask("post", "/conversions", {"name": "web01", "source": source})
    assert status == 404 and answer["error"]["code"] == "source-unknown"
    assert api.ask("post", "/batches", {"name": "b", "source_id": saved.pk, "guests": ["web01"]})[0] == 404
    with pytest.raises(RefusedError):
        planning.look(source, charlie)
    assert not Conversion.objects.exists()


def test_a_shared_one_is_for_every_requester(saved: SavedSource, add: Callable[..., Any], charlie: Any) -> None:
    add("web01")
    source = {"kind": "vcenter", "source_id": saved.pk, "guest": "web01"}
    status, made = Api(charlie).ask("post", "/conversions", {"name": "web01", "source": source})
    assert status == 201 and made["owner"] == "charlie"


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_starts_what_can_be_moved_and_lists_the_rest(
    api: Api, saved: SavedSource, add: Callable[..., Any]
) -> None:
    for name in ("Web 01", "Web_01", "mail"):
        add(name)
    add("runs", power="on")
    guests = ["vm-1", {"guest": "vm-2"}, {"guest": "mail", "name": "post"}, "runs", "nosuch", "vm-1"]
    status, made = api.ask("post", "/batches", {"name": "Move", "source_id": saved.pk, "guests": guests})
    assert status == 201
    assert [row["name"] for row in made["conversions"]] == ["web-01", "web-01-2", "post"]
    refused = {one["guest"]: one["error"]["code"] for one in made["refused"]}
    assert refused == {"vm-4": "vmware.vm.powered_on", "nosuch": "guest-unknown"}
    assert made["states"] == {"queued": 3} and made["percent"] == 0
    assert api.ask("get", f"/batches/{made['id']}")[1]["conversions"] == made["conversions"]
    assert api.ask("get", "/batches")[1]["items"][0]["name"] == "Move"


def test_none_that_can_be_moved_is_a_refusal(api: Api, saved: SavedSource, add: Callable[..., Any]) -> None:
    add("runs", power="on")
    status, answer = api.ask("post", "/batches", {"name": "b", "source_id": saved.pk, "guests": ["runs", "x"]})
    assert status == 422 and answer["error"]["code"] == "nothing-to-start"
    assert not Batch.objects.exists() and not Conversion.objects.exists()


def test_running_guests_are_taken_when_they_are_shut_down_first(
    api: Api, saved: SavedSource, add: Callable[..., Any]
) -> None:
    add("runs", power="on")
    asked = {"name": "b", "source_id": saved.pk, "guests": ["runs"], "shutdown": True, "keep_running": True}
    status, _ = api.ask("post", "/batches", asked | {"output": {"kind": "files", "networks": {"VM Network": "pod"}}})
    plan = Conversion.objects.get().plan
    assert (
        status == 201 and plan.source.settings["shut_down"] is True and plan.source.settings["shut_down_minutes"] == 15
    )
    assert plan.output.settings["start"] is True and plan.output.settings["networks"]["VM Network"]["type"] == "pod"


def test_one_that_runs_is_started_as_the_new_machine_when_that_is_asked_for(
    api: Api, saved: SavedSource, add: Callable[..., InventoryGuest]
) -> None:
    add("runs", power="on"), add("rests")

    def start(guest: str, **more: Any) -> Any:
        source = {"kind": "vcenter", "source_id": saved.pk, "guest": guest, "shut_down": True}
        status, made = api.ask("post", "/conversions", {"name": guest, "source": source, **more})
        assert status == 201, made
        return Conversion.objects.get(pk=made["id"]).plan.output.settings.get("start", False)

    assert start("runs", keep_running=True) is True
    assert start("rests", keep_running=True, output={"kind": "files", "start": True}) is False
    assert start("runs") is False


def test_a_guest_whose_tools_do_not_run_cannot_be_asked(api: Api, saved: SavedSource, add: Callable[..., Any]) -> None:
    add("runs", power="on", tools="not running")
    asked = {"name": "b", "source_id": saved.pk, "guests": ["runs"], "shutdown": True}
    assert "tools-needed" not in str(api.ask("post", "/batches", asked | {"power_off": True}))
    status, answer = api.ask("post", "/batches", asked)
    assert status == 422 and "VMware Tools" in answer["error"]["text"]


@pytest.mark.parametrize(
    ("template", "names"),
    [("{name}-new", ["web-01-new", "mail-new"]), ("k{number}", ["k1", "k2"]), ("{hostname}", ["vm-1", "vm-2"])],
)
def test_names_are_made_from_a_template(
    api: Api, saved: SavedSource, add: Callable[..., Any], template: str, names: list[str]
) -> None:
    add("Web 01"), add("mail")
    asked = {"name": "b", "source_id": saved.pk, "guests": ["vm-1", "vm-2"], "name_template": template}
    assert [row["name"] for row in api.ask("post", "/batches", asked)[1]["conversions"]] == names


def test_an_odd_template_is_refused(api: Api, saved: SavedSource, add: Callable[..., Any]) -> None:
    add("web01")
    asked = {"name": "b", "source_id": saved.pk, "guests": ["vm-1"], "name_template": "{colour}"}
    status, answer = api.ask("post", "/batches", asked)
    assert status == 422 and answer["error"]["field"] == "name_template"


def test_a_batch_that_does_not_fit_is_refused_whole(
    api: Api, saved: SavedSource, add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("web01"), add("web02")
    monkeypatch.setattr("conversions.host.space.free", lambda folder=None: (1 << 30) + (300 << 20))
    status, answer = api.ask("post", "/batches", {"name": "b", "source_id": saved.pk, "guests": ["vm-1", "vm-2"]})
    assert status == 409 and answer["error"]["code"] == "no-space" and not Conversion.objects.exists()
    assert api.ask("post", "/batches", {"name": "b", "source_id": saved.pk, "guests": ["vm-1"]})[0] == 201


def test_addresses_are_set_for_all_or_for_one_guest_of_a_batch(
    api: Api, saved: SavedSource, add: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rhsrvany.exe").touch()
    monkeypatch.setenv("VIRT_TOOLS_DATA_DIR", str(tmp_path))
    for number in (1, 2):
        ips = (f"10.0.0.{number + 4}/24",)
        nic = NicRecord(f"00:50:56:00:00:0{number}", "e1000", "net", ips=ips, static_ips=ips, gateways=("10.0.0.1",))
        add(f"win{number}", os_id="windows2019srv_64Guest", nics=[nic])
    cards = api.ask("get", f"/sources/{saved.pk}/guests")[1]["items"][0]["cards"]
    assert cards[0]["static_ips"] == ["10.0.0.5/24"] and cards[0]["gateways"] == ["10.0.0.1"]
    other = [{"mac": "00:50:56:00:00:02", "address": "10.0.0.9", "prefix": 24, "gateway": "10.0.0.1"}]
    asked = {"name": "b", "source_id": saved.pk, "options": {"addresses": "keep", "boot_test": True}}
    guests = ["win1", {"guest": "win2", "addresses": other}]
    status, made = api.ask("post", "/batches", asked | {"guests": guests})
    assert status == 201, made
    plans = [row.plan for row in Conversion.objects.order_by("id")]
    assert [plan.options.addresses[0].address for plan in plans] == ["10.0.0.5", "10.0.0.9"]
    assert all(plan.options.boot_test for plan in plans)
    wrong = [{"guest": "win2", "addresses": [other[0] | {"gateway": "10.1.0.1,24"}]}, "win1"]
    refused = api.ask("post", "/batches", asked | {"guests": wrong})[1]["refused"]
    assert refused[0]["error"]["field"] == "options.addresses" and refused[0]["error"]["code"] == "address-not-allowed"
    for odd in ("kept", {"all": "keep", "cards": {}}, [{"mac": "x", "address": "y", "mask": "z"}]):
        status, answer = api.ask("post", "/batches", asked | {"guests": ["win1"], "options": {"addresses": odd}})
        assert status == 422 and "addresses" in answer["error"]["field"], answer
