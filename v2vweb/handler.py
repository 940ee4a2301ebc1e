"""Django behind the web server: a request runs in one thread from the first middleware to the last.

Django's own ASGI handler changes between the event loop and threads around nearly each middleware of a chain that is not all
asynchronous, starts a thread for each request, and its connection to the database with it: that costs more than all that
our pages do.  No view of ours is asynchronous.  Here some threads stay, with their connections.
"""

import asyncio
import contextlib
import contextvars
import hashlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import django
from asgiref.sync import ThreadSensitiveContext
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.db import close_old_connections
from django.http import HttpResponseBase
from django.urls import set_script_prefix

#: Where nginx asks whether it may take a piece of an upload (docs/nginx.md).
MAY_SEND = "/uploads/allowed/"
#: Seconds for which a "yes" is remembered.  The piece itself is checked in full when it has come: this only keeps
#: strangers from filling the disk.
REMEMBERED = 5.0
MOST = 1000
#: Requests at once; further ones wait.  Some of them wait themselves: for a vCenter, say, up to some seconds.
THREADS = 32
#: Pieces of uploads at once: they wait for a bucket perhaps, and pages must not wait for them.
PIECES = 16


class Handler(ASGIHandler):
    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(THREADS, "request")
        self._pieces = ThreadPoolExecutor(PIECES, "piece")
        self._allowed: dict[bytes, float] = {}  # digest of who asks -> until when

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != MAY_SEND:
            await self.handle(scope, receive, send)
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

        await self.handle(scope, receive, note)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Django has nothing for {scope['type']} here.")
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        threads = self._pieces if scope["method"] == "PATCH" else self._threads
        job = threads.submit(contextvars.copy_context().run, self._answer, scope, body)
        try:
            response = await asyncio.wrap_future(job)
        except asyncio.CancelledError:  # the reader has gone; a job that has begun cannot be stopped
            job.add_done_callback(_close_unsent)
            raise
        if response.streaming:
            await self._stream(response, receive, send)
        else:
            await self.send_response(response, send)

    def _answer(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        """All of a request, in a thread; what is left open is only a response that streams."""
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=self.__class__, scope=scope)  # has Django look after the thread's connection
        with contextlib.closing(body):  # here and not by who waits: that one may be told to stop while this reads
            request, refusal = self.create_request(scope, body)
            response: HttpResponseBase | None = refusal if request is None else self.get_response(request)
        assert response is not None
        response._handler_class = self.__class__  # type: ignore[attr-defined]  # the sender of request_finished
        if response.streaming:
            close_old_connections()  # this thread's: it is sent, and closed, from others
        else:
            response.close()
        return response

    async def _stream(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        """Sends until all is sent or the reader has gone."""
        async with ThreadSensitiveContext():  # for what iterates in a thread
            tasks = [
                asyncio.ensure_future(self.send_response(response, send)),
                asyncio.ensure_future(self.listen_for_disconnect(receive)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.get_running_loop().run_in_executor(self._threads, response.close)
            if isinstance(done[0], Exception):
                raise done[0]


def _close_unsent(job: "Future[HttpResponseBase]") -> None:
    """What streams holds files open; nobody else closes it when its reader has gone before it was there."""
    if not job.cancelled() and job.exception() is None and job.result().streaming:
        job.result().close()


def _digest(scope: Any) -> bytes:
    """Of what tells who asks.  Not the thing itself: nothing that opens anything is kept in memory for it."""
    told = [(name, value) for name, value in scope["headers"] if name in (b"cookie", b"authorization")]
    return hashlib.sha256(repr(sorted(told)).encode()).digest()


def get_application() -> Handler:
    django.setup(set_prefix=False)
    return Handler()
