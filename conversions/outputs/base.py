"""What every kind of output can do."""

from abc import ABC, abstractmethod
from pathlib import Path

from django import forms

from ..plan import Plan


class Output(ABC):
    kind: str
    label: str
    help: str
    #: Part of the wizard's options step and the API's "output" object.  cleaned_data is Plan.output.settings.
    form_class: type[forms.Form]

    @abstractmethod
    def output_args(self, plan: Plan, folder: Path) -> list[str]:
        """virt-v2v's options for the output: ["-o", "kubevirt", "-os", folder, "-on", name, "-of", "raw", ...]."""

    @abstractmethod
    def space_needed(self, plan: Plan) -> int | None:
        """Bytes that the disks may take in the output folder; None when nobody knows."""
