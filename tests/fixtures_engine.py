"""A stand-in for virt-v2v, jobs and conversions for it, and an eye on what they leave behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conversions.agent import processes
from conversions.events import read_events
from conversions.jobdir import Job, JobDir

STANDIN = Path(__file__).parent / "standins" / "virt_v2v_standin.py"
TRANSCRIPT = Path(__file__).parent / "data" / "transcripts" / "virt-v2v-2.2.0-debian-12-disk.jsonl"
PROJECT = Path(__file__).resolve().parent.parent


def until(condition: Callable[[], Any], seconds: float = 20, what: str = "") -> Any:
    """Waits for something to become true and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what or condition}")


@pytest.fixture
def make_standin(tmp_path: Path) -> Callable[..., Path]:
    """Makes a program that stands in for virt-v2v; see tests/standins for what it can be told."""

    def make(name: str = "virt-v2v-standin", **script: Any) -> Path:
        script.setdefault("transcript", str(TRANSCRIPT))
        (tmp_path / f"{name}.json").write_text(json.dumps(script))
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} {tmp_path / name}.json "$@"\n')
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., JobDir]:
    """Makes a job folder of its own that calls a program as virt-v2v."""

    def make(program: Path, **fields: Any) -> JobDir:
        jobdir = JobDir(tmp_path / "jobs" / "1" / "1")
        output = tmp_path / "out"
        jobdir.secrets.mkdir(parents=True)
        (jobdir.secrets / "luks-0").write_text("hunter2")
        output.mkdir(exist_ok=True)
        argv = [
            str(program),
            "-i",
            "disk",
            "-if",
            "raw",
            "-o",
            "kubevirt",
            "-os",
            str(output),
            "-on",
            "web01",
            "-of",
            "raw",
        ]
        job = Job(
            id=1,
            attempt=1,
            name="web01",
            argv=[*argv, "--root", "first", "--", "/images/guest.img"],
            env={},
            output_dir=str(output),
            output_format="raw",
        )
        jobdir.write_job(Job(**(job.__dict__ | fields)))
        return jobdir

    return make


@pytest.fixture
def start_agent() -> Iterator[Callable[[JobDir], "subprocess.Popen[bytes]"]]:
    """Starts agents as the local runner does; none of what they start outlives the test."""
    started: list[tuple[subprocess.Popen[bytes], JobDir]] = []

    def start(jobdir: JobDir) -> "subprocess.Popen[bytes]":
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), processes.MARK: str(jobdir.path)}
        agent = subprocess.Popen(
            [sys.executable, "-m", "conversions.agent", str(jobdir.path)], env=env, cwd="/", start_new_session=True
        )
        started.append((agent, jobdir))
        return agent

    yield start
    for agent, jobdir in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
        processes.end_marked(str(jobdir.path))


def events_of(jobdir: JobDir, type: str | None = None) -> list[dict[str, Any]]:
    return [event for _, event in read_events(jobdir.events) if type in (None, event["type"])]
