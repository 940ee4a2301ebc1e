"""Settings from the environment: nonsense is refused in a sentence, secrets are not repeated, checks give hints."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core import checks

from conversions.host.checks import data_dir, reach, source_roots, variables
from v2vweb.environment import ALLOWED, PROJECT, Environment, WrongSettingError, misspelt, read_environment, variable
from v2vweb.settings import _secret_key


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Environment.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


NONSENSE = [
    ("V2VWEB_PORT", "abc", "a whole number from 1 to 65535"),
    ("V2VWEB_PORT", "0", "a whole number from 1 to 65535"),
    ("V2VWEB_PORT", "65536", "a whole number from 1 to 65535"),
    ("V2VWEB_BIND", "everywhere", "an IP address"),
    ("V2VWEB_DATA_DIR", "/", "not /"),
    ("V2VWEB_SOURCE_ROOTS", "images", "absolute folders"),
    ("V2VWEB_SOURCE_ROOTS", "/images:/", "none of them /"),
    ("V2VWEB_SOURCE_ROOTS", "/images/..", "none of them /"),
    ("V2VWEB_ALLOWED_HOSTS", "*", "* is not allowed"),
    ("V2VWEB_ALLOWED_HOSTS", "v2v.example.org/x", "host names"),
    ("V2VWEB_HTTPS", "perhaps", "true or false"),
    ("V2VWEB_DEBUG", "2", "true or false"),
    ("V2VWEB_TIME_ZONE", "Mars/Olympus", "Europe/Berlin"),
    ("V2VWEB_MAX_RUNNING", "-1", "0 to 1000"),
    ("V2VWEB_ACCELERATION", "fast", "auto, kvm or tcg"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), NONSENSE)
def test_nonsense_is_refused_with_name_value_and_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettingError) as refusal:
        read_environment()
    text = str(refusal.value)
    assert text.startswith(f'{name} is "{value}": it must be ')
    assert allowed in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://v2v:hunter2@db/v2v"),
        ("DATABASE_URL", "postgresql://v2v:hunter2@db:port/v2v"),
        ("DATABASE_URL", "postgresql://v2v:hunter2@db"),
        ("REDIS_URL", "http://:hunter2@bell"),
        ("REDIS_URL", "hunter2"),
    ],
)
def test_a_refused_address_with_a_password_is_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSettingError) as refusal:
        read_environment()
    assert str(refusal.value).startswith(f"{name} is not usable: it must be of the form ")
    assert "hunter2" not in str(refusal.value)


def test_secrets_are_not_in_the_settings_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V2VWEB_ADMIN_PASSWORD", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://v2v:hunter2@db/v2v")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@bell")
    assert "hunter2" not in repr(read_environment())


def test_two_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V2VWEB_PORT", "abc")
    monkeypatch.setenv("V2VWEB_HTTPS", "abc")
    with pytest.raises(WrongSettingError, match=r"V2VWEB_PORT is .*\. V2VWEB_HTTPS is "):
        read_environment()


def test_every_setting_says_what_is_allowed() -> None:
    assert set(ALLOWED) == set(Environment.model_fields)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V2VWEB_PORT", "")
    monkeypatch.setenv("V2VWEB_DATA_DIR", "")
    assert (read_environment().port, read_environment().data_dir) == (8000, PROJECT / "data")


def test_sensible_values_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V2VWEB_SOURCE_ROOTS", "/srv/images:/mnt/nas:")
    monkeypatch.setenv("V2VWEB_ALLOWED_HOSTS", "v2v.example.org, 192.0.2.7,.example.net")
    monkeypatch.setenv("V2VWEB_BIND", "::")
    env = read_environment()
    assert env.source_roots == (Path("/srv/images"), Path("/mnt/nas"))
    assert env.allowed_hosts == ("v2v.example.org", "192.0.2.7", ".example.net")


def test_manage_py_says_it_in_one_line_and_not_in_a_traceback(tmp_path: Path) -> None:
    environment = os.environ | {"V2VWEB_DATA_DIR": str(tmp_path), "V2VWEB_PORT": "many"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == 'V2VWEB_PORT is "many": it must be a whole number from 1 to 65535.\n'


def test_manage_py_checks_the_installation_whatever_it_is_called_for(tmp_path: Path) -> None:
    environment = os.environ | {"V2VWEB_DATA_DIR": str(tmp_path / ("x" * 60))}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "conversions.E002" in done.stderr


def test_a_data_folder_that_cannot_be_made_is_told_in_one_line() -> None:
    environment = os.environ | {"V2VWEB_DATA_DIR": "/proc/v2vweb"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith('V2VWEB_DATA_DIR is "/proc/v2vweb": the folder cannot be made (')
    assert done.stderr.count("\n") == 1


def test_of_many_first_starts_at_once_all_take_the_same_signing_key(tmp_path: Path) -> None:
    keys: list[str] = []
    start = threading.Barrier(8)

    def first_start() -> None:
        start.wait()
        keys.append(_secret_key(tmp_path / "django.key"))

    threads = [threading.Thread(target=first_start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1 and len(keys) == 8 and len(keys[0]) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["django.key"]
    assert (tmp_path / "django.key").stat().st_mode & 0o777 == 0o600


# --- system checks ------------------------------------------------------------------------------------------------


def ids(messages: list[Any]) -> list[str]:
    for message in messages:
        assert message.hint, f"{message.id} has no hint"
    return [message.id for message in messages]


def test_the_checks_find_nothing_wrong_here() -> None:
    assert not [m for m in checks.run_checks() if m.level >= checks.ERROR]


def test_a_data_folder_with_a_long_path_is_an_error(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / ("x" * 60)
    settings.DATA_DIR.mkdir()
    assert ids(data_dir(None)) == ["conversions.E002"]
    settings.DATA_DIR = Path("/srv")
    assert ids(data_dir(None)) == []


def test_a_data_folder_that_may_not_be_written_is_an_error(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = Path("/srv")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert ids(data_dir(None)) == ["conversions.E001"]


def test_a_source_folder_that_is_not_there_is_a_warning(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.SOURCE_ROOTS = (tmp_path, tmp_path / "none", tmp_path / "file")
    assert ids(source_roots(None)) == ["conversions.W001", "conversions.W001"]


def test_data_below_a_source_folder_is_a_warning(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "data"
    settings.SOURCE_ROOTS = (tmp_path,)
    assert ids(source_roots(None)) == ["conversions.W002"]


def test_an_address_that_others_reach_wants_names_and_https(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V2VWEB_BIND", "0.0.0.0")
    monkeypatch.setenv("V2VWEB_DEBUG", "true")
    settings.ENV = read_environment()
    assert ids(reach(None)) == ["conversions.W003", "conversions.W004", "conversions.W005"]
    monkeypatch.setenv("V2VWEB_BIND", "127.0.0.1")
    settings.ENV = read_environment()
    assert ids(reach(None)) == []


def test_a_misspelt_variable_is_told_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V2VWEB_SOURCE_ROOT", "/srv")
    assert misspelt()["V2VWEB_SOURCE_ROOT"] == "V2VWEB_SOURCE_ROOTS"
    assert ids(variables(None)) == ["conversions.W006"]
