"""Where a consumer keeps how far it has come, so that each event has its effect once.

A consumer deals with an event and moves its cursor in one transaction of its own database: both happen, or neither. The
cursor moves from the place where this consumer believes it to be. If it is elsewhere, another instance of the consumer
has gone on, and this one does nothing. So two instances do no harm, and take over from each other.

An event on which the consumer fails again and again is set aside, and so are later events of its booking, because their
order matters. The others go on. What is set aside is tried again from time to time, and shown by `waiting`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeVar

from payment_client.contract import payment_pb2

Transaction = TypeVar("Transaction")

CONSUMER_MAX = 100
CURSOR_MAX = 400
"""Cursors are opaque; today's have 46 characters."""


class CursorMoved(Exception):
    """Another instance of this consumer has gone on. This one begins again where that one is."""


class CursorStore(Protocol[Transaction]):
    """For a consumer with threads. Its transactions belong to the thread that opens them."""

    def load(self) -> str:
        """The cursor; empty where there is none yet."""

    def moving(self, before: str, after: str) -> AbstractContextManager[Transaction]:
        """A transaction in which the cursor moves, or CursorMoved. It is rolled back if the block raises."""

    def set_aside(self, transaction: Transaction, event: payment_pb2.PaymentEvent, why: str) -> None:
        """Keep an event for later, within a transaction of `moving`."""

    def waiting(self) -> list[payment_pb2.PaymentEvent]:
        """What is set aside, the oldest first."""

    def retaking(self, event_id: str) -> AbstractContextManager[Transaction]:
        """A transaction in which an event is set aside no more, or CursorMoved: another instance has done it."""


class AsyncCursorStore(Protocol[Transaction]):
    """The same for a consumer with asyncio."""

    async def load(self) -> str:
        """The cursor; empty where there is none yet."""

    def moving(self, before: str, after: str) -> AbstractAsyncContextManager[Transaction]:
        """A transaction in which the cursor moves, or CursorMoved. It is rolled back if the block raises."""

    async def set_aside(self, transaction: Transaction, event: payment_pb2.PaymentEvent, why: str) -> None:
        """Keep an event for later, within a transaction of `moving`."""

    async def waiting(self) -> list[payment_pb2.PaymentEvent]:
        """What is set aside, the oldest first."""

    def retaking(self, event_id: str) -> AbstractAsyncContextManager[Transaction]:
        """A transaction in which an event is set aside no more, or CursorMoved: another instance has done it."""
