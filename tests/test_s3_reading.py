"""Objects of a bucket as files: mounted or downloaded, by an agent too; the address is seen nowhere."""

import hashlib
import http.client
import http.server
import json
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conversions.agent import objects, processes
from conversions.bucket import fetch, mount
from conversions.disks import sandbox
from conversions.jobdir import JobDir, write_atomically
from conversions.problems import RefusedError
from conversions.runners import LocalRunner

from .fixtures_engine import events_of, until

MIB = 1 << 20
SIZE = 6 * MIB + 512
needs_fuse = pytest.mark.skipif(bool(mount.missing()), reason=f"no FUSE: {mount.missing()}")


@pytest.fixture(scope="module")
def data() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def address(s3: Any, data: bytes) -> str:
    s3.client.put_object(Bucket="uploads", Key="x/disk.img", Body=data)
    params = {"Bucket": "uploads", "Key": "x/disk.img"}
    return str(s3.client.generate_presigned_url("get_object", Params=params, ExpiresIn=3600))


@pytest.fixture
def secret(address: str, tmp_path: Path) -> Path:
    path = tmp_path / "address"
    path.write_text(address)
    return path


def command_lines_and_environments() -> bytes:
    found = b""
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                found += (folder / name).read_bytes()
            except OSError:
                continue
    return found


@needs_fuse
def test_a_mounted_object_is_read_by_ranges_and_its_address_is_in_no_command_line(
    secret: Path, data: bytes, tmp_path: Path
) -> None:
    work, file = tmp_path / "work", tmp_path / "disk.img"
    work.mkdir()
    with mount.mounted(file, SIZE, secret, work):
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(data).digest()
        about = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": sandbox.FILE}})
        assert f'"virtual-size": {SIZE}' in sandbox.run(["qemu-img", "info", "--output=json", f"json:{about}"], file)
        with pytest.raises(OSError):
            file.open("r+b").write(b"x")
        seen = command_lines_and_environments()
        signature = secret.read_bytes().rpartition(b"Signature=")[2]  # its own: other tests' addresses are none of it
        assert len(signature) > 20 and b"nbdfuse" in seen and signature not in seen
        allocated = sum(path.stat().st_blocks * 512 for path in work.rglob("*"))
        assert allocated < 64 << 10
    assert not os.path.ismount(file) and file.stat().st_size == 0
    assert b"Signature=" not in b"".join(path.read_bytes() for path in work.rglob("*") if path.is_file())


@needs_fuse
def test_an_address_that_is_renewed_counts_at_once(s3: Any, secret: Path, data: bytes, tmp_path: Path) -> None:
    """As only that shows which one is used, the new one is another object's."""
    s3.client.put_object(Bucket="uploads", Key="y/disk.img", Body=data[::-1])
    params = {"Bucket": "uploads", "Key": "y/disk.img"}
    renewed = s3.client.generate_presigned_url("get_object", Params=params, ExpiresIn=3600)
    work, file = tmp_path / "work", tmp_path / "disk.img"
    work.mkdir()
    with mount.mounted(file, SIZE, secret, work), file.open("rb") as opened:
        assert opened.read(100) == data[:100]
        write_atomically(secret, renewed)
        opened.seek(SIZE - 100)
        assert opened.read() == data[99::-1]


@needs_fuse
def test_the_relay_gives_the_address_to_nobody_without_the_cookie(secret: Path, tmp_path: Path) -> None:
    import urllib.error
    import urllib.request

    cookie = tmp_path / "cookie"
    cookie.write_text("the-cookie")
    with mount._relay(secret, cookie, SIZE) as port:
        for header in ({}, {"Cookie": "v2vweb=wrong"}, {"Cookie": "other=the-cookie"}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", headers=header))
            assert refused.value.code == 403 and "Location" not in refused.value.headers


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mount, "FUSE", tmp_path / "no-fuse")
    if not mount.missing().startswith("the program"):
        assert "cannot be opened" in mount.missing()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nbdfuse is missing" in mount.missing()
    with pytest.raises(mount.CannotMountError), mount.mounted(tmp_path / "f", 1, tmp_path / "a", tmp_path):
        pass


# -- downloading -------------------------------------------------------------------------------------------------------


class BreakingServer(http.server.BaseHTTPRequestHandler):
    """Stands in for a bucket whose connection breaks off after each MiB."""

    data: bytes
    asked: list[int]

    def do_GET(self) -> None:
        first, end = (int(text or 0) for text in self.headers["Range"].removeprefix("bytes=").split("-"))
        self.asked.append(first)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(self.data)}")
        self.send_header("Content-Length", str(end + 1 - first))
        self.end_headers()
        self.wfile.write(self.data[first : min(end + 1, first + MIB)])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def breaking(data: bytes, tmp_path: Path) -> Iterator[Path]:
    BreakingServer.data, BreakingServer.asked = data, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreakingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "breaking"
    path.write_text(f"http://127.0.0.1:{server.server_port}/?Signature=secret")
    yield path
    server.shutdown()


def test_a_download_goes_on_where_the_connection_broke_off(breaking: Path, data: bytes, tmp_path: Path) -> None:
    told: list[int] = []
    fetch.fetch(breaking, tmp_path / "got", SIZE, told.append)
    assert (tmp_path / "got").read_bytes() == data
    assert BreakingServer.asked == list(range(0, SIZE, MIB)) and told[-1] == SIZE


