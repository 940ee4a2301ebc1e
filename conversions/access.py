"""Who may open a page: a decorator for views that names the permission (roles.py) and refuses in plain words."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

View = Callable[..., HttpResponseBase]

#: What a person reads on the 403 page; the permission's own name would tell a clerk nothing.
REFUSALS = {
    "conversions.use": "Your account has no role yet, so there is nothing it may see.",
    "conversions.see_conversion": "This conversion belongs to somebody else, and your role sees its own ones only.",
    "conversions.start_conversion": "Your role may look at conversions, but not start new ones.",
    "conversions.change_conversion_run": "Your role may not cancel or retry this conversion.",
    "conversions.see_upload": "This file was uploaded by somebody else, and your role sees its own ones only.",
    "conversions.start_upload": "Your role may look at uploads, but not send files.",
    "conversions.change_upload": "This file was uploaded by somebody else, and your role may not change it.",
    "conversions.see_draft": "This unfinished conversion belongs to somebody else.",
    "conversions.change_draft": "This unfinished conversion belongs to somebody else, and your role may not change it.",
    "conversions.see_source": "This source is not shared with you.",
    "conversions.use_source": "Your role may not move guests from this source.",
    "conversions.change_source": "Only operators and administrators add and change sources.",
    "conversions.see_batch": "This batch belongs to somebody else, and your role sees its own ones only.",
    "conversions.change_batch": "Your role may not cancel or retry this batch.",
    "conversions.change_people": "Only administrators manage people and their roles.",
    "conversions.own_tokens": "Your account has no role yet, so it cannot have API tokens.",
    "conversions.see_system": "Your account has no role yet, so there is nothing it may see.",
}


def check(user: Any, permission: str, thing: Any = None) -> None:
    """Raises PermissionDenied, with words for the 403 page, when the user may not."""
    if not user.has_perm(permission, thing):
        raise PermissionDenied(REFUSALS.get(permission, "Your role does not allow this."))


def allowed(permission: str, get_object: Callable[..., Any] | None = None) -> Callable[[View], View]:
    """A view that only people with the permission reach.

    With get_object the permission is asked about that object: it is called with the parts of the address that it has
    parameters for, and the view gets what it returns in their place:

        def conversion_of(pk: int) -> Conversion: ...

        @allowed("conversions.see_conversion", conversion_of)
        def file(request, conversion, name): ...        # path("conversions/<int:pk>/files/<str:name>", ...)
    """
    names = tuple(inspect.signature(get_object).parameters) if get_object else ()

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if get_object is None:
                check(request.user, permission)
                return view(request, *args, **kwargs)
            # Asked without the object first: who may never do this is not told whether the object exists.
            check(request.user, permission)
            thing = get_object(**{name: kwargs.pop(name) for name in names if name in kwargs})
            check(request.user, permission, thing)
            return view(request, thing, *args, **kwargs)

        guarded.needs = permission  # type: ignore[attr-defined]  # tests walk all addresses and look for it
        return guarded

    return decorate
