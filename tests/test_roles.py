"""Who may do what, all of it: every address, socket and operation of the API, asked by everybody.

A new view, socket or operation without its lines in MATRIX fails here.  Each line says what happens to

    viewer      sees everything, changes nothing
    own         a requester, about a thing of his or her own
    foreign     a requester, about somebody else's
    operator    about somebody else's thing
    admin       about somebody else's thing
    no role     somebody with an account and without a role
    anonymous   somebody who is not logged in

yes: it is done.  login: sent to the login page.  401, 403, 404: refused so, and nothing has changed.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from conversions import boot_tests, tokens
from conversions.models import ApiToken, Batch, Conversion, Draft, SavedSource
from conversions.plan import Plan, Source
from conversions.roles import PERMISSIONS, ROLES, role_of, visible_to
from conversions.routing import websocket_urlpatterns
from conversions.states import State
from conversions.uploading import uploads
from conversions.views.api_frame import api
from tests.fixtures_handover import converted

COLUMNS = ("viewer", "own", "foreign", "operator", "admin", "no role", "anonymous")

# The usual lines.                 viewer own foreign operator admin no-role anonymous
EVERYBODY = "                      yes    yes yes     yes      yes   yes     yes"
LOGGED_IN = "                      yes    yes yes     yes      yes   yes     login"
WITH_A_ROLE = "                    yes    yes yes     yes      yes   403     login"
SEES = "                           yes    yes 403     yes      yes   403     login"
CHANGES = "                        403    yes 403     yes      yes   403     login"
STARTS = "                         403    yes yes     yes      yes   403     login"
OPERATES = "                       403    403 403     yes      yes   403     login"
ADMINISTERS = "                    403    403 403     403      yes   403     login"
NOBODY = "                         404    404 404     404      404   404     404"
API_SEES = "                       yes    yes 404     yes      yes   403     401"
API_CHANGES = "                    403    yes 404     yes      yes   403     401"
API_STARTS = "                     403    yes yes     yes      yes   403     401"
API_OPERATES = "                   403    403 403     yes      yes   403     401"
API_WITH_A_ROLE = "                yes    yes yes     yes      yes   403     401"
TUS_CHANGES = "                    403    yes 404     yes      yes   403     401"
SOCKET_SEES = "                    yes    yes 4403    yes      yes   4403    4401"
SOCKET_WITH_A_ROLE = "             yes    yes yes     yes      yes   4403    4401"

TUS = {"Tus-Resumable": "1.0.0"}
CREATE = TUS | {"Upload-Length": "10", "Upload-Metadata": "filename YS5vdmE="}
SEND = TUS | {"Upload-Offset": "0"}
START = {"name": "web09", "source": {"kind": "disk", "paths": ["/srv/web09.img"]}}

SOURCE = {"kind": "vcenter", "name": "vc", "host": "127.0.0.1", "port": 1, "user": "root", "password": "pw"}


@dataclass(frozen=True)
class Line:
    """What happens to whom, and what the request needs to come to something."""

    outcomes: str
    about: str = ""  #: which thing of the owner's stands in the address: see World
    data: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    type: str = ""
    done: tuple[int, ...] = (200, 201, 204, 302)  #: status codes that mean "it is done"


#: (method, route as in urls.py) -> line.  A route has a line for each of its methods.
MATRIX: dict[tuple[str, str], Line] = {
    # Everybody's
    ("GET", "login/"): Line(EVERYBODY),
    ("POST", "logout/"): Line(LOGGED_IN),
    ("GET", "api/docs"): Line(EVERYBODY),
    ("GET", "api/openapi.json"): Line(EVERYBODY),
    ("GET", "api/"): Line(NOBODY),
    ("GET", "api/<path:rest>"): Line(NOBODY, "rest"),
    # Pages
    ("GET", ""): Line(WITH_A_ROLE),
    ("GET", "conversions/<int:pk>/"): Line(SEES, "succeeded"),
    ("GET", "conversions/<int:pk>/log/"): Line(SEES, "succeeded"),
    ("GET", "conversions/<int:pk>/files/<path:name>"): Line(SEES, "file"),
    ("GET", "conversions/<int:pk>/evidence/"): Line(SEES, "succeeded"),
    ("GET", "conversions/<int:pk>/cancel/"): Line(CHANGES, "queued"),
    ("POST", "conversions/<int:pk>/cancel/"): Line(CHANGES, "queued"),
    ("POST", "conversions/<int:pk>/retry/"): Line(CHANGES, "failed"),
    ("GET", "conversions/<int:pk>/boot/"): Line(SEES, "converted"),
    ("POST", "conversions/<int:pk>/boot/ask/"): Line(CHANGES, "converted"),
    ("GET", "conversions/<int:pk>/boot/<int:test_id>/<str:name>"): Line(SEES, "picture"),
    ("GET", "conversions/<int:pk>/manifest/"): Line(SEES, "converted"),
    ("POST", "conversions/<int:pk>/manifest/check/"): Line(CHANGES, "converted", {"text": "kind: x"}),
    ("POST", "conversions/<int:pk>/manifest/save/"): Line(CHANGES, "converted", {"reset": "1"}),
    ("GET", "conversions/<int:pk>/manifest/download/"): Line(SEES, "converted"),
    ("GET", "conversions/<int:pk>/manifest/bundle/"): Line(SEES, "converted"),
    ("GET", "new/"): Line(STARTS),
    ("POST", "new/"): Line(STARTS, data={"kind": "disk"}),
    ("GET", "new/<uuid:draft_id>/files/"): Line(CHANGES, "draft"),
    ("POST", "new/<uuid:draft_id>/discard/"): Line(CHANGES, "draft"),
    ("GET", "new/<uuid:draft_id>/<str:step>/"): Line(CHANGES, "step"),
    ("POST", "new/<uuid:draft_id>/<str:step>/"): Line(CHANGES, "step", {"version": "1"}, done=(200, 302, 422)),
    ("GET", "system/"): Line(WITH_A_ROLE),
    ("POST", "system/"): Line(WITH_A_ROLE),
    ("GET", "people/"): Line(ADMINISTERS),
    ("GET", "people/add/"): Line(ADMINISTERS),
    ("POST", "people/add/"): Line(ADMINISTERS, data={"username": "dora", "role": "viewer"}),
    ("GET", "people/<int:pk>/"): Line(ADMINISTERS, "person"),
    ("POST", "people/<int:pk>/"): Line(ADMINISTERS, "person", {"deactivate": "1"}),
    ("GET", "account/tokens/"): Line(WITH_A_ROLE),
    ("POST", "account/tokens/"): Line(WITH_A_ROLE, data={"name": "script"}),
    # Somebody else's is left alone without a word: see the test below.
    ("POST", "account/tokens/<int:pk>/revoke/"): Line(WITH_A_ROLE, "token"),
    ("GET", "account/password/"): Line(LOGGED_IN),
    ("POST", "account/password/"): Line(LOGGED_IN, data={}, done=(200, 422)),
    # Uploads
    ("GET", "uploads/"): Line(WITH_A_ROLE),
    ("POST", "uploads/"): Line(API_STARTS, headers=tuple(CREATE.items())),
    ("POST", "uploads/opinion/"): Line(STARTS, data={"about": '{"name": "a.ova", "size": 0, "ranges": []}'}),
    ("GET", "uploads/allowed/"): Line(API_STARTS),  # nginx asks
    ("GET", "uploads/<uuid:pk>"): Line(EVERYBODY, "upload"),  # only says where the page is
    ("HEAD", "uploads/<uuid:pk>"): Line(TUS_CHANGES, "upload", headers=tuple(TUS.items())),
    ("PATCH", "uploads/<uuid:pk>"): Line(
        TUS_CHANGES, "upload", b"12345", tuple(SEND.items()), "application/offset+octet-stream"
    ),
    ("DELETE", "uploads/<uuid:pk>"): Line(TUS_CHANGES, "upload", headers=tuple(TUS.items())),
    ("GET", "uploads/<uuid:pk>/"): Line(SEES, "upload"),
    ("POST", "uploads/<uuid:pk>/convert/"): Line(CHANGES, "upload"),
    ("POST", "uploads/<uuid:pk>/convert-later/"): Line(CHANGES, "upload", {"convert": "yes"}),
    ("POST", "uploads/<uuid:pk>/checksum/"): Line(CHANGES, "upload", {"checksum": ""}),
    ("POST", "uploads/<uuid:pk>/remove/"): Line(CHANGES, "upload"),
    # Saved sources: here not shared ones
    ("GET", "sources/"): Line(WITH_A_ROLE),
    ("GET", "sources/add/<str:kind>/"): Line(OPERATES, "kind"),
    ("POST", "sources/add/<str:kind>/"): Line(OPERATES, "kind", {"name": ""}, done=(422,)),
    ("GET", "sources/<int:pk>/"): Line(SEES, "source"),
    ("GET", "sources/<int:pk>/edit/"): Line(OPERATES, "source"),
    ("POST", "sources/<int:pk>/edit/"): Line(OPERATES, "source", {"name": ""}, done=(422,)),
    ("GET", "sources/<int:pk>/trust/"): Line(OPERATES, "source", done=(409,)),  # nobody is there
    ("POST", "sources/<int:pk>/trust/"): Line(OPERATES, "source", done=(409,)),
    ("POST", "sources/<int:pk>/test/"): Line(CHANGES, "source"),
    ("POST", "sources/<int:pk>/refresh/"): Line(CHANGES, "source"),
    ("GET", "sources/<int:pk>/delete/"): Line(OPERATES, "source"),
    ("POST", "sources/<int:pk>/delete/"): Line(OPERATES, "source"),
    # Many guests at once
    ("POST", "sources/<int:pk>/select/"): Line(CHANGES, "source", {"do": "none"}),
    ("GET", "sources/<int:pk>/list/"): Line(CHANGES, "source"),
    ("POST", "sources/<int:pk>/list/"): Line(CHANGES, "source", {"list": "web01"}, done=(422,)),
    ("POST", "sources/<int:pk>/move/"): Line(CHANGES, "source", {"move": "vm-1"}),
    ("GET", "many/<uuid:draft_id>/<str:step>/"): Line(CHANGES, "selection"),
    ("POST", "many/<uuid:draft_id>/<str:step>/"): Line(CHANGES, "selection", {"version": "1"}),
    ("GET", "batches/"): Line(WITH_A_ROLE),
    ("GET", "batches/<int:pk>/"): Line(SEES, "batch"),
    ("GET", "batches/<int:pk>/cancel/"): Line(CHANGES, "batch"),
    ("POST", "batches/<int:pk>/cancel/"): Line(CHANGES, "batch"),
    ("POST", "batches/<int:pk>/retry/"): Line(CHANGES, "batch"),
    # The API, with a token
    ("GET", "api/v1/conversions"): Line(API_WITH_A_ROLE),
    ("POST", "api/v1/conversions"): Line(API_STARTS, data=START, type="application/json"),
    ("GET", "api/v1/conversions/{id}"): Line(API_SEES, "succeeded"),
    ("GET", "api/v1/conversions/{id}/log"): Line(API_SEES, "succeeded"),
    ("GET", "api/v1/conversions/{id}/events"): Line(API_SEES, "succeeded"),
    ("GET", "api/v1/conversions/{id}/files/{name}"): Line(API_SEES, "file"),
    ("HEAD", "api/v1/conversions/{id}/files/{name}"): Line(API_SEES, "file"),
    ("GET", "api/v1/uploads"): Line(API_WITH_A_ROLE),
    ("GET", "api/v1/uploads/{id}"): Line(API_SEES, "upload"),
    ("DELETE", "api/v1/uploads/{id}"): Line(API_CHANGES, "upload"),
    ("POST", "api/v1/conversions/{id}/boot-test"): Line(
        API_CHANGES, "converted", {"settings": {}}, type="application/json", done=(202,)
    ),
    ("GET", "api/v1/conversions/{id}/boot-test"): Line(API_SEES, "picture"),
    ("GET", "api/v1/conversions/{id}/manifest"): Line(API_SEES, "converted"),
    ("PUT", "api/v1/conversions/{id}/manifest"): Line(
        API_CHANGES, "converted", {"text": "kind: x"}, type="application/json", done=(422,)
    ),
    ("POST", "api/v1/conversions/{id}/cancel"): Line(API_CHANGES, "queued"),
    ("POST", "api/v1/conversions/{id}/retry"): Line(API_CHANGES, "failed"),
    ("GET", "api/v1/sources"): Line(API_WITH_A_ROLE),
    ("POST", "api/v1/sources"): Line(API_OPERATES, data=SOURCE, type="application/json"),
    ("GET", "api/v1/sources/{id}"): Line(API_SEES, "source"),
    ("PATCH", "api/v1/sources/{id}"): Line(API_OPERATES, "source", {"password": "pw"}, type="application/json"),
    ("DELETE", "api/v1/sources/{id}"): Line(API_OPERATES, "source"),
    ("POST", "api/v1/sources/{id}/test"): Line(API_CHANGES, "source"),
    ("GET", "api/v1/sources/{id}/guests"): Line(API_SEES, "source"),
    ("POST", "api/v1/sources/{id}/refresh"): Line(API_CHANGES, "source", done=(202,)),
    ("GET", "api/v1/batches"): Line(API_WITH_A_ROLE),
    # Whoever may start is told that there is no such source.
    ("POST", "api/v1/batches"): Line(
        API_STARTS, data={"name": "b", "source_id": 0, "guests": ["web01"]}, type="application/json", done=(404,)
    ),
    ("GET", "api/v1/batches/{id}"): Line(API_SEES, "batch"),
}

SOCKETS: dict[str, str] = {
    "ws/board": SOCKET_WITH_A_ROLE,
    "ws/conversions/<int:pk>/log": SOCKET_SEES,
}


# -- what there is ----------------------------------------------------------------------------------------------------


def routes(patterns: Any, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "admin":  # see the test below
                yield from routes(pattern.url_patterns, route)
        else:
            yield route, pattern


def operations() -> set[tuple[str, str]]:
    """Those of the API, also what its description leaves out."""
    found = set()
    for bound in api._get_bound_routers():
        for path, view in bound.path_operations.items():
            for operation in view.operations:
                plain = re.sub(r"\{\w+:(\w+)\}", r"{\1}", f"api{bound.prefix}{path}")
                found |= {(method, plain) for method in operation.methods}
    return found


def test_every_address_has_its_lines() -> None:
    pages = {route for route, _ in routes(get_resolver().url_patterns) if not route.startswith("api/v1/")}
    assert {route for _, route in MATRIX if not route.startswith("api/v1/")} == pages


def test_every_method_of_an_address_has_its_line() -> None:
    """Asked of the views' decorators; what they do not let through is 405 to everybody."""
    for route, pattern in routes(get_resolver().url_patterns):
        if route.startswith("api/") or pattern.name in ("uploads", "upload-file", "login", "logout"):
            continue  # the API's operations have a test of their own; these speak tus or are Django's
        known = {method for method, known_route in MATRIX if known_route == route}
        assert known == open_methods(pattern.callback, route) - {"HEAD"}, route


