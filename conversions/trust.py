"""Whom a source's address really belongs to: certificates and SSH host keys are fetched, shown to a person and pinned.

A pin is checked anew at each use, also in the instant before virt-v2v gets `no_verify=1`, because neither libvirt 9 nor
virt-v2v 2.2 can check a pin themselves.
"""

import base64
import binascii
import hashlib
import socket
import ssl
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .problems import Problem, RefusedError

#: Seconds that each wait for a network answer may take.
TIMEOUT = 5.0


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


def colons(digest: bytes) -> str:
    return ":".join(f"{byte:02X}" for byte in digest)


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


def open_port(host: str, port: int, timeout: float = TIMEOUT) -> socket.socket:
    """A connected socket.  Raises RefusedError with what failed: the name, the port or the time."""
    try:
        return socket.create_connection((host, port), timeout=timeout)
    except socket.gaierror:
        raise RefusedError(
            Problem(
                "name-unknown",
                "The name is not known",
                f"No address was found for {host}.",
                "Check the spelling, or ask the network's administrator for a DNS entry.",
            ),
            field="host",
        ) from None
    except TimeoutError:
        raise RefusedError(
            Problem(
                "no-answer",
                "No answer",
                f"{host} did not answer on port {port} within {timeout:.0f} seconds.",
                "Check whether the machine is on and whether a firewall between here and there is closed.",
                "administrator",
            ),
            field="host",
        ) from None
    except OSError as error:
        raise RefusedError(
            Problem(
                "port-closed",
                "Nothing answers there",
                f"Port {port} of {host} cannot be reached: {error.strerror or error}.",
                "Check the port, and whether the service runs there.",
                "administrator",
            ),
            field="port",
        ) from None


def fetch_certificate(host: str, port: int, timeout: float = TIMEOUT) -> Certificate:
    """The certificate that the server shows right now, whoever signed it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with open_port(host, port, timeout) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as tls:
                der = tls.getpeercert(binary_form=True)
        except TimeoutError:
            raise RefusedError(
                Problem(
                    "tls-no-answer",
                    "No answer",
                    f"{host} accepted the connection on port {port} but said nothing for {timeout:.0f} seconds.",
                    "Restart the service there, or check that this is the right port.",
                    "administrator",
                ),
                field="port",
            ) from None
        except OSError as error:
            raise RefusedError(
                Problem(
                    "tls-failed",
                    "No encrypted connection",
                    f"{host} answers on port {port}, but not with TLS: {error}.",
                    "Check that this is the port of vCenter's or ESXi's web service (usually 443).",
                ),
                field="port",
            ) from None
    if der is None:
        raise RefusedError(Problem("tls-failed", "No certificate", f"{host} showed no certificate on port {port}."))
    return read_certificate(der)


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


def check_pin(host: str, port: int, sha256: str, timeout: float = TIMEOUT) -> Certificate:
    """Fetches the certificate anew; RefusedError "certificate-changed" unless it is the pinned one."""
    found = fetch_certificate(host, port, timeout)
    if found.sha256 != sha256:
        raise RefusedError(
            Problem(
                "certificate-changed",
                "The server shows another certificate",
                f"{host} was trusted with the certificate {sha256[:23]}…, but now shows {found.sha256[:23]}…. "
                "Either it was renewed, or somebody stands between. Nothing was sent to it.",
                "Ask the server's administrator whether it was renewed; if so, trust the new one on the source's page.",
                "administrator",
            ),
            status=409,
        )
    return found


def fetch_host_keys(host: str, port: int, timeout: float = TIMEOUT) -> list[HostKey]:
    """An SSH server's keys, asked by ssh-keyscan."""
    open_port(host, port, timeout).close()
    scan = subprocess.run(
        ["ssh-keyscan", "-T", str(int(timeout)), "-p", str(port), "--", host],
        capture_output=True,
        text=True,
        timeout=timeout * 4,
        check=False,
    )
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
        raise RefusedError(
            Problem(
                "ssh-no-answer",
                "No SSH there",
                f"{host} answers on port {port}, but not as an SSH server.",
                "Check the port, and whether SSH is switched on at that host.",
            ),
            field="port",
        )
    return sorted(keys, key=lambda key: key.type)
