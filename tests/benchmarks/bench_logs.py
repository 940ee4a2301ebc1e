"""A thousand viewers of one log at 50 lines a second, and viewers that stop reading (viewers.py takes other numbers)."""

import sys

from tests.benchmarks.viewers import main

if __name__ == "__main__":
    print("limits: no line lost, p99 0.35 s, 0.5 cores, no memory for who does not read")
    main(sys.argv[1:])
