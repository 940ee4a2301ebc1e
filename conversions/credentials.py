"""Secrets at rest: encrypted with keys that live outside the database, and an error when the key is wrong.

The key file holds one Fernet key a line; the first encrypts, all decrypt (`manage.py rotate_secrets` moves old texts to
the first).  The two public packages for this return the ciphertext as the password when the key is wrong; this must not.
"""

import contextlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models


class WrongKeyError(Exception):
    """A stored secret cannot be read: the key file is not the one it was written with."""


@cache
def _fernet(path: Path, modified: int) -> MultiFernet:
    keys = [line for line in path.read_bytes().splitlines() if line.strip()]
    return MultiFernet([Fernet(key) for key in keys])


def fernet() -> MultiFernet:
    path: Path = settings.SECRETS_KEY_FILE
    if not path.exists():
        # link() and not rename(): of two processes that start at once, the first one's key stays.
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=".key.")
        with os.fdopen(fd, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
        Path(name).unlink()
    return _fernet(path, path.stat().st_mtime_ns)


def encrypt(value: Any) -> str:
    return fernet().encrypt(json.dumps(value).encode()).decode()


def decrypt(text: str) -> Any:
    try:
        return json.loads(fernet().decrypt(text.encode()))
    except InvalidToken as error:
        raise WrongKeyError(WrongKeyError.__doc__) from error


class EncryptedJSONField(models.TextField):  # type: ignore[type-arg]
    """JSON that is ciphertext in the database.  Never put it into a form, an API schema, the admin or an event."""

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else encrypt(value)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return None if value is None else decrypt(value)

    def to_python(self, value: Any) -> Any:
        return value
