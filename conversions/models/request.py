"""What people put in before there is a conversion: the wizard's drafts, uploaded files, saved targets."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

from ..credentials import EncryptedJSONField
from .conversion import Conversion


class Draft(models.Model):
    """A conversion being planned in the wizard: survives a reload, a lunch break and a shared link."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts")
    data = models.JSONField(default=dict)  #: what was typed and found so far, without secrets: see drafts.py
    secrets = EncryptedJSONField(null=True)  #: {"luks_keys": [{"key": "passphrase", "device": "/dev/sda2" or ""}]}
    #: Counts saves.  A form carries the number it was shown with; a save with an old one is told so, not merged.
    version = models.PositiveIntegerField(default=1)
    conversion = models.OneToOneField(
        Conversion, null=True, blank=True, on_delete=models.SET_NULL, related_name="draft"
    )  #: set once, when it was started: the fence against two people starting one draft
    created = models.DateTimeField(default=timezone.now)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-updated"]

    def __str__(self) -> str:
        return f"draft {self.id}"


class Upload(models.Model):
    """A file that somebody sends from a browser or with a tus client.  How much of it has come, its storage tells."""

    class State(models.TextChoices):
        RECEIVING = "receiving", "receiving"  #: bytes are still to come
        CHECKING = "checking", "checking"  #: all there; the follower is not at the end yet
        READY = "ready", "ready"  #: may be converted
        REFUSED = "refused", "refused"  #: cannot be used: `problem` says why; its bytes are gone

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    name = models.CharField(max_length=255)  #: as the person's machine named it: for people, never a path
    size = models.BigIntegerField()  #: bytes
    modified = models.CharField(max_length=32, blank=True)  #: of the file at its origin: the same file is known by it
    state = models.CharField(max_length=16, default=State.RECEIVING, choices=State)
    storage = models.CharField(max_length=16, default="local")
    bundle = models.UUIDField(null=True, blank=True)  #: files with the same value are one guest: an .ovf and its disks

    expected = models.CharField(max_length=140, blank=True)  #: "sha256:HEX": the checksum that the person was given
    sha256 = models.CharField(max_length=64, blank=True)  #: of the whole, once known
    verdict = models.JSONField(default=dict, blank=True)  #: see verdict.py
    problem = models.JSONField(null=True, blank=True)  #: problems.Problem as a dict

    created = models.DateTimeField(default=timezone.now)
    touched = models.DateTimeField(default=timezone.now)  #: when the last bytes came
    completed = models.DateTimeField(null=True, blank=True)
    expires = models.DateTimeField(null=True, blank=True)  #: None: not yet known
    conversions = models.ManyToManyField(Conversion, blank=True, related_name="uploads")  #: that were made from it
    convert = models.BooleanField(default=False)  #: start a conversion with the usual settings as soon as it is ready

    class Meta:
        ordering: ClassVar[list[str]] = ["-created"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["owner", "state"]),
            models.Index(fields=["state"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.pk})"

    def get_absolute_url(self) -> str:
        return reverse("upload", args=[self.pk])


class SavedTarget(models.Model):
    """Settings of a target under a name, to be used again: namespace, networks, storage."""

    name = models.CharField(max_length=60, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="targets")
    settings = models.JSONField(default=dict)  #: of manifest.Target
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]

    def __str__(self) -> str:
        return self.name
