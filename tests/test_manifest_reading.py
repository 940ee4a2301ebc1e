"""YAML that somebody else wrote: what is read, what is refused, and on which line."""

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conversions.manifest import Target, three_views
from conversions.manifest.reading import MAX_BYTES, UnreadableError, read
from conversions.manifest.writing import text_of, write
from conversions.problems import RefusedError
from tests.fixtures_manifest import Case, a_plan

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("", "yaml-empty", None),
        ("---\n# nothing\n", "yaml-empty", None),
        ("a: [1, 2\nb: 3\n", "yaml-syntax", 2),
        ("apiVersion: kubevirt.io/v1\nkind: Virt", None, None),  # cut off, and still YAML
        ('a: b\nc: "cut off', "yaml-syntax", 2),
        ("a: 1\n\tb: 2\n", "yaml-syntax", 2),
        (BOMB, "yaml-alias", 1),
        ("a: 1\nb: *a\n", "yaml-alias", 2),
        ("a: &x 1\nb: 2\n", "yaml-alias", 1),
        ("<<: {a: 1}\n", None, None),  # a key like any other, refused later as one that nobody knows
        ("a: 1\nb: !!python/object/apply:os.system [id]\n", "yaml-tag", 2),
        ("a: !!str 1\n", "yaml-tag", 1),
        ("a: 1\n---\nb: 2\n", "yaml-documents", 2),
        ("a: 1\nb: 2\na: 3\n", "yaml-key-twice", 3),
        ("? [a, b]\n: c\n", "yaml-key", 1),
        ("a: 1\nb: \x00\n", "yaml-not-text", 2),
        ("a: 1\nb: \x07\n", "yaml-not-text", 2),
        (b"a: 1\nb: \xff\xfe\n", "yaml-not-text", 2),
        ("x: " + "a" * MAX_BYTES, "yaml-too-big", None),
        ("[" * 100 + "]" * 100, "yaml-too-deep", 1),
        ("\n".join(f"{'  ' * n}a:" for n in range(60)), "yaml-too-deep", 32),
        ("- x\n" * 120_000, "yaml-too-big", 100_000),
        ("%YAML 9.9\n---\na: 1\n", "yaml-syntax", 1),
        ("a: @b\n", "yaml-syntax", 1),
        ("\\", None, None),
    ],
)
def test_hostile_and_broken_yaml_is_refused_with_its_line(
    text: str | bytes, code: str | None, line: int | None
) -> None:
    started = time.monotonic()
    if code is None:
        assert read(text)
        return
    with pytest.raises(UnreadableError) as refused:
        read(text)
    assert (refused.value.problem.code, refused.value.line) == (code, line)
    assert line is None or refused.value.problem.text.startswith(f"Line {line}: ")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),  # YAML 1.1 has numbers in base 60
        ("2026-01-01", "2026-01-01"),  # and dates
        ("2Gi", "2Gi"),
        ("12", 12),
        ("-0", 0),
        ("0x1F", 31),
        ("017", 15),
        ("0o17", 15),
        ("-0b11", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1.2.3", "1.2.3"),
        ("no", False),
        ("Yes", True),
        ("ON", True),
        ("y", True),
        ("nO", "nO"),
        ("~", None),
        ("null", None),
        ("", None),
        ('""', ""),
        ("'12'", "12"),
        ("9" * 70, "9" * 70),
    ],
)
def test_words_mean_what_kubernetes_takes_them_for(word: str, value: Any) -> None:
    found = read(f"a: {word}")[0].plain()["a"]
    assert (type(found), found) == (type(value), value)


def test_each_value_knows_its_line() -> None:
    root = read("# first\na:\n  - b: 1\n    c:\n      d: 2\n")[0]
    assert root.get("a").line == 2  # type: ignore[union-attr]
    assert root.get("a").items()[0].get("c", "d").line == 5  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", BOMB, "a: !!python/name:os.system", "x: " + "a" * 10_000_000, "apiVersion: [cut"])
def test_a_hostile_file_of_virt_v2v_is_a_named_refusal(text: str) -> None:
    plan = a_plan()
    with pytest.raises(RefusedError) as refused:
        three_views(text, plan, Target(), Case(plan).files)
    assert refused.value.problem.code.startswith("yaml-")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(),
    lambda inner: (
        st.dictionaries(st.text(), inner, max_size=4) | st.lists(st.dictionaries(st.text(), inner), max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), values, min_size=1, max_size=4))
def test_what_is_written_is_read_the_same_by_us_and_by_others(value: dict[str, Any]) -> None:
    text = text_of(write([value]))
    assert read(text)[0].plain() == value
    assert yaml.safe_load(text) == value


@given(st.text() | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        read(text, documents=3)
    except UnreadableError as error:
        assert error.problem.code.startswith("yaml-")


@pytest.mark.parametrize(
    "text", ["1e3", "yes", "0x10", "012", "1_000", "~", "null", "1.5", "-", "a: b", "#x", "", "2026-01-01", "y", "NO"]
)
def test_a_text_that_looks_like_something_else_is_written_in_quotes(text: str) -> None:
    assert text_of(write([{"a": text}])) == f'a: "{text}"\n'


@pytest.mark.parametrize("text", ["web01", "2048Mi", "q35", "/dev/sda", "VirtualMachine", "a-b_c.d/e"])
def test_a_plain_text_is_written_without_quotes(text: str) -> None:
    assert text_of(write([{"a": text}])) == f"a: {text}\n"
