"""What looking at a guest at its source, or switching it, may answer: the same words whoever was asked."""

from dataclasses import dataclass

from ..models import SavedSource
from ..problems import Problem, RefusedError


@dataclass(frozen=True)
class Seen:
    power: str  #: on, off, suspended, or what the source said
    host_path: tuple[str, ...] | None = None  #: libvirt_uri.vpx's path; None where there is none
    vmx: str | None = None  #: "[datastore] web01/web01.vmx"


def gone(source: str) -> RefusedError:
    return RefusedError(
        Problem(
            "guest-gone",
            "The guest is not at the source any more",
            f"Between the review and the start it was deleted at {source}, or moved to another one.",
            "Refresh the source's guests, and start a new conversion from where it is now.",
            "source owner",
        ),
        status=409,
    )


def tools_needed() -> RefusedError:
    return RefusedError(
        Problem(
            "tools-needed",
            "Nothing inside the guest can be asked to shut it down",
            "v2vweb asks a guest to shut down through VMware Tools, and they do not run in this one.",
            "Shut it down by hand and press Retry, or start VMware Tools inside.",
            "source owner",
        ),
        status=409,
    )


def no_switch(source: str) -> RefusedError:
    return RefusedError(
        Problem(
            "no-switch",
            "v2vweb cannot switch this guest",
            f"Over SSH guests are shut down and started by vim-cmd, with which this guest is not registered at {source}.",
            "Shut it down by hand, on whichever host it runs, and press Retry.",
            "source owner",
        ),
        status=409,
    )


def said_no(saved: SavedSource, why: str) -> RefusedError:
    return RefusedError(
        Problem(
            "source-refused",
            "The source refused",
            f"{saved.name} said: {why[:300]}",
            "Ask the source's administrator, then press Retry.",
            "source owner",
        ),
        status=409,
    )
