"""The REST API, from outside: a token and JSON."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.utils import timezone

from conversions import tokens
from conversions.models import ApiToken, Conversion, Event
from conversions.plan import Plan, Source
from conversions.problems import Problem, RefusedError
from conversions.states import State

URL = "/api/v1/conversions"


class Api:
    """A program with a user's token."""

    def __init__(self, user: Any) -> None:
        self.client = Client(
            headers={"authorization": f"Bearer {tokens.create(user)[1]}"}, raise_request_exception=False
        )

    def get(self, url: str = URL, **query: Any) -> Any:
        return self.client.get(url, query)

    def post(self, url: str = URL, body: Any = None) -> Any:
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        return self.client.post(url, data, content_type="application/json")


def make(owner: Any, name: str = "web01", **fields: Any) -> Conversion:
    plan = Plan(name=name, source=Source(kind="disk", settings={"paths": ["/srv/web01.img"]}))
    return Conversion.objects.create(name=name, owner=owner, plan_json=plan.model_dump(mode="json"), **fields)


def refused(response: Any, status: int) -> dict[str, Any]:
    """The refusal of a response, after a look at its shape."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "title", "text", "field"}
    assert error["code"] and error["title"] and error["text"].endswith(".")
    return error


@pytest.fixture
def as_alice(alice: Any) -> Api:
    return Api(alice)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What make_plan() was asked for.  Stands in for the look at real disks, which test_planning.py is about."""
    asked: list[dict[str, Any]] = []

    def make_plan_stand_in(**request: Any) -> tuple[Plan, dict[str, str]]:
        asked.append(request)
        source = Source(kind=request["source"]["kind"])
        keys = [key["key"] for key in request["options"]["luks_keys"]]
        return Plan(name=request["name"], source=source), {f"luks-{n}": key for n, key in enumerate(keys)}

    def create_stand_in(plan: Plan, secrets: dict[str, str], owner: Any) -> Conversion:
        return make(owner, plan.name, secrets=secrets)

    monkeypatch.setattr("conversions.views.api.make_plan", make_plan_stand_in)
    monkeypatch.setattr("conversions.views.api.create_conversion", create_stand_in)
    return asked


BODY = {"name": "web01", "source": {"kind": "disk", "paths": ["/srv/web01.img"]}, "output": {"format": "raw"}}


# -- who is asking ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
def test_without_a_token_it_is_401_and_no_page(method: str) -> None:
    response = getattr(Client(enforce_csrf_checks=True), method)(URL, content_type="application/json")
    assert refused(response, 401)["code"] == "not-authenticated"
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["Bearer v2v_wrong", "Bearer", "Basic YWRtaW46YWRtaW4=", "v2v_wrong", "Bearer \t"])
def test_a_bad_token_is_401(header: str) -> None:
    assert refused(Client(headers={"authorization": header}).get(URL), 401)["code"] == "bad-token"


def test_a_bad_token_is_not_covered_up_by_a_good_session(alice: Any, log_in: Callable[[Any], Client]) -> None:
    response = log_in(alice).get(URL, headers={"authorization": "Bearer v2v_wrong"})
    assert refused(response, 401)["code"] == "bad-token"


def test_a_revoked_token_is_401(alice: Any, as_alice: Api) -> None:
    assert as_alice.get().status_code == 200
    ApiToken.objects.all().delete()
    assert refused(as_alice.get(), 401)["code"] == "bad-token"


