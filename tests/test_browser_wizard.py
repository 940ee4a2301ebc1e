"""The wizard and the pages around it in a real browser: by mouse and keyboard, light and dark, wide and 320 pixels narrow."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_images import linux_disk, write_image
from tests.running import Site

pytestmark = pytest.mark.browser

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: Any) -> Iterator[Site]:
    """A site whose virt-v2v is a stand-in that refuses at once: this is about the way to the start, not what comes after."""
    program = tmp_path_factory.mktemp("bin") / "virt-v2v"
    program.write_text("#!/bin/sh\necho 'virt-v2v: error: stands in for virt-v2v and fails' >&2\nexit 1\n")
    program.chmod(0o755)
    site = Site(V2VWEB_VIRT_V2V=str(program))
    site.source_root.joinpath("old servers").mkdir()
    site.source_root.joinpath("Web Server.img").write_bytes(linux_disk())
    site.source_root.joinpath("Web Server data.img").write_bytes(linux_disk())
    write_image(site.source_root / "old servers" / "mail.qcow2", "qcow2")
    try:
        site.start()
        site.add_people()
        yield site
    finally:
        site.close()


class Page:
    """A browser's page of one person, with what must never happen on it."""

    def __init__(self, browser: Any, site: Site, who: str = "alice", **context: Any) -> None:
        self.context = browser.new_context(base_url=site.url, reduced_motion="reduce", **context)
        if who:
            self.context.add_cookies(site.cookies(who))
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._listen)
        self.page.on("request", self._watch)
        self.url = site.url

    def _listen(self, message: Any) -> None:
        # A refusal is answered with 422 or 409, and Chromium tells of each; a broken policy is what we look for.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.problems.append(f"asked another server: {request.url}")

    def check(self) -> None:
        """No error, no other server, nothing for axe in light and dark, nothing wider than the smallest screen."""
        from axe_playwright_python.sync_playwright import Axe

        for width in (1280, 320):
            self.page.set_viewport_size({"width": width, "height": 800})
            for scheme in ("light", "dark"):
                self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                html = "html.pf-v6-theme-dark" if scheme == "dark" else "html:not(.pf-v6-theme-dark)"
                self.page.wait_for_selector(html, state="attached")
                found = Axe().run(self.page, options=RULES)
                assert found.violations_count == 0, f"{self.page.url} {width} {scheme}\n{found.generate_report()}"
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{self.page.url} is {wide} pixels wide on a screen of {width}"
        self.page.set_viewport_size({"width": 1280, "height": 800})
        assert self.problems == []

    def next(self, step: str) -> None:
        self.page.get_by_role("button", name="Next").click()
        self.page.wait_for_url(re.compile(f"/{step}/$"))

    def on_to_the_review(self) -> None:
        """Through however many steps lie between, taking each as it is."""
        for _ in range(9):
            if self.page.url.endswith("/review/"):
                return
            here = self.page.url
            self.page.get_by_role("button", name="Next").click()
            self.page.wait_for_url(lambda url, here=here: url != here)
        raise AssertionError(f"no way to the review: {self.page.url}")

    def begin(self) -> None:
        self.page.goto("/new/")
        self.page.get_by_role("button", name="Disk image on the server").click()
        self.page.wait_for_url(re.compile("/source/$"))


@pytest.fixture
def open_page(chromium: Any, site: Site) -> Iterator[Any]:
    pages: list[Page] = []

    def open(who: str = "alice", **context: Any) -> Page:
        pages.append(Page(chromium, site, who, **context))
        return pages[-1]

    yield open
    for page in pages:
        page.context.close()


