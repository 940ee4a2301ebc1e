"""Many guests of a source in the pages: chosen over pages and searches, or from a list, named, reviewed, started once."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from conversions import batches, selection
from conversions.models import Batch, Conversion, Draft, InventoryGuest, SavedSource, SavedTarget
from conversions.servers.concerns import around
from conversions.servers.inventory import DiskRecord, GuestRecord, NicRecord
from conversions.servers.refresh import row_of
from conversions.states import State
from tests.fixtures_vsphere import save_vcenter

PASSWORD = "pw-of-anna-2718"


@pytest.fixture
def saved(alice: Any) -> SavedSource:
    saved: SavedSource = save_vcenter(alice, secrets={"password": PASSWORD}, pin_sha256="CD", pin_sha1="AB")
    return saved


@pytest.fixture
def add(saved: SavedSource) -> Callable[..., InventoryGuest]:
    def make(name: str, network: str = "VM Network", **changes: Any) -> InventoryGuest:
        id = f"vm-{saved.guests.count() + 1}"
        record = GuestRecord(
            id=id,
            name=name,
            uuid=f"uuid-of-{id}",
            power="off",
            os_id="debian11_64Guest",
            tools="running",
            disks=[DiskRecord(f"[ds] {name}/{name}.vmdk", "ds", 2000, 1 << 20, controller="scsi")],
            nics=[NicRecord("00:50:56:00:00:01", "vmxnet3", network, ips=("10.0.0.5/24",))],
            host="esx1",
            host_path=["DC", "esx1"],
        )
        for key, value in changes.items():
            setattr(record, key, value)
        row = row_of(saved, record, around([record], "https"))
        row.save()
        return row

    return make


@pytest.fixture
def browser(log_in: Callable[[Any], Any], alice: Any) -> Any:
    return log_in(alice)


def chosen(saved: SavedSource, user: Any) -> list[str]:
    return selection.ids_of(selection.of(user, saved))


def tick(browser: Any, saved: SavedSource, *ids: str, shown: tuple[str, ...] = (), **more: Any) -> Any:
    data = {"guest": list(ids), "shown": list(shown or ids), **more}
    return browser.post(f"/sources/{saved.pk}/select/", data)


def version(draft: Draft) -> dict[str, str]:
    draft.refresh_from_db()
    return {"version": str(draft.version)}


@pytest.fixture
def ready(browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any) -> Draft:
    """Two guests, at the review."""
    add("Web 01"), add("mail", "DMZ")
    tick(browser, saved, "vm-1", "vm-2")
    draft = selection.of(alice, saved)
    assert draft
    for step, data in (
        ("networks", {}),
        ("storage", {}),
        ("options", {"batch_name": "Move", "name_template": "{name}"}),
    ):
        answer = browser.post(f"/many/{draft.pk}/{step}/", data | version(draft))
        assert answer.status_code == 302, answer.content.decode()
    return draft


def start(browser: Any, draft: Draft, **more: Any) -> Any:
    page = browser.get(f"/many/{draft.pk}/review/").content.decode()
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen, page
    data = {"seen": seen[1], "accept": "on", **version(draft), **more}
    return browser.post(f"/many/{draft.pk}/review/", data)


# -- choosing ---------------------------------------------------------------------------------------------------------


def test_ticks_of_other_pages_stay(browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any) -> None:
    for number in range(4):
        add(f"web{number}")
    tick(browser, saved, "vm-1", shown=("vm-1", "vm-2"))
    tick(browser, saved, "vm-4", shown=("vm-3", "vm-4"))
    assert chosen(saved, alice) == ["vm-1", "vm-4"]
    tick(browser, saved, shown=("vm-1", "vm-2"))
    assert chosen(saved, alice) == ["vm-4"]
    page = browser.get(f"/sources/{saved.pk}/").content.decode()
    assert page.count(" checked") == 1 and "1 guest selected" in page


def test_the_single_wizard_takes_addresses_and_starts_what_runs(
    browser: Any, saved: SavedSource, add: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rhsrvany.exe").touch()
    monkeypatch.setenv("VIRT_TOOLS_DATA_DIR", str(tmp_path))
    add("win", power="on", os_id="windows2019srv_64Guest")
    browser.post(f"/sources/{saved.pk}/move/", {"move": "vm-1"})
    draft = Draft.objects.get()
    typed = {"source_id": str(saved.pk), "guest": "vm-1", "shut_down": "on"}
    browser.post(f"/new/{draft.pk}/source/", typed | version(draft))
    browser.post(f"/new/{draft.pk}/guest/", {"name": "win"} | version(draft))
    options = {"root": "first", "output-format": "raw", "output-allocation": "sparse", "addresses": "leave"}
    field = "card-0-005056000001"
    wrong = options | {f"{field}-address": "10.0.0.9/33"} | version(draft)
    answer = browser.post(f"/new/{draft.pk}/options/", wrong)
    assert answer.status_code == 422 and "a number from 1 to 32" in answer.content.decode()
    right = options | {f"{field}-address": "10.0.0.9/24", f"{field}-gateway": "10.0.0.1", f"{field}-dns": "10.0.0.2"}
    assert browser.post(f"/new/{draft.pk}/options/", right | version(draft)).status_code == 302
    assert 'value="10.0.0.9/24"' in browser.get(f"/new/{draft.pk}/options/").content.decode()
    target = browser.get(f"/new/{draft.pk}/target/").content.decode()
    assert re.search(r'<input[^>]*name="start"[^>]*checked', target)
    assert browser.post(f"/new/{draft.pk}/target/", {"start": "on"} | version(draft)).status_code == 302
    page = browser.get(f"/new/{draft.pk}/review/").content.decode()
    assert "--mac" in page and "00:50:56:00:00:01:ip:10.0.0.9,10.0.0.1,24,10.0.0.2" in page and "a guess" in page


def test_the_page_of_the_search_comes_back_after_a_press_without_javascript(
    browser: Any, saved: SavedSource, add: Callable[..., Any]
) -> None:
    add("web")
    answer = tick(browser, saved, "vm-1", q="web", page="2", do="keep")
    assert answer.headers["Location"] == f"/sources/{saved.pk}/?q=web&page=2"


def test_all_that_a_search_finds_are_chosen_but_for_those_that_cannot_be_moved(
    browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any
) -> None:
    add("web1"), add("mail"), add("web2", is_template=True), add("web3", power="on")
    tick(browser, saved, do="all", q="web")
    assert chosen(saved, alice) == ["vm-1", "vm-4"]
    tick(browser, saved, do="none")
    assert chosen(saved, alice) == []


def test_a_guest_that_cannot_be_moved_is_disabled_with_the_reason_and_refused(
    browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any
) -> None:
    row = add("gold", is_template=True)
    page = browser.get(f"/sources/{saved.pk}/").content.decode()
    assert re.search(rf'value="{row.guest_id}"[^>]* disabled title="[^"]+"', page)
    tick(browser, saved, row.guest_id)
    assert chosen(saved, alice) == []


def test_two_people_have_a_selection_each(
    browser: Any, log_in: Any, saved: SavedSource, add: Callable[..., Any], alice: Any, charlie: Any
) -> None:
    add("a"), add("b")
    tick(browser, saved, "vm-1")
    tick(log_in(charlie), saved, "vm-2")
    assert (chosen(saved, alice), chosen(saved, charlie)) == (["vm-1"], ["vm-2"])


def test_a_viewer_sees_no_boxes(log_in: Any, bob: Any, saved: SavedSource, add: Callable[..., Any]) -> None:
    add("a")
    assert b'name="guest"' not in log_in(bob).get(f"/sources/{saved.pk}/").content


def test_a_pasted_list_tells_what_is_wrong_line_by_line(
    browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any
) -> None:
    add("web"), add("twin"), add("twin"), add("gold", is_template=True)
    page = browser.post(f"/sources/{saved.pk}/list/", {"list": "name\nweb\nnosuch\ntwin\ngold\nvm-2"}).content.decode()
    assert chosen(saved, alice) == ["vm-1", "vm-2"]
    for line, words in ((3, "no guest of this name"), (4, "Several guests"), (5, "template")):
        assert re.search(rf'data-label="Line">{line}<.*?{words}', page, re.DOTALL), words


def test_an_uploaded_csv_is_taken(browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any) -> None:
    add("web"), add("mail")
    file = SimpleUploadedFile("list.csv", b"\xef\xbb\xbfname,why\r\nweb,old\r\nmail,x\r\n", "text/csv")
    assert browser.post(f"/sources/{saved.pk}/list/", {"file": file}).status_code == 302
    assert chosen(saved, alice) == ["vm-1", "vm-2"]


def test_an_empty_list_is_said_to_be_empty(browser: Any, saved: SavedSource) -> None:
    answer = browser.post(f"/sources/{saved.pk}/list/", {"list": " \n"})
    assert answer.status_code == 422 and "The list is empty" in answer.content.decode()


# -- one guest --------------------------------------------------------------------------------------------------------


def test_move_begins_the_ordinary_wizard_with_the_guest_filled_in(
    browser: Any, saved: SavedSource, add: Callable[..., Any]
) -> None:
    add("Web 01")
    answer = browser.post(f"/sources/{saved.pk}/move/", {"move": "vm-1"})
    draft = Draft.objects.get()
    assert answer.headers["Location"] == f"/new/{draft.pk}/guest/"
    assert draft.data["suggested"] == "web-01" and "Web 01" in browser.get(answer.headers["Location"]).content.decode()


def test_move_of_a_running_guest_asks_whether_to_shut_it_down(
    browser: Any, saved: SavedSource, add: Callable[..., Any]
) -> None:
    add("web", power="on")
    answer = browser.post(f"/sources/{saved.pk}/move/", {"move": "vm-1"})
    draft = Draft.objects.get()
    assert answer.headers["Location"] == f"/new/{draft.pk}/source/"
    assert "Shut the guest down first" in browser.get(f"/new/{draft.pk}/source/").content.decode()
    typed = {"source_id": str(saved.pk), "guest": "vm-1", "shut_down": "on", **version(draft)}
    assert browser.post(f"/new/{draft.pk}/source/", typed).status_code == 302
    draft.refresh_from_db()
    assert draft.data["source"]["shut_down"] is True


# -- the steps --------------------------------------------------------------------------------------------------------


def test_every_network_of_all_guests_is_asked_once(browser: Any, ready: Draft, add: Callable[..., Any]) -> None:
    page = browser.get(f"/many/{ready.pk}/networks/").content.decode()
    assert page.count("Network: VM Network") == 1 and page.count("Network: DMZ") == 1


def test_an_odd_network_is_refused_at_its_field(browser: Any, ready: Draft) -> None:
    answer = browser.post(f"/many/{ready.pk}/networks/", {"network_0": "Not A Name/", **version(ready)})
    assert answer.status_code == 422 and 'aria-invalid="true"' in answer.content.decode()


def test_settings_are_kept_under_a_name_and_filled_in_again(browser: Any, ready: Draft) -> None:
    browser.post(f"/many/{ready.pk}/networks/", {"network_0": "prod/vlan7", "save_as": "Prod", **version(ready)})
    browser.post(f"/many/{ready.pk}/storage/", {"storage_class": "fast", "save_as": "Prod", **version(ready)})
    target = SavedTarget.objects.get()
    assert target.settings == {"networks": {"VM Network": "prod/vlan7"}, "storage": {"storage_class": "fast"}}
    assert "prod/vlan7" in browser.get(f"/many/{ready.pk}/networks/?from={target.pk}").content.decode()


def test_the_names_are_shown_while_the_pattern_is_typed(browser: Any, ready: Draft) -> None:
    page = browser.get(f"/many/{ready.pk}/options/?preview=1&name_template=new-{{number}}").content.decode()
    assert "new-1" in page and "new-2" in page and "<html" not in page


def test_two_equal_names_that_were_typed_are_refused(browser: Any, ready: Draft, saved: SavedSource) -> None:
    typed = {f"name-{guest.pk}": "same" for guest in saved.guests.all()}
    data = {"batch_name": "b", "name_template": "{name}", **typed, **version(ready)}
    answer = browser.post(f"/many/{ready.pk}/options/", data)
    assert answer.status_code == 422 and "The name is there twice" in answer.content.decode()


def test_the_review_shows_each_command_and_no_secret(browser: Any, ready: Draft) -> None:
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    assert page.count("vpx://anna@vcenter.lab/DC/esx1") == 2 and PASSWORD not in page
    assert "10.0.0.5/24" in page and "a guess: nothing was measured on this server yet" in page


def test_start_makes_a_conversion_for_each_guest(browser: Any, ready: Draft) -> None:
    answer = start(browser, ready)
    batch = Batch.objects.get()
    assert answer.headers["Location"] == f"/batches/{batch.pk}/"
    assert sorted(batch.conversions.values_list("name", flat=True)) == ["mail", "web-01"]
    page = browser.get(f"/batches/{batch.pk}/").content.decode()
    assert "0 of 2 have ended" in page and "web-01" in page


def test_pressing_start_twice_or_in_two_tabs_starts_once(browser: Any, ready: Draft, alice: Any, saved: Any) -> None:
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen
    data = {"seen": seen[1], "accept": "on", **version(ready)}
    where = {browser.post(f"/many/{ready.pk}/review/", data).headers["Location"] for _ in range(2)}
    assert len(where) == 1 and Batch.objects.count() == 1 and Conversion.objects.count() == 2
    # The same from inside: both have read the draft before either has started it.
    ready.refresh_from_db()
    assert selection.of(alice, saved) is None


def test_two_starts_that_have_read_the_same_draft_make_one_batch(ready: Draft, saved: SavedSource, alice: Any) -> None:
    from conversions.views.many import planned_of

    ready.refresh_from_db()
    one, other = Draft.objects.get(pk=ready.pk), Draft.objects.get(pk=ready.pk)
    planned = planned_of(ready, saved, selection.guests_of(ready), alice)
    first = batches.start("b", planned, alice, draft=one)
    real, batches.started = batches.started, lambda draft: None  # what the second would have seen a moment before
    try:
        with pytest.raises(Exception, match="changed"):
            batches.start("b", planned, alice, draft=other)
    finally:
        batches.started = real
    assert batches.start("b", planned, alice, draft=other) == first and Conversion.objects.count() == 2


def test_a_change_in_another_tab_is_said_and_not_started(browser: Any, ready: Draft) -> None:
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen
    old = version(ready)
    browser.post(f"/many/{ready.pk}/storage/", {"storage_class": "fast", **version(ready)})
    answer = browser.post(f"/many/{ready.pk}/review/", {"seen": seen[1], **old})
    assert answer.status_code == 409 and not Batch.objects.exists()
    assert browser.post(f"/many/{ready.pk}/storage/", {"storage_class": "slow", **old}).status_code == 409


def test_a_guest_that_was_started_meanwhile_is_listed_and_left_out_on_request(
    browser: Any, ready: Draft, saved: SavedSource, alice: Any
) -> None:
    row = saved.guests.get(guest_id="vm-2")
    record = GuestRecord.from_dict(row.record)
    record.power = "on"
    row.delete()
    row_of(saved, record, around([record], "https")).save()
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    assert "Cannot be moved now" in page and "The guest is running" in page and "without the 1 other" in page
    browser.post(f"/many/{ready.pk}/review/", {"leave_out": "vm-2", **version(ready)})
    assert chosen(saved, alice) == ["vm-1"]
    start(browser, ready)
    assert Conversion.objects.get().name == "web-01"


def test_warnings_have_to_be_accepted(browser: Any, ready: Draft) -> None:
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    assert "I have read the warnings" in page
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen
    answer = browser.post(f"/many/{ready.pk}/review/", {"seen": seen[1], **version(ready)})
    assert answer.status_code == 422 and not Batch.objects.exists()
    assert start(browser, ready).status_code == 302


def test_running_guests_are_offered_to_be_shut_down(
    browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any
) -> None:
    add("web", power="on")
    tick(browser, saved, "vm-1")
    draft = selection.of(alice, saved)
    assert draft
    for step in ("networks", "storage"):
        browser.post(f"/many/{draft.pk}/{step}/", version(draft))
    data = {"batch_name": "b", "name_template": "{name}", **version(draft)}
    answer = browser.post(f"/many/{draft.pk}/options/", data | {"power_off": "on"})
    assert answer.status_code == 422
    ticked = {"shut_down": "on", "shut_down_minutes": "7", "start_again": "on", "keep_running": "on"}
    assert browser.post(f"/many/{draft.pk}/options/", data | ticked).status_code == 302
    assert "shut down first, within 7 minutes" in browser.get(f"/many/{draft.pk}/review/").content.decode()
    start(browser, draft, accept="on")
    plan = Conversion.objects.get().plan
    settings = plan.source.settings
    assert (settings["shut_down"], settings["shut_down_minutes"], settings["start_again"]) == (True, 7, True)
    assert settings["power_off"] is False and plan.output.settings["start"] is True


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.fixture
def windows(
    browser: Any,
    saved: SavedSource,
    add: Callable[..., Any],
    alice: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Draft:
    """Two Windows guests and a Linux one, at the options."""
    (tmp_path / "rhsrvany.exe").touch()
    monkeypatch.setenv("VIRT_TOOLS_DATA_DIR", str(tmp_path))
    for number, system in ((1, "windows2019srv_64Guest"), (2, "windows2019srv_64Guest"), (3, "debian11_64Guest")):
        ips, more = (f"10.0.0.{number + 4}/24",), {"gateways": ("10.0.0.1",), "dns": ("10.0.0.2",)}
        nic = NicRecord(f"00:50:56:00:00:0{number}", "vmxnet3", "VM Network", ips=ips, static_ips=ips, **more)
        add(f"guest{number}", os_id=system, nics=[nic])
    tick(browser, saved, "vm-1", "vm-2", "vm-3")
    draft = selection.of(alice, saved)
    assert draft
    for step in ("networks", "storage"):
        browser.post(f"/many/{draft.pk}/{step}/", version(draft))
    return draft


def card(saved: SavedSource, number: int, field: str) -> str:
    return f"card-{saved.guests.get(guest_id=f'vm-{number}').pk}-00505600000{number}-{field}"


def test_addresses_are_kept_for_all_but_for_the_guest_that_gets_another(
    browser: Any, windows: Draft, saved: SavedSource
) -> None:
    page = browser.get(f"/many/{windows.pk}/options/").content.decode()
    assert card(saved, 1, "address") in page and card(saved, 3, "address") not in page
    assert "10.0.0.5/24, gateway 10.0.0.1, name servers 10.0.0.2" in page and "guest3: 10.0.0.7/24" in page
    typed = {card(saved, 2, "address"): "10.0.0.99/24", card(saved, 2, "gateway"): "10.0.0.1"}
    data = {"batch_name": "b", "name_template": "{name}", "addresses": "keep", **typed}
    answer = browser.post(f"/many/{windows.pk}/options/", data | version(windows))
    assert answer.status_code == 302, answer.content.decode()
    again = browser.get(f"/many/{windows.pk}/options/").content.decode()
    assert 'value="10.0.0.99/24"' in again and re.search(r'value="keep" checked', again)
    review = browser.get(f"/many/{windows.pk}/review/").content.decode()
    assert "--mac 00:50:56:00:00:01:ip:10.0.0.5,10.0.0.1,24,10.0.0.2" in review
    assert "--mac 00:50:56:00:00:02:ip:10.0.0.99,10.0.0.1,24 " in review and review.count("--mac") == 2
    assert "Card 00:50:56:00:00:03 on VM Network: had 10.0.0.7/24" in review
    start(browser, windows)
    row = Conversion.objects.get(name="guest3")
    assert "virt-v2v sets none in Linux guests" in browser.get(f"/conversions/{row.pk}/").content.decode()


def test_a_mistake_in_an_address_is_said_with_its_guest_and_stays_in_the_field(
    browser: Any, windows: Draft, saved: SavedSource
) -> None:
    typed = {card(saved, 2, "address"): "10.0.0.99/24", card(saved, 2, "gateway"): "10.9.0.1"}
    data = {"batch_name": "b", "name_template": "{name}", **typed}
    answer = browser.post(f"/many/{windows.pk}/options/", data | version(windows))
    page = answer.content.decode()
    assert answer.status_code == 422 and "guest2: The gateway is not in the card" in page and "10.9.0.1" in page
    same = {
        card(saved, n, field): text
        for n in (1, 2)
        for field, text in (("address", "10.0.0.9/24"), ("gateway", "10.0.0.1"))
    }
    answer = browser.post(
        f"/many/{windows.pk}/options/", {"batch_name": "b", "name_template": "{name}", **same} | version(windows)
    )
    assert answer.status_code == 422 and "Another guest gets this address" in answer.content.decode()


# -- the batch --------------------------------------------------------------------------------------------------------


def test_all_of_a_batch_is_cancelled_and_what_failed_retried(browser: Any, ready: Draft) -> None:
    start(browser, ready)
    batch = Batch.objects.get()
    assert b"Cancel all of them" in browser.get(f"/batches/{batch.pk}/cancel/").content
    browser.post(f"/batches/{batch.pk}/cancel/")
    assert batches.counts(batch) == {State.CANCELLED: 2}
    page = browser.get(f"/batches/{batch.pk}/").content.decode()
    assert "All 2 have ended" in page and "hx-trigger" not in page.partition('id="batch"')[2][:200]
    browser.post(f"/batches/{batch.pk}/retry/")
    assert batches.counts(batch) == {State.QUEUED: 2}
    assert b"Move" in browser.get("/batches/").content


def test_a_conversion_leads_to_its_batch(browser: Any, ready: Draft) -> None:
    start(browser, ready)
    batch, conversion = Batch.objects.get(), Conversion.objects.first()
    assert conversion
    assert f'href="/batches/{batch.pk}/"' in browser.get(f"/conversions/{conversion.pk}/").content.decode()
    assert b'href="/batches/"' in browser.get("/sources/").content


def test_a_requester_sees_only_own_batches(browser: Any, log_in: Any, charlie: Any, ready: Draft) -> None:
    start(browser, ready)
    batch = Batch.objects.get()
    client = log_in(charlie)
    assert client.get(f"/batches/{batch.pk}/").status_code == 403
    assert b"No batches yet" in client.get("/batches/").content


def test_progress_counts_each_guest_by_its_size(ready: Draft, browser: Any) -> None:
    start(browser, ready)
    first, second = Conversion.objects.order_by("id")
    first.plan_json["guest"]["disks"][0]["size"] = 3 << 20
    first.progress = {"bytes_done": 1 << 20, "bytes_total": 2 << 20}
    second.state = State.SUCCEEDED
    assert batches.progress([first, second]) == 62  # (3/2 + 1) of 4 MiB


# -- what is said ------------------------------------------------------------------------------------------------------


def test_the_options_say_which_guests_run(
    browser: Any, saved: SavedSource, add: Callable[..., Any], alice: Any
) -> None:
    add("web", power="on"), add("mail")
    tick(browser, saved, "vm-1", "vm-2")
    draft = selection.of(alice, saved)
    assert draft
    for step in ("networks", "storage"):
        browser.post(f"/many/{draft.pk}/{step}/", version(draft))
    page = browser.get(f"/many/{draft.pk}/options/").content.decode()
    assert "One of them is running: web" in page and "Shut the guest down first" in page
    data = {"batch_name": "b", "name_template": "{name}", **version(draft)}
    assert browser.post(f"/many/{draft.pk}/options/", data).status_code == 302
    page = browser.get(f"/many/{draft.pk}/review/").content.decode()
    assert f'<a href="/many/{draft.pk}/options/">Choose that' in page  # the way to mend it


def test_one_warning_of_two_guests_is_said_once(browser: Any, saved: SavedSource, ready: Draft) -> None:
    concern = {"id": "x", "severity": "warning", "title": "Look out", "text": "It matters."}
    saved.guests.update(concerns=[concern])
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    assert page.count("Look out") == 1 and "All 2 guests" in page


def test_the_partition_of_the_system_is_asked_for_as_for_one_guest(browser: Any, ready: Draft) -> None:
    data = {
        "batch_name": "b",
        "name_template": "{name}",
        "root": "device",
        "root_device": "/dev/sda2",
        **version(ready),
    }
    assert browser.post(f"/many/{ready.pk}/options/", data).status_code == 302
    ready.refresh_from_db()
    assert ready.data["options"]["options"]["root"] == "/dev/sda2"
    assert 'value="/dev/sda2"' in browser.get(f"/many/{ready.pk}/options/").content.decode()


def test_what_does_not_fit_cannot_be_started(browser: Any, ready: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversions.host.space.free", lambda: 1)
    page = browser.get(f"/many/{ready.pk}/review/").content.decode()
    assert "There is not enough free space" in page and "Check again" in page and ">Start 2" not in page
