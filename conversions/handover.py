"""Step 6, what KubeVirt gets: our manifest of a conversion, predicted before the start and real after the end."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from v2vweb import __version__

from . import manifest
from .host import capabilities
from .manifest import Expected, Mistake, Origin, Target, Views
from .models import Conversion, Event
from .plan import Plan
from .problems import Problem, RefusedError
from .results import artifact
from .states import State

#: The log's lines that matter stand before the copying; nobody's log has more than this before it.
_LOG_AT_MOST = 4 * 1024 * 1024
_YAML_AT_MOST = 1024 * 1024


def predicted(plan: Plan) -> Views:
    """What is going to come out, as far as it is known.  Raises RefusedError when nobody can tell yet."""
    disks = manifest.predicted_disks(plan, str(plan.output.settings.get("format") or "raw"))
    version = _version(capabilities.capabilities())
    text = manifest.predict(plan, disks, version)
    said = manifest.Said(firmware=plan.guest.firmware, virtio=True, version=version)
    return manifest.three_views(text, plan, target_of(plan), disks, said, Origin(None, version, __version__))


def real(conversion: Conversion, target: Target | None = None) -> Views:
    """What came out, for the plan's target or another one.  Raises RefusedError when there is no result, or one that
    cannot be understood."""
    if conversion.state != State.SUCCEEDED:
        raise RefusedError(
            Problem(
                "no-result-yet",
                "There is no result yet",
                "The manifest is made from what virt-v2v wrote, and it has not finished.",
                "Wait for the end of the conversion.",
            ),
            status=409,
        )
    plan = conversion.plan
    path = artifact(conversion, f"{plan.name}.yaml")
    text = path.read_bytes()[: _YAML_AT_MOST + 1]
    disks = manifest.disk_files(path.parent, plan.name, str(plan.output.settings.get("format") or "raw"))
    said = manifest.said(_log(conversion.jobdir.log), text.decode("utf-8", "replace"))
    origin = Origin(str(conversion.pk), said.version, __version__)
    return manifest.three_views(text, plan, target or target_of(plan), disks, said, origin)


def target_of(plan: Plan) -> Target:
    return Target.from_settings(plan.output.settings)


def current(conversion: Conversion, views: Views | None = None) -> str:
    """The manifest that leaves v2vweb: the edited one, or ours."""
    if conversion.edited_manifest:
        return str(conversion.edited_manifest["text"])
    return (views or real(conversion)).ours


def mistakes(conversion: Conversion, text: str) -> list[Mistake]:
    """What is wrong with an edit, and what is to be confirmed, each with its line."""
    return manifest.check(text, _expected(conversion), schemas())


def save(conversion: Conversion, text: str, by: Any, accept: frozenset[str] = frozenset()) -> None:
    """Keeps an edit.  Raises RefusedError with the line for a mistake, or for a question that is not in `accept`."""
    text = text.replace("\r\n", "\n")
    manifest.checked(text, _expected(conversion), accept, schemas())
    _store(conversion, {"text": text, "by": by.get_username(), "at": timezone.now().isoformat()}, by, "edited")


def reset(conversion: Conversion, by: Any) -> None:
    """Back to what v2vweb made."""
    _store(conversion, None, by, "as v2vweb made it")


def _store(conversion: Conversion, edited: dict[str, str] | None, by: Any, what: str) -> None:
    Conversion.objects.filter(pk=conversion.pk, attempt=conversion.attempt).update(
        edited_manifest=edited, updated=timezone.now()
    )
    conversion.edited_manifest = edited
    Event.objects.create(
        conversion=conversion,
        attempt=conversion.attempt,
        type="manifest",
        data={"what": what},
        actor=by.get_username(),
    )


def bundle(conversion: Conversion) -> bytes:
    """A tar with the manifest and a script that puts disks and machine into a cluster by hand."""
    views = real(conversion)
    disks = _disks(conversion)
    return manifest.bundle(current(conversion, views), disks, views.claims)


def _disks(conversion: Conversion) -> tuple[manifest.DiskFile, ...]:
    plan = conversion.plan
    return manifest.disk_files(conversion.output_dir, plan.name, str(plan.output.settings.get("format") or "raw"))


def _expected(conversion: Conversion) -> Expected:
    return manifest.expected(real(conversion), target_of(conversion.plan))


def schemas() -> Path | None:
    """KubeVirt's own OpenAPI documents, when the site has them: edits are then held against those too."""
    folder: Path | None = settings.ENV.kubevirt_schemas
    return folder if folder and folder.is_dir() else None


def changes(views: Views) -> list[dict[str, Any]]:
    """The difference for the API."""
    return [asdict(change) for change in views.changes]


def _log(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LOG_AT_MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def _version(found: Any) -> str | None:
    return ".".join(map(str, found.version)) if found.version else None
