"""Saved sources, and the cache of their guests."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from ..credentials import EncryptedJSONField


class SavedSource(models.Model):
    """A vCenter, an ESXi host or a Xen host that people move guests from, with how it is reached and whom to trust."""

    kind = models.CharField(max_length=16)  #: vcenter, esxi, xen
    name = models.CharField(max_length=60, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sources")
    shared = models.BooleanField(default=True)  #: whether everybody who may start conversions may use it
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    user = models.CharField(max_length=200)
    secrets = EncryptedJSONField(null=True)  #: {"password": ...}, or over SSH {"key": an OpenSSH private key}
    transport = models.CharField(max_length=8, default="https")  #: https, vddk, ssh
    vddk_libdir = models.CharField(max_length=400, blank=True)  #: the folder that holds lib64/, on this machine
    max_running = models.PositiveIntegerField(
        null=True, blank=True
    )  #: conversions from here at once; None: no own limit

    pin = models.TextField(blank=True)  #: PEM of the certificate that a person accepted
    pin_sha256 = models.CharField(max_length=95, blank=True)
    pin_sha1 = models.CharField(max_length=59, blank=True)  #: VDDK's thumbprint
    ca = models.TextField(blank=True)  #: PEM of a CA, instead of a pin
    ssh_port = models.PositiveIntegerField(null=True, blank=True)  #: ESXi over SSH, instead of `port`; None: 22
    host_keys = models.JSONField(default=list, blank=True)  #: SSH: [{"type", "key", "fingerprint"}]
    #: problems.Problem as a dict: why nothing that uses this source may run, as when its certificate has changed
    blocked = models.JSONField(null=True, blank=True)

    #: Xen: the driver's own address at the other end, when it is not the host's default (libvirt's name=)
    libvirt_name = models.CharField(max_length=400, blank=True)

    viewed = models.DateTimeField(null=True, blank=True)  #: while somebody looks, changes are watched for
    refresh_requested = models.DateTimeField(null=True, blank=True)
    refreshed = models.DateTimeField(null=True, blank=True)  #: when the inventory was last read whole
    refresh_error = models.JSONField(null=True, blank=True)  #: problems.Problem as a dict
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]

    def __str__(self) -> str:
        return self.name


class InventoryGuest(models.Model):
    """A guest as its source described it at the last refresh: a cache, never the truth about what runs."""

    source = models.ForeignKey(SavedSource, on_delete=models.CASCADE, related_name="guests")
    guest_id = models.CharField(max_length=64)  #: inventory.GuestRecord.id
    name = models.CharField(max_length=255)
    sort_name = models.TextField(blank=True, default="")  #: names.natural(name)
    power = models.CharField(max_length=12, blank=True)
    os = models.CharField(max_length=120, blank=True)
    size = models.BigIntegerField(default=0)
    worst = models.CharField(max_length=12, blank=True)  #: the gravest concern's severity
    search = models.TextField(blank=True)  #: lower case: name, system, host, folder, networks, datastores, addresses
    record = models.JSONField()  #: inventory.GuestRecord.as_dict()
    concerns = models.JSONField(default=list)  #: concerns.Concern.as_dict() of each, the gravest first

    class Meta:
        ordering: ClassVar[list[str]] = ["name", "id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["source", "guest_id"], name="one_row_a_guest")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["source", "name"])]

    def __str__(self) -> str:
        return self.name
