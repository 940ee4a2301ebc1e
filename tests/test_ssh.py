"""An ESXi host over SSH: trusted by its host keys, tested step by step, refused with reasons.

Its guests are in test_esxi_over_ssh.py.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from conversions.models import SavedSource
from conversions.problems import RefusedError
from conversions.servers import connection, pinning, power, ssh
from conversions.sources.esxi import EsxiSource
from conversions.sources.ssh_files import known_hosts
from tests.fixtures_ssh import free_port

pytestmark = [pytest.mark.real, pytest.mark.django_db]


@pytest.fixture
def saved(saved_esxi: SavedSource) -> SavedSource:
    return saved_esxi


def last(saved: SavedSource) -> connection.Step:
    return list(connection.test(saved))[-1]


def test_every_step_passes_and_none_is_about_https(saved: SavedSource) -> None:
    steps = {step.id: step.state for step in connection.test(saved)}
    assert steps == dict.fromkeys(("reach", "host-key", "login", "datastores", "guests"), "ok")


def test_ssh_that_is_switched_off_is_said_with_where_to_switch_it_on(saved: SavedSource) -> None:
    saved.ssh_port = free_port()
    step = last(saved)
    assert (step.id, step.state) == ("reach", "error") and "Enable Secure Shell" in step.action
    with pytest.raises(RefusedError) as caught:  # and in the moment before a conversion
        power.look(saved, "1", None)
    assert caught.value.problem.code == "ssh-off"


def test_another_host_key_stops_everything(saved: SavedSource) -> None:
    saved.host_keys = [key | {"key": key["key"][:-8] + "AAAAAAAA"} for key in saved.host_keys]
    assert last(saved).id == "host-key" and "does not show the key" in last(saved).text
    for step in (lambda: power.look(saved, "1", None), lambda: ssh.run(saved, "true")):
        with pytest.raises(RefusedError) as caught:
            step()
        assert caught.value.problem.code == "host-key-changed"


def test_a_key_that_the_host_refuses_is_said_with_where_it_belongs(saved: SavedSource, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    saved.secrets = {**(saved.secrets or {}), "key": (tmp_path / "k").read_text()}
    assert last(saved).id == "login" and "/etc/ssh/keys-root/authorized_keys" in last(saved).action


def test_an_attempt_gets_the_key_and_not_the_password(saved: SavedSource) -> None:
    from conversions.plan import Guest, Plan, Source

    about = {"source_id": saved.pk, "transport": "ssh"}
    plan = Plan(name="x", source=Source(kind="esxi", settings=about), guest=Guest())
    files = EsxiSource().secrets(plan)
    assert set(files) == {"key", "known_hosts"} and files["known_hosts"] == known_hosts(saved)
    assert files["known_hosts"].startswith(f"[{saved.host}]:{saved.ssh_port} ssh-")


def test_it_is_trusted_by_its_host_keys_alone(saved: SavedSource, alice: Any, log_in: Callable[[Any], Any]) -> None:
    keys, saved.host_keys = saved.host_keys, []
    saved.save()
    assert not pinning.is_trusted(saved)
    page = log_in(alice).get(reverse("source-trust", args=[saved.pk]))
    text = page.content.decode()
    assert all(key["fingerprint"] in text for key in keys) and "certificate" not in text.lower()
    other = {"shown": ",SHA256:of-another"}
    assert log_in(alice).post(reverse("source-trust", args=[saved.pk]), other).status_code == 409
    log_in(alice).post(reverse("source-trust", args=[saved.pk]), {"shown": page.context["shown"]})
    saved.refresh_from_db()
    assert pinning.is_trusted(saved) and saved.host_keys == keys and not saved.pin
    saved.ssh_port = None
    assert known_hosts(saved).startswith(f"{saved.host} ssh-")


def test_another_ssh_port_takes_the_host_keys_trust_away(saved: SavedSource, alice: Any) -> None:
    from conversions.source_forms import SETTINGS, SourceForm

    filled = {name: getattr(saved, name) for name in SETTINGS} | {"ssh_port": 2022}
    form = SourceForm(filled, kind="esxi", saved=saved)
    assert form.is_valid(), form.errors
    assert not pinning.is_trusted(form.save(alice))
