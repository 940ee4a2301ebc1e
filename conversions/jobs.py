"""Prepares the folder of an attempt: what the agent is to do, and the secrets as files."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from .bucket import planned
from .command import build_command
from .host import space
from .jobdir import Job, JobDir, write_atomically
from .models import Conversion
from .servers import source_work
from .sources import get_source


def prepare(conversion: Conversion, env: Mapping[str, str]) -> None:
    """Writes the attempt's folder; again and again with the same outcome, as long as no agent has begun.

    `env` is what the machine asks for (acceleration).  Raises WrongKeyError when the secrets cannot be read, OSError when
    the folder cannot be written, RefusedError when a file in a bucket is gone.
    """
    jobdir, plan = conversion.jobdir, source_work.where(conversion)
    jobdir.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    conversion.output_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = get_source(plan.source.kind)
    plan, objects, named = planned.placed(plan, jobdir.tmp / "source")
    write_secrets(jobdir, (conversion.secrets or {}) | source.secrets(plan) | planned.addresses(named))
    command = build_command(
        plan, output_dir=conversion.output_dir, secrets_dir=jobdir.secrets, virt_v2v=settings.ENV.virt_v2v
    )
    jobdir.write_job(
        Job(
            id=conversion.pk,
            attempt=conversion.attempt,
            name=plan.name,
            argv=list(command.argv),
            env={**appliance_cache(settings.DATA_DIR), **env, **command.env},
            output_dir=str(conversion.output_dir),
            output_format=str(plan.output.settings.get("format") or "raw"),
            vet=source.vet(plan),
            pins=source.pins(plan),
            space_needed=space.needed(conversion.plan).total,
            objects=objects,
        )
    )


def renew_addresses(conversion: Conversion) -> None:
    """Signs the addresses of files in a bucket anew, for an agent that runs; it reads them for each request.

    They end after a week, or within hours, with the session of the machine's own role.  Raises RefusedError when a file is
    gone.
    """
    _, _, named = planned.placed(source_work.where(conversion), conversion.jobdir.tmp / "source")
    for name, address in planned.addresses(named).items():
        with contextlib.suppress(FileNotFoundError):  # it has ended, and its secrets are gone
            write_atomically(conversion.jobdir.secrets / name, address)


def write_secrets(jobdir: JobDir, secrets: Mapping[str, str]) -> None:
    """One 0600 file each, without a newline at the end: virt-v2v and nbdkit would take it as part of a password."""
    jobdir.secrets.mkdir(mode=0o700, exist_ok=True)
    for name, text in secrets.items():
        if name in ("", ".", "..") or "/" in name:
            raise ValueError(f"a secret cannot be called {name!r}")
        write_atomically(jobdir.secrets / name, text)


def appliance_cache(data_dir: Path) -> dict[str, str]:
    """One appliance for all conversions: building it takes seconds and half a gigabyte each time."""
    if "LIBGUESTFS_CACHEDIR" in os.environ:
        return {}
    folder = data_dir / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"LIBGUESTFS_CACHEDIR": str(folder)}
