"""The API's own page, in the browser, under the policy of all other pages."""

from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium: Any, site: Any) -> Any:
    context = chromium.new_context(base_url=site.url)
    context.add_cookies(site.cookies("alice"))
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            page.problems.append(request.url)
            if site.url not in request.url and not request.url.startswith("data:")
            else None
        ),
    )
    yield page
    context.close()


def test_it_shows_the_operations_without_a_network_or_a_looser_policy(page: Any) -> None:
    answer = page.goto("/api/docs")
    page.locator(".opblock-summary-path").first.wait_for(timeout=30_000)
    shown = page.locator(".opblock").evaluate_all(
        "all => all.map(one => one.querySelector('.opblock-summary-method').innerText + ' '"
        " + one.querySelector('.opblock-summary-path').innerText.replaceAll('\\u200b', ''))"
    )
    assert "POST /api/v1/conversions" in shown
    assert "GET /api/v1/conversions/{id}/log" in shown
    assert len(shown) >= 8
    assert page.problems == []
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy


def test_an_operation_can_be_tried_with_the_session(page: Any) -> None:
    page.goto("/api/docs")
    block = page.locator(".opblock-get", has_text="List conversions").first
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    response = block.locator(".live-responses-table")
    response.wait_for(timeout=30_000)
    assert response.locator(".response-col_status").last.inner_text().startswith("200")
    assert '"count": 0' in response.inner_text()
    block = page.locator(".opblock-post", has_text="Start a conversion").first
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    response = block.locator(".live-responses-table")
    response.wait_for(timeout=30_000)
    assert response.locator(".response-col_status").last.inner_text().startswith("422"), "the CSRF token is sent"
    assert all("422" in problem for problem in page.problems), page.problems
