import re

from django.db import migrations, models


def fill(apps, schema_editor):
    """As names.natural() does it; a copy, for a migration must not change with the code."""
    guests = apps.get_model("conversions", "InventoryGuest").objects.only("name").iterator(2000)
    some = []
    for guest in guests:
        guest.sort_name = re.sub(r"0*([0-9]+)", lambda found: f"{len(found[1]):03}{found[1]}", guest.name.casefold())
        some.append(guest)
    apps.get_model("conversions", "InventoryGuest").objects.bulk_update(some, ["sort_name"], batch_size=200)


class Migration(migrations.Migration):
    dependencies = [
        ("conversions", "0002_esxi_ssh_port"),
    ]

    operations = [
        migrations.AddField(
            model_name="inventoryguest",
            name="sort_name",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
