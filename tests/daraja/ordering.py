"""What tests of orders to send money share: a simulated Daraja with a payment that was made, and our operator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daraja_simulator.settings import (
    DEVELOPMENT_CONSUMER_KEY,
    DEVELOPMENT_CONSUMER_SECRET,
    DEVELOPMENT_INITIATOR_NAME,
    DEVELOPMENT_INITIATOR_PASSWORD,
)
from development.slowness import slowness
from payment_service.daraja.client import DarajaClient, open_daraja
from payment_service.daraja.initiator import Initiator, load_initiator
from payment_service.daraja.token import DarajaApp, TokenIssued, fetch_token
from payment_service.daraja.transport import Timeouts
from tests.daraja_simulator.merchant import Merchant, merchant_of
from tests.daraja_simulator.simulators import in_process
from tests.patience import PATIENCE_SECONDS

PATIENT = Timeouts(connect_seconds=5.0 * slowness(), total_seconds=15.0 * slowness())


@dataclass(frozen=True, slots=True)
class Ordering:
    """Our client, its token and operator; and a merchant, which pays in and has the results posted to it."""

    client: DarajaClient
    token: str
    initiator: Initiator
    merchant: Merchant

    async def script(self, **behaviour: object) -> None:
        """For the next order."""
        await self.merchant.control("orders", {"behaviour": behaviour})

    async def returned(self, phone: str) -> None:
        """Wait until the phone has had its money back."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self.merchant.account(phone))["returned_kes"]:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def ordering(folder: Path) -> AsyncIterator[Ordering]:
    """Everything an order needs."""
    async with in_process() as (_, url), merchant_of(url) as merchant:
        certificate = folder / "certificate.pem"
        certificate.write_text((await merchant.control("certificate", method="GET"))["certificate"])
        initiator = load_initiator(DEVELOPMENT_INITIATOR_NAME, DEVELOPMENT_INITIATOR_PASSWORD, certificate)
        app = DarajaApp("app", DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET)
        async with open_daraja(url, lambda: datetime.now(UTC), push_timeouts=PATIENT) as client:
            answer, _ = await fetch_token(client, app)
            assert isinstance(answer, TokenIssued)
            # A new token kills the one before, so the two share one.
            merchant.token = answer.token
            yield Ordering(client, answer.token, initiator, merchant)
