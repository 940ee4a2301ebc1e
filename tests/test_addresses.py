"""Addresses of Windows guests: what is refused with which words, what is kept of the tools' report, and what is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.http import QueryDict

from conversions import addresses
from conversions.address_form import cards_of, typed_cards, wish
from conversions.addresses import reported, resolve, told
from conversions.host.capabilities import parse
from conversions.plan import Guest, Nic, Options, Plan, Source, StaticAddress
from conversions.problems import RefusedError

MAC, OTHER = "00:50:56:00:00:01", "00:50:56:00:00:02"
CARD = Nic(
    mac=MAC,
    network="VM Network",
    ips=("10.0.0.5/24", "fe80::1/64"),
    static_ips=("10.0.0.5/24",),
    gateways=("10.0.0.1",),
    dns=("10.0.0.2",),
)
WINDOWS = Guest(
    os_family="windows", nics=(CARD, Nic(mac=OTHER, ips=("192.168.7.5/24",), static_ips=("192.168.7.5/24",)))
)
KEPT = StaticAddress(mac=MAC, address="10.0.0.5", prefix=24, gateway="10.0.0.1", dns=("10.0.0.2",))


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rhsrvany.exe").touch()
    monkeypatch.setenv("VIRT_TOOLS_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def virt_v2v(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says which version the installed one is."""

    def version(text: str) -> None:
        monkeypatch.setattr(addresses, "capabilities", lambda: parse("virt-v2v", f"virt-v2v {text}", ""))

    version("2.2.0")
    return version


def one(**changes: Any) -> list[dict[str, Any]]:
    return [{"mac": MAC, "address": "10.0.0.5", "prefix": 24, "gateway": "10.0.0.1", "dns": ["10.0.0.2"]} | changes]


def refusal(value: Any, guest: Guest = WINDOWS) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        resolve(wish(value), guest)
    assert caught.value.field == "options.addresses"
    return caught.value


def test_nothing_said_leaves_everything_alone() -> None:
    assert resolve(wish(None), WINDOWS) == resolve(wish("leave"), WINDOWS) == ()


def test_an_address_is_taken_with_its_prefix_behind_it_or_beside_it() -> None:
    beside = resolve(wish(one()), WINDOWS)
    behind = resolve(wish(one(address="10.0.0.5/24", prefix=None, mac="00-50-56-00-00-01")), WINDOWS)
    assert beside == behind == (KEPT,)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"gateway": "10.0.1.1"}, "gateway-outside", "cannot reach the gateway 10.0.1.1"),
        ({"gateway": "2001:db8::1"}, "gateway-outside", "2001:db8::1"),
        ({"gateway": "10.0.0.5"}, "gateway-outside", "10.0.0.5"),
        ({"gateway": "10.0.0.1,24,6.6.6.6"}, "address-not-allowed", "was given as a gateway"),
        ({"prefix": 33}, "prefix-not-allowed", "from 1 to 32"),
        ({"prefix": None}, "prefix-not-allowed", "It is missing"),
        ({"prefix": True}, "prefix-not-allowed", "True"),
        ({"address": "2001:db8::5", "prefix": 129, "gateway": ""}, "prefix-not-allowed", "from 1 to 128"),
        ({"address": "10.0.0.5,10.0.0.1,24"}, "address-not-allowed", "was given as an address"),
        ({"address": "10.0.0.5/24,10.0.0.1"}, "prefix-not-allowed", "24,10.0.0.1"),
        ({"address": "10.0.0.5';calc'"}, "address-not-allowed", "was given as an address"),
        ({"address": "10.0.0.0"}, "address-not-allowed", "stands for all of it"),
        ({"address": "10.0.0.255"}, "address-not-allowed", "stands for all of it"),
        ({"address": "127.0.0.1"}, "address-not-allowed", "127.0.0.1"),
        ({"address": "fe80::5%eth0", "prefix": 64, "gateway": ""}, "address-not-allowed", "fe80::5%eth0"),
        ({"dns": ["10.0.0.2", "dns.example"]}, "address-not-allowed", "name server"),
        ({"dns": ["10.0.0.2"] * 9}, "dns-not-allowed", "up to 8"),
        ({"mac": "00:50:56:00:00:01:ip:6.6.6.6"}, "mac-not-allowed", "six pairs"),
        ({"mac": "00:50:56:00:00:99"}, "mac-unknown", "It has 00:50:56:00:00:01"),
        ({"netmask": "255.255.255.0"}, "addresses-not-understood", "list of objects"),
        ({"gateway": None}, "address-needs-gateway", "versions from 2.6 on can"),
    ],
)
def test_what_cannot_be_set_is_refused_with_words_that_help(changes: dict[str, Any], code: str, words: str) -> None:
    problem = refusal(one(**changes)).problem
    assert problem.code == code and words in f"{problem.text} {problem.action}" and problem.action


