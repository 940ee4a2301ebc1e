"""A conversion through v2vweb against bare virt-v2v, on the lab's guest, taken in turns.

    python -m tests.benchmarks.bench_conversion [PAIRS]        about two minutes a pair under software emulation

What a person waits for is measured: from the request to "succeeded", with checking, queue and clearing up.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import report
from tests.running import CACHE, Site

APPLIANCE = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg", "LC_ALL": "C"}


def bare(guest: Path) -> float:
    with tempfile.TemporaryDirectory(prefix="v2v-bench-") as folder:
        command = ["virt-v2v", "-i", "disk", "-if", "raw", "-o", "kubevirt", "-os", folder, "-on", "web01"]
        command += ["-of", "raw", "-oa", "sparse", "--root", "first", "--", str(guest)]
        start = time.monotonic()
        subprocess.run(command, env=os.environ | APPLIANCE | {"TMPDIR": folder}, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start


def ask(site: Site, token: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{site.url}/api/v1/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def through_v2vweb(site: Site, token: str, guest: Path) -> float:
    body = {
        "name": "web01",
        "source": {"kind": "disk", "paths": [str(guest)]},
        "output": {"kind": "files", "format": "raw"},
    }
    start = time.monotonic()
    pk = ask(site, token, "conversions", body)["id"]
    while (now := ask(site, token, f"conversions/{pk}"))["state"] in ("queued", "running"):
        time.sleep(0.2)
    took = time.monotonic() - start
    if now["state"] != "succeeded":
        sys.exit(f"the conversion ended as {now['state']}: {now['error']}")
    shutil.rmtree(site.data_dir / "output")
    return took


def main(pairs: int) -> None:
    image = CACHE / "guest.img"
    if not image.exists():
        sys.exit(f"there is no {image}: `make test` makes it")
    # One appliance for both, made before: each run would build its own otherwise, which takes seconds.
    os.environ["LIBGUESTFS_CACHEDIR"] = str(CACHE / "appliance")
    (CACHE / "appliance").mkdir(exist_ok=True)
    subprocess.run(["guestfish", "-a", "/dev/null", "run"], env=os.environ | APPLIANCE, check=True)
    site = Site()
    guest = site.source_root / "guest.img"
    subprocess.run(["cp", "--sparse=always", image, guest], check=True)
    site.start()
    try:
        token = site.manage("token", "admin").strip()
        ratios = []
        for number in range(1, pairs + 1):
            alone, ours = bare(guest), through_v2vweb(site, token, guest)
            ratios.append(ours / alone)
            print(f"pair {number}: virt-v2v {alone:.1f} s, v2vweb {ours:.1f} s, ratio {ours / alone:.3f}", flush=True)
        report("conversion through v2vweb / bare virt-v2v (median)", statistics.median(ratios), "", 1.02)
    finally:
        site.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