def test_a_session_may_read_and_needs_the_csrf_token_to_write(alice: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    row = make(alice)
    assert client.get(URL).status_code == 200
    assert refused(client.post(f"{URL}/{row.pk}/cancel"), 403)["code"] == "csrf"
    row.refresh_from_db()
    assert row.state == State.QUEUED
    token = "a" * 32
    client.cookies["csrftoken"] = token
    assert client.post(f"{URL}/{row.pk}/cancel", headers={"X-CSRFToken": token}).status_code == 200


def test_somebody_without_a_role_gets_403(stranger: Any) -> None:
    assert "no role" in refused(Api(stranger).get(), 403)["text"]


# -- starting ---------------------------------------------------------------------------------------------------------


def test_it_starts_a_conversion(as_alice: Api, planned: list[dict[str, Any]]) -> None:
    response = as_alice.post(body=BODY | {"options": {"root": "first", "allocation": "preallocated"}})
    assert response.status_code == 201, response.content
    told = response.json()
    row = Conversion.objects.get()
    assert response["Location"] == f"{URL}/{row.pk}"
    assert told == as_alice.get(response["Location"]).json()
    assert (told["id"], told["name"], told["state"], told["attempt"], told["owner"]) == (
        row.pk,
        "web01",
        "queued",
        1,
        "alice",
    )
    assert planned[0] | {"user": None} == {
        "name": "web01",
        "source": {"kind": "disk", "paths": ["/srv/web01.img"]},
        "options": {
            "root": "first",
            "luks_keys": [],
            "clevis": False,
            "clevis_devices": [],
            "addresses": "leave",
            "boot_test": False,
        },
        "output": {"kind": "files", "format": "raw", "allocation": "preallocated"},
        "keep_running": False,
        "user": None,
    }
    assert planned[0]["user"].username == "alice"


def test_a_passphrase_goes_in_and_never_comes_out(
    as_alice: Api, planned: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    key = "open-sesame-42"
    response = as_alice.post(body=BODY | {"options": {"luks_keys": [key]}})
    assert planned[0]["options"]["luks_keys"] == [{"key": key, "device": ""}]
    said = [
        response,
        as_alice.get(),
        as_alice.get(response["Location"]),
        as_alice.get(response["Location"] + "/events"),
    ]
    said.append(as_alice.post(body=BODY | {"options": {"luks_keys": [key, {"secret": key}]}}))
    said.append(as_alice.post(body=BODY | {"options": {"luks_keys": key}}))
    said.append(as_alice.post(body=BODY | {"options": {"luks_keys": [key], "root": 7, "other": key}}))
    assert [one.status_code for one in said] == [201, 200, 200, 200, 422, 422, 422]
    assert all(key.encode() not in one.content for one in said)
    assert key not in caplog.text
    assert key not in repr(list(Event.objects.values()))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "web01"}, "source"),
        ({"name": "web01", "source": {}}, "source.kind"),
        ({"name": 7, "source": {"kind": "disk"}}, "name"),
        (BODY | {"sauce": 1}, "sauce"),
        (BODY | {"options": {"allocations": "sparse"}}, "options.allocations"),
        (BODY | {"options": {"allocation": "thick"}}, "options.allocation"),
        (BODY | {"options": {"luks_keys": [7]}}, "options.luks_keys.0"),
        (BODY | {"options": {"luks_keys": ["a", {"key": 5}]}}, "options.luks_keys.1.key"),
        (BODY | {"options": {"luks_keys": [{"kei": "a"}]}}, "options.luks_keys.0.key"),
        (BODY | {"output": "raw"}, "output"),
        ([], None),
        ("null", None),
        ("", None),
    ],
)
def test_it_says_which_field_is_wrong(as_alice: Api, body: Any, field: str | None) -> None:
    assert refused(as_alice.post(body=body), 422)["field"] == field
    assert not Conversion.objects.exists()


@pytest.mark.parametrize(
    "body",
    ["{", "no", b"\xff\xfe", '{"name": NaN}', '{"name": "a\\u0000b"}', '{"name": "\\ud800"}', "[" * 100_000],
    ids=["half", "word", "not utf-8", "nan", "nul", "half a character", "deep"],
)
def test_what_is_no_json_is_400(as_alice: Api, body: Any) -> None:
    assert refused(as_alice.post(body=body), 400)["code"] == "not-json"


