"""What this machine gives with nothing of ours in the way, measured in the same run: our figures are read against it.

A virtual machine that hands free memory back to its host pays for the first use of each page of the page cache: then a
bare program writes at a few hundred MB/s too, and differently each time.
"""

import os
import time
from pathlib import Path

from tests.benchmarks.measuring import memory_free

PIECE = 16 << 20
WRITE = 1 << 20


def touch_memory(folder: Path, size: int) -> None:
    """Has the host give memory that a run will need: reads a hole, which costs no disk, and frees the pages again."""
    path = folder / "hole"
    with path.open("wb") as file:
        file.truncate(min(size, memory_free() // 2))
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(WRITE)
        while file.readinto(buffer):
            pass
    path.unlink()


def disk(folder: Path, size: int, sync_every: int) -> float:
    """Bytes a second of one process that writes a body, has the kernel copy it to the end of a file, and removes it."""
    data = memoryview(os.urandom(WRITE))
    body, target = folder / "floor.body", folder / "floor.target"
    begin = time.perf_counter()
    out = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    for at in range(0, size, PIECE):
        fd = os.open(body, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        for _ in range(PIECE // WRITE):
            os.write(fd, data)
        done = 0
        while done < PIECE:
            done += os.copy_file_range(fd, out, PIECE - done, done, at + done)
        os.close(fd)
        body.unlink()
        if (at + PIECE) % sync_every == 0:
            os.fdatasync(out)
    os.fdatasync(out)
    seconds = time.perf_counter() - begin
    os.close(out)
    target.unlink()
    return size / seconds


#: A page's own loop, without tus: slices of the chosen file, one after the other, to an address that only takes them.
FETCH = """async ([id, url, piece]) => {
  const file = document.getElementById(id).files[0];
  const begin = performance.now();
  for (let at = 0; at < file.size; at += piece) {
    const answer = await fetch(url, { method: "PUT", body: file.slice(at, at + piece) });
    if (answer.status !== 204) throw new Error(`${answer.status}`);
  }
  return (performance.now() - begin) / 1000;
}"""

#: That address in nginx: the body goes into a file as a piece's does, and is thrown away.
LOCATION = """
    location = /_floor {
        client_max_body_size 17m;
        client_body_in_file_only clean;
        client_body_buffer_size 1m;
        client_body_temp_path BODIES;
        proxy_pass_request_body off;
        proxy_method GET;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_set_header Content-Length "";
        proxy_set_header X-Body-File "";
        proxy_pass http://v2vweb/uploads/allowed/;
    }
"""
