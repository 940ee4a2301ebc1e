"""Bearer tokens: what is kept of them, who may use them, and the command that makes them."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from conversions import tokens
from conversions.models import ApiToken

pytestmark = pytest.mark.django_db


def test_the_text_of_a_token_is_nowhere_in_the_database(alice: Any) -> None:
    token, text = tokens.create(alice, "laptop")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM conversions_apitoken")
        row = repr(cursor.fetchall())
    assert text not in row
    assert text[4:] not in row
    assert token.digest in row
    assert text.startswith("v2v_") and len(text) >= 47


def test_a_token_is_found_by_its_text_only(alice: Any) -> None:
    token, text = tokens.create(alice)
    assert tokens.find(text) == token
    for wrong in ("", text[:-1], text + "x", text.upper(), token.digest, "v2v_" + token.digest, text[4:], "v2v_é"):
        assert tokens.find(wrong) is None


def test_two_tokens_differ(alice: Any) -> None:
    assert tokens.create(alice)[1] != tokens.create(alice)[1]


def test_a_revoked_token_opens_nothing(alice: Any) -> None:
    token, text = tokens.create(alice)
    tokens.revoke(token)
    assert tokens.find(text) is None


def test_the_token_of_somebody_who_may_not_log_in_opens_nothing(alice: Any) -> None:
    _, text = tokens.create(alice)
    alice.is_active = False
    alice.save()
    assert tokens.find(text) is None


def test_its_last_use_is_written_at_most_once_a_minute(
    alice: Any, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, text = tokens.create(alice)
    with django_assert_num_queries(2):
        tokens.find(text)
    first = ApiToken.objects.get(pk=token.pk).last_used
    assert first is not None
    with django_assert_num_queries(1):
        tokens.find(text)
    later = timezone.now() + timedelta(seconds=61)
    monkeypatch.setattr("django.utils.timezone.now", lambda: later)
    tokens.find(text)
    assert ApiToken.objects.get(pk=token.pk).last_used == later


def test_the_command_prints_a_token_that_works_and_nothing_else(alice: Any) -> None:
    out = StringIO()
    call_command("token", "alice", stdout=out)
    text = out.getvalue()
    assert text.count("\n") == 1
    found = tokens.find(text.strip())
    assert found is not None and found.user == alice


def test_the_command_says_that_there_is_no_such_user(db: None) -> None:
    with pytest.raises(CommandError, match="no user “nobody”"):
        call_command("token", "nobody")


def test_the_command_refuses_somebody_who_may_not_log_in(alice: Any) -> None:
    alice.is_active = False
    alice.save()
    with pytest.raises(CommandError, match="may not log in"):
        call_command("token", "alice")
