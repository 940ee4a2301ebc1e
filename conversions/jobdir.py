"""The folder of one attempt at a conversion: what stands in it and who writes it.  Standard library only: the agent uses it.

DATA/jobs/<id>/<attempt>/       0700
    job.json       conductor    what the agent is to do: Job below
    secrets/       conductor    0600 files without a newline at the end; the agent removes them when it ends
    lock           agent        held (flock) as long as the agent lives: the only proof of life
    agent.json     agent        made once with O_EXCL: {"pid", "host", "started"}; a second agent finds it and leaves
    cancel         conductor    its being there asks the agent to stop
    log            agent        every byte that virt-v2v and what it starts have printed, and the agent's own lines
    events.jsonl   agent        see events.py
    result.json    agent        written last, by rename: Result below; its being there means "ended"
    tmp/           agent        TMPDIR of virt-v2v; gone at the end
DATA/output/<id>-<name>/        what the person takes away
"""

import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Job:
    """What the agent is to do.  Paths are absolute, sizes are bytes."""

    id: int
    attempt: int
    name: str
    argv: list[str]  #: virt-v2v's command line, secrets only as paths of files under secrets/
    env: dict[str, str]  #: set beside the agent's own environment
    output_dir: str
    output_format: str  #: raw or qcow2
    #: what is to be vetted before virt-v2v sees it: {"path", "kind": "disk"|"ova", "format": declared or null}
    vet: list[dict[str, Any]] = field(default_factory=list)
    space_needed: int | None = None  #: bytes that must be free under output_dir before the start
    #: servers that must show these certificates: {"host", "port", "sha256"} (reach.py)
    pins: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)  #: of the vetting sandbox, see vetting.py
    #: objects of a bucket that are to be files: {"path": where, below tmp/, "size", "secret": the file with its address}
    objects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """How an attempt ended."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    exit_code: int | None = None  #: virt-v2v's own; None when it was not started
    error: dict[str, Any] | None = None  #: problems.Problem as a dict when failed
    artifacts: list[dict[str, Any]] = field(default_factory=list)  #: {"name", "size", "allocated"} under output_dir
    removed: list[str] = field(default_factory=list)  #: the receipt: what the agent took away
    kept: list[str] = field(default_factory=list)  #: and what it left, with where it is


@dataclass(frozen=True)
class JobDir:
    path: Path

    @classmethod
    def of(cls, data_dir: Path, conversion: int, attempt: int) -> "JobDir":
        return cls(data_dir / "jobs" / str(conversion) / str(attempt))

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def agent(self) -> Path:
        return self.path / "agent.json"

    @property
    def cancel(self) -> Path:
        return self.path / "cancel"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    def read_job(self) -> Job:
        return Job(**json.loads(self.job.read_text()))

    def write_job(self, job: Job) -> None:
        write_atomically(self.job, json.dumps(asdict(job), indent=1))

    def read_result(self) -> Result | None:
        """The result, or None while there is none."""
        try:
            return Result(**json.loads(self.result.read_text()))
        except FileNotFoundError:
            return None

    def write_result(self, result: Result) -> None:
        write_atomically(self.result, json.dumps(asdict(result), indent=1))

    def is_agent_alive(self) -> bool:
        """Whether an agent holds the lock.  Pids come again; a lock goes with its process, however that ends."""
        try:
            fd = os.open(self.lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file that is seen whole or not at all, and is on disk when this returns."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, mode)
            file.write(text)
            file.flush()
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
