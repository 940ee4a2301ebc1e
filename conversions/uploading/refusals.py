"""Refusals that several steps of an upload share.  HTTP's numbers: 413 too large or over the quota, 409 the wrong offset,
423 somebody else is sending it, 507 no space, 422 no use, 503 the place of the uploads does not answer."""

import logging

from ..problems import Problem, RefusedError
from .stores.base import UnreachableError

logger = logging.getLogger(__name__)


def refused(
    code: str,
    title: str,
    text: str,
    action: str = "",
    *,
    status: int = 422,
    whose: str = "you",
    field: str | None = None,
) -> RefusedError:
    return RefusedError(Problem(code, title, text, action, whose), status=status, field=field)


def unreachable(error: UnreachableError) -> RefusedError:
    logger.warning("the uploads' bucket: %s", error)
    return refused(
        "upload-store-unreachable",
        "The place where uploads are kept does not answer",
        "Nothing that was sent is lost. Sending goes on by itself as soon as it answers.",
        "If it lasts, tell your administrator to look at “Bucket of uploads” on the page “System”.",
        status=503,
        whose="administrator",
    )


def full() -> RefusedError:
    return refused(
        "upload-disk-full",
        "Uploads pause: the server's disk is nearly full",
        "Nothing that was sent is lost. Sending goes on by itself as soon as there is space.",
        "Remove uploads and results that nobody needs, or ask your administrator for more space.",
        status=507,
        whose="administrator",
    )
