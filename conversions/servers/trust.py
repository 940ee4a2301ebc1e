"""Whom a source's address really belongs to: certificates and SSH host keys are fetched, shown to a person and pinned.

A pin is checked anew at each use, also in the instant before virt-v2v gets `no_verify=1`, because neither libvirt 9 nor
virt-v2v 2.2 can check a pin themselves.
"""

import base64
import binascii
import hashlib
import ssl
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..problems import Problem, RefusedError
from . import programs
from .reach import TIMEOUT, colons, fetch_der, open_port


@dataclass(frozen=True)
class Certificate:
    """A server's certificate as a person is shown it."""

    pem: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha256: str  #: AA:BB:...
    sha1: str  #: AA:BB:...: what VDDK calls the thumbprint

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"not_before": self.not_before.isoformat(), "not_after": self.not_after.isoformat()}


@dataclass(frozen=True)
class HostKey:
    """An SSH server's key: "ssh-ed25519", the key in base64, and its fingerprint as ssh shows it."""

    type: str
    key: str
    fingerprint: str  #: SHA256:...


def read_certificate(der: bytes) -> Certificate:
    certificate = x509.load_der_x509_certificate(der)
    return Certificate(
        pem=certificate.public_bytes(Encoding.PEM).decode(),
        subject=certificate.subject.rfc4514_string() or "(empty)",
        issuer=certificate.issuer.rfc4514_string() or "(empty)",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=colons(hashlib.sha256(der).digest()),
        sha1=colons(hashlib.sha1(der, usedforsecurity=False).digest()),
    )


def fetch_certificate(host: str, port: int, timeout: float = TIMEOUT) -> Certificate:
    """The certificate that the server shows right now, whoever signed it.  Raises RefusedError with what failed."""
    return read_certificate(fetch_der(host, port, timeout))


def tls_context(*, pin: str = "", ca: str = "") -> ssl.SSLContext:
    """A context that accepts exactly the pinned certificate (PEM), or what a CA (PEM) or the system's CAs signed.

    With a pin the name is not compared: the person has said that this certificate is the server's.  (pyvmomi's own
    "thumbprint" accepts any certificate when verification is off: tried with 9.1.)
    """
    if pin:
        context = ssl.create_default_context(cadata=pin)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context
    return ssl.create_default_context(cadata=ca or None)


def fetch_host_keys(host: str, port: int, timeout: float = TIMEOUT) -> list[HostKey]:
    """An SSH server's keys, asked by ssh-keyscan."""
    open_port(host, port, timeout).close()
    argv = ["ssh-keyscan", "-T", str(int(timeout)), "-p", str(port), "--", host]
    scan = programs.run(argv, timeout=timeout * 4, slow=_no_ssh(host, port))
    keys = []
    for line in scan.stdout.splitlines():
        parts = line.split()
        if len(parts) != 3 or line.startswith("#"):
            continue
        try:
            digest = hashlib.sha256(base64.b64decode(parts[2], validate=True)).digest()
        except binascii.Error:
            continue
        keys.append(HostKey(parts[1], parts[2], "SHA256:" + base64.b64encode(digest).decode().rstrip("=")))
    if not keys:
        raise _no_ssh(host, port)
    return sorted(keys, key=lambda key: key.type)


def _no_ssh(host: str, port: int) -> RefusedError:
    return RefusedError(
        Problem(
            "ssh-no-answer",
            "No SSH there",
            f"{host} answers on port {port}, but not as an SSH server.",
            "Check the port, and whether SSH is switched on at that host.",
        ),
        field="port",
    )
