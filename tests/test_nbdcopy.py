"""Our nbdcopy before the real one: real nbdkit, real nbdcopy, small disks."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions.agent import nbdcopy

from .fixtures_engine import until

MIB = 2**20
needs_nbdkit = pytest.mark.skipif(not shutil.which("nbdkit") or not shutil.which("nbdcopy"), reason="nbdkit is missing")


def test_it_understands_virt_v2vs_call_and_nothing_else() -> None:
    source, target = "nbd+unix:///?socket=/t/in0", "nbd+unix:///?socket=/t/out0"
    call = [source, target, "--requests=64", "--flush", "--progress", "--allocated"]
    assert nbdcopy.understand(call) == (source, target, ["--requests=64", "--flush", "--allocated"])
    for strange in (
        [source],
        [source, "out.img"],
        [*call, "--unheard-of"],
        ["--", "[", "nbdkit", "]", target],
        ["--version"],
    ):
        assert nbdcopy.understand(strange) is None


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2**34)), max_size=30))
def test_the_meter_never_goes_back_nor_beyond_the_disk(samples: list[tuple[int, int]]) -> None:
    meter, last = nbdcopy.Meter(2**33, 2), 0
    for percent, written in sorted(samples):
        meter.update(percent, written)
        assert last <= meter.done <= 2**33
        last = meter.done


def test_what_was_written_is_done_and_what_is_in_flight_is_not() -> None:
    meter = nbdcopy.Meter(1000 * MIB, 2)
    meter.update(50, 100 * MIB)  # 500 MiB handed out, of which 256 MiB may still be on their way
    assert meter.done == 244 * MIB
    meter.update(50, 150 * MIB)
    assert meter.done == 294 * MIB


class Disks:
    """A source and a target as virt-v2v serves them, and our nbdcopy between them."""

    def __init__(self, folder: Path, size: int, data: int) -> None:
        self.folder, self.size = folder, size
        with (folder / "in.img").open("wb") as file:
            file.truncate(size)
            file.write(os.urandom(MIB) * (data // MIB))
        with (folder / "out.img").open("wb") as file:
            file.truncate(size)
        self.servers = [self._serve("in"), self._serve("out")]
        os.mkfifo(folder / "pipe")
        self.pipe = os.open(folder / "pipe", os.O_RDWR | os.O_NONBLOCK)

    def _serve(self, name: str) -> "subprocess.Popen[bytes]":
        server = subprocess.Popen(
            ["nbdkit", "-f", "--exit-with-parent", "-U", self.folder / name, "file", self.folder / f"{name}.img"]
        )
        until((self.folder / name).exists)
        return server

    def copy(self, *options: str, real: str | None = None, **env: str) -> "subprocess.Popen[bytes]":
        places = [f"nbd+unix:///?socket={self.folder / name}" for name in ("in", "out")]
        return subprocess.Popen(
            [sys.executable, "-I", nbdcopy.__file__, *places, "--requests=64", "--flush", "--progress", *options],
            env=os.environ
            | {"V2VWEB_NBDCOPY": real or shutil.which("nbdcopy") or "", "V2VWEB_COPY_PIPE": str(self.folder / "pipe")}
            | {"TMPDIR": str(self.folder)}
            | env,
        )

    def told(self) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in os.read(self.pipe, 65536).splitlines()]
        except BlockingIOError:
            return []

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
        os.close(self.pipe)


@pytest.fixture
def make_disks(tmp_path: Path) -> Iterator[Callable[[int, int], Disks]]:
    made = []

    def make(size: int, data: int) -> Disks:
        disks = Disks(tmp_path, size, data)
        made.append(disks)
        return disks

    yield make
    for disks in made:
        disks.close()


@needs_nbdkit
@pytest.mark.parametrize("options", [(), ("--allocated",)], ids=["sparse", "preallocated"])
def test_a_copy_is_whole_sparse_and_reaches_its_total(
    make_disks: Callable[[int, int], Disks], options: tuple[str, ...]
) -> None:
    disks = make_disks(300 * MIB, 64 * MIB)
    assert disks.copy(*options).wait(60) == 0
    told = disks.told()
    assert told[0] == {"type": "disk", "size": 300 * MIB, "bytes_total": 300 * MIB}
    assert told[-1]["bytes_done"] == 300 * MIB
    source, target = disks.folder / "in.img", disks.folder / "out.img"
    assert subprocess.run(["cmp", source, target], check=False).returncode == 0
    allocated = target.stat().st_blocks * 512
    assert allocated >= 300 * MIB if options else allocated <= 65 * MIB
    assert not list(disks.folder.glob("copy.*"))


@needs_nbdkit
def test_a_limit_can_be_changed_while_it_copies_and_the_bytes_on_the_way_are_told(
    make_disks: Callable[[int, int], Disks],
) -> None:
    disks = make_disks(64 * MIB, 64 * MIB)
    rate = disks.folder / "rate"
    rate.write_text(str(16 * MIB * 8))
    copy = disks.copy(V2VWEB_RATE_FILE=str(rate))
    time.sleep(2.5)
    told = disks.told()
    assert copy.poll() is None
    assert 0 < told[-1]["bytes_done"] < 64 * MIB
    assert told[-1]["rate"] > 0
    (disks.folder / "new").write_text("0")
    (disks.folder / "new").replace(rate)
    assert copy.wait(20) == 0
    assert disks.told()[-1]["bytes_done"] == 64 * MIB


@needs_nbdkit
def test_the_exit_code_of_the_real_one_is_passed_on(make_disks: Callable[[int, int], Disks], tmp_path: Path) -> None:
    disks = make_disks(4 * MIB, MIB)
    real = tmp_path / "nbdcopy-standin"
    real.write_text("#!/bin/sh\nexit 7\n")
    real.chmod(0o755)
    assert disks.copy(real=str(real)).wait(20) == 7
    real.write_text("#!/bin/sh\nkill -9 $$\n")
    assert disks.copy(real=str(real)).wait(20) == -9


@needs_nbdkit
def test_a_target_that_is_full_fails_the_copy(make_disks: Callable[[int, int], Disks]) -> None:
    disks = make_disks(64 * MIB, 32 * MIB)
    disks.servers[1].kill()
    disks.servers[1].wait()
    (disks.folder / "out").unlink()
    full = ["nbdkit", "-f", "--exit-with-parent", "-U", disks.folder / "out", "full", "64M"]
    disks.servers.append(subprocess.Popen(full))
    until((disks.folder / "out").exists)
    assert disks.copy().wait(30) != 0
    assert not [event for event in disks.told() if event.get("bytes_done") == 64 * MIB]


@needs_nbdkit
def test_without_an_agent_it_is_the_real_one(make_disks: Callable[[int, int], Disks]) -> None:
    disks = make_disks(4 * MIB, MIB)
    assert disks.copy(V2VWEB_COPY_PIPE="").wait(20) == 0
    assert disks.told() == []
