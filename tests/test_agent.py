"""The agent as a real process, with a stand-in for virt-v2v that replays a real transcript."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conversions.agent import processes
from conversions.jobdir import JobDir, Result

from .fixtures_engine import events_of, until

MakeJob = Callable[..., JobDir]
MakeStandin = Callable[..., Path]
StartAgent = Callable[[JobDir], "subprocess.Popen[bytes]"]


def result_of(jobdir: JobDir) -> Result:
    result = jobdir.read_result()
    assert result is not None, jobdir.log.read_text() if jobdir.log.exists() else "no log"
    return result


def assert_nothing_is_left(jobdir: JobDir) -> None:
    assert processes.marked(str(jobdir.path)) == []
    assert not jobdir.tmp.exists()
    assert not jobdir.secrets.exists()
    assert str(jobdir.path) not in Path("/proc/self/mountinfo").read_text()
    assert not jobdir.is_agent_alive()


def test_a_conversion_succeeds_and_leaves_disks_yaml_and_nothing_else(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(copy=0.1))
    assert start_agent(jobdir).wait(30) == 0
    result = result_of(jobdir)
    assert (result.outcome, result.exit_code, result.error) == ("succeeded", 0, None)
    assert [artifact["name"] for artifact in result.artifacts] == ["web01-sda", "web01.yaml"]
    assert result.artifacts[0]["size"] == 2**20
    assert result.artifacts[0]["allocated"] < 2**20
    assert_nothing_is_left(jobdir)


def test_it_tells_phases_facts_warnings_and_bytes_in_order(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(copy=0.1))
    start_agent(jobdir).wait(30)
    phases = [event["phase"] for event in events_of(jobdir, "phase")]
    assert phases == ["checking", "opening", "inspecting", "converting", "copying", "finishing"]
    facts = {event["key"]: event["value"] for event in events_of(jobdir, "fact")}
    assert facts["os"] == "Debian GNU/Linux 12.15"
    assert facts["firmware"] == "bios"
    assert facts["virtio"] is True
    assert facts["virt_v2v_version"] == "2.2.0"
    (warning,) = events_of(jobdir, "warning")
    assert warning["code"] == "grub-not-updated"
    # The line it points at is the one in the log, to the byte.
    assert jobdir.log.read_bytes()[warning["line"] :].startswith(b"virt-v2v: warning: could not determine a way")
    (disk,) = events_of(jobdir, "disk")
    assert (disk["disk"], disk["disks"], disk["size"]) == (1, 1, 2**20)
    assert events_of(jobdir, "progress")[-1]["bytes_done"] == 2**20
    assert events_of(jobdir)[-1]["type"] == "receipt"


def test_the_log_begins_with_versions_and_the_command_and_holds_all_that_was_printed(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin())
    start_agent(jobdir).wait(30)
    log = jobdir.log.read_text()
    head = log.splitlines()[:4]
    assert head[0].startswith("v2vweb: conversion 1, attempt 1")
    assert "virt-v2v 2.2.0" in head[1]
    assert any(line.startswith("v2vweb: $ ") and "-o kubevirt" in line for line in head)
    assert "[  46.9] Copying disk 1/1\n" in log
    assert "hunter2" not in log


def test_a_failure_names_the_cause_and_removes_half_written_disks(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    error = "virt-v2v: error: inspection could not detect the source guest (or physical machine)."
    jobdir = make_job(make_standin(until="Checking for sufficient", say=[error, ""], yaml=False, exit=1))
    start_agent(jobdir).wait(30)
    result = result_of(jobdir)
    assert (result.outcome, result.exit_code) == ("failed", 1)
    assert result.error is not None
    assert result.error["code"] == "no-operating-system"
    assert result.error["action"]
    assert not (jobdir.path.parents[2] / "out").exists()
    assert any("web01-sda" in removed for removed in result.removed)
    (event,) = events_of(jobdir, "error")
    assert jobdir.log.read_bytes()[event["line"] :].startswith(b"virt-v2v: error: inspection")
    assert_nothing_is_left(jobdir)


def test_a_target_that_runs_full_in_the_middle_is_named_as_such(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    lines = [
        "nbdkit: file.1: error: pwrite: No space left on device",
        "nbdcopy: write: No space left on device",
        "virt-v2v: error: nbdcopy command failed, see earlier error messages",
    ]
    jobdir = make_job(make_standin(until="Creating output metadata", say=lines, yaml=False, exit=1))
    start_agent(jobdir).wait(30)
    error = result_of(jobdir).error
    assert error is not None
    assert error["code"] == "target-full"


def test_virt_v2v_that_is_killed_is_told_apart_from_one_that_fails(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(until="Converting", yaml=False, signal=int(signal.SIGKILL)))
    start_agent(jobdir).wait(30)
    result = result_of(jobdir)
    assert result.exit_code == -9
    assert result.error is not None
    assert result.error["code"] == "virt-v2v-killed"


def test_success_without_a_yaml_is_no_success(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(yaml=False))
    start_agent(jobdir).wait(30)
    result = result_of(jobdir)
    assert result.outcome == "failed"
    assert result.error is not None
    assert result.error["code"] == "no-result"


def test_a_missing_virt_v2v_is_a_failure_with_advice(
    tmp_path: Path, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(tmp_path / "no-such-virt-v2v")
    start_agent(jobdir).wait(30)
    error = result_of(jobdir).error
    assert error is not None
    assert error["code"] == "virt-v2v-missing"


def test_too_little_space_is_found_before_virt_v2v_starts(
    tmp_path: Path, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    calls = tmp_path / "calls"
    jobdir = make_job(make_standin(calls=str(calls)), space_needed=2**60)
    start_agent(jobdir).wait(30)
    error = result_of(jobdir).error
    assert error is not None
    assert error["code"] == "no-space"
    assert not calls.exists()


def test_a_hostile_disk_is_refused_before_virt_v2v_starts(
    tmp_path: Path, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    calls, image = tmp_path / "calls", tmp_path / "evil.img"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/hostname", "-F", "raw", image, "2M"], check=True
    )
    vet = [{"path": str(image), "kind": "disk", "format": "qcow2"}]
    jobdir = make_job(make_standin(calls=str(calls)), vet=vet)
    start_agent(jobdir).wait(30)
    error = result_of(jobdir).error
    assert error is not None
    assert "backing" in error["code"]
    assert not calls.exists()
    assert_nothing_is_left(jobdir)


@pytest.mark.parametrize("deaf", [False, True], ids=["hears SIGTERM", "does not hear SIGTERM"])
def test_cancelling_ends_everything_and_removes_the_half_written(
    deaf: bool, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(until="Creating", hang=300, daemon=300, deaf=deaf))
    agent = start_agent(jobdir)
    until(lambda: jobdir.log.exists() and b"Copying disk" in jobdir.log.read_bytes())
    until(lambda: len(processes.marked(str(jobdir.path))) >= 3, what="agent, stand-in, daemon")
    jobdir.cancel.touch()
    agent.wait(40)
    result = result_of(jobdir)
    assert result.outcome == "cancelled"
    assert result.artifacts == []
    assert_nothing_is_left(jobdir)
    assert not list((jobdir.path.parents[2]).glob("out/*"))


def test_a_daemon_with_a_session_of_its_own_does_not_outlive_a_success(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(daemon=300))
    agent = start_agent(jobdir)
    agent.wait(40)
    assert result_of(jobdir).outcome == "succeeded"
    assert_nothing_is_left(jobdir)


def test_a_request_to_stop_before_the_start_is_heard(
    tmp_path: Path, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    calls = tmp_path / "calls"
    jobdir = make_job(make_standin(calls=str(calls), hang=60))
    jobdir.cancel.touch()
    start_agent(jobdir).wait(30)
    assert result_of(jobdir).outcome == "cancelled"
    assert_nothing_is_left(jobdir)


def test_of_many_agents_on_one_attempt_one_works(
    tmp_path: Path, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    calls = tmp_path / "calls"
    jobdir = make_job(make_standin(calls=str(calls)))
    agents = [start_agent(jobdir) for _ in range(6)]
    assert [agent.wait(40) for agent in agents] == [0] * 6
    assert len(calls.read_text().splitlines()) == 1
    assert result_of(jobdir).outcome == "succeeded"
    assert start_agent(jobdir).wait(20) == 0  # nor does a late one
    assert len(calls.read_text().splitlines()) == 1


def test_when_the_agent_is_killed_virt_v2v_ends_too(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(until="Creating", hang=300))
    agent = start_agent(jobdir)
    until(lambda: jobdir.log.exists() and b"Copying disk" in jobdir.log.read_bytes())
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    until(lambda: processes.marked(str(jobdir.path)) == [])
    assert jobdir.read_result() is None
    assert not jobdir.is_agent_alive()


def test_nul_bytes_and_garbage_in_the_output_change_nothing(
    tmp_path: Path, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    strange = tmp_path / "strange.jsonl"
    texts = [
        "\0\0[   0.0] Opening the source\n",
        '{ "type": 7 }\nnot json\n',
        "virt-v2v: \x1b[33mwarning: odd \u2192 \x1b[0m\n",
    ]
    strange.write_text("".join(json.dumps({"at": 0, "stream": "out", "data": text}) + "\n" for text in texts))
    jobdir = make_job(make_standin(transcript=str(strange)))
    start_agent(jobdir).wait(30)
    assert result_of(jobdir).outcome == "succeeded"
    assert b"\0" not in jobdir.log.read_bytes()


def test_the_log_on_a_full_disk_does_not_stop_the_agent(
    make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin())
    jobdir.log.symlink_to("/dev/full")
    start_agent(jobdir).wait(30)
    assert result_of(jobdir).outcome == "succeeded"


def test_a_long_data_folder_does_not_break_unix_sockets(
    tmp_path: Path, make_standin: MakeStandin, make_job: MakeJob, start_agent: StartAgent
) -> None:
    jobdir = make_job(make_standin(hang=3))
    long = JobDir(tmp_path / ("d" * 120) / "1")
    long.path.parent.mkdir()
    jobdir.path.rename(long.path)
    start_agent(long)
    pid = until(
        lambda: next(
            (
                p
                for p in processes.marked(str(long.path))
                if processes.name_of(p).startswith("python") and b"-os" in Path(f"/proc/{p}/cmdline").read_bytes()
            ),
            None,
        ),
        what="the stand-in",
    )
    env = dict(part.split(b"=", 1) for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if part)
    assert len(env[b"TMPDIR"]) < 40
    assert Path(env[b"TMPDIR"].decode()).samefile(long.tmp)
    until(long.read_result)


def test_mounts_of_others_have_whatever_names_they_like() -> None:
    mountinfo = (
        b"36 35 98:0 / / rw - ext4 /dev/sda rw\n"
        b"40 36 0:50 / /srv/v2v\\040web/\xc3\xbcb/disk.img rw - fuse nbd rw\n"
        b"41 36 0:51 / /home/eve/\xff\x0c\xc2\x85\x1cx rw - fuse odd rw\n"
    )
    found = processes.mount_points(mountinfo)
    assert found[:2] == ["/", "/srv/v2v web/\u00fcb/disk.img"] and os.fsencode(found[2]).endswith(b"\x1cx")
