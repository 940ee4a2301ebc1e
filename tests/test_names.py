import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversions import names
from conversions.problems import RefusedError


@pytest.mark.parametrize("name", ["a", "7", "web01", "web-01", "0-0", "x" * 63])
def test_it_takes_labels_of_rfc_1123(name):
    assert names.check(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "-web",
        "web-",
        "Web",
        "web_01",
        "web.example",
        "web 01",
        "wéb",
        "x" * 64,
        "web\n",
        "../../etc",
        "$(id)",
        "a/b",
        "１",
    ],
)
def test_it_refuses_other_names_and_says_the_rule_and_a_better_one(name):
    with pytest.raises(RefusedError) as refused:
        names.check(name)
    assert refused.value.field == "name"
    assert refused.value.problem.code == "name-not-allowed"
    assert names.RULE in refused.value.problem.text
    assert names.suggest(name) in refused.value.problem.action


@pytest.mark.parametrize("name", ["", "  ", None, 5, ["web"]])
def test_it_asks_for_a_name_when_there_is_none(name):
    with pytest.raises(RefusedError) as refused:
        names.check(name)
    assert refused.value.problem.code == "name-missing"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Büro Server (alt)", "buro-server-alt"),
        ("Straße", "strasse"),
        ("Łódź_Ærø", "lodz-aero"),
        ("WIN2019.corp.example", "win2019-corp-example"),
        ("--- ---", "guest"),
        ("сервер", "guest"),
        ("x" * 62 + "-y", "x" * 62),
        ("②web", "2web"),
    ],
)
def test_it_suggests_a_name_near_to_the_text(text, name):
    assert names.suggest(text) == name


@given(st.text(max_size=200))
def test_every_suggestion_is_a_valid_name(text):
    assert names.is_valid(names.suggest(text))


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_a_valid_name_is_suggested_as_it_is(name):
    assert names.suggest(name) == name


def test_numbers_in_names_are_sorted_as_numbers():
    named = ["web10", "Web 2", "web2", "web1-10", "web1-9", "web", "web007", "7", "10", "web" + "9" * 250]
    assert sorted(named, key=names.natural) == [
        "7",
        "10",
        "web",
        "Web 2",
        "web1-9",
        "web1-10",
        "web2",
        "web007",
        "web10",
        "web" + "9" * 250,
    ]
