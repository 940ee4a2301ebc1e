"""What a virt-v2v can do, from what it says of itself."""

import os
import shutil
from pathlib import Path

import pytest

from conversions.host import capabilities
from conversions.host.capabilities import parse
from conversions.problems import RefusedError

# As the versions print it (the words that matter here).
V2_2 = (
    "virt-v2v\nvirt-v2v-2.0\nvcenter-https\nxen-ssh\nvddk\nio/oo\nbandwidth-option\n"
    "input:disk\ninput:ova\noutput:kubevirt\nconvert:linux\nconvert:windows\n"
)
V2_12 = V2_2 + "customize-ops\nparallel-option\nblock-driver-option\ncollect-option\n"
MASTER = V2_12.replace("bandwidth-option\n", "") + "a-word-of-the-future\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that stands in for virt-v2v, and counts how often it is asked."""
    path = tmp_path / "virt-v2v"
    asked = tmp_path / "asked"
    path.write_text(
        f'#!/bin/sh\necho "$1" >> {asked}\n[ "$1" = --version ] && echo "virt-v2v 2.4.0" || printf "vddk\\noutput:kubevirt\\n"\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("said", "version", "text"),
    [
        ("virt-v2v 2.2.0\n", (2, 2, 0), "2.2.0"),
        ("virt-v2v 2.13.3", (2, 13, 3), "2.13.3"),
        ("virt-v2v 2.5.6rhel=9,release=8.el9_5\n", (2, 5, 6), "2.5.6rhel=9,release=8.el9_5"),
        ("virt-v2v 3.0\n", (3, 0, 0), "3.0"),
        ("\nvirt-v2v 2.7.1\nextra line 9.9.9\n", (2, 7, 1), "2.7.1"),
        ("virt-v2v development build", None, "development build"),
        ("", None, "unknown"),
    ],
)
def test_it_reads_the_version(said: str, version: tuple[int, ...] | None, text: str) -> None:
    found = parse("virt-v2v", said, V2_2)
    assert (found.version, found.version_text) == (version, text)


def test_2_2_cannot_what_came_later() -> None:
    old = parse("virt-v2v", "virt-v2v 2.2.0", V2_2)
    assert old.writes_for_kubevirt
    assert old.inputs == {"disk", "ova"}
    assert not (old.has_parallel or old.has_key_all)
    assert not (old.writes_to_given_disks or old.takes_address_without_gateway)
    assert old.has_key_clevis and not parse("virt-v2v", "virt-v2v 2.0.7", V2_2).has_key_clevis


@pytest.mark.parametrize(("version", "words"), [("2.12.0", V2_12), ("2.13.4", MASTER)])
def test_newer_ones_can(version: str, words: str) -> None:
    new = parse("virt-v2v", f"virt-v2v {version}", words)
    assert new.has_parallel and new.has_key_all and new.writes_to_given_disks and new.takes_address_without_gateway


def test_a_word_counts_without_a_version_and_a_version_without_the_word() -> None:
    assert parse("virt-v2v", "", "parallel-option\n").has_parallel
    assert parse("virt-v2v", "virt-v2v 2.8.1", "").has_parallel
    assert not parse("virt-v2v", "", "").has_parallel


def test_strange_lines_are_no_features() -> None:
    found = parse("virt-v2v", "virt-v2v 2.2.0", "vddk\n\n<b>no</b>\n" + "x" * 100 + "\n  xen-ssh  \n\x1b[31mred\n")
    assert found.features == {"vddk", "xen-ssh"}


def test_the_page_tells_what_is_missing() -> None:
    there = {
        one.title: one.there for one in parse("virt-v2v", "virt-v2v 2.2.0", V2_2.replace("vddk\n", "")).abilities()
    }
    assert there["Writes for KubeVirt"] and there["VMware over HTTPS"] and there["Windows guests"]
    assert not there["VMware with VDDK"]
    assert not there["Several disks at once"]


def test_it_is_asked_once_until_the_program_changes(program: Path) -> None:
    asked = program.parent / "asked"
    first = capabilities.capabilities(str(program))
    assert first.version == (2, 4, 0)
    assert capabilities.capabilities(str(program)) is first
    assert asked.read_text().split() == ["--version", "--machine-readable"]
    program.write_text(program.read_text().replace("2.4.0", "2.10.0"))
    os.utime(program, ns=(1, 1))
    assert capabilities.capabilities(str(program)).version == (2, 10, 0)


def test_a_missing_one_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        capabilities.capabilities(str(tmp_path / "none"))
    assert refused.value.problem.code == "virt-v2v-missing"
    assert refused.value.problem.whose == "administrator"
    assert "V2VWEB_VIRT_V2V" in refused.value.problem.action


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo broken library >&2; exit 127", "broken library"),
        ("exec sleep 60", "did not answer"),
        ("kill -9 $$", "-9"),
    ],
)
def test_a_broken_one_is_told_and_not_remembered(
    program: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    good = program.read_text()
    program.write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setattr(capabilities, "SECONDS", 0.3)
    with pytest.raises(RefusedError, match=says):
        capabilities.capabilities(str(program))
    program.write_text(good)
    monkeypatch.setattr(capabilities, "SECONDS", 10)
    assert capabilities.capabilities(str(program)).version == (2, 4, 0)


@pytest.mark.skipif(not shutil.which("virt-v2v"), reason="virt-v2v is not installed")
def test_the_real_one_can_what_v2vweb_needs() -> None:
    real = capabilities.capabilities("virt-v2v")
    assert real.at_least(2, 2, 0)
    assert real.writes_for_kubevirt
    assert {"disk", "ova"} <= real.inputs
