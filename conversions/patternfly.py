"""How forms look: Django's own rendering with PatternFly's HTML around each field (templates/forms/)."""

from django.forms.renderers import TemplatesSetting


class PatternFly(TemplatesSetting):
    """Templates come from the project's settings; widgets stay Django's own (the admin uses them, too)."""

    form_template_name = "forms/form.html"
    field_template_name = "forms/field.html"
