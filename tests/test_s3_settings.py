"""The settings of the bucket: the key comes from a file and is seen nowhere; the System page tells what does not work."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from conversions.bucket import checks, mount
from conversions.uploading import sweeper
from tests.fixtures_s3 import KEY
from v2vweb.environment import WrongSettingError, read_environment
from v2vweb.s3 import read_key, storage_of_uploads


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("V2VWEB_S3_BUCKET", "Not A Bucket"),
        ("V2VWEB_S3_BUCKET", "a/b"),
        ("V2VWEB_S3_ENDPOINT", "s3.example.org"),
        ("V2VWEB_S3_ENDPOINT", "https://key:secret@s3.example.org"),
        ("V2VWEB_S3_REGION", "no region"),
        ("V2VWEB_S3_KEY_FILE", "s3.key"),
    ],
)
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(WrongSettingError, match=name):
        read_environment()


def test_the_key_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    assert read_key(path) == ("test", "a-key-that-nobody-may-see", None)
    path.write_text(KEY.replace("default", "other") + "aws_session_token = t\n")
    assert read_key(path)[2] == "t"


@pytest.mark.parametrize("text", ["a-secret-key", "[default]\naws_access_key_id = a-secret-key\n", None])
def test_a_key_file_that_does_not_work_is_told_and_not_repeated(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
    with pytest.raises(WrongSettingError) as caught:
        read_key(path)
    assert "V2VWEB_S3_KEY_FILE" in str(caught.value) and "a-secret-key" not in str(caught.value)


def test_without_a_bucket_uploads_go_to_the_folder(tmp_path: Path) -> None:
    made = storage_of_uploads(read_environment(), tmp_path)
    assert made["OPTIONS"] == {"location": tmp_path}
    assert list(checks.bucket()) == list(checks.reading()) == []


def test_the_system_page_tells_whether_the_bucket_answers(
    s3: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [check.state for check in checks.bucket()] == ["ok"]
    settings.ENV.s3_key_file.chmod(0o644)
    (check,) = checks.bucket()
    assert check.state == "warning" and check.command.startswith("chmod 600")
    settings.STORAGES = settings.STORAGES | {
        "default": storage_of_uploads(settings.ENV.model_copy(update={"s3_bucket": "not-there"}), Path("/"))
    }
    (check,) = checks.bucket()
    assert check.state == "error" and "a-key-that-nobody-may-see" not in str(check)


@pytest.mark.parametrize(("why", "state"), [("", "ok"), ("there is no /dev/fuse", "warning")])
def test_the_system_page_tells_how_objects_are_read(
    s3: Any, monkeypatch: pytest.MonkeyPatch, why: str, state: str
) -> None:
    monkeypatch.setattr(mount, "missing", lambda: why)
    (check,) = checks.reading()
    assert check.state == state and why in check.meaning


@pytest.mark.django_db
def test_the_sweeper_unmounts_what_a_killed_look_has_left(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    old, new = tmp_path / "shown" / "old", tmp_path / "shown" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "address").write_text("https://bucket/?Signature=secret")
    os.utime(old, (time.time() - 7200,) * 2)
    sweeper.sweep()
    assert list((tmp_path / "shown").iterdir()) == [new]
