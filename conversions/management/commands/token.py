"""`manage.py token USER` makes an API token and prints it, alone on its line, so that a script can take it."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversions import tokens


class Command(BaseCommand):
    help = "Makes an API token for a user and prints it. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="name of the user who is to own the token")
        parser.add_argument("--name", default="made by manage.py", help="what the token is for")

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model()._default_manager
        user = users.filter(**{users.model.USERNAME_FIELD: options["user"]}).first()
        if user is None:
            raise CommandError(f"There is no user “{options['user']}”.")
        if not user.is_active:
            raise CommandError(f"{options['user']} may not log in, so a token would open nothing.")
        _, text = tokens.create(user, options["name"])
        self.stdout.write(text)
