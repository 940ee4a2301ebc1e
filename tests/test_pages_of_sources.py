"""What the pages of sources, their guests and batches say, and what they offer to click next."""

import re
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Batch, Conversion, Draft, InventoryGuest, SavedSource
from conversions.problems import Problem
from conversions.servers import guest_table, refresh
from conversions.servers.inventory import GuestRecord
from conversions.servers.trust import Certificate
from conversions.source_forms import SourceForm
from conversions.states import State
from tests.fixtures_vsphere import save_vcenter

pytestmark = pytest.mark.django_db

WRONG = Problem("login-refused", "User or password is wrong", "It refused the login.", "Type the password again.")


@pytest.fixture
def saved(alice: Any) -> SavedSource:
    saved: SavedSource = save_vcenter(alice, secrets={"password": "p"})
    return saved


def add(saved: SavedSource, name: str, **fields: Any) -> InventoryGuest:
    return InventoryGuest.objects.create(
        source=saved, guest_id=f"vm-{saved.guests.count()}", name=name, record={"disks": [], "nics": []}, **fields
    )


def test_a_read_that_failed_is_said_in_the_part_that_is_asked_for_again(
    saved: SavedSource, log_in: Any, alice: Any
) -> None:
    SavedSource.objects.filter(pk=saved.pk).update(refresh_error=WRONG.as_dict())
    part = log_in(alice).get(f"/sources/{saved.pk}/", HTTP_HX_REQUEST="true").content.decode()
    assert "<html" not in part and "User or password is wrong" in part
    assert f'href="/sources/{saved.pk}/edit/"' in part


def test_saving_a_source_reads_its_guests_anew(saved: SavedSource, log_in: Any, alice: Any) -> None:
    SavedSource.objects.filter(pk=saved.pk).update(refresh_error=WRONG.as_dict(), refreshed=timezone.now())
    data = {
        "name": "Lab",
        "host": "vcenter.lab",
        "port": "443",
        "user": "anna",
        "password": "right",
        "transport": "https",
    }
    assert log_in(alice).post(f"/sources/{saved.pk}/edit/", data).status_code == 302
    saved.refresh_from_db()
    assert saved.refresh_requested and saved.refresh_error is None


def test_a_source_that_is_not_trusted_offers_that_first(
    saved: SavedSource, log_in: Any, alice: Any, charlie: Any
) -> None:
    SavedSource.objects.filter(pk=saved.pk).update(pin="")
    assert "Look at what the server shows" in log_in(alice).get(f"/sources/{saved.pk}/").content.decode()
    others = log_in(charlie).get(f"/sources/{saved.pk}/").content.decode()
    assert "Look at what the server shows" not in others and "An operator or administrator can do that" in others
    assert "not trusted yet" in log_in(alice).get("/sources/").content.decode()


def test_names_are_in_the_order_in_which_people_look_for_them(saved: SavedSource) -> None:
    names = ("VM10", "beta", "vm2", "Alpha", "vm02-data", "VM1")
    refresh.store(saved, [GuestRecord(id=f"vm-{n}", name=name) for n, name in enumerate(names)])
    shown = [guest.name for guest in guest_table.guests(saved, guest_table.Question())]
    assert shown == ["Alpha", "beta", "VM1", "vm2", "vm02-data", "VM10"]
    shown = [guest.name for guest in guest_table.guests(saved, guest_table.Question(descending=True))]
    assert shown == ["VM10", "vm02-data", "vm2", "VM1", "beta", "Alpha"]


def test_a_login_is_optional_only_when_one_is_stored(saved: SavedSource) -> None:
    assert SourceForm(kind="vcenter").fields["password"].required
    assert not SourceForm(kind="vcenter", saved=saved).fields["password"].required
    assert SourceForm(kind="xen").fields["key"].required


def test_what_failed_stands_first_in_a_batch(saved: SavedSource, log_in: Any, alice: Any) -> None:
    batch = Batch.objects.create(name="b", owner=alice)
    for name, state in (("good", State.SUCCEEDED), ("bad", State.FAILED), ("gone", State.LOST)):
        plan = {"name": name, "source": {"kind": "disk", "settings": {}}, "guest": {"disks": []}}
        Conversion.objects.create(name=name, owner=alice, batch=batch, state=state, plan_json=plan)
    page = log_in(alice).get(f"/batches/{batch.pk}/").content.decode()
    assert re.findall(r'<a href="/conversions/\d+/">(\w+)</a>', page) == ["bad", "gone", "good"]
    assert "live.css" in page


def test_a_move_that_was_left_at_its_first_step_is_offered_again(saved: SavedSource, log_in: Any, alice: Any) -> None:
    Draft.objects.create(
        owner=alice, version=2, data={"kind": "vcenter", "typed": {"source": {"source_id": saved.pk, "guest": "vm-1"}}}
    )
    answer = log_in(alice).get("/new/")
    assert answer.status_code == 200 and "no name yet" in answer.content.decode()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """What a server shows that stands for a vCenter."""
    now = timezone.now()
    certificate = Certificate(
        pem="PEM",
        sha256="AA:AA",
        sha1="BB:BB",
        subject="CN=vcenter",
        issuer="CN=vcenter",
        not_before=now,
        not_after=now,
    )
    monkeypatch.setattr("conversions.views.sources.fetch_certificate", lambda host, port: certificate)
    return certificate


def test_a_certificate_that_is_trusted_already_asks_for_nothing(
    saved: SavedSource, shown: Certificate, log_in: Any, alice: Any
) -> None:
    SavedSource.objects.filter(pk=saved.pk).update(pin="PEM", pin_sha256=shown.sha256)
    page = log_in(alice).get(f"/sources/{saved.pk}/trust/").content.decode()
    assert "It is the one that is trusted" in page and "Trust it" not in page


def test_another_certificate_than_the_trusted_one_stands_beside_it(
    saved: SavedSource, shown: Certificate, log_in: Any, alice: Any
) -> None:
    SavedSource.objects.filter(pk=saved.pk).update(pin="OLD", pin_sha256="CC:CC")
    page = log_in(alice).get(f"/sources/{saved.pk}/trust/").content.decode()
    assert "This is not the certificate that was trusted before" in page and "Trust it" in page
    assert "AA:AA" in page and "CC:CC" in page


def test_a_batch_says_all_when_all_are_alike(saved: SavedSource, log_in: Any, alice: Any) -> None:
    plan = {"name": "x", "source": {"kind": "disk", "settings": {}}, "guest": {"disks": []}}
    for name, states in {"even": [State.SUCCEEDED] * 2, "odd": [State.SUCCEEDED, State.LOST]}.items():
        batch = Batch.objects.create(name=name, owner=alice)
        for state in states:
            Conversion.objects.create(name=name, owner=alice, batch=batch, state=state, plan_json=plan)
    page = log_in(alice).get("/batches/").content.decode()
    assert ">all 2 done<" in page and ">2: 1 done, 1 lost<" in page
    # A word that nobody knows brings its meaning and what to do.
    assert "its program is gone: retry it" in log_in(alice).get("/").content.decode()
