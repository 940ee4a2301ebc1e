"""Disk images, hostile until looked at.

    peek.py       what the first bytes tell: the format
    partitions.py what is on the disk
    images.py     what an image's headers say: whatever names another file is refused before any program opens it
    vetting.py    both looks, ours and qemu-img's, before virt-v2v
    sandbox.py    bubblewrap around a program that reads a hostile file

Standard library only: the agent uses it.
"""
