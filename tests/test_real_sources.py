"""Real virt-v2v on guests of the lab's vCenter, ESXi and Xen host: over HTTPS, VDDK (a stand-in for VMware's library) and
SSH, each to a disk with a boot loader on it; and no secret in anybody's arguments meanwhile.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conversions import planning, refresh, trust, vsphere
from conversions.acceleration import Acceleration
from conversions.conductor import Conductor
from conversions.models import Conversion, SavedSource
from conversions.states import State
from tests.fixtures_vsphere import Simulator
from tests.fixtures_xen import XenHost
from tests.lab import vsphere as lab

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


class ProbeDone:
    """In the place of the measurement: it takes a minute and always ends the same way here."""

    def poll(self) -> Acceleration:
        return Acceleration("tcg", "Emulation.")

    def stop(self) -> None: ...


def add_guest(server: Simulator, image: Path, name: str) -> None:
    endpoint = vsphere.Endpoint(server.host, server.port, server.user, pin=server.certificate)
    with vsphere.session(endpoint, server.password) as instance:
        found = vsphere.retrieve(instance)
        names = {p.get("name") for kind in found.values() for p in kind.values()}
        if name not in names:
            lab.add_guest(instance, name, image)


@pytest.fixture
def save(alice: Any) -> Callable[..., SavedSource]:
    def make(kind: str, server: Simulator, **changes: Any) -> SavedSource:
        found = trust.fetch_certificate(server.host, server.port)
        return SavedSource.objects.create(
            kind=kind,
            name=f"Lab {kind}",
            owner=alice,
            host=server.host,
            port=server.port,
            user=server.user,
            secrets={"password": server.password},
            pin=found.pem,
            pin_sha256=found.sha256,
            pin_sha1=found.sha1,
            **changes,
        )

    return make


@pytest.fixture(scope="session")
def vddk_plugin() -> Iterator[None]:
    """The stand-in for nbdkit's VDDK plugin, in the folder where nbdkit looks; away again afterwards."""
    dump = subprocess.run(["nbdkit", "--dump-config"], capture_output=True, text=True, check=True).stdout
    folder = Path(next(line.split("=", 1)[1] for line in dump.splitlines() if line.startswith("plugindir=")))
    plugin = folder / "nbdkit-vddk-plugin.so"
    if plugin.exists() or os.geteuid() != 0:
        pytest.skip("needs root, and an nbdkit without a VDDK plugin of its own")
    source = Path(__file__).parent / "lab" / "vddk-standin.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", plugin, source], check=True)
    yield
    plugin.unlink()


def vddk_library(folder: Path, server: Simulator, sha1: str, root: Path) -> Path:
    """A folder like VMware's: the stand-in checks what reaches it against standin.conf."""
    (folder / "lib64").mkdir()
    (folder / "lib64" / "libvixDiskLib.so").touch()
    (folder / "standin.conf").write_text(
        f"root={root}\nserver={server.host}\nuser={server.user}\npassword={server.password}\nthumbprint={sha1}\n"
    )
    return folder


def convert(
    saved: SavedSource, guest: str, user: Any, secrets: list[str], expected: State = State.SUCCEEDED
) -> Conversion:
    """Plans and runs a conversion with the real conductor and agent; watches for the secrets meanwhile."""
    refresh.refresh(saved)
    plan, own = planning.make_plan(
        name="moved",
        source={"kind": saved.kind, "source_id": saved.pk, "guest": guest},
        options={},
        output={"kind": "files", "format": "raw"},
        user=user,
    )
    conversion = planning.create_conversion(plan, own, user)
    conductor, seen, over = Conductor(probe=ProbeDone()), [], threading.Event()  # type: ignore[arg-type]
    spy = threading.Thread(target=look_for, args=(secrets, seen, over), daemon=True)
    spy.start()
    end = time.monotonic() + 400
    while not conversion.is_final and time.monotonic() < end:
        conductor.tick()
        time.sleep(0.5)
        conversion.refresh_from_db()
    over.set()
    spy.join()
    assert seen == []
    log = conversion.jobdir.log.read_text(errors="replace")
    assert conversion.state == expected, f"{conversion.error}\n{log[-3000:]}"
    assert_no_secret(conversion, log, secrets)
    assert not conversion.jobdir.secrets.exists()
    return conversion


