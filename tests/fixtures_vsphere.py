"""A vSphere simulator as a process: the API that pyvmomi, libvirt and virt-v2v read, on 127.0.0.2.

127.0.0.1 will not do: pyvmomi switches certificate checks off there.
"""

import contextlib
import dataclasses
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LAB = Path(__file__).parent / "lab"
HOST = "127.0.0.2"


@dataclasses.dataclass(frozen=True)
class Simulator:
    host: str
    port: int
    certificate: str  #: PEM
    user: str = "administrator@vsphere.local"
    password: str = "s3cret-of-vsphere"


@contextlib.contextmanager
def simulator(cache: Path, *flags: str, folder: Path, user: str = Simulator.user) -> Iterator[Simulator]:
    """Runs the simulator; its datastores lie in a short temporary folder that goes with it."""
    with (cache / "vsphere.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = subprocess.run(
            [LAB / "vsphere.sh", str(cache)], check=True, capture_output=True, text=True
        ).stdout.strip()
    certificate, key = folder / "vsphere.pem", folder / "vsphere.key"
    if not certificate.exists():
        new_certificate(certificate, key)
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    made = Simulator(HOST, port, certificate.read_text(), user)
    with tempfile.TemporaryDirectory(prefix="vsphere-") as tmp:
        process = subprocess.Popen(
            [
                *(program, "-l", f"{HOST}:{port}", "-cert", certificate, "-key", key),
                *("-username", made.user, "-password", made.password, *flags),
            ],
            env=os.environ | {"TMPDIR": tmp},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("READY"), "the simulator did not start"
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def new_certificate(certificate: Path, key: Path, name: str = "vcenter.lab") -> None:
    """A self-signed certificate, as most vCenters have."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=IP:{HOST}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )


def save_vcenter(owner: Any, **fields: Any) -> Any:
    """A saved vCenter that is trusted and that nobody talks to."""
    from conversions.models import SavedSource

    told = {"kind": "vcenter", "name": "Lab", "host": "vcenter.lab", "port": 443, "user": "anna", "pin": "PEM"}
    return SavedSource.objects.create(owner=owner, **told | fields)


# Each file of tests has servers of its own: some add guests, and shut them down.
@pytest.fixture(scope="module")
def vcenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A vCenter with one cluster of two hosts, a stand-alone host and a few guests that run."""
    from tests.running import CACHE

    CACHE.mkdir(parents=True, exist_ok=True)
    flags = ["-vm", "2", "-cluster", "1", "-host", "2", "-pg", "1"]
    with simulator(CACHE, *flags, folder=tmp_path_factory.mktemp("vcenter")) as running:
        yield running


@pytest.fixture(scope="module")
def esxi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """One ESXi host."""
    from tests.running import CACHE

    CACHE.mkdir(parents=True, exist_ok=True)
    with simulator(CACHE, "-esx", "-vm", "2", folder=tmp_path_factory.mktemp("esxi"), user="root") as running:
        yield running
