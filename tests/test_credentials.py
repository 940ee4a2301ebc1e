"""Secrets at rest: unreadable in the database, an error with a wrong key, and moved to a new key without a gap."""

import stat
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from conversions import credentials
from conversions.credentials import WrongKeyError, decrypt, encrypt
from conversions.management.commands.rotate_secrets import encrypted_columns
from conversions.models import Conversion, Draft
from conversions.plan import Plan, Source

SECRET = {"luks-0": "open-sesame-42 ünïcode"}


@pytest.fixture
def key_file(settings: Any, tmp_path: Path) -> Path:
    settings.SECRETS_KEY_FILE = tmp_path / "secrets.key"
    return tmp_path / "secrets.key"


@pytest.fixture
def row(key_file: Path, alice: Any) -> Conversion:
    plan = Plan(name="web01", source=Source(kind="disk")).model_dump(mode="json")
    return Conversion.objects.create(name="web01", owner=alice, plan_json=plan, secrets=SECRET)


def raw(table: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT secrets FROM {table}")
        return [row[0] for row in cursor.fetchall()]


def test_the_key_is_made_once_and_only_its_owner_may_read_it(key_file: Path) -> None:
    text = encrypt(SECRET)
    key = key_file.read_text()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert decrypt(text) == SECRET
    assert key_file.read_text() == key
    assert [path.name for path in key_file.parent.iterdir()] == ["secrets.key"]


def test_the_database_holds_ciphertext_only(row: Conversion) -> None:
    (text,) = raw("conversions_conversion")
    assert "sesame" not in text
    assert Conversion.objects.get().secrets == SECRET


def test_the_same_secret_is_never_the_same_text(key_file: Path) -> None:
    assert encrypt(SECRET) != encrypt(SECRET)


def test_a_wrong_key_is_an_error_and_never_a_password(row: Conversion, key_file: Path) -> None:
    key_file.write_bytes(Fernet.generate_key())
    with pytest.raises(WrongKeyError):
        Conversion.objects.get()


def test_a_changed_ciphertext_is_an_error(key_file: Path) -> None:
    text = encrypt(SECRET)
    middle = len(text) // 2
    for wrong in (text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :], text[:-4], "", "plain"):
        with pytest.raises(WrongKeyError):
            decrypt(wrong)


def test_no_secret_stays_none(row: Conversion) -> None:
    Conversion.objects.update(secrets=None)
    assert raw("conversions_conversion") == [None]
    assert Conversion.objects.get().secrets is None


# -- rotate_secrets ---------------------------------------------------------------------------------------------------


def rotate(*args: str) -> str:
    out = StringIO()
    call_command("rotate_secrets", *args, stdout=out)
    return out.getvalue()


def test_every_encrypted_column_is_known_to_the_command() -> None:
    assert {(Conversion, "secrets"), (Draft, "secrets")} <= set(encrypted_columns())


def test_secrets_move_to_a_new_key_and_the_old_one_can_go(row: Conversion, key_file: Path, alice: Any) -> None:
    Draft.objects.create(owner=alice, secrets=SECRET)
    Draft.objects.create(owner=alice, secrets=None)
    (before,) = raw("conversions_conversion")
    said = rotate("--new-key")
    assert "2 secrets" in said and "first of the 2 keys" in said
    new, old = key_file.read_text().split()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert raw("conversions_conversion") != [before]
    key_file.write_text(new + "\n")
    assert Conversion.objects.get().secrets == SECRET
    assert sorted(draft.secrets is None for draft in Draft.objects.all()) == [False, True]
    key_file.write_text(old + "\n")
    with pytest.raises(WrongKeyError):
        Conversion.objects.get()


def test_it_says_which_secrets_it_cannot_read_and_moves_the_others(row: Conversion, key_file: Path, alice: Any) -> None:
    lost = key_file.read_text()
    key_file.write_bytes(Fernet.generate_key() + b"\n")
    other = Conversion.objects.create(name="web02", owner=alice, plan_json={}, secrets=SECRET)
    with pytest.raises(CommandError, match=f"conversion {row.pk}"):
        rotate("--new-key")
    key_file.write_text(key_file.read_text().split()[0] + "\n")
    assert Conversion.objects.get(pk=other.pk).secrets == SECRET
    key_file.write_text(key_file.read_text() + lost)
    assert Conversion.objects.get(pk=row.pk).secrets == SECRET


def test_what_somebody_saves_meanwhile_is_not_overwritten(row: Conversion, monkeypatch: pytest.MonkeyPatch) -> None:
    real, newer = credentials.fernet().rotate, encrypt({"luks-0": "newer"})

    class Rotates:
        @staticmethod
        def rotate(text: bytes) -> bytes:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE conversions_conversion SET secrets = %s", [newer])
            return real(text)

    monkeypatch.setattr("conversions.management.commands.rotate_secrets.fernet", Rotates)
    rotate()
    assert Conversion.objects.get().secrets == {"luks-0": "newer"}


# -- Django's admin ---------------------------------------------------------------------------------------------------


def test_the_admin_shows_rows_and_neither_secrets_nor_digests(row: Conversion, root_admin: Any, key_file: Path) -> None:
    from conversions import tokens

    token, _ = tokens.create(root_admin)
    draft = Draft.objects.create(owner=root_admin, secrets=SECRET, conversion=row)
    key_file.write_bytes(Fernet.generate_key())  # with a wrong key it still works, because it does not fetch them
    client = Client()
    client.force_login(root_admin, backend="django.contrib.auth.backends.ModelBackend")
    for kind, pk in [("conversion", row.pk), ("draft", draft.pk), ("apitoken", token.pk)]:
        for page in (f"/admin/conversions/{kind}/", f"/admin/conversions/{kind}/{pk}/change/"):
            response = client.get(page)
            assert response.status_code == 200, page
            text = response.content.decode()
            assert "sesame" not in text and token.digest not in text and "gAAAA" not in text


def test_the_admin_changes_nothing_but_can_revoke_a_token(row: Conversion, root_admin: Any) -> None:
    from conversions import tokens
    from conversions.models import ApiToken

    token, _ = tokens.create(root_admin)
    client = Client()
    client.force_login(root_admin, backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(f"/admin/conversions/conversion/{row.pk}/change/", {"state": "failed"}).status_code == 403
    assert client.post(f"/admin/conversions/conversion/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get("/admin/conversions/conversion/add/").status_code == 403
    assert client.post(f"/admin/conversions/apitoken/{token.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not ApiToken.objects.exists()
    assert Conversion.objects.defer("secrets").get().state == "queued"
