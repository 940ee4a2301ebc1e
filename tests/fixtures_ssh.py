"""Hosts reached over SSH, as processes on loopback: a "Xen host" of a real sshd and libvirtd, whose guest comes from libvirt's
test driver and runs; and an "ESXi host" without HTTPS: a real sshd that offers a datastore with two guests, and a stand-in for
vim-cmd."""

import dataclasses
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conversions.models import SavedSource
from conversions.servers import trust

LAB = Path(__file__).parent / "lab"


@dataclasses.dataclass(frozen=True)
class XenHost:
    host: str
    port: int
    key: str  #: the private key that opens it
    known_hosts: str  #: the line with its host key
    libvirt_name: str  #: the test driver's address, in the place of xen:///system
    guest: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def xen_host(guest_image: Path) -> Iterator[XenHost]:
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="xenlab-"))
    start = [LAB / "xen.sh", "start", folder, guest_image, "xenguest", str(port)]
    try:  # what has started when something has not is stopped too
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
        yield XenHost(
            "127.0.0.1",
            port,
            (folder / "key").read_text(),
            (folder / "known_hosts").read_text(),
            "test:///default",
            "xenguest",
        )
    finally:
        subprocess.run([LAB / "xen.sh", "stop", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class EsxiSsh:
    """An ESXi host that answers over SSH alone."""

    folder: Path  #: volumes: what the host sees as /vmfs/volumes; guests, power, tools: what vim-cmd's stand-in knows
    port: int
    key: str
    host: str = "127.0.0.2"
    datastore: str = "LocalDS_0"
    guest: str = "web 04"  #: with a space, which virt-v2v 2.2 does not quote for the shell at the other end
    number: str = "4"  #: by which vim-cmd knows it
    strange: str = "Übung #2 (50%)"  #: registered nowhere, with a snapshot
    strange_name: str = "Übung #2 (50%25)"  #: as vSphere writes it

    @property
    def volume(self) -> Path:
        return (self.folder / "vmfs" / "volumes" / self.datastore).resolve()


@pytest.fixture(scope="session")
def esxi_ssh(guest_image: Path) -> Iterator[EsxiSsh]:
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="esxilab-"))
    made = EsxiSsh(folder, port, "")
    script = LAB / "esxi-ssh.sh"
    try:
        subprocess.run([script, "start", folder, guest_image, made.datastore, made.guest, str(port)], check=True)
        yield dataclasses.replace(made, key=(folder / "key").read_text())
    finally:
        subprocess.run([script, "stop", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def saved_xen(alice: Any, xen_host: XenHost) -> SavedSource:
    keys = trust.fetch_host_keys(xen_host.host, xen_host.port)
    return SavedSource.objects.create(
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


@pytest.fixture
def saved_esxi(alice: Any, esxi_ssh: EsxiSsh) -> SavedSource:
    """Trusted by its host keys; nothing answers where its HTTPS would be."""
    keys = trust.fetch_host_keys(esxi_ssh.host, esxi_ssh.port)
    return SavedSource.objects.create(
        kind="esxi",
        name="Lab ESXi",
        owner=alice,
        host=esxi_ssh.host,
        port=free_port(),
        ssh_port=esxi_ssh.port,
        user="root",
        transport="ssh",
        secrets={"key": esxi_ssh.key},
        host_keys=[{"type": key.type, "key": key.key, "fingerprint": key.fingerprint} for key in keys],
    )


@pytest.fixture
def add_vmx(esxi_ssh: EsxiSsh) -> Iterator[Callable[..., Path]]:
    """Makes a .vmx in a folder of its own, which goes again."""
    made: list[Path] = []

    def make(folder: str, content: str | bytes, **files: str | bytes) -> Path:
        place = esxi_ssh.volume / folder
        place.mkdir()
        made.append(place)
        for name, text in {f"{folder}.vmx": content, **files}.items():
            (place / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return place

    yield make
    for place in made:
        shutil.rmtree(place)


@pytest.fixture
def web_runs(esxi_ssh: EsxiSsh) -> Iterator[Path]:
    """The first guest's power, which is on."""
    state = esxi_ssh.folder / "power" / EsxiSsh.number
    state.write_text("on\n")
    yield state
    state.write_text("off\n")
    (esxi_ssh.folder / "tools" / EsxiSsh.number).touch()


@pytest.fixture
def without_vim_cmd(esxi_ssh: EsxiSsh) -> Iterator[None]:
    program = esxi_ssh.folder / "bin" / "vim-cmd"
    program.rename(program.with_name("away"))
    yield
    program.with_name("away").rename(program)