def test_a_huge_request_is_413(as_alice: Api) -> None:
    assert refused(as_alice.post(body=BODY | {"name": "x" * 3_000_000}), 413)["code"] == "too-big"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_a_refusal_of_the_plan_is_passed_on(as_alice: Api, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    def refuses(**request: Any) -> Any:
        problem = Problem("disk-empty", "The file is empty", "web01.img has no bytes.", "Copy it again.")
        raise RefusedError(problem, field="source.paths", status=status)

    monkeypatch.setattr("conversions.views.api.make_plan", refuses)
    assert refused(as_alice.post(body=BODY), status) == {
        "code": "disk-empty",
        "title": "The file is empty",
        "text": "web01.img has no bytes. Copy it again.",
        "field": "source.paths",
    }


def test_a_fault_of_ours_has_the_same_shape_and_tells_nothing(
    as_alice: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(**request: Any) -> Any:
        raise ZeroDivisionError("internals")

    monkeypatch.setattr("conversions.views.api.make_plan", breaks)
    error = refused(as_alice.post(body=BODY | {"options": {"luks_keys": ["open-sesame-42"]}}), 500)
    assert "internals" not in error["text"]
    assert "ZeroDivisionError" in caplog.text
    assert "open-sesame-42" not in caplog.text


def test_a_viewer_may_not_start_one(bob: Any, planned: list[dict[str, Any]]) -> None:
    assert refused(Api(bob).post(body=BODY), 403)["code"] == "not-allowed"
    assert planned == []


# -- looking ----------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_in_pages(alice: Any, as_alice: Api) -> None:
    made = [make(alice, f"web{n:02}").pk for n in range(5)]
    body = as_alice.get(limit=2, offset=1).json()
    assert body["count"] == 5
    assert [one["id"] for one in body["items"]] == [made[3], made[2]]


def test_the_list_can_be_of_some_states(alice: Any, as_alice: Api) -> None:
    for state in State:
        make(alice, state=state)
    body = as_alice.get(state=["failed", "lost"]).json()
    assert sorted(one["state"] for one in body["items"]) == ["failed", "lost"]
    assert body["count"] == 2


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 501}, {"limit": "x"}, {"offset": -1}, {"state": "done"}])
def test_the_list_refuses_nonsense(as_alice: Api, query: dict[str, Any]) -> None:
    assert (refused(as_alice.get(**query), 422)["field"] or "").split(".")[0] == next(iter(query))


def test_the_list_takes_as_many_queries_for_fifty_as_for_one(
    alice: Any, as_alice: Api, django_assert_num_queries: Any
) -> None:
    for n in range(50):
        make(alice, f"web{n}", secrets={"luks-0": "open-sesame-42"})
    as_alice.get()
    with django_assert_num_queries(4):  # token, role, rows, count
        assert len(as_alice.get().json()["items"]) == 50


def test_a_running_one_tells_its_progress(alice: Any, as_alice: Api) -> None:
    progress = {"bytes_done": 250, "bytes_total": 1000, "rate": 12.5, "eta": [55, 60.4], "disks": []}
    now = timezone.now()
    row = make(alice, state=State.RUNNING, phase="copying", progress=progress, started=now)
    told = as_alice.get(f"{URL}/{row.pk}").json()
    assert told["progress"] == {
        "percent": 25.0,
        "bytes_done": 250,
        "bytes_total": 1000,
        "rate": 12.5,
        "eta_seconds": 60,
    }
    assert (told["phase"], told["waiting_for"], told["error"], told["ended"]) == ("copying", None, None, None)
    assert told["started"].startswith(now.isoformat()[:19])


def test_progress_is_null_while_nobody_knows(alice: Any, as_alice: Api) -> None:
    row = make(alice, waiting_for="a free place: 2 of 2 run")
    told = as_alice.get(f"{URL}/{row.pk}").json()
    assert set(told["progress"].values()) == {None}
    assert told["waiting_for"] == "a free place: 2 of 2 run"
    assert told["phase"] is None


def test_a_failed_one_tells_why_and_what_next(alice: Any, as_alice: Api) -> None:
    problem = Problem("no-os", "No operating system", "There is none on these disks.", "Look at the disks.", "you")
    row = make(alice, state=State.FAILED, error=problem.as_dict())
    assert as_alice.get(f"{URL}/{row.pk}").json()["error"] == {
        "code": "no-os",
        "title": "No operating system",
        "text": "There is none on these disks.",
        "action": "Look at the disks.",
    }


