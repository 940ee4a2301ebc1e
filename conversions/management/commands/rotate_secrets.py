"""`manage.py rotate_secrets` writes every stored secret anew with the first key of the key file."""

from collections.abc import Iterator
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import F, TextField, Value
from django.db.models.functions import Cast

from conversions.credentials import EncryptedJSONField, fernet
from conversions.jobdir import write_atomically


def encrypted_columns() -> Iterator[tuple[Any, str]]:
    """Every model's every encrypted field, whatever is added later."""
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if isinstance(field, EncryptedJSONField):
                yield model, field.name


class Command(BaseCommand):
    help = (
        "Encrypts all stored secrets with the first key of the key file. Older keys can be taken out of it afterwards."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--new-key", action="store_true", help="make a new key first and put it at the top of the key file"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = settings.SECRETS_KEY_FILE
        fernet()  # makes the file when there is none
        if options["new_key"]:
            write_atomically(path, Fernet.generate_key().decode() + "\n" + path.read_text())
            self.stdout.write(f"A new key stands at the top of {path}.")
        done, unreadable = 0, []
        for model, name in encrypted_columns():
            for pk, old in model._base_manager.exclude(**{name: None}).values_list("pk", self._raw(name)).iterator():
                try:
                    new = fernet().rotate(old.encode()).decode()
                except InvalidToken:
                    unreadable.append(f"{model._meta.verbose_name} {pk}")
                    continue
                done += self._replace(model, name, pk, old, new)
        self.stdout.write(f"{done} secrets are encrypted with the first key.")
        if unreadable:
            raise CommandError(
                f"{len(unreadable)} cannot be read with any key of {path}: {', '.join(unreadable[:20])}. Put the key they "
                "were written with back into the file, one key a line, and run this again. Take no key out before."
            )
        keys = sum(bool(line.strip()) for line in path.read_text().splitlines())
        if keys > 1:
            self.stdout.write(f"Only the first of the {keys} keys in {path} is needed now.")

    @staticmethod
    def _raw(name: str) -> Cast:
        return Cast(F(name), TextField())  # as it is in the database: the field itself would decrypt it

    def _replace(self, model: Any, name: str, pk: Any, old: str, new: str) -> int:
        # Only if it is still the same: somebody may have saved another secret meanwhile, with the first key already.
        same = model._base_manager.annotate(raw=self._raw(name)).filter(pk=pk, raw=old)
        return int(same.update(**{name: Value(new, output_field=TextField())}))
