"""The board: who sees what, filters, pages, live rows, and that it stays quick."""

from typing import Any

import pytest
from django.urls import reverse

from conversions.models import Conversion
from conversions.states import State


def names(response: Any) -> list[str]:
    return [row.name for row in response.context["rows"]]


@pytest.fixture
def three(make_conversion: Any, alice: Any, charlie: Any) -> list[Any]:
    return [
        make_conversion(alice, "alpha", state="running", phase="copying", progress={"bytes_done": 1, "bytes_total": 4}),
        make_conversion(charlie, "beta", state="failed", error={"code": "x", "title": "The disk is broken"}),
        make_conversion(alice, "gamma", waiting_for="a free place: 1 of 1 running"),
    ]


def test_it_shows_all_newest_first_with_state_and_reason(three: Any, bob: Any, log_in: Any) -> None:
    response = log_in(bob).get("/")
    assert names(response) == ["gamma", "beta", "alpha"]
    text = response.content.decode()
    assert "for a free place: 1 of 1 running" in text
    assert "The disk is broken" in text
    assert "Copying the disks 25 %" in text


def test_a_requester_sees_and_counts_only_own_ones(three: Any, charlie: Any, log_in: Any) -> None:
    response = log_in(charlie).get("/")
    assert names(response) == ["beta"]
    assert [(tab["text"], tab["count"]) for tab in response.context["tabs"]] == [
        ("All", 1),
        ("Running", 0),
        ("Failed", 1),
    ]
    assert "Only mine" not in response.content.decode()


def test_somebody_without_a_role_sees_nothing(three: Any, stranger: Any, log_in: Any) -> None:
    answer = log_in(stranger).get("/")
    page = answer.content.decode()
    assert answer.status_code == 403 and "Your account is not ready yet" in page
    # No menu of pages that all say the same.
    assert "Ask your administrator to give you a role" in page and 'href="/sources/"' not in page


def test_who_is_not_logged_in_is_sent_to_the_login(client: Any, db: None) -> None:
    assert client.get("/").headers["Location"] == "/login/?next=/"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?state=failed", ["beta"]),
        ("?state=active", ["gamma", "alpha"]),
        ("?state=nonsense", ["gamma", "beta", "alpha"]),
        ("?q=ALPH", ["alpha"]),
        ("?q=charlie", ["beta"]),
        ("?owner=mine", ["gamma", "alpha"]),
        ("?sort=name", ["alpha", "beta", "gamma"]),
        ("?sort=-name", ["gamma", "beta", "alpha"]),
        ("?sort=owner&q=a", ["alpha", "gamma", "beta"]),
        ("?sort=plan_json", ["gamma", "beta", "alpha"]),
        ("?page=99", ["gamma", "beta", "alpha"]),
        ("?page=x", ["gamma", "beta", "alpha"]),
        ("?q=99999999999999999999999", []),
        ("?q=%00", ["gamma", "beta", "alpha"]),
    ],
)
def test_it_filters_and_sorts(three: Any, alice: Any, log_in: Any, query: str, expected: list[str]) -> None:
    assert names(log_in(alice).get(f"/{query}")) == expected


def test_names_are_sorted_as_people_count_over_pages(make_conversion: Any, alice: Any, log_in: Any) -> None:
    for number in range(60, 0, -1):
        make_conversion(alice, f"moved-{number}")
    client = log_in(alice)
    assert names(client.get("/?sort=name")) == [f"moved-{n}" for n in range(1, 51)]
    assert names(client.get("/?sort=name&page=2")) == [f"moved-{n}" for n in range(51, 61)]
    assert names(client.get("/?sort=-name"))[:3] == ["moved-60", "moved-59", "moved-58"]


def test_a_number_finds_the_conversion_with_that_number(three: Any, alice: Any, log_in: Any) -> None:
    assert names(log_in(alice).get(f"/?q={three[1].pk}")) == ["beta"]


def test_the_addresses_of_pages_and_tabs_keep_the_search(make_conversion: Any, alice: Any, log_in: Any) -> None:
    for number in range(51):
        make_conversion(alice, f"web{number}")
    response = log_in(alice).get("/?q=web&owner=mine&sort=name")
    assert len(names(response)) == 50
    assert response.context["next"] == "?q=web&owner=mine&sort=name&page=2"
    assert "?state=queued&amp;q=web&amp;owner=mine&amp;sort=name" in response.content.decode()
    assert len(names(log_in(alice).get("/" + response.context["next"]))) == 1


def test_an_empty_board_leads_to_the_first_conversion(alice: Any, bob: Any, log_in: Any) -> None:
    text = log_in(alice).get("/").content.decode()
    assert "No conversions yet" in text
    assert f'href="{reverse("wizard-new")}"' in text
    assert "As soon as somebody starts one" in log_in(bob).get("/").content.decode()


def test_a_search_without_a_find_offers_all(three: Any, alice: Any, log_in: Any) -> None:
    assert "Nothing matches" in log_in(alice).get("/?q=zzz").content.decode()


def test_htmx_gets_the_list_alone(three: Any, alice: Any, log_in: Any) -> None:
    text = log_in(alice).get("/?q=alpha", headers={"HX-Request": "true"}).content.decode()
    assert text.lstrip().startswith('<div id="board-list"')
    assert "<html" not in text


def test_the_rows_of_some_numbers_are_those_that_one_may_see(three: Any, alice: Any, charlie: Any, log_in: Any) -> None:
    ids = ",".join(str(row.pk) for row in three)
    assert sorted(names(log_in(alice).get(f"/?ids={ids}"))) == ["alpha", "beta", "gamma"]
    assert names(log_in(charlie).get(f"/?ids={ids}")) == ["beta"]
    assert names(log_in(alice).get("/?ids=x,-1,," + "9" * 40)) == []


def test_a_hostile_name_is_text(make_conversion: Any, alice: Any, log_in: Any) -> None:
    make_conversion(alice, "<script>alert(1)</script>", state="failed", error={"title": "<img src=x>"})
    text = log_in(alice).get("/").content.decode()
    assert "<script>alert" not in text
    assert "<img src=x" not in text


@pytest.fixture
def many(make_conversion: Any, alice: Any, charlie: Any) -> None:
    row = make_conversion(alice, "web", state="running", phase="copying", progress={"bytes_done": 1, "bytes_total": 4})
    states = list(State)
    rows = []
    for number in range(2000):
        row.pk, row.name, row.state = None, f"web{number}", states[number % len(states)]
        row.owner = charlie if number % 3 else alice
        rows.append(
            Conversion(**{f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields if f.name != "id"})
        )
    Conversion.objects.bulk_create(rows)


@pytest.mark.parametrize(
    "query", ["", "?page=40", "?q=web1&sort=name", "?state=failed&page=3", "?owner=mine&sort=-owner"]
)
def test_the_number_of_queries_does_not_grow_with_the_rows(
    many: None, charlie: Any, log_in: Any, query: str, django_assert_max_num_queries: Any
) -> None:
    client = log_in(charlie)
    with django_assert_max_num_queries(8 if "sort=name" in query else 7):  # the names first, then one page
        assert len(names(client.get(f"/{query}"))) > 20


def test_neither_plans_nor_secrets_are_read(
    three: Any, alice: Any, log_in: Any, django_assert_max_num_queries: Any
) -> None:
    Conversion.objects.update(secrets={"luks-0": "x"})
    client = log_in(alice)
    with django_assert_max_num_queries(7) as queries:
        client.get("/")
    assert not any("plan_json" in query["sql"] or "secrets" in query["sql"] for query in queries.captured_queries)
