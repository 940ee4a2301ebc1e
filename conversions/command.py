"""From a plan to the exact virt-v2v command.  Pure: no file is touched, no program is run."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from .plan import Plan


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    env: dict[str, str]

    def display(self) -> str:
        """For the review page: what a person could paste into a shell.  Secrets are files, so nothing is left out."""
        return shlex.join(self.argv)


def build_command(plan: Plan, *, output_dir: Path, secrets_dir: Path, virt_v2v: str = "virt-v2v") -> Command:
    raise NotImplementedError
