"""Source "vcenter": a guest of a VMware vCenter, over HTTPS or VDDK."""

from pathlib import Path
from typing import Any

from ..plan import Plan
from ..servers import libvirt_uri
from .remote import RemoteSource, tls_pins, vmware_args


class VcenterSource(RemoteSource):
    kind = "vcenter"
    label = "VMware vCenter"
    help = "Machines that a vCenter manages: choose one or many from its list."

    def input_args(self, plan: Plan, secrets: Path) -> list[str]:
        settings = plan.source.settings
        uri = libvirt_uri.vpx(
            settings["user"], settings["host"], settings["port"], settings["host_path"], verify=settings["verify"]
        )
        return vmware_args(uri, settings, secrets)

    def pins(self, plan: Plan) -> list[dict[str, Any]]:
        return tls_pins(plan.source.settings)
