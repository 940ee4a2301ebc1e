"""Whether libguestfs's appliance runs with KVM here: measured once, because /dev/kvm may be there and hang.

The answer is kept in the data folder until the machine is started again or one of the programs changes.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..agent import processes
from ..jobdir import write_atomically

LIMIT = 60.0  #: seconds an appliance may take to start; with working KVM it takes three to five
_SETTINGS = "LIBGUESTFS_BACKEND_SETTINGS"


@dataclass(frozen=True)
class Acceleration:
    """How appliances run; `text` is for people."""

    mode: Literal["kvm", "tcg", "environment"]
    text: str
    seconds: float | None = None  #: that the appliance took to start, when that was measured

    @property
    def env(self) -> dict[str, str]:
        """What virt-v2v is given.  "direct": without libvirt in between, which would run qemu as somebody else."""
        if self.mode == "environment":
            return {}
        forced = {_SETTINGS: "force_tcg"} if self.mode == "tcg" else {}
        return {"LIBGUESTFS_BACKEND": "direct"} | forced


class Probe:
    """Finds out without holding up anybody: poll() answers None until it knows."""

    def __init__(
        self,
        data_dir: Path,
        setting: Literal["auto", "kvm", "tcg"] = "auto",
        *,
        environ: Mapping[str, str] = os.environ,
        device: Path = Path("/dev/kvm"),
        program: str = "guestfish",
        limit: float = LIMIT,
    ) -> None:
        self._cache = data_dir / "acceleration.json"
        self._cache_dir, self._tmp = data_dir / "cache", data_dir / "cache" / "tmp"
        self._environ, self._program, self._limit = environ, program, limit
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._answer = self._without_measuring(setting, device)

    def _without_measuring(self, setting: str, device: Path) -> Acceleration | None:
        if setting == "kvm":
            return Acceleration("kvm", "KVM, as V2VWEB_ACCELERATION says.")
        if setting == "tcg":
            return Acceleration("tcg", "Emulation (slower), as V2VWEB_ACCELERATION says.")
        if _SETTINGS in self._environ:
            return Acceleration("environment", f"As {_SETTINGS}={self._environ[_SETTINGS]} says.")
        if not os.access(device, os.R_OK | os.W_OK):
            return Acceleration("tcg", f"Emulation (slower): {device} is missing or may not be used by v2vweb.")
        return self._remembered()

    def poll(self) -> Acceleration | None:
        """The answer, or None while it is being measured."""
        if self._answer is None:
            self._answer = self._measure()
        return self._answer

    def stop(self) -> None:
        """Ends a measurement that is under way."""
        if self._process:
            sockets = processes.socket_folders(processes.descendants(self._process.pid))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            for folder in (self._tmp, *sockets):  # what libguestfs leaves when it is killed
                shutil.rmtree(folder, ignore_errors=True)

    def _measure(self) -> Acceleration | None:
        if self._process is None:
            for folder in (self._cache_dir, self._tmp):
                folder.mkdir(mode=0o700, exist_ok=True)
            env = {
                **self._environ,
                "LC_ALL": "C",
                "LIBGUESTFS_BACKEND": "direct",
                "LIBGUESTFS_CACHEDIR": str(self._cache_dir),
                "TMPDIR": str(self._tmp),
            }
            try:
                self._process = subprocess.Popen(
                    [self._program, "-a", "/dev/null", "run"],
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                return Acceleration("tcg", f"Emulation (slower): {self._program} is missing, so KVM was not measured.")
            self._began = time.monotonic()
        code, seconds = self._process.poll(), round(time.monotonic() - self._began, 1)
        if code is None and seconds < self._limit:
            return None
        self.stop()  # what it has started goes with it
        if code == 0:
            return self._remember(Acceleration("kvm", f"KVM: the appliance started in {seconds:.0f} s.", seconds))
        how = "failed with KVM" if code is not None else f"did not start with KVM within {self._limit:.0f} s"
        return self._remember(Acceleration("tcg", f"Emulation (slower): the appliance {how}.", seconds))

    def _key(self) -> str:
        """Changes when the answer might: another boot, kernel or program."""
        boot = ""
        with contextlib.suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        programs = []
        for name in (self._program, f"qemu-system-{platform.machine()}", "supermin"):
            path = shutil.which(name, path=self._environ.get("PATH"))
            programs.append(f"{path}:{Path(path).stat().st_mtime_ns}" if path else "")
        return "|".join([boot, platform.release(), *programs])

    def _remember(self, answer: Acceleration) -> Acceleration:
        with contextlib.suppress(OSError):
            write_atomically(self._cache, json.dumps({"key": self._key(), "answer": asdict(answer)}))
        return answer

    def _remembered(self) -> Acceleration | None:
        try:
            kept = json.loads(self._cache.read_text())
            return Acceleration(**kept["answer"]) if kept["key"] == self._key() else None
        except (OSError, ValueError, TypeError, KeyError):
            return None
