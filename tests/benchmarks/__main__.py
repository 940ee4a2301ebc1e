"""Runs the benchmarks named, or all, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
wanted = sys.argv[1:] or names
if unknown := set(wanted) - set(names):
    sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}: {', '.join(names)}")
failed = [
    name for name in wanted if subprocess.run([sys.executable, "-m", f"tests.benchmarks.bench_{name}"]).returncode
]
sys.exit(f"did not finish: {', '.join(failed)}" if failed else 0)
