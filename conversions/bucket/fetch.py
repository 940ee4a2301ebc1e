"""Fetches a whole object of a bucket into a file, where it cannot be mounted.  Standard library only: the agent uses it."""

import contextlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from ..problems import Problem, RefusedError

PIECE = 1 << 20
TRIES = 6  #: one after the other without a byte, with pauses of 2, 4, 8, ... seconds
SECONDS = 60  #: without an answer

#: Told the bytes that are there, at most once a second.
Tell = Callable[[int], object]


def probe(address: Path, size: int) -> None:
    """Asks for the object's first byte.  Raises RefusedError when it is not there, or not to be had with this address."""
    with contextlib.closing(_ask(address, 0, 1)) as answer:
        total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
    if total != str(size):
        raise _refused("bucket-object-changed", f"It should have {size} bytes, and the server says “{total[:40]}”.")


def fetch(address: Path, file: Path, size: int, tell: Tell = lambda _: None) -> None:
    """Raises RefusedError when the bucket does not give all of it."""
    done, told, failed = 0, 0.0, 0
    with file.open("wb") as output:
        while done < size:
            before, error = done, ""
            try:
                with contextlib.closing(_ask(address, done, size)) as answer:
                    for data in _pieces(answer, size - done):
                        output.write(data)
                        done += len(data)
                        if time.monotonic() - told >= 1:
                            told = time.monotonic()
                            tell(done)
            except RefusedError as refusal:
                if refusal.problem.code != "bucket-unreachable":
                    raise
                error = refusal.problem.text
            failed = 0 if done > before else failed + 1
            if done < size and failed >= TRIES:
                raise _refused("bucket-unreachable", f"The connection broke off again and again. {error[:200]}")
            if failed:
                time.sleep(2**failed)
    tell(done)


def _pieces(answer: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
    while most:
        try:
            data = answer.read(min(PIECE, most))
        except (http.client.HTTPException, OSError) as error:  # of TLS too; a full disk here is no matter of this
            raise _refused("bucket-unreachable", str(error)) from None
        if not data:
            return
        most -= len(data)
        yield data


def _ask(address: Path, first: int, end: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(address.read_text(), headers={"Range": f"bytes={first}-{end - 1}"})
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410, 416):
            raise _refused(
                "bucket-object-gone", "It was removed from there.", "Upload the file again.", "you"
            ) from None
        if error.code in (401, 403):
            raise _refused(
                "bucket-forbidden", f"The server answered {error.code}: it does not accept our key."
            ) from None
        raise _refused("bucket-unreachable", f"The server answered {error.code}.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # never the address itself: it is a secret
        raise _refused("bucket-unreachable", f"There is no connection: {str(reason)[:200]}.") from None
    if answer.status != 206:
        answer.close()
        raise _refused("bucket-without-ranges", "The server cannot hand out a part of a file.")
    return answer


def _refused(code: str, text: str, action: str = "", whose: str = "administrator") -> RefusedError:
    action = action or "Look at “Bucket of uploads” on the page “System”; when it answers, press Retry."
    return RefusedError(Problem(code, "The uploaded file cannot be read from its bucket", text, action, whose))
