"""The inventory against a simulated vSphere, and every way in which a server can disappoint."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conversions.problems import RefusedError
from conversions.servers import reach, trust, vsphere
from conversions.servers.inventory import GuestRecord
from tests.fixtures_vsphere import HOST, Simulator, new_certificate


@pytest.fixture
def endpoint(vcenter: Simulator) -> vsphere.Endpoint:
    return vsphere.Endpoint(vcenter.host, vcenter.port, vcenter.user, pin=vcenter.certificate)


@pytest.fixture(scope="module")
def guests(vcenter: Simulator) -> dict[str, GuestRecord]:
    endpoint = vsphere.Endpoint(vcenter.host, vcenter.port, vcenter.user, pin=vcenter.certificate)
    return {guest.name: guest for guest in vsphere.list_guests(endpoint, vcenter.password)}


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Accepts connections and never says a word."""
    with socket.create_server((HOST, 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for each in held:
            each.close()


def refusal(endpoint: vsphere.Endpoint, password: str) -> str:
    with pytest.raises(RefusedError) as caught:
        vsphere.list_guests(endpoint, password)
    assert password not in str(caught.value)
    return caught.value.problem.code


def test_it_lists_every_guest_with_what_a_plan_needs(guests: dict[str, GuestRecord]) -> None:
    assert len([name for name in guests if name.startswith("DC0_")]) == 4  # other tests may have added theirs
    guest = guests["DC0_H0_VM0"]
    assert guest.power == "on"
    assert guest.uuid is not None and len(guest.uuid) == 36
    assert guest.disks[0].file.startswith("[LocalDS_0] ") and guest.disks[0].datastore == "LocalDS_0"
    assert guest.disks[0].controller == "scsi"
    assert guest.folder == "/DC0/vm"


def test_a_card_on_a_distributed_port_group_keeps_its_network(guests: dict[str, GuestRecord]) -> None:
    nic = guests["DC0_H0_VM0"].nics[0]
    assert (nic.network, nic.is_distributed) == ("DC0_DVPG0", True)


def test_the_path_names_a_stand_alone_host_once_and_a_clusters_host_below_it(guests: dict[str, GuestRecord]) -> None:
    assert guests["DC0_H0_VM0"].host_path == ["DC0", "DC0_H0"]
    path = guests["DC0_C0_RP0_VM0"].host_path
    assert path[:2] == ["DC0", "DC0_C0"] and path[2].startswith("DC0_C0_H")


def test_an_esxi_host_is_read_the_same_way(esxi: Simulator) -> None:
    endpoint = vsphere.Endpoint(esxi.host, esxi.port, esxi.user, pin=esxi.certificate)
    found = vsphere.list_guests(endpoint, esxi.password)
    assert {guest.name for guest in found} == {"ha-host_VM0", "ha-host_VM1"}


def test_a_wrong_password_is_said_without_repeating_it(endpoint: vsphere.Endpoint) -> None:
    assert refusal(endpoint, "wrong-password\r\n") == "login-refused"


def test_without_a_pin_a_self_signed_certificate_is_refused(endpoint: vsphere.Endpoint, vcenter: Simulator) -> None:
    assert refusal(replace(endpoint, pin=""), vcenter.password) == "certificate-untrusted"


def test_another_certificate_than_the_pinned_one_is_refused(
    endpoint: vsphere.Endpoint, vcenter: Simulator, tmp_path: Path
) -> None:
    new_certificate(tmp_path / "other.pem", tmp_path / "other.key")
    assert (
        refusal(replace(endpoint, pin=(tmp_path / "other.pem").read_text()), vcenter.password)
        == "certificate-untrusted"
    )


def test_an_unknown_name_a_closed_port_and_no_vsphere_are_told_apart(
    endpoint: vsphere.Endpoint, vcenter: Simulator
) -> None:
    assert refusal(replace(endpoint, host="nosuch.invalid"), vcenter.password) == "name-unknown"
    assert refusal(replace(endpoint, port=1), vcenter.password) == "port-closed"


def test_a_server_that_never_answers_costs_at_most_ten_seconds(endpoint: vsphere.Endpoint, silent_server: int) -> None:
    start = time.monotonic()
    assert refusal(replace(endpoint, port=silent_server), "x") == "no-answer"
    with pytest.raises(RefusedError) as caught:
        trust.fetch_certificate(HOST, silent_server, timeout=1)
    assert caught.value.problem.code == "tls-no-answer"
    assert time.monotonic() - start < 10


def test_a_session_that_an_administrator_ends_in_the_middle_is_said(
    endpoint: vsphere.Endpoint, vcenter: Simulator
) -> None:
    with pytest.raises(RefusedError) as caught, vsphere.session(endpoint, vcenter.password) as instance:
        instance.RetrieveContent().sessionManager.Logout()
        vsphere.retrieve(instance)
    assert caught.value.problem.code == "session-ended"


def test_the_certificate_is_shown_with_both_thumbprints(vcenter: Simulator) -> None:
    found = trust.fetch_certificate(vcenter.host, vcenter.port)
    assert found.pem.strip() == vcenter.certificate.strip()
    assert found.subject == found.issuer == "CN=vcenter.lab"
    assert len(found.sha256.split(":")) == 32 and len(found.sha1.split(":")) == 20


def test_a_pin_holds_only_for_its_certificate(vcenter: Simulator) -> None:
    found = trust.fetch_certificate(vcenter.host, vcenter.port)
    reach.check_pin(vcenter.host, vcenter.port, found.sha256)
    with pytest.raises(RefusedError) as caught:
        reach.check_pin(vcenter.host, vcenter.port, "00:" * 31 + "00")
    assert caught.value.problem.code == "certificate-changed"
