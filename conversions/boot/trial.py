"""One trial: start the guest, look at it every few seconds, judge, and leave nothing behind but what was seen."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..agent import processes
from ..problems import Problem, RefusedError
from . import qemu, shut_in, verdict
from .bootdir import BootDir, Outcome, State, Trial
from .monitor import Monitor, MonitorGoneError
from .screen import Picture, text_of

_TAIL = 65536  #: bytes of the console's end that are judged
_VGA_TEXT = 0xB8000
STAYING = "It is up, and stays so for a while."


def run(folder: BootDir) -> Outcome:
    """Makes the trial of a folder and writes its outcome.  Never raises for what the guest or QEMU does."""
    trial = folder.read_trial()
    shutil.rmtree(folder.tmp, ignore_errors=True)
    folder.tmp.mkdir(mode=0o700)
    started = time.monotonic()
    try:
        before = _fingerprints(trial)
        observer = _Observer(trial, folder)
        outcome = observer.outcome(observer.watch())
        after = _fingerprints(trial)
        prints = [{"path": path, "before": text, "after": after.get(path)} for path, text in before.items()]
        outcome = replace(outcome, fingerprints=tuple(prints))
    except RefusedError as refused:
        told = refused.problem
        outcome = Outcome("not-possible", None, told.title, told.text, told.action, time.monotonic() - started)
    finally:
        shutil.rmtree(folder.tmp, ignore_errors=True)
        (folder.path / "serial.sock").unlink(missing_ok=True)
    folder.write_outcome(outcome)
    return outcome


def _fingerprints(trial: Trial) -> dict[str, str]:
    found = {}
    for disk in trial.disks:
        try:
            found[disk.path] = fingerprint(Path(disk.path), trial.limits.fingerprint)
        except OSError as error:
            raise RefusedError(
                Problem(
                    "disk-not-readable",
                    "A converted disk cannot be read",
                    f"{disk.path}: {error.strerror}.",
                    "Look whether it was moved or deleted; otherwise convert again.",
                ),
                status=409,
            ) from error
    return found


def fingerprint(path: Path, most: int) -> str:
    """A checksum of a disk: of its data and where they are, holes left out; of size and time when there is too much of it."""
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        end = os.lseek(file.fileno(), 0, os.SEEK_END)
        if stat.st_blocks * 512 > most:
            return f"size {end}, changed {stat.st_mtime_ns}"
        digest = hashlib.sha256(str(end).encode())
        at = 0
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            digest.update(f"@{start}+{at - start}:".encode())
            file.seek(start)
            left = at - start
            while left and (data := file.read(min(left, 1 << 20))):
                digest.update(data)
                left -= len(data)
    return f"sha256 {digest.hexdigest()}"


class _Observer:
    """What has been seen of one guest so far."""

    def __init__(self, trial: Trial, folder: BootDir) -> None:
        self.trial = trial
        self.folder = folder
        self.seen = verdict.Seen(os_family=trial.os_family)
        self.pictures: list[dict[str, Any]] = []
        self.last: Picture | None = None
        self.changed_at = 0.0
        self.shown = 0  #: different pictures that were not blank
        self.command: list[str] = []
        self.firmware_from = 0
        self.exit_code: int | None = None
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def watch(self) -> str:
        """Starts the guest and looks at it until there is a verdict."""
        firmware = qemu.firmware_for(self.trial)
        if firmware is not None:
            shutil.copyfile(firmware.variables, self.folder.tmp / "variables.fd")
        self.command = qemu.command(self.trial, firmware)
        process = shut_in.start(self.command, self.trial, self.folder)
        try:
            return self._watch(Monitor(process), process.pid)
        except MonitorGoneError:
            return self._after_the_end(process)
        finally:
            _end(process)

    def _watch(self, monitor: Monitor, pid: int) -> str:
        monitor.greet()
        while True:
            at_work = []
            for _ in range(10):
                monitor.poll(self.trial.every / 10)
                at_work.append(_at_work(pid))
            self.seen.busy = sum(at_work) >= 8
            self._look(monitor)
            if self.folder.cancel.exists():
                return "cancelled"
            found = verdict.judge(self.seen, self.trial)
            self.folder.write_state(
                State(self.seconds, self._saying(), tuple(p["name"] for p in self.pictures), self._serial_size())
            )
            if found is not None:
                self._stay(monitor, found)
                return found
            if self._serial_size() > self.trial.limits.serial:
                return "undecided"

    def _stay(self, monitor: Monitor, found: str) -> None:
        """Keeps a guest that came up for a while; the verdict stands, whatever happens then."""
        until = time.monotonic() + (self.trial.stay if verdict.WORDS[found][0] else 0)
        while time.monotonic() < until and not self.folder.cancel.exists():
            state = State(self.seconds, STAYING, tuple(p["name"] for p in self.pictures), self._serial_size())
            self.folder.write_state(state)
            try:
                monitor.poll(1)
                self._look_at_screen(monitor)
            except MonitorGoneError:
                return

    def _after_the_end(self, process: "subprocess.Popen[bytes]") -> str:
        """QEMU ended: by the guest's own wish, or because it could not start."""
        process.wait(10)
        self.exit_code = process.returncode
        self._read_texts()
        if self.seen.off or self.pictures:
            self.seen.off = True
            return verdict.judge(self.seen, self.trial) or "powered-off"
        return "not-possible"

    def _look(self, monitor: Monitor) -> None:
        for event in monitor.events:
            if event["event"] == "RESET" and event.get("data", {}).get("guest"):
                self.seen.resets += 1
                self.firmware_from = _size(self.folder.firmware)
                self.shown = 0
            elif event["event"] == "SHUTDOWN" and event.get("data", {}).get("guest"):
                self.seen.off = True
        monitor.events.clear()
        self._look_at_screen(monitor)
        self._read_texts()
        self.seen.seconds = self.seconds

    def _look_at_screen(self, monitor: Monitor) -> None:
        ppm, memory = self.folder.tmp / "screen.ppm", self.folder.tmp / "text"
        monitor.ask("screendump", filename=f"{qemu.WORK}/tmp/screen.ppm")
        monitor.ask("pmemsave", val=_VGA_TEXT, size=4000, filename=f"{qemu.WORK}/tmp/text")
        with contextlib.suppress(OSError, ValueError):
            picture = Picture.from_ppm(ppm.read_bytes())
            in_text_mode = picture.width <= 720 and picture.height == 400
            self.seen.screen = text_of(memory.read_bytes()) if in_text_mode else ""
            self._take(picture)

    def _take(self, picture: Picture) -> None:
        if not picture.is_like(self.last):
            self.changed_at = time.monotonic()
            self.shown += not picture.is_blank
            if len(self.pictures) < self.trial.limits.pictures:
                name = f"screen-{len(self.pictures):03d}.png"
            else:  # the last one is always kept
                name = self.pictures.pop()["name"]
            (self.folder.path / name).write_bytes(picture.to_png())
            self.pictures.append({"name": name, "seconds": self.seconds})
        self.last = picture
        self.seen.still = 0.0 if picture.is_blank else time.monotonic() - self.changed_at
        self.seen.stop_screen = picture.is_stop_screen

    def _read_texts(self) -> None:
        self.seen.serial = _tail(self.folder.serial, 0)
        self.seen.firmware = _tail(self.folder.firmware, self.firmware_from)
        # SeaBIOS says when it hands over; UEFI shows its logo first, and then it is the guest that shows something.
        handed_over = "Booting from" in self.seen.firmware
        self.seen.changed = self.shown >= (1 if handed_over else 2)

    def _serial_size(self) -> int:
        return _size(self.folder.serial)

    def _saying(self) -> str:
        if not self.seen.changed and not self.seen.serial:
            return "The firmware is starting."
        if self.seen.still > 15:
            return f"The screen has been the same for {self.seen.still:.0f} seconds."
        return "The guest is starting."

    def outcome(self, found: str) -> Outcome:
        words = verdict.words(found, self.seen)
        if found == "not-possible":
            words["text"] = f"QEMU did not start: {shut_in.why_not(self.folder, self.exit_code)[:300]}"
        return Outcome(
            verdict=found,
            **words,
            seconds=self.seconds,
            pictures=tuple(self.pictures),
            resets=self.seen.resets,
            notes=self.trial.notes,
            suggestions=tuple(asdict(one) for one in verdict.suggestions(found, self.trial, self.seen)),
            command=tuple(self.command),
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends QEMU with all that is in its sandbox: bwrap takes its children along."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _at_work(pid: int) -> bool:
    """Whether one of the guest's processors is running or wants to: a guest that waits for somebody sleeps."""
    for child in processes.descendants(pid):
        for task in Path(f"/proc/{child}/task").glob("*"):
            with contextlib.suppress(OSError):
                name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
                if name.startswith("CPU ") and rest.split()[0] == "R":
                    return True
    return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _tail(path: Path, start: int) -> str:
    size = _size(path)
    if not size:
        return ""
    with path.open("rb") as file:
        file.seek(max(start, size - _TAIL))
        return file.read(_TAIL).decode("utf-8", "replace")
