"""Bearer tokens of the API: made and shown once, kept as a digest, found by it."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from .models import ApiToken

PREFIX = "v2v_"  # so that a token found in a file or a ticket is known for what it is
_LAST_USED_GRAIN = timedelta(minutes=1)  # a script that polls must not write a row with each request


def digest(text: str) -> str:
    """SHA-256 is enough without salt or stretching: the text is 256 random bits, not a password."""
    return hashlib.sha256(text.encode()).hexdigest()


def create(user: Any, name: str = "token") -> tuple[ApiToken, str]:
    """A new token and its text, which can never be shown again."""
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(user=user, name=name[:100], digest=digest(text), hint=text[:8])
    return token, text


def find(text: str) -> ApiToken | None:
    """The token with this text whose owner may still log in; notes when it was last used, at most once a minute."""
    # The look-up compares digests, so how long it takes says nothing about how much of a guess was right.
    if not text.startswith(PREFIX) or len(text) > 200:
        return None
    try:
        token = ApiToken.objects.select_related("user").get(digest=digest(text), user__is_active=True)
    except ApiToken.DoesNotExist:
        return None
    now = timezone.now()
    if token.last_used is None or token.last_used < now - _LAST_USED_GRAIN:
        stale = Q(last_used=None) | Q(last_used__lt=now - _LAST_USED_GRAIN)
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used=now)
    return token


def revoke(token: ApiToken) -> None:
    """The token opens nothing from now on."""
    token.delete()