def open_methods(view: Any, route: str) -> set[str]:
    """The methods that Django's require_http_methods() and its kin let through to a view."""
    while view is not None:
        for cell in getattr(view, "__closure__", None) or ():
            value = cell.cell_contents
            if isinstance(value, list) and value and set(value) <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}:
                return set(value)
        view = getattr(view, "__wrapped__", None)
    raise AssertionError(
        f"{route} does not say which methods it takes: require_safe, require_POST, require_http_methods"
    )


def test_every_operation_of_the_api_has_its_line() -> None:
    assert {key for key in MATRIX if key[1].startswith("api/v1/")} == operations()


def test_every_socket_has_its_line() -> None:
    assert set(SOCKETS) == {str(pattern.pattern) for pattern in websocket_urlpatterns}


def test_every_page_names_what_it_needs() -> None:
    """By access.allowed(); what needs no permission is listed here."""
    free = {"login", "logout", "password", "upload-file", "api-not-found", "openapi-json", "openapi-view", "api-root"}
    for route, pattern in routes(get_resolver().url_patterns):
        if pattern.name not in free and not route.startswith("api/v1/"):
            assert getattr(pattern.callback, "needs", None) in PERMISSIONS, route


# -- the walk ---------------------------------------------------------------------------------------------------------


class World:
    """People, and a thing of each kind for whoever owns it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.people: dict[str, Any] = {
            "viewer": self.person("viewer"),
            "own": self.person("requester"),
            "operator": self.person("operator"),
            "admin": self.person("admin"),
            "no role": self.person(None),
            "anonymous": None,
        }
        self.people["foreign"] = self.people["own"]
        self.other = self.person("operator", "somebody-else")

    def person(self, role: str | None, name: str = "") -> User:
        user = User.objects.create_user(name or f"the-{role}", password="correct-horse")
        if role:
            user.groups.add(Group.objects.get_or_create(name=role)[0])
        return user

    def owner(self, column: str) -> Any:
        return self.people["own"] if column == "own" else self.other

    def address(self, about: str, owner: Any) -> dict[str, Any]:
        """What stands in the address for a thing of the owner's."""
        things: dict[str, Callable[[], dict[str, Any]]] = {
            "": dict,
            "rest": lambda: {"rest": "v1/nothing"},
            "succeeded": lambda: self.conversion(owner, State.SUCCEEDED),
            "converted": lambda: dict.fromkeys(("pk", "id"), converted(owner).pk),
            "picture": lambda: self.picture(owner),
            "queued": lambda: self.conversion(owner, State.QUEUED),
            "failed": lambda: self.conversion(owner, State.FAILED),
            "file": lambda: self.conversion(owner, State.SUCCEEDED) | {"name": "web01.yaml"},
            "draft": lambda: {"draft_id": self.draft(owner)},
            "step": lambda: {"draft_id": self.draft(owner), "step": "source"},
            "person": lambda: {"pk": self.other.pk},
            "token": lambda: {"pk": tokens.create(owner)[0].pk},
            "upload": lambda: dict.fromkeys(("pk", "id"), self.upload(owner)),
            "source": lambda: dict.fromkeys(("pk", "id"), self.source(owner)),
            "selection": lambda: {"draft_id": self.selection(owner), "step": "networks"},
            "batch": lambda: dict.fromkeys(("pk", "id"), Batch.objects.create(name="b", owner=owner).pk),
            "kind": lambda: {"kind": "vcenter"},
        }
        return things[about]()

    def conversion(self, owner: Any, state: State) -> dict[str, Any]:
        plan = Plan(name="web01", source=Source(kind="disk", settings={"paths": ["/srv/web01.img"], "format": "raw"}))
        row = Conversion.objects.create(
            name="web01", owner=owner, state=state, plan_json=plan.model_dump(mode="json"),
            artifacts=[{"name": "web01.yaml", "size": 5, "allocated": 5}] if state == State.SUCCEEDED else [],
            started=timezone.now(), ended=timezone.now(),
        )  # fmt: skip
        row.output_dir.mkdir(parents=True, exist_ok=True)
        (row.output_dir / "web01.yaml").write_text("kind:")
        row.jobdir.path.mkdir(parents=True, exist_ok=True)
        row.jobdir.log.write_text("hello\n")
        return {"pk": row.pk, "id": row.pk}

    def picture(self, owner: Any) -> dict[str, Any]:
        test = boot_tests.ask(row := converted(owner))
        folder = boot_tests.folder_of(test)
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / "screen-001.png").write_bytes(b"PNG")
        return {"pk": row.pk, "id": row.pk, "test_id": test.pk, "name": "screen-001.png"}

    def draft(self, owner: Any) -> Any:
        return Draft.objects.create(owner=owner, data={"kind": "disk"}).pk

    def selection(self, owner: Any) -> Any:
        data = {"kind": "guests", "source_id": self.source(owner), "guests": []}
        return Draft.objects.create(owner=owner, data=data).pk

    def source(self, owner: Any) -> Any:
        return SavedSource.objects.create(
            kind="vcenter", name=f"vc{owner.pk}", owner=owner, shared=False, host="127.0.0.1", port=1, user="root"
        ).pk

    def upload(self, owner: Any) -> Any:
        return uploads.create(owner, name="a.ova", size=10).pk


