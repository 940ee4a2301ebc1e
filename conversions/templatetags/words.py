"""Filters for pages: {% load words %} {{ bytes|size }}."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.timesince import timesince

from ..problems import size_words

register = template.Library()


@register.filter
def size(number: int | None) -> str:
    """1610612736 -> "1.5 GiB"; nothing known -> "not known"."""
    return "not known" if number is None else size_words(number)


@register.filter
def ago(moment: datetime) -> str:
    """Like "just now", "5 minutes ago", "2 days, 3 hours ago"."""
    return "just now" if (timezone.now() - moment).total_seconds() < 60 else f"{timesince(moment)} ago"
