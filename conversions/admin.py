"""Django's admin, for looking: conversions move only by their own rules, and secrets are never shown."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from .models import ApiToken, Conversion, Draft, Lease


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows and changes none."""

    hidden: tuple[str, ...] = ()  #: never fetched: encrypted, and unreadable with a wrong key

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.hidden)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Conversion)
class ConversionAdmin(ReadOnly):
    hidden = ("secrets",)
    exclude = ("secrets",)
    list_display = ("id", "name", "owner", "state", "attempt", "created", "ended")
    list_filter = ("state",)
    search_fields = ("name", "owner__username")
    list_select_related = ("owner",)
    show_full_result_count = False


@admin.register(Draft)
class DraftAdmin(ReadOnly):
    hidden = ("secrets",)
    exclude = ("secrets", "conversion")  # the second would be fetched with its own secrets
    list_display = ("id", "owner", "updated", "conversion_id")
    list_select_related = ("owner",)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly):
    """Tokens can be revoked here: that is deleting them."""

    exclude = ("digest",)
    list_display = ("hint", "user", "name", "created", "last_used")
    list_select_related = ("user",)
    search_fields = ("user__username", "name")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super(ReadOnly, self).has_delete_permission(request, obj)


@admin.register(Lease)
class LeaseAdmin(ReadOnly):
    list_display = ("name", "holder", "expires")
