"""What an attempt gets for SSH: the source's key and the host keys that a person has compared, as files."""

from ..models import SavedSource


def ssh_port(saved: SavedSource) -> int:
    """A Xen host's only port; for an ESXi host, instead of the port of its API."""
    return saved.port if saved.kind == "xen" else saved.ssh_port or 22


def ssh_files(saved: SavedSource) -> dict[str, str]:
    return {"key": (saved.secrets or {}).get("key", ""), "known_hosts": known_hosts(saved)}


def known_hosts(saved: SavedSource) -> str:
    """The pinned host keys in the form of ssh's known_hosts file."""
    port = ssh_port(saved)
    name = saved.host if port == 22 else f"[{saved.host}]:{port}"
    return "".join(f"{name} {key['type']} {key['key']}\n" for key in saved.host_keys)
