"""Filters for pages: {% load words %} {{ bytes|size }}."""

from django import template

from ..problems import size_words

register = template.Library()


@register.filter
def size(number: int | None) -> str:
    """1610612736 -> "1.5 GiB"; nothing known -> "not known"."""
    return "not known" if number is None else size_words(number)