def assert_no_secret(conversion: Conversion, log: str, secrets: list[str]) -> None:
    for secret in secrets:
        assert secret not in log + conversion.jobdir.events.read_text() + conversion.jobdir.job.read_text()
        assert secret not in str(list(Conversion.objects.values())) + str(list(conversion.events.values()))


def look_for(secrets: list[str], seen: list[str], over: threading.Event) -> None:
    """Reads every process's arguments and environment, again and again."""
    while not over.wait(0.02):
        for process in Path("/proc").glob("[0-9]*"):
            for file in ("cmdline", "environ"):
                try:
                    text = (process / file).read_bytes().decode(errors="replace")
                except OSError:
                    continue
                own = "/vsphere-" in text[:200]  # the simulator is told its password by an argument
                if not own and any(secret in text for secret in secrets):
                    seen.append(f"{file} of {text[:80]}")


def assert_bootable(conversion: Conversion, image: Path) -> None:
    disk = conversion.output_dir / "moved-sda"
    assert disk.stat().st_size == image.stat().st_size
    assert disk.read_bytes()[510:512] == b"\x55\xaa"
    assert (conversion.output_dir / "moved.yaml").exists()


@pytest.mark.parametrize("kind", ["vcenter", "esxi"])
def test_a_guest_moves_over_https(
    kind: str, save: Callable[..., SavedSource], request: pytest.FixtureRequest, guest_image: Path, alice: Any
) -> None:
    server = request.getfixturevalue(kind)
    add_guest(server, guest_image, "web 01")
    conversion = convert(save(kind, server), "web 01", alice, [server.password])
    assert_bootable(conversion, guest_image)
    assert conversion.plan.guest.nics[0].network == "VM Network"


@pytest.mark.parametrize("kind", ["vcenter", "esxi"])
def test_a_guest_moves_over_vddk(
    kind: str,
    save: Callable[..., SavedSource],
    request: pytest.FixtureRequest,
    guest_image: Path,
    alice: Any,
    tmp_path: Path,
    vddk_plugin: None,
) -> None:
    server = request.getfixturevalue(kind)
    add_guest(server, guest_image, "web02")
    saved = save(kind, server, transport="vddk")
    disks = tmp_path / "datastore" / "web02"
    disks.mkdir(parents=True)
    os.link(guest_image, disks / "web02-flat.vmdk")
    library = tmp_path / "vddk"
    library.mkdir()
    saved.vddk_libdir = str(vddk_library(library, server, saved.pin_sha1, disks.parent))
    saved.save()
    assert_bootable(convert(saved, "web02", alice, [server.password]), guest_image)


def test_vddk_with_another_thumbprint_fails_with_words_that_help(
    save: Callable[..., SavedSource],
    vcenter: Simulator,
    guest_image: Path,
    alice: Any,
    tmp_path: Path,
    vddk_plugin: None,
) -> None:
    add_guest(vcenter, guest_image, "web03")
    saved = save("vcenter", vcenter, transport="vddk")
    library = tmp_path / "vddk"
    library.mkdir()
    saved.vddk_libdir = str(vddk_library(library, vcenter, ":".join(["AB"] * 20), tmp_path))
    saved.save()
    conversion = convert(saved, "web03", alice, [vcenter.password], State.FAILED)
    assert conversion.error and conversion.error["code"] == "vddk-thumbprint"


def test_a_guest_moves_from_xen_over_ssh(alice: Any, xen_host: XenHost, guest_image: Path) -> None:
    keys = trust.fetch_host_keys(xen_host.host, xen_host.port)
    saved = SavedSource.objects.create(
        kind="xen",
        name="Lab Xen",
        owner=alice,
        host=xen_host.host,
        port=xen_host.port,
        user="root",
        transport="ssh",
        secrets={"key": xen_host.key},
        host_keys=[{"type": key.type, "key": key.key, "fingerprint": key.fingerprint} for key in keys],
        libvirt_name=xen_host.libvirt_name,
    )
    line = xen_host.key.splitlines()[3]
    assert_bootable(convert(saved, xen_host.guest, alice, [line]), guest_image)
