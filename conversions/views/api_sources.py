"""The REST API's part about saved sources, their guests, and batches: the forms, rules and words of the pages."""

from typing import Any

from django.core.cache import cache
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router, Status

from .. import batches
from ..access import check
from ..models import Batch, InventoryGuest, SavedSource
from ..problems import Problem, RefusedError
from ..roles import role_of, visible_to
from ..schemas import addresses_as_json, conversion_out
from ..schemas_sources import (
    BatchDetail,
    BatchGuest,
    BatchIn,
    BatchList,
    BatchOut,
    BatchStarted,
    GuestList,
    GuestPage,
    Refreshing,
    SourceChange,
    SourceCreate,
    SourceList,
    SourceOut,
    SourcePage,
    StepOut,
    TestOut,
    guest_out,
    refused_out,
    source_out,
)
from ..servers import connection, guest_table, pinning
from ..servers.saved_access import unknown
from ..source_forms import PORTS, SETTINGS, TRANSPORTS, SourceForm
from ..sources.remote import RemoteSource
from ..states import ACTIVE, State
from .api_frame import REFUSALS

router = Router(tags=["sources and batches"])


def _visible(user: Any) -> Any:
    check(user, "conversions.use")
    rows = SavedSource.objects.defer("secrets").select_related("owner")
    return (rows.filter(shared=True) | rows.filter(owner=user)) if role_of(user) == "requester" else rows


def _source(request: HttpRequest, id: int, permission: str) -> SavedSource:
    """A source for which the user has the permission; what is hidden from the user does not exist for him or her."""
    check(request.user, permission)
    found: SavedSource | None = _visible(request.user).filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no source {id}.")
    check(request.user, permission, found)
    return found


def _saved(form: SourceForm, owner: Any, asked: dict[str, Any]) -> SavedSource:
    """Checks all, what the server shows too, and only then saves."""
    if unknown_fields := [
        name for name in asked if name not in form.fields and name not in ("pin_sha256", "host_keys")
    ]:
        known = ", ".join(form.fields)
        raise _refuse("field-unknown", "Unknown field", f"A source of this kind has {known}.", unknown_fields[0])
    if not form.is_valid():
        name, errors = next(iter(form.errors.items()))
        label = str(form.fields[name].label) if name in form.fields else "The source"
        raise _refuse("value-not-allowed", f"{label}: this value is not allowed", " ".join(map(str, errors)), name)
    certificate = keys = None
    host, port = form.cleaned_data["host"], form.cleaned_data["port"]
    over_ssh = form.cleaned_data["transport"] == "ssh"
    if asked.get("pin_sha256") and over_ssh:
        words = "Over SSH no certificate is used, only host_keys. Leave it out."
        raise _refuse("value-not-allowed", "There is no certificate over SSH", words, "pin_sha256")
    if asked.get("pin_sha256"):
        certificate = pinning.confirmed_certificate(host, port, asked["pin_sha256"])
    if asked.get("host_keys") and over_ssh:
        ssh_port = port if form.kind == "xen" else form.cleaned_data["ssh_port"] or 22
        keys = pinning.confirmed_host_keys(host, ssh_port, asked["host_keys"])
    saved = form.save(owner)
    if certificate:
        pinning.accept_certificate(saved, certificate)
    if keys:
        pinning.accept_host_keys(saved, keys)
    return saved


def _refuse(code: str, title: str, text: str, field: str | None) -> RefusedError:
    return RefusedError(Problem(code, title, text), field=None if field == "__all__" else field)


def _plain(data: SourceCreate | SourceChange) -> dict[str, Any]:
    """What was sent, secrets as text."""
    sent = data.model_dump(exclude_unset=True)
    return {k: v.get_secret_value() if k in ("password", "key") and v is not None else v for k, v in sent.items()}


