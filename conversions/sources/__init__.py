"""The kinds of source, by name.  A new kind is one module here and one line below."""

from importlib import import_module

from .base import Source

SOURCES = {
    "disk": "conversions.sources.disk.DiskSource",
    "ova": "conversions.sources.ova.OvaSource",
    "vcenter": "conversions.sources.vcenter.VcenterSource",
    "esxi": "conversions.sources.esxi.EsxiSource",
    "xen": "conversions.sources.xen.XenSource",
}


def get_source(kind: str) -> Source:
    """The source of a kind; KeyError for an unknown one."""
    module, _, name = SOURCES[kind].rpartition(".")
    source: Source = getattr(import_module(module), name)()
    return source
