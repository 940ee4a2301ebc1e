"""Source "esxi": a guest of one VMware ESXi host, over HTTPS, VDDK, or SSH alone where HTTPS is closed."""

import re
from pathlib import Path
from typing import Any

from ..models import SavedSource
from ..plan import Plan
from ..servers import libvirt_uri
from .remote import RemoteSource, tls_pins, vmware_args
from .ssh_files import ssh_files

_DATASTORE_PATH = re.compile(r"\[([^\]]+)\] (.+)")


class EsxiSource(RemoteSource):
    kind = "esxi"
    label = "VMware ESXi host"
    help = "Machines of a single ESXi host that no vCenter manages."

    def input_args(self, plan: Plan, secrets: Path) -> list[str]:
        settings = plan.source.settings
        if settings["transport"] == "ssh":
            return ["-i", "vmx", "-it", "ssh"]
        uri = libvirt_uri.esx(settings["user"], settings["host"], settings["port"], verify=settings["verify"])
        return vmware_args(uri, settings, secrets)

    def guest_args(self, plan: Plan) -> list[str]:
        settings = plan.source.settings
        if settings["transport"] != "ssh":
            return super().guest_args(plan)
        match = _DATASTORE_PATH.fullmatch(settings["vmx"] or "")
        if match is None:
            raise ValueError(f"no datastore path: {settings['vmx']}")
        path = f"/vmfs/volumes/{match[1]}/{match[2]}"
        return [libvirt_uri.vmx_ssh(settings["user"], settings["host"], settings.get("ssh_port"), path)]

    def secrets(self, plan: Plan) -> dict[str, str]:
        if plan.source.settings["transport"] != "ssh":
            return super().secrets(plan)
        # Not a password that is stored for HTTPS: virt-v2v has no need of it here.
        return ssh_files(SavedSource.objects.get(pk=plan.source.settings["source_id"]))

    def pins(self, plan: Plan) -> list[dict[str, Any]]:
        return tls_pins(plan.source.settings)
