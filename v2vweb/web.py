"""Daphne with patience: what a slow reader has not taken yet is not piled up in memory.

Daphne's handle_reply() returns before anything is on the wire, so an application that streams a disk of 100 GB to a slow
line would have all of it in memory.  Here a piece of a response waits until the transport has room for it, which is what
ASGI's `await send()` is for.  Takes Daphne's own command line: `python -m v2vweb.web v2vweb.asgi:application`.
"""

import asyncio
import sys
from typing import Any

import daphne.server
from daphne.cli import CommandLineInterface
from daphne.http_protocol import WebRequest
from daphne.server import Server

from . import bodies
from .environment import read_environment


class Room:
    """Twisted's push producer for a response: told to pause when the transport's buffer is full."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.there.set()

    def pauseProducing(self) -> None:
        self.there.clear()

    def resumeProducing(self) -> None:
        self.there.set()

    def stopProducing(self) -> None:
        self.there.set()  # the reader is gone: nobody waits for it any more


class PatientServer(Server):  # type: ignore[misc]  # Daphne has no types
    def run(self) -> None:
        env = read_environment()
        bodies.Request.upload_dir = env.upload_dir or env.data_dir / "uploads"
        bodies.Request.chunk = env.upload_chunk
        daphne.server.HTTPFactory = bodies.Factory  # Server.run() offers no other way
        super().run()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if getattr(protocol, "piece", None) is not None:
            scope[bodies.SCOPE_KEY] = protocol.piece
        return super().create_application(protocol, scope)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if isinstance(protocol, WebRequest) and message["type"] == "http.response.body":
            if not message.get("more_body", False):
                if protocol.producer is not None:
                    protocol.unregisterProducer()
            elif protocol.channel is not None and not protocol.finished:
                if protocol.producer is None:
                    protocol.registerProducer(Room(), True)
                await protocol.producer.there.wait()
        await super().handle_reply(protocol, message)


class Web(CommandLineInterface):  # type: ignore[misc]
    server_class = PatientServer


if __name__ == "__main__":
    Web().run(sys.argv[1:])
