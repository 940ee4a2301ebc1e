"""Watches how much space conversions take below their own folders while they run."""

import contextlib
import threading
from collections import Counter
from pathlib import Path


class Scratch:
    """Within `with`, looks several times a second at what lies below `folder`/CONVERSION/ATTEMPT/tmp.

    Files that were unlinked while a program has them open (nbdkit's overlays and caches) are no part of any listing; they are
    found through their descriptors and count for the program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: Counter[str] = Counter()  #: bytes that each file took at most
        self.unlinked: Counter[str] = Counter()  #: the same for unlinked ones, by their whole former path
        self.most = 0  #: bytes at most at one time, of all together
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Scratch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, self._listed() + self._open())

    def _listed(self) -> int:
        total = 0
        for path in self.folder.glob("*/*/tmp/**/*"):
            with contextlib.suppress(OSError):
                if any(part.startswith("supermin") for part in path.parts):
                    continue  # the appliance, built once for all conversions
                if path.is_file() and not path.is_symlink() and not path.is_mount():
                    taken = path.stat().st_blocks * 512
                    self.names[path.name] = max(taken, self.names[path.name])
                    total += taken
        return total

    def _open(self) -> int:
        found: dict[tuple[int, int], int] = {}
        for fd in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                name = str(fd.readlink())
                if name.startswith(f"{self.folder}/") and name.endswith(" (deleted)"):
                    about = fd.stat()
                    taken = found[about.st_dev, about.st_ino] = about.st_blocks * 512
                    self.unlinked[name] = max(taken, self.unlinked[name])
        return sum(found.values())
