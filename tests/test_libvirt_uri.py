"""The addresses given to libvirt and virt-v2v, against golden files: one form a line."""

from pathlib import Path

import pytest

from conversions.servers import libvirt_uri

GOLDEN = Path(__file__).parent / "data" / "uris"

VPX = {
    "stand-alone-host-once": ("user", "vc.lab", 443, ["DC0", "DC0_H0", "DC0_H0"], False),
    "cluster": ("user", "vc.lab", 443, ["DC0", "DC0_C0", "DC0_C0_H0"], False),
    "folders-and-spaces": ("u", "vc.lab", None, ["My Folder", "Prod DC", "Rack 1", "Cluster A", "esx-a.lab"], False),
    "user-with-domain": ("administrator@vsphere.local", "vc.lab", 443, ["DC", "h"], False),
    "user-with-backslash": ("LAB\\anna", "vc.lab", 443, ["DC", "h"], False),
    "slash-in-a-name": ("u", "vc.lab", 443, ["My DC%2fEast", "h"], False),
    "hash-percent-and-plus": ("u", "vc.lab", 443, ["DC #1", "100%25", "a+b"], False),
    "non-latin": ("u", "vc.lab", 443, ["Köln", "東京", "h"], False),
    "another-port": ("u", "vc.lab", 8443, ["DC", "h"], False),
    "ipv6": ("u", "fd00::1", 443, ["DC", "h"], False),
    "verified": ("u", "vc.lab", 443, ["DC", "h"], True),
}


@pytest.mark.parametrize("case", VPX)
def test_the_vcenter_address_has_each_name_encoded_once(case: str, golden) -> None:
    user, host, port, path, verify = VPX[case]
    golden(GOLDEN / f"vpx-{case}.txt", libvirt_uri.vpx(user, host, port, path, verify=verify) + "\n")


def test_an_esxi_host_is_addressed_without_a_path() -> None:
    assert libvirt_uri.esx("root", "esx1.lab", 443, verify=False) == "esx://root@esx1.lab/?no_verify=1"
    assert libvirt_uri.esx("root", "esx1.lab", 8443, verify=True) == "esx://root@esx1.lab:8443/"


def test_a_xen_host_is_addressed_over_ssh() -> None:
    assert libvirt_uri.xen_ssh("root", "xen1.lab", 22) == "xen+ssh://root@xen1.lab/"
    assert libvirt_uri.xen_ssh("root", "10.0.0.7", 2222) == "xen+ssh://root@10.0.0.7:2222/"


def test_a_vmx_over_ssh_keeps_the_slashes_of_its_path() -> None:
    uri = libvirt_uri.vmx_ssh("root", "esx1.lab", None, "/vmfs/volumes/data store/web 01/web 01.vmx")
    assert uri == "ssh://root@esx1.lab/vmfs/volumes/data%20store/web%2001/web%2001.vmx"


@pytest.mark.parametrize(
    ("stored", "known"), [("dörte%2f50%25", "dörte/50%"), ("a%5cb", "a\\b"), ("plain", "plain"), ("%252f", "%2f")]
)
def test_a_guest_has_the_name_that_libvirt_knows(stored: str, known: str) -> None:
    assert libvirt_uri.domain_name(stored) == known