@router.post("/sources", response={201: SourceOut, **REFUSALS}, summary="Add a source", url_name="sources")
def create(request: HttpRequest, response: HttpResponse, data: SourceCreate) -> Any:
    """With `pin_sha256` (over SSH `host_keys`) it is trusted at once; without, nothing is sent to it
    until it is."""
    check(request.user, "conversions.change_source")
    asked = _plain(data)
    kind = asked.pop("kind")
    filled = {"port": PORTS[kind], "transport": TRANSPORTS[kind][0][0], "shared": True}
    filled |= {name: value for name, value in asked.items() if value is not None}
    saved = _saved(SourceForm(filled, kind=kind), request.user, asked)
    response["Location"] = f"/api/v1/sources/{saved.pk}"
    return Status(201, source_out(saved))


@router.get("/sources", response={200: SourceList, **REFUSALS}, summary="List sources", url_name="sources")
def index(request: HttpRequest, page: Query[SourcePage]) -> SourceList:
    rows = _visible(request.user)
    shown = rows.annotate(guest_count=Count("guests"))[page.offset : page.offset + page.limit]
    return SourceList(items=[source_out(saved, saved.guest_count) for saved in shown], count=rows.count())


@router.get("/sources/{int:id}", response={200: SourceOut, **REFUSALS}, summary="Look at a source", url_name="source")
def show(request: HttpRequest, id: int) -> SourceOut:
    return source_out(_source(request, id, "conversions.see_source"))


@router.patch("/sources/{int:id}", response={200: SourceOut, **REFUSALS}, summary="Change a source", url_name="source")
def change(request: HttpRequest, id: int, data: SourceChange) -> SourceOut:
    """Another host, port or CA takes the trust away again; send `pin_sha256` with it."""
    saved = _source(request, id, "conversions.change_source")
    asked = _plain(data)
    filled = {name: getattr(saved, name) for name in SETTINGS} | asked
    return source_out(_saved(SourceForm(filled, kind=saved.kind, saved=saved), request.user, asked))


@router.delete("/sources/{int:id}", response={204: None, **REFUSALS}, summary="Remove a source", url_name="source")
def delete(request: HttpRequest, id: int) -> Any:
    """With its password or key.  Refused while conversions from it run or wait; finished ones stay."""
    saved = _source(request, id, "conversions.change_source")
    if busy := saved.conversions.filter(state__in=[State.QUEUED, *ACTIVE]).count():
        text = f"{busy} conversions from it run or wait. Cancel them, or wait until they are done."
        raise RefusedError(Problem("source-in-use", "The source is in use", text), status=409)
    saved.delete()
    return Status(204, None)


@router.post(
    "/sources/{int:id}/test", response={200: TestOut, **REFUSALS}, summary="Test a source", url_name="source-test"
)
def test(request: HttpRequest, id: int) -> TestOut:
    """Step by step; takes up to some tens of seconds when the server does not answer."""
    saved = _source(request, id, "conversions.use_source")
    key = f"source-test-{saved.pk}"
    if not cache.add(key, 1, 120):
        text = "A test of this source is running already. Wait until it is done."
        raise RefusedError(Problem("test-running", "It is being tested", text), status=409)
    try:
        steps = list(connection.test(saved))
    finally:
        cache.delete(key)
    return TestOut(ok=all(s.state == "ok" for s in steps), steps=[StepOut(**step.as_dict()) for step in steps])


@router.get("/sources/{int:id}/guests", response={200: GuestList, **REFUSALS}, summary="Its guests", url_name="guests")
def guests(request: HttpRequest, id: int, page: Query[GuestPage]) -> GuestList:
    """As the source told at the last refresh."""
    saved = _source(request, id, "conversions.see_source")
    rows = guest_table.guests(saved, guest_table.Question.of(page.model_dump()))
    return GuestList(
        items=[guest_out(row) for row in rows[page.offset : page.offset + page.limit]],
        count=rows.count(),
    )


@router.post(
    "/sources/{int:id}/refresh",
    response={202: Refreshing, **REFUSALS},
    summary="Read its guests anew",
    url_name="refresh",
)
def refresh(request: HttpRequest, id: int) -> Any:
    """Begins it; the source's `refreshing` is false again when it is done."""
    saved = _source(request, id, "conversions.use_source")
    SavedSource.objects.filter(pk=saved.pk).update(refresh_requested=timezone.now())
    return Status(202, Refreshing())


