"""Clients as tests make them: patient with a busy machine, and quick to come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar
from uuid import UUID, uuid4

from payment_client import (
    Backoff,
    DeadlineExceeded,
    PaymentFilter,
    PaymentsClient,
    Purchase,
    StillOpen,
    Unanswered,
)
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import Fact
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import Process

Item = TypeVar("Item")

PHONE = "0712345678"


def client_of(address: str, *, silence_max: float = PATIENCE_SECONDS) -> PaymentsClient:
    return PaymentsClient(
        address,
        timeout=PATIENCE_SECONDS,
        backoff=Backoff(first_seconds=0.01, most_seconds=0.2),
        silence_max=silence_max,
    )


def a_purchase(booking_id: str = "", request_id: str = "", amount: int = 500, phone: str = PHONE) -> Purchase:
    """A purchase of its own, but for what is given."""
    return Purchase(
        booking_id=booking_id or f"TRIP-{uuid4().hex[:8]}",
        phone_number=phone,
        amount=amount,
        request_id=request_id or str(uuid4()),
    )


async def payment_of(client: PaymentsClient, purchase: Purchase) -> str:
    """The id of the payment that a purchase has made, as soon as it has."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(Unanswered):
                async for payment in client.list_payments(PaymentFilter(request_id=purchase.request_id)):
                    return payment.payment_id
            await asyncio.sleep(0.02)


async def tell(process: Process, payment_id: str, *facts: Fact) -> None:
    """Let the service learn these facts about a payment."""
    for fact in facts:
        await process.writers.facts.submit(Submission(fact, UUID(payment_id)))


async def still_open(client: PaymentsClient, purchase: Purchase) -> StillOpen:
    """How waiting for a payment ends that goes on. On a slow machine even asking for it takes longer than that."""
    for patience in (0.5, 5.0, PATIENCE_SECONDS):
        try:
            await client.pay_and_wait(purchase, patience=patience)
        except StillOpen as error:
            return error
        except DeadlineExceeded:
            continue
    raise AssertionError("the payment has ended, or nobody answers")


async def next_of(stream: AsyncIterator[Item]) -> Item:
    """What a stream gives next, within reason."""
    return await asyncio.wait_for(anext(stream), PATIENCE_SECONDS)


async def take(stream: AsyncIterator[Item], count: int) -> list[Item]:
    """So many things of a stream."""
    return [await next_of(stream) for _ in range(count)]
