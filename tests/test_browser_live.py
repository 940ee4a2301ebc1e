"""The conversion's page and the board in a real browser: a growing log, a server that dies, a hostile log, small screens."""

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_live import WebSite

pytestmark = pytest.mark.browser

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


@pytest.fixture
def look(chromium: Any, web: WebSite) -> Iterator[Any]:
    """look("alice") is a page of a browser in which nothing may go wrong."""
    contexts, problems = [], []

    def open(who: str = "alice", **options: Any) -> Any:
        context = chromium.new_context(base_url=web.url, reduced_motion="reduce", **options)
        contexts.append(context)
        context.add_cookies(web.cookies(who))
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda m: problems.append(m.text) if m.type == "error" and "Security Policy" in m.text else None,
        )
        return page

    yield open
    for context in contexts:
        context.close()
    assert problems == []


def running(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "running", "phase": "copying", "phases": ["checking", "copying"], "log": ""} | more


def wait(page: Any, script: str, seconds: float = 15) -> None:
    """Until an expression is true.  Playwright's own wait_for_function() is what a strict policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < deadline, f"waited in vain for {script}"
        page.wait_for_timeout(50)


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def lines(page: Any) -> list[str]:
    """What stands in the log, line by line."""
    text: str = page.evaluate("[...document.querySelectorAll('#log-lines pre')].map(e => e.textContent).join('')")
    return text.splitlines()


def test_a_growing_log_is_followed_until_somebody_scrolls_up_and_end_goes_on(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("follow", log="".join(f"line {n}\n" for n in range(1, 301))))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#L300")
    page.wait_for_selector("#connection[data-kind=live]")
    append(web.log_of(pk), "line 301\n")
    page.get_by_text("line 301").wait_for(timeout=3000)
    scroller = page.locator("#log-scroll")
    at_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight < 30"
    assert scroller.evaluate(at_end)
    scroller.focus()
    page.keyboard.press("PageUp")
    page.wait_for_selector("#log-jump:visible")
    page.wait_for_timeout(700)  # Chromium scrolls softly
    before = scroller.evaluate("e => e.scrollTop")
    append(web.log_of(pk), "line 302\nline 303\n")
    page.get_by_role("button", name="2 new lines – jump to end").wait_for()
    assert scroller.evaluate("e => e.scrollTop") == before
    scroller.focus()
    page.keyboard.press("End")
    page.wait_for_selector("#log-jump", state="hidden")
    assert scroller.evaluate(at_end)
    append(web.log_of(pk), "line 304\n")
    page.get_by_text("line 304").wait_for()
    wait(page, f"({at_end})(document.getElementById('log-scroll'))")


def test_what_is_written_is_seen_within_half_a_second(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("quick"))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#connection[data-kind=live]")
    late = []
    for number in range(10):
        page.evaluate(
            """number => { window.seen = new Promise(done => new MutationObserver((_, watcher) => {
                if (document.getElementById('log-lines').textContent.includes(`line ${number};`)) {
                    watcher.disconnect(); done(Date.now() / 1000);
                } }).observe(document.getElementById('log-lines'), {childList: true, subtree: true, characterData: true})) }""",
            number,
        )
        written = time.time()
        append(web.log_of(pk), f"line {number};\n")
        late.append(page.evaluate("window.seen") - written)
    late.sort()
    assert late[len(late) // 2] <= 0.5, late


def test_a_server_that_dies_in_the_middle_loses_nothing_and_doubles_nothing(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("reconnect"))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#connection[data-kind=live]")
    stop = threading.Event()
    written = [0]

    def write() -> None:
        while not stop.wait(0.02):
            append(web.log_of(pk), f"line {written[0]}\n")
            written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait(page, "document.getElementById('log-lines').textContent.includes('line 20\\n')")
        for _ in range(2):
            web.kill()
            page.wait_for_selector("#connection[data-kind=off]")
            assert "Showing what was known at" in page.locator("#connection").inner_text()
            time.sleep(0.5)
            web.serve()
            page.wait_for_selector("#connection[data-kind=live]", timeout=30_000)
    finally:
        stop.set()
        writer.join()
    wait(page, f"document.getElementById('log-lines').textContent.includes('line {written[0] - 1}\\n')", 30)
    assert lines(page) == [f"line {n}" for n in range(written[0])]


def test_where_sockets_are_blocked_the_page_lives_on_requests(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("blocked", log="first\n"))
    page = look()
    page.add_init_script("window.WebSocket = class { constructor() { throw new Error('blocked'); } };")
    page.goto(f"/conversions/{pk}/")
    page.get_by_text("Live, every 2 seconds").wait_for(timeout=30_000)
    append(web.log_of(pk), "second\n")
    page.get_by_text("second", exact=True).wait_for()
    web.change(pk, state="failed", error='{"code": "x", "title": "It broke", "text": "Badly."}')
    page.get_by_role("heading", name="It broke").wait_for()
    assert lines(page) == ["first", "second"]


def test_a_line_has_an_address(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("address", log="".join(f"text of line {n}\n" for n in range(1, 5001))))
    page = look()
    page.goto(f"/conversions/{pk}/#L1500")
    page.wait_for_selector("#L1500.log-line--named")
    assert page.locator("#L1500").inner_text().strip() == "text of line 1500"
    box, frame = page.locator("#L1500").bounding_box(), page.locator("#log-scroll").bounding_box()
    assert frame["y"] <= box["y"] <= frame["y"] + frame["height"]
    page.locator("#L1502 .log-number").click()
    assert page.url.endswith("#L1502")
    page.locator("#L1505 .log-number").click(modifiers=["Shift"])
    assert page.url.endswith("#L1502-1505")
    assert page.locator(".log-line--named").count() == 4
    page.evaluate("location.hash = '#L10-12'")
    page.wait_for_selector("#L10.log-line--named")
    assert page.locator(".log-line--named").count() == 3


def test_the_log_is_searched_and_warnings_are_found(web: WebSite, look: Any) -> None:
    text = [f"line {n} {'Needle in it' if n % 700 == 0 else 'hay'}\n" for n in range(1, 3001)]
    text[1800] = "virt-v2v: \x1b[35mwarning\x1b[0m: mind this\n"
    [pk] = web.make(running("search", log="".join(text)))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#L3000")
    page.get_by_label("Search in the log").fill("needle")
    page.get_by_text("4 lines", exact=True).wait_for()
    page.keyboard.press("Enter")
    page.wait_for_selector("#L700.log-line--current mark")
    assert page.locator("#L700 mark").inner_text() == "Needle"
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_text("2 of 4 lines", exact=True).wait_for()
    page.get_by_role("button", name="Previous", exact=True).click()
    page.get_by_text("1 of 4 lines", exact=True).wait_for()
    append(web.log_of(pk), "a needle more\n")
    page.get_by_text("1 of 5 lines", exact=True).wait_for()
    page.get_by_label("Search in the log").fill("<b>")
    page.get_by_text("Nothing found").wait_for()
    page.get_by_role("button", name="Next warning or error").click()
    page.wait_for_selector("#L1801.log-line--current.log-line--warning")
    assert page.locator("#L1801 .ansi-5").inner_text() == "warning"


def test_wrapping_is_remembered(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("wrap", log="x" * 3000 + "\n"))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#L1")
    wide = page.locator("#L1").bounding_box()["width"]
    page.get_by_label("Wrap lines").check()
    assert page.locator("#L1").bounding_box()["width"] < wide / 2
    page.reload()
    page.wait_for_selector("#L1")
    assert page.get_by_label("Wrap lines").is_checked()
    assert page.locator("#L1").bounding_box()["width"] < wide / 2


HOSTILE = (
    "<script>document.title = 'owned'; alert(1)</script>\n"
    "<img src=x onerror=alert(2)> &lt;b&gt; </pre></div><h1>big</h1>\n"
    "\x1b[31mred\x1b[0m \x1b[1;4mbold\x1b[m \x1b]0;title\x07after \x1b[2J\x1b[Hcleared \x1b[38;2;1;2;3mtrue\x1b[48;5;200mcolour\n"
    " 10%\r 50%\r100%\n"
    "\u202egnp.exe right to left\n"
    + "y" * 1_000_000
    + "\nlast line with \x1b[999;999;m odd \x1b codes \x00\x08\x7f end\n"
)


def test_a_hostile_log_is_text_and_nothing_else(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("hostile"))
    append(web.log_of(pk), HOSTILE)
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#L7")
    append(web.log_of(pk), HOSTILE)
    page.wait_for_selector("#L14", timeout=20_000)
    page.get_by_label("Search in the log").fill("<script>")
    page.get_by_text("2 lines", exact=True).wait_for()
    assert page.title() == "hostile – v2vweb"
    assert page.locator("#log-lines").evaluate("e => e.querySelectorAll('script, img, h1, b').length") == 0
    shown = lines(page)
    assert shown[0] == shown[7] == "<script>document.title = 'owned'; alert(1)</script>"
    assert shown[2] == "red bold after cleared truecolour"
    assert shown[3] == shown[10] == "100%"
    assert len(shown) == 14
    assert 10_000 <= len(shown[5]) < 10_200
    assert len(shown[12]) < 10_200
    assert shown[5].endswith("the rest is in the downloaded log)")
    assert shown[6].startswith("last line with ")
    page.locator("#L3").scroll_into_view_if_needed()
    assert page.locator("#L3 .ansi-1").inner_text() == "red"


def test_two_hundred_thousand_lines_stay_smooth(web: WebSite, look: Any) -> None:
    text = "".join(f"[{n / 10:8.1f}] line {n} of a long log that somebody wants to read\n" for n in range(200_000))
    [pk] = web.make(running("long"))
    web.log_of(pk).write_text(text)
    page = look()
    began = time.monotonic()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#L200000", timeout=60_000)
    print(f"200 000 lines ({len(text) >> 20} MiB) after {time.monotonic() - began:.1f} s")
    assert page.evaluate("document.querySelectorAll('#log-lines *').length") < 20_000
    page.evaluate(
        """() => { window.worst = 0; let last = performance.now();
        const beat = () => { const now = performance.now(); window.worst = Math.max(window.worst, now - last); last = now;
        window.beating = requestAnimationFrame(beat); }; beat(); }"""
    )
    for number in range(5):
        append(web.log_of(pk), "".join(f"more {number} {n}\n" for n in range(1000)))
        time.sleep(0.4)
    page.wait_for_selector("#L205000")
    worst = page.evaluate("window.worst")
    print(f"worst pause while 5000 more came: {worst:.0f} ms")
    page.get_by_label("Search in the log").fill("line 123456 ")
    # Not get_by_text(): that one looks through all the 12 MiB again and again.
    wait(page, "document.getElementById('log-count').textContent === '1 line'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#L123457.log-line--current")
    assert worst < 1000  # many times what it is on a machine with nothing else to do


# --- state --------------------------------------------------------------------------------------------------------


def test_state_title_and_favicon_follow_the_conversion(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("alive", phase="opening", phases=["checking", "opening"], log="x\n"))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#connection[data-kind=live]")
    page.wait_for_selector("#step-opening[open]")
    icon = page.locator("#favicon").get_attribute("href")
    assert icon.startswith("data:image/svg+xml,")
    progress = '{"bytes_done": 440, "bytes_total": 1000, "rate": 100, "eta": [300, 480], "disks": []}'
    web.change(pk, phase="copying", progress=progress)
    wait(page, "document.title === '44 % · alive – v2vweb'")
    assert page.locator("#favicon").get_attribute("href") != icon
    assert page.locator("#announce").text_content() == "Copying the disks"
    page.get_by_text("about 5 to 8 minutes left").first.wait_for()
    web.change(pk, progress=progress.replace("440", "550"))
    wait(page, "document.title === '55 % · alive – v2vweb'")
    assert page.locator("#bar").evaluate("e => e.value") == 55
    page.evaluate("document.getElementById('messages').innerHTML = '<p class=pf-m-success>It is on its way.</p>'")
    web.change(pk, state="succeeded", ended="2026-01-01 00:00:00")
    wait(page, "document.title === 'Done · alive – v2vweb'")
    page.get_by_text("It is on its way").wait_for(state="detached")
    page.get_by_role("link", name="Cancel conversion").wait_for(state="detached")


def test_silence_is_told_and_how_long_it_usually_is(web: WebSite, look: Any) -> None:
    from datetime import UTC, datetime, timedelta

    [pk] = web.make(running("silent", phase="converting", phases=["checking", "converting"], log="x\n"))
    quiet = (datetime.now(UTC) - timedelta(minutes=3)).replace(tzinfo=None).isoformat(" ")
    web.change(pk, last_output=quiet, started=quiet)
    os.utime(web.log_of(pk), (time.time() - 180, time.time() - 180))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.get_by_text(re.compile(r"No output for 3 minutes.*usually quiet for up to 15 minutes")).wait_for()


def test_a_log_with_nothing_in_it_shows_no_empty_box(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("empty", log=""))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#connection[data-kind=live]")
    assert page.locator("#log-scroll").is_hidden() and page.get_by_label("Search in the log").is_hidden()
    web.log_of(pk).write_text("virt-v2v says something\n")
    page.locator("#L1").wait_for()
    assert page.get_by_label("Search in the log").is_visible()


def test_a_step_that_somebody_opened_stays_open(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("opened", phase="opening", phases=["checking", "opening"]))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.wait_for_selector("#connection[data-kind=live]")
    page.locator("#step-checking summary").click()
    web.change(pk, waiting_for="something else")
    wait(page, "document.getElementById('live').dataset.key.includes('something else')")
    assert page.locator("#step-checking").evaluate("e => e.open")


def test_cancel_asks_and_then_stops(web: WebSite, look: Any) -> None:
    [pk] = web.make(running("cancel"))
    page = look()
    page.goto(f"/conversions/{pk}/")
    page.get_by_role("link", name="Cancel conversion").click()
    dialog = page.get_by_role("dialog", name="Cancel the conversion of cancel?")
    dialog.get_by_text("The source is not changed").wait_for()
    dialog.get_by_role("button", name="Let it go on").click()
    dialog.wait_for(state="hidden")
    page.get_by_role("link", name="Cancel conversion").click()
    dialog.get_by_role("button", name="Cancel the conversion").click()
    page.get_by_text("Stopping, as alice asked").wait_for()


FAILED = {
    "name": "failed",
    "state": "failed",
    "phase": "opening",
    "phases": ["checking", "opening"],
    "log": "virt-v2v: opening\nvirt-v2v: error: no\n",
    "error": {
        "code": "disk-broken",
        "title": "The disk image is damaged",
        "text": "It ends before it should.",
        "action": "Copy it again and choose the new copy.",
        "whose": "source owner",
    },
    "receipt": {"removed": ["the temporary folder"], "kept": []},
    "events": [
        {"type": "warning", "title": "Old format", "text": "It is an old one.", "line": 0},
        {"type": "error", "title": "The disk image is damaged", "line": 18},
    ],
}
DONE = {
    "name": "finished",
    "state": "succeeded",
    "phase": "finishing",
    "phases": ["checking", "opening", "inspecting", "converting", "copying", "finishing"],
    "log": "all went well\n",
    "files": {"finished-sda": "disk" * 1000, "finished.yaml": "kind: VirtualMachine\n"},
}


def test_a_failed_one_has_its_card_its_line_and_a_retry(web: WebSite, look: Any) -> None:
    [pk] = web.make(FAILED)
    page = look()
    page.goto(f"/conversions/{pk}/")
    card = page.get_by_role("region", name="The disk image is damaged")
    card.get_by_text("Whoever made the file").wait_for()
    card.get_by_role("link", name="Line 2 of the log").click()
    page.wait_for_selector("#L2.log-line--named")
    card.get_by_role("button", name="Retry").click()
    page.get_by_text("Attempt 2 waits for its turn").wait_for()
    page.get_by_role("link", name="Attempt 1").click()
    page.get_by_text("You are looking at an earlier attempt").wait_for()
    page.get_by_text("virt-v2v: error: no").wait_for()


def test_a_finished_one_gives_its_files_also_without_any_script(web: WebSite, look: Any) -> None:
    [pk] = web.make(DONE)
    page = look(java_script_enabled=False)
    page.goto(f"/conversions/{pk}/")
    assert "all went well" in page.locator("#log-server").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download finished-sda").click()
    assert Path(download.value.path()).read_text() == "disk" * 1000
    assert download.value.suggested_filename == "finished-sda"


def test_the_board_changes_in_place_and_offers_what_is_new(web: WebSite, look: Any) -> None:
    first, second = web.make(running("board-one"), running("board-two"))
    page = look()
    page.goto("/?q=board-")
    page.wait_for_selector("#connection[data-kind=live]")
    order = [row.get_attribute("id") for row in page.locator("#board-rows tr").all()]
    page.locator(f"#row-{first} a").focus()
    web.change(first, state="failed", error='{"title": "It broke"}')
    page.locator(f"#row-{first}").get_by_text("It broke").wait_for()
    assert [row.get_attribute("id") for row in page.locator("#board-rows tr").all()] == order
    assert page.evaluate("document.activeElement.closest('tr').id") == f"row-{first}"
    [third] = web.make(running("board-three"))
    page.get_by_role("button", name="1 new conversion: show it").click()
    page.locator(f"#row-{third}").wait_for()
    page.get_by_label("Search by name").fill("board-two")
    page.locator(f"#row-{third}").wait_for(state="detached")
    assert page.locator("#board-rows tr").count() == 1
    page.wait_for_url(re.compile("q=board-two"))
    page.get_by_role("link", name="board-two").click()
    page.wait_for_url(re.compile(f"/conversions/{second}/"))


def test_everything_is_reached_by_keyboard_and_axe_finds_nothing_in_light_dark_and_narrow(
    web: WebSite, look: Any
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    disks = [{"disk": 1, "size": 1000, "bytes_done": 440, "bytes_total": 1000, "rate": 100}]
    progress = {"bytes_done": 440, "bytes_total": 1000, "rate": 100, "eta": [300, 480], "disks": disks}
    log = (
        "".join(f"\x1b[{30 + n % 8}mcolour {n}\x1b[0m\n" for n in range(100))
        + "virt-v2v: error: x\nvirt-v2v: warning: y\n"
    )
    pks = web.make(
        running("axe", progress=progress, log=log), FAILED, DONE, {"name": "waits", "waiting_for": "a place"}
    )
    page = look()
    for path in [
        "/",
        "/?q=nothing-like-this",
        f"/conversions/{pks[0]}/cancel/",
        *(f"/conversions/{pk}/" for pk in pks),
    ]:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        for details in page.locator("details.live-more").all():
            details.evaluate("e => { e.open = true; }")
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                html = "html.pf-v6-theme-dark" if scheme == "dark" else "html:not(.pf-v6-theme-dark)"
                page.wait_for_selector(html, state="attached")
                found = Axe().run(page, options=RULES)
                assert found.violations_count == 0, f"{path} {width} {scheme}\n{found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
