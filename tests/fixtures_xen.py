"""A "Xen host" as processes: a real sshd and libvirtd on loopback, whose guests come from libvirt's test driver."""

import dataclasses
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LAB = Path(__file__).parent / "lab"


@dataclasses.dataclass(frozen=True)
class XenHost:
    host: str
    port: int
    key: str  #: the private key that opens it
    known_hosts: str  #: the line with its host key
    libvirt_name: str  #: the test driver's address, in the place of xen:///system
    guest: str


@pytest.fixture(scope="session")
def xen_host(guest_image: Path) -> Iterator[XenHost]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="xenlab-"))
    image = folder / "xenguest.img"
    subprocess.run(["cp", "--sparse=always", guest_image, image], check=True)
    subprocess.run([LAB / "xen.sh", "start", folder, image, "xenguest", str(port)], check=True)
    try:
        yield XenHost(
            "127.0.0.1",
            port,
            (folder / "key").read_text(),
            (folder / "known_hosts").read_text(),
            f"test://{folder}/node.xml",
            "xenguest",
        )
    finally:
        subprocess.run([LAB / "xen.sh", "stop", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)
