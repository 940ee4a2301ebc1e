"""Real virt-v2v on guests of the lab's vCenter, ESXi and Xen host: over HTTPS, VDDK (a stand-in for VMware's library) and SSH,
from the API to a disk that boots to its login; and no secret in anybody's arguments meanwhile.

All are converted by one conductor, two at a time as the product does it, while those that are done are tried by its own proof
of boot; the tests look at what came of it.  Of a selection (-k) only those are converted.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pyVim.task import WaitForTask
from pyVmomi import vim

from conversions import conductor as conductor_module
from conversions import tokens
from conversions.conductor import Conductor
from conversions.host.acceleration import Acceleration
from conversions.models import Conversion, SavedSource
from conversions.servers import power, refresh, trust, vsphere
from conversions.states import State
from tests.fixtures_ssh import EsxiSsh, XenHost, free_port
from tests.fixtures_vsphere import Simulator
from tests.lab import vsphere as lab
from tests.running import CACHE

pytestmark = [
    pytest.mark.real,
    pytest.mark.django_db,
]  # the fixture of the module has the database before each test has

#: Those that come to a disk; "esxi-ssh" stands for -i vmx -it ssh, at a host without HTTPS.
MOVES = ["vcenter-https", "vcenter-vddk", "esxi-https", "esxi-vddk", "esxi-ssh", "xen-ssh"]
#: Those that must not, and what people are told.
REFUSED = {"vcenter-vddk-other-thumbprint": "vddk-thumbprint", "esxi-ssh-gone": "guest-gone"}
#: Whose guests run at first and are shut down for the conversion.
RUNS_AT_FIRST = ("vcenter-https", "esxi-ssh", "xen-ssh")
MIB = 2**20
#: A guest can be asked to shut down.
TOOLS = {
    "toolsStatus": "toolsOk",
    "toolsRunningStatus": "guestToolsRunning",
    "toolsVersionStatus2": "guestToolsCurrent",
}


@dataclass
class Moved:
    """What came of a conversion, as it was in the database."""

    conversion: Conversion
    disk: Path
    secrets: list[str]
    log: str
    texts: str  #: events, job, rows, pages: where a secret must not be
    receipt: dict[str, Any]
    boot: dict[str, Any]
    seen: list[str] = field(default_factory=list)  #: where a secret was seen while it ran
    power: str = ""  #: of the guest at its source, afterwards


class ProbeDone:
    """In the place of the measurement: it takes a minute and always ends the same way here."""

    def poll(self) -> Acceleration:
        return Acceleration("tcg", "Emulation.")

    def stop(self) -> None: ...


@pytest.fixture(scope="session")
def vddk_plugin() -> Iterator[None]:
    """The stand-in for nbdkit's VDDK plugin, in the folder where nbdkit looks; away again afterwards.

    One that a killed run left there is ours, too: a real plugin does not know of a standin.conf.
    """
    dump = subprocess.run(["nbdkit", "--dump-config"], capture_output=True, text=True, check=True).stdout
    folder = Path(next(line.split("=", 1)[1] for line in dump.splitlines() if line.startswith("plugindir=")))
    plugin = folder / "nbdkit-vddk-plugin.so"
    if os.geteuid() != 0 or (plugin.exists() and b"standin.conf" not in plugin.read_bytes()):
        pytest.skip("needs root, and an nbdkit without a VDDK plugin of its own")
    source = Path(__file__).parent / "lab" / "vddk-standin.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", plugin, source], check=True)
    yield
    plugin.unlink(missing_ok=True)


def add_guest(server: Simulator, image: Path, name: str) -> None:
    endpoint = vsphere.Endpoint(server.host, server.port, server.user, pin=server.certificate)
    with vsphere.session(endpoint, server.password) as instance:
        guest = lab.add_guest(instance, name, image)  # type: ignore[attr-defined]
        tools = [vim.option.OptionValue(key=f"SET.guest.{key}", value=value) for key, value in TOOLS.items()]
        WaitForTask(guest.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=tools)), si=instance)


def vddk_library(folder: Path, server: Simulator, sha1: str, name: str, image: Path) -> str:
    """A folder like VMware's: the stand-in checks what reaches it against standin.conf."""
    (folder / "lib64").mkdir(parents=True)
    (folder / "lib64" / "libvixDiskLib.so").touch()
    (folder / name).mkdir()
    (folder / name / f"{name}-flat.vmdk").symlink_to(image)
    (folder / "standin.conf").write_text(
        f"root={folder}\nserver={server.host}\nuser={server.user}\npassword={server.password}\nthumbprint={sha1}\n"
    )
    return str(folder)


