"""Proof of boot as people ask for it: queued, run one at a time by the conductor, kept with the conversion."""

import logging
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import yaml
from django.conf import settings
from django.utils import timezone

from . import handover, manifest
from .boot import bootdir, hardware
from .boot.bootdir import BootDir
from .manifest import Target
from .models import BootTest, Conversion, Event
from .problems import Problem, RefusedError
from .states import State

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1
KEPT = 10  #: tests of one conversion that are not over or may be looked at


def folder_of(test: BootTest) -> BootDir:
    return BootDir(settings.DATA_DIR / "boot" / str(test.conversion_id) / str(test.pk))


def ask(conversion: Conversion, by: Any = None, changes: dict[str, Any] | None = None) -> BootTest:
    """Queues a test of the manifest as it is, or with other settings of the target ({"bus": "sata"}).

    Raises RefusedError when there is no result, a test waits already, or the settings are nonsense.
    """
    if conversion.state != State.SUCCEEDED:
        raise RefusedError(
            Problem(
                "no-result-yet",
                "There is nothing to try yet",
                "Whether a machine boots can be tried when its conversion has succeeded.",
                "Wait for the end of the conversion.",
            ),
            status=409,
        )
    if conversion.boot_tests.filter(state__in=[BootTest.State.QUEUED, BootTest.State.RUNNING]).exists():
        raise RefusedError(
            Problem(
                "boot-test-waits", "It is being tried already", "A test of this machine is waiting or running.", ""
            ),
            status=409,
        )
    if conversion.boot_tests.count() >= KEPT:
        oldest = conversion.boot_tests.last()
        if oldest is not None:
            oldest.delete()
    text = text_with(conversion, changes or {})
    name = by.get_username() if by is not None else ""
    test = BootTest.objects.create(
        conversion=conversion, attempt=conversion.attempt, settings=changes or {}, manifest=text, by=name
    )
    _tell(conversion, name, {"what": "boot test asked for", "settings": changes or {}})
    return test


def text_with(conversion: Conversion, changes: dict[str, Any]) -> str:
    """The manifest that is to be tried: the current one, or ours made anew with other settings of the target."""
    if not changes:
        return handover.current(conversion)
    return handover.real(conversion, Target.from_settings({**conversion.plan.output.settings, **changes})).ours


def take_over(test: BootTest, by: Any) -> None:
    """The manifest that was tried becomes the one that leaves v2vweb."""
    handover.save(test.conversion, test.manifest, by)


def cancel(test: BootTest) -> None:
    if BootTest.objects.filter(pk=test.pk, state=BootTest.State.QUEUED).update(
        state=BootTest.State.CANCELLED, ended=timezone.now()
    ):
        return
    folder = folder_of(test)
    if folder.path.is_dir():
        folder.cancel.touch()


def told(conversion: Conversion) -> dict[str, Any]:
    """For the page: the tests, the latest first, each with how far it is and its last pictures."""
    rows: list[dict[str, Any]] = []
    for test in conversion.boot_tests.all():
        state = folder_of(test).read_state() if test.state == BootTest.State.RUNNING else None
        running = [{"name": name, "seconds": None} for name in (state.pictures if state else ())]
        pictures = list((test.outcome or {}).get("pictures", ())) or running
        rows.append({"test": test, "seen": state, "tried": _in_words(test.settings), "pictures": pictures[-6:]})
    return {"boot_tests": rows, "boot_busy": any(not row["test"].is_over for row in rows)}


_BUS = {"sata": "SATA", "virtio": "virtio", "scsi": "virtio-scsi"}


def _in_words(changes: dict[str, Any]) -> str:
    """ "disks on SATA, UEFI firmware": the settings of a trial, as the suggestions call them."""
    words = []
    for key, value in changes.items():
        if key == "bus":
            words.append(f"disks on {_BUS.get(value, value)}")
        elif key == "firmware":
            words.append(f"{str(value).upper()} firmware")
        elif key == "secure_boot":
            words.append("secure boot" if value else "no secure boot")
        else:
            words.append(f"{key}: {value}")
    return ", ".join(words)