# -- batches ----------------------------------------------------------------------------------------------------------


@router.post("/batches", response={201: BatchStarted, **REFUSALS}, summary="Move many guests", url_name="batches")
def start(request: HttpRequest, response: HttpResponse, data: BatchIn) -> Any:
    """Starts one conversion for each guest that can be moved; the others are listed under `refused`, each with its error."""
    check(request.user, "conversions.start_conversion")
    saved = _visible(request.user).filter(pk=data.source_id).first()
    if saved is None or not request.user.has_perm("conversions.use_source", saved):
        raise unknown(data.source_id)
    batches.check_template(data.name_template)
    found, refused = _guests(saved, data)
    source = {
        "shut_down": data.shutdown,
        "shut_down_minutes": data.shutdown_minutes,
        "power_off": data.power_off,
        "start_again": data.start_again,
    }
    options = data.options.request()
    if data.options.allocation is not None:
        options["allocation"] = data.options.allocation
    typed = {guest.guest_id: each.name for guest, each in found}
    cards = {guest.guest_id: addresses_as_json(each.addresses) for guest, each in found if each.addresses is not None}
    wanted = batches.name_all([guest for guest, _ in found], data.name_template, typed)
    output = data.output.model_dump()
    planned = batches.plan_all(
        saved,
        wanted,
        request.user,
        source=source,
        options=options,
        output=output,
        keep_running=data.keep_running,
        cards=cards,
    )
    batch = batches.start(data.name, [*planned, *refused], request.user)
    response["Location"] = f"/api/v1/batches/{batch.pk}"
    left_out = [refused_out(one) for one in [*refused, *planned] if one.problem]
    return Status(201, BatchStarted(**_detail(batch).model_dump(), refused=left_out))


def _guests(saved: SavedSource, data: BatchIn) -> tuple[list[tuple[InventoryGuest, BatchGuest]], list[batches.Planned]]:
    """The guests with what was asked for each; and those that there are not."""
    found: list[tuple[InventoryGuest, BatchGuest]] = []
    refused: list[batches.Planned] = []
    seen = set[str]()
    for each in data.guests:
        asked = BatchGuest.model_validate({"guest": each}) if isinstance(each, str) else each
        guest = asked.guest
        try:
            record, _ = RemoteSource.find(saved, guest)
        except RefusedError as refusal:
            row = InventoryGuest(source=saved, guest_id=guest, name=guest)
            refused.append(batches.Planned(row, guest, problem=refusal.problem, field="guests"))
            continue
        if record.id not in seen:
            seen.add(record.id)
            found.append((saved.guests.get(guest_id=record.id), asked))
    return found, refused


def _batches(user: Any) -> Any:
    check(user, "conversions.use")
    return visible_to(user, Batch.objects.select_related("owner"))


def _out(batch: Batch) -> BatchOut:
    return BatchOut(
        id=batch.pk,
        name=batch.name,
        owner=batch.owner.get_username(),
        created=batch.created,
        states=batches.counts(batch),
        percent=batches.progress(batch.conversions.defer("secrets")),
    )


def _detail(batch: Batch) -> BatchDetail:
    rows = batch.conversions.defer("secrets").select_related("owner").order_by("id")
    return BatchDetail(**_out(batch).model_dump(), conversions=[conversion_out(row) for row in rows])


@router.get("/batches", response={200: BatchList, **REFUSALS}, summary="List batches", url_name="batches")
def batch_index(request: HttpRequest, page: Query[SourcePage]) -> BatchList:
    rows = _batches(request.user)
    return BatchList(items=[_out(row) for row in rows[page.offset : page.offset + page.limit]], count=rows.count())


@router.get("/batches/{int:id}", response={200: BatchDetail, **REFUSALS}, summary="Look at a batch", url_name="batch")
def batch_show(request: HttpRequest, id: int) -> BatchDetail:
    found: Batch | None = _batches(request.user).filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no batch {id}.")
    check(request.user, "conversions.see_batch", found)
    return _detail(found)
