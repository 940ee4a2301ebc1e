"""Step 6, result: hands out the files of a conversion, and the evidence of how they came about."""

import json
import platform
import re
import shlex
import stat
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header, http_date, parse_http_date_safe

from v2vweb import __version__

from .jobdir import JobDir
from .logs import chunks
from .models import Conversion

YAML_AT_MOST = 1024 * 1024


def artifact(conversion: Conversion, name: str) -> Path:
    """The file of a result by its name in the row's list: an address never becomes a path.  Raises Http404."""
    if not any(file.get("name") == name for file in conversion.artifacts):
        raise Http404(f"This conversion has no file {name}.")
    path = conversion.output_dir / name
    # The list is the agent's; still, nothing is handed out that is not a file of its own in the conversion's folder.
    folder = conversion.output_dir.resolve()
    try:
        if path.resolve(strict=True).is_relative_to(folder) and stat.S_ISREG(path.lstat().st_mode):
            return path
    except OSError:
        pass
    raise Http404(f"The file {name} is not on the server any more.")


def serve_artifact(request: HttpRequest, conversion: Conversion, name: str) -> HttpResponseBase:
    """A disk or a YAML as a download that can be taken up again."""
    return serve_file(request, artifact(conversion, name), Path(name).name)


def serve_file(
    request: HttpRequest, path: Path, filename: str, content_type: str = "application/octet-stream"
) -> HttpResponseBase:
    """Streams a file, or the part that Range asks for, without having more than a piece of it in memory."""
    try:
        info = path.stat()
    except FileNotFoundError:
        raise Http404("There is no such file yet.") from None
    size = info.st_size
    etag = f'"{info.st_mtime_ns:x}-{size:x}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": http_date(info.st_mtime),
        "Content-Disposition": content_disposition_header(True, filename),
        "Cache-Control": "private, no-cache, no-transform",
        "X-Content-Type-Options": "nosniff",
    }
    if etag in re.split(r"\s*,\s*", request.headers.get("If-None-Match", "")):
        return HttpResponse(status=304, headers=headers)
    start, end, status = 0, size, 200
    asked = request.headers.get("Range")
    if asked and _same(request.headers.get("If-Range"), etag, info.st_mtime):
        span = byte_range(asked, size)
        if span == ():
            return HttpResponse(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
        if span:
            start, end = span
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers, content_type=content_type)
    return stream(request, lambda: chunks(path, start, end), headers, status=status, content_type=content_type)


