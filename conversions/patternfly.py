"""How forms look: Django's own widgets with PatternFly's HTML around each field (templates/forms/)."""

from typing import Any

from django.forms.renderers import DjangoTemplates
from django.template import loader


class PatternFly(DjangoTemplates):
    form_template_name = "forms/form.html"
    field_template_name = "forms/field.html"

    def get_template(self, template_name: str) -> Any:
        """Ours come from the project's templates; widgets stay Django's own, for the admin uses them, too."""
        ours = template_name.startswith("forms/")
        return loader.get_template(template_name) if ours else super().get_template(template_name)
