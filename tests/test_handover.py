"""What KubeVirt gets, on the pages and over the API: shown with reasons, edited with care, taken away."""

import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from django.urls import reverse

from conversions import handover
from conversions.models import Conversion, Event, SavedTarget
from conversions.plan import Guest, Nic
from conversions.target_form import TargetForm, network_keys

Make = Callable[..., Conversion]


@pytest.fixture
def conversion(make_converted: Make, alice: Any) -> Conversion:
    return make_converted(alice, namespace="shop", networks={"lan": {"type": "multus", "name": "infra/lan"}})


def url(name: str, conversion: Conversion) -> str:
    return reverse(name, args=[conversion.pk])


def api(conversion: Conversion, view: str = "") -> str:
    return f"/api/v1/conversions/{conversion.pk}/manifest" + (f"?view={view}" if view else "")


def test_what_the_person_chose_is_in_the_file(conversion: Conversion) -> None:
    machine = handover.real(conversion).machine
    assert machine["kind"] == "VirtualMachine" and machine["metadata"]["namespace"] == "shop"
    spec = machine["spec"]["template"]["spec"]
    assert spec["networks"][0]["multus"] == {"networkName": "infra/lan"}
    assert spec["domain"]["devices"]["interfaces"][0]["macAddress"] == "52:54:00:aa:00:01"


def test_the_page_shows_all_three_and_a_reason_beside_each_difference(
    conversion: Conversion, alice: Any, log_in: Any
) -> None:
    text = log_in(alice).get(url("conversion-manifest", conversion)).content.decode()
    assert "VirtualMachineInstance" in text and "kind: VirtualMachine\n" in text
    views = handover.real(conversion)
    assert views.changes and all(change.reason for change in views.changes)


def test_a_conversion_without_a_result_says_so(conversion: Conversion, alice: Any, log_in: Any) -> None:
    Conversion.objects.filter(pk=conversion.pk).update(state="failed")
    response = log_in(alice).get(url("conversion-manifest", conversion))
    assert response.status_code == 409 and "There is no result yet" in response.content.decode()


def test_a_yaml_that_is_gone_or_broken_is_said_and_no_error_of_ours(
    conversion: Conversion, alice: Any, log_in: Any
) -> None:
    client = log_in(alice)
    path = conversion.output_dir / "fedora-test.yaml"
    for content in ("", "kind: [", "a: &a [*a]", "x" * 2_000_000):
        path.write_text(content)
        assert client.get(url("conversion-manifest", conversion)).status_code in (409, 422), content[:20]
    path.unlink()
    assert client.get(url("conversion-manifest", conversion)).status_code == 404


def test_an_edit_is_kept_and_leaves_v2vweb_everywhere(conversion: Conversion, alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    text = handover.real(conversion).ours.replace("runStrategy: Halted", "runStrategy: Always")
    response = client.post(url("manifest-save", conversion), {"text": text.replace("\n", "\r\n")})
    assert response.status_code == 302
    assert client.get(url("manifest-download", conversion)).content.decode() == text
    content = io.BytesIO(client.get(url("manifest-bundle", conversion)).content)
    with tarfile.open(fileobj=content) as bundle:
        names = [name.rpartition("/")[2] for name in bundle.getnames()]
    assert "upload.sh" in names and "manifest.yaml" in names
    assert Event.objects.get(conversion=conversion, type="manifest").actor == "alice"
    client.post(url("manifest-save", conversion), {"reset": "1"})
    assert "Halted" in client.get(url("manifest-download", conversion)).content.decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "kind: [", "Line 1"),
        (lambda text: text.replace("namespace: shop", "namespace: kube-system", 1), "shop"),
        (lambda text: text.replace("runStrategy: Halted", "runStrategy: Sometimes"), "runStrategy"),
    ],
)
def test_an_edit_with_a_mistake_names_the_line_and_loses_nothing(
    conversion: Conversion, alice: Any, log_in: Any, change: Callable[[str], str], said: str
) -> None:
    text = change(handover.real(conversion).ours)
    response = log_in(alice).post(url("manifest-save", conversion), {"text": text})
    page = response.content.decode()
    assert response.status_code in (409, 422) and "Line " in page and said in page
    assert text.splitlines()[0] in page
    conversion.refresh_from_db()
    assert conversion.edited_manifest is None


