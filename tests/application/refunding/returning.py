"""A process that sends money back through a simulated M-Pesa, and the edge that the results come in by."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from daraja_simulator.returns import Order, Return
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.recording.record_facts import Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.application.refunding.run_refund_timers import RefundTimerTools, run_refund_timers
from payment_service.application.refunding.send_refunds import RefundTools, send_refunds
from payment_service.application.settling.ask_status import REFUND_SENT_FOR
from payment_service.domain.facts import RefundRequested, ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundOrder, RefundReason, RefundRequest
from payment_service.domain.refund_facts import RefundFact
from runtime.callback_tokens import new_reference
from tests.application.settling.bookkeeping import PAYBILL
from tests.application.settling.enquiry import Enquiry, enquiry
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of

CALLER = "development"


@dataclass(frozen=True)
class Returning:
    """What a test does with refunds. Its clock stands still unless it is moved."""

    enquiring: Enquiry
    tools: RefundTools
    payments: dict[UUID, Payment] = field(default_factory=dict)
    """By the refund that was asked for last."""

    @property
    def orders(self) -> list[Order]:
        """What M-Pesa was asked to send back, as its own books have it."""
        return self.enquiring.books.world.returns.orders

    @property
    def returns(self) -> list[Return]:
        """What went back, by the same books."""
        return self.enquiring.books.world.returns.returns

    async def paid(self, *, backed: bool = True, **changed: object) -> Payment:
        """A payment that is completed here and there; `backed` says whether more than a callback has told of it."""
        books = self.enquiring.books
        payment, prompt = await books.payment(**changed)
        await books.push(prompt)
        receipt = books.paid[-1]
        told = ResultReported(f"callback:{receipt}", Source.CALLBACK, Verdict.PAID, "0", amount=500, receipt=receipt)
        paid = await books.tell(payment, told)
        return await books.tell(paid, replace(told, fact_id=f"pull:{receipt}", source=Source.PULL)) if backed else paid

    async def ask(self, payment: Payment, amount: int | None = None, reason: RefundReason = RefundReason.OTHER) -> UUID:
        """Ask for the refund of a payment, or of a part of it; the refund's id."""
        refund_id = uuid4()
        asked = RefundRequest(str(refund_id), payment.payment_id, reason, amount)
        order = RefundOrder(new_reference(), PAYBILL.number, reason, amount, possible=True)
        recorded = await self.tools.facts.submit(
            Submission(
                RefundRequested(refund_id),
                payment.payment_id,
                request=KeptRequest(refund_id, CALLER, asked),
                refund=order,
            )
        )
        assert not recorded.refused
        self.payments[refund_id] = payment
        return refund_id

    async def tell(self, refund_id: UUID, *facts: RefundFact) -> None:
        """Tell of a refund what nobody posts."""
        for fact in facts:
            told = Submission(fact, self.payments[refund_id].payment_id, refund_id=refund_id)
            await self.tools.facts.submit(told)

    async def script(self, **behaviour: Any) -> None:
        """How the next order goes."""
        await self.enquiring.books.tell_simulator("orders", behaviour=behaviour)

    async def send(self) -> int:
        """Send what waits for it, and wait until what became of it is recorded; how many."""
        begun = await send_refunds(self.tools)
        await asyncio.gather(*self.tools.under_way.values())
        return begun

    async def refunded(self, **behaviour: Any) -> UUID:
        """A refund of a new payment that has been sent."""
        refund_id = await self.ask(await self.paid())
        if behaviour:
            await self.script(**behaviour)
        assert await self.send() == 1
        return refund_id

    async def later(self, seconds: float) -> None:
        """The timers, some time later."""
        self.enquiring.books.clock.move(seconds)
        await run_refund_timers(RefundTimerTools(self.tools.engine, self.tools.facts, self.enquiring.books.clock))

    async def asked(self) -> None:
        """Ask about a refund when its time has come, and wait for the answer."""
        self.enquiring.books.clock.move(REFUND_SENT_FOR.total_seconds())
        await self.enquiring.ask_and_hear()

    async def ended(self, orders: int = 1) -> None:
        """Wait until M-Pesa has dealt with so many orders, and told so if it does."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(order.ended_time is not None for order in self.orders) < orders:
                await asyncio.sleep(0.01)

    async def state(self, refund_id: UUID) -> tuple[str, str | None]:
        """The refund's state and result code."""
        query = "SELECT state, result_code FROM refunds WHERE refund_id = %s"
        ((state, code),) = await rows_of(self.enquiring.books.database, query, (refund_id,))
        return state, code

    async def payment_of(self, refund_id: UUID) -> tuple[str, str, int]:
        """The state of the refund's payment, its booking action, and how much has gone back."""
        query = "SELECT state, booking_action, refunded_amount FROM payment_transactions WHERE payment_id = %s"
        rows = await rows_of(self.enquiring.books.database, query, (self.payments[refund_id].payment_id,))
        ((state, action, amount),) = rows
        return state, action, int(amount)

    async def cases(self) -> list[tuple[str, bool]]:
        """The kinds of all cases, and whether they are about money."""
        return await rows_of(self.enquiring.books.database, "SELECT kind, is_money FROM cases ORDER BY opened_at")

    def as_another_process(self) -> "Returning":
        """The same on the same database, with sends of its own."""
        return replace(self, tools=replace(self.tools, under_way={}))


@contextlib.asynccontextmanager
async def returning(database: Database, folder: Path) -> AsyncIterator[Returning]:
    """One process and one simulator."""
    async with enquiry(database, folder, PAYBILL) as enquiring:
        asking = enquiring.tools
        tools = RefundTools(
            engine=asking.engine,
            facts=enquiring.books.reader.writers.facts,
            safaricom=asking.safaricom,
            budget=RequestBudget("refund", 1_000, asking.engine, asking.safaricom.clock),
            operator=asking.operator,
        )
        yield Returning(enquiring, tools)