def byte_range(header: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """(first byte, byte after the last) of a Range header; () for one that cannot be satisfied; None for one to ignore.

    Several ranges at once are ignored, as RFC 9110 (14.2) allows: the answer is then the whole file.
    """
    match = re.fullmatch(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", header)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last n bytes
        return (max(0, size - int(last)), size) if int(last) and size else ()
    if last and int(last) < int(first):
        return None
    return (int(first), min(int(last) + 1, size) if last else size) if int(first) < size else ()


def _same(if_range: str | None, etag: str, modified: float) -> bool:
    """Whether the part that somebody has already is of this very file."""
    if if_range is None or if_range == etag:
        return True
    return parse_http_date_safe(if_range) == int(modified)


def stream(
    request: HttpRequest,
    pieces: Callable[[], Iterator[bytes]],
    headers: dict[str, str],
    *,
    status: int = 200,
    content_type: str,
) -> StreamingHttpResponse:
    """Under ASGI Django would read a plain iterator to its end before it sends the first byte: it gets an async one."""

    async def read() -> AsyncIterator[bytes]:
        iterator = pieces()
        following = sync_to_async(lambda: next(iterator, b""), thread_sensitive=False)
        while piece := await following():
            yield piece

    content = read() if hasattr(request, "scope") else pieces()
    return StreamingHttpResponse(content, status=status, headers=headers, content_type=content_type)


def serve_evidence(request: HttpRequest, conversion: Conversion) -> HttpResponseBase:
    """Everything somebody needs to judge a conversion from afar, in one ZIP: no disks, no secrets."""
    name = f"v2vweb-{conversion.pk}-{conversion.name}"
    texts = evidence_texts(conversion)
    logs = evidence_files(conversion)
    headers = {
        "Content-Disposition": content_disposition_header(True, f"{name}.zip"),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return stream(request, lambda: zipped(name, texts, logs), headers, content_type="application/zip")


def evidence_texts(conversion: Conversion) -> dict[str, str]:
    """name in the bundle -> text; what comes from the database, read at once."""
    events = [
        {**event.data, "at": event.at.isoformat(), "attempt": event.attempt, "type": event.type, "actor": event.actor}
        for event in conversion.events.order_by("id").iterator()
    ]
    texts = {
        "conversion.json": _json(_facts(conversion)),
        "plan.json": _json(conversion.plan_json),  # a plan has no secrets in it
        "events.jsonl": "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events),
        "versions.json": _json(_versions(conversion)),
    }
    for test in conversion.boot_tests.all():
        texts[f"boot-test-{test.pk}/manifest.yaml"] = test.manifest
    if conversion.edited_manifest:
        texts["result/manifest-edited.yaml"] = str(conversion.edited_manifest["text"])
    for attempt in range(1, conversion.attempt + 1):
        if command := _command(JobDir.of(settings.DATA_DIR, conversion.pk, attempt)):
            texts[f"attempt-{attempt}/command.txt"] = command
    return texts


def evidence_files(conversion: Conversion) -> dict[str, Path]:
    """name in the bundle -> file: the logs of all attempts, and what virt-v2v wrote about the new virtual machine."""
    files = {}
    for attempt in range(1, conversion.attempt + 1):
        job = JobDir.of(settings.DATA_DIR, conversion.pk, attempt)
        files[f"attempt-{attempt}/log.txt"] = job.log
        files[f"attempt-{attempt}/agent-events.jsonl"] = job.events
        files[f"attempt-{attempt}/result.json"] = job.result
    for test in conversion.boot_tests.all():
        folder = settings.DATA_DIR / "boot" / str(conversion.pk) / str(test.pk)
        for path in sorted(folder.glob("screen-*.png")):
            files[f"boot-test-{test.pk}/{path.name}"] = path
        files[f"boot-test-{test.pk}/serial.txt"] = folder / "serial"
        files[f"boot-test-{test.pk}/result.json"] = folder / "result.json"
    for file in conversion.artifacts:
        name = str(file.get("name"))
        if name.endswith((".yaml", ".yml")) and file.get("size", 0) <= YAML_AT_MOST:
            try:
                files[f"result/{Path(name).name}"] = artifact(conversion, name)
            except Http404:
                continue
    return files


def zipped(folder: str, texts: dict[str, str], files: dict[str, Path]) -> Iterator[bytes]:
    """A ZIP as it comes into being: a log of any size costs a piece of memory."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as bundle:  # type: ignore[call-overload]
        for name, text in texts.items():
            bundle.writestr(_entry(f"{folder}/{name}"), text)
        for name, path in files.items():
            if not path.is_file():
                continue
            with bundle.open(_entry(f"{folder}/{name}"), "w", force_zip64=True) as member:
                for piece in chunks(path, 0, path.stat().st_size):
                    member.write(piece)
                    if data := sink.take():
                        yield data
            if data := sink.take():
                yield data
    if data := sink.take():
        yield data


class _Sink:
    """A file that cannot go back, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.localtime()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _facts(conversion: Conversion) -> dict[str, Any]:
    """The row without the plan (which is beside it) and without secrets: named one by one, so that a new field is not
    given out by accident."""
    names = (
        "id name state attempt phase waiting_for cancel_requested_by progress facts error artifacts receipt "
        "created started ended last_output"
    )
    return {name: getattr(conversion, name) for name in names.split()} | {"owner": conversion.owner.get_username()}


def _versions(conversion: Conversion) -> dict[str, Any]:
    told = {key: value for key, value in conversion.facts.items() if "version" in key}
    return {
        "v2vweb": __version__,
        "python": platform.python_version(),
        "django": django.get_version(),
        "system": platform.platform(),
        "bundled": datetime.now(UTC).isoformat(timespec="seconds"),
        **told,
    }


def _command(job: JobDir) -> str:
    """The virt-v2v call of an attempt.  Secrets are files whose names stand in it; the names alone are given out."""
    try:
        todo = job.read_job()
    except (OSError, ValueError, TypeError):
        return ""
    return shlex.join(todo.argv) + "\n"
