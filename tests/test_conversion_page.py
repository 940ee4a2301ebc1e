"""The page of one conversion: words, phases, warnings, cancel, retry, and its log over HTTP."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from conversions.models import Event
from conversions.states import State
from conversions.timeline import timeline
from conversions.wording import duration_words, eta_words, progress_words

PROBLEM = {
    "code": "disk-has-backing-file",
    "title": "The disk needs another file",
    "text": "disk.qcow2 is a difference to /srv/base.img.",
    "action": "Make one file of it with qemu-img convert.",
    "whose": "source owner",
}


def page(client: Any, row: Any, query: str = "", **headers: str) -> str:
    response = client.get(f"/conversions/{row.pk}/{query}", headers=headers)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def event(row: Any, type: str, seconds: float = 0, **data: Any) -> None:
    at = row.started + timedelta(seconds=seconds)
    Event.objects.create(conversion=row, attempt=row.attempt, type=type, data=data, at=at)


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (100, "1 minute 40 seconds"),
        (600, "10 minutes"),
        (3700, "1 hour 1 minute"),
        (90000, "1 day 1 hour"),
    ],
)
def test_a_duration_is_said_as_people_do(seconds: int, words: str) -> None:
    assert duration_words(seconds) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (300, 480, "about 5 to 8 minutes"),
        (10, 50, "less than a minute"),
        (60, 70, "about 1 minute"),
        (30, 100, "about 1 to 2 minutes"),
        (7200, 10800, "about 2 to 3 hours"),
    ],
)
def test_the_time_left_is_a_range(low: int, high: int, words: str) -> None:
    assert eta_words(low, high) == words


def test_only_what_is_known_is_said_of_the_progress() -> None:
    assert progress_words({}) == ""
    assert progress_words({"bytes_done": 1024}) == "1.0 KiB copied"
    assert progress_words({"bytes_done": 0, "bytes_total": 2048, "eta": None}) == "0 bytes of 2.0 KiB"


# --- states -------------------------------------------------------------------------------------------------------


def test_a_waiting_one_says_for_what(make_conversion: Any, alice: Any, log_in: Any) -> None:
    text = page(log_in(alice), make_conversion(alice, waiting_for="a free place: 1 of 1 running"))
    assert "Waiting for a free place: 1 of 1 running" in text
    assert "The log begins when the conversion starts." in text


def test_a_running_one_shows_bytes_rate_and_time_left_and_its_title(
    make_conversion: Any, alice: Any, log_in: Any
) -> None:
    progress = {"bytes_done": 2**29, "bytes_total": 2**30, "rate": 2**20, "eta": [300, 480]}
    progress["disks"] = [{"disk": 1, "size": 2**30, "bytes_done": 2**29, "bytes_total": 2**30, "rate": 2**20}]
    row = make_conversion(
        alice,
        state="running",
        phase="copying",
        phases=["checking", "opening", "copying"],
        progress=progress,
        log=b"x\n",
    )
    text = page(log_in(alice), row)
    assert "<title>50 % · web01 – v2vweb</title>" in text
    assert "512 MiB of 1.0 GiB, 1.0 MiB a second, about 5 to 8 minutes left" in text
    assert '<details id="step-copying" open' in text
    assert '<details id="step-checking" data-open="no"' in text
    assert 'data-disk="1"' in text


@pytest.mark.parametrize(
    ("whose", "words"),
    [
        ("you", "Yours"),
        ("administrator", "An administrator of this server"),
        ("source owner", "Whoever made the file or runs the source"),
        ("v2vweb", "The makers of v2vweb"),
    ],
)
def test_a_failed_one_says_what_happened_whose_job_it_is_and_what_next(
    make_conversion: Any, alice: Any, log_in: Any, whose: str, words: str
) -> None:
    row = make_conversion(
        alice,
        state="failed",
        phase="opening",
        phases=["checking", "opening"],
        error=PROBLEM | {"whose": whose},
        log=b"a\nb\n",
    )
    event(row, "error", 11, **PROBLEM, line=2)
    text = page(log_in(alice), row)
    for part in (PROBLEM["title"], PROBLEM["text"], PROBLEM["action"], words, "Opening the source"):
        assert part in text
    assert f"disk-has-backing-file conversion {row.pk} attempt 1" in text
    assert f"/conversions/{row.pk}/retry/" in text
    assert f"/conversions/{row.pk}/evidence/" in text
    assert '<a href="#L2">Line 2 of the log</a>' in text
    assert '<details id="step-opening" open' in text


def test_a_lost_one_says_what_that_means(make_conversion: Any, alice: Any, log_in: Any) -> None:
    text = page(log_in(alice), make_conversion(alice, state="lost", phase="copying", phases=["copying"]))
    assert "left no result" in text
    assert "Retry" in text


def test_a_finished_one_has_its_files_with_sizes_long_after(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(
        alice, state="succeeded", phases=["checking", "finishing"], files={"web01-sda": b"x" * 2048}, log=b"done\n"
    )
    text = page(log_in(alice), row)
    assert f'href="/conversions/{row.pk}/files/web01-sda"' in text
    assert "2.0 KiB" in text
    assert "<title>web01 – v2vweb</title>" in text
    assert "done" in text  # the log's last lines without any script


def test_one_that_is_stopping_promises_no_end_of_the_copying(make_conversion: Any, alice: Any, log_in: Any) -> None:
    progress = {"bytes_done": 1024, "bytes_total": 2048, "rate": 512.0, "eta": [120, 180]}
    row = make_conversion(alice, state="cancelling", phase="copying", progress=progress | {"disks": [progress]})
    shown = page(log_in(alice), row)
    assert "1.0 KiB of 2.0 KiB" in shown and "a second" not in shown and "left" not in shown


def test_a_cancelled_one_says_what_is_still_there(make_conversion: Any, alice: Any, log_in: Any) -> None:
    receipt = {"removed": ["web01-sda, half copied"], "kept": ["the log"]}
    row = make_conversion(alice, state="cancelled", cancel_requested_by="alice", receipt=receipt)
    text = page(log_in(alice), row)
    assert "Cancelled by alice" in text
    assert "web01-sda, half copied" in text
    assert "the log" in text


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_page_for_everybody_who_may_see_it(
    make_conversion: Any, alice: Any, bob: Any, log_in: Any, state: str
) -> None:
    row = make_conversion(alice, state=state, phases=["checking", "copying"], phase="copying")
    assert f"/conversions/{row.pk}/cancel/" not in page(log_in(bob), row)
    assert f"/conversions/{row.pk}/retry/" not in page(log_in(bob), row)
    page(log_in(alice), row)


def test_hostile_text_is_text(make_conversion: Any, alice: Any, log_in: Any) -> None:
    evil = "<script>alert(1)</script>"
    row = make_conversion(
        alice, state="failed", error=dict.fromkeys(PROBLEM, evil), log=evil.encode(), facts={"os": evil}
    )
    event(row, "warning", 1, title=evil, text=evil, line=0)
    event(row, "fact", 1, key=evil, value=evil)
    response = log_in(alice).get(f"/conversions/{row.pk}/")
    assert b"<script>alert" not in response.content
    assert "unsafe" not in response["Content-Security-Policy"]


def test_secrets_are_on_no_page(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="running", log=b"", secrets={"luks-0": "hunter2"})
    assert "hunter2" not in page(log_in(alice), row)
    assert "hunter2" not in log_in(alice).get(f"/conversions/{row.pk}/log/?offset=0").content.decode()


def test_the_page_does_not_need_the_key_of_the_secrets(
    make_conversion: Any, alice: Any, log_in: Any, settings: Any
) -> None:
    row = make_conversion(alice, state="failed", secrets={"luks-0": "hunter2"})
    settings.SECRETS_KEY_FILE.write_bytes(b"x" * 43 + b"=\n")
    page(log_in(alice), row)


def test_htmx_gets_the_living_part_alone(make_conversion: Any, alice: Any, log_in: Any) -> None:
    text = page(log_in(alice), make_conversion(alice, state="running"), **{"HX-Request": "true"})
    assert text.startswith('<div id="live"')
    assert "<html" not in text


# --- who may ------------------------------------------------------------------------------------------------------


def test_a_requester_sees_own_ones_only(make_conversion: Any, alice: Any, charlie: Any, log_in: Any) -> None:
    client = log_in(charlie)
    hers, his = make_conversion(alice), make_conversion(charlie)
    assert client.get(f"/conversions/{hers.pk}/").status_code == 403
    assert client.get(f"/conversions/{his.pk}/").status_code == 200
    for action in ("cancel", "retry"):
        assert client.post(f"/conversions/{hers.pk}/{action}/").status_code == 403


def test_a_viewer_may_neither_cancel_nor_retry(make_conversion: Any, alice: Any, bob: Any, log_in: Any) -> None:
    running, failed = make_conversion(alice, state="running"), make_conversion(alice, state="failed")
    assert log_in(bob).post(f"/conversions/{running.pk}/cancel/").status_code == 403
    assert log_in(bob).post(f"/conversions/{failed.pk}/retry/").status_code == 403
    running.refresh_from_db()
    failed.refresh_from_db()
    assert (running.state, failed.state) == ("running", "failed")


@pytest.mark.parametrize("pk", ["4711", "9" * 30])
def test_what_does_not_exist_is_not_found(alice: Any, log_in: Any, pk: str) -> None:
    assert log_in(alice).get(f"/conversions/{pk}/").status_code == 404


# --- cancel and retry ---------------------------------------------------------------------------------------------


def test_cancel_asks_first_and_says_what_remains(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="running")
    text = page(log_in(alice), row, "cancel/")
    assert "The source is not changed" in text
    assert "are removed" in text
    row.refresh_from_db()
    assert row.state == "running"


def test_cancel_of_a_running_one_stops_it_and_of_a_waiting_one_is_over(
    make_conversion: Any, alice: Any, log_in: Any
) -> None:
    running, waiting = make_conversion(alice, state="running"), make_conversion(alice)
    for row, state in ((running, "cancelling"), (waiting, "cancelled")):
        response = log_in(alice).post(f"/conversions/{row.pk}/cancel/")
        assert response.headers["Location"] == f"/conversions/{row.pk}/"
        row.refresh_from_db()
        assert (row.state, row.cancel_requested_by) == (state, "alice")


def test_a_cancel_that_comes_too_late_says_so(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="succeeded")
    response = log_in(alice).post(f"/conversions/{row.pk}/cancel/", follow=True)
    assert "There was nothing to cancel any more: Done" in response.content.decode()


def test_retry_queues_another_attempt_once(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="failed", error=PROBLEM, log=b"first\n")
    client = log_in(alice)
    assert "Attempt 2 waits for its turn" in client.post(f"/conversions/{row.pk}/retry/", follow=True).content.decode()
    assert "It is not retried" in client.post(f"/conversions/{row.pk}/retry/", follow=True).content.decode()
    row.refresh_from_db()
    assert (row.state, row.attempt) == ("queued", 2)


def test_a_get_does_not_retry(make_conversion: Any, alice: Any, log_in: Any) -> None:
    assert log_in(alice).get(f"/conversions/{make_conversion(alice, state='failed').pk}/retry/").status_code == 405


def test_an_earlier_attempt_can_still_be_looked_at(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="failed", error=PROBLEM, phases=["checking"], log=b"first words\n")
    event(row, "error", 1, **PROBLEM)
    row.retry("alice")
    client = log_in(alice)
    text = page(client, row, "?attempt=1")
    assert "You are looking at an earlier attempt" in text
    assert "first words" in text
    assert PROBLEM["title"] in text
    assert "first words" not in page(client, row)
    for wrong in ("3", "0", "-1", "x", "9" * 30, "²"):
        assert client.get(f"/conversions/{row.pk}/?attempt={wrong}").status_code == 404


# --- phases -------------------------------------------------------------------------------------------------------


def statuses(row: Any, tmp_path: Any, attempt: int | None = None) -> dict[str, str]:
    return {str(step.phase): step.status for step in timeline(row, tmp_path, attempt).steps}


def test_phases_are_done_running_or_still_to_come(make_conversion: Any, alice: Any, tmp_path: Any) -> None:
    row = make_conversion(alice, state="running", phases=["checking", "opening", "converting"])
    # "inspecting" was passed over: it will not come any more
    assert statuses(row, tmp_path) == {
        "checking": "done",
        "opening": "done",
        "converting": "running",
        "copying": "pending",
        "finishing": "pending",
    }


@pytest.mark.parametrize(
    ("state", "last"), [("failed", "failed"), ("cancelled", "stopped"), ("lost", "stopped"), ("succeeded", "done")]
)
def test_the_last_phase_tells_how_it_ended(
    make_conversion: Any, alice: Any, tmp_path: Any, state: str, last: str
) -> None:
    row = make_conversion(alice, state=state, phases=["checking", "opening"])
    assert statuses(row, tmp_path) == {"checking": "done", "opening": last}


def test_a_phase_knows_how_long_it_took(make_conversion: Any, alice: Any, tmp_path: Any) -> None:
    row = make_conversion(alice, state="succeeded", phases=["checking", "opening"])
    first, second = timeline(row, tmp_path).steps
    assert first.duration == timedelta(seconds=10)
    assert second.duration == row.ended - row.started - timedelta(seconds=10)


def test_strange_events_are_passed_over(make_conversion: Any, alice: Any, tmp_path: Any) -> None:
    row = make_conversion(alice, state="running", phases=["checking", "nonsense"])
    event(row, "fact")
    event(row, "warning", line="x")
    event(row, "unheard-of", 3, key=1)
    told = timeline(row, tmp_path)
    assert [str(step.phase) for step in told.steps if step.status != "pending"] == ["checking"]
    assert [notice.line for notice in told.notices] == [None]


def test_the_page_asks_the_database_a_few_questions_however_much_happened(
    make_conversion: Any, alice: Any, log_in: Any, django_assert_max_num_queries: Any
) -> None:
    row = make_conversion(alice, state="running", phases=["checking", "opening", "converting"], log=b"x\n" * 5000)
    for number in range(100):
        event(row, "warning", number, title=f"warning {number}", line=number * 50)
    client = log_in(alice)
    with django_assert_max_num_queries(12):
        text = page(client, row)
    assert "Line 2476 of the log" in text


# --- the log over HTTP --------------------------------------------------------------------------------------------


def piece(client: Any, row: Any, offset: int, attempt: int = 1) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/conversions/{row.pk}/log/?attempt={attempt}&offset={offset}").json()
    return answer


def test_where_sockets_are_blocked_the_log_comes_in_pieces(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="running", log=b"one\ntwo\nthr")
    client = log_in(alice)
    first = piece(client, row, 0)
    assert (first["from"], first["to"], first["data"], first["eof"]) == (0, 8, "one\ntwo\n", False)
    assert first["state"]["state"] == "running"
    assert piece(client, row, 8)["data"] == ""
    row.state = "succeeded"
    row.save()
    last = piece(client, row, 8)
    assert (last["data"], last["to"], last["eof"]) == ("thr", 11, True)


def test_a_long_log_can_be_had_from_near_its_end_with_the_number_of_the_line(
    make_conversion: Any, alice: Any, log_in: Any
) -> None:
    row = make_conversion(alice, state="succeeded", log=b"".join(b"line %05d\n" % n for n in range(1, 1001)))
    found = piece(log_in(alice), row, -100)
    assert found["line"] == 992
    assert found["data"].startswith("line 00992\n")
    assert found["eof"]
    assert piece(log_in(alice), row, -(10**6))["line"] == 1


def test_an_offset_that_is_no_number_is_not_found(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="succeeded", log=b"one\n")
    assert log_in(alice).get(f"/conversions/{row.pk}/log/?offset=x").status_code == 404
    assert piece(log_in(alice), row, 10**15)["data"] == ""


def test_the_log_is_downloaded_as_a_file(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="failed", log=b"\x1b[31mone\r\n\xff")
    response = log_in(alice).get(f"/conversions/{row.pk}/log/")
    assert b"".join(response.streaming_content) == b"\x1b[31mone\r\n\xff"
    assert response["Content-Disposition"] == f'attachment; filename="web01-{row.pk}-attempt-1.log"'
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert log_in(alice).get(f"/conversions/{make_conversion(alice).pk}/log/").status_code == 404


def test_the_running_time_goes_on_from_the_servers_clock(make_conversion: Any, alice: Any, log_in: Any) -> None:
    row = make_conversion(alice, state="running", phases=["checking"])
    state = log_in(alice).get(f"/conversions/{row.pk}/").context["state"]
    assert state["started"] == pytest.approx(row.started.timestamp(), abs=0.01)
    assert state["now"] == pytest.approx(timezone.now().timestamp(), abs=5)