@pytest.mark.parametrize("value", ["kept", 7, {"all": "x", "cards": {}}, {"all": "keep", "cards": {MAC: 5}}])
def test_what_is_no_wish_is_refused(value: Any) -> None:
    assert refusal(value).problem.code == "addresses-not-understood"


def test_one_address_twice_and_two_gateways_are_refused() -> None:
    assert refusal([*one(), *one(mac=OTHER)]).problem.code == "address-twice"
    assert refusal([*one(), *one(address="10.0.0.6")]).problem.code == "two-gateways"


def test_keep_takes_what_was_set_by_hand_and_leaves_out_what_this_virt_v2v_cannot_set(virt_v2v: Any) -> None:
    assert resolve(wish("keep"), WINDOWS) == (KEPT,)
    virt_v2v("2.6.0")
    second = StaticAddress(mac=OTHER, address="192.168.7.5", prefix=24)
    assert resolve(wish("keep"), WINDOWS) == (KEPT, second)


def test_one_card_can_be_left_alone_while_the_others_are_kept() -> None:
    assert resolve(wish({"all": "keep", "cards": {MAC: "leave"}}), WINDOWS) == ()
    assert resolve(wish({"all": "leave", "cards": {MAC: "keep"}}), WINDOWS) == (KEPT,)


def test_ipv4_and_ipv6_of_a_card_are_kept_each_with_its_own_gateway_and_name_servers() -> None:
    card = CARD.model_copy(
        update={
            "static_ips": ("10.0.0.5/24", "2001:db8::5/64", "10.0.0.6/24", "not an address"),
            "gateways": ("fe80::1", "10.0.0.1"),
            "dns": ("10.0.0.2", "2001:db8::2"),
        }
    )
    assert reported(card) == [
        KEPT,
        StaticAddress(mac=MAC, address="2001:db8::5", prefix=64, gateway="fe80::1", dns=("2001:db8::2",)),
        StaticAddress(mac=MAC, address="10.0.0.6", prefix=24),
    ]


def test_linux_guests_are_left_alone_and_their_addresses_told() -> None:
    linux = WINDOWS.model_copy(update={"os_family": "linux"})
    assert resolve(wish("keep"), linux) == ()
    assert refusal(one(), linux).problem.code == "addresses-linux"
    lines = told(Plan(name="x", source=Source(kind="vcenter"), guest=linux))
    assert "had 10.0.0.5/24, fe80::1/64; gateway 10.0.0.1; name servers 10.0.0.2" in lines[0]
    assert "virt-v2v sets none in Linux guests" in lines[0]


def test_a_windows_guest_needs_the_program_that_sets_its_addresses(tools: Path) -> None:
    (tools / "rhsrvany.exe").unlink()
    problem = refusal(one()).problem
    assert problem.code == "rhsrvany-missing" and problem.whose == "administrator" and "rhsrvany" in problem.action
    assert resolve(wish("leave"), WINDOWS) == ()


def test_what_is_set_and_what_is_not_is_told_card_by_card() -> None:
    plan = Plan(name="x", source=Source(kind="vcenter"), guest=WINDOWS, options=Options(addresses=(KEPT,)))
    first, second = told(plan)
    assert "set at the first start to 10.0.0.5/24, gateway 10.0.0.1, name servers 10.0.0.2" in first
    assert "had 192.168.7.5/24" in second and "not set for you" in second


# -- fields of a page -------------------------------------------------------------------------------------------------


def typed(**fields: str) -> Any:
    data = QueryDict(mutable=True)
    for name, value in fields.items():
        data[f"card-7-005056000001-{name}"] = value
    return {"all": "leave", "cards": typed_cards(data).get("7", {})}


def test_the_fields_of_a_card_become_addresses_with_their_gateways() -> None:
    both = typed(address="10.0.0.5/24 2001:db8::5/64", gateway="fe80::1, 10.0.0.1", dns="10.0.0.2;2001:db8::2")
    assert resolve(wish(both), WINDOWS) == (
        KEPT,
        StaticAddress(mac=MAC, address="2001:db8::5", prefix=64, gateway="fe80::1", dns=("2001:db8::2",)),
    )


