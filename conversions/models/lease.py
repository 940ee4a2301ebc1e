"""Which conductor leads."""

from django.db import models


class Lease(models.Model):
    """Who conducts: one row, taken by a guarded UPDATE, renewed every few seconds, free when it has run out."""

    name = models.CharField(primary_key=True, max_length=32)
    holder = models.CharField(max_length=100, blank=True)
    expires = models.DateTimeField()
    #: what the holder tells of itself, for the System page: {"host", "pid", "since", "max_running", "accel"}
    about = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"
