#!/usr/bin/env python3
"""Copies what pages load from npm's packages into static_vendor/, and collects all static files for serving.

    python setup/assets.py           does nothing when nothing changed since the last time

PatternFly's package is 38 MB and tus-js-client's has test bundles: only what is named here is taken.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = PROJECT / "node_modules"
VENDOR = PROJECT / "static_vendor"
COLLECTED = PROJECT / "static_collected"

#: file of a package -> where it goes.  Source maps too: the manifest storage fails on a map that is named and missing.
FILES = {
    "@patternfly/patternfly/patternfly.min.css": "patternfly/patternfly.min.css",
    "@patternfly/patternfly/patternfly.min.css.map": "patternfly/patternfly.min.css.map",
    "tus-js-client/dist/tus.min.js": "tus/tus.min.js",
    "tus-js-client/dist/tus.min.js.map": "tus/tus.min.js.map",
}
#: style sheets whose url(...) are taken as well: fonts and pictures
STYLES = ("@patternfly/patternfly/patternfly.min.css",)


def wanted() -> Iterator[tuple[Path, Path]]:
    """Yields (from, to) for each file."""
    for source, target in FILES.items():
        yield PACKAGES / source, VENDOR / target
        if source in STYLES:
            text = (PACKAGES / source).read_text(encoding="utf-8")
            for name in sorted(set(re.findall(r'url\("?(?:\./)?(assets/[^)"]+)"?\)', text))):
                yield (PACKAGES / source).parent / name, (VENDOR / target).parent / name


def fingerprint() -> str:
    """Of everything that the collected files come from: our own, the npm lock, the Python lock, the settings."""
    digest = hashlib.sha256(str(PROJECT).encode())
    own = [path for path in sorted((PROJECT / "static").rglob("*")) if path.is_file()]
    fixed = [
        PROJECT / name
        for name in ("package-lock.json", "setup/requirements.lock", "v2vweb/settings.py", "setup/assets.py")
    ]
    for path in [*own, *fixed]:
        digest.update(f"\0{path.relative_to(PROJECT)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    COLLECTED.mkdir(exist_ok=True)
    stamp = COLLECTED / ".stamp"
    with (COLLECTED / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests and a start may come here at once
        now = fingerprint()
        if stamp.exists() and stamp.read_text() == now:
            return 0
        for source, target in wanted():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        # Without --clear: a page that somebody has open still finds the files of the version before.
        with tempfile.TemporaryDirectory() as nothing:  # files alone are needed, no settings and no data
            done = subprocess.run(
                [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity", "0"],
                cwd=PROJECT,
                env={"PATH": os.environ["PATH"], "V2VWEB_DATA_DIR": nothing},
            )
        if done.returncode == 0:
            stamp.write_text(now)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
