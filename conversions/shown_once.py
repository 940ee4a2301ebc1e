"""Texts that a person sees on the next page and never again: a new password, a new API token.

After a POST comes a redirect, so that a reload does not do it twice; what the next page must show waits in the session
meanwhile, encrypted, because the session is a table that backups copy.
"""

from typing import Any

from django.http import HttpRequest

from .credentials import WrongKeyError, decrypt, encrypt

_KEY = "shown-once"


def keep(request: HttpRequest, page: str, **texts: str) -> None:
    """For the next visit of `page`, of this session only."""
    request.session[_KEY] = {**request.session.get(_KEY, {}), page: encrypt(texts)}


def take(request: HttpRequest, page: str) -> dict[str, Any] | None:
    """What was kept for this page, once."""
    kept = dict(request.session.get(_KEY, {}))
    text = kept.pop(page, None)
    if text is None:
        return None
    request.session[_KEY] = kept
    try:
        texts: dict[str, Any] = decrypt(text)
    except WrongKeyError:  # the key was changed in between: as if it had been shown
        return None
    return texts