def picture(page: Any, name: str) -> None:
    """For people to look at: only when SCREENSHOTS names a folder, as for the README's own (docs/screenshots)."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_the_whole_wizard_ends_at_a_conversion(open_page: Any) -> None:
    tab = open_page()
    page = tab.page
    page.goto("/new/")
    tab.check()
    tab.begin()
    tab.check()
    page.get_by_label("Web Server.img").check()
    page.get_by_label("Web Server data.img").check()
    page.get_by_label("Web Server data.img").uncheck()
    picture(page, "wizard-source")
    tab.next("guest")
    tab.check()
    assert page.get_by_label("Name of the new machine").input_value() == "web-server"
    page.get_by_label("Name of the new machine").fill("web01")
    tab.next("options")
    page.get_by_text("Passphrases of encrypted disks").click()
    tab.check()
    tab.on_to_the_review()
    tab.check()
    command = page.locator("#command").text_content()
    assert command.startswith("virt-v2v") or "/virt-v2v -i disk -if raw -o kubevirt" in command
    assert "-on web01" in command and "Web Server.img" in command
    picture(page, "wizard-review")
    page.get_by_role("button", name="Start the conversion").click()
    page.wait_for_url(re.compile(r"/conversions/\d+/$"))
    assert page.get_by_role("heading", name="web01").count() >= 1
    assert tab.problems == []


def test_folders_are_browsed_without_losing_what_is_chosen(open_page: Any, site: Site) -> None:
    tab = open_page()
    page = tab.page
    tab.begin()
    page.get_by_label("Web Server.img").check()
    page.get_by_role("link", name="old servers").click()
    page.get_by_label("mail.qcow2").check()
    page.get_by_role("link", name="Folder above").click()
    page.get_by_label("Web Server data.img").wait_for()
    assert page.get_by_label("Web Server.img").is_checked()
    chosen = page.locator("[name=paths]").input_value().splitlines()
    assert chosen == [str(site.source_root / "Web Server.img"), str(site.source_root / "old servers" / "mail.qcow2")]
    assert tab.problems == []


def test_a_refusal_is_said_beside_the_field_and_is_accessible(open_page: Any) -> None:
    tab = open_page()
    tab.begin()
    tab.page.get_by_role("button", name="Next").click()
    tab.page.get_by_text("Choose a disk image.").wait_for()
    tab.check()


def test_it_works_without_javascript(open_page: Any) -> None:
    tab = open_page(java_script_enabled=False)
    page = tab.page
    tab.begin()
    page.get_by_role("link", name="old servers").click()
    page.wait_for_url(re.compile("folder="))
    page.get_by_label("mail.qcow2").check()
    tab.on_to_the_review()
    page.get_by_role("button", name="Start the conversion").click()
    page.wait_for_url(re.compile(r"/conversions/\d+/$"))


def test_it_works_by_keyboard_alone(open_page: Any) -> None:
    tab = open_page()
    page = tab.page
    tab.begin()
    page.get_by_label("Web Server.img").focus()
    page.keyboard.press("Space")
    while not page.url.endswith("/review/"):
        here = page.url
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == "Next":
                break
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url, here=here: url != here)
    assert page.get_by_role("button", name="Start the conversion").count() == 1


def test_a_double_click_on_start_makes_one_conversion(open_page: Any) -> None:
    tab = open_page()
    page = tab.page
    tab.begin()
    page.get_by_label("Web Server.img").check()
    tab.next("guest")
    page.get_by_label("Name of the new machine").fill("clicked-twice")
    tab.on_to_the_review()
    page.get_by_role("button", name="Start the conversion").dblclick()
    page.wait_for_url(re.compile(r"/conversions/\d+/$"))
    page.goto("/")
    assert page.get_by_role("link", name="clicked-twice", exact=True).count() == 1


def test_two_tabs_do_not_overwrite_each_other_unseen(open_page: Any) -> None:
    tab = open_page()
    page = tab.page
    tab.begin()
    page.get_by_label("Web Server.img").check()
    tab.next("guest")
    other = tab.context.new_page()
    other.goto(page.url)
    other.get_by_label("Name of the new machine").fill("from-the-other")
    other.get_by_role("button", name="Next").click()
    other.wait_for_url(re.compile("/options/$"))
    page.get_by_label("Name of the new machine").fill("from-this")
    page.get_by_role("button", name="Next").click()
    page.get_by_text("Changed meanwhile by you, in another tab,").wait_for()
    tab.check()
    assert page.get_by_label("Name of the new machine").input_value() == "from-this"
    assert "from-the-other" in page.locator("main").inner_text()
    tab.next("options")


@pytest.mark.parametrize(
    "path", ["/people/", "/people/add/", "/people/1/", "/account/tokens/", "/account/password/", "/system/", "/nothing"]
)
def test_the_pages_around_it_are_accessible(open_page: Any, path: str) -> None:
    tab = open_page("admin")
    tab.page.goto(path)
    tab.page.wait_for_load_state("networkidle")
    tab.page.locator("summary", has_text="Account and theme").click()  # the menu, too
    tab.check()
    picture(tab.page, path.strip("/").replace("/", "-"))


def test_logging_in_and_being_refused_are_accessible(open_page: Any) -> None:
    tab = open_page("")
    tab.page.goto("/new/")
    tab.check()
    tab.page.get_by_label("User name").fill("bob")
    tab.page.get_by_label("Password").fill("wrong")
    tab.page.get_by_role("button", name="Log in").click()
    tab.page.get_by_text("Name or password is wrong").wait_for()
    tab.check()
    tab.page.get_by_label("Password").fill("correct-horse-battery")
    tab.page.get_by_role("button", name="Log in").click()
    tab.page.get_by_text("Your role may look at conversions, but not start new ones.").wait_for()
    tab.check()


def test_the_theme_is_remembered_and_set_before_the_first_paint(open_page: Any) -> None:
    tab = open_page()
    page = tab.page
    page.emulate_media(color_scheme="light")
    page.goto("/system/")
    page.locator("summary", has_text="Account and theme").click()
    page.get_by_role("button", name="Dark").click()
    page.reload(wait_until="commit")
    page.wait_for_selector("body", state="attached")
    assert page.evaluate("document.documentElement.classList.contains('pf-v6-theme-dark')")
    page.locator("summary", has_text="Account and theme").click()
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert not page.get_by_role("button", name="Dark").is_visible()


def test_a_token_can_be_copied(open_page: Any) -> None:
    tab = open_page()
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.page
    page.goto("/account/tokens/")
    page.get_by_label("What it is for").fill("nightly")
    page.get_by_role("button", name="Make a token").click()
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#secret").inner_text()
    assert page.locator("#secret").inner_text().startswith("v2v_")


def test_a_file_that_vanishes_in_the_middle_leads_back_to_the_source(open_page: Any, site: Site) -> None:
    gone = site.source_root / "gone.img"
    shutil.copy(site.source_root / "Web Server.img", gone)
    tab = open_page()
    page = tab.page
    tab.begin()
    page.get_by_label("gone.img").check()
    tab.next("guest")
    tab.next("options")
    gone.unlink()
    tab.on_to_the_review()
    page.get_by_text("There is no such file").wait_for()
    tab.check()
    page.get_by_role("link", name="Go to the step “Source”").click()
    page.wait_for_url(re.compile("/source/$"))
