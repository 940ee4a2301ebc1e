"""The app's start: roles as permissions, system checks."""

from django.apps import AppConfig


class ConversionsConfig(AppConfig):
    name = "conversions"

    def ready(self) -> None:
        from . import roles  # noqa: F401  (registers permissions)
        from .host import checks  # noqa: F401  (registers checks)
