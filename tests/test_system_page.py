"""The System page: every check with its state in words, what it means and what mends it; never a page that waits."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from conversions.host import system
from conversions.host.capabilities import parse
from conversions.host.machine import Check
from conversions.problems import Problem, RefusedError

pytestmark = pytest.mark.django_db

OK = Check("nbdkit", "nbdkit", "ok", "1.32", "Reads sources.")
WARNING = Check("kvm", "Acceleration", "warning", "emulation", "Everything takes longer.", "modprobe kvm")
ERROR = Check("xfs", "XFS support", "error", "missing", "RHEL guests fail.", "apt install libguestfs-xfs")
PENDING = Check("virt-v2v", "virt-v2v", "unknown", "being measured", "Look again in a moment.")


@pytest.fixture
def show(alice: Any, log_in: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The page for checks that stand for a measured machine, with a virt-v2v that stands for a real one."""
    words = "virt-v2v 2.2.0", "virt-v2v\ninput:disk\ninput:ova\noutput:kubevirt\nconvert:linux"
    monkeypatch.setattr("conversions.views.system.capabilities", lambda: parse("/usr/bin/virt-v2v", *words))

    def of(*checks: Check, **headers: str) -> Any:
        monkeypatch.setattr(system, "report", lambda: list(checks))
        return log_in(alice).get(reverse("system"), headers=headers)

    return of


def test_what_is_wrong_comes_first_with_its_command(show: Callable[..., Any]) -> None:
    text = show(OK, WARNING, ERROR).content.decode()
    assert text.index("XFS support") < text.index("Acceleration") < text.index("nbdkit")
    assert "apt install libguestfs-xfs" in text and 'data-copy="mend-xfs"' in text
    assert "Something is missing" in text


@pytest.mark.parametrize(
    ("check", "words"),
    [(OK, "in order"), (WARNING, "could be better"), (ERROR, "missing or broken"), (PENDING, "not known")],
)
def test_a_state_is_said_in_words_and_not_by_colour_alone(show: Callable[..., Any], check: Check, words: str) -> None:
    text = show(check).content.decode()
    assert f"</i> {words}" in text
    assert check.meaning in text


def test_everything_in_order_is_said(show: Callable[..., Any]) -> None:
    assert "Everything is in order" in show(OK).content.decode()


def test_what_virt_v2v_can_do_is_what_it_said(show: Callable[..., Any]) -> None:
    response = show(OK)
    abilities = {ability.title: ability.there for ability in response.context["virt_v2v"].abilities()}
    assert abilities["Writes for KubeVirt"] and not abilities["Windows guests"]
    assert "2.2.0" in response.content.decode()


def test_while_it_is_measured_the_page_asks_again_and_does_not_wait_for_virt_v2v(
    show: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        raise AssertionError("asked, although it may hang")

    monkeypatch.setattr("conversions.views.system.capabilities", hang)
    assert 'hx-trigger="load delay:2s"' in show(OK, PENDING).content.decode()


def test_when_all_is_measured_the_page_stays_as_it_is(show: Callable[..., Any]) -> None:
    assert "hx-trigger" not in show(OK).content.decode()


def test_htmx_gets_the_list_alone(show: Callable[..., Any]) -> None:
    text = show(OK, **{"HX-Request": "true"}).content.decode()
    assert text.lstrip().startswith('<div id="checks"') and "<html" not in text


def test_a_missing_virt_v2v_is_a_problem_in_words(show: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise RefusedError(
            Problem("virt-v2v-missing", "virt-v2v is not installed", "x", "Install it.", "administrator")
        )

    monkeypatch.setattr("conversions.views.system.capabilities", missing)
    text = show(OK).content.decode()
    assert "virt-v2v is not installed" in text and "For your administrator:" in text


def test_measure_again_forgets_what_was_measured(alice: Any, log_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    monkeypatch.setattr(system, "forget", lambda: forgotten.append(True))
    assert log_in(alice).post(reverse("system"))["Location"] == reverse("system")
    assert forgotten


def test_the_real_page_answers_within_two_seconds(alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    system.forget()
    began = time.monotonic()
    assert client.get(reverse("system")).status_code == 200
    assert time.monotonic() - began < 2


def test_somebody_without_a_role_does_not_see_the_machine(stranger: Any, log_in: Any) -> None:
    response = log_in(stranger).get(reverse("system"))
    assert response.status_code == 403
    assert "virt-v2v" not in response.content.decode()


@pytest.mark.parametrize("who", ["alice", "bob", "charlie", "root_admin"])
def test_every_role_sees_it(request: Any, log_in: Any, who: str) -> None:
    assert log_in(request.getfixturevalue(who)).get(reverse("system")).status_code == 200
