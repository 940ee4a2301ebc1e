"""A person's or a program's word that this is the right server: taken only for what the server shows at that moment."""

from django.utils import timezone

from ..models import SavedSource
from ..problems import Problem, RefusedError
from .trust import Certificate, HostKey, fetch_certificate, fetch_host_keys


def shows_another(status: int = 409, field: str | None = None) -> RefusedError:
    return RefusedError(
        Problem(
            "shown-another",
            "The server shows something else now",
            "What the server shows is not what was confirmed. Nothing was trusted.",
            "Look at what is shown now, and ask the server's administrator why it changes.",
        ),
        field=field,
        status=status,
    )


def accept_certificate(saved: SavedSource, certificate: Certificate) -> None:
    saved.pin_sha256, saved.pin_sha1 = certificate.sha256, certificate.sha1
    # With a CA of one's own the certificate is checked against that; the fingerprint is VDDK's.
    saved.pin = "" if saved.ca else certificate.pem
    _accepted(saved)


def accept_host_keys(saved: SavedSource, keys: list[HostKey]) -> None:
    saved.host_keys = [{"type": key.type, "key": key.key, "fingerprint": key.fingerprint} for key in keys]
    _accepted(saved)


def _accepted(saved: SavedSource) -> None:
    saved.blocked, saved.refresh_error, saved.refresh_requested = None, None, timezone.now()
    saved.save()


def wants_certificate(saved: SavedSource) -> bool:
    """Over SSH nothing else is used: an ESXi host whose HTTPS is closed has no certificate to show."""
    return saved.transport != "ssh"


def wants_host_keys(saved: SavedSource) -> bool:
    return saved.transport == "ssh"


def is_trusted(saved: SavedSource) -> bool:
    return bool(saved.host_keys) if wants_host_keys(saved) else bool(saved.pin or saved.ca)


def confirmed_certificate(host: str, port: int, sha256: str) -> Certificate:
    """The certificate, when it has this fingerprint (with or without colons, in any case) right now."""
    found = fetch_certificate(host, port)
    if _plain(found.sha256) != _plain(sha256):
        raise shows_another(field="pin_sha256")
    return found


def confirmed_host_keys(host: str, port: int, fingerprints: list[str]) -> list[HostKey]:
    """The keys with these fingerprints; each must be shown right now."""
    found = {key.fingerprint: key for key in fetch_host_keys(host, port)}
    if not fingerprints or any(fingerprint not in found for fingerprint in fingerprints):
        raise shows_another(field="host_keys")
    return [found[fingerprint] for fingerprint in dict.fromkeys(fingerprints)]


def _plain(fingerprint: str) -> str:
    return fingerprint.replace(":", "").strip().lower()
