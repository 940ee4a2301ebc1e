"""Step 5, events: the web sockets.  A log socket is an offset in the log file; the board's socket names changed rows.

Plain ASGI instead of Channels' consumer classes: those pass every message, and with a thousand viewers every
acknowledgement, through a thread that looks after database connections (measured: half a core).  Nothing here holds a
connection; what asks the database goes through database_sync_to_async, which closes it again.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.http import HttpRequest

from .logs import FRAME, Tail
from .models import Conversion
from .rooms import Room, room_of
from .watch import watch

logger = logging.getLogger(__name__)

NOT_LOGGED_IN = 4401
NOT_ALLOWED = 4403
RECHECK = 15  #: seconds between two looks at whether those who watch still may
BOARD_EVERY = 1.0  #: seconds between two messages to a board

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class Socket:
    """A web socket of somebody who is logged in and has a permission, asked at the start and again and again."""

    permission: ClassVar[str]
    open: ClassVar[set["Socket"]] = set()
    _guard: ClassVar[asyncio.Task[None] | None] = None

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.user: Any = scope.get("user")  # none in a browser: admit() reads it
        self.session_key: str | None = scope.get("cookies", {}).get(settings.SESSION_COOKIE_NAME)
        self.pk: int | None = scope["url_route"]["kwargs"].get("pk")
        self._rung = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    def as_asgi(cls) -> Any:
        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await cls(scope, receive, send).run()

        return app

    async def run(self) -> None:
        await self.receive()  # websocket.connect
        if refused := await database_sync_to_async(self.admit)():
            await self.send({"type": "websocket.close", "code": refused})
            return
        await self.send({"type": "websocket.accept"})
        self.enter()
        self._writer = asyncio.create_task(self.write())
        try:
            while (message := await self.receive())["type"] == "websocket.receive":
                # Nonsense is passed over; and what is longer than an acknowledgement is not even looked at.
                with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError):
                    self.acknowledged(int(json.loads((message.get("text") or "")[:100])["ack"]))
        finally:
            self.leave()

    def admit(self) -> int | None:
        """One trip to the database for a socket: person and permission together."""
        if self.user is None and self.session_key:
            self.user = fresh_user(self.session_key, None)
        return verdict(self.user, self.permission, self.pk)

    def enter(self) -> None:
        """Takes part; told once."""
        Socket.open.add(self)
        if Socket._guard is None:
            Socket._guard = asyncio.create_task(recheck())

    def leave(self) -> None:
        """Takes part no longer; may be told twice."""
        if self not in Socket.open:
            return
        Socket.open.discard(self)
        if not Socket.open and Socket._guard is not None:
            Socket._guard.cancel()
            Socket._guard = None
        if self._writer is not None:
            self._writer.cancel()
        self.left()

    def left(self) -> None:
        raise NotImplementedError

    async def close(self, code: int) -> None:
        self.leave()
        with contextlib.suppress(Exception):  # it may be closing itself
            await self.send({"type": "websocket.close", "code": code})

    def ring(self) -> None:
        self._rung.set()

    async def rung(self) -> None:
        await self._rung.wait()
        self._rung.clear()

    async def write(self) -> None:
        raise NotImplementedError

    def acknowledged(self, number: int) -> None:
        raise NotImplementedError


class LogSocket(Socket):
    """/ws/conversions/<id>/log?offset=<bytes>&attempt=<n>: the state and the log of a conversion.

    Sends at most one frame a tick, and nothing while FRAME bytes are not acknowledged: who does not read falls behind in
    the file and costs no memory.
    """

    permission = "conversions.see_conversion"

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        self.offset = _number(query, "offset")
        self.wanted = _number(query, "attempt")
        self.acked = self.offset
        self.room: Room | None = None
        self.tail: Tail | None = None
        self.state = ""
        self.ended = False

    def left(self) -> None:
        if self.room is not None:
            self.room.leave(self)

    def lacks(self) -> bool:
        room, tail = self.room, self.tail
        if room is None or room.tail is None or tail is None:
            return False
        return (
            self.state is not room.state
            or tail is not room.tail
            or self.offset > tail.end
            or (self.offset < tail.end and self.may_send(tail))
            or (tail.complete and not self.ended and self.offset == tail.end)
        )

    def may_send(self, tail: Tail) -> bool:
        return min(tail.end, self.offset + FRAME) - self.acked <= FRAME

    def acknowledged(self, number: int) -> None:
        self.acked = max(self.acked, min(number, self.offset))

    async def write(self) -> None:
        assert self.pk is not None
        self.room = room_of(self.pk)
        await self.room.join(self)
        self.tail = self.room.tail
        if self.wanted and self.tail is not None and self.wanted != self.tail.attempt:
            await self.start_again()
        while True:
            await self.rung()
            await self.push()

    async def push(self) -> None:
        assert self.room is not None and self.room.tail is not None
        if self.state is not self.room.state:
            self.state = self.room.state
            await self.text(self.state)
        if self.tail is not self.room.tail or self.offset > self.room.tail.end:
            await self.start_again()
        tail = self.room.tail
        if self.offset < tail.end and self.may_send(tail):
            end, text = await tail.message(self.offset)
            if end > self.offset:
                self.offset = end
                await self.text(text)
        if tail.complete and self.offset == tail.end and not self.ended:
            self.ended = True
            await self.text('{"t": "eof"}')

    async def start_again(self) -> None:
        """Another attempt, or a log that was cut off: the viewer clears what it shows."""
        assert self.room is not None and self.room.tail is not None
        self.tail = self.room.tail
        self.offset = self.acked = 0
        self.ended = False
        await self.text(json.dumps({"t": "attempt", "attempt": self.tail.attempt}))

    async def text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})


class BoardSocket(Socket):
    """/ws/board: names the conversions that changed, of those the person may see; the page asks for their rows by HTTP."""

    permission = "conversions.use"

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.changed: set[int] = set()
        self.unanswered = False

    def enter(self) -> None:
        super().enter()
        watch.add(self.hear)

    def left(self) -> None:
        watch.remove(self.hear)

    def hear(self, rows: list[Conversion], states: dict[int, dict[str, Any]]) -> None:
        # No query: the role was read when the socket opened, and is cached with the user.
        self.changed.update(row.pk for row in rows if self.user.has_perm("conversions.see_conversion", row))
        if self.changed:
            self.ring()

    def acknowledged(self, number: int) -> None:
        self.unanswered = False
        if self.changed:
            self.ring()

    async def write(self) -> None:
        while True:
            await self.rung()
            if self.changed and not self.unanswered:
                ids, self.changed = sorted(self.changed), set()
                self.unanswered = True
                await self.send({"type": "websocket.send", "text": json.dumps({"t": "changed", "ids": ids})})
                await asyncio.sleep(BOARD_EVERY)


def _number(query: dict[str, list[str]], name: str) -> int:
    value = query.get(name, ["0"])[0]
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else 0


def verdict(user: Any, permission: str, pk: int | None) -> int | None:
    """The code to close with, or None: may this user open this?"""
    if user is None or not user.is_authenticated or not user.is_active:
        return NOT_LOGGED_IN
    if not user.has_perm(permission):
        return NOT_ALLOWED
    if pk is None:
        return None
    conversion = Conversion.objects.only("id", "owner_id").filter(pk=pk).first()
    return None if conversion is not None and user.has_perm(permission, conversion) else NOT_ALLOWED


def fresh_user(session_key: str | None, user: Any) -> Any:
    """The user of a session as the database has it now; without a session (never in a browser) the user's row alone."""
    if session_key is None:
        return get_user_model().objects.filter(pk=user.pk).first()
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return get_user(request)  # also refuses a session from before a change of the password


def verdicts(asked: Iterable[tuple[str | None, Any, str, int | None]]) -> list[tuple[int | None, Any]]:
    """For each (session key, user, permission, conversion): the code to close with or None, and the user as of now."""
    users: dict[Any, Any] = {}
    known: dict[Any, int | None] = {}
    answers = []
    for session_key, user, permission, pk in asked:
        person = (session_key, user.pk)
        if person not in users:
            users[person] = fresh_user(session_key, user)
        key = (*person, permission, pk)
        if key not in known:
            known[key] = verdict(users[person], permission, pk)
        answers.append((known[key], users[person]))
    return answers


async def recheck() -> None:
    """Closes the sockets of people who were logged out or lost their role."""
    while True:
        await asyncio.sleep(RECHECK)
        try:
            await recheck_once()
        except Exception:
            logger.exception("asking again who may watch")  # a database that is away for a moment throws nobody out


async def recheck_once() -> None:
    sockets = list(Socket.open)
    asked = [(s.session_key, s.user, s.permission, s.pk) for s in sockets]
    for socket, (code, user) in zip(sockets, await database_sync_to_async(verdicts)(asked), strict=True):
        if code is not None:
            await socket.close(code)
        else:
            socket.user = user
