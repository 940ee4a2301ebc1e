"""OVAs, read and never trusted: what they hold, what they describe, and how virt-v2v is shown the odd ones.

    tar.py, packed.py     the archive piece by piece, as it arrives: tar, tar.gz, zip
    ovf.py, digests.py    what it describes: the guest in XML, and the checksums of its files
    ova.py                all of that together
    unpacking.py          its disks, one after the other, for vetting
    ova_view.py           an odd OVA as virt-v2v would like it, without copying a disk

Standard library only but for the OVF's XML: the agent uses it.
"""
