"""Reaching a server on the network: every wait has a limit, every failure a sentence.  Standard library only: the agent
checks pins with it in the instant before virt-v2v starts.
"""

import hashlib
import socket
import ssl

from ..problems import Problem, RefusedError

#: Seconds that each wait for a network answer may take.
TIMEOUT = 5.0


def colons(digest: bytes) -> str:
    """AA:BB:...: a fingerprint as vSphere and browsers show it."""
    return ":".join(f"{byte:02X}" for byte in digest)


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


def fetch_der(host: str, port: int, timeout: float = TIMEOUT) -> bytes:
    """The certificate (DER) that the server shows right now, whoever signed it."""
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
    return der


def check_pin(host: str, port: int, sha256: str, timeout: float = TIMEOUT) -> None:
    """Fetches the certificate anew; RefusedError "certificate-changed" unless it is the pinned one."""
    found = colons(hashlib.sha256(fetch_der(host, port, timeout)).digest())
    if found != sha256:
        raise RefusedError(
            Problem(
                "certificate-changed",
                "The server shows another certificate",
                f"{host} was trusted with the certificate {sha256[:23]}…, but now shows {found[:23]}…. "
                "Either it was renewed, or somebody stands between. Nothing was sent to it.",
                "Ask the server's administrator whether it was renewed; if so, trust the new one on the source's page.",
                "administrator",
            ),
            status=409,
        )
