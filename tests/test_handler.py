"""Django behind the web server: one thread for each request, and a remembered yes for nginx."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.signals import request_finished
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from v2vweb import handler

THREADS: list[int] = []
Next = Callable[[HttpRequest], HttpResponse]


def noting(get_response: Next) -> Next:
    def middleware(request: HttpRequest) -> HttpResponse:
        THREADS.append(threading.get_ident())
        return get_response(request)

    return middleware


def view(request: HttpRequest) -> HttpResponse:
    THREADS.append(threading.get_ident())
    return HttpResponse("hello")


class Endless:
    """What a download gives, for as long as somebody reads."""

    def __init__(self) -> None:
        self.given, self.closed = 0, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.given += 1
                yield b"x"
                await asyncio.sleep(0.01)
        finally:
            self.closed = True


ENDLESS: list[Endless] = []
CONNECTIONS: list[Any] = []  # the things themselves: the number of one that is gone may be another's


def endless(request: HttpRequest) -> StreamingHttpResponse:
    ENDLESS.append(Endless())
    return StreamingHttpResponse(ENDLESS[-1])


def connections_identity(request: HttpRequest) -> HttpResponse:
    connection.ensure_connection()
    CONNECTIONS.append(connection.connection)
    return HttpResponse("hello")


WORKING, GONE = threading.Event(), threading.Event()
READ: list[bytes] = []


def slow(request: HttpRequest) -> StreamingHttpResponse:
    WORKING.set()
    GONE.wait(5)
    READ.append(request.read())
    return endless(request)


def streaming_from_the_database(request: HttpRequest) -> StreamingHttpResponse:
    connection.ensure_connection()
    return StreamingHttpResponse(Few())


def waiting(request: HttpRequest) -> HttpResponse:
    GONE.wait(5)
    return HttpResponse("there")


class Few:
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"


urlpatterns = [
    path("hello/", view),
    path("endless/", endless),
    path("connection/", connections_identity),
    path("slow/", slow),
    path("few/", streaming_from_the_database),
    path("waiting/", waiting),
]


def ask(app: Any, where: str, *headers: tuple[bytes, bytes], method: str = "GET") -> int:
    """The status of an answer."""
    scope = {"type": "http", "method": method, "path": where, "query_string": b"", "headers": list(headers)}

    async def talk() -> int:
        line = ApplicationCommunicator(app, scope | {"http_version": "1.1", "server": ("localhost", 80)})
        await line.send_input({"type": "http.request"})
        start = await line.receive_output(5)
        await line.receive_output(5)
        await line.wait(5)
        return int(start["status"])

    return asyncio.run(talk())


def test_a_request_stays_in_one_thread_that_is_not_the_event_loops(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["*"]
    settings.MIDDLEWARE = [
        f"{__name__}.noting",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        f"{__name__}.noting",
    ]
    THREADS.clear()
    assert ask(handler.Handler(), "/hello/") == 200
    assert len(THREADS) == 3 and len(set(THREADS)) == 1
    assert THREADS[0] != threading.get_ident()


def test_a_download_ends_when_its_reader_has_gone(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS, settings.MIDDLEWARE = __name__, ["*"], []
    ENDLESS.clear()

    async def talk() -> None:
        scope = {"type": "http", "method": "GET", "path": "/endless/", "query_string": b"", "headers": []}
        line = ApplicationCommunicator(handler.Handler(), scope | {"http_version": "1.1", "server": ("localhost", 80)})
        await line.send_input({"type": "http.request"})
        for _ in range(4):
            await line.receive_output(5)
        assert not ENDLESS[0].closed
        await line.send_input({"type": "http.disconnect"})
        await line.wait(5)

    asyncio.run(talk())
    assert ENDLESS[0].given >= 3 and ENDLESS[0].closed


@pytest.mark.django_db(transaction=True)
def test_a_thread_and_its_connection_to_the_database_stay_from_request_to_request(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite's connections are kept")
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS, settings.MIDDLEWARE = __name__, ["*"], []
    monkeypatch.setattr(handler, "THREADS", 1)  # a second one may begin while the first is not quite idle
    CONNECTIONS.clear()
    app = handler.Handler()
    assert [ask(app, "/connection/") for _ in range(3)] == [200, 200, 200]
    assert len(CONNECTIONS) == 3 and len(set(map(id, CONNECTIONS))) == 1
    app._threads.submit(lambda: connection.close()).result()  # each thread has one of its own


def test_a_view_whose_reader_has_gone_reads_on_and_what_it_made_is_closed(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS, settings.MIDDLEWARE = __name__, ["*"], []
    for list_ in (ENDLESS, READ):
        list_.clear()
    for event in (WORKING, GONE):
        event.clear()
    closed = threading.Event()
    app = handler.Handler()

    async def talk() -> None:
        scope = {"type": "http", "method": "PUT", "path": "/slow/", "query_string": b"", "headers": []}
        given = [{"type": "http.request", "body": b"all of it"}]

        async def receive() -> Any:
            return given.pop()

        async def send(message: Any) -> None:
            raise AssertionError("there is nobody to send it to")

        request = asyncio.create_task(app(scope | {"http_version": "1.1", "server": ("localhost", 80)}, receive, send))
        await asyncio.to_thread(WORKING.wait, 5)
        request.cancel()  # as Daphne does some seconds after a reader has gone
        with pytest.raises(asyncio.CancelledError):
            await request

    def finished(sender: Any, **_: Any) -> None:
        closed.set()

    request_finished.connect(finished, sender=handler.Handler)
    try:
        asyncio.run(talk())
        GONE.set()
        assert closed.wait(5), "the response was never closed"
    finally:
        request_finished.disconnect(finished, sender=handler.Handler)
    assert READ == [b"all of it"] and len(ENDLESS) == 1


def test_pages_do_not_wait_for_pieces_of_uploads(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS, settings.MIDDLEWARE = __name__, ["*"], []
    monkeypatch.setattr(handler, "PIECES", 1)
    monkeypatch.setattr(handler, "THREADS", 1)
    GONE.clear()
    app = handler.Handler()
    pieces = [threading.Thread(target=ask, args=(app, "/waiting/"), kwargs={"method": "PATCH"}) for _ in range(3)]
    for piece in pieces:
        piece.start()
    try:
        assert ask(app, "/hello/") == 200
    finally:
        GONE.set()
        for piece in pieces:
            piece.join()


@pytest.mark.django_db(transaction=True)
def test_a_download_gives_its_connection_to_the_database_back(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS, settings.MIDDLEWARE = __name__, ["*"], []
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    monkeypatch.setattr(handler, "THREADS", 1)
    app = handler.Handler()
    left: list[Any] = []
    close = StreamingHttpResponse.close

    def noting_close(response: StreamingHttpResponse) -> None:
        left.append(connection.connection)  # in the only thread that there is, before Django looks after it
        close(response)

    monkeypatch.setattr(StreamingHttpResponse, "close", noting_close)
    assert ask(app, "/few/") == 200
    assert left == [None]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[bytes, bytes]]:
    """Whom Django was asked about; it says yes to those whose token or cookie has "good" in it."""
    found: list[dict[bytes, bytes]] = []

    async def stand_in_for_django(self: Any, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        found.append(headers)
        told = headers.get(b"authorization", b"") + headers.get(b"cookie", b"")
        await send({"type": "http.response.start", "status": 204 if b"good" in told else 401, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr(handler.Handler, "handle", stand_in_for_django)
    return found


GOOD = (b"authorization", b"Bearer good")


def test_a_yes_to_nginx_is_remembered_for_the_one_who_asked(asked: list[Any]) -> None:
    app = handler.Handler()
    assert [ask(app, handler.MAY_SEND, GOOD, (b"x-other", b"%d" % n)) for n in range(3)] == [204, 204, 204]
    assert len(asked) == 1
    for header in (b"authorization", b"Bearer bad"), (b"cookie", b"Bearer good"):
        ask(app, handler.MAY_SEND, header)
    assert ask(app, handler.MAY_SEND) == 401
    assert len(asked) == 4, "everybody else is asked about"
    assert not any(b"good" in key for key in app._allowed), "nothing that opens anything is kept"


def test_a_no_is_never_remembered(asked: list[Any]) -> None:
    app = handler.Handler()
    assert [ask(app, handler.MAY_SEND, (b"cookie", b"sessionid=bad")) for _ in range(3)] == [401] * 3
    assert len(asked) == 3


def test_no_other_address_is_answered_from_memory(asked: list[Any]) -> None:
    app = handler.Handler()
    for _ in range(2):
        assert ask(app, handler.MAY_SEND, GOOD) == ask(app, "/uploads/", GOOD) == 204
    assert len(asked) == 3


def test_a_yes_is_forgotten_after_some_seconds(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app = handler.Handler()
    now = [100.0]
    monkeypatch.setattr(handler, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for at in (100.0, 104.9, 105.1, 110.0, 110.2):
        now[0] = at
        assert ask(app, handler.MAY_SEND, GOOD) == 204
    assert len(asked) == 3


def test_what_is_remembered_is_bounded(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "MOST", 5)
    app = handler.Handler()
    for number in range(20):
        assert ask(app, handler.MAY_SEND, (b"cookie", b"good%d" % number)) == 204
    assert len(app._allowed) == 5
