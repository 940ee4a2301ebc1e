"""Words for templates: {% load wording %}."""

from datetime import timedelta
from typing import Any

from django import template

from ..problems import size_words
from ..states import State
from ..wording import STATE_WORDS, progress_words, timedelta_words

register = template.Library()

#: state -> (PatternFly's colour, Font Awesome's icon); the word beside it says the same
LOOKS: dict[State, tuple[str, str]] = {
    State.QUEUED: ("", "fa-clock"),
    State.RUNNING: ("pf-m-blue", "fa-play"),
    State.CANCELLING: ("pf-m-orange", "fa-stop"),
    State.SUCCEEDED: ("pf-m-green", "fa-check-circle"),
    State.FAILED: ("pf-m-red", "fa-exclamation-circle"),
    State.CANCELLED: ("", "fa-ban"),
    State.LOST: ("pf-m-purple", "fa-unlink"),
}


@register.filter
def state_word(state: str) -> str:
    return STATE_WORDS[State(state)]


@register.filter
def state_colour(state: str) -> str:
    return LOOKS[State(state)][0]


@register.filter
def state_icon(state: str) -> str:
    return LOOKS[State(state)][1]


@register.filter
def duration(value: timedelta | None) -> str:
    return timedelta_words(value)


@register.filter
def progress(value: dict[str, Any]) -> str:
    return progress_words(value)


@register.filter
def size(value: Any) -> str:
    return size_words(int(value or 0))


FACTS = {
    "os": "Operating system",
    "firmware": "Firmware",
    "virt_v2v_version": "virt-v2v",
    "nbdkit_version": "nbdkit",
    "accel": "Acceleration",
    "accelerator": "Acceleration",
}


@register.filter
def fact_word(key: str) -> str:
    """ "virt_v2v_version" -> "virt-v2v"; a fact that we have no word for is shown by its own name."""
    return FACTS.get(key) or key.replace("_", " ").capitalize()
