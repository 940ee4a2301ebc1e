"""Reading a log by byte offset: whole lines, true offsets, hostile bytes."""

import asyncio
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions import logs
from conversions.logs import (
    Frame,
    Tail,
    end_of_lines,
    last_lines,
    line_numbers,
    read_frame,
    shown,
    shown_until,
    whole_characters,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def old(path: Path) -> None:
    """Makes a file one that nobody has written to for some time."""
    os.utime(path, (1_700_000_000, 1_700_000_000))


def read_on(path: Path, until: int, most: int = logs.FRAME) -> list[Frame]:
    frames, offset = [], 0
    while (frame := read_frame(path, offset, until, most)).end > offset:
        frames.append(frame)
        offset = frame.end
    return frames


def test_a_frame_ends_with_a_whole_line(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nthr")
    frame = read_frame(log, 0, end_of_lines(log, 0, 11))
    assert frame == Frame(0, 8, "one\ntwo\n")


def test_a_frame_is_never_larger_than_asked_and_the_frames_join(log: Path) -> None:
    lines = [f"line {n} {'x' * (n % 70)}\n" for n in range(500)]
    log.write_text("".join(lines))
    frames = read_on(log, log.stat().st_size, most=1000)
    assert len(frames) > 10
    assert all(frame.end - frame.start <= 1000 and frame.data.endswith("\n") for frame in frames)
    assert [frame.start for frame in frames] == [0, *(frame.end for frame in frames[:-1])]
    assert "".join(frame.data for frame in frames) == "".join(lines)


def test_a_line_longer_than_a_frame_comes_in_pieces_and_no_character_is_cut(log: Path) -> None:
    text = "ä€😀" * 1000 + "\n"
    log.write_text(text)
    frames = read_on(log, log.stat().st_size, most=1000)
    assert len(frames) > 5
    assert "".join(frame.data for frame in frames) == text


def test_bytes_that_are_no_utf_8_are_replaced_and_the_offset_stays_true(log: Path) -> None:
    log.write_bytes(b"a\xff\xfeb\nnext\n")
    frame = read_frame(log, 0, 10)
    assert frame.end == 10
    assert frame.data == "a��b\nnext\n"


def test_nul_bytes_are_left_out(log: Path) -> None:
    log.write_bytes(b"a\0b\n")
    assert read_frame(log, 0, 4) == Frame(0, 4, "ab\n")


def test_of_a_progress_bar_only_the_last_state_is_shown() -> None:
    assert shown(b"start\n 10%\r 20%\r 30%\nend\n", continued=False) == "start\n 30%\nend\n"


def test_a_windows_line_end_is_no_progress_bar() -> None:
    assert shown(b"one\r\ntwo\r\n", continued=False) == "one\ntwo\n"


def test_a_progress_bar_that_goes_on_in_the_next_frame_says_that_it_replaces() -> None:
    assert shown(b"10%\r", continued=False) == "10%\r"
    assert shown(b"20%\r30%\r", continued=True) == "\r30%\r"
    assert shown(b"\n", continued=True) == "\n"


def terminal(frames: list[str]) -> list[str]:
    """What log.js makes of frames: a carriage return replaces the line, one at the end waits for what comes."""
    lines, line, waits = [], "", False
    for frame in frames:
        for character in frame:
            if character == "\n":
                lines.append(line)
                line, waits = "", False
            elif character == "\r":
                waits = True
            else:
                if waits:
                    line, waits = "", False
                line += character
    return [*lines, line]


@given(st.lists(st.sampled_from(["a", "bc", "\r", "\n", "ä", "😀"]), max_size=60), st.integers(4, 12))
def test_however_a_log_is_cut_into_frames_the_same_lines_are_shown(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], most: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "hypothesis-log"
    path.write_bytes("".join(parts).encode())
    size = path.stat().st_size
    frames = read_on(path, size, most)
    assert (frames[-1].end if frames else 0) == size
    assert terminal([frame.data for frame in frames]) == terminal([path.read_bytes().decode()])


@pytest.mark.parametrize("text", ["a", "ä", "€", "😀"])
def test_a_character_is_whole_or_left_for_later(text: str) -> None:
    data = b"x" + text.encode()
    assert whole_characters(data) == len(data)
    for cut in range(1, len(text.encode())):
        assert whole_characters(data[: 1 + cut]) == 1


def test_a_log_that_does_not_exist_yet_is_empty(log: Path) -> None:
    assert read_frame(log, 0, 100) == Frame(0, 0, "")
    assert shown_until(log, final=False) == (0, 0, 0.0)
    assert line_numbers(log, [5]) == {}
    assert last_lines(log, 10) == (1, [])


def test_an_unfinished_line_is_shown_when_nothing_comes_for_a_moment_or_at_the_end(log: Path) -> None:
    log.write_bytes(b"whole\nhalf")
    assert shown_until(log, final=False)[0] == 6
    assert shown_until(log, final=True)[0] == 10
    old(log)
    assert shown_until(log, final=False)[0] == 10


def test_line_numbers_of_many_offsets_come_from_one_read(log: Path) -> None:
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(1, 2001)))
    data = log.read_bytes()
    wanted = random.Random(1).sample(range(1, 2001), 20)
    offsets = {data.index(b"line %d\n" % n): n for n in wanted}
    assert line_numbers(log, offsets) == offsets


