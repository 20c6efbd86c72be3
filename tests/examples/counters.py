"""The pages of the booking service over a real payment service, as their tests play them: passengers and Safaricom."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

from playwright.async_api import Browser, Page
from sqlalchemy import select, update

from examples.booking_service.news import announce
from examples.booking_service.tables import bookings
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import DeadlinePassed, ResultReported
from payment_service.domain.refund_facts import RefundAccepted, RefundClaimed, RefundReported, RefundVerdict
from tests.databases import Database
from tests.examples.shops import Shop, tell, until
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.processes import Process, sent


class Counter:
    """The booking service with its pages, and what Safaricom and the passenger's phone do."""

    def __init__(self, database: Database, process: Process, shop: Shop, address: str) -> None:
        self._database, self._process, self.shop, self.address = database, process, shop, address

    async def attempts(self) -> list[UUID]:
        query = "SELECT payment_id FROM payment_transactions ORDER BY attempt"
        return [payment_id for (payment_id,) in await rows_of(self._database, query)]

    async def prompt(self, attempt: int = 1) -> UUID:
        """The phone rings."""

        async def asked() -> bool:
            return len(await self.attempts()) >= attempt

        await until(asked, f"attempt {attempt} is asked for")
        payment_id = (await self.attempts())[attempt - 1]
        await tell(self._process, payment_id, *sent(attempt))
        return payment_id

    async def pass_time(self, wait: timedelta) -> None:
        """At the payment service, and for what it has told the booking."""
        self._process.writers.clock.move(wait.total_seconds())
        async with self.shop.engine.begin() as conn:
            await conn.execute(update(bookings).values(retry_allowed_at=bookings.c.retry_allowed_at - wait))
            for booking_id in await conn.scalars(select(bookings.c.booking_id)):
                await announce(conn, booking_id)

    async def tell(self, payment_id: UUID, *facts: ResultReported) -> None:
        await tell(self._process, payment_id, *facts)

    async def send_back(self, payment_id: UUID) -> None:
        """M-Pesa carries out the refund that was asked for."""
        query = "SELECT refund_id, receipt FROM refunds WHERE payment_id = %s"
        ((refund_id, receipt),) = await rows_of(self._database, query, (payment_id,))
        claim = uuid4()
        done = RefundReported(f"callback:{refund_id}", RefundVerdict.DONE, "0", receipt)
        for fact in (RefundClaimed(claim), RefundAccepted(claim, f"o-{claim}", f"AG-{claim}"), done):
            await self._process.writers.facts.submit(Submission(fact, payment_id, refund_id=refund_id))

    async def expire(self, payment_id: UUID) -> None:
        """Nothing is heard for so long that the payment service gives the attempt up."""
        clock = self._process.writers.clock
        clock.move(121)
        await tell(self._process, payment_id, DeadlinePassed())

    async def open(self, page: Page, seat: str = "01", number: str = "0712 345 678", pay: str = "Pay") -> None:
        """Choose, type, and press."""
        await page.goto(self.address)
        await page.get_by_role("radio", name=seat).check()
        await page.get_by_role("textbox").fill(number)
        await page.get_by_role("button", name=pay).click()
        await page.wait_for_url("**/pay/B-*")


@contextlib.asynccontextmanager
async def visiting(browser: Browser, *, script: bool = True) -> AsyncIterator[Page]:
    """A passenger with a phone, whose browser reports each script that the policy or a fault stops."""
    context = await browser.new_context(java_script_enabled=script, viewport={"width": 390, "height": 780})
    context.set_default_timeout(PATIENCE_SECONDS * 1_000)
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    assert faults == []
    await context.close()
