"""Brings the database up to date and makes the roles and the first administrator; changes nothing the second time."""

import secrets
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from conversions.host.checks import TAG
from conversions.roles import ROLES

FIRST = "admin"


class Command(BaseCommand):
    help = "Migrates the database and makes the roles and the first administrator, once."
    requires_system_checks = (TAG,)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """None: what there is to say comes from the environment."""

    def handle(self, *args: Any, **options: Any) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=0)
        with transaction.atomic():
            self.make_first_administrator()

    def make_first_administrator(self) -> None:
        for role in ROLES:
            Group.objects.get_or_create(name=role)
        # Any administrator will do: somebody may have renamed or removed the first one, and must not get him back.
        if User.objects.filter(is_superuser=True, is_active=True).exists():
            return
        given: str = settings.ENV.admin_password
        password = given or secrets.token_urlsafe(12)
        user, new = User.objects.get_or_create(username=FIRST, defaults={"is_staff": True, "is_superuser": True})
        if not new:
            return  # deactivated, or no administrator any more: that was somebody's decision
        user.set_password(password)
        user.save()
        user.groups.add(Group.objects.get(name="admin"))
        if given:
            self.stdout.write(f"Made the first administrator: user {FIRST}, password from V2VWEB_ADMIN_PASSWORD.")
        else:
            self.stdout.write(
                f"Made the first administrator: user {FIRST}, password {password}\n"
                "Write the password down: it is not shown again."
            )
