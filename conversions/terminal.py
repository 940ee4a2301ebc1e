"""Step 5, events, for a terminal: the log of a conversion as it grows, and how it ends."""

import codecs
import re
import time
from collections.abc import Callable, Iterator

from .host.installation import live_lease
from .logs import chunks
from .models import Conversion
from .states import FINAL, State

LOOK = 0.25  #: seconds between two looks at the log
ASK = 1.0  #: seconds between two looks at the database
ORPHANED = 20.0  #: seconds without a conductor after which that is said; a restart takes less

#: A log has in it what a guest printed.  Of the control sequences only colours are let through: others could write to
#: the clipboard, change the title or type commands in some terminals.
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,30}m)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_UNFINISHED = re.compile(r"\x1b(\[[0-9;]{0,30})?\Z")


class Screen:
    """Bytes of a log in, text for a terminal out; what is cut in two by the end of a piece waits for the next."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def text(self, data: bytes, final: bool = False) -> str:
        text = self._held + self._decoder.decode(data, final)
        cut = None if final else _UNFINISHED.search(text)
        self._held = text[cut.start() :] if cut else ""
        parts = _COLOUR.split(text[: cut.start()] if cut else text)
        # Every second part is a colour.
        return "".join(part if number % 2 else _CONTROL.sub("", part) for number, part in enumerate(parts))


class Follower:
    """One conversion, watched until it is over."""

    def __init__(self, conversion: Conversion, say: Callable[[str], None]) -> None:
        """`say` is told what stands not in the log: waiting, a missing conductor."""
        # Without the secrets: nothing here needs them.
        self.conversion = Conversion.objects.defer("secrets").select_related("owner").get(pk=conversion.pk)
        self.screen = Screen()
        self.offset = 0
        self._say = say
        self._said: set[str] = set()
        self._alone_since: float | None = None

    def say(self, text: str) -> None:
        """Says it once."""
        if text not in self._said:
            self._say(text)
            self._said.add(text)

    def output(self) -> Iterator[str]:
        """The log as it grows, until the conversion is over."""
        asked = float("-inf")
        while True:
            over = False
            if time.monotonic() - asked >= ASK:
                asked = time.monotonic()
                # Asked before the log is read: when it is over, the log has its last byte.
                over = self._ask()
            yield from self._grown()
            yield ""  # so that whoever follows gets a say, also while the log is silent
            if over:
                yield self.screen.text(b"", final=True)
                return
            time.sleep(LOOK)

    def _ask(self) -> bool:
        conversion, attempt = self.conversion, self.conversion.attempt
        conversion.refresh_from_db(fields=["state", "attempt", "waiting_for", "error", "artifacts", "started", "ended"])
        if conversion.attempt != attempt:
            self.say(f"Somebody started attempt {conversion.attempt}; its log begins again.")
            self.offset, self.screen = 0, Screen()
        if conversion.state == State.QUEUED and conversion.waiting_for:
            self.say(f"Waiting: {conversion.waiting_for}")
        if live_lease():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > ORPHANED:
            self.say("No conductor is running (manage.py conduct). Without it this conversion neither starts nor ends.")
        return conversion.state in FINAL

    def _grown(self) -> Iterator[str]:
        path = self.conversion.jobdir.log
        try:
            end = path.stat().st_size
        except FileNotFoundError:
            return
        for piece in chunks(path, self.offset, end):
            self.offset += len(piece)
            yield self.screen.text(piece)
