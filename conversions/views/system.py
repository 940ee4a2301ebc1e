"""The System page: what this machine can do, what that means, and the command that mends what is missing."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from ..access import allowed


@require_safe
@allowed("conversions.see_system")
def system(request: HttpRequest) -> HttpResponse:
    return render(request, "conversions/system/page.html", {"nav": "system"})
