"""The sockets: who gets in, what is sent, how much of it, and what happens when somebody stops reading."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, Group
from django.test import Client

from conversions import consumers, rooms, watch
from conversions.consumers import NOT_ALLOWED, NOT_LOGGED_IN, recheck_once
from conversions.logs import FRAME
from conversions.models import Conversion, Event
from v2vweb.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)


class Browser(WebsocketCommunicator):
    """What stands for a browser with a socket."""

    async def hears(self, kind: str, timeout: float = 5) -> dict[str, Any]:
        """The next message of a kind; others are passed over."""
        while True:
            message: dict[str, Any] = json.loads(await self.receive_from(timeout))
            if message["t"] == kind:
                return message

    async def is_quiet(self) -> None:
        """Passes over what a board is told at the start: rows of the last seconds, which cost less than a missed one."""
        if not await self.receive_nothing(1.2):
            await self.hears("changed")
        await self.send_to('{"ack": 1}')

    async def frames(self, until: int, ack: bool = True) -> list[dict[str, Any]]:
        """Frames of the log until that byte."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["to"] < until:
            found.append(await self.hears("log"))
            if ack:
                await self.send_to(json.dumps({"ack": found[-1]["to"]}))
        return found


@contextlib.asynccontextmanager
async def socket(path: str, user: Any = None, cookie: str = "") -> AsyncIterator[Browser]:
    headers = [(b"origin", b"http://localhost"), (b"host", b"localhost"), (b"cookie", cookie.encode())]
    browser = Browser(application, path, headers)
    if user is not None:
        browser.scope["user"] = user
    try:
        yield browser
    finally:
        await browser.disconnect()


@contextlib.asynccontextmanager
async def viewer(row: Any, user: Any, query: str = "?offset=0") -> AsyncIterator[Browser]:
    async with socket(f"/ws/conversions/{row.pk}/log{query}", user) as browser:
        assert (await browser.connect())[0]
        yield browser


async def refused(path: str, user: Any) -> int:
    async with socket(path, user) as browser:
        connected, code = await browser.connect()
        assert not connected
        return code


def append(row: Any, data: bytes) -> None:
    with row.jobdir.log.open("ab") as file:
        file.write(data)


