"""Settings of uploads: sizes as people write them, nonsense refused, folders checked."""

from pathlib import Path
from typing import Any

import pytest

from conversions.host.checks import uploads
from v2vweb.environment import WrongSettingError, read_environment


@pytest.mark.parametrize(
    ("text", "size"),
    [("16M", 16 << 20), ("16 MiB", 16 << 20), ("16mb", 16 << 20), ("131072", 1 << 17), ("1G", 1 << 30)],
)
def test_a_size_is_taken_as_people_write_it(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("V2VWEB_UPLOAD_CHUNK", text)
    assert read_environment().upload_chunk == size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("V2VWEB_UPLOAD_CHUNK", "lots"),
        ("V2VWEB_UPLOAD_CHUNK", "1K"),
        ("V2VWEB_UPLOAD_CHUNK", "2G"),
        ("V2VWEB_UPLOAD_QUOTA", "-5G"),
        ("V2VWEB_UPLOAD_QUOTA_ALL", "5 potatoes"),
        ("V2VWEB_UPLOAD_DIR", "uploads"),
        ("V2VWEB_UPLOAD_DIR", "/"),
        ("V2VWEB_UPLOAD_BODY_DIR", "bodies"),
        ("V2VWEB_UPLOAD_KEEP_DAYS", "0"),
        ("V2VWEB_UPLOAD_UNFINISHED_DAYS", "forever"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(WrongSettingError, match=f'{name} is "{text}": it must be'):
        read_environment()


def test_folders_that_do_not_work_are_told(env: Any, settings: Any, tmp_path: Path) -> None:
    assert uploads(None) == []
    env(upload_body_dir=tmp_path / "missing")
    assert [message.id for message in uploads(None)] == ["conversions.W020"]
    env(upload_body_dir=Path("/proc/self"))
    settings.UPLOAD_DIR.mkdir()
    assert {message.id for message in uploads(None)} <= {"conversions.W020", "conversions.W021"}


def test_bodies_on_another_file_system_are_slower_and_told(env: Any, settings: Any, monkeypatch: Any) -> None:
    shm = Path("/dev/shm")
    settings.UPLOAD_DIR.mkdir()
    if not shm.is_dir() or shm.stat().st_dev == settings.UPLOAD_DIR.stat().st_dev:
        pytest.skip("there is no second file system here")
    env(upload_body_dir=shm)
    assert [message.id for message in uploads(None)] == ["conversions.W021"]
