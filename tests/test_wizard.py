"""The wizard, page by page: in order and out of it, in two tabs, by two people, and started exactly once."""

import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from conversions import drafts, planning
from conversions.models import Conversion, Draft
from tests.fixtures_images import ext4, linux_disk, luks, mbr_disk, qemu_img, write_image

pytestmark = pytest.mark.django_db

UUID = "5b4a7b1e-0000-4000-8000-1f0a3c5d7e9b"


@pytest.fixture
def image(root: Path) -> Path:
    path = root / "Web Server.img"
    path.write_bytes(linux_disk())
    return path


class Wizard:
    """One person's browser without JavaScript, on one draft."""

    def __init__(self, client: Client, draft: Draft | None = None) -> None:
        self.client = client
        if draft is None:
            self.url = client.post(reverse("wizard-new"), {"kind": "disk"})["Location"].removesuffix("source/")
        else:
            self.url = reverse("wizard-step", args=[draft.pk, "source"]).removesuffix("source/")

    @property
    def draft(self) -> Draft:
        return Draft.objects.get(pk=self.url.split("/")[2])

    def get(self, step: str) -> Any:
        return self.client.get(f"{self.url}{step}/")

    def text(self, step: str) -> str:
        response = self.get(step)
        assert response.status_code == 200, response
        return response.content.decode()

    def post(self, step: str, version: int | None = None, **fields: Any) -> Any:
        fields["version"] = version or self.draft.version
        return self.client.post(f"{self.url}{step}/", fields)

    def source(self, *paths: Path | str) -> Any:
        return self.post("source", paths="\n".join(map(str, paths)))

    def walk(self, image: Path, name: str = "web01", **options: Any) -> "Wizard":
        """To the review page."""
        self.source(image)
        self.post("guest", name=name)
        options = {"root": "first", "output-format": "raw", "output-allocation": "sparse", **options}
        response = self.post("options", **options)
        assert response.status_code == 302 and response["Location"].endswith("target/"), response.content.decode()
        response = self.post("target")
        assert response.status_code == 302 and response["Location"].endswith("review/"), response.content.decode()
        return self

    def start(self, **fields: Any) -> Any:
        seen = self.get("review").context.get("seen", "")
        return self.post("review", **{"seen": seen, **fields})


@pytest.fixture
def wizard(alice: Any, log_in: Any) -> Wizard:
    return Wizard(log_in(alice))


def test_the_whole_way_ends_at_a_queued_conversion(wizard: Wizard, image: Path, alice: Any) -> None:
    wizard.walk(image, **{"output-format": "qcow2"})
    response = wizard.start()
    [conversion] = Conversion.objects.all()
    assert response["Location"] == conversion.get_absolute_url()
    assert (conversion.name, conversion.state, conversion.owner) == ("web01", "queued", alice)
    assert conversion.plan.source.settings["paths"] == [str(image)]
    assert conversion.plan.output.settings["format"] == "qcow2"
    assert wizard.draft.conversion == conversion


def test_the_first_page_offers_every_kind_and_says_who_it_is_for(alice: Any, log_in: Any) -> None:
    text = log_in(alice).get(reverse("wizard-new")).content.decode()
    for kind in planning.SOURCES:
        assert escape(planning.get_source(kind).help) in text


def test_an_unknown_kind_makes_no_draft(alice: Any, log_in: Any) -> None:
    log_in(alice).post(reverse("wizard-new"), {"kind": "floppy"})
    assert not Draft.objects.exists()


# --- source -------------------------------------------------------------------------------------------------------


def test_the_file_list_shows_folders_and_disk_images_with_sizes(wizard: Wizard, root: Path, image: Path) -> None:
    (root / "old").mkdir()
    (root / "notes.txt").write_text("x")
    text = wizard.text("source")
    assert "Web Server.img" in text and "8.0 MiB" in text and "old" in text
    assert "notes.txt" not in text and "Not listed: 1 file" in text


def test_a_folder_can_be_opened_without_javascript_and_with_htmx(wizard: Wizard, root: Path) -> None:
    (root / "old").mkdir()
    (root / "old" / "mail.img").write_bytes(linux_disk())
    folder = {"folder": str(root / "old")}
    assert "mail.img" in wizard.client.get(f"{wizard.url}source/", folder).content.decode()
    fragment = wizard.client.get(f"{wizard.url}files/", folder).content.decode()
    assert "mail.img" in fragment and "<html" not in fragment


@pytest.mark.parametrize("folder", ["/etc", "/", "..", "/nowhere"])
def test_a_folder_outside_the_roots_is_not_shown(wizard: Wizard, root: Path, folder: str) -> None:
    fragment = wizard.client.get(f"{wizard.url}files/", {"folder": folder}).content.decode()
    assert "There is no such folder" in fragment
    assert "passwd" not in fragment


