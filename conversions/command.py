"""From a plan to the exact virt-v2v command.  Pure: no file is touched, no program is run."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from . import addresses
from .outputs import get_output
from .plan import Plan
from .sources import get_source


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    env: dict[str, str]  #: only what this plan needs; LC_ALL, TMPDIR and the like are the agent's

    def display(self) -> str:
        """For the review page: what a person could paste into a shell.  Secrets are files, so nothing is left out."""
        return shlex.join(self.argv)


def build_command(plan: Plan, *, output_dir: Path, secrets_dir: Path, virt_v2v: str = "virt-v2v") -> Command:
    """The call as virt-v2v's manual has it, in its order: input, output, options, "--", guest.

    `secrets_dir` holds the files named in Plan's secrets ("luks-0", ...); it must not have ":" in its path, because
    virt-v2v's --key splits there (2.2: "missing FILENAME, or too many fields").  The agent adds --machine-readable.
    """
    source = get_source(plan.source.kind)
    output = get_output(plan.output.kind)
    return Command(
        argv=(
            virt_v2v,
            *source.input_args(plan, secrets_dir),
            *output.output_args(plan, output_dir),
            *_option_args(plan, secrets_dir),
            # Whatever a guest or file is called: nothing after this is read as an option.
            "--",
            *source.guest_args(plan),
        ),
        env={},
    )


def _option_args(plan: Plan, secrets_dir: Path) -> list[str]:
    # Without --root virt-v2v asks on a terminal when it finds two operating systems, and waits for ever.
    args = ["--root", plan.options.root]
    for number, ids in enumerate(plan.options.luks_ids):
        # Several keys for one id are tried in turn.  --key all: came with 2.4, so every id is named.
        for id in ids:
            args += ["--key", f"{id}:file:{secrets_dir / f'luks-{number}'}"]
    for id in plan.options.clevis:
        args += ["--key", f"{id}:clevis"]
    return args + addresses.args(plan)
