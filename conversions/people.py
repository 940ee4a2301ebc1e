"""People and their roles: made by administrators, with a password that is good for one login; never without an administrator."""

import logging
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from axes.utils import reset as forget_failures
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in
from django.contrib.auth.views import redirect_to_login
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from .models import OneTimePassword
from .problems import Problem, RefusedError
from .roles import ROLES

logger = logging.getLogger(__name__)

#: What each role is good for, as the page tells it.
ROLE_WORDS = {
    "viewer": "Viewer: sees all conversions, changes nothing",
    "requester": "Requester: starts conversions, and sees and changes only his or her own (help desk)",
    "operator": "Operator: sees and does everything that has to do with conversions",
    "admin": "Administrator: that, and manages people",
}

#: Easy to read out on the telephone: no 0/O, 1/l/I.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
SESSION_FLAG = "password-is-one-time"


def new_password() -> str:
    """About 79 bits, in four groups of four."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))


def people() -> QuerySet[User]:
    return get_user_model().objects.prefetch_related("groups").order_by("-is_active", "username")


def add_person(name: str, role: str, by: Any) -> tuple[User, str]:
    """Makes a person and a one-time password, which is returned and kept nowhere in clear."""
    user_model = get_user_model()
    password = new_password()
    try:
        with transaction.atomic():
            if user_model.objects.filter(username__iexact=name).exists():
                raise IntegrityError
            user = user_model.objects.create_user(name, password=password)
            _write_role(user, role)
            OneTimePassword.objects.create(user=user, made_by=by.get_username())
    except IntegrityError:
        raise RefusedError(
            Problem(
                "person-exists",
                "There is a person of this name already",
                f"“{name}” is taken, perhaps by somebody who was deactivated.",
                "Choose another name, or open that person and reactivate the account.",
            ),
            field="username",
            status=409,
        ) from None
    logger.info("%s added %s as %s", by, user, role)
    return user, password


def renew_password(user: User, by: Any) -> str:
    """A new one-time password; ends that person's sessions and a lock after wrong passwords."""
    password = new_password()
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        OneTimePassword.objects.update_or_create(user=user, defaults={"made_by": by.get_username()})
    forget_failures(username=user.get_username())
    logger.info("%s gave %s a new one-time password", by, user)
    return password


def set_role(user: User, role: str, by: Any) -> None:
    """Raises RefusedError for the last administrator."""
    _change(user, lambda: _write_role(user, role))
    logger.info("%s made %s %s", by, user, role)


def set_active(user: User, active: bool, by: Any) -> None:
    """Deactivated people keep their conversions, but are logged out and their tokens refused."""

    def write() -> None:
        user.is_active = active
        user.save(update_fields=["is_active"])

    _change(user, write)
    logger.info("%s set %s %s", by, user, "active" if active else "inactive")


def _write_role(user: User, role: str) -> None:
    if role not in ROLES:
        raise ValueError(role)
    group, _ = Group.objects.get_or_create(name=role)
    user.groups.set([group, *user.groups.exclude(name__in=ROLES)])
    user.is_superuser = user.is_staff = role == "admin"
    user.save(update_fields=["is_superuser", "is_staff"])
    vars(user).pop("_role_names", None)  # roles.role_of() keeps them on the object


def _change(user: User, write: Callable[[], None]) -> None:
    """Changes a person and takes it back when no administrator would be left."""
    admins = get_user_model().objects.filter(Q(is_superuser=True) | Q(groups__name="admin"), is_active=True)
    with transaction.atomic():
        # Locked, so that two administrators who demote each other at the same moment do not both succeed.
        list(get_user_model().objects.select_for_update().filter(pk__in=admins.values("pk")).order_by("pk"))
        write()
        if not admins.exists():
            raise RefusedError(
                Problem(
                    "last-administrator",
                    "Somebody must stay administrator",
                    f"{user.get_username()} is the only active administrator; after this nobody could manage people.",
                    "Make somebody else administrator first.",
                ),
                status=409,
            )


@receiver(user_logged_in)
def _note_one_time_password(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    if OneTimePassword.objects.filter(user=user).exists():
        request.session[SESSION_FLAG] = True


def password_was_changed(request: HttpRequest) -> None:
    OneTimePassword.objects.filter(user__pk=request.user.pk or 0).delete()
    request.session.pop(SESSION_FLAG, None)


def led_to_login(request: HttpRequest) -> HttpResponseBase:
    """To the log-in, and from there back to the page on which somebody pressed a button: what it called is no page.
    A part of a page that is asked for again is answered 401: app.js then says so, and what runs or was typed stays."""
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(status=401)
    if request.method in ("GET", "HEAD"):
        return redirect_to_login(request.get_full_path())
    came_from = request.headers.get("Referer")
    safe = url_has_allowed_host_and_scheme(came_from, {request.get_host()}, require_https=request.is_secure())
    parts = urlsplit(came_from or "") if safe else urlsplit("/")
    messages.warning(request, "You were logged out, so nothing was done. Log in, and do it once more.")
    return redirect_to_login(urlunsplit(("", "", parts.path or "/", parts.query, "")))


class LoginMiddleware(LoginRequiredMiddleware):
    """Whoever is not logged in is led there, wherever a view does not say otherwise."""

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Any
    ) -> HttpResponseBase:
        return led_to_login(request)


class FirstLoginMiddleware:
    """Whoever logged in with a one-time password is led to choosing a new one before anything else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.session.get(SESSION_FLAG):
            free = {reverse("password"), reverse("logout"), reverse("login")}
            if request.path not in free and not request.path.startswith("/static/"):
                return redirect("password")
        return self.get_response(request)