def test_the_last_lines_know_their_number(log: Path) -> None:
    log.write_text("".join(f"line {n}\n" for n in range(1, 20001)))
    first, lines = last_lines(log, 200)
    assert (first, lines[0], len(lines)) == (19801, "line 19801", 200)
    log.write_text("only\none and a half")
    assert last_lines(log, 200) == (1, ["only", "one and a half"])


# --- Tail ---------------------------------------------------------------------------------------------------------


async def test_a_tail_reads_a_piece_once_for_all_who_are_at_the_same_place(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"one\ntwo\n")
    reads = []
    read = logs.read_frame

    def counted(path: Path, offset: int, until: int, most: int = logs.FRAME) -> Frame:
        reads.append(offset)
        return read(path, offset, until, most)

    monkeypatch.setattr(logs, "read_frame", counted)
    tail = Tail(log, 1)
    await tail.look()
    answers = await asyncio.gather(*(tail.message(0) for _ in range(100)))
    assert reads == [0]
    assert all(answer is answers[0] for answer in answers)


async def test_a_tail_goes_as_far_as_whole_lines_go(log: Path) -> None:
    tail = Tail(log, 1)
    await tail.look()
    assert tail.end == 0
    log.write_bytes(b"one\ntw")
    await tail.look()
    assert tail.end == 4
    with log.open("ab") as file:
        file.write(b"o\n")
    await tail.look()
    assert tail.end == 8


async def test_a_tail_of_a_final_log_goes_to_its_last_byte_and_is_complete(log: Path) -> None:
    log.write_bytes(b"one\nhalf")
    tail = Tail(log, 1)
    tail.final = True
    await tail.look()
    assert (tail.end, tail.complete) == (8, True)


async def test_a_tail_of_a_final_conversion_without_a_log_is_complete(log: Path) -> None:
    tail = Tail(log, 1)
    tail.final = True
    await tail.look()
    assert (tail.end, tail.complete) == (0, True)


async def test_a_tail_shows_a_half_line_after_a_moment_without_cutting_a_character(log: Path) -> None:
    log.write_bytes(b"half \xe2\x82")  # two of the three bytes of a euro sign
    tail = Tail(log, 1)
    await tail.look()
    assert tail.end == 0
    old(log)
    await tail.look()
    assert tail.end == 5


async def test_a_tail_starts_again_when_the_log_was_cut_off(log: Path) -> None:
    log.write_bytes(b"a long line\n")
    tail = Tail(log, 1)
    await tail.look()
    log.write_bytes(b"new\n")
    await tail.look()
    assert tail.end == 4
    assert '"data": "new\\n"' in (await tail.message(0))[1]


async def test_the_frames_that_a_tail_keeps_are_few(log: Path) -> None:
    log.write_bytes(b"x\n" * 1000)
    tail = Tail(log, 1)
    await tail.look()
    for offset in range(0, 200, 2):
        await tail.message(offset)
    assert len(tail._frames) <= logs.KEPT
