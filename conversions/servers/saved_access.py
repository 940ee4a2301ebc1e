"""Whose saved sources somebody may use: asked again where a plan is made, so that no way in can forget it."""

from typing import Any

from ..models import SavedSource
from ..plan import Source
from ..problems import Problem, RefusedError
from ..sources import get_source


def check_use(user: Any, source: Source) -> None:
    """Raises RefusedError when the source is a saved one that this user may not use: for such a person it does not exist."""
    if not get_source(source.kind).is_saved:
        return
    saved = SavedSource.objects.defer("secrets").filter(pk=source.settings["source_id"]).first()
    if saved is None or not user.has_perm("conversions.use_source", saved):
        raise unknown(source.settings["source_id"])


def unknown(pk: object) -> RefusedError:
    return RefusedError(
        Problem(
            "source-unknown",
            "There is no such source",
            f"No saved source that you may use has the number {pk}.",
            "Choose one from the list of sources, or ask an operator to share it.",
        ),
        field="source.source_id",
        status=404,
    )