class Lab:
    """Adds sources over the API and starts conversions of their guests."""

    def __init__(self, user: Any, folder: Path, image: Path, fixture: Callable[[str], Any]) -> None:
        self.folder, self.image, self.fixture = folder, image, fixture
        self.client = Client(headers={"Authorization": f"Bearer {tokens.create(user)[1]}"})

    def post(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(f"/api/v1{path}", data=json.dumps(data), content_type="application/json")
        assert answer.status_code in (201, 202), answer.content
        found: dict[str, Any] = json.loads(answer.content)
        return found

    def start(self, way: str) -> tuple[int, list[str]]:
        """The new conversion's number, and the secrets that nobody may see."""
        kind = way.split("-")[0]
        source, guest, secrets = self.xen() if kind == "xen" else self.vmware(kind, way)
        saved = SavedSource.objects.get(pk=self.post("/sources", {"name": f"Lab {way}", "kind": kind, **source})["id"])
        refresh.refresh(saved)
        runs = way in RUNS_AT_FIRST
        if runs:
            power.switch_on(saved, saved.guests.get(name=guest).guest_id, None)
            refresh.refresh(saved)
        asked = {
            "name": way,
            "source": {"kind": kind, "source_id": saved.pk, "guest": guest, "shut_down": runs},
            "options": {"boot_test": True},
            "output": {"kind": "files", "format": "raw"},
        }
        id = self.post("/conversions", asked)["id"]
        if way == "esxi-ssh-gone":  # between the review and the start
            shutil.rmtree(self.fixture("esxi_ssh").volume / guest)
        return id, secrets

    def xen(self) -> tuple[dict[str, Any], str, list[str]]:
        host: XenHost = self.fixture("xen_host")
        keys = [key.fingerprint for key in trust.fetch_host_keys(host.host, host.port)]
        source = {"host": host.host, "port": host.port, "user": "root", "key": host.key, "host_keys": keys}
        return source | {"libvirt_name": host.libvirt_name}, host.guest, [host.key.splitlines()[3]]

    def vmware(self, kind: str, way: str) -> tuple[dict[str, Any], str, list[str]]:
        if way.startswith("esxi-ssh"):
            return self.esxi_ssh(way)
        server: Simulator = self.fixture(kind)
        certificate = trust.fetch_certificate(server.host, server.port)
        transport = way.split("-")[1]
        source = {
            "host": server.host,
            "port": server.port,
            "user": server.user,
            "password": server.password,
            "transport": transport,
            "pin_sha256": certificate.sha256,
        }
        guest, secrets = f"of-{way}", [server.password]
        if transport == "vddk":
            self.fixture("vddk_plugin")
            thumbprint = ":".join(["AB"] * 20) if "other-thumbprint" in way else certificate.sha1
            source["vddk_libdir"] = vddk_library(self.folder / way, server, thumbprint, guest, self.image)
        add_guest(server, self.image, guest)
        return source, guest, secrets

    def esxi_ssh(self, way: str) -> tuple[dict[str, Any], str, list[str]]:
        """No HTTPS: nothing listens where the API would be."""
        host: EsxiSsh = self.fixture("esxi_ssh")
        keys = [key.fingerprint for key in trust.fetch_host_keys(host.host, host.port)]
        source = {"host": host.host, "port": free_port(), "user": "root", "transport": "ssh"}
        source |= {"ssh_port": host.port, "key": host.key, "host_keys": keys}
        guest = host.guest
        if way == "esxi-ssh-gone":
            guest = "soon gone"
            shutil.copytree(host.volume / host.guest, host.volume / guest, symlinks=True)
            vmx = host.volume / guest / f"{host.guest}.vmx"
            vmx.write_text(vmx.read_text().replace(f'displayName = "{host.guest}"', f'displayName = "{guest}"'))
        return source, guest, [host.key.splitlines()[3]]


def look_for(secrets: set[str], seen: list[str], over: threading.Event) -> None:
    """Reads every process's arguments and environment, again and again."""
    while not over.wait(0.05):
        for process in Path("/proc").glob("[0-9]*"):
            for file in ("cmdline", "environ"):
                try:
                    text = (process / file).read_bytes().decode(errors="replace")
                except OSError:
                    continue
                own = "/vsphere-" in text[:200]  # the simulator is told its password by an argument
                if not own and any(secret in text for secret in secrets):
                    seen.append(f"{file} of {text[:80]}")


def run(started: dict[str, tuple[int, list[str]]]) -> list[str]:
    """Conducts until all is over, two conversions at a time; where a secret was seen meanwhile."""
    seen: list[str] = []
    over, secrets = threading.Event(), {secret for _, own in started.values() for secret in own}
    spy = threading.Thread(target=look_for, args=(secrets, seen, over), daemon=True)
    spy.start()
    conductor, end = Conductor(probe=ProbeDone()), time.monotonic() + 300 * len(started)  # type: ignore[arg-type]
    try:
        while time.monotonic() < end:
            conductor.tick()
            time.sleep(0.25)
            rows = Conversion.objects.prefetch_related("boot_tests")
            if all(row.is_final and all(test.is_over for test in row.boot_tests.all()) for row in rows):
                break
    finally:
        over.set()
        spy.join()
    return seen


def outcome(way: str, id: int, secrets: list[str], client: Client) -> Moved:
    conversion = Conversion.objects.get(pk=id)
    jobdir = conversion.jobdir
    log = jobdir.log.read_text(errors="replace") if jobdir.log.exists() else ""
    texts = "".join(path.read_text(errors="replace") for path in (jobdir.events, jobdir.job) if path.exists())
    texts += str(list(Conversion.objects.values())) + str(list(conversion.events.values()))
    with connection.cursor() as cursor:  # as it lies there: the model would decrypt it
        texts += str(cursor.execute("SELECT * FROM conversions_savedsource").fetchall())
    for path in (f"/api/v1/conversions/{id}", "/api/v1/sources"):
        texts += client.get(path).content.decode(errors="replace")
    test = conversion.boot_tests.first()
    boot = (test.outcome or {"verdict": test.state}) if test else {}
    moved = Moved(conversion, conversion.output_dir / f"{way}-sda", secrets, log, texts, conversion.receipt, boot)
    print(f"{way}: converted in {conversion.duration}, boot {boot.get('verdict')} after {boot.get('seconds')} s")
    settings, saved = conversion.plan.source.settings, conversion.source
    assert saved is not None
    if way in MOVES:
        moved.power = power.look(saved, settings["guest_id"], settings["uuid"]).power
    return moved


@pytest.fixture(scope="module")
def moved(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: Any,
    guest_image: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Moved]]:
    from django.contrib.auth.models import Group, User

    here: list[Any] = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    ways = [way for way in [*MOVES, *REFUSED] if any(item.callspec.params["way"] == way for item in here)]
    patch = pytest.MonkeyPatch()
    patch.setattr(conductor_module, "max_running", lambda: 2)
    patch.setenv("LIBGUESTFS_CACHEDIR", str(CACHE / "appliance"))
    (CACHE / "appliance").mkdir(exist_ok=True)
    with django_db_blocker.unblock():
        user = User.objects.create_user("real-alice")
        user.groups.add(Group.objects.get_or_create(name="operator")[0])
        try:
            lab_ = Lab(user, tmp_path_factory.mktemp("vddk"), guest_image, request.getfixturevalue)
            started = {way: lab_.start(way) for way in ways}
            seen = run(started)
            found = {way: outcome(way, *about, lab_.client) for way, about in started.items()}
            for each in found.values():
                each.seen = seen
            yield found
        finally:
            patch.undo()
            Conversion.objects.all().delete()
            SavedSource.objects.all().delete()
            user.delete()


