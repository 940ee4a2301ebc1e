"""QEMU's monitor (QMP) over its standard input and output: pictures of the screen, and what happens to the machine."""

import json
import os
import select
import subprocess
import time
from typing import Any, cast

_ANSWER = 30.0  #: seconds; a busy emulated guest answers late


class MonitorGoneError(Exception):
    """QEMU ended, or does not answer any more."""


class Monitor:
    """Talks to one QEMU.  Events that come in between are kept in `events`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin and process.stdout
        self.process = process
        self._in = process.stdin.fileno()
        self._out = process.stdout.fileno()
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def greet(self) -> None:
        self._receive("QMP")
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to a command.  Raises MonitorGoneError; an error of QEMU is {"error": ...}."""
        text = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        try:
            os.write(self._in, text)
        except OSError as error:
            raise MonitorGoneError(str(error)) from error
        answer = self._receive("return", "error")
        return answer.get("return", answer)

    def poll(self, seconds: float) -> None:
        """Reads events for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._next(left)
            if message is not None and "event" in message:
                self.events.append(message)

    def _receive(self, *keys: str) -> dict[str, Any]:
        deadline = time.monotonic() + _ANSWER
        while (left := deadline - time.monotonic()) > 0:
            message = self._next(left)
            if message is None:
                continue
            if "event" in message:
                self.events.append(message)
            elif any(key in message for key in keys):
                return message
        raise MonitorGoneError("no answer")

    def _next(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None when none came in that time."""
        while b"\n" not in self._rest:
            if not select.select([self._out], [], [], seconds)[0]:
                return None
            data = os.read(self._out, 65536)
            if not data:
                raise MonitorGoneError("QEMU ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return cast("dict[str, Any]", json.loads(line))
