"""An edited manifest: every mistake is found on its line, and what was good is taken."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from conversions.manifest import Expected, Mistake, Target, check, checked, expected, predict, three_views
from conversions.manifest.fields import ANY, KINDS, Schema
from conversions.manifest.rules import RULES
from conversions.manifest.walking import Document, openapi
from conversions.plan import Disk, Nic
from conversions.problems import RefusedError
from tests.fixtures_manifest import GIB, YAML, Case, a_plan

PLAN = a_plan(
    "vcenter",
    disks=(Disk(name="a", size=GIB), Disk(name="b", size=GIB)),
    nics=(Nic(mac="52:54:00:aa:00:01", network="lan"), Nic(mac="52:54:00:aa:00:02", network="dmz")),
    firmware="uefi",
)
TARGET = Target.model_validate({"namespace": "prod", "networks": {"lan": "pod", "dmz": "infra/dmz"}})
VIEWS = three_views(predict(PLAN, Case(PLAN).files, "2.10.0"), PLAN, TARGET, Case(PLAN).files)
GOOD = VIEWS.ours
EXPECTED = expected(VIEWS, TARGET)


def edit(old: str, new: str, count: int = 1) -> str:
    assert old in GOOD, old
    return GOOD.replace(old, new, count)


def line_of(text: str, part: str, nth: int = 1) -> int:
    """The number of the nth line that holds a text."""
    return [number for number, line in enumerate(text.splitlines(), 1) if part in line][nth - 1]


def only(mistakes: list[Mistake], code: str) -> Mistake:
    assert [mistake.code for mistake in mistakes] == [code], mistakes
    return mistakes[0]


def test_our_own_file_has_no_mistake() -> None:
    assert check(GOOD, EXPECTED) == []
    checked(GOOD, EXPECTED)


def test_comments_and_another_order_and_quotes_are_taken_as_they_are() -> None:
    text = "# my machine\n" + edit("kind: VirtualMachine\n", 'kind: "VirtualMachine"  # as made\n')
    assert check(text, EXPECTED) == []


@dataclass(frozen=True)
class Edit:
    name: str
    old: str
    new: str
    code: str
    at: str  #: a text on the line where it must be told
    nth: int = 1
    asks: bool = False

    @property
    def text(self) -> str:
        return edit(self.old, self.new)


EDITS = [Edit(**entry) for entry in yaml.safe_load((YAML.parent / "edits.yaml").read_text())]
MISTAKES = {entry.name: entry for entry in EDITS if not entry.asks}
QUESTIONS = {entry.name: entry for entry in EDITS if entry.asks}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_on_its_line_and_refused(name: str) -> None:
    entry = MISTAKES[name]
    text = entry.text
    found = [mistake for mistake in check(text, EXPECTED) if not mistake.asks]
    told = [mistake.line for mistake in found if mistake.code == entry.code]
    assert line_of(text, entry.at, entry.nth) in told, found
    with pytest.raises(RefusedError) as refused:
        checked(text, EXPECTED, accept=frozenset(mistake.code for mistake in check(text, EXPECTED)))
    assert refused.value.problem.text.startswith("Line ")
    assert refused.value.status == 422


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_doubtful_change_is_asked_on_its_line_and_taken_when_confirmed(name: str) -> None:
    entry = QUESTIONS[name]
    text, code = entry.text, entry.code
    mistake = only(check(text, EXPECTED), code)
    assert (mistake.asks, mistake.line) == (True, line_of(text, entry.at, entry.nth))
    with pytest.raises(RefusedError) as refused:
        checked(text, EXPECTED)
    assert (refused.value.status, refused.value.problem.code) == (409, code)
    checked(text, EXPECTED, accept=frozenset({code}))


def test_a_disk_that_is_taken_out_wholly_is_asked_about() -> None:
    text = edit(
        "          - disk:\n              bus: virtio\n            bootOrder: 2\n            name: disk-1\n", ""
    ).replace("      - name: disk-1\n        persistentVolumeClaim:\n          claimName: web01-disk-1\n", "")
    assert {mistake.code for mistake in check(text, EXPECTED)} == {"disk-removed", "claim-unused"}
    assert all(mistake.asks for mistake in check(text, EXPECTED))


def test_a_claim_that_is_in_the_cluster_already_is_asked_about() -> None:
    text = edit("claimName: web01-disk-1", "claimName: golden-image")
    codes = [mistake.code for mistake in check(text, EXPECTED)]
    assert sorted(codes) == ["claim-elsewhere", "claim-unused", "disk-removed"]


@pytest.mark.parametrize(
    ("text", "line"), [("a: [", 1), ("no yaml: at: all", 1), ("", 1), (f"{GOOD}\n---\na: *b\n", GOOD.count("\n") + 3)]
)
def test_an_edit_that_is_no_yaml_is_one_mistake_on_its_line(text: str, line: int) -> None:
    mistakes = check(text, EXPECTED)
    assert len(mistakes) == 1 and mistakes[0].line == line and mistakes[0].code.startswith("yaml-")


def test_a_file_without_a_machine_or_with_two_is_refused() -> None:
    machine, *claims = GOOD.split("---\n")
    assert "one-machine" in {mistake.code for mistake in check("---\n".join(claims), EXPECTED)}
    assert "one-machine" in {mistake.code for mistake in check(f"{machine}---\n{GOOD}", EXPECTED)}


def test_every_rule_has_a_mistake_that_only_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a rule could be taken out and no test would see it."""
    for left_out in RULES:
        monkeypatch.setattr(
            "conversions.manifest.checking.RULES", tuple(rule for rule in RULES if rule is not left_out)
        )
        missed = [
            entry.name for entry in EDITS if entry.code not in {mistake.code for mistake in check(entry.text, EXPECTED)}
        ]
        assert missed, left_out