def test_empty_fields_say_nothing() -> None:
    assert wish(typed(address=" ", gateway="", dns="", how=""))["cards"] == {}
    assert wish(typed(how="keep"))["cards"] == {MAC: "keep"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"how": "set"}, "address-missing"),
        ({"gateway": "10.0.0.1"}, "address-missing"),
        ({"how": "leave", "address": "10.0.0.5/24"}, "address-and-choice"),
        ({"address": "10.0.0.5"}, "prefix-not-allowed"),
        ({"address": "10.0.0.5/24,10.0.0.1"}, "prefix-not-allowed"),
        ({"address": "10.0.0.5/24", "gateway": "10.0.0.1 10.0.0.2"}, "two-gateways"),
        ({"address": "10.0.0.5/24", "gateway": "fe80::1"}, "gateway-outside"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, str], code: str) -> None:
    assert refusal(typed(**fields)).problem.code == code


def test_a_page_shows_what_is_known_and_what_was_typed() -> None:
    first, second = cards_of(7, WINDOWS, {MAC: {"address": "10.0.0.9"}})
    assert first["field"] == "card-7-005056000001" and first["address"] == "10.0.0.9"
    assert first["kept"] == "10.0.0.5/24, gateway 10.0.0.1, name servers 10.0.0.2"
    assert second["kept"] == "192.168.7.5/24" and "address" not in second


# -- what VMware Tools report -----------------------------------------------------------------------------------------


def test_the_tools_report_is_read_with_origin_gateway_and_name_servers() -> None:
    from pyVmomi import vim

    from conversions.servers.vsphere_addresses import reported as read

    def ip(address: str, prefix: int, origin: str | None) -> Any:
        return vim.net.IpConfigInfo.IpAddress(ipAddress=address, prefixLength=prefix, origin=origin)

    def card(mac: str, *ips: Any, dhcp: bool = False) -> Any:
        switch = vim.net.DhcpConfigInfo(ipv4=vim.net.DhcpConfigInfo.DhcpOptions(enable=dhcp))
        config = vim.net.IpConfigInfo(ipAddress=list(ips), dhcp=switch)
        return vim.vm.GuestInfo.NicInfo(macAddress=mac, ipConfig=config)

    def route(gateway: str, device: str, prefix: int = 0) -> Any:
        way = vim.net.IpRouteConfigInfo.Gateway(ipAddress=gateway, device=device)
        return vim.net.IpRouteConfigInfo.IpRoute(network="0.0.0.0", prefixLength=prefix, gateway=way)

    stack = vim.vm.GuestInfo.StackInfo(
        dnsConfig=vim.net.DnsConfigInfo(dhcp=False, hostName="h", domainName="d", ipAddress=["10.0.0.2"]),
        ipRouteConfig=vim.net.IpRouteConfigInfo(
            ipRoute=[route("10.0.0.1", "0"), route("10.0.0.77", "0", 24), route("10.9.0.1", "1")]
        ),
    )
    cards = [
        card(
            "00:50:56:00:00:0A", ip("10.0.0.5", 24, "manual"), ip("10.0.0.6", 24, "dhcp"), ip("fe80::1", 64, "manual")
        ),
        card("00:50:56:00:00:0B", ip("10.9.0.5", 16, None)),
        card("00:50:56:00:00:0C", ip("10.8.0.5", 16, None), dhcp=True),
    ]
    found = read(cards, [stack])
    assert found["00:50:56:00:00:0a"] == {
        "ips": ("10.0.0.5/24", "10.0.0.6/24", "fe80::1/64"),
        "static_ips": ("10.0.0.5/24",),
        "gateways": ("10.0.0.1",),
        "dns": ("10.0.0.2",),
    }
    assert found["00:50:56:00:00:0b"]["static_ips"] == ("10.9.0.5/16",)
    assert found["00:50:56:00:00:0c"]["static_ips"] == () and found["00:50:56:00:00:0c"]["gateways"] == ()


def test_a_record_that_was_saved_before_these_fields_is_read() -> None:
    from conversions.servers.inventory import GuestRecord, NicRecord

    record = GuestRecord(id="vm-1", name="w", nics=[NicRecord(MAC, ips=("10.0.0.5/24",))])
    old = record.as_dict()
    for name in ("static_ips", "gateways", "dns"):
        del old["nics"][0][name]
    assert GuestRecord.from_dict(old) == replace(record)
