"""From what somebody asked for to a frozen Plan and a Conversion: the one way in, for wizard, API and command line."""

from pathlib import Path
from typing import Any, NamedTuple

from django import forms
from django.conf import settings
from django.db import transaction

from . import addresses, names, plan
from .bucket import planned
from .command import Command, build_command
from .host import space
from .manifest import Target
from .models import Conversion, Draft, Event
from .options import OptionsForm, clevis_ids, pair_keys
from .outputs import OUTPUTS, get_output
from .plan import Plan
from .problems import Problem, RefusedError
from .servers import saved_access
from .sources import SOURCES, get_source
from .sources.base import Finding
from .states import ACTIVE, State
from .uploading import uploaded

Secrets = dict[str, str]


class Forms(NamedTuple):
    """The forms of a conversion; their cleaned data is what make_plan() takes."""

    source: type[forms.Form]
    options: type[OptionsForm]
    output: type[forms.Form]


def forms_for(source_kind: str, output_kind: str = "files") -> Forms:
    """Raises RefusedError for a kind that does not exist."""
    _check_kind("source", source_kind)
    _check_kind("output", output_kind)
    return Forms(get_source(source_kind).form_class, OptionsForm, get_output(output_kind).form_class)


def look(source: dict[str, Any], user: Any) -> Finding:
    """What is found at a source, some seconds later.  Raises RefusedError with field "source..."."""
    _check_user(user)
    asked = _source(source)
    uploaded.check_use(user, asked.settings)
    saved_access.check_use(user, asked)
    return _look(asked)


def make_plan(
    *,
    name: str,
    source: dict[str, Any],
    options: dict[str, Any],
    output: dict[str, Any],
    user: Any,
    keep_running: bool = False,
) -> tuple[Plan, Secrets]:
    """Validates through the forms of the kinds, looks at the source and freezes the plan.

    source {"kind": "disk", "paths": [...], "format": "" } or {"kind": "ova", "path": ...}; options {"root", "luks_keys":
    [text or {"key", "device"}, ...], "clevis", "clevis_devices", "addresses", "boot_test"}; output {"kind": "files",
    "format": "raw"|"qcow2", "allocation": "sparse"|"preallocated"}.  "allocation" may also stand in options.
    `keep_running`: the new machine is started when the guest runs now, and not when it does not.  Raises RefusedError (with
    field) for whatever is wrong.
    """
    _check_user(user)
    name = names.check(name)
    output, options = _objects(output=output, options=options)
    if "allocation" in options:
        output = {"allocation": options["allocation"], **output}
        options = {key: value for key, value in options.items() if key != "allocation"}
    planned_output = _output(dict(output))
    cleaned = _clean(OptionsForm, options, "options")
    planned_source = _source(source)
    uploaded.check_use(user, planned_source.settings)
    saved_access.check_use(user, planned_source)
    finding = _look(planned_source)
    if keep_running:
        planned_output = _output({**output, "start": _runs(finding)})
    # What the look settled beside what the form said: where the disks of an OVA are, for example.
    planned_source = plan.Source(
        kind=planned_source.kind, settings=planned_source.settings | finding.facts.get("settings", {})
    )
    found = finding.facts.get("luks", [])
    ids = pair_keys(cleaned["luks_keys"], found)
    made = Plan(
        name=name,
        source=planned_source,
        guest=finding.guest,
        options=plan.Options(
            root=cleaned["root"],
            luks_keys=len(ids),
            luks_ids=ids,
            clevis=clevis_ids(cleaned["clevis"], cleaned["clevis_devices"], found),
            addresses=addresses.resolve(cleaned["addresses"], finding.guest),
            boot_test=cleaned["boot_test"],
        ),
        output=planned_output,
    )
    _check_key_folder(made)
    return made, {f"luks-{number}": key.key for number, key in enumerate(cleaned["luks_keys"])}


def _runs(finding: Finding) -> bool:
    if "power" not in finding.facts:
        raise _refuse(
            "keep-running-nowhere",
            "Whether it runs now?",
            "“keep_running” is about guests of a saved source; a file does not run.",
            "Leave it out, and say with output.start whether the new machine is to start.",
            "keep_running",
        )
    return bool(finding.facts["power"] == "on")


def preview(made: Plan) -> Command:
    """The command for the review page, before there is a number: the folders are the future ones but for that."""
    jobs, output = settings.DATA_DIR / "jobs" / "NUMBER" / "1", settings.DATA_DIR / "output"
    made, _, _ = planned.placed(made, jobs / "tmp" / "source")
    return build_command(made, output_dir=output / f"NUMBER-{made.name}", secrets_dir=jobs / "secrets")


def namesakes(made: Plan) -> list[Problem]:
    """A warning when another conversion has made, or is making, a machine of the same name for the same namespace."""
    namespace = made.output.settings.get("namespace")
    rows = Conversion.objects.filter(name=made.name, state__in=[State.QUEUED, *ACTIVE, State.SUCCEEDED])
    for row in rows.defer("secrets").order_by("-id")[:20]:
        if row.plan_json.get("output", {}).get("settings", {}).get("namespace") == namespace:
            where = f"for the namespace {namespace}" if namespace else "without a namespace"
            return [
                Problem(
                    "name-in-use",
                    "Another conversion has this name",
                    f"Conversion {row.pk} is called {made.name} too, {where}. In one namespace a cluster takes only one of them.",
                    "Go back and choose another name or namespace, unless this one is to replace it.",
                )
            ]
    return []


