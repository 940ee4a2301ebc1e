"""Uploaded files that lie in a bucket, as files for the time of an attempt: mounted, else downloaded into its folder."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..bucket import fetch, mount
from ..jobdir import Job, JobDir

#: A description or a manifest: fetched at once, that is less than a mount.
SMALL = 4 << 20
TELL_SECONDS = 5

Say = Callable[[str], object]
Emit = Callable[..., object]


@contextlib.contextmanager
def shown(jobdir: JobDir, job: Job, say: Say, emit: Emit) -> Iterator[list[str]]:
    """Within, the files that Job.objects names are there.  Yields what is taken away at the end, for the receipt."""
    gone: list[str] = []
    with contextlib.ExitStack() as stack:
        for item in job.objects:
            file, size, address = Path(item["path"]), int(item["size"]), jobdir.secrets / item["secret"]
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fetch.probe(address, size)
            if size <= SMALL:
                fetch.fetch(address, file, size)
                continue
            work = jobdir.tmp / "shown" / item["secret"]  # not its name: two uploads may have one
            work.mkdir(mode=0o700, parents=True)
            try:
                stack.enter_context(mount.mounted(file, size, address, work))
            except mount.CannotMountError as error:
                say(f"{file.name} cannot be read in its bucket, so all of it is downloaded first: {error}")
                _download(item, address, say, emit)
                gone.append(f"the downloaded copy of {file.name} ({size / 2**20:.1f} MiB)")
            else:
                say(f"{file.name} is read in its bucket through FUSE; nothing is downloaded first")
                emit("fact", key="bucket", value="read in the bucket, nothing downloaded first")
                gone.append(f"the mount that showed {file.name} as a file")
        yield gone


def _download(item: dict[str, Any], address: Path, say: Say, emit: Emit) -> None:
    file, size = Path(item["path"]), int(item["size"])
    begin = said = time.monotonic()
    tenth = -1

    def tell(done: int) -> None:
        nonlocal said, tenth
        now = time.monotonic()
        rate = done / max(now - begin, 0.001)
        text = f"{done / 2**20:.0f} of {size / 2**20:.0f} MiB, {rate / 2**20:.0f} MiB/s"
        if done * 10 // size > tenth:
            tenth = done * 10 // size
            emit("fact", key="bucket", value=f"downloaded first: {text}")
        if now - said >= TELL_SECONDS or done == size:
            said = now
            say(f"downloading {file.name}: {text}")

    fetch.fetch(address, file, size, tell)
