"""The wizard's memory: steps in order, saves that never overwrite each other unseen, secrets kept apart."""

from typing import Any

import pytest
from django.db import connection

from conversions import drafts
from conversions.models import Conversion, Draft
from conversions.plan import Disk, Guest, Plan, Source
from conversions.sources.base import Finding

pytestmark = pytest.mark.django_db

FOUND = Finding(Guest(name="Web Server", disks=(Disk(name="web.img", format="raw", size=1 << 30),)), (), {"luks": []})


def look(draft: Draft, user: Any, path: str = "/images/web.img", guest: str = "Web Server") -> None:
    drafts.save_source(
        draft,
        draft.version,
        user,
        typed={"paths": [path], "format": ""},
        cleaned={"paths": [path], "format": "raw"},
        finding=Finding(FOUND.guest.model_copy(update={"name": guest}), (), {"luks": []}),
    )


def finish(draft: Draft, user: Any) -> None:
    look(draft, user)
    drafts.save(draft, draft.version, user, {"name": "web01", "typed": {**draft.data["typed"], "guest": {}}})
    drafts.save(draft, draft.version, user, {"options": {"root": "first"}, "output": {"kind": "files"}, "target": {}})


def test_only_the_first_step_is_open_at_the_beginning(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    assert [(step.name, step.open) for step in drafts.steps_of(draft)] == [
        ("source", True),
        ("guest", False),
        ("options", False),
        ("target", False),
        ("review", False),
    ]


def test_each_saved_step_opens_the_next(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    look(draft, alice)
    assert drafts.first_open(draft) == "guest"
    drafts.save(draft, draft.version, alice, {"name": "web01"})
    assert drafts.first_open(draft) == "options"
    drafts.save(draft, draft.version, alice, {"output": {"kind": "files"}})
    assert drafts.first_open(draft) == "target"
    drafts.save(draft, draft.version, alice, {"target": {}})
    assert drafts.first_open(draft) == "review"


def test_an_untouched_draft_is_taken_again(alice: Any, charlie: Any) -> None:
    draft = drafts.begin(alice, "disk")
    assert drafts.begin(alice, "disk") == draft
    assert drafts.begin(alice, "ova") != draft
    assert drafts.begin(charlie, "disk") != draft
    look(draft, alice)
    assert drafts.begin(alice, "disk") != draft


def test_a_save_with_an_old_version_is_refused_and_writes_nothing(alice: Any, charlie: Any) -> None:
    draft = drafts.begin(charlie, "disk")
    mine, theirs = Draft.objects.get(pk=draft.pk), Draft.objects.get(pk=draft.pk)
    drafts.save(theirs, 1, alice, {"name": "theirs"})
    with pytest.raises(drafts.StaleError) as stale:
        drafts.save(mine, 1, charlie, {"name": "mine"})
    assert stale.value.now.data["name"] == "theirs"
    assert stale.value.now.data["by"] == "alice"
    assert Draft.objects.get(pk=draft.pk).data["name"] == "theirs"


def test_a_draft_that_was_started_cannot_be_saved(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    plan = Plan(name="web01", source=Source(kind="disk"))
    conversion = Conversion.objects.create(name="web01", owner=alice, plan_json=plan.model_dump(mode="json"))
    Draft.objects.filter(pk=draft.pk).update(conversion=conversion)
    with pytest.raises(drafts.StaleError):
        drafts.save(draft, 1, alice, {"name": "late"})


def test_a_save_of_a_draft_that_was_removed_says_so(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    Draft.objects.all().delete()
    with pytest.raises(drafts.StaleError):
        drafts.save(draft, 1, alice, {"name": "web01"})


def test_another_source_wants_the_name_looked_at_again_but_keeps_what_was_typed(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    look(draft, alice)
    typed = {**draft.data["typed"], "guest": {"name": "my-own"}}
    drafts.save(draft, draft.version, alice, {"name": "my-own", "typed": typed})
    look(draft, alice, path="/images/other.img", guest="Other")
    assert drafts.first_open(draft) == "guest"
    assert draft.data["typed"]["guest"]["name"] == "my-own"


def test_another_source_takes_an_accepted_suggestion_with_it(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    look(draft, alice)
    typed = {**draft.data["typed"], "guest": {"name": "web-server"}}
    drafts.save(draft, draft.version, alice, {"name": "web-server", "typed": typed})
    look(draft, alice, path="/images/other.img", guest="Other")
    assert draft.data["suggested"] == "other"
    assert "guest" not in draft.data["typed"]


def test_looking_again_at_the_same_source_keeps_everything(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    finish(draft, alice)
    look(draft, alice)
    assert drafts.first_open(draft) == "review"


def test_what_is_asked_for_has_the_keys_only_at_the_end(alice: Any) -> None:
    draft = drafts.begin(alice, "disk")
    finish(draft, alice)
    key = {"key": "correct horse", "device": ""}
    drafts.save(draft, draft.version, alice, {}, secrets={"luks_keys": [key]})
    draft = Draft.objects.get(pk=draft.pk)
    assert drafts.request_of(draft)["options"] == {"root": "first", "luks_keys": [key]}
    assert "correct horse" not in str(draft.data)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM conversions_draft")
        assert "correct horse" not in str(cursor.fetchall())


def test_unfinished_ones_are_ones_own_or_everybodys_for_operators(alice: Any, charlie: Any, bob: Any) -> None:
    for user in (alice, charlie):
        look(drafts.begin(user, "disk"), user)
        drafts.begin(user, "ova")  # untouched: not worth a line
    assert {draft.owner for draft in drafts.unfinished(alice)} == {alice, charlie}
    assert {draft.owner for draft in drafts.unfinished(charlie)} == {charlie}
    assert not drafts.unfinished(bob)


def test_the_digest_tells_plans_apart() -> None:
    plan = Plan(name="web01", source=Source(kind="disk"))
    assert drafts.digest(plan) == drafts.digest(Plan(name="web01", source=Source(kind="disk")))
    assert drafts.digest(plan) != drafts.digest(plan.model_copy(update={"name": "web02"}))