def test_ticked_files_and_typed_paths_come_together_without_doubles(wizard: Wizard, root: Path, image: Path) -> None:
    second = root / "data.img"
    second.write_bytes(linux_disk())
    response = wizard.post("source", paths=f"{image}\n", pick=[str(image), str(second)])
    assert response["Location"].endswith("guest/")
    assert wizard.draft.data["source"]["paths"] == [str(image), str(second)]


def test_no_open_folder_says_which_setting_is_missing(wizard: Wizard, settings: Any) -> None:
    settings.SOURCE_ROOTS = ()
    assert "V2VWEB_SOURCE_ROOTS" in wizard.text("source")


def test_a_refused_file_keeps_what_was_typed_and_says_why(wizard: Wizard, root: Path) -> None:
    hostile = write_image(root / "base.qcow2", "qcow2")
    overlay = root / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", hostile, "-F", "qcow2", overlay)
    response = wizard.source(overlay)
    text = response.content.decode()
    assert response.status_code == 422
    assert str(overlay) in text
    assert "pf-m-error" in text and "base.qcow2” beneath it" in text
    assert wizard.draft.version == 1


def test_nothing_chosen_is_said_beside_the_field(wizard: Wizard, root: Path) -> None:
    response = wizard.source()
    assert response.status_code == 422
    assert "Choose a disk image." in response.content.decode()


# --- guest --------------------------------------------------------------------------------------------------------


def test_what_is_not_known_is_not_made_up(wizard: Wizard, image: Path) -> None:
    wizard.source(image)
    text = wizard.text("guest")
    assert "Linux; which one is not known until virt-v2v looks inside" in text
    assert "not known from the source" in text  # processors and memory
    assert "8.0 MiB" in text


def test_the_suggested_name_is_one_that_kubernetes_takes(wizard: Wizard, image: Path) -> None:
    wizard.source(image)
    text = wizard.text("guest")
    assert 'value="web-server"' in text
    assert "lower case letters a to z" in text


def test_a_name_that_is_not_allowed_comes_back_with_one_that_is(wizard: Wizard, image: Path) -> None:
    wizard.source(image)
    response = wizard.post("guest", name="Büro Server")
    text = response.content.decode()
    assert response.status_code == 422
    assert 'value="Büro Server"' in text and "buro-server" in text


# --- options ------------------------------------------------------------------------------------------------------


def crypt(root: Path) -> Path:
    path = root / "crypt.img"
    path.write_bytes(mbr_disk((0x83, 1, ext4()), (0x83, 3, luks(UUID))))
    return path


def test_passphrases_are_counted_but_never_shown(wizard: Wizard, root: Path) -> None:
    wizard.walk(crypt(root), luks_keys=["correct horse", "battery"], luks_keys_device=["", ""])
    for step in ("source", "guest", "options", "target", "review"):
        assert "correct horse" not in wizard.text(step)
    assert "2 keys stored" in wizard.text("options")
    with connection.cursor() as cursor:
        cursor.execute("SELECT data, secrets FROM conversions_draft")
        assert "correct horse" not in str(cursor.fetchall())
    wizard.start()
    [conversion] = Conversion.objects.all()
    assert conversion.secrets == {"luks-0": "correct horse", "luks-1": "battery"}


def test_stored_passphrases_stay_when_the_step_is_saved_again(wizard: Wizard, root: Path) -> None:
    wizard.walk(crypt(root), luks_keys=["correct horse"])
    wizard.walk(crypt(root))
    assert wizard.draft.secrets == {"luks_keys": [{"key": "correct horse", "device": ""}]}


def test_stored_passphrases_can_be_replaced_and_forgotten(wizard: Wizard, root: Path) -> None:
    wizard.walk(crypt(root), luks_keys=["old"])
    wizard.walk(crypt(root), luks_keys=["new"], forget_keys="on")
    assert wizard.draft.secrets == {"luks_keys": [{"key": "new", "device": ""}]}
    wizard.walk(crypt(root), forget_keys="on")
    assert wizard.draft.secrets is None


@pytest.mark.parametrize(
    ("fields", "device"),
    [({"root": "single"}, "single"), ({"root": "device", "root_device": "/dev/sda2"}, "/dev/sda2")],
)
def test_the_operating_system_can_be_chosen(wizard: Wizard, image: Path, fields: dict[str, str], device: str) -> None:
    wizard.walk(image, **fields)
    assert f'--root</span> <span class="v2v-arg">{device}<' in wizard.text("review")