def test_with_kubevirt_s_own_schema_a_field_deep_in_a_part_that_we_leave_to_the_cluster_is_found(
    kubevirt_schemas: Path,
) -> None:
    text = edit("      domain:\n", "      tolerations: [{key: a, bogus: b}]\n      domain:\n")
    assert check(text, EXPECTED) == []
    mistake = only(check(text, EXPECTED, kubevirt_schemas), "unknown")
    assert mistake.line == line_of(text, "bogus")


def test_a_mistake_is_told_once_although_two_schemas_find_it(kubevirt_schemas: Path) -> None:
    only(check(edit("cores: 1", "cores: one"), EXPECTED, kubevirt_schemas), "type")


# --- our table beside KubeVirt's own --------------------------------------------------------------------------------


def differences(ours: Schema, theirs: Schema, document: Document, path: str) -> Iterator[str]:
    while "$ref" in theirs:
        name = theirs["$ref"].removeprefix("#/definitions/")
        theirs = {"type": "quantity"} if name.endswith("resource.Quantity") else document.definitions[name]
    if ours is ANY:
        return
    if ours["type"] != theirs.get("type", "object"):
        yield f"{path}: we say {ours['type']}, they say {theirs.get('type')}"
        return
    if ours["type"] == "array":
        yield from differences(ours["items"], theirs["items"], document, f"{path}[]")
    if "additionalProperties" in ours:
        yield from differences(ours["additionalProperties"], theirs["additionalProperties"], document, f"{path}{{}}")
    if "properties" not in ours:
        return
    known: dict[str, Any] = theirs.get("properties", {})
    for name in sorted(set(known) ^ set(ours["properties"])):
        yield f"{path}.{name}: only {'they' if name in known else 'we'} know it"
    for name in sorted(set(known) & set(ours["properties"])):
        yield from differences(ours["properties"][name], known[name], document, f"{path}.{name}")


@pytest.mark.parametrize("kind", KINDS)
def test_our_table_knows_the_fields_that_kubevirt_s_own_schema_knows(
    kind: tuple[str, str], kubevirt_schemas: Path
) -> None:
    document = openapi(kubevirt_schemas)[kind]
    assert list(differences(KINDS[kind], document.schema, document, kind[1])) == []


def test_expected_holds_what_the_manifest_was_made_with() -> None:
    assert Expected("web01", "prod", ("web01-disk-0", "web01-disk-1")) == EXPECTED
