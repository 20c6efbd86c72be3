"""The app's label, which names its tables and its migrations."""

from django.apps import AppConfig


class PaymentCursorsConfig(AppConfig):
    """Of the app in this folder."""

    name = "payment_client.cursors.django"
    label = "payment_cursors"
    default_auto_field = "django.db.models.BigAutoField"