def create_conversion(
    plan: Plan, secrets: Secrets, owner: Any, draft: Draft | None = None, *, by: Any = None
) -> Conversion:
    """Queues a conversion.  With a draft: exactly once, whoever presses Start and however often; then the existing one is
    returned.  `by` is who pressed Start, when that is not the owner: an operator may start what a requester has prepared.
    Raises RefusedError when the plan's space is not there."""
    if draft is not None and (existing := _started(draft)):
        return existing
    space.check(plan)
    try:
        with transaction.atomic():
            conversion = Conversion.objects.create(
                name=plan.name,
                owner=owner,
                plan_json=plan.model_dump(mode="json"),
                source_id=plan.source.settings.get("source_id"),
                secrets=secrets or None,  # type: ignore[misc]  # encrypted text only in the database
            )
            uploaded.note_use(conversion)
            Event.objects.create(
                conversion=conversion,
                attempt=1,
                type="state",
                data={"from": "", "to": State.QUEUED, "why": "created"},
                actor=(by or owner).get_username(),
            )
            # The guard is in the UPDATE: of two who start one draft, one finds it taken and takes its own row back.
            if draft is not None and not Draft.objects.filter(pk=draft.pk, conversion__isnull=True).update(
                conversion=conversion, secrets=None
            ):
                raise _TakenError
    except _TakenError:
        if existing := _started(draft):
            return existing
        raise RefusedError(
            Problem(
                "draft-gone",
                "This plan is not there any more",
                "Somebody has removed this unfinished conversion while you were looking at it. Nothing was started.",
                "Begin a new conversion.",
            ),
            status=409,
        ) from None
    if draft is not None:
        draft.conversion, draft.secrets = conversion, None
    return conversion


class _TakenError(Exception):
    pass


def _started(draft: Draft | None) -> Conversion | None:
    return Conversion.objects.filter(draft=draft).first() if draft is not None else None


def _refuse(code: str, title: str, text: str, action: str, field: str | None, status: int = 422) -> RefusedError:
    return RefusedError(Problem(code, title, text, action), field=field, status=status)


def _check_user(user: Any) -> None:
    """A second lock behind that of the views: whoever looks into files must be one who may convert them."""
    if not user.has_perm("conversions.start_conversion"):
        raise _refuse(
            "not-allowed",
            "You may not start conversions",
            "Your account may look, but not convert machines.",
            "Ask an administrator for the role “requester” or “operator”.",
            None,
            403,
        )


def _check_kind(what: str, kind: object) -> None:
    kinds = SOURCES if what == "source" else OUTPUTS
    if not isinstance(kind, str) or kind not in kinds:
        raise _refuse(
            "kind-unknown",
            f"There is no such {what}",
            f"“{str(kind)[:80]}” is no kind of {what} that v2vweb knows. It knows {', '.join(kinds)}.",
            "Choose one of these.",
            f"{what}.kind",
        )


def _objects(**given: Any) -> list[dict[str, Any]]:
    for field, value in given.items():
        if value is not None and not isinstance(value, dict):
            raise _refuse(
                "not-an-object", "This is not understood", f"“{field}” must be an object.", "Send an object.", field
            )
    return [dict(value or {}) for value in given.values()]


def _source(given: dict[str, Any]) -> plan.Source:
    (source,) = _objects(source=given)
    source = uploaded.translate(source)
    kind = source.pop("kind", "")
    _check_kind("source", kind)
    return plan.Source(kind=kind, settings=_clean(get_source(kind).form_class, source, "source"))


def _output(given: dict[str, Any]) -> plan.Output:
    kind = given.pop("kind", "files")
    _check_kind("output", kind)
    asked = {key: given.pop(key) for key in list(given) if key in Target.model_fields}
    settings = _clean(get_output(kind).form_class, given, "output")
    try:
        target = Target.from_settings(asked)
    except RefusedError as error:
        error.field = f"output.{error.field}"
        raise
    return plan.Output(kind=kind, settings=settings | target.model_dump(mode="json", exclude_defaults=True))


def _look(source: plan.Source) -> Finding:
    kind = get_source(source.kind)
    try:
        return kind.look(source.settings)
    except RefusedError as error:
        if error.field is None:
            error.field = f"source.{next(iter(kind.form_class.base_fields), '')}"  # the first field says what it is
        raise


def _clean(form_class: type[forms.Form], data: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The form's cleaned data; RefusedError for its first error, and for a key that it does not have."""
    if unknown := [key for key in data if key not in form_class.base_fields]:
        known = ", ".join(form_class.base_fields)
        raise _refuse(
            "field-unknown",
            "There is a setting that v2vweb does not know",
            f"“{prefix}.{unknown[0][:80]}” is not known. Known are: {known}.",
            "Check how it is spelled, or leave it out.",
            f"{prefix}.{unknown[0][:80]}",
        )
    form = form_class(data)
    if form.is_valid():
        return form.cleaned_data
    name, errors = next(iter(form.errors.as_data().items()))
    field = prefix if name == "__all__" else f"{prefix}.{name}"
    problem = getattr(errors[0], "problem", None)
    if problem is None:
        label = form.fields[name].label or name if name in form.fields else prefix
        text = " ".join(errors[0].messages)
        problem = Problem("value-not-allowed", f"{label}: this value is not allowed", text, "Choose another value.")
    raise RefusedError(problem, field=field)


def _check_key_folder(made: Plan) -> None:
    folder: Path = settings.DATA_DIR
    # virt-v2v's --key ID:file:PATH takes no ":" in the path.
    if made.options.luks_ids and ":" in str(folder):
        raise RefusedError(
            Problem(
                "data-dir-has-colon",
                "Passphrases cannot be used on this server",
                f"v2vweb's folder, {folder}, has a “:” in its name, and virt-v2v cannot read a passphrase from there.",
                "Ask your administrator to set V2VWEB_DATA_DIR to a folder without “:”.",
                "administrator",
            ),
            field="options.luks_keys",
            status=409,
        )
