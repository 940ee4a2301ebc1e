"""The folder of one trial: what stands in it and who writes it.

BOOTDIR/            0700
    trial.json      who asks     what is to be tried: Trial below
    lock            trial        held (flock) as long as it lives: the only proof of life
    cancel          who asks     its being there asks the trial to stop
    state.json      trial        State below, every few seconds
    serial          trial        every byte that the guest wrote to its serial console
    serial.sock     QEMU         the same console to talk to, while it runs
    firmware        QEMU         what the BIOS said
    qemu.log        QEMU         its own complaints
    screen-NNN.png  trial        pictures of the screen, when it changed
    result.json     trial        written last, by rename: Outcome below; its being there means "ended"
    tmp/            QEMU         what the guest wrote; gone at the end
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..jobdir import write_atomically


@dataclass(frozen=True)
class Disk:
    """A disk of the guest to be; never written."""

    path: str  #: of the converted file or block device
    format: str  #: raw or qcow2, as it was written, never guessed
    bus: str = "virtio"
    boot_order: int | None = None


@dataclass(frozen=True)
class Card:
    model: str = "virtio"
    mac: str | None = None


@dataclass(frozen=True)
class Limits:
    """Of one trial.  Bytes and seconds."""

    wall: int = 600  #: as long as it is undecided
    memory: int = 2 << 30  #: at most so much for the guest, whatever the manifest says
    cpus: int = 2
    written: int = 8 << 30  #: that the guest may write into the overlay of one disk
    pictures: int = 60
    serial: int = 16 << 20
    fingerprint: int = 64 << 30  #: disks with more data than this are compared by size and time only


@dataclass(frozen=True)
class Trial:
    """The hardware and how it is to be tried."""

    name: str
    disks: tuple[Disk, ...]
    cards: tuple[Card, ...] = ()
    machine: str = "q35"
    firmware: Literal["bios", "uefi"] = "bios"
    secure_boot: bool = False
    transitional: bool = False  #: old virtio 0.9 for old guests
    cpus: int = 1
    memory: int = 2 << 30
    os_family: str | None = None
    accelerator: Literal["kvm", "tcg"] = "tcg"
    every: float = 5.0  #: seconds between two pictures
    stay: float = 0.0  #: seconds to stay up after a good verdict, for somebody who wants to talk to the console
    steady: float = 60.0  #: seconds that a picture must stay the same to count as "the system waits for somebody"
    limits: Limits = field(default_factory=Limits)
    notes: tuple[str, ...] = ()  #: what is not as in the manifest, and why


@dataclass(frozen=True)
class State:
    """How far a running trial is."""

    seconds: float = 0
    text: str = ""  #: for people
    pictures: tuple[str, ...] = ()
    serial: int = 0  #: bytes


@dataclass(frozen=True)
class Suggestion:
    """Something else to try: settings of the target that are to change."""

    title: str
    reason: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    verdict: str  #: a key of verdict.WORDS
    good: bool | None  #: None: nobody can say
    title: str
    text: str
    action: str
    seconds: float
    pictures: tuple[dict[str, Any], ...] = ()  #: {"name", "seconds"}
    resets: int = 0
    notes: tuple[str, ...] = ()
    suggestions: tuple[dict[str, Any], ...] = ()
    fingerprints: tuple[dict[str, Any], ...] = ()  #: {"path", "before", "after"} of each disk
    command: tuple[str, ...] = ()  #: QEMU's, for the evidence

    @property
    def disks_unchanged(self) -> bool:
        return all(disk["before"] == disk["after"] for disk in self.fingerprints)


@dataclass(frozen=True)
class BootDir:
    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def cancel(self) -> Path:
        return self.path / "cancel"

    @property
    def serial(self) -> Path:
        return self.path / "serial"

    @property
    def firmware(self) -> Path:
        return self.path / "firmware"

    @property
    def qemu_log(self) -> Path:
        return self.path / "qemu.log"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    def write_trial(self, trial: Trial) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path / "trial.json", json.dumps(asdict(trial), indent=1))

    def read_trial(self) -> Trial:
        data = json.loads((self.path / "trial.json").read_text())
        data["disks"] = tuple(Disk(**disk) for disk in data["disks"])
        data["cards"] = tuple(Card(**card) for card in data["cards"])
        data["limits"] = Limits(**data["limits"])
        data["notes"] = tuple(data["notes"])
        return Trial(**data)

    def write_state(self, state: State) -> None:
        write_atomically(self.path / "state.json", json.dumps(asdict(state)))

    def read_state(self) -> State | None:
        try:
            data = json.loads((self.path / "state.json").read_text())
        except FileNotFoundError:
            return None
        return State(**{**data, "pictures": tuple(data["pictures"])})

    def write_outcome(self, outcome: Outcome) -> None:
        write_atomically(self.path / "result.json", json.dumps(asdict(outcome), indent=1))

    def read_outcome(self) -> Outcome | None:
        """The outcome, or None while there is none."""
        try:
            data = json.loads((self.path / "result.json").read_text())
        except FileNotFoundError:
            return None
        lists = ("pictures", "notes", "suggestions", "fingerprints", "command")
        values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in data.items()}
        return Outcome(**values)

    def take(self) -> int | None:
        """Takes the lock for the life of this process; None when another trial has it."""
        fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def is_alive(self) -> bool:
        """Whether a trial is running.  Pids come again; a lock goes with its process, however that ends."""
        try:
            fd = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
