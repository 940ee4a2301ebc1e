"""People and roles for administrators; API tokens and the password for everybody."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import shown_once, tokens
from ..access import allowed
from ..models import ApiToken
from ..people import (
    ROLE_WORDS,
    SESSION_FLAG,
    add_person,
    password_was_changed,
    people,
    renew_password,
    set_active,
    set_role,
)
from ..problems import RefusedError
from ..roles import role_of


class PersonForm(forms.Form):
    username = forms.CharField(
        label="User name",
        max_length=150,
        validators=[UnicodeUsernameValidator()],
        help_text="What the person types to log in: letters, digits and @ . + - _",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(
        label="May", choices=list(ROLE_WORDS.items()), initial="requester", widget=forms.RadioSelect
    )


class RoleForm(forms.Form):
    role = forms.ChoiceField(label="May", choices=list(ROLE_WORDS.items()), widget=forms.RadioSelect)


class TokenForm(forms.Form):
    name = forms.CharField(
        label="What it is for",
        max_length=100,
        help_text="A name by which you will know the token later, such as “nightly script on host7”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


def person_of(pk: int) -> User:
    return get_object_or_404(people(), pk=pk)


@require_safe
@allowed("conversions.change_people")
def people_list(request: HttpRequest) -> HttpResponse:
    rows = [
        {"person": person, "role": role_of(person), "first_login": hasattr(person, "one_time_password")}
        for person in people().select_related("one_time_password").annotate(conversion_count=Count("conversions"))
    ]
    return render(request, "conversions/people/list.html", {"rows": rows, "nav": "people"})


@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_people")
def person_add(request: HttpRequest) -> HttpResponse:
    form = PersonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user, password = add_person(form.cleaned_data["username"], form.cleaned_data["role"], request.user)
        except RefusedError as refusal:
            form.add_error("username", f"{refusal.problem.text} {refusal.problem.action}")
        else:
            shown_once.keep(request, f"person-{user.pk}", password=password)
            return redirect("person", pk=user.pk)
    status = 422 if form.errors else 200
    return render(request, "conversions/people/add.html", {"form": form, "nav": "people"}, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.change_people", person_of)
def person(request: HttpRequest, who: User) -> HttpResponse:
    """One person's page.  The button's name says what is to be done."""
    problem, status = None, 200
    if request.method == "POST":
        try:
            if _do(request, who):
                return redirect("person", pk=who.pk)
        except RefusedError as refusal:
            problem, status = refusal.problem, refusal.status
            who = person_of(who.pk)
    context = {
        "who": who,
        "role": role_of(who),
        "form": RoleForm(initial={"role": role_of(who)}),
        "tokens": ApiToken.objects.filter(user=who),
        "first_login": hasattr(who, "one_time_password"),
        "new": shown_once.take(request, f"person-{who.pk}") if request.method == "GET" else None,
        "problem": problem,
        "nav": "people",
    }
    return render(request, "conversions/people/person.html", context, status=status)


def _do(request: HttpRequest, who: User) -> bool:
    """Does what the button says; False for a button that is not known."""
    name = who.get_username()
    if "role" in request.POST:
        form = RoleForm(request.POST)
        if not form.is_valid():
            return False
        set_role(who, form.cleaned_data["role"], request.user)
        messages.success(request, f"{name} is now {form.cleaned_data['role']}.")
    elif "deactivate" in request.POST:
        set_active(who, False, request.user)
        messages.success(request, f"{name} can no longer log in, and the person's API tokens are refused.")
    elif "activate" in request.POST:
        set_active(who, True, request.user)
        messages.success(request, f"{name} can log in again.")
    elif "renew" in request.POST:
        shown_once.keep(request, f"person-{who.pk}", password=renew_password(who, request.user))
    elif "revoke" in request.POST:
        token = ApiToken.objects.filter(user=who, pk=_number(request.POST["revoke"])).first()
        if token:
            tokens.revoke(token)
        messages.success(request, f"The API token of {name} opens nothing any more.")
    else:
        return False
    return True


def _me(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # LoginRequiredMiddleware sees to it
    return request.user


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@allowed("conversions.own_tokens")
def token_list(request: HttpRequest) -> HttpResponse:
    """A person's own tokens; a POST makes another."""
    form = TokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        token, text = tokens.create(request.user, form.cleaned_data["name"])
        shown_once.keep(request, "tokens", name=token.name, text=text)
        return redirect("tokens")
    context = {
        "form": form,
        "tokens": ApiToken.objects.filter(user=_me(request)),
        "new": shown_once.take(request, "tokens") if request.method == "GET" else None,
    }
    return render(request, "conversions/people/tokens.html", context, status=422 if form.errors else 200)


@require_POST
@allowed("conversions.own_tokens")
def token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Of the user's own tokens only.  One that is gone already is no error: it was revoked in another tab."""
    token = ApiToken.objects.filter(user=_me(request), pk=pk).first()
    if token:
        tokens.revoke(token)
        messages.success(request, f"The token “{token.name}” opens nothing any more.")
    return redirect("tokens")


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """For everybody who is logged in, with a role or without; the first page after a login with a one-time password."""
    form: Any = PasswordChangeForm(_me(request), request.POST or None)
    is_first = bool(request.session.get(SESSION_FLAG))
    form.fields["old_password"].label = "The one-time password that you were given" if is_first else "Old password"
    form.fields["new_password2"].label = "The new password once more"
    form.fields["new_password2"].help_text = ""
    if request.method == "POST" and form.is_valid():
        user = form.save()
        update_session_auth_hash(request, user)
        password_was_changed(request)
        messages.success(request, "Your password is changed. Other browsers where you were logged in are logged out.")
        return redirect("/")
    context = {"form": form, "first_login": is_first}
    return render(request, "conversions/people/password.html", context, status=422 if form.errors else 200)