def test_somebody_elses_conversion_does_not_exist_for_a_requester(alice: Any, charlie: Any) -> None:
    theirs, own = make(alice), make(charlie, "mine")
    api = Api(charlie)
    assert [one["id"] for one in api.get().json()["items"]] == [own.pk]
    missing = refused(api.get(f"{URL}/{own.pk + 1000}"), 404)
    for path, method in [("", api.get), ("/log", api.get), ("/events", api.get), ("/files/x", api.get)]:
        assert refused(method(f"{URL}/{theirs.pk}{path}"), 404)["code"] == missing["code"]
    for path in ("/cancel", "/retry"):
        assert refused(api.post(f"{URL}/{theirs.pk}{path}"), 404)["code"] == missing["code"]
    theirs.refresh_from_db()
    assert theirs.state == State.QUEUED


@pytest.mark.parametrize("path", ["/api/", "/api/v1", "/api/v2/conversions", f"{URL}/", f"{URL}/web01", f"{URL}/-1"])
def test_an_unknown_address_is_404_in_the_same_shape(as_alice: Api, path: str) -> None:
    assert refused(as_alice.get(path), 404)["code"] == "not-found"


def test_a_number_too_big_for_the_database_is_404(as_alice: Api) -> None:
    assert refused(as_alice.get(f"{URL}/{10**30}"), 404)["code"] == "not-found"


def test_a_wrong_method_is_405_in_the_same_shape(as_alice: Api) -> None:
    response = as_alice.client.delete(URL)
    assert refused(response, 405)["code"] == "wrong-method"
    assert set(response["Allow"].split(", ")) == {"GET", "POST"}


def test_a_wrong_key_file_does_not_take_the_list_away(alice: Any, as_alice: Api, settings: Any, tmp_path: Path) -> None:
    row = make(alice, secrets={"luks-0": "open-sesame-42"})
    settings.SECRETS_KEY_FILE = tmp_path / "other.key"
    assert as_alice.get().json()["count"] == 1
    assert as_alice.get(f"{URL}/{row.pk}").status_code == 200
    assert as_alice.post(f"{URL}/{row.pk}/cancel").status_code == 200


# -- log and events ---------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(alice: Any, settings: Any, tmp_path: Path) -> Conversion:
    settings.DATA_DIR = tmp_path
    row = make(alice, state=State.RUNNING)
    row.jobdir.path.mkdir(parents=True)
    row.jobdir.log.write_bytes("[   0.0] Opening the source ünd\n".encode())
    return row


def test_the_log_comes_from_a_byte_on(logged: Conversion, as_alice: Api) -> None:
    whole = logged.jobdir.log.read_bytes()
    for offset in (0, 5, len(whole) - 1, len(whole)):
        response = as_alice.get(f"{URL}/{logged.pk}/log", offset=offset)
        assert b"".join(response) == whole[offset:]
        assert response["X-Next-Offset"] == str(len(whole))
        assert response["Content-Type"].startswith("text/plain")
    with logged.jobdir.log.open("ab") as file:
        file.write(b"more\n")
    response = as_alice.get(f"{URL}/{logged.pk}/log", offset=response["X-Next-Offset"])
    assert b"".join(response) == b"more\n"


def test_behind_the_end_of_the_log_there_is_nothing(logged: Conversion, as_alice: Api) -> None:
    response = as_alice.get(f"{URL}/{logged.pk}/log", offset=10**9)
    assert (b"".join(response), response["X-Next-Offset"]) == (b"", str(logged.jobdir.log.stat().st_size))


def test_a_log_that_is_not_there_yet_is_empty(alice: Any, as_alice: Api) -> None:
    response = as_alice.get(f"{URL}/{make(alice).pk}/log")
    assert (response.status_code, b"".join(response), response["X-Next-Offset"]) == (200, b"", "0")


def test_the_log_of_an_earlier_attempt_stays(logged: Conversion, as_alice: Api) -> None:
    Conversion.objects.filter(pk=logged.pk).update(attempt=2)
    assert b"".join(as_alice.get(f"{URL}/{logged.pk}/log")) == b""
    response = as_alice.get(f"{URL}/{logged.pk}/log", attempt=1)
    assert b"Opening" in b"".join(response)
    assert response["X-Attempt"] == "1"
    assert refused(as_alice.get(f"{URL}/{logged.pk}/log", attempt=3), 404)


