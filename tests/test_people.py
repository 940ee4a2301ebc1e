"""People, their roles and one-time passwords, API tokens, passwords, the lock after wrong ones."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from conversions import people, tokens
from conversions.models import ApiToken, OneTimePassword
from conversions.problems import RefusedError
from conversions.roles import ROLES, role_of

pytestmark = pytest.mark.django_db

SECRET = re.compile(r'id="secret">([^<]+)<')


def refresh(user: Any) -> Any:
    return User.objects.get(pk=user.pk)


def add(client: Client, name: str = "dora", role: str = "requester") -> str:
    """Adds a person through the page and returns the one-time password it shows."""
    page = client.post(reverse("person-add"), {"username": name, "role": role}, follow=True)
    found = SECRET.search(page.content.decode())
    assert found, page.content.decode()
    return found[1]


@pytest.mark.parametrize("role", ROLES)
def test_a_new_person_has_the_role_that_was_chosen(root_admin: Any, log_in: Any, role: str) -> None:
    add(log_in(root_admin), role=role)
    assert role_of(User.objects.get(username="dora")) == role


def test_a_one_time_password_is_shown_once_and_kept_nowhere_in_clear(root_admin: Any, log_in: Any) -> None:
    client = log_in(root_admin)
    response = client.post(reverse("person-add"), {"username": "dora", "role": "viewer"})
    [session] = Session.objects.all()
    page = client.get(response["Location"])
    password = SECRET.search(page.content.decode())[1]  # type: ignore[index]
    assert len(password) == 19
    assert password not in str(session.get_decoded())
    assert "no-store" in page["Cache-Control"]
    assert password not in client.get(response["Location"]).content.decode()


def test_whoever_logs_in_with_a_one_time_password_must_choose_another_first(root_admin: Any, log_in: Any) -> None:
    password = add(log_in(root_admin))
    client = Client()
    client.post(reverse("login"), {"username": "dora", "password": password})
    assert client.get(reverse("wizard-new"))["Location"] == reverse("password")
    assert "The one-time password that you were given" in client.get(reverse("password")).content.decode()

    new = "a-password-of-my-own"
    form = {"old_password": password, "new_password1": new, "new_password2": new}
    assert client.post(reverse("password"), form)["Location"] == "/"
    assert client.get(reverse("wizard-new")).status_code == 200
    assert not OneTimePassword.objects.exists()


def test_a_wrong_old_password_changes_nothing(alice: Any, log_in: Any) -> None:
    new = "a-password-of-my-own"
    form = {"old_password": "wrong", "new_password1": new, "new_password2": new}
    response = log_in(alice).post(reverse("password"), form)
    assert response.status_code == 422 and "Old password" in response.content.decode()
    assert not refresh(alice).check_password(new)


def test_a_new_one_time_password_ends_the_lock_after_wrong_ones(root_admin: Any, alice: Any, log_in: Any) -> None:
    browser = Client()
    for _ in range(5):
        browser.post(reverse("login"), {"username": "alice", "password": "wrong"})
    locked = browser.post(reverse("login"), {"username": "alice", "password": "correct-horse-battery"})
    assert locked.status_code == 429
    assert "Locked for 15 minutes" in locked.content.decode()

    page = log_in(root_admin).post(reverse("person", args=[alice.pk]), {"renew": "1"}, follow=True)
    password = SECRET.search(page.content.decode())[1]  # type: ignore[index]
    browser.post(reverse("login"), {"username": "alice", "password": password})
    assert "_auth_user_id" in browser.session


def test_a_new_one_time_password_ends_the_sessions_of_that_person(root_admin: Any, alice: Any, log_in: Any) -> None:
    theirs = log_in(alice)
    assert theirs.get(reverse("wizard-new")).status_code == 200
    log_in(root_admin).post(reverse("person", args=[alice.pk]), {"renew": "1"})
    assert theirs.get(reverse("wizard-new")).status_code == 302


def test_a_name_that_is_taken_is_refused_whatever_its_case(root_admin: Any, alice: Any, log_in: Any) -> None:
    response = log_in(root_admin).post(reverse("person-add"), {"username": "Alice", "role": "viewer"})
    assert response.status_code == 422
    assert "is taken" in response.content.decode()
    assert User.objects.count() == 2


def test_a_role_can_be_changed(root_admin: Any, charlie: Any, log_in: Any) -> None:
    log_in(root_admin).post(reverse("person", args=[charlie.pk]), {"role": "operator"})
    assert role_of(refresh(charlie)) == "operator"
    assert list(refresh(charlie).groups.values_list("name", flat=True)) == ["operator"]


def test_who_is_no_longer_administrator_is_no_superuser_either(root_admin: Any, alice: Any) -> None:
    people.set_role(alice, "admin", root_admin)
    people.set_role(root_admin, "viewer", alice)
    assert (refresh(root_admin).is_superuser, refresh(root_admin).is_staff) == (False, False)
    assert role_of(refresh(root_admin)) == "viewer"


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"deactivate": "1"}])
def test_the_last_administrator_stays(root_admin: Any, alice: Any, log_in: Any, change: dict[str, str]) -> None:
    response = log_in(root_admin).post(reverse("person", args=[root_admin.pk]), change)
    assert response.status_code == 409
    assert "Somebody must stay administrator" in response.content.decode()
    assert role_of(refresh(root_admin)) == "admin"


def test_an_inactive_administrator_does_not_count_as_one(root_admin: Any, alice: Any) -> None:
    people.set_role(alice, "admin", root_admin)
    people.set_active(alice, False, root_admin)
    with pytest.raises(RefusedError):
        people.set_active(root_admin, False, root_admin)
    assert refresh(root_admin).is_active


def test_a_deactivated_person_is_logged_out_and_can_be_activated_again(
    root_admin: Any, charlie: Any, log_in: Any
) -> None:
    theirs, admins = log_in(charlie), log_in(root_admin)
    admins.post(reverse("person", args=[charlie.pk]), {"deactivate": "1"})
    assert theirs.get(reverse("wizard-new")).status_code == 302
    admins.post(reverse("person", args=[charlie.pk]), {"activate": "1"})
    assert refresh(charlie).is_active


@pytest.mark.parametrize("page", ["people", "person-add", "person"])
@pytest.mark.parametrize("who", ["alice", "bob", "charlie", "stranger"])
def test_only_administrators_see_people(request: Any, log_in: Any, root_admin: Any, page: str, who: str) -> None:
    client = log_in(request.getfixturevalue(who))
    args = [root_admin.pk] if page == "person" else []
    response = client.get(reverse(page, args=args))
    assert response.status_code == 403
    assert "Only administrators manage people" in response.content.decode()
    assert client.post(reverse(page, args=args), {"role": "viewer"}).status_code in (403, 405)


def test_a_token_is_shown_once_and_opens_the_api(alice: Any, log_in: Any) -> None:
    client = log_in(alice)
    page = client.post(reverse("tokens"), {"name": "nightly"}, follow=True).content.decode()
    text = SECRET.search(page)[1]  # type: ignore[index]
    found = tokens.find(text)
    assert found and found.user == alice
    assert text not in client.get(reverse("tokens")).content.decode()


def test_a_revoked_token_opens_nothing(alice: Any, log_in: Any) -> None:
    token, text = tokens.create(alice, "nightly")
    client = log_in(alice)
    for _ in range(2):  # the second time from another tab
        assert client.post(reverse("token-revoke", args=[token.pk])).status_code == 302
    assert tokens.find(text) is None


def test_nobody_revokes_the_token_of_somebody_else_on_the_own_page(alice: Any, charlie: Any, log_in: Any) -> None:
    token, _ = tokens.create(alice, "nightly")
    log_in(charlie).post(reverse("token-revoke", args=[token.pk]))
    assert ApiToken.objects.filter(pk=token.pk).exists()


def test_an_administrator_revokes_tokens_of_others(root_admin: Any, charlie: Any, log_in: Any) -> None:
    token, text = tokens.create(charlie, "nightly")
    log_in(root_admin).post(reverse("person", args=[charlie.pk]), {"revoke": str(token.pk)})
    assert tokens.find(text) is None


def test_somebody_without_a_role_gets_no_tokens(stranger: Any, log_in: Any) -> None:
    response = log_in(stranger).post(reverse("tokens"), {"name": "x"})
    assert response.status_code == 403
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("page", ["people", "person-add", "tokens", "password", "wizard-new", "system"])
def test_whoever_is_not_logged_in_is_asked_to(db: Any, page: str) -> None:
    response = Client().get(reverse(page))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("login"))


def test_a_login_after_some_wrong_passwords_starts_the_count_again(alice: Any) -> None:
    browser = Client()
    for _ in range(2):
        for _ in range(4):
            browser.post(reverse("login"), {"username": "alice", "password": "wrong"})
        browser.post(reverse("login"), {"username": "alice", "password": "correct-horse-battery"})
        assert "_auth_user_id" in browser.session
        browser.post(reverse("logout"))


# --- logged out meanwhile -------------------------------------------------------------------------------------------


def test_a_button_pressed_after_the_log_out_leads_back_to_its_page_and_says_so(client: Client) -> None:
    pressed = client.post("/sources/1/refresh/", headers={"referer": "http://testserver/sources/1/?q=web"})
    assert pressed["Location"] == "/login/?next=/sources/1/%3Fq%3Dweb"
    assert "so nothing was done" in client.get(pressed["Location"]).content.decode()


@pytest.mark.parametrize("referer", ["", "https://evil.example/x", "//evil.example", "javascript:alert(1)"])
def test_it_never_leads_to_another_site(client: Client, referer: str) -> None:
    assert client.post("/sources/1/refresh/", headers={"referer": referer})["Location"] == "/login/?next=/"


def test_a_part_that_is_asked_for_again_is_not_replaced_by_the_login(client: Client) -> None:
    for method, address in (
        (client.get, "/uploads/?page=2"),
        (client.get, "/system/"),
        (client.post, "/sources/1/test/"),
    ):
        answer = method(address, headers={"hx-request": "true"})
        assert answer.status_code == 401 and answer.content == b"" and "HX-Redirect" not in answer.headers


# --- pages of errors ------------------------------------------------------------------------------------------------


def test_a_request_that_is_too_big_is_told_in_words(alice: Any, log_in: Any, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = log_in(alice).post(reverse("tokens"), {"name": "x" * 5000})
    assert answer.status_code == 400 and "larger than this page takes" in answer.content.decode()
