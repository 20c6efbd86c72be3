"""The two tables. Several consumers share them."""

from django.db import models

from payment_client.cursors import CONSUMER_MAX, CURSOR_MAX


class PaymentCursor(models.Model):
    """How far one consumer has come."""

    consumer = models.CharField(max_length=CONSUMER_MAX, primary_key=True)
    cursor = models.CharField(max_length=CURSOR_MAX)
    moved_at = models.DateTimeField(auto_now=True)


class EventSetAside(models.Model):
    """An event on which a consumer has failed again and again."""

    consumer = models.CharField(max_length=CONSUMER_MAX)
    event_id = models.CharField(max_length=80)
    event = models.BinaryField()
    why = models.TextField()
    set_aside_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """One consumer sets an event aside once."""

        constraints = (models.UniqueConstraint(fields=["consumer", "event_id"], name="payment_cursors_one_aside"),)
