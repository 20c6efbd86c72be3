"""What tests of requests that are told later share: a payment to ask about, and the results that come."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.daraja_simulator.merchant import Merchant, Received
from tests.daraja_simulator.simulators import until
from tests.patience import PATIENCE_SECONDS


async def paid(merchant: Merchant, phone: str, **changes: Any) -> str:
    """Push, wait until the phone has paid, and return the receipt."""
    await merchant.push(phone, **changes)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            row = (await merchant.ledger(phone=phone))["pushes"][-1]
            if row["receipt"] and row["callbacks"] and row["callbacks"][0]["status"]:
                return str(row["receipt"])
            await asyncio.sleep(0.01)


def results(received: list[Received]) -> list[Received]:
    return [post for post in received if not post.path.startswith("/callbacks")]


async def result_of(merchant: Merchant, nth: int = 1) -> Received:
    await until(lambda: len(results(merchant.received)) >= nth)
    return results(merchant.received)[nth - 1]
