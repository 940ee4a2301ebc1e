#!/usr/bin/env python3
"""Stands in for virt-v2v: replays a recorded transcript, makes the files virt-v2v would make, ends as it is told.

Called as: virt_v2v_standin.py SCRIPT.json [virt-v2v's arguments].  SCRIPT.json may say:

    transcript   a recording, see tests/data/transcripts; null: says nothing
    speed        seconds of the recording played in one second (default 1000); 0: no waiting at all
    until        stops replaying before the first text that holds this
    say          more lines on stderr after that
    disks        names of disks to make (["sda"]); size and data: their length and how much of it is written, in bytes
    yaml         whether to write the YAML (true)
    copy         seconds a copy takes; told to the agent as our nbdcopy would (null: no copying is told)
    hang         seconds to wait after that
    daemon       seconds that a grandchild goes on, having left for a session of its own and holding the output open
    deaf         SIGTERM is not heard
    signal       ends itself with this signal
    exit         the exit code
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def replay(path: str, speed: float, until: str | None, folder: str, machine: int | None) -> None:
    began = time.monotonic()
    for line in Path(path).read_text().splitlines():
        said = json.loads(line)
        if until and until in said["data"]:
            return
        if speed:
            time.sleep(max(0.0, said["at"] / speed - (time.monotonic() - began)))
        data = said["data"].replace("/out", folder).encode()
        if said["stream"] == "out":
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        elif machine is not None:
            os.write(machine, data)


def copy(size: int, seconds: float) -> None:
    pipe = os.environ.get("V2VWEB_COPY_PIPE")
    if not pipe:
        return
    out = os.open(pipe, os.O_WRONLY)
    os.write(out, json.dumps({"type": "disk", "size": size, "bytes_total": size}).encode() + b"\n")
    steps = max(1, int(seconds / 0.25))
    for step in range(steps + 1):
        done, rate = size * step // steps, int(size / max(seconds, 0.001))
        told = {"type": "progress", "bytes_done": done, "bytes_total": size, "rate": rate}
        os.write(out, json.dumps(told).encode() + b"\n")
        if step < steps:
            time.sleep(seconds / steps)


def main() -> int:
    script = json.loads(Path(sys.argv[1]).read_text())
    arguments = sys.argv[2:]
    if arguments == ["--version"]:
        print("virt-v2v 2.2.0 (stand-in)")
        return 0
    if arguments == ["--machine-readable"]:
        print("virt-v2v\nvirt-v2v-2.0\nio/oo\noutput:kubevirt")
        return 0
    if script.get("calls"):  # a file that counts the starts
        with Path(script["calls"]).open("a") as file:
            file.write(f"{os.getpid()} {json.dumps(arguments)}\n")
    if script.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(
            signal.SIGTERM, lambda *_: (print("virt-v2v: Exiting on signal SIGTERM", file=sys.stderr), os._exit(1))
        )
    folder, name = option(arguments, "-os"), option(arguments, "-on")
    found = re.search(r"--machine-readable=fd:(\d+)", " ".join(arguments))
    if script.get("transcript"):
        machine = int(found[1]) if found else None
        replay(script["transcript"], script.get("speed", 1000), script.get("until"), folder, machine)
    for line in script.get("say", []):
        print(line, file=sys.stderr, flush=True)
    if script.get("daemon"):
        code = "import os, sys, time; os.setsid(); os.fork() and os._exit(0); time.sleep(float(sys.argv[1]))"
        subprocess.Popen([sys.executable, "-c", code, str(script["daemon"])]).wait()
    size = script.get("size", 2**20)
    for disk in script.get("disks", ["sda"]):
        with Path(folder, f"{name}-{disk}").open("wb") as file:
            file.truncate(size)
            file.write(b"v" * min(size, script.get("data", 4096)))
        if script.get("copy") is not None:
            copy(size, script["copy"])
    if script.get("yaml", True):
        Path(folder, f"{name}.yaml").write_text(
            "---\n# written by a stand-in for virt-v2v\nkind: VirtualMachineInstance\n"
        )
    time.sleep(script.get("hang", 0))
    if script.get("signal"):
        signal.signal(script["signal"], signal.SIG_DFL) if script["signal"] != signal.SIGKILL else None
        os.kill(os.getpid(), script["signal"])
    return int(script.get("exit", 0))


if __name__ == "__main__":
    sys.exit(main())
