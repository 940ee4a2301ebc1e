"""Step 5, events: what all who have the page of one conversion open share in this process: its state and its log."""

import asyncio
from typing import Any, Protocol

from channels.db import database_sync_to_async

from .logs import TICK, Tail
from .models import Conversion
from .states import FINAL
from .watch import FIELDS, encode, snapshots, watch


class Viewer(Protocol):
    """Who is in a room: says whether it lacks something, and is rung then."""

    def lacks(self) -> bool: ...

    def ring(self) -> None: ...


class Room:
    """One conversion.  Its clock gives every viewer the right to one frame a tick; without viewers it does not run."""

    def __init__(self, pk: int) -> None:
        self.pk = pk
        self.viewers: set[Viewer] = set()
        self.state = ""  #: the encoded state, the same text for everybody
        self._known: dict[str, Any] = {}  #: what is in it, but for the time
        self.tail: Tail | None = None
        self._opening: asyncio.Task[None] | None = None
        self._clock: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def join(self, viewer: Viewer) -> None:
        self.viewers.add(viewer)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)
        self._news.set()
        viewer.ring()

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        if self.viewers:
            return
        rooms.pop(self.pk, None)
        if self._clock is not None:
            watch.remove(self._changed, page=self.pk)
        # A cancelled opening never adds itself to the watch; one that is over cannot be cancelled.
        for task in (self._opening, self._clock):
            if task is not None:
                task.cancel()

    async def _open(self) -> None:
        row, state = await database_sync_to_async(_read)(self.pk)
        self._take(row, state)
        assert self.tail is not None
        await self.tail.look()
        watch.add(self._changed, page=self.pk)
        self._clock = asyncio.create_task(self._tick())

    def _changed(self, rows: list[Conversion], states: dict[int, dict[str, Any]]) -> None:
        for row in rows:
            if row.pk == self.pk and row.pk in states:
                self._take(row, states[row.pk])

    def _take(self, row: Conversion, state: dict[str, Any]) -> None:
        if self.tail is None or self.tail.attempt != row.attempt:
            self.tail = Tail(row.jobdir.log, row.attempt)
        if row.state in FINAL:
            self.tail.final = True
        known = {name: value for name, value in state.items() if name != "now"}
        if known != self._known:
            self._known, self.state = known, encode(state)
        self._news.set()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            assert self.tail is not None
            if self.tail.complete and not any(viewer.lacks() for viewer in self.viewers):
                await self._news.wait()  # all was said: no clock until something happens
            self._news.clear()
            due = max(due + TICK, loop.time())
            await asyncio.sleep(due - loop.time())
            tail, before = self.tail, self.tail.end
            await tail.look()
            if before < tail.end:
                await tail.message(before)  # read before they are rung: else each of them would wait for it by itself
            for number, viewer in enumerate(tuple(self.viewers)):
                if viewer.lacks():
                    viewer.ring()
                    if number % 100 == 99:
                        await asyncio.sleep(0)  # let others have the loop between two hundreds


def _read(pk: int) -> tuple[Conversion, dict[str, Any]]:
    row = Conversion.objects.only(*FIELDS).get(pk=pk)
    return row, snapshots([row])[pk]


rooms: dict[int, Room] = {}


def room_of(pk: int) -> Room:
    if pk not in rooms:
        rooms[pk] = Room(pk)
    return rooms[pk]
