"""Proof of boot as people ask for it: queued once, run by the conductor, kept, tried anew with another setting."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.urls import reverse

from conversions import boot_tests
from conversions.boot.bootdir import Outcome
from conversions.boot_tests import BootTests
from conversions.models import BootTest, Conversion, Event
from conversions.problems import RefusedError

Make = Callable[..., Conversion]

PANIC = Outcome(
    verdict="panic",
    good=False,
    title="The system stopped with a kernel panic",
    text="It found no root disk.",
    action="Try other hardware.",
    seconds=12.5,
    pictures=({"name": "screen-001.png", "seconds": 5},),
    suggestions=({"title": "Disks on SATA", "reason": "Every system has a driver.", "settings": {"bus": "sata"}},),
)


@pytest.fixture
def conversion(make_converted: Make, alice: Any) -> Conversion:
    return make_converted(alice)


def started(test: BootTest, outcome: Outcome | None = None) -> None:
    """As if its process had begun, and ended when there is an outcome."""
    folder = boot_tests.folder_of(test)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.lock.touch()
    if outcome:
        (folder.path / "screen-001.png").write_bytes(b"PNG")
        folder.serial.write_bytes(b"Kernel panic")
        folder.write_outcome(outcome)
    BootTest.objects.filter(pk=test.pk).update(state=BootTest.State.RUNNING)


def test_one_test_of_a_machine_waits_at_a_time(conversion: Conversion, alice: Any) -> None:
    test = boot_tests.ask(conversion, alice)
    assert test.state == "queued" and "kind: VirtualMachine" in test.manifest
    with pytest.raises(RefusedError) as caught:
        boot_tests.ask(conversion, alice)
    assert caught.value.status == 409


def test_without_a_result_there_is_nothing_to_try(conversion: Conversion, alice: Any) -> None:
    conversion.state = "failed"
    with pytest.raises(RefusedError):
        boot_tests.ask(conversion, alice)


def test_other_settings_are_tried_without_changing_what_is_handed_over(conversion: Conversion, alice: Any) -> None:
    test = boot_tests.ask(conversion, alice, {"bus": "sata"})
    assert "bus: sata" in test.manifest
    assert conversion.edited_manifest is None


def test_nonsense_settings_are_refused(conversion: Conversion, alice: Any) -> None:
    with pytest.raises(RefusedError):
        boot_tests.ask(conversion, alice, {"bus": "floppy"})
    assert not BootTest.objects.exists()


def test_the_conductor_keeps_how_it_ended(conversion: Conversion, alice: Any) -> None:
    test = boot_tests.ask(conversion, alice)
    started(test, PANIC)
    BootTests().tick("tcg")
    test.refresh_from_db()
    assert test.state == "ended" and test.outcome["verdict"] == "panic"
    assert Event.objects.filter(conversion=conversion, type="boot").count() == 2


def test_a_test_whose_process_is_gone_is_said_to_be_lost(conversion: Conversion, alice: Any) -> None:
    test = boot_tests.ask(conversion, alice)
    started(test)
    BootTests().tick("tcg")
    test.refresh_from_db()
    assert test.state == "lost"


def test_a_queued_one_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(
    conversion: Conversion, alice: Any
) -> None:
    test = boot_tests.ask(conversion, alice)
    boot_tests.cancel(test)
    test.refresh_from_db()
    assert test.state == "cancelled"
    running = boot_tests.ask(conversion, alice)
    started(running)
    boot_tests.cancel(running)
    assert boot_tests.folder_of(running).cancel.exists()


def test_a_manifest_without_disks_ends_in_words_and_not_in_a_loop(conversion: Conversion, alice: Any) -> None:
    test = boot_tests.ask(conversion, alice)
    BootTest.objects.filter(pk=test.pk).update(
        manifest="kind: VirtualMachine\nspec: {template: {spec: {domain: {}}}}\n"
    )
    BootTests().tick("tcg")
    test.refresh_from_db()
    assert test.state == "ended" and test.outcome["good"] is None and test.outcome["text"]


def test_the_page_shows_the_verdict_the_pictures_and_what_helps(
    conversion: Conversion, alice: Any, log_in: Any
) -> None:
    test = boot_tests.ask(conversion, alice)
    started(test, PANIC)
    BootTests().tick("tcg")
    client = log_in(alice)
    page = client.get(conversion.get_absolute_url()).content.decode()
    assert PANIC.title in page and "<strong>Disks on SATA</strong>" in page and "screen-001.png" in page
    # Why it could help stands there, not only under the mouse.
    assert f"<p>{PANIC.suggestions[0]['reason']}</p>" in page and "Asked for by alice" in page
    address = reverse("boot-picture", args=[conversion.pk, test.pk, "screen-001.png"])
    assert b"".join(client.get(address)) == b"PNG"
    assert client.get(reverse("boot-picture", args=[conversion.pk, test.pk, "trial.json"])).status_code == 404
    assert client.get(address.replace("screen-001", "..%2Fresult")).status_code == 404


def test_the_part_of_the_page_alone_leads_to_the_page(conversion: Conversion, alice: Any, log_in: Any) -> None:
    address = reverse("conversion-boot", args=[conversion.pk])
    assert log_in(alice).get(address)["Location"] == f"{conversion.get_absolute_url()}#boot"
    part = log_in(alice).get(address, HTTP_HX_REQUEST="true").content.decode()
    assert "Does it boot?" in part and "<html" not in part


def test_a_suggestion_is_one_click_and_its_manifest_another(conversion: Conversion, alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    first = boot_tests.ask(conversion, alice)
    started(first, PANIC)
    BootTests().tick("tcg")
    client.post(reverse("boot-ask", args=[conversion.pk]), {"suggestion": f"{first.pk}-0"})
    second = conversion.boot_tests.first()
    assert second is not None and second.settings == {"bus": "sata"}
    started(second, replace(PANIC, verdict="login", good=True, title="It boots", suggestions=()))
    BootTests().tick("tcg")
    client.post(reverse("boot-ask", args=[conversion.pk]), {"take": second.pk})
    conversion.refresh_from_db()
    assert conversion.edited_manifest is not None and "bus: sata" in conversion.edited_manifest["text"]


def test_the_evidence_has_pictures_console_and_manifest(conversion: Conversion, alice: Any, log_in: Any) -> None:
    import io
    import zipfile

    test = boot_tests.ask(conversion, alice)
    started(test, PANIC)
    answer = log_in(alice).get(reverse("conversion-evidence", args=[conversion.pk]))
    names = zipfile.ZipFile(io.BytesIO(b"".join(answer))).namelist()
    inside = {name.partition("/")[2] for name in names}
    wanted = {"screen-001.png", "serial.txt", "result.json", "manifest.yaml"}
    assert {f"boot-test-{test.pk}/{name}" for name in wanted} <= inside


def test_the_api_asks_and_tells(conversion: Conversion, alice: Any) -> None:
    from django.test import Client

    from conversions import tokens

    client = Client(headers={"Authorization": f"Bearer {tokens.create(alice)[1]}"})
    address = f"/api/v1/conversions/{conversion.pk}/boot-test"
    assert client.get(address).status_code == 404
    asked = client.post(address, json.dumps({"settings": {"bus": "sata"}}), content_type="application/json")
    assert asked.status_code == 202 and asked.json()["state"] == "queued"
    test = conversion.boot_tests.get()
    started(test, PANIC)
    BootTests().tick("tcg")
    told = client.get(address).json()
    assert told["verdict"] == "panic" and told["pictures"] == [
        f"/conversions/{conversion.pk}/boot/{test.pk}/screen-001.png"
    ]


@pytest.mark.real
@pytest.mark.django_db(transaction=True)
def test_a_disk_without_a_system_is_really_started_and_found_not_to_boot(conversion: Conversion, alice: Any) -> None:
    """Real QEMU in the real sandbox, on the empty disk of the fixture; KubeVirt is not asked."""
    test = boot_tests.ask(conversion, alice)
    conductor = BootTests()
    end = time.monotonic() + 120
    while not test.is_over and time.monotonic() < end:
        conductor.tick("tcg")
        time.sleep(0.5)
        test.refresh_from_db()
    assert test.state == "ended", boot_tests.folder_of(test).read_state()
    assert test.outcome["verdict"] == "no-bootable-device", test.outcome
    assert test.outcome["pictures"] and all(disk["before"] == disk["after"] for disk in test.outcome["fingerprints"])
