from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("conversions", "0011_boot_tests"),
    ]

    operations = [
        migrations.AddField(
            model_name="upload",
            name="convert",
            field=models.BooleanField(default=False),
        ),
    ]
