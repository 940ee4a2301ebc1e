"""Forms that belong to no kind of source or output."""

from django import forms

from . import names
from .problems import RefusedError
from .sources.base import FormProblem


class NameForm(forms.Form):
    """The wizard's second step."""

    name = forms.CharField(
        label="Name of the new machine",
        error_messages={"required": f"The new machine needs a name. {names.RULE}"},
        help_text=names.RULE,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def clean_name(self) -> str:
        try:
            return names.check(self.cleaned_data["name"])
        except RefusedError as error:
            raise FormProblem(error.problem) from None