def test_a_device_that_is_none_is_refused_and_kept_in_its_field(wizard: Wizard, image: Path) -> None:
    wizard.source(image)
    wizard.post("guest", name="web01")
    response = wizard.post("options", root="device", root_device="C:", luks_keys="correct horse")
    text = response.content.decode()
    assert response.status_code == 422
    assert 'value="C:"' in text
    assert "correct horse" not in text and "Please type the passphrases again" in text


# --- review -------------------------------------------------------------------------------------------------------


def test_the_review_has_the_exact_command(wizard: Wizard, image: Path) -> None:
    wizard.walk(image)
    plan, _ = planning.make_plan(**_request(wizard))
    shown = wizard.get("review").context["command"]
    assert " ".join(shown) == planning.preview(plan).display()


def _request(wizard: Wizard) -> dict[str, Any]:
    return {**drafts.request_of(wizard.draft), "user": wizard.draft.owner}


def test_a_source_file_that_is_gone_leads_back_to_its_step(wizard: Wizard, image: Path) -> None:
    wizard.walk(image)
    image.unlink()
    text = wizard.text("review")
    assert "There is no such file" in text and "Go to the step “Source”" in text
    assert "Start the conversion" not in text
    assert wizard.start().status_code == 422
    assert not Conversion.objects.exists()


def test_a_source_that_changed_after_the_review_is_not_started(wizard: Wizard, image: Path) -> None:
    seen = wizard.walk(image).get("review").context["seen"]
    image.write_bytes(linux_disk(size=9 << 20))
    response = wizard.post("review", seen=seen)
    text = response.content.decode()
    assert response.status_code == 409
    assert "nothing was started" in text and "9.0 MiB" in text
    assert not Conversion.objects.exists()
    wizard.start()
    assert Conversion.objects.count() == 1


