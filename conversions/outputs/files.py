"""Output "files": a folder per conversion with the disks and virt-v2v's YAML, to take away."""

from pathlib import Path

from django import forms

from ..plan import Plan
from .base import Output


class FilesForm(forms.Form):
    format = forms.ChoiceField(
        label="Disk format",
        choices=[("raw", "raw (what KubeVirt reads)"), ("qcow2", "qcow2 (smaller to carry around)")],
        initial="raw",
        required=False,
    )
    allocation = forms.ChoiceField(
        label="Disk space",
        choices=[
            ("sparse", "Only what the guest uses"),
            ("preallocated", "The whole size of the disks, reserved at once"),
        ],
        initial="sparse",
        required=False,
        help_text="Reserving it all is slower now and a little faster when the guest runs.",
    )

    def clean_format(self) -> str:
        return self.cleaned_data["format"] or "raw"

    def clean_allocation(self) -> str:
        return self.cleaned_data["allocation"] or "sparse"


class FilesOutput(Output):
    kind = "files"
    label = "Files to download"
    help = "Puts the converted disks and the YAML of the machine into a folder on this server, for you to download."
    form_class = FilesForm

    def output_args(self, plan: Plan, folder: Path) -> list[str]:
        settings = plan.output.settings
        # All of -of and -oa is said, so that no default of one version or another decides.
        return [
            *("-o", "kubevirt", "-os", str(folder), "-on", plan.name),
            *("-of", settings.get("format", "raw"), "-oa", settings.get("allocation", "sparse")),
        ]

    def space_needed(self, plan: Plan) -> int | None:
        """Preallocated: all of it.  Sparse: what the source uses where that is known, and never more than all of it."""
        preallocated = plan.output.settings.get("allocation") == "preallocated"
        total = 0
        for disk in plan.guest.disks:
            if disk.size is None:
                return None
            used = disk.size if preallocated or disk.allocated is None else min(disk.allocated, disk.size)
            total += used
        return total if plan.guest.disks else None