@pytest.mark.parametrize("way", MOVES)
def test_a_guest_moves_to_a_disk_that_boots_to_its_login(way: str, moved: dict[str, Moved], guest_image: Path) -> None:
    it = moved[way]
    assert it.conversion.state == State.SUCCEEDED, f"{it.conversion.error}\n{it.log[-3000:]}"
    assert it.disk.stat().st_size == guest_image.stat().st_size
    assert it.disk.with_name(f"{way}.yaml").exists()
    assert it.boot.get("verdict") == "login", it.boot


@pytest.mark.parametrize("way", MOVES)
def test_it_is_the_guest_that_was_there(way: str, moved: dict[str, Moved], guest_image: Path) -> None:
    """All ways lead to nearly the same disk: what virt-v2v changes in this guest is a small part of it."""
    first = next(iter(moved.values())).disk
    there, here, other = blocks(guest_image), blocks(moved[way].disk), blocks(first)
    assert len(here) == len(there)
    assert different(here, there) < 0.25 and different(here, other) < 0.25


@functools.cache
def blocks(disk: Path) -> list[bytes]:
    """A checksum of each MiB."""
    with disk.open("rb") as file:
        return [hashlib.blake2b(piece, digest_size=16).digest() for piece in iter(lambda: file.read(MIB), b"")]


def different(one: list[bytes], other: list[bytes]) -> float:
    """The share of those with anything in them that are not the same."""
    nothing = hashlib.blake2b(bytes(MIB), digest_size=16).digest()
    pairs = [pair for pair in zip(one, other, strict=True) if pair != (nothing, nothing)]
    return sum(a != b for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("way", RUNS_AT_FIRST)
def test_one_that_ran_was_shut_down_first_and_stays_off(way: str, moved: dict[str, Moved]) -> None:
    it = moved[way]
    assert it.receipt["source"] == ["The guest was asked to shut down.", "It has shut down."]
    assert it.power == "off"


@pytest.mark.parametrize("way", [*MOVES, *REFUSED])
def test_nobody_saw_a_secret(way: str, moved: dict[str, Moved]) -> None:
    it = moved[way]
    assert it.seen == []
    for secret in it.secrets:
        assert secret not in it.log
        assert secret not in it.texts
    assert not it.conversion.jobdir.secrets.exists()


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_read_fails_with_words_that_help(way: str, moved: dict[str, Moved]) -> None:
    it = moved[way]
    assert it.conversion.state == State.FAILED
    assert it.conversion.error and it.conversion.error["code"] == REFUSED[way], (
        f"{it.conversion.error}\n{it.log[-2000:]}"
    )
