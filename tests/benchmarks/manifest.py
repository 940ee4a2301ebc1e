"""How long a manifest of 60 disks and 10 network cards takes to make and to check, beside what it may take.

python -m tests.benchmarks.manifest [--rounds 30]

With V2VWEB_KUBEVIRT_SCHEMAS set the check goes through KubeVirt's own schema too.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from conversions.manifest import Target, check, expected, predict, predicted_disks, three_views
from conversions.manifest.walking import openapi
from conversions.plan import Disk, Guest, Nic, Plan, Source

GIB = 1 << 30
MAKE, CHECK = 50.0, 100.0  #: milliseconds that each may take


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args(argv).rounds
    guest = Guest(
        disks=tuple(Disk(name=f"disk{number}.vmdk", size=GIB) for number in range(60)),
        nics=tuple(Nic(mac=f"00:50:56:00:00:{n:02x}", model="vmxnet3", network=f"VM Network {n}") for n in range(10)),
    )
    plan = Plan(name="web01", source=Source(kind="vcenter"), guest=guest)
    target = Target.model_validate({"networks": {"VM Network 0": "pod", "*": "infra/lan"}})
    disks = predicted_disks(plan)
    schemas = Path(os.environ["V2VWEB_KUBEVIRT_SCHEMAS"]) if "V2VWEB_KUBEVIRT_SCHEMAS" in os.environ else None
    for version in ("2.2.0", "2.10.0"):
        text = predict(plan, disks, version)
        views = three_views(text, plan, target, disks)
        _print(f"{version}: three views", MAKE, rounds, lambda text=text: three_views(text, plan, target, disks))
        _print(
            f"{version}: check, our table",
            CHECK,
            rounds,
            lambda views=views: check(views.ours, expected(views, target)),
        )
        if schemas is not None:
            openapi(schemas)
            _print(
                f"{version}: check, KubeVirt's schema too",
                CHECK,
                rounds,
                lambda views=views: check(views.ours, expected(views, target), schemas),
            )


def _print(what: str, most: float, rounds: int, work: Callable[[], object]) -> None:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    median, worst = statistics.median(times), max(times)
    print(
        f"{what:45} median {median:6.1f} ms  worst {worst:6.1f} ms  = {median / most:.2f} of the {most:.0f} ms it may take"
    )


if __name__ == "__main__":
    main()
