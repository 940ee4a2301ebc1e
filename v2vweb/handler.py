"""Django behind the web server: a request runs in one thread from the first middleware to the last.

Django's own ASGI handler changes between the event loop and threads around nearly each middleware of a chain that is not all
asynchronous, which costs more than all that our pages do.  No view of ours is asynchronous.
"""

import hashlib
import time
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest, HttpResponseBase

#: Where nginx asks whether it may take a piece of an upload (docs/nginx.md).
MAY_SEND = "/uploads/allowed/"
#: Seconds for which a "yes" is remembered.  The piece itself is checked in full when it has come: this only keeps
#: strangers from filling the disk.
REMEMBERED = 5.0
MOST = 1000


class Handler(ASGIHandler):
    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._allowed: dict[bytes, float] = {}  # digest of who asks -> until when

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await sync_to_async(self.get_response, thread_sensitive=True)(request)
        return response

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != MAY_SEND:
            await super().__call__(scope, receive, send)
            return
        who = _digest(scope)
        now = time.monotonic()
        if self._allowed.get(who, 0) > now:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 204:
                if len(self._allowed) >= MOST:
                    self._allowed = {key: until for key, until in self._allowed.items() if until > now}
                if len(self._allowed) < MOST:
                    self._allowed[who] = now + REMEMBERED
            await send(message)

        await super().__call__(scope, receive, note)


def _digest(scope: Any) -> bytes:
    """Of what tells who asks.  Not the thing itself: nothing that opens anything is kept in memory for it."""
    told = [(name, value) for name, value in scope["headers"] if name in (b"cookie", b"authorization")]
    return hashlib.sha256(repr(sorted(told)).encode()).digest()


def get_application() -> Handler:
    django.setup(set_prefix=False)
    return Handler()
