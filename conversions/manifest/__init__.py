"""From virt-v2v's YAML to a VirtualMachine that KubeVirt accepts.  No database, no cluster, no Django.

reading.py    any YAML, hostile or not, to nodes that know their line
hints.py      which of virt-v2v's files it is, and what its log said about the guest
target.py     what the person chose: namespace, networks, storage, start, ...
work.py       the object being made, with a note for each thing that was changed and why
repairs.py    REPAIRS: what virt-v2v writes and KubeVirt refuses, put right, one small function each
filling.py    FILLINGS: what virt-v2v leaves out and the source or the person said
networks.py   both of these for network cards;  disks.py and claims.py for disks
writing.py    objects to YAML, remembering which line came from where
views.py      virt-v2v's file and ours, made by all of the above
difference.py each line of the one beside its line in the other, with the reason where they differ
predict.py    what virt-v2v is going to write, before it has
fields.py     the fields that KubeVirt knows;  walking.py holds an object against them
machine.py    a VirtualMachine as it was read;  rules.py and network_rules.py: what KubeVirt refuses although its schema
              does not say so
checking.py   an edited file: every mistake with its line
bundle.py     a tar with a script that puts disks and objects into a cluster by hand
"""

from .bundle import bundle
from .checking import Expected, check, checked
from .claims import DiskFile, disk_files, predicted_disks
from .difference import Row
from .hints import Said, said
from .machine import Mistake
from .predict import predict
from .target import Target
from .views import Change, Views, expected, three_views
from .work import Origin

__all__ = [
    "Change",
    "DiskFile",
    "Expected",
    "Mistake",
    "Origin",
    "Row",
    "Said",
    "Target",
    "Views",
    "bundle",
    "check",
    "checked",
    "disk_files",
    "expected",
    "predict",
    "predicted_disks",
    "said",
    "three_views",
]
