"""What the documents say is what the code does."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from conversions.outputs import OUTPUTS
from conversions.roles import ROLES
from conversions.sources import SOURCES
from v2vweb.environment import PROJECT, Environment, variable

README = (PROJECT / "README.md").read_text()
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text()
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


def default_words(value: Any) -> str:
    if value in ("", (), None):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        return f"{value.relative_to(PROJECT)} beside this file"
    for letter, size in (("G", 1 << 30), ("M", 1 << 20)):
        if isinstance(value, int) and value and value % size == 0:
            return f"{value // size}{letter}"
    return str(value)


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    table = re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \|", README, re.MULTILINE)
    expected = {variable(name): default_words(field.default) for name, field in Environment.model_fields.items()}
    assert {name: default.replace("`", "") for name, default in table} == expected


@pytest.mark.parametrize("kind", [*SOURCES, *OUTPUTS])
def test_every_source_and_output_has_a_heading(kind: str) -> None:
    assert re.search(rf"^#+ .*`{kind}`", README, re.MULTILINE)


def test_every_role_is_explained() -> None:
    assert re.findall(r"^\| (viewer|requester|operator|admin) \|", README, re.MULTILINE) == list(ROLES)


def test_every_library_says_why_it_is_here() -> None:
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    names = {re.split(r"[=\[]", requirement)[0] for group in groups.values() for requirement in group}
    rows = {name for line in re.findall(r"^\| (.+?) \|", CONTRIBUTING, re.MULTILINE) for name in line.split(", ")}
    assert names <= rows, f"no reason for {sorted(names - rows)}"


def test_every_direct_library_is_locked_at_its_version() -> None:
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    locked = {same(line) for line in (PROJECT / "setup/requirements.lock").read_text().splitlines()}
    wanted = {same(re.sub(r"\[.*?\]", "", line)) for group in groups.values() for line in group}
    assert wanted <= locked, f"run make lock: {sorted(wanted - locked)}"


def same(requirement: str) -> str:
    return re.sub(r"[-_.]+(?=.*==)", "-", requirement).lower()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_links_to_is_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)|^    make ([a-z-]+)", README + CONTRIBUTING, re.MULTILINE))
    assert {a or b for a, b in named} <= targets
