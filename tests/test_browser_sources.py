"""Guests of a vCenter with 3000 of them, in a real browser: searched, chosen over pages, moved as a batch."""

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures_vsphere import Simulator, simulator
from tests.running import CACHE, Site
from tests.test_browser_wizard import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def big_vcenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """3000 guests that are shut down: 1500 in a cluster, 1500 on a stand-alone host."""
    CACHE.mkdir(parents=True, exist_ok=True)
    flags = ["-vm", "1500", "-cluster", "1", "-host", "1", "-pg", "1", "-autostart=false"]
    with simulator(CACHE, *flags, folder=tmp_path_factory.mktemp("big")) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, big_vcenter: Simulator) -> Iterator[Site]:
    """A site whose virt-v2v is a stand-in that refuses at once: this is about the way to the start."""
    program = tmp_path_factory.mktemp("bin") / "virt-v2v"
    program.write_text("#!/bin/sh\necho 'virt-v2v: error: stands in for virt-v2v and fails' >&2\nexit 1\n")
    program.chmod(0o755)
    site = Site(V2VWEB_VIRT_V2V=str(program))
    try:
        site.start()
        site.add_people()
        yield site
    finally:
        site.close()


@pytest.fixture
def page(chromium: Any, site: Site) -> Iterator[Page]:
    page = Page(chromium, site)
    yield page
    page.context.close()


def test_several_guests_of_3000_are_searched_selected_and_started(page: Page, big_vcenter: Simulator) -> None:
    browser = page.page
    browser.goto("/sources/add/vcenter/")
    browser.get_by_label("Name", exact=True).fill("Big vCenter")
    browser.get_by_label("Host name or address").fill(big_vcenter.host)
    browser.get_by_label("Port").fill(str(big_vcenter.port))
    browser.get_by_label("User", exact=True).fill(big_vcenter.user)
    browser.get_by_label("Password").fill(big_vcenter.password)
    browser.get_by_role("button", name="Save and look at the server").click()
    browser.get_by_role("button", name=re.compile("^Trust")).click()
    browser.wait_for_url(re.compile(r"/sources/\d+/$"))
    browser.get_by_text("1 to 50 of 3000").wait_for(timeout=200_000)
    narrow(page, "source-guests")
    page.check()

    # On a phone a guest is a few lines, and the rest of it behind “More”.
    browser.set_viewport_size({"width": 390, "height": 900})
    row = browser.locator("#guests tbody tr").first
    assert row.bounding_box()["height"] < 160
    assert row.locator("[data-label=Networks]").is_hidden() and row.get_by_text("shut down").is_visible()
    row.get_by_text("More", exact=False).click()
    assert row.locator("[data-label=Networks]").is_visible()
    page.check()
    browser.set_viewport_size({"width": 1280, "height": 800})

    # Chosen one by one, over a search and a page; the bar follows each tick.
    search(browser, "C0_RP0_VM14")
    first = browser.get_by_role("checkbox", name=re.compile("^Select ")).nth(0)
    first.check()
    browser.get_by_text("1 guest selected").wait_for()
    browser.get_by_role("checkbox", name=re.compile("^Select ")).nth(3).check()
    browser.get_by_text("2 guests selected").wait_for()
    search(browser, "H0_VM77")
    browser.get_by_role("checkbox", name=re.compile("^Select ")).nth(1).check()
    browser.get_by_text("3 guests selected").wait_for()
    browser.reload()
    browser.get_by_text("3 guests selected").wait_for()
    narrow(page, "source-selected")

    browser.get_by_role("button", name="Move the selected guests").click()
    browser.wait_for_url(re.compile("/networks/$"))
    browser.get_by_label(re.compile("Network: ")).first.fill("pod")
    narrow(page, "many-networks")
    page.check()
    page.next("storage")
    browser.get_by_label("Storage class").fill("fast")
    page.check()
    page.next("options")
    browser.get_by_label("Name of the batch").fill("First three")
    browser.get_by_label("Pattern for the names of the new machines").fill("moved-{number}")
    browser.get_by_role("cell", name="moved-3").wait_for()
    # A guest's addresses are a line that opens, by keyboard too, and the page is still fit for everybody then.
    browser.locator("#addresses > summary").press("Enter")
    browser.locator("#addresses details summary").first.press("Enter")
    browser.get_by_label("Address with prefix").first.wait_for()
    narrow(page, "many-options")
    page.check()
    page.next("review")
    assert browser.get_by_text("vpx://").count() == 3
    narrow(page, "many-review")
    page.check()
    if browser.get_by_label("I have read the warnings").count():
        browser.get_by_label("I have read the warnings").check()
    browser.get_by_role("button", name="Start 3 conversions").click()
    browser.wait_for_url(re.compile(r"/batches/\d+/$"))
    browser.get_by_text("All 3 have ended").wait_for(timeout=150_000)
    assert browser.get_by_role("link", name=re.compile("^moved-[123]$")).count() == 3
    narrow(page, "batch")
    page.check()


def search(browser: Any, text: str) -> None:
    browser.get_by_label("Search guests").fill(text)
    browser.get_by_role("button", name="Search").click()
    browser.wait_for_url(re.compile(f"q={text}"))
    time.sleep(0.2)  # htmx has changed the address before it swaps the table


def narrow(page: Page, name: str) -> None:
    """Pictures for people, wide and narrow, when SCREENSHOTS names a folder.

    With the caret as it is: hiding it leaves an empty style on each field, which htmx then copies and the policy refuses.
    """
    folder = os.environ.get("SCREENSHOTS")
    if not folder:
        return
    for width, ending in ((360, "-360"), (1280, "")):
        page.page.set_viewport_size({"width": width, "height": 800})
        page.page.screenshot(path=f"{folder}/{name}{ending}.png", full_page=True, caret="initial")
