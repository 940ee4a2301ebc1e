"""The System page's facts: what is measured, how long a page waits for it, and what each answer says."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from conversions import conductor
from conversions.host import installation, machine, system
from conversions.host.machine import Check
from conversions.models import Lease
from conversions.problems import Problem, RefusedError


def one(checks: Iterator[Check] | list[Check]) -> Check:
    (only,) = checks
    return only


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file system in place of the machine's."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    for name in ("LIBGUESTFS_PATH", "SUPERMIN_KERNEL", "VIRTIO_WIN", "VIRT_TOOLS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def bin_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing in it as the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


# -- the report -------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[system.Measurement]:
    """What report() measures in place of the machine; a test fills it."""
    measurements: list[system.Measurement] = [system.Measurement("none", "None", list)]
    monkeypatch.setattr(system, "_measurements", measurements)
    monkeypatch.setattr(installation, "checks", list)
    return measurements


def test_a_page_does_not_wait_for_what_hangs(measured: list[system.Measurement]) -> None:
    go_on, runs = threading.Event(), []

    def hangs() -> list[Check]:
        runs.append(1)
        go_on.wait(30)
        return [Check("slow", "Slow", "ok", "there", "At last.")]

    measured += [
        system.Measurement("slow", "Slow", hangs),
        system.Measurement("quick", "Quick", lambda: [Check("quick", "Quick", "ok", "1", "Good.")]),
    ]
    began = time.monotonic()
    slow, quick = system.report(patience=0.2)
    assert time.monotonic() - began < 1
    assert (slow.state, slow.value, quick.state) == ("unknown", "being measured", "ok")
    system.report(patience=0.01)
    assert runs == [1], "what hangs is not started a second time"
    go_on.set()
    assert system.report(patience=5)[0].state == "ok"


def test_answers_count_for_a_while_and_can_be_forgotten(
    measured: list[system.Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []

    def counts() -> list[Check]:
        runs.append(1)
        return [Check("count", "Count", "ok", str(len(runs)), "Counts.")]

    measured.append(system.Measurement("count", "Count", counts))
    assert [one(system.report(5)).value for _ in range(3)] == ["1", "1", "1"]
    system.forget()
    assert one(system.report(5)).value == "2"
    monkeypatch.setattr(system, "FRESH", 0.0)
    assert one(system.report(5)).value == "3"


def test_an_old_answer_is_shown_while_a_new_one_is_taken(measured: list[system.Measurement]) -> None:
    go_on = threading.Event()
    go_on.set()

    def waits() -> list[Check]:
        go_on.wait(30)
        return [Check("x", "X", "ok", "there", "Good.")]

    measured.append(system.Measurement("x", "X", waits))
    system.report(5)
    go_on.clear()
    system.forget()
    assert one(system.report(0.01)).value == "there"
    go_on.set()


def test_a_look_that_fails_is_unknown_and_the_others_are_there(measured: list[system.Measurement]) -> None:
    def breaks() -> list[Check]:
        raise OSError("stale file handle")

    measured += [
        system.Measurement("bad", "Bad", breaks),
        system.Measurement("good", "Good", lambda: [Check("good", "Good", "ok", "1", "Good.")]),
    ]
    bad, good = system.report(5)
    assert (bad.state, good.state) == ("unknown", "ok")
    assert "stale file handle" in bad.meaning


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ("ok ok", "ok"),
        ("ok warning", "warning"),
        ("unknown warning error", "error"),
        ("ok unknown", "unknown"),
        ("", "ok"),
    ],
)
def test_the_worst_state_counts(states: str, worst: str) -> None:
    assert system.worst([Check("x", "X", state, "", "") for state in states.split()]) == worst  # type: ignore[arg-type]


@pytest.mark.django_db
def test_the_report_of_this_machine_is_whole_and_quick(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(system, "_measurements", [])
    with django_assert_max_num_queries(3):
        began = time.monotonic()
        system.report()
        assert time.monotonic() - began < 1.5
    checks = system.report(20)
    ids = [check.id for check in checks]
    assert len(ids) == len(set(ids))
    assert {
        "conductor", "acceleration", "database", "virt-v2v", "nbdkit", "nbdkit-vddk", "nbdcopy", "qemu-img", "bubblewrap",
        "kernel", "xfs", "virtio-win", "virt-tools", "data-space", "source-roots",
    } <= set(ids)  # fmt: skip
    for check in checks:
        assert check.title and check.value and check.meaning.endswith("."), check
        assert check.state in ("ok", "unknown") or check.command or check.id == "nbdkit-vddk", check


# -- v2vweb itself ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_without_a_conductor_it_says_so_and_how_to_start_it() -> None:
    check = installation.conductor(installation.live_lease())
    assert (check.state, check.value) == ("error", "not running")
    assert "conduct" in check.command


@pytest.mark.django_db
def test_a_conductor_counts_as_long_as_its_lease() -> None:
    assert installation.CONDUCTOR == conductor.LEASE
    about = {"host": "host7", "pid": 42, "max_running": 2, "accel": None}
    lease = Lease.objects.create(
        name=conductor.LEASE, holder="host7:42", expires=timezone.now() + timedelta(seconds=5), about=about
    )
    check = installation.conductor(installation.live_lease())
    assert (check.state, check.value) == ("ok", "process 42 on host7; 2 conversions at once")
    Lease.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert installation.live_lease() is None
    Lease.objects.update(expires=lease.expires, holder="")
    assert installation.live_lease() is None


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ({"accel": "kvm", "accel_text": "KVM: the appliance started in 4 s."}, "ok"),
        ({"accel": "tcg", "accel_text": "Emulation (slower)."}, "warning"),
        ({"accel": "environment", "accel_text": "As it says."}, "ok"),
        ({"accel": None, "accel_text": "Being measured."}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_it_tells_how_the_appliance_runs(about: dict[str, Any], state: str) -> None:
    check = installation.acceleration(about)
    assert check.state == state
    if about.get("accel"):
        assert check.value == about["accel_text"]


@pytest.mark.django_db
def test_redis_is_looked_at_only_when_it_is_set(settings: Any) -> None:
    assert "redis" not in [check.id for check in installation.checks()]
    settings.ENV = SimpleNamespace(redis_url="redis://user:open-sesame@127.0.0.1:1/0")
    redis = next(check for check in installation.checks() if check.id == "redis")
    assert redis.state == "error"
    assert "open-sesame" not in repr(redis)


# -- the machine ------------------------------------------------------------------------------------------------------


def test_missing_programs_are_errors_with_the_package_that_brings_them(bin_only: Path) -> None:
    for name, package in [
        ("virt-v2v", "virt-v2v"),
        ("nbdkit", "nbdkit"),
        ("nbdcopy", "libnbd-bin"),
        ("qemu-img", "qemu-utils"),
    ]:
        measure = next(measure for id, _, measure in machine.MEASUREMENTS if id == name)
        check = one(measure())
        assert (check.state, check.command) == ("error", f"apt install {package}")
        assert "nothing can be converted" in check.meaning


def test_on_a_machine_with_dnf_its_names_are_told(bin_only: Path) -> None:
    (bin_only / "dnf").touch(0o755)
    assert machine.install("qemu-utils", "virt-v2v") == "dnf install qemu-img virt-v2v"


def test_a_virt_v2v_without_kubevirt_is_too_old(bin_only: Path) -> None:
    program = bin_only / "virt-v2v"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo virt-v2v 1.42.0 || echo output:local\n')
    program.chmod(0o755)
    check = one(machine.virt_v2v())
    assert check.state == "error"
    assert "too old" in check.meaning


@pytest.fixture
def nbdkit(bin_only: Path, tmp_path: Path) -> Path:
    """A stand-in for nbdkit that tells where its parts are; all are there but vddk."""
    program = bin_only / "nbdkit"
    program.write_text(f"#!/bin/sh\necho plugindir={tmp_path}\necho filterdir={tmp_path}\necho version=1.46.0\n")
    program.chmod(0o755)
    for kind, name, _, _ in machine._PARTS:
        (tmp_path / f"nbdkit-{name}-{kind}.so").touch()
    return tmp_path


def test_nbdkit_with_all_its_parts_is_fine_and_vddk_is_told_apart(nbdkit: Path) -> None:
    whole, vddk = machine.nbdkit()
    assert (whole.state, vddk.state) == ("ok", "warning")
    assert whole.value.startswith("1.46.0")
    assert "HTTPS" in vddk.meaning
    (nbdkit / "nbdkit-vddk-plugin.so").touch()
    assert [check.state for check in machine.nbdkit()] == ["ok", "ok"]


@pytest.mark.parametrize(("part", "state"), [("nbdkit-ssh-plugin.so", "warning"), ("nbdkit-cow-filter.so", "error")])
def test_what_is_not_possible_without_a_part_is_said(nbdkit: Path, part: str, state: str) -> None:
    (nbdkit / part).unlink()
    check = next(iter(machine.nbdkit()))
    assert check.state == state
    assert part.split("-")[1] in check.value


def test_the_sandbox_is_really_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    def refuses(argv: list[str], file: Path) -> str:
        tried.append(argv)
        assert file.exists()
        raise RefusedError(
            Problem("sandbox-unusable", "No", "bubblewrap says “No permissions”.", "Allow user namespaces.")
        )

    monkeypatch.setattr("conversions.disks.sandbox.run", refuses)
    check = one(machine.bubblewrap())
    assert tried
    assert check.state == "error"
    assert "No permissions" in check.meaning and "Allow user namespaces" in check.meaning


def test_a_kernel_needs_its_modules_and_must_be_readable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(machine.kernel()).state == "error"
    image = root / "boot/vmlinuz-6.1.0-1-amd64"
    image.parent.mkdir()
    image.touch()
    assert "linux-image" in one(machine.kernel()).command
    (root / "lib/modules/6.1.0-1-amd64").mkdir(parents=True)
    assert one(machine.kernel()).value == image.name
    monkeypatch.setattr("os.access", lambda *_: False)
    assert one(machine.kernel()).command == f"chmod 0644 {image}"


@pytest.mark.parametrize("folder", ["usr/lib/x86_64-linux-gnu", "usr/lib64"])
def test_xfs_is_found_where_distributions_put_it(root: Path, folder: str) -> None:
    assert one(machine.xfs()).command == "apt install libguestfs-xfs"
    place = root / folder / "guestfs/supermin.d"
    place.mkdir(parents=True)
    (place / "zz-packages-xfs").touch()
    assert one(machine.xfs()).state == "ok"


def test_drivers_for_windows_may_be_missing_but_that_is_said(root: Path) -> None:
    for check in (one(machine.virtio_win()), one(machine.virt_tools())):
        assert check.state == "warning"
        assert "Windows" in check.meaning and "Other guests do not need" in check.meaning
    (root / "usr/share/virtio-win").mkdir(parents=True)
    assert one(machine.virtio_win()).state == "warning", "an empty folder is nothing"
    (root / "usr/share/virtio-win/virtio-win.iso").touch()
    assert one(machine.virtio_win()).state == "ok"
    (root / "usr/share/virt-tools").mkdir(parents=True)
    (root / "usr/share/virt-tools/pnp_wait.exe").touch()
    assert one(machine.virt_tools()).state == "warning", "pnp_wait.exe alone runs nothing"
    (root / "usr/share/virt-tools/rhsrvany.exe").touch()
    assert one(machine.virt_tools()).state == "ok"


@pytest.mark.parametrize(("free", "state"), [(100 << 30, "ok"), (5 << 30, "warning"), (1 << 30, "error")])
def test_little_space_is_told_before_it_is_none(monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=200 << 30, free=free))
    check = one(machine.data_space())
    assert check.state == state
    assert "GiB free of 200 GiB" in check.value


def test_each_source_folder_is_looked_at(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SOURCE_ROOTS = ()
    assert one(machine.source_roots()).state == "warning"
    settings.SOURCE_ROOTS = (tmp_path, tmp_path / "gone")
    there, gone = machine.source_roots()
    assert (there.state, gone.state) == ("ok", "error")
    assert "free" in there.value and "mounted" in gone.meaning
    monkeypatch.setattr("os.access", lambda *_: False)
    assert next(iter(machine.source_roots())).value == "not readable"


# -- uploads through nginx --------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_nginxs_folder_is_a_line_only_where_it_is_set(env: Any, settings: Any, tmp_path: Path) -> None:
    settings.UPLOAD_DIR = tmp_path / "uploads"
    settings.UPLOAD_DIR.mkdir()
    assert "nginx" not in [check.id for check in installation.checks()]
    env(upload_body_dir=tmp_path)
    (check,) = (check for check in installation.checks() if check.id == "nginx")
    assert (check.state, check.value, check.command) == ("ok", str(tmp_path), "")


def test_a_folder_of_nginx_that_is_not_there_is_an_error_with_the_command(
    env: Any, settings: Any, tmp_path: Path
) -> None:
    settings.UPLOAD_DIR = tmp_path
    env(upload_body_dir=tmp_path / "my bodies")
    check = installation.nginx(tmp_path / "my bodies")
    assert check.state == "error" and "cannot be used" in check.value
    assert check.command.startswith("install -d -m 700 -o ") and f"'{tmp_path}/my bodies'" in check.command


def test_a_folder_of_nginx_on_another_disk_is_a_warning(env: Any, settings: Any, tmp_path: Path) -> None:
    settings.UPLOAD_DIR, shm = tmp_path, Path("/dev/shm")
    if shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    env(upload_body_dir=shm)
    check = installation.nginx(shm)
    assert check.state == "warning" and "copied" in check.meaning