@pytest.fixture
def world(db: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    settings.DATA_DIR = tmp_path
    # The look at a disk, and the measuring of the machine, are other tests' matter.
    plan = Plan(name="web09", source=Source(kind="disk"))
    monkeypatch.setattr("conversions.views.api.make_plan", lambda **_: (plan, {}))
    monkeypatch.setattr("conversions.views.api.create_conversion", lambda plan, _, user: Conversion.objects.create(
        name=plan.name, owner=user, plan_json=plan.model_dump(mode="json")))  # fmt: skip
    monkeypatch.setattr("conversions.host.system.report", list)
    return World(tmp_path)


def rows() -> dict[str, list[str]]:
    """All that is stored, to see whether a refused request has changed something."""
    unimportant = {"last_login", "last_used", "updated", "touched"}
    found = {}
    for model in [User, User.groups.through, *apps.get_app_config("conversions").get_models(include_auto_created=True)]:
        values = ({k: v for k, v in row.items() if k not in unimportant} for row in model._default_manager.values())
        found[model.__name__] = sorted(map(repr, values))
    return found


def ask(world: World, key: tuple[str, str], line: Line, column: str) -> tuple[str, str]:
    """(what happened, details)"""
    method, route = key
    user = world.people[column]
    client = Client(raise_request_exception=True)
    headers = dict(line.headers)
    if user and route.startswith("api/v1/"):
        headers["Authorization"] = f"Bearer {tokens.create(user)[1]}"
    elif user:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    parts = world.address(line.about, world.owner(column))
    url = "/" + re.sub(r"<\w+:(\w+)>|\{(\w+)\}", lambda match: str(parts[match[1] or match[2]]), route)
    before = rows()
    if isinstance(line.data, dict) and not line.type:
        response = client.post(url, line.data, headers=headers)
    else:
        data = line.data if isinstance(line.data, bytes) else json.dumps(line.data or {})
        type = line.type or "application/x-www-form-urlencoded"
        body = {} if method in ("GET", "HEAD") else {"data": data, "content_type": type}
        response = getattr(client, method.lower())(url, headers=headers, **body)
    status, where = response.status_code, response.headers.get("Location", "")
    if status == 302 and where.startswith("/login/?next="):
        outcome = "login"
    elif status in line.done:
        outcome = "yes"
    else:
        outcome = str(status)
    assert outcome == "yes" or rows() == before, f"{key} was refused to {column} and has changed something"
    return outcome, f"{status} {where} {b'' if response.streaming else response.content[:300]!r}"


@pytest.mark.parametrize("key", MATRIX, ids=[f"{method} /{route}" for method, route in MATRIX])
def test_everybody_gets_what_the_matrix_says(world: World, key: tuple[str, str]) -> None:
    line = MATRIX[key]
    expected = dict(zip(COLUMNS, line.outcomes.split(), strict=True))
    found, details = {}, {}
    for column in COLUMNS:
        with transaction.atomic():
            found[column], details[column] = ask(world, key, line, column)
            transaction.set_rollback(True)
    assert found == expected, details


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("route", SOCKETS)
async def test_every_socket_lets_in_whom_the_matrix_says(route: str, settings: Any, tmp_path: Path) -> None:
    from channels.routing import URLRouter

    settings.DATA_DIR = tmp_path
    world = await sync_to_async(World)(tmp_path)
    expected = dict(zip(COLUMNS, SOCKETS[route].split(), strict=True))
    found = {}
    for column in COLUMNS:
        about = "succeeded" if "<" in route else ""
        parts = await sync_to_async(world.address)(about, world.owner(column))
        url = "/" + re.sub(r"<\w+:(\w+)>", lambda match, parts=parts: str(parts[match[1]]), route)  # type: ignore[misc]
        socket = WebsocketCommunicator(URLRouter(websocket_urlpatterns), url)
        socket.scope["user"] = world.people[column] or AnonymousUser()
        let_in, code = await socket.connect(timeout=10)
        found[column] = "yes" if let_in else str(code)
        await socket.disconnect()
    assert found == expected


# -- what the walk cannot see -----------------------------------------------------------------------------------------


def test_a_list_has_only_what_somebody_may_see(world: World) -> None:
    for owner in (world.people["own"], world.other):
        world.conversion(owner, State.QUEUED)
        world.draft(owner)
    for model in (Conversion, Draft):
        seen = {name: visible_to(user, model.objects.all()).count() for name, user in world.people.items() if user}
        assert seen == {"viewer": 2, "own": 1, "foreign": 1, "operator": 2, "admin": 2, "no role": 0}
    assert visible_to(AnonymousUser(), Conversion.objects.all()).count() == 0


def test_nobody_revokes_somebody_elses_token_on_the_tokens_page(world: World) -> None:
    token, _ = tokens.create(world.other)
    for column in ("viewer", "own", "operator", "admin"):
        client = Client()
        client.force_login(world.people[column], backend="django.contrib.auth.backends.ModelBackend")
        client.post(f"/account/tokens/{token.pk}/revoke/")
    assert ApiToken.objects.filter(pk=token.pk).exists()


def test_djangos_admin_is_for_superusers(world: World, root_admin: Any) -> None:
    for user in [*filter(None, world.people.values()), AnonymousUser()]:
        client = Client()
        if user.is_authenticated:
            client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        for path in ("/admin/", "/admin/conversions/conversion/", "/admin/auth/user/"):
            assert client.get(path).status_code == 302, (user, path)
    client = Client()
    client.force_login(root_admin, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/").status_code == 200


def test_a_superuser_is_an_admin_and_somebody_locked_out_is_nobody(world: World, root_admin: Any) -> None:
    assert role_of(root_admin) == "admin"
    admin = world.people["admin"]
    assert admin.has_perm("conversions.change_people")
    admin.is_active = False
    assert role_of(admin) is None
    assert not any(admin.has_perm(name) for name in PERMISSIONS)


def test_the_strongest_of_several_roles_counts(world: World) -> None:
    user = world.people["viewer"]
    user.groups.add(Group.objects.get(name="operator"))
    assert role_of(User.objects.get(pk=user.pk)) == "operator"
    assert set(ROLES) == {"viewer", "requester", "operator", "admin"}
