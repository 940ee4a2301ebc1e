"""Is v2vweb itself all there: conductor, database, Redis, and how libguestfs's appliance runs?  Quick questions only."""

import getpass
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from ..models import Lease
from ..problems import size_words
from . import checks as settings_checks
from .machine import Check

#: The conductor's row in the table of leases.
CONDUCTOR = "conductor"
_REDIS_SECONDS = 0.3


def live_lease() -> Lease | None:
    """The conductor's lease, if there is a conductor."""
    return Lease.objects.filter(name=CONDUCTOR, expires__gt=timezone.now()).exclude(holder="").first()


def checks() -> Iterator[Check]:
    lease = live_lease()
    yield conductor(lease)
    yield acceleration(lease.about if lease else {})
    yield database()
    if settings.ENV.redis_url:
        yield redis_bell()
    if settings.ENV.upload_body_dir is not None:
        yield nginx(settings.ENV.upload_body_dir)


def conductor(lease: Lease | None) -> Check:
    if lease is None:
        return Check(
            "conductor",
            "Conductor",
            "error",
            "not running",
            "It is the part of v2vweb that starts conversions and follows them. Until it runs, new conversions wait; those "
            "that run already go on.",
            "python manage.py conduct",
        )
    about = lease.about
    where = f"process {about['pid']} on {about['host']}" if {"pid", "host"} <= about.keys() else lease.holder
    places = f"; {about['max_running']} conversions at once" if "max_running" in about else ""
    return Check("conductor", "Conductor", "ok", f"{where}{places}", "It starts conversions and follows them.")


def acceleration(about: dict[str, Any]) -> Check:
    """As the conductor measured it (acceleration.py)."""
    mode, text = about.get("accel"), about.get("accel_text") or ""
    title = "Virtual machine for the conversion"
    if mode == "kvm":
        return Check(
            "acceleration",
            title,
            "ok",
            text or "KVM",
            "virt-v2v works on a guest inside a small virtual machine; it is fast.",
        )
    if mode == "tcg":
        return Check(
            "acceleration",
            title,
            "warning",
            text or "emulation",
            "virt-v2v works on a guest inside a small virtual machine. Without KVM that is emulated: conversions work, but "
            "looking at a guest and preparing it takes several times as long. Copying disks is as fast as ever.",
            "ls -l /dev/kvm",
        )
    if mode:
        return Check("acceleration", title, "ok", text or str(mode), "It is set by the environment of the conductor.")
    value = "being measured" if about else "unknown"
    return Check(
        "acceleration",
        title,
        "unknown",
        value,
        "The conductor tries once whether KVM really works here; this takes up to a minute.",
        "" if about else "python manage.py conduct",
    )


def database() -> Check:
    title = "Database"
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA journal_mode")
            mode = str(cursor.fetchone()[0])
            value = f"SQLite ({mode.upper()})"
            if mode not in ("wal", "memory"):
                return Check(
                    "database",
                    title,
                    "warning",
                    value,
                    "Without WAL, pages and conductor wait for each other. Network folders cannot do it: keep the data folder "
                    "on a local disk, or use PostgreSQL.",
                    "DATABASE_URL=postgresql://USER:PASSWORD@HOST/DATABASE make run",
                )
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
            return Check(
                "database", title, "ok", f"{value}, {size_words(cursor.fetchone()[0])}", "Nothing else is needed."
            )
        cursor.execute("SHOW server_version")
        return Check("database", title, "ok", f"PostgreSQL {cursor.fetchone()[0]}", "Answers.")


def redis_bell() -> Check:
    title = "Redis"
    try:
        with redis.Redis.from_url(
            settings.ENV.redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        ) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return Check(
            "redis",
            title,
            "error",
            "does not answer",
            f"REDIS_URL is set, and nobody answers there ({type(error).__name__}). Pages on other servers learn of news late.",
            "systemctl start redis-server",
        )
    return Check("redis", title, "ok", "answers", "It tells the web processes that something is new.")


def nginx(folder: Path) -> Check:
    """What the checks of the settings say of the folder in which nginx leaves the pieces of uploads."""
    title = "Uploads through nginx"
    for message in settings_checks.uploads(None):
        if message.id == "conversions.W020":
            text = "nginx leaves the pieces of uploads in this folder: uploads through it fail until v2vweb may use it."
            command = f"install -d -m 700 -o {getpass.getuser()} {shlex.quote(str(folder))}"
            return Check("nginx", title, "error", f"{folder} cannot be used", f"{text} {message.hint}", command)
        if message.id == "conversions.W021":
            text = f"Each piece is copied from one file system to the other. {message.hint}"
            return Check("nginx", title, "warning", f"{folder} is not on the file system of the uploads", text)
    text = "nginx leaves the pieces of uploads there, and v2vweb takes them over without reading them once more."
    return Check("nginx", title, "ok", str(folder), text)