@database_sync_to_async
def change(row: Any, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


# --- who gets in --------------------------------------------------------------------------------------------------


async def test_who_is_not_logged_in_is_refused_with_a_code_of_its_own(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice)
    assert await refused(f"/ws/conversions/{row.pk}/log", AnonymousUser()) == NOT_LOGGED_IN
    assert await refused("/ws/board", AnonymousUser()) == NOT_LOGGED_IN


async def test_a_requester_may_not_watch_what_is_somebody_elses(make_conversion: Any, alice: Any, charlie: Any) -> None:
    row = await sync_to_async(make_conversion)(alice)
    assert await refused(f"/ws/conversions/{row.pk}/log", charlie) == NOT_ALLOWED


async def test_a_conversion_that_does_not_exist_is_refused_as_one_that_is_hidden(alice: Any) -> None:
    assert await refused("/ws/conversions/4711/log", alice) == NOT_ALLOWED


async def test_somebody_without_a_role_is_refused(make_conversion: Any, alice: Any, stranger: Any) -> None:
    row = await sync_to_async(make_conversion)(alice)
    assert await refused(f"/ws/conversions/{row.pk}/log", stranger) == NOT_ALLOWED
    assert await refused("/ws/board", stranger) == NOT_ALLOWED


async def test_a_page_of_another_site_gets_no_socket(alice: Any) -> None:
    browser = Browser(application, "/ws/board", [(b"origin", b"http://evil.example"), (b"host", b"localhost")])
    browser.scope["user"] = alice
    assert not (await browser.connect())[0]


@database_sync_to_async
def session_of(user: Any) -> tuple[Client, str]:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client, f"sessionid={client.cookies['sessionid'].value}"


async def test_the_session_of_a_browser_lets_its_person_in(alice: Any) -> None:
    _, cookie = await session_of(alice)
    async with socket("/ws/board", cookie=cookie) as browser:
        assert (await browser.connect())[0]
    assert await refused("/ws/board", None) == NOT_LOGGED_IN


async def test_a_logged_out_person_is_thrown_out(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"")
    client, cookie = await session_of(alice)
    async with socket(f"/ws/conversions/{row.pk}/log", cookie=cookie) as browser:
        assert (await browser.connect())[0]
        await browser.hears("state")
        await recheck_once()
        assert await browser.receive_nothing(0.1)
        await sync_to_async(client.logout)()
        await recheck_once()
        assert (await browser.receive_output(2)) == {"type": "websocket.close", "code": NOT_LOGGED_IN}


async def test_who_loses_the_role_is_thrown_out(make_conversion: Any, alice: Any, bob: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"")
    async with viewer(row, bob) as browser:
        await browser.hears("state")
        await database_sync_to_async(bob.groups.clear)()
        await recheck_once()
        assert (await browser.receive_output(2)) == {"type": "websocket.close", "code": NOT_ALLOWED}
        append(row, b"secret\n")
        assert await browser.receive_nothing(0.5)


# --- the log ------------------------------------------------------------------------------------------------------


async def test_a_viewer_gets_the_state_the_log_and_what_comes_after(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", phase="copying", log=b"one\ntwo\n")
    async with viewer(row, alice) as browser:
        state = json.loads(await browser.receive_from(5))
        assert (state["t"], state["state"], state["phase"], state["attempt"]) == ("state", "running", "copying", 1)
        first = await browser.hears("log")
        assert first == {"t": "log", "attempt": 1, "from": 0, "to": 8, "data": "one\ntwo\n"}
        append(row, b"three\nfo")
        assert (await browser.hears("log")) == {"t": "log", "attempt": 1, "from": 8, "to": 14, "data": "three\n"}


async def test_who_comes_back_with_an_offset_gets_what_was_missed_and_nothing_twice(
    make_conversion: Any, alice: Any
) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    async with viewer(row, alice) as browser:
        assert (await browser.hears("log"))["to"] == 4
    append(row, b"two\nthree\n")
    async with viewer(row, alice, "?offset=4&attempt=1") as browser:
        assert (await browser.hears("log"))["data"] == "two\nthree\n"


@pytest.mark.parametrize("query", ["?offset=-5", "?offset=x", "?offset=" + "9" * 40, "?attempt=%00", ""])
async def test_nonsense_in_the_address_counts_as_nothing_said(make_conversion: Any, alice: Any, query: str) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    async with viewer(row, alice, query) as browser:
        assert (await browser.hears("log"))["data"] == "one\n"


async def test_an_offset_behind_the_end_starts_again(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    async with viewer(row, alice, "?offset=400") as browser:
        assert (await browser.hears("attempt"))["attempt"] == 1
        assert (await browser.hears("log"))["from"] == 0


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"ack": "x"}', '{"ack": null}', '{"ack": 1e400}', "null"])
async def test_nonsense_from_a_browser_is_passed_over(make_conversion: Any, alice: Any, text: str) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    async with viewer(row, alice) as browser:
        await browser.hears("log")
        await browser.send_to(text)
        append(row, b"two\n")
        assert (await browser.hears("log"))["data"] == "two\n"


async def test_a_large_log_comes_in_frames_of_limited_size_not_too_many_a_second(
    make_conversion: Any, alice: Any
) -> None:
    log = b"".join(b"%06d %s\n" % (n, b"x" * 120) for n in range(10_000))
    row = await sync_to_async(make_conversion)(alice, state="running", log=log)
    loop = asyncio.get_running_loop()
    async with viewer(row, alice) as browser:
        began = loop.time()
        frames = await browser.frames(len(log))
        assert (len(frames) - 1) / (loop.time() - began) <= 5.5
    assert "".join(frame["data"] for frame in frames).encode() == log
    assert all(frame["to"] - frame["from"] <= FRAME for frame in frames)


async def test_who_does_not_acknowledge_gets_no_more_than_256_kib_and_later_the_rest(
    make_conversion: Any, alice: Any
) -> None:
    log = b"x" * 99 + b"\n"
    row = await sync_to_async(make_conversion)(alice, state="running", log=log * 10_000)
    async with viewer(row, alice) as browser:
        sent = (await browser.hears("log"))["to"]
        assert 0 < sent <= FRAME
        assert await browser.receive_nothing(1.5)
    async with viewer(row, alice, f"?offset={sent}") as browser:
        assert (await browser.frames(1_000_000))[-1]["to"] == 1_000_000


async def test_an_acknowledgement_of_what_was_not_sent_gives_no_more_room(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=(b"x" * 99 + b"\n") * 10_000)
    async with viewer(row, alice) as browser:
        first = await browser.hears("log")
        await browser.send_to(json.dumps({"ack": 10**9}))
        second = await browser.hears("log")
        assert second["from"] == first["to"]
        assert await browser.receive_nothing(0.8)


async def test_the_end_is_told_when_the_conversion_is_final_and_all_was_sent(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    async with viewer(row, alice) as browser:
        await browser.hears("log")
        append(row, b"last words without a newline")
        await change(row, state="failed", error={"code": "x", "title": "It broke"})
        frame = await browser.hears("log")
        assert frame["data"] == "last words without a newline"
        assert await browser.hears("eof") == {"t": "eof"}


async def test_a_finished_conversion_gives_its_log_and_the_end_at_once(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="succeeded", log=b"one\nhalf")
    async with viewer(row, alice) as browser:
        assert (await browser.hears("state"))["progress"]["percent"] == 100
        assert (await browser.hears("log"))["data"] == "one\nhalf"
        await browser.hears("eof")
        assert await browser.receive_nothing(0.6)


async def test_a_new_attempt_clears_the_viewer_and_begins_its_own_log(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="failed", log=b"first attempt\n")
    async with viewer(row, alice) as browser:
        await browser.hears("eof")
        assert await database_sync_to_async(row.retry)("alice")
        assert (await browser.hears("attempt")) == {"t": "attempt", "attempt": 2}
        row.jobdir.path.mkdir(parents=True)
        append(row, b"second attempt\n")
        frame = await browser.hears("log")
        assert (frame["attempt"], frame["from"], frame["data"]) == (2, 0, "second attempt\n")


async def test_who_comes_back_after_a_retry_is_told_to_clear(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", attempt=2, log=b"second\n")
    async with viewer(row, alice, "?offset=3&attempt=1") as browser:
        assert (await browser.hears("attempt"))["attempt"] == 2
        assert (await browser.hears("log"))["from"] == 0


async def test_the_state_is_sent_when_it_changes_and_not_otherwise(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", phase="opening", log=b"")
    async with viewer(row, alice) as browser:
        assert (await browser.hears("state"))["warnings"] == 0
        assert await browser.receive_nothing(1.2)
        warn = database_sync_to_async(Event.objects.create)
        await warn(conversion=row, attempt=1, type="warning", data={"title": "Careful"})
        await change(row, phase="copying", progress={"bytes_done": 30, "bytes_total": 120, "eta": [300, 480]})
        state = await browser.hears("state")
        assert (state["phase"], state["warnings"], state["progress"]["percent"]) == ("copying", 1, 25)
        assert state["progress"]["words"] == "30 bytes of 120 bytes, about 5 to 8 minutes left"


async def test_secrets_and_the_plan_are_in_no_state(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"", secrets={"luks-0": "hunter2"})
    async with viewer(row, alice) as browser:
        text = json.dumps(await browser.hears("state"))
    assert "hunter2" not in text
    assert "secrets" not in text


async def test_without_viewers_nothing_runs(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    async with viewer(row, alice) as one, viewer(row, alice) as two:
        await one.hears("log")
        await two.hears("log")
        assert len(rooms.rooms) == 1
        assert watch.watch.pages == {row.pk: 1}
    await asyncio.sleep(0.1)
    assert not rooms.rooms
    assert not watch.watch.pages
    assert watch.watch._task is None
    assert consumers.Socket._guard is None
    assert not consumers.Socket.open


async def test_one_look_at_the_file_serves_all_viewers(
    make_conversion: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conversions.logs import Tail

    row = await sync_to_async(make_conversion)(alice, state="running", log=b"one\n")
    looks = []
    look = Tail._look
    monkeypatch.setattr(Tail, "_look", lambda self: (looks.append(1), look(self))[1])
    async with contextlib.AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(viewer(row, alice)) for _ in range(10)]
        for browser in browsers:
            await browser.hears("log")
        looks.clear()
        await asyncio.sleep(1.1)
        assert 3 <= len(looks) <= 7


# --- the board ----------------------------------------------------------------------------------------------------


async def test_the_board_names_what_changed_to_those_who_may_see_it(
    make_conversion: Any, alice: Any, charlie: Any
) -> None:
    hers = await sync_to_async(make_conversion)(alice, state="running")
    his = await sync_to_async(make_conversion)(charlie, state="running")
    async with socket("/ws/board", alice) as operator, socket("/ws/board", charlie) as requester:
        await operator.connect()
        await requester.connect()
        for browser in (operator, requester):
            await browser.is_quiet()
        await change(hers, phase="copying")
        assert (await operator.hears("changed"))["ids"] == [hers.pk]
        await operator.send_to('{"ack": 1}')
        await change(his, phase="copying")
        assert (await requester.hears("changed"))["ids"] == [his.pk]


async def test_a_board_that_does_not_answer_is_told_no_more_until_it_does(make_conversion: Any, alice: Any) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running")
    async with socket("/ws/board", alice) as browser:
        await browser.connect()
        await change(row, phase="opening")
        await browser.hears("changed")
        for phase in ("inspecting", "converting", "copying"):
            await change(row, phase=phase)
            assert await browser.receive_nothing(0.7)
        await browser.send_to('{"ack": 1}')
        assert (await browser.hears("changed"))["ids"] == [row.pk]


async def test_a_role_that_shrinks_shrinks_the_board(make_conversion: Any, alice: Any, bob: Any) -> None:
    row = await sync_to_async(make_conversion)(bob, state="running")
    async with socket("/ws/board", alice) as browser:
        await browser.connect()
        await browser.is_quiet()

        @database_sync_to_async
        def demote() -> None:
            alice.groups.set([Group.objects.get_or_create(name="requester")[0]])

        await demote()
        await recheck_once()
        await change(row, phase="copying")
        assert await browser.receive_nothing(1.5)


async def test_a_poll_is_one_query_and_a_second_one_for_open_pages(
    make_conversion: Any, alice: Any, django_assert_num_queries: Any
) -> None:
    row = await sync_to_async(make_conversion)(alice, state="running")
    poller = watch.Watch()

    @sync_to_async
    def polls() -> None:
        with django_assert_num_queries(1):
            assert [found.pk for found in poller.poll()[0]] == [row.pk]
        with django_assert_num_queries(1):
            assert poller.poll() == ([], {})
        poller.pages[row.pk] = 1
        Conversion.objects.filter(pk=row.pk).update(phase="copying")  # without `updated`: seen all the same
        with django_assert_num_queries(2):
            _, states = poller.poll()
        assert states[row.pk]["phase"] == "copying"

    await polls()