@pytest.mark.parametrize("offset", ["-1", "x", "99999999999999999999999"])
def test_a_senseless_offset_is_refused(logged: Conversion, as_alice: Api, offset: str) -> None:
    assert refused(as_alice.get(f"{URL}/{logged.pk}/log", offset=offset), 422)["field"] == "offset"


@pytest.mark.django_db(transaction=True)
async def test_a_long_log_is_streamed_and_not_read_into_memory(logged: Conversion) -> None:
    logged.jobdir.log.write_bytes(b"0123456789" * 100_000)
    text = (await sync_to_async(tokens.create)(await User.objects.aget()))[1]
    headers = {"authorization": f"Bearer {text}"}
    response = await AsyncClient().get(f"{URL}/{logged.pk}/log?offset=3", headers=headers)
    assert response.streaming and response.is_async
    pieces = [piece async for piece in response]
    assert len(pieces) > 1
    assert b"".join(pieces) == logged.jobdir.log.read_bytes()[3:]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def converted(alice: Any, settings: Any, tmp_path: Path) -> Conversion:
    settings.DATA_DIR = tmp_path
    files = {"web01-sda": bytes(range(256)) * 100, "web01.yaml": b"kind: VirtualMachine\n"}
    artifacts = [{"name": name, "size": len(data), "allocated": len(data)} for name, data in files.items()]
    row = make(alice, state=State.SUCCEEDED, artifacts=artifacts)
    row.output_dir.mkdir(parents=True)
    for name, data in files.items():
        (row.output_dir / name).write_bytes(data)
    (row.output_dir / "not-a-result").write_text("private")
    return row


def test_each_result_has_an_address_that_takes_the_token(converted: Conversion, as_alice: Api) -> None:
    told = as_alice.get(f"{URL}/{converted.pk}").json()
    assert told["progress"]["percent"] == 100
    assert [(one["name"], one["size"]) for one in told["artifacts"]] == [("web01-sda", 25600), ("web01.yaml", 21)]
    for one in told["artifacts"]:
        response = as_alice.get(one["url"])
        assert b"".join(response) == (converted.output_dir / one["name"]).read_bytes()
        head = as_alice.client.head(one["url"])
        assert (head.status_code, head["Content-Length"], head["Accept-Ranges"]) == (200, str(one["size"]), "bytes")
    assert refused(Client().get(told["artifacts"][0]["url"]), 401)


def test_a_broken_download_goes_on(converted: Conversion, as_alice: Api) -> None:
    response = as_alice.client.get(f"{URL}/{converted.pk}/files/web01-sda", headers={"Range": "bytes=1000-"})
    assert (response.status_code, response["Content-Range"]) == (206, "bytes 1000-25599/25600")
    assert b"".join(response) == (converted.output_dir / "web01-sda").read_bytes()[1000:]


@pytest.mark.parametrize(
    "name", ["not-a-result", "../1-web01/web01.yaml", "..%2F..%2Fdjango.key", "%2Fetc%2Fpasswd", "web01"]
)
def test_only_results_are_handed_out(converted: Conversion, as_alice: Api, name: str) -> None:
    assert refused(as_alice.get(f"{URL}/{converted.pk}/files/{name}"), 404)


# -- events -----------------------------------------------------------------------------------------------------------


def test_events_come_in_order_after_the_last_one_known(alice: Any, as_alice: Api) -> None:
    row = make(alice)
    row.move(State.RUNNING)
    Event.objects.create(conversion=row, attempt=1, type="fact", data={"key": "os", "value": "Debian", "id": "spoofed"})
    row.request_cancel("alice")
    body = as_alice.get(f"{URL}/{row.pk}/events").json()
    assert [(one["type"], one.get("to")) for one in body["events"]] == [
        ("state", "running"),
        ("fact", None),
        ("state", "cancelling"),
    ]
    assert [one["id"] for one in body["events"]] == sorted(one["id"] for one in body["events"])
    assert body["events"][1]["value"] == "Debian"
    assert body["events"][2]["actor"] == "alice"
    assert body["last"] == body["events"][2]["id"]
    assert as_alice.get(f"{URL}/{row.pk}/events", after=body["last"]).json() == {"events": [], "last": body["last"]}
    after = as_alice.get(f"{URL}/{row.pk}/events", after=body["events"][0]["id"]).json()
    assert after["events"] == body["events"][1:]


