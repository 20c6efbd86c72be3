"""Reading streams in tests, each wait with a generous bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
from mpesa_payments.v1 import payment_pb2

from tests.patience import PATIENCE_SECONDS

Message = TypeVar("Message")


async def next_of(stream: AsyncIterator[Message]) -> Message:
    """The next message."""
    return await asyncio.wait_for(anext(stream), PATIENCE_SECONDS)


async def events_until(
    stream: AsyncIterator[Any], enough: Callable[[list[payment_pb2.PaymentEvent]], bool]
) -> list[payment_pb2.PaymentEvent]:
    """Events as they come, until there are enough."""
    events: list[payment_pb2.PaymentEvent] = []
    while not enough(events):
        events += (await next_of(stream)).events
    return events


async def rest_of(stream: AsyncIterator[Any]) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
    """All messages to the end, and the error it ended with, if any."""
    messages: list[Any] = []
    try:
        while True:
            messages.append(await next_of(stream))
    except StopAsyncIteration:
        return messages, None
    except grpc.aio.AioRpcError as error:
        return messages, error


def versions(events: list[payment_pb2.PaymentEvent]) -> list[int]:
    return [event.payment.version for event in events]
