"""The CursorStore of a Django shop. The handler runs in the transaction that moves the cursor: use the ORM as ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, IntegrityError, close_old_connections, transaction
from django.utils import timezone

from payment_client.contract import payment_pb2
from payment_client.cursors import CursorMoved
from payment_client.cursors.django.models import EventSetAside, PaymentCursor


class DjangoCursors:
    """For SyncPaymentsClient. `using` names one of DATABASES, the one of the handler's models."""

    def __init__(self, consumer: str, using: str = DEFAULT_DB_ALIAS) -> None:
        self.consumer, self.using = consumer, using

    def load(self) -> str:
        # A consumer runs for weeks, and no request ends that would close what the database has given up.
        close_old_connections()
        found = PaymentCursor.objects.using(self.using).filter(consumer=self.consumer).first()
        return found.cursor if found is not None else ""

    @contextmanager
    def moving(self, before: str, after: str) -> Iterator[None]:
        close_old_connections()
        with transaction.atomic(using=self.using):
            self._move(before, after)
            yield

    def set_aside(self, transaction: None, event: payment_pb2.PaymentEvent, why: str) -> None:
        EventSetAside.objects.using(self.using).create(
            consumer=self.consumer, event_id=event.event_id, event=event.SerializeToString(), why=why
        )

    def waiting(self) -> list[payment_pb2.PaymentEvent]:
        kept = EventSetAside.objects.using(self.using).filter(consumer=self.consumer).order_by("id")
        return [payment_pb2.PaymentEvent.FromString(bytes(one.event)) for one in kept]

    @contextmanager
    def retaking(self, event_id: str) -> Iterator[None]:
        with transaction.atomic(using=self.using):
            mine = EventSetAside.objects.using(self.using).filter(consumer=self.consumer, event_id=event_id)
            if mine.delete()[0] != 1:
                raise CursorMoved
            yield

    def _move(self, before: str, after: str) -> None:
        cursors = PaymentCursor.objects.using(self.using)
        if before:
            moved = cursors.filter(consumer=self.consumer, cursor=before).update(cursor=after, moved_at=timezone.now())
            if moved != 1:
                raise CursorMoved
            return
        try:
            cursors.create(consumer=self.consumer, cursor=after)
        except IntegrityError as error:
            raise CursorMoved from error
