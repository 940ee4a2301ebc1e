"""What benchmarks share: percentiles, CPU time and memory of a process, one line of result each."""

import os
from collections.abc import Sequence
from pathlib import Path


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """What a process holds of its own: resident, without files that it only maps."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / 1024


def memory_free() -> int:
    """Bytes that the kernel would give to programs."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def report(what: str, value: float, unit: str, limit: float | None = None) -> None:
    """One line: what, how much, the limit that we set ourselves and the ratio to it (below 1 is good)."""
    against = f"   limit {limit:g} {unit}, ratio {value / limit:.2f}" if limit else ""
    print(f"{what:<62} {value:9.3f} {unit}{against}", flush=True)
