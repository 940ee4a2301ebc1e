"""Who may do what: four roles as groups, each permission one predicate.  Views, sockets and the API ask user.has_perm().

viewer      sees everything, changes nothing
requester   sees and does what is his or her own: the help desk
operator    sees and does everything that has to do with conversions
admin       that, and people, tokens of others and the System page's settings (a superuser is one)
"""

from typing import Any

import rules

ROLES = ("viewer", "requester", "operator", "admin")


def role_of(user: Any) -> str | None:
    """The strongest role of a user; None for one without (who sees nothing but that)."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return None
    if user.is_superuser:
        return "admin"
    cached: set[str] | None = getattr(user, "_role_names", None)
    if cached is None:
        cached = user._role_names = set(user.groups.values_list("name", flat=True))
    return next((role for role in reversed(ROLES) if role in cached), None)


def _has(*roles: str) -> Any:
    return rules.predicate(lambda user: role_of(user) in roles, name="is_" + "_or_".join(roles))


is_viewer = _has("viewer")
is_requester = _has("requester")
is_operator = _has("operator", "admin")
is_admin = _has("admin")
has_role = _has(*ROLES)


@rules.predicate  # type: ignore[untyped-decorator]
def owns(user: Any, thing: Any) -> bool:
    """Without a thing the question is whether the user may at all: then it is yes."""
    return thing is None or thing.owner_id == user.pk


@rules.predicate  # type: ignore[untyped-decorator]
def is_shared(user: Any, source: Any) -> bool:
    """Of a saved source: whether everybody who starts conversions may use it."""
    return source is None or source.shared


may_see = is_viewer | is_operator | (is_requester & owns)
may_change = is_operator | (is_requester & owns)

PERMISSIONS = {
    "conversions.use": has_role,  # open the pages at all
    "conversions.see_conversion": may_see,  # the page, its log, events, files, socket
    "conversions.start_conversion": is_operator | is_requester,
    "conversions.change_conversion_run": may_change,  # cancel, retry
    "conversions.see_upload": may_see,
    "conversions.start_upload": is_operator | is_requester,
    "conversions.change_upload": may_change,  # send its bytes, convert it, remove it
    "conversions.see_source": is_viewer | is_operator | (is_requester & (is_shared | owns)),
    "conversions.use_source": is_operator | (is_requester & (is_shared | owns)),  # refresh it, move guests from it
    "conversions.change_source": is_operator,  # add, edit, trust, delete: whoever may, may reach any host with it
    "conversions.see_batch": may_see,
    "conversions.change_batch": may_change,  # cancel all, retry what failed
    "conversions.see_draft": may_change,
    "conversions.change_draft": may_change,
    "conversions.see_system": has_role,
    "conversions.change_people": is_admin,
    "conversions.own_tokens": has_role,
}

for _name, _predicate in PERMISSIONS.items():
    if not rules.perm_exists(_name):
        rules.add_perm(_name, _predicate)


def visible_to(user: Any, queryset: Any) -> Any:
    """The rows of conversions or drafts that a user may see."""
    role = role_of(user)
    if role in ("viewer", "operator", "admin"):
        return queryset
    return queryset.filter(owner=user) if role == "requester" else queryset.none()
