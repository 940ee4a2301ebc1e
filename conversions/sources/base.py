"""What every kind of source can do."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from ..plan import Guest, Plan
from ..problems import Problem


@dataclass(frozen=True)
class Finding:
    """What a look at a source told: the guest, and what a person should know before going on."""

    guest: Guest
    concerns: tuple[Problem, ...] = ()  #: warnings; a thing that forbids the conversion is a RefusedError instead
    #: "luks": UUIDs of encrypted partitions; "settings": what goes into Plan.source.settings beside the form's own
    facts: dict[str, Any] = field(default_factory=dict)


class FormProblem(ValidationError):
    """A form's error that knows its Problem, so that wizard, API and command line can all say what to do next."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.text} {problem.action}".strip(), code=problem.code)
        self.problem = problem


class Source(ABC):
    kind: str
    label: str  #: "Disk image on the server"
    help: str  #: one sentence for somebody who has never seen virt-v2v
    is_saved = False  #: whether guests are chosen from a saved source's inventory (models.SavedSource)
    #: The fields of the wizard's first step and of the API's "source" object.  cleaned_data is Plan.source.settings.
    form_class: type[forms.Form]

    @abstractmethod
    def look(self, settings: dict[str, Any]) -> Finding:
        """Looks at the source (up to some seconds).  Raises RefusedError with what is wrong and what helps."""

    @abstractmethod
    def input_args(self, plan: Plan, secrets: Path) -> list[str]:
        """virt-v2v's options for the input, without the guest: ["-i", "disk", "-if", "raw"]."""

    @abstractmethod
    def guest_args(self, plan: Plan) -> list[str]:
        """What stands after "--": file names or the guest's name."""

    def vet(self, plan: Plan) -> list[dict[str, Any]]:
        """What the agent is to vet before virt-v2v sees it: Job.vet of jobdir.py."""
        return []

    def secrets(self, plan: Plan) -> dict[str, str]:
        """Secret files beside the conversion's own, read anew for each attempt: {"password": ...}."""
        return {}

    def pins(self, plan: Plan) -> list[dict[str, Any]]:
        """What the agent checks in the instant before virt-v2v starts: Job.pins of jobdir.py."""
        return []

    def scratch_needed(self, plan: Plan) -> int:
        """Bytes needed in the temporary folder beside the output, as for an OVA that must be unpacked."""
        return 0