def test_a_download_goes_on_when_tls_breaks_off_and_ends_when_the_disk_is_full(
    breaking: Path, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, broken = http.client.HTTPResponse.read, [ssl.SSLEOFError("EOF occurred in violation of protocol")]

    def breaks_off(answer: http.client.HTTPResponse, count: int) -> bytes:
        if broken and BreakingServer.asked[-1]:
            raise broken.pop()
        return read(answer, count)

    monkeypatch.setattr(http.client.HTTPResponse, "read", breaks_off)
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    fetch.fetch(breaking, tmp_path / "got", SIZE)
    assert (tmp_path / "got").read_bytes() == data and not broken
    with pytest.raises(OSError, match="No space left"):
        fetch.fetch(breaking, Path("/dev/full"), SIZE)


def test_an_object_of_another_size_is_refused(breaking: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        fetch.probe(breaking, SIZE + 1)
    assert caught.value.problem.code == "bucket-object-changed"


def test_what_is_gone_or_forbidden_is_told_without_the_address(secret: Path, s3: Any) -> None:
    fetch.probe(secret, SIZE)
    s3.client.delete_object(Bucket="uploads", Key="x/disk.img")
    with pytest.raises(RefusedError) as caught:
        fetch.probe(secret, SIZE)
    assert caught.value.problem.code == "bucket-object-gone"
    secret.write_text("http://127.0.0.1:9/?Signature=secret")
    with pytest.raises(RefusedError) as caught:
        fetch.probe(secret, SIZE)
    assert caught.value.problem.code == "bucket-unreachable" and "Signature" not in str(caught.value.problem)


# -- the agent ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def jobdir(make_standin: Any, make_job: Any, address: str, tmp_path: Path) -> JobDir:
    file = tmp_path / "jobs" / "1" / "1" / "tmp" / "source" / "x" / "disk.img"
    made: JobDir = make_job(
        make_standin(copy=0.5),
        objects=[{"path": str(file), "size": SIZE, "secret": "address-0"}],
        vet=[{"path": str(file), "kind": "disk", "format": "raw"}],
    )
    (made.secrets / "address-0").write_text(address)
    return made


def assert_no_trace(jobdir: JobDir) -> None:
    assert processes.marked(str(jobdir.path)) == []
    assert not jobdir.tmp.exists() and not jobdir.secrets.exists()
    assert str(jobdir.path) not in Path("/proc/self/mountinfo").read_text()
    for path in (jobdir.log, jobdir.events, jobdir.result):
        assert not path.exists() or "Signature" not in path.read_text()


@needs_fuse
def test_an_agent_reads_in_the_bucket_and_says_so(jobdir: JobDir, start_agent: Callable[..., Any]) -> None:
    start_agent(jobdir).wait(60)
    result = jobdir.read_result()
    assert result and result.outcome == "succeeded", jobdir.log.read_text()
    assert "disk.img is read in its bucket through FUSE; nothing is downloaded first" in jobdir.log.read_text()
    assert "the mount that showed disk.img as a file" in result.removed
    assert {"bucket": "read in the bucket, nothing downloaded first"}.items() <= facts(jobdir).items()
    assert_no_trace(jobdir)


def test_an_agent_without_fuse_downloads_and_says_how_far_it_is(
    jobdir: JobDir, start_agent: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in ("/usr/sbin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if program.name != "nbdfuse" and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    start_agent(jobdir).wait(60)
    result = jobdir.read_result()
    assert result and result.outcome == "succeeded", jobdir.log.read_text()
    log = jobdir.log.read_text()
    assert "downloaded first: the program nbdfuse is missing" in log and "downloading disk.img: 6 of 6 MiB" in log
    assert "the downloaded copy of disk.img (6.0 MiB)" in result.removed
    assert facts(jobdir)["bucket"].startswith("downloaded first: 6 of 6 MiB")
    assert f"checked 'disk.img': raw, {SIZE} bytes" in log
    assert_no_trace(jobdir)


def facts(jobdir: JobDir) -> dict[str, str]:
    return {event["key"]: event["value"] for event in events_of(jobdir, "fact")}


@needs_fuse
@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_however_an_agent_ends_the_mount_goes(jobdir: JobDir, start_agent: Callable[..., Any], how: str) -> None:
    agent: subprocess.Popen[bytes] = start_agent(jobdir)
    until(lambda: jobdir.log.exists() and b"read in its bucket" in jobdir.log.read_bytes(), 30, "the mount")
    assert str(jobdir.path) in Path("/proc/self/mountinfo").read_text()
    if how == "cancelled":
        jobdir.cancel.touch()
    else:
        os.kill(agent.pid, signal.SIGKILL)
    agent.wait(60)
    if how == "killed":
        conversion: Any = SimpleNamespace(jobdir=jobdir)
        LocalRunner().clear(conversion)
    assert_no_trace(jobdir)


def test_two_objects_with_one_name_are_two_files(jobdir: JobDir, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(mount, "missing", lambda: "there is no /dev/fuse")
    source = jobdir.tmp / "source"
    objects_of = [
        {"path": str(source / folder / "disk.img"), "size": SIZE, "secret": f"address-{number}"}
        for number, folder in enumerate(("a", "b"))
    ]
    (jobdir.secrets / "address-1").write_text((jobdir.secrets / "address-0").read_text())
    job = replace(jobdir.read_job(), objects=objects_of)
    with objects.shown(jobdir, job, lambda _: None, lambda *_, **__: None):
        assert [Path(item["path"]).read_bytes() for item in objects_of] == [data, data]


def test_an_agent_whose_object_is_gone_says_so(jobdir: JobDir, start_agent: Callable[..., Any], s3: Any) -> None:
    s3.client.delete_object(Bucket="uploads", Key="x/disk.img")
    start_agent(jobdir).wait(60)
    result = jobdir.read_result()
    assert result and result.error and result.error["code"] == "bucket-object-gone"
    assert_no_trace(jobdir)
