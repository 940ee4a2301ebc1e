"""The addresses that libvirt and virt-v2v want for a source.  Pure: golden files in tests/data/uris hold the forms.

libvirt decodes percent signs first and splits at "/" afterwards, so that a "/" in a name (which vSphere itself keeps as
"%2f") must arrive encoded twice; encoding each name once as the inventory holds it does exactly that.  A raw "@" or "\\" in
the user, or a space anywhere, is refused by libvirt's parser.  (Tried with libvirt 9.0.)
"""

from collections.abc import Sequence
from urllib.parse import quote


def _part(text: str) -> str:
    return quote(text, safe="")


def _host(host: str, port: int | None, default: int) -> str:
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return host if port in (None, default) else f"{host}:{port}"


def vpx(user: str, host: str, port: int | None, path: Sequence[str], *, verify: bool) -> str:
    """vCenter's address for the ESXi host that runs the guest.

    `path` holds the inventory's names from below the root folder down to the host, as vCenter has them (with its own
    %2f): folders above the datacenter, the datacenter, host folders, the cluster, the host.  A stand-alone host stands
    there once: its compute resource has its name, and libvirt refuses it twice ("ends with an excess item").
    """
    names = list(path)
    if len(names) >= 2 and names[-1] == names[-2]:
        names.pop()
    query = "" if verify else "?no_verify=1"
    return f"vpx://{_part(user)}@{_host(host, port, 443)}/{'/'.join(map(_part, names))}{query}"


def esx(user: str, host: str, port: int | None, *, verify: bool) -> str:
    """One ESXi host's own address."""
    return f"esx://{_part(user)}@{_host(host, port, 443)}/" + ("" if verify else "?no_verify=1")


def xen_ssh(user: str, host: str, port: int | None, name: str = "") -> str:
    """A Xen host over SSH; keys come from the agent, host keys from known_hosts (see sources/xen.py).

    `name` is the driver's own address at the other end, where it is not the default one.
    """
    return f"xen+ssh://{_part(user)}@{_host(host, port, 22)}/" + (f"?name={quote(name, safe=':/')}" if name else "")


def vmx_ssh(user: str, host: str, port: int | None, vmx: str) -> str:
    """A guest's .vmx file on an ESXi host over SSH: vmx is the absolute path, /vmfs/volumes/DATASTORE/VM/VM.vmx."""
    return f"ssh://{_part(user)}@{_host(host, port, 22)}{quote(vmx)}"


def domain_name(name: str) -> str:
    """A guest's name as libvirt and virt-v2v know it: vSphere keeps "/", "\\" and "%" as %2f, %5c and %25."""
    for code, char in (("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%")):
        name = name.replace(code, char)
    return name
