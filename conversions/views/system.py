"""The System page: what this machine has and lacks, what that means, and the command that mends it."""

import sys

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from ..access import allowed
from ..host import system
from ..host.capabilities import Capabilities, capabilities
from ..problems import Problem, RefusedError


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.see_system")
def page(request: HttpRequest) -> HttpResponse:
    """A POST has everything measured again; htmx asks for the list alone until all is measured."""
    if request.method == "POST":
        system.forget()
        messages.info(request, "Everything is being measured again.")
        return redirect("system")
    checks = system.report()
    trouble = [check for check in checks if check.state in ("error", "warning")]
    pending = any(check.state == "unknown" and check.value == "being measured" for check in checks)
    found, problem = _virt_v2v(pending)
    context = {
        "trouble": sorted(trouble, key=lambda check: check.state),  # errors before warnings
        "fine": [check for check in checks if check not in trouble],
        "worst": system.worst(checks),
        "pending": pending,
        "virt_v2v": found,
        "problem": problem,
        "python": sys.version.split()[0],
        "nav": "system",
    }
    name = "_checks.html" if getattr(request, "htmx", False) else "page.html"
    return render(request, f"conversions/system/{name}", context)


def _virt_v2v(pending: bool) -> tuple[Capabilities | None, Problem | None]:
    """What virt-v2v can do.  Not asked while the measuring has not come back from it: it may hang, this page must not."""
    if pending:
        return None, None
    try:
        return capabilities(), None
    except RefusedError as refusal:
        return None, refusal.problem