def test_mistakes_are_told_while_it_is_typed(conversion: Conversion, alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    good = client.post(url("manifest-check", conversion), {"text": handover.real(conversion).ours})
    assert "No mistakes found" in good.content.decode()
    bad = client.post(url("manifest-check", conversion), {"text": "kind: Pod"})
    assert "Line 1" in bad.content.decode()


def test_a_viewer_reads_but_does_not_change(conversion: Conversion, bob: Any, log_in: Any) -> None:
    client = log_in(bob)
    page = client.get(url("conversion-manifest", conversion))
    assert page.status_code == 200 and "manifest-text" not in page.content.decode()
    assert client.post(url("manifest-save", conversion), {"reset": "1"}).status_code == 403


# --- API -------------------------------------------------------------------------------------------------------------


def test_the_api_has_the_three_views(conversion: Conversion, alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    assert "VirtualMachineInstance" in client.get(api(conversion, "virt-v2v")).json()["text"]
    assert yaml.safe_load_all(client.get(api(conversion)).json()["text"])
    difference = client.get(api(conversion, "diff")).json()
    assert difference["text"] is None and all(change["reason"] for change in difference["changes"])


def test_the_api_takes_an_edit_and_refuses_a_bad_one(conversion: Conversion, alice: Any) -> None:
    from django.test import Client

    from conversions import tokens

    client = Client(headers={"Authorization": f"Bearer {tokens.create(alice)[1]}"})
    text = handover.real(conversion).ours.replace("runStrategy: Halted", "runStrategy: Always")

    def put(text: str) -> Any:
        return client.put(api(conversion), json.dumps({"text": text}), content_type="application/json")

    assert put(text).json()["edited_by"] == "alice"
    refused = put("kind: [")
    assert refused.status_code == 422 and refused.json()["error"]["field"] == "manifest"


# --- the wizard's step -----------------------------------------------------------------------------------------------


def test_each_network_of_the_guest_can_be_mapped() -> None:
    guest = Guest(nics=(Nic(network="VM Network"), Nic(network="VM Network"), Nic(mac="52:54:00:00:00:01"), Nic()))
    assert network_keys(guest) == ["VM Network", "52:54:00:00:00:01"]
    assert network_keys(Guest()) == ["*"]


def test_what_was_said_becomes_the_targets_settings() -> None:
    guest = Guest(nics=(Nic(network="VM Network"),))
    form = TargetForm(
        {"namespace": "shop", "network_0": "infra/lan", "storage_class": "fast", "memory_gib": "2"}, guest=guest
    )
    assert form.is_valid(), form.errors
    assert form.settings(form.cleaned_data) == {
        "namespace": "shop",
        "networks": {"VM Network": "infra/lan"},
        "storage": {"storage_class": "fast"},
        "memory": 2 << 30,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("namespace", "Shop_1"), ("network_0", "a/b/c"), ("storage_class", "Fast!"), ("memory_gib", "0")],
)
def test_a_mistake_is_said_at_its_field(field: str, value: str) -> None:
    form = TargetForm({field: value}, guest=Guest(nics=(Nic(network="VM Network"),)))
    assert not form.is_valid() and field in form.errors


def test_a_saved_target_fills_the_step_in(alice: Any, log_in: Any) -> None:
    from conversions import drafts

    SavedTarget.objects.create(
        name="Shop", owner=alice, settings={"namespace": "shop", "networks": {"lan": "infra/lan"}}
    )
    draft = drafts.begin(alice, "disk")
    guest = Guest(nics=(Nic(network="lan"),)).model_dump(mode="json")
    data = {"finding": {"guest": guest, "concerns": [], "facts": {}, "at": "2026-01-01T00:00:00+00:00"}, "name": "x"}
    data |= {"typed": {}, "source": {}, "options": {"root": "first"}, "output": {"kind": "files"}}
    drafts.save(draft, draft.version, alice, data)
    client = log_in(alice)
    address = reverse("wizard-step", args=[draft.pk, "target"])
    page = client.get(f"{address}?from={SavedTarget.objects.get().pk}").content.decode()
    assert 'value="shop"' in page and 'value="infra/lan"' in page
    client.post(address, {"version": draft.version, "namespace": "lab", "save_as": "Lab"})
    assert SavedTarget.objects.get(name="Lab").settings == {"namespace": "lab"}
