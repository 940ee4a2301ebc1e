"""Golden files of virt-v2v's command line: one for each way in.  GOLDEN=rewrite makes them anew."""

from pathlib import Path

import pytest

from conversions.command import build_command
from conversions.plan import Disk, Guest, Options, Output, Plan, Source, StaticAddress

GOLDEN = Path(__file__).parent / "data" / "commands"
MAC = "00:50:56:00:00:01"
UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"

DISK = Source(kind="disk", settings={"paths": ["/srv/images/web01.img"], "format": "raw"})
PLANS = {
    "disk": Plan(name="web01", source=DISK),
    "disk-two-qcow2-files": Plan(
        name="db-1",
        source=Source(
            kind="disk",
            settings={"paths": ["/srv/images/db 1.qcow2", "/srv/images/it's data.qcow2"], "format": "qcow2"},
        ),
        output=Output(settings={"format": "qcow2", "allocation": "preallocated"}),
    ),
    "disk-name-like-an-option": Plan(
        name="x", source=Source(kind="disk", settings={"paths": ["/srv/--root=ask", "/srv/$(id);x"], "format": "vmdk"})
    ),
    "disk-luks": Plan(
        name="web01",
        source=DISK,
        options=Options(root="/dev/sda2", luks_keys=2, luks_ids=((UUID, "/dev/sda3"), (UUID,))),
    ),
    "disk-clevis": Plan(
        name="web01", source=DISK, options=Options(luks_keys=1, luks_ids=((UUID,),), clevis=(UUID, "/dev/vg/root"))
    ),
    "disk-clevis-all": Plan(name="web01", source=DISK, options=Options(clevis=("all",))),
    "disk-addresses": Plan(
        name="win01",
        source=DISK,
        guest=Guest(os_family="windows"),
        options=Options(
            addresses=(
                StaticAddress(mac=MAC, address="10.0.0.5", prefix=24, gateway="10.0.0.1", dns=("10.0.0.2", "10.0.0.3")),
                StaticAddress(mac=MAC, address="2001:db8::5", prefix=64, gateway="fe80::1", dns=("2001:db8::2",)),
                StaticAddress(mac="00:50:56:00:00:02", address="192.168.7.5", prefix=29),
            )
        ),
    ),
    "ova": Plan(
        name="web01",
        source=Source(kind="ova", settings={"path": "/srv/images/Büro (alt).ova"}),
        guest=Guest(disks=(Disk(name="disk1.vmdk"),)),
        options=Options(root="single"),
        output=Output(settings={"format": "raw", "allocation": "sparse"}),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_command_is_the_one_of_the_golden_file(name, golden):
    command = build_command(
        PLANS[name], output_dir=Path("/data/output/7-x"), secrets_dir=Path("/data/jobs/7/1/secrets")
    )
    golden(GOLDEN / f"{name}.txt", command.display() + "\n\n" + "\n".join(command.argv) + "\n")
    assert command.env == {}


def test_it_is_the_call_of_virt_v2vs_manual_with_the_guest_last():
    argv = build_command(PLANS["disk"], output_dir=Path("/o"), secrets_dir=Path("/s")).argv
    assert argv[:3] == ("virt-v2v", "-i", "disk")
    assert argv[-2:] == ("--", "/srv/images/web01.img")
    assert argv[argv.index("-o") : argv.index("-o") + 6] == ("-o", "kubevirt", "-os", "/o", "-on", "web01")


@pytest.mark.parametrize("name", PLANS)
def test_virt_v2v_never_asks_which_root_and_never_probes_a_disks_format(name):
    argv = build_command(PLANS[name], output_dir=Path("/o"), secrets_dir=Path("/s")).argv
    assert argv[argv.index("--root") + 1] != "ask"
    assert "-of" in argv and "-oa" in argv
    assert PLANS[name].source.kind == "ova" or "-if" in argv


def test_another_virt_v2v_program_is_taken_as_told():
    assert (
        build_command(PLANS["ova"], output_dir=Path("/o"), secrets_dir=Path("/s"), virt_v2v="/opt/v2v").argv[0]
        == "/opt/v2v"
    )
