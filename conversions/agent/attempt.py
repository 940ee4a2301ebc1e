"""One attempt: checks, virt-v2v, results; and, however it ends, nothing of it runs or lies about any more."""

import contextlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from .. import known_errors
from ..events import EventWriter
from ..jobdir import Job, JobDir, Result
from ..problems import Problem, RefusedError
from ..servers import reach
from ..states import Phase
from . import objects, processes, remains, supervise


class StopRequested(Exception):
    """Somebody asked this attempt to stop."""


class Attempt:
    def __init__(self, jobdir: JobDir) -> None:
        self.jobdir = jobdir
        self.log = supervise.Log(jobdir.log)
        self.events = EventWriter(jobdir.events)
        self._told_to_stop = False
        self._exit_code: int | None = None
        self._error_line: int | None = None
        self._removed: list[str] = []  # for the receipt: files of a bucket that were shown
        self._stamps: dict[str, tuple[int, ...]] = {}  # of the source's files when they were vetted

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop_soon)
        job = self.jobdir.read_job()
        outcome, problem = self._outcome(job)
        self._end(job, outcome, problem)

    def emit(self, type: str, **fields: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk costs an event, not the conversion
            self.events.write(type, **fields)

    def stop_requested(self) -> bool:
        return self._told_to_stop or self.jobdir.cancel.exists()

    def _stop_soon(self, *_: Any) -> None:
        self._told_to_stop = True

    def _outcome(self, job: Job) -> tuple[Literal["succeeded", "failed", "cancelled"], Problem | None]:
        try:
            self.jobdir.tmp.mkdir(mode=0o700)
            env = supervise.environment(job, self.jobdir.tmp, job.argv[0])
            self._head(job)
            if stale := remains.remove_results(job):
                self.log.say(f"removed what an earlier attempt had left: {', '.join(stale)}")
            Path(job.output_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.emit("phase", phase=Phase.CHECKING.value)
            _check_room(job)
            with contextlib.ExitStack() as stack:
                with self._interruptible():
                    self._removed += stack.enter_context(objects.shown(self.jobdir, job, self.log.say, self.emit))
                    self._check(job)
                problem = self._convert(job, env)
        except StopRequested:
            return "cancelled", None
        except RefusedError as error:
            return ("cancelled", None) if self.stop_requested() else ("failed", error.problem)
        except Exception as error:
            self.log.say(traceback.format_exc())
            return "failed", _own_fault(error)
        if problem and self.stop_requested():
            return "cancelled", None
        return ("failed", problem) if problem else ("succeeded", None)  # a stop that came too late changes nothing

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Within, a request to stop raises StopRequested: for steps that do not ask by themselves."""

        def look(*_: Any) -> None:
            if self.stop_requested():
                raise StopRequested

        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.25)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _head(self, job: Job) -> None:
        """The first lines of the log: who, with what, the exact command.  Secrets are files, so there are none in it."""
        versions = _versions(job.argv[0])
        self.log.say(f"conversion {job.id}, attempt {job.attempt}, agent {os.getpid()} on {platform.node()}")
        self.log.say(", ".join(versions.values()) + f", Linux {platform.release()}, {os.cpu_count()} cores")
        if job.env:
            self.log.say(" ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(job.env.items())))
        self.log.say(f"$ {shlex.join(job.argv)}")
        for name, text in versions.items():
            self.emit("fact", key=f"{name.replace('-', '_')}_version", value=text.removeprefix(f"{name} "))

    def _check(self, job: Job) -> None:
        for pin in job.pins:
            # virt-v2v cannot check a pin itself, so this is done in the instant before it gets the password.
            reach.check_pin(pin["host"], pin["port"], pin["sha256"])
        if job.vet:
            # Here and not above: an attempt without foreign disks does not need the sandbox to be there.
            from ..disks.vetting import stamps, vet

            self._stamps = stamps(job.vet)
            vet(job.vet, self.log.say, job.limits or None, self.jobdir.tmp)

    def _convert(self, job: Job, env: dict[str, str]) -> Problem | None:
        program = shutil.which(job.argv[0], path=os.environ.get("PATH"))
        if not program:
            return known_errors.missing_program(job.argv[0])
        run = supervise.Run(
            self.jobdir, job, self.log, self.emit, machine=_speaks_json(program, env), stop=self.stop_requested
        )
        self._exit_code = run(program, env)
        self._error_line = run.reader.error_line
        if self._exit_code:
            reader = run.reader
            return known_errors.diagnose(
                reader.errors, list(reader.tail), exit_code=self._exit_code, phase=reader.phase
            )
        names = [Path(path).suffix for path in remains.results(job)]
        if ".yaml" not in names or len(names) < 2:
            return _nothing_made(job)
        if job.vet:
            from ..disks.vetting import changed

            return changed(self._stamps, job.vet)
        return None

    def _end(self, job: Job, outcome: Literal["succeeded", "failed", "cancelled"], problem: Problem | None) -> None:
        # A disk server may still be writing after success; after anything else there is nothing to wait for.
        stuck = processes.end_descendants(patience=5 if outcome == "succeeded" else 0.2)
        kept = [f"{name} (could not be ended)" for name in stuck]
        os.chdir("/")
        had_secrets = self.jobdir.secrets.exists() and any(self.jobdir.secrets.iterdir())
        left = remains.remove_tmp(self.jobdir)
        kept += left
        removed = [*self._removed, "temporary files"] if not left else []
        if had_secrets and not self.jobdir.secrets.exists():
            removed.append("the passwords and passphrases written down for this attempt")
        if outcome == "succeeded":
            kept += [path.name for path in remains.results(job)]
        else:
            removed = remains.remove_results(job) + removed
            kept.append("the source, unchanged")
        if problem:
            self.emit("error", **problem.as_dict(), line=self._error_line)
            self.log.say(f"{problem.title}. {problem.text}")
        self.emit("receipt", removed=removed, kept=kept)
        self.log.say(f"{outcome}; removed: {', '.join(removed) or 'nothing'}; kept: {', '.join(kept) or 'nothing'}")
        result = Result(
            outcome=outcome,
            exit_code=self._exit_code,
            error=problem.as_dict() if problem else None,
            artifacts=remains.artifacts(job) if outcome == "succeeded" else [],
            removed=removed,
            kept=kept,
        )
        _insist(lambda: self.jobdir.write_result(result))


def _check_room(job: Job) -> None:
    free = shutil.disk_usage(job.output_dir).free
    if job.space_needed is not None and free < job.space_needed:
        raise RefusedError(_no_space(job.space_needed, free))


def _insist(write: Callable[[], None]) -> None:
    """Tries for a minute: a disk that somebody else has filled should not turn an end into a "lost"."""
    for _ in range(60):
        try:
            return write()
        except OSError as error:
            print(f"result: {error}", file=sys.stderr)
            time.sleep(1)


def _versions(program: str) -> dict[str, str]:
    """What the programs call themselves; all are asked at once, and one that does not answer is left out."""
    asked = {
        "virt-v2v": program,
        "nbdkit": "nbdkit",
        "nbdcopy": "nbdcopy",
        "qemu-img": "qemu-img",
        "guestfish": "guestfish",
    }
    running = {}
    for name, command in asked.items():
        with contextlib.suppress(OSError):
            running[name] = subprocess.Popen(
                [command, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
    found = {}
    for name, process in running.items():
        try:
            text = process.communicate(timeout=10)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        number = next((word for word in text.replace("(", " ").split() if word[:1].isdigit()), None)
        if process.returncode == 0 and number:
            found[name] = f"{name} {number}"
    return found


def _speaks_json(program: str, env: dict[str, str]) -> bool:
    """Whether this virt-v2v can send its messages as JSON to a descriptor; asked of it, not guessed by its version."""
    try:
        answer = subprocess.run(
            [program, "--machine-readable"],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    # "--machine-readable=fd:N" came long before 2.0, which says so in this list.
    return answer.returncode == 0 and b"virt-v2v-2.0" in answer.stdout.split()


def _no_space(needed: int, free: int) -> Problem:
    return Problem(
        "no-space",
        "Not enough free space for the results",
        f"The disks of this guest may take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free.",
        "Delete results you have already taken away, or ask your administrator for space; then press Retry.",
        "administrator",
    )


def _nothing_made(job: Job) -> Problem:
    names = ", ".join(path.name for path in remains.results(job)) or "nothing"
    return Problem(
        "no-result",
        "virt-v2v ended without an error but left no complete result",
        f"Disks and a description (YAML) were expected; there is {names}.",
        "Press Retry. If it comes again, give the evidence file to your administrator.",
        "administrator",
    )


def _own_fault(error: Exception) -> Problem:
    return Problem(
        "agent-error",
        "v2vweb itself made a mistake",
        f"The conversion was stopped by an error inside v2vweb: {type(error).__name__}: {error}",
        "Press Retry. If it comes again, give the evidence file to your administrator.",
        "v2vweb",
    )
