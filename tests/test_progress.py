"""Lines of virt-v2v -> phases, warnings, errors and facts; the recorded run is a real one."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from conversions.progress import Reader, os_name

from .fixtures_engine import TRANSCRIPT

Told = list[tuple[str, dict[str, object]]]


def replay(*, machine: bool) -> tuple[Reader, Told]:
    reader, told, log = Reader(machine=machine), [], ""
    for recorded in map(json.loads, TRANSCRIPT.read_text().splitlines()):
        for line in recorded["data"].replace("\r", "\n").splitlines():
            if recorded["stream"] == "out":
                told += reader.line(line, len(log.encode()))
                log += line + "\n"
            elif machine:
                said = json.loads(line, strict=False)
                told += reader.message(said["type"], said["message"])
    return reader, [*told, *reader.finish()]


def test_a_recorded_run_reads_the_same_from_its_output_and_from_its_json() -> None:
    def sorted_by_kind(told: Told) -> list[str]:
        return sorted(json.dumps(item, sort_keys=True) for item in told)

    (_, with_json), (_, without) = replay(machine=True), replay(machine=False)
    assert sorted_by_kind(with_json) == sorted_by_kind(without)
    phases = [fields["phase"] for kind, fields in with_json if kind == "phase"]
    assert phases == ["opening", "inspecting", "converting", "copying", "finishing"]
    assert [fields["code"] for kind, fields in with_json if kind == "warning"] == ["grub-not-updated"]
    facts = {fields["key"]: fields["value"] for kind, fields in with_json if kind == "fact"}
    assert facts["os"] == "Debian GNU/Linux 12.15"
    assert facts["firmware"] == "bios"


def test_a_guest_that_needs_uefi_is_told_once() -> None:
    reader = Reader(machine=False)
    told = [
        *reader.line("[  66.1] Checking if the guest needs BIOS or UEFI to boot", 0),
        *reader.line("virt-v2v: This guest requires UEFI on the target to boot.", 60),
        *reader.line("[  67.1] Copying disk 1/2", 120),
        *reader.line("[  77.1] Copying disk 2/2", 150),
    ]
    assert [fields for kind, fields in told if kind == "fact"] == [{"key": "firmware", "value": "uefi"}]
    assert (reader.disk, reader.disks) == (2, 2)


def test_a_warning_over_several_lines_is_one_warning() -> None:
    reader = Reader(machine=False)
    told = [
        *reader.line("virt-v2v: warning: fstrim on guest filesystem /dev/sda1 was odd.", 5),
        *reader.line("Usually you can ignore this.", 70),
        *reader.line("[  10.0] Closing the overlay", 100),
    ]
    ((_, warning),) = [item for item in told if item[0] == "warning"]
    assert warning["line"] == 5


def test_json_that_comes_before_its_line_waits_for_the_line() -> None:
    reader = Reader(machine=True)
    assert list(reader.message("warning", "odd\nand more")) == []
    ((_, warning),) = reader.line("virt-v2v: warning: odd", 77)
    assert (warning["text"], warning["line"]) == ("odd\nand more", 77)
    assert list(reader.finish()) == []


def test_json_whose_line_never_comes_is_told_all_the_same() -> None:
    reader = Reader(machine=True)
    assert list(reader.message("warning", "odd")) == []
    ((_, warning),) = reader.flush()
    assert warning["line"] is None


def test_an_error_that_is_only_printed_counts_in_the_end() -> None:
    reader = Reader(machine=True)
    list(reader.line("virt-v2v: error: no", 12))
    list(reader.finish())
    assert (reader.errors, reader.error_line) == (["no"], 12)


def test_without_an_error_of_virt_v2vs_the_last_suspicious_line_is_pointed_at() -> None:
    reader = Reader(machine=True)
    list(reader.line("[   1.0] Opening the source", 0))
    list(reader.line("virt-v2v: could not find key to open LUKS encrypted /dev/sda1.", 28))
    list(reader.line("", 90))
    list(reader.finish())
    assert (reader.errors, reader.error_line) == ([], 28)


def test_a_guest_cannot_fill_the_database_with_warnings() -> None:
    reader = Reader(machine=False)
    told = [item for number in range(2000) for item in reader.line(f"virt-v2v: warning: {number}", number)]
    assert len(told) == 500


def test_debians_bare_version_gets_its_name() -> None:
    assert os_name("12.15") == "Debian GNU/Linux 12.15"
    assert os_name("trixie/sid") == "Debian GNU/Linux trixie/sid"
    assert os_name("Windows Server 2019 Standard") == "Windows Server 2019 Standard"


@given(st.lists(st.text(max_size=80), max_size=30), st.booleans())
def test_unknown_lines_never_fail_anything(lines: list[str], machine: bool) -> None:
    reader = Reader(machine=machine)
    for number, line in enumerate(lines):
        list(reader.line(line, number))
        list(reader.message(line, line))
        list(reader.message("warning", line))
    list(reader.finish())


@given(
    st.lists(st.sampled_from(["Opening the source", "Copying disk 1/1", "Converting x to run on KVM", "Finishing off"]))
)
def test_phases_go_forward_only(steps: list[str]) -> None:
    reader = Reader(machine=False)
    told = [item for step in steps for item in reader.line(f"[  1.0] {step}", 0)]
    phases = [str(fields["phase"]) for kind, fields in told if kind == "phase"]
    order = ["opening", "inspecting", "converting", "copying", "finishing"]
    assert all(order.index(a) < order.index(b) for a, b in pairwise(phases))