def _tell(conversion: Conversion, actor: str, data: dict[str, Any]) -> None:
    Event.objects.create(conversion=conversion, attempt=conversion.attempt, type="boot", data=data, actor=actor)
    Conversion.objects.filter(pk=conversion.pk).update(updated=timezone.now())


# --- the conductor's side ---------------------------------------------------------------------------------------------


class BootTests:
    """Asked again and again by the conductor; what runs outlives it and is found again by its folder's lock."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []

    def tick(self, accelerator: Literal["kvm", "tcg"]) -> None:
        self._children = [child for child in self._children if child.poll() is None]
        running = BootTest.objects.filter(state=BootTest.State.RUNNING)
        for test in running.select_related("conversion").defer("conversion__secrets"):
            self._watch(test)
        free = MOST_AT_ONCE - running.count()
        waiting = BootTest.objects.filter(state=BootTest.State.QUEUED).order_by("id")
        for test in waiting.select_related("conversion").defer("conversion__secrets")[: max(0, free)]:
            self._start(test, accelerator)

    def _start(self, test: BootTest, accelerator: Literal["kvm", "tcg"]) -> None:
        folder = folder_of(test)
        try:
            folder.write_trial(_trial(test, accelerator))
        except Exception as error:
            logger.warning("boot test %s: %s", test.pk, error)
            _end(test, _not_possible(error))
            return
        won = BootTest.objects.filter(pk=test.pk, state=BootTest.State.QUEUED).update(
            state=BootTest.State.RUNNING, started=timezone.now()
        )
        if won:
            self._spawn(folder)

    def _spawn(self, folder: BootDir) -> None:
        env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(settings.BASE_DIR)}
        with (folder.path / "process.out").open("ab") as out:
            self._children.append(
                subprocess.Popen(
                    [sys.executable, "-m", "conversions.boot", str(folder.path)],
                    env=env,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )

    def _watch(self, test: BootTest) -> None:
        folder = folder_of(test)
        alive = folder.is_alive()  # before the outcome: what has ended has written it
        outcome = folder.read_outcome()
        if outcome is not None:
            _end(test, outcome)
        elif not alive and not folder.lock.exists() and not self._children:
            self._spawn(folder)  # claimed by a conductor that was killed before it could start it
        elif not alive and not any(child.poll() is None for child in self._children):
            BootTest.objects.filter(pk=test.pk, state=BootTest.State.RUNNING).update(
                state=BootTest.State.LOST, ended=timezone.now()
            )
            _tell(test.conversion, "", {"what": "boot test lost"})


def _trial(test: BootTest, accelerator: Literal["kvm", "tcg"]) -> bootdir.Trial:
    conversion = test.conversion
    documents = [document for document in yaml.safe_load_all(test.manifest) if document]
    machine = next(document for document in documents if document.get("kind") == "VirtualMachine")
    plan = conversion.plan
    disks = manifest.disk_files(conversion.output_dir, plan.name, str(plan.output.settings.get("format") or "raw"))
    claims = handover.real(conversion).claims
    files = {
        claim: hardware.File(str(Path(conversion.output_dir) / disk.name), disk.format)
        for claim, disk in zip(claims, disks, strict=True)
    }
    family = plan.guest.os_family or ("windows" if "indows" in str(conversion.facts.get("os", "")) else None)
    return hardware.trial_of(machine, files, os_family=family, accelerator=accelerator)


def _not_possible(error: Exception) -> bootdir.Outcome:
    problem = error.problem if isinstance(error, RefusedError) else None
    return bootdir.Outcome(
        verdict="not-possible",
        good=None,
        title=problem.title if problem else "It could not be tried",
        text=problem.text if problem else f"{type(error).__name__}: {error}",
        action=problem.action if problem else "Give this text to your administrator.",
        seconds=0,
    )


def _end(test: BootTest, outcome: bootdir.Outcome) -> None:
    state = BootTest.State.CANCELLED if outcome.verdict == "cancelled" else BootTest.State.ENDED
    ended = BootTest.objects.filter(pk=test.pk, state__in=[BootTest.State.QUEUED, BootTest.State.RUNNING]).update(
        state=state, outcome=asdict(outcome), ended=timezone.now()
    )
    if ended:
        _tell(test.conversion, "", {"what": "boot test ended", "verdict": outcome.verdict, "title": outcome.title})
