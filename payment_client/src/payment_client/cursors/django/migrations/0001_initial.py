"""The two tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes them."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="PaymentCursor",
            fields=[
                ("consumer", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("cursor", models.CharField(max_length=400)),
                ("moved_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.CreateModel(
            name="EventSetAside",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("consumer", models.CharField(max_length=100)),
                ("event_id", models.CharField(max_length=80)),
                ("event", models.BinaryField()),
                ("why", models.TextField()),
                ("set_aside_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": (
                    models.UniqueConstraint(fields=("consumer", "event_id"), name="payment_cursors_one_aside"),
                ),
            },
        ),
    )