# -- cancel and retry -------------------------------------------------------------------------------------------------


def test_a_waiting_one_is_cancelled_at_once(alice: Any, as_alice: Api) -> None:
    row = make(alice)
    assert as_alice.post(f"{URL}/{row.pk}/cancel").json()["state"] == "cancelled"


def test_a_running_one_is_cancelling_until_nothing_of_it_runs(alice: Any, as_alice: Api) -> None:
    row = make(alice, state=State.RUNNING)
    assert as_alice.post(f"{URL}/{row.pk}/cancel").json()["state"] == "cancelling"
    assert "already" in refused(as_alice.post(f"{URL}/{row.pk}/cancel"), 409)["text"]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST])
def test_what_has_ended_cannot_be_cancelled(alice: Any, as_alice: Api, state: State) -> None:
    row = make(alice, state=state)
    assert refused(as_alice.post(f"{URL}/{row.pk}/cancel"), 409)["code"] == "cannot-cancel"
    row.refresh_from_db()
    assert row.state == state


def test_a_cancel_that_crosses_the_start_still_cancels(
    alice: Any, as_alice: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = make(alice)
    request_cancel = Conversion.request_cancel

    def starts_just_before(self: Conversion, actor: str) -> bool:
        Conversion.objects.filter(pk=self.pk, state=State.QUEUED).update(state=State.RUNNING)
        return request_cancel(self, actor)

    monkeypatch.setattr(Conversion, "request_cancel", starts_just_before)
    assert as_alice.post(f"{URL}/{row.pk}/cancel").json()["state"] == "cancelling"


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.LOST])
def test_what_did_not_succeed_can_be_tried_again(alice: Any, as_alice: Api, state: State) -> None:
    row = make(alice, state=state, ended=timezone.now() - timedelta(hours=1))
    told = as_alice.post(f"{URL}/{row.pk}/retry").json()
    assert (told["state"], told["attempt"], told["ended"]) == ("queued", 2, None)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.CANCELLING, State.SUCCEEDED])
def test_what_has_not_ended_or_succeeded_cannot(alice: Any, as_alice: Api, state: State) -> None:
    row = make(alice, state=state)
    assert refused(as_alice.post(f"{URL}/{row.pk}/retry"), 409)["code"] == "cannot-retry"
    row.refresh_from_db()
    assert (row.state, row.attempt) == (state, 1)


def test_a_viewer_may_neither_cancel_nor_retry(alice: Any, bob: Any) -> None:
    row = make(alice)
    for path in ("cancel", "retry"):
        assert refused(Api(bob).post(f"{URL}/{row.pk}/{path}"), 403)["code"] == "not-allowed"


# -- the description --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_description_has_every_operation_and_its_refusals() -> None:
    body = Client().get("/api/openapi.json").json()
    operations = {
        (method.upper(), path): operation
        for path, methods in body["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) >= {  # that there are no others beside the matrix's is test_roles.py's
        ("GET", URL + "/{id}/manifest"),
        ("PUT", URL + "/{id}/manifest"),
        ("POST", URL),
        ("GET", URL),
        ("GET", URL + "/{id}"),
        ("POST", URL + "/{id}/cancel"),
        ("POST", URL + "/{id}/retry"),
        ("GET", URL + "/{id}/events"),
        ("GET", URL + "/{id}/log"),
        ("GET", URL + "/{id}/files/{name}"),
    }
    assert all(operation["security"] for operation in operations.values())
    assert {"201", "401", "403", "409", "422"} <= set(operations["POST", URL]["responses"])
    assert (
        body["components"]["schemas"]["OptionsIn"]["properties"]["luks_keys"]["items"]["anyOf"][0]["writeOnly"] is True
    )
