"""Source "xen": a guest of a Xen host over SSH, by libvirt's xen+ssh."""

from pathlib import Path

from ..models import SavedSource
from ..plan import Plan
from ..servers import libvirt_uri
from .remote import RemoteSource
from .ssh_files import ssh_files


class XenSource(RemoteSource):
    kind = "xen"
    label = "Xen host over SSH"
    help = "Machines of a Xen host that is reached with an SSH key."

    def input_args(self, plan: Plan, secrets: Path) -> list[str]:
        settings = plan.source.settings
        # The key comes from the attempt's own ssh-agent: -ip covers the disk's way only, not libvirt's (virt-v2v(1)).
        uri = libvirt_uri.xen_ssh(
            settings["user"], settings["host"], settings["port"], settings.get("libvirt_name", "")
        )
        return ["-ic", uri]

    def secrets(self, plan: Plan) -> dict[str, str]:
        saved = SavedSource.objects.get(pk=plan.source.settings["source_id"])
        return ssh_files(saved)
