"""Proof of boot: the converted disks started in QEMU on the hardware that the manifest names.  Standard library only, no
Django; a process of its own, `python -m conversions.boot BOOTDIR`, like the agent.

    bootdir.py      the folder of one trial: what stands in it and who writes it
    hardware.py     the manifest's hardware as a Trial: machine, firmware, buses, network cards, processors, memory
    qemu.py         QEMU's command line for a Trial; where the firmware is
    shut_in.py      that command line in the sandbox: disks read-only, no network, limits
    monitor.py      QEMU's monitor: pictures, events
    screen.py       pictures: compared, looked at, written as PNG
    verdict.py      what was seen, in words; what to try next
    trial.py        the loop: start, look, judge, end
"""
