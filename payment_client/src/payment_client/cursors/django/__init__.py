"""Cursors in a database that the consumer reaches by Django: name "payment_client.cursors.django" in INSTALLED_APPS.

`manage.py migrate` makes the tables. `store.DjangoCursors` is the CursorStore.
"""
