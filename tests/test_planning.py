"""The one way in: what the wizard, the API and the command line ask for becomes a plan, or a refusal that helps."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from conversions import planning
from conversions.host import space
from conversions.models import Conversion, Draft, Event
from conversions.problems import RefusedError
from conversions.sources.disk import DiskSource
from tests.fixtures_images import ext4, linux_disk, luks, mbr_disk

UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"
OTHER = "6b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(root: Path) -> Path:
    path = root / "web01.img"
    path.write_bytes(linux_disk())
    return path


@pytest.fixture
def luks_image(root: Path) -> Path:
    path = root / "crypt.img"
    path.write_bytes(mbr_disk((0x83, 1, ext4()), (0x83, 3, luks(UUID)), (0x83, 5, luks(OTHER))))
    return path


@pytest.fixture
def ask(alice, image):
    def make(**changes: Any):
        request = {
            "name": "web01",
            "source": {"kind": "disk", "paths": [str(image)]},
            "options": {},
            "output": {},
            "user": alice,
        }
        return planning.make_plan(**(request | changes))

    return make


def refusal(ask, **changes: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        ask(**changes)
    assert refused.value.problem.title and refused.value.problem.text and refused.value.problem.action
    return refused.value


def test_a_plan_has_everything_declared_and_goes_to_json_and_back(ask, image):
    plan, secrets = ask()
    assert plan.source.settings == {"paths": [str(image)], "format": "raw"}
    assert plan.output.settings == {"format": "raw", "allocation": "sparse"}
    assert plan.options.root == "first"
    assert plan.guest.disks[0].size == 8 << 20
    assert secrets == {}
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


def test_allocation_may_stand_in_options_as_in_the_first_api(ask):
    plan, _ = ask(options={"allocation": "preallocated"}, output={"format": "qcow2"})
    assert plan.output.settings == {"format": "qcow2", "allocation": "preallocated"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Web_01"}, "name"),
        ({"name": "../x"}, "name"),
        ({"source": {}}, "source.kind"),
        ({"source": {"kind": "floppy"}}, "source.kind"),
        ({"source": {"kind": ["disk"]}}, "source.kind"),
        ({"source": ["disk"]}, "source"),
        ({"source": {"kind": "disk"}}, "source.paths"),
        ({"source": {"kind": "disk", "paths": ["/etc/shadow"]}}, "source.paths"),
        ({"source": {"kind": "ova", "path": "../x.ova"}}, "source.path"),
        ({"output": {"kind": "tape"}}, "output.kind"),
        ({"output": {"format": "vmdk"}}, "output.format"),
        ({"output": {"allocation": "thick"}}, "output.allocation"),
        ({"output": 5}, "output"),
        ({"options": {"root": "ask"}}, "options.root"),
        ({"options": {"root": "/dev/sda2:x"}}, "options.root"),
        ({"options": {"root": "/dev/../etc"}}, "options.root"),
        ({"options": {"root": "--key"}}, "options.root"),
        ({"options": {"luks_keys": ["x"]}}, "options.luks_keys"),
    ],
)
def test_a_refusal_names_the_field_it_is_about(ask, changes, field):
    assert refusal(ask, **changes).field == field


@pytest.mark.parametrize("what", ["source", "options", "output"])
def test_a_setting_that_does_not_exist_is_refused_by_name(ask, image, what):
    given = {"kind": "disk", "paths": [str(image)]} if what == "source" else {}
    refused = refusal(ask, **{what: given | {"extra_args": "--x"}})
    assert refused.field == f"{what}.extra_args"
    assert refused.problem.code == "field-unknown"


@pytest.mark.parametrize(
    "device", ["first", "single", "/dev/sda2", "/dev/mapper/vg-root", "/dev/VolGroup00/Log_Vol.00"]
)
def test_a_root_may_be_first_single_or_a_device(ask, device):
    assert ask(options={"root": device})[0].options.root == device


def test_a_passphrase_is_paired_with_the_encrypted_partitions_that_are_seen(ask, luks_image):
    source = {"kind": "disk", "paths": [str(luks_image)]}
    plan, secrets = ask(source=source, options={"luks_keys": ["one", {"key": "two", "device": "/dev/sda2"}]})
    assert plan.options.luks_ids == ((UUID, OTHER), ("/dev/sda2",))
    assert secrets == {"luks-0": "one", "luks-1": "two"}
    argv = planning.preview(plan).argv
    keys = [argv[i + 1] for i, word in enumerate(argv) if word == "--key"]
    assert [key.split(":")[0] for key in keys] == [UUID, OTHER, "/dev/sda2"]
    assert all(":file:/" in key for key in keys)


def test_passphrases_are_nowhere_but_in_the_secrets(ask, luks_image, alice):
    plan, secrets = ask(
        source={"kind": "disk", "paths": [str(luks_image)]}, options={"luks_keys": ["a passphrase of its own"]}
    )
    assert "a passphrase of its own" not in plan.model_dump_json() + planning.preview(plan).display()
    conversion = planning.create_conversion(plan, secrets, alice)
    with connection.cursor() as cursor:
        cursor.execute("SELECT plan_json, secrets FROM conversions_conversion WHERE id = %s", [conversion.pk])
        assert "a passphrase of its own" not in str(cursor.fetchone())
    assert Conversion.objects.get().secrets == {"luks-0": "a passphrase of its own"}


def test_a_passphrase_without_a_device_is_refused_when_none_can_be_seen(ask):
    refused = refusal(ask, options={"luks_keys": ["x"]})
    assert refused.problem.code == "key-needs-device"
    assert "/dev/sda2" in refused.problem.action
    assert ask(options={"luks_keys": [{"key": "x", "device": UUID.upper()}]})[0].options.luks_ids == ((UUID,),)


@pytest.mark.parametrize(
    "keys",
    [
        ["two\nlines"],
        ["carriage\rreturn"],
        ["nul\0"],
        [""],
        ["x" * 513],
        [5],
        [{"device": "/dev/sda2"}],
        [{"key": "x", "device": "/dev/sda2:key:y"}],
        [{"key": "x", "device": "sda2"}],
        [{"key": "x", "file": "/etc/shadow"}],
        ["x"] * 17,
        {"key": "x"},
    ],
)
def test_passphrases_that_virt_v2v_could_not_read_are_refused_without_repeating_them(ask, luks_image, keys):
    source = {"kind": "disk", "paths": [str(luks_image)]}
    if keys == {"key": "x"}:  # one alone is as good as a list of one
        assert ask(source=source, options={"luks_keys": keys})[0].options.luks_keys == 1
        return
    refused = refusal(ask, source=source, options={"luks_keys": keys})
    assert refused.field == "options.luks_keys"
    assert "two" not in refused.problem.text and "carriage" not in refused.problem.text


def test_a_data_folder_with_a_colon_cannot_hold_passphrases(ask, luks_image, settings, tmp_path):
    settings.DATA_DIR = tmp_path / "a:b"
    refused = refusal(ask, source={"kind": "disk", "paths": [str(luks_image)]}, options={"luks_keys": ["x"]})
    assert (refused.problem.code, refused.problem.whose) == ("data-dir-has-colon", "administrator")


def test_people_without_the_role_neither_look_nor_plan(ask, bob, stranger, image):
    for user in (bob, stranger):
        assert refusal(ask, user=user).status == 403
        with pytest.raises(RefusedError) as refused:
            planning.look({"kind": "disk", "paths": [str(image)]}, user)
        assert refused.value.status == 403


def test_a_conversion_is_queued_with_its_plan_and_an_event_that_says_by_whom(ask, alice):
    plan, secrets = ask()
    conversion = planning.create_conversion(plan, secrets, alice)
    assert (conversion.state, conversion.attempt, conversion.plan) == ("queued", 1, plan)
    event = Event.objects.get(conversion=conversion)
    assert (event.type, event.data["to"], event.actor) == ("state", "queued", "alice")


def test_a_draft_that_is_started_twice_is_one_conversion(ask, alice, charlie):
    plan, secrets = ask()
    draft = Draft.objects.create(owner=alice, secrets={"luks_keys": []})
    stale = Draft.objects.get(pk=draft.pk)
    first = planning.create_conversion(plan, secrets, alice, draft)
    assert planning.create_conversion(plan, secrets, alice, draft) == first
    assert planning.create_conversion(plan, secrets, charlie, stale) == first
    assert Conversion.objects.count() == 1 and Event.objects.count() == 1
    assert Draft.objects.get().secrets is None, "they belong to the conversion now"


def test_of_two_people_who_press_start_at_once_both_get_the_same_conversion(ask, alice, charlie, monkeypatch):
    plan, secrets = ask()
    draft = Draft.objects.create(owner=alice)
    inner: list[Conversion] = []

    def meanwhile_charlie_starts_it(plan: Any) -> None:
        # Alice's request has seen that the draft is not started yet, and has not written anything.
        if not inner:
            inner.append(None)
            inner[0] = planning.create_conversion(plan, secrets, charlie, Draft.objects.get(pk=draft.pk))

    monkeypatch.setattr(space, "check", meanwhile_charlie_starts_it)
    assert planning.create_conversion(plan, secrets, alice, draft) == inner[0]
    assert Conversion.objects.get().owner == charlie
    assert Event.objects.count() == 1


def test_a_draft_that_somebody_removed_meanwhile_starts_nothing(ask, alice):
    plan, secrets = ask()
    draft = Draft.objects.create(owner=alice)
    Draft.objects.all().delete()
    with pytest.raises(RefusedError) as refused:
        planning.create_conversion(plan, secrets, alice, draft)
    assert (refused.value.problem.code, refused.value.status) == ("draft-gone", 409)
    assert not Conversion.objects.exists() and not Event.objects.exists()


def test_without_space_nothing_is_started_and_the_draft_stays(ask, alice, monkeypatch):
    plan, secrets = ask()
    draft = Draft.objects.create(owner=alice, secrets={"luks_keys": [{"key": "x", "device": ""}]})
    monkeypatch.setattr(space, "free", lambda folder=None: 1 << 20)
    with pytest.raises(RefusedError) as refused:
        planning.create_conversion(plan, secrets, alice, draft)
    assert (refused.value.problem.code, refused.value.status) == ("no-space", 409)
    assert not Conversion.objects.exists()
    assert Draft.objects.get().secrets == {"luks_keys": [{"key": "x", "device": ""}]}


def test_the_wizards_pieces_are_the_same_forms_and_the_same_look(alice, image):
    forms = planning.forms_for("disk")
    assert forms.source is DiskSource.form_class
    source = forms.source({"paths": str(image)})
    assert source.is_valid()
    finding = planning.look({"kind": "disk", **source.cleaned_data}, alice)
    assert finding.guest.name == "web01"
    options = forms.options({})
    output = forms.output({})
    assert options.is_valid() and output.is_valid()
    plan, _ = planning.make_plan(
        name="web01",
        source={"kind": "disk", **source.cleaned_data},
        options=options.cleaned_data,
        output={"kind": "files", **output.cleaned_data},
        user=alice,
    )
    assert plan.guest == finding.guest
    with pytest.raises(RefusedError):
        planning.forms_for("floppy")


def test_a_file_has_no_running_to_keep(ask):
    error = refusal(ask, keep_running=True)
    assert error.field == "keep_running" and "output.start" in error.problem.action


def test_the_preview_is_the_exact_command_but_for_the_number(ask, settings):
    plan, _ = ask()
    display = planning.preview(plan).display()
    assert display.startswith("virt-v2v -i disk -if raw -o kubevirt -os ")
    assert f"{settings.DATA_DIR}/output/NUMBER-web01 -on web01" in display
