"""Where the bodies of requests go while they arrive.

Twisted and Daphne take a body whole before anybody asks who sends it, copy it twice through Python, and set no limit.
Here a body that is larger than any page or API call may send is cut off, and a piece of an upload goes into a nameless file
beside the uploads at once, from where the view has the kernel copy it (or only link its blocks) into place.
"""

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from daphne import http_protocol
from daphne.http_protocol import WebRequest

#: Bytes that any other request may have: what a browser sends before an upload to have a file looked at is the largest.
OTHERS = 34 << 20
SLACK = 64 << 10
#: The key in the ASGI scope under which the view finds the file, open and complete.
SCOPE_KEY = "v2vweb.body"


class Request(WebRequest):  # type: ignore[misc]  # Daphne has no types
    upload_dir: Path  #: set once, when the server starts
    chunk: int  #: bytes of a piece of an upload

    piece: io.FileIO | None = None
    _left = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        is_piece = self.channel._command == b"PATCH" and self.channel._path.startswith(b"/uploads/")
        self._left = self.chunk + SLACK if is_piece else OTHERS
        if length is not None and length > self._left:
            self.content = io.BytesIO()
            self._refuse(413, "Content Too Large", "body-too-large", "This request is larger than v2vweb takes.")
        elif is_piece and length is not None and length >= 100_000:
            self.upload_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.content = io.BytesIO()
            # Without a name from its first moment: nothing is left of it, however this process ends.
            self.piece = tempfile.TemporaryFile(dir=self.upload_dir, buffering=0)  # noqa: SIM115
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        self._left -= len(data)
        if self._left < 0:
            self._refuse(413, "Content Too Large", "body-too-large", "This request is larger than v2vweb takes.")
        elif self.piece is None:
            super().handleContentChunk(data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        assert self.piece is not None
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.piece.fileno(), view) :]
        except OSError as error:
            self.piece.close()
            self.piece = None
            text = f"Nothing that was sent is lost. The server's disk is full ({error.strerror})."
            self._refuse(507, "Insufficient Storage", "upload-disk-full", text)

    def _refuse(self, status: int, reason: str, code: str, text: str) -> None:
        self._refused = True
        body = json.dumps({"error": {"code": code, "title": reason, "text": text}}).encode()
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Tus-Resumable: 1.0.0\r\nRetry-After: 30\r\nConnection: close\r\n\r\n"
        )
        self.channel.transport.write(head.encode() + body)
        self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)


class Factory(http_protocol.HTTPFactory):  # type: ignore[misc]
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = Request
        return protocol
