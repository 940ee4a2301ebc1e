"""OVAs, read and never trusted: what they hold, what they describe, and how virt-v2v is shown the odd ones.

    tar.py, packed.py       the archive piece by piece, as it arrives: tar, tar.gz, zip
    ovf.py                  what it describes: the guest in XML (ovf_xml.py), with its disks (ovf_disks.py)
    digests.py              the checksums of its files
    ova_reader.py, ova.py   all of that together: while it arrives, and of a whole file or folder
    walking.py              its members' bytes, however it is packed
    unpacking.py            its disks, one after the other, for vetting
    ova_view.py             an odd OVA as virt-v2v would like it, without copying a disk

Standard library only but for the OVF's XML: the agent uses it.
"""