def test_too_little_space_is_said_before_and_refused_at_the_start(
    wizard: Wizard, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wizard.walk(image)
    monkeypatch.setattr("conversions.host.space.free", lambda folder=None: 1 << 20)
    assert "There is not enough free space" in wizard.text("review")
    assert wizard.start().status_code == 409
    assert not Conversion.objects.exists()


# --- two tabs, two people, any order ------------------------------------------------------------------------------


def test_a_step_before_its_time_leads_to_the_one_that_is_due(wizard: Wizard, image: Path) -> None:
    assert wizard.get("review")["Location"].endswith("/source/")
    wizard.source(image)
    assert wizard.get("options")["Location"].endswith("/guest/")
    assert wizard.post("review", seen="x")["Location"].endswith("/guest/")
    assert wizard.get("continue")["Location"].endswith("/guest/")
    assert not Conversion.objects.exists()


def test_going_back_shows_what_was_typed(wizard: Wizard, image: Path) -> None:
    wizard.walk(image, **{"output-format": "qcow2"})
    assert str(image) in wizard.text("source")
    assert 'value="web01"' in wizard.text("guest")
    assert '<option value="qcow2" selected>' in wizard.text("options")


def test_an_old_tab_is_told_who_changed_it_and_loses_nothing(
    wizard: Wizard, image: Path, charlie: Any, root_admin: Any, log_in: Any
) -> None:
    wizard.source(image)
    version = wizard.draft.version
    Wizard(log_in(root_admin), wizard.draft).post("guest", name="from-the-admin")
    response = wizard.post("guest", version=version, name="from-alice")
    text = response.content.decode()
    assert response.status_code == 409
    assert "Changed meanwhile by admin at" in text and "from-the-admin" in text
    assert 'value="from-alice"' in text
    assert wizard.draft.data["name"] == "from-the-admin"
    # The form that came back carries the new number: pressing the button again saves it knowingly.
    assert wizard.post("guest", version=response.context["draft"].version, name="from-alice").status_code == 302
    assert wizard.draft.data["name"] == "from-alice"


@pytest.mark.parametrize("step", ["source", "options", "target", "review"])
def test_every_step_notices_an_old_tab(wizard: Wizard, image: Path, step: str) -> None:
    wizard.walk(image)
    seen = wizard.get("review").context["seen"]
    old = wizard.draft.version
    wizard.post("guest", name="web02")
    fields = {"paths": str(image), "root": "first", "seen": seen}
    response = wizard.post(step, version=old, **fields)
    assert response.status_code == 409
    assert "Changed meanwhile by you, in another tab," in response.content.decode()
    assert not Conversion.objects.exists()


def test_a_double_click_starts_one_conversion(wizard: Wizard, image: Path) -> None:
    wizard.walk(image)
    fields = {"seen": wizard.get("review").context["seen"], "version": wizard.draft.version}
    first = wizard.client.post(f"{wizard.url}review/", fields)
    second = wizard.client.post(f"{wizard.url}review/", fields, follow=True)
    assert Conversion.objects.count() == 1
    assert second.redirect_chain[0][0] == first["Location"]
    assert "Already started by you" in second.content.decode()


def test_of_two_people_the_second_is_led_to_what_the_first_started(
    wizard: Wizard, image: Path, root_admin: Any, log_in: Any
) -> None:
    wizard.walk(image)
    seen = wizard.get("review").context["seen"]
    Wizard(log_in(root_admin), wizard.draft).start()
    [conversion] = Conversion.objects.all()
    assert conversion.owner.get_username() == "alice"  # it was hers; an administrator has only pressed Start
    response = wizard.client.post(f"{wizard.url}review/", {"seen": seen, "version": wizard.draft.version}, follow=True)
    assert "Already started by admin" in response.content.decode()
    assert Conversion.objects.count() == 1


def test_a_name_that_another_conversion_has_is_asked_about(
    wizard: Wizard, image: Path, log_in: Any, alice: Any
) -> None:
    wizard.walk(image).start()
    second = Wizard(log_in(alice)).walk(image)
    assert "Another conversion has this name" in second.text("review")


@pytest.mark.django_db(transaction=True)
def test_many_at_the_same_instant_start_one_conversion(alice: Any, image: Path, log_in: Any) -> None:
    wizard = Wizard(log_in(alice)).walk(image)
    fields = {"seen": wizard.get("review").context["seen"], "version": wizard.draft.version}
    together = threading.Barrier(4)
    answers: list[Any] = []

    def press(client: Client) -> None:
        together.wait()
        try:
            answers.append(client.post(f"{wizard.url}review/", fields))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press, args=[log_in(alice)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [conversion] = Conversion.objects.all()
    assert [answer["Location"] for answer in answers] == [conversion.get_absolute_url()] * 4


def test_every_step_of_a_started_draft_leads_to_its_conversion(wizard: Wizard, image: Path) -> None:
    wizard.walk(image).start()
    [conversion] = Conversion.objects.all()
    for step in ("source", "guest", "options", "target", "review"):
        assert wizard.get(step)["Location"] == conversion.get_absolute_url()
        assert wizard.post(step, name="x")["Location"] == conversion.get_absolute_url()


# --- unfinished ones ----------------------------------------------------------------------------------------------


def test_an_unfinished_one_is_offered_again_and_can_be_removed(wizard: Wizard, image: Path) -> None:
    wizard.source(image)
    text = wizard.client.get(reverse("wizard-new")).content.decode()
    assert "Continue where you left off" in text and "web-server" in text
    wizard.client.post(f"{wizard.url}discard/")
    assert not Draft.objects.exists()
    assert "Continue where you left off" not in wizard.client.get(reverse("wizard-new")).content.decode()


def test_removing_one_that_was_started_leaves_it(wizard: Wizard, image: Path) -> None:
    wizard.walk(image).start()
    wizard.client.post(f"{wizard.url}discard/")
    assert Draft.objects.count() == Conversion.objects.count() == 1


# --- who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["bob", "stranger"])
def test_viewers_and_people_without_a_role_start_nothing(request: Any, log_in: Any, who: str) -> None:
    client = log_in(request.getfixturevalue(who))
    assert client.get(reverse("wizard-new")).status_code == 403
    assert client.post(reverse("wizard-new"), {"kind": "disk"}).status_code == 403
    assert not Draft.objects.exists()


@pytest.mark.parametrize("who", ["bob", "charlie", "stranger"])
def test_the_draft_of_somebody_else_is_closed(request: Any, wizard: Wizard, image: Path, log_in: Any, who: str) -> None:
    wizard.walk(image)
    other = Wizard(log_in(request.getfixturevalue(who)), wizard.draft)
    for step in ("source", "guest", "options", "target", "review", "files"):
        response = other.get(step)
        assert response.status_code == 403
        assert str(image) not in response.content.decode()
    assert other.post("guest", name="stolen").status_code == 403
    assert other.post("review", seen="x").status_code == 403
    assert other.client.post(f"{other.url}discard/").status_code == 403
    assert Draft.objects.count() == 1 and not Conversion.objects.exists()


def test_an_operator_goes_on_with_what_the_help_desk_began(image: Path, alice: Any, charlie: Any, log_in: Any) -> None:
    begun = Wizard(log_in(charlie))
    begun.source(image)
    operator = Wizard(log_in(alice), begun.draft)
    assert "You are changing the conversion that charlie has begun" in operator.text("guest")
    assert operator.post("guest", name="web01").status_code == 302


def test_a_draft_that_does_not_exist_is_not_found(alice: Any, log_in: Any) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    assert log_in(alice).get(reverse("wizard-step", args=[missing, "source"])).status_code == 404
