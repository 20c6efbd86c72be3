"""Cases as facts open them, and operators who settle them, for tests of casework."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from payment_service.application.casework.resolve_case import CaseDecision, resolve_case
from payment_service.application.casework.show_cases import CaseFile, get_case, list_cases, marks_of
from payment_service.domain.case_rules import Resolution
from payment_service.domain.facts import DeadlinePassed, Fact, ResultReported, Source, Verdict
from payment_service.domain.payment import Payment
from payment_service.store.casework import CaseFilter, WorkedCase
from tests.rpc.processes import Process, paid, sent

OPERATOR = "amina"
WHY = "the passenger has the M-Pesa message"


def pulled(receipt: str, amount: int = 500) -> ResultReported:
    """A row of the books that may be this payment's."""
    in_books = ResultReported(f"pull-doubt:{receipt}", Source.PULL, Verdict.PAID, "0", amount=amount, receipt=receipt)
    return replace(in_books, in_doubt=True)


async def expired(process: Process, claim: int, booking_id: str | None = None) -> Payment:
    """A payment about which nothing came in time; the clock is moved past its hold."""
    new = await process.create(booking_id=booking_id or f"BK-{claim}")
    payment = await process.tell(new, *sent(claim))
    process.writers.clock.move(121)
    return await process.tell(payment, DeadlinePassed())


async def late(process: Process, claim: int, receipt: str) -> Payment:
    """A payment whose money came after its hold: it is complete, and an operator decides about the booking."""
    return await process.tell(await expired(process, claim), paid(receipt))


async def only_case(process: Process, payment: Payment | None = None, *facts: Fact) -> CaseFile:
    """The one case that is open, after these facts about the payment."""
    if payment is not None:
        await process.tell(payment, *facts)
    (case,) = await open_cases(process)
    return await get_case(process.core.reads, case.case_id)


async def open_cases(process: Process) -> list[WorkedCase]:
    return list((await list_cases(process.core.reads, CaseFilter(), None, 100)).cases)


async def settle(
    process: Process,
    file: CaseFile,
    resolution: Resolution = Resolution.ACCEPT,
    *,
    operator: str = OPERATOR,
    why: str = WHY,
    receipt: str | None = None,
) -> CaseFile:
    """Settle a case as it was seen in this file."""
    decision = CaseDecision(file.case.case_id, marks_of(file.case), resolution, operator, why, receipt)
    core = process.core
    return await resolve_case(core.reads, core.facts, core.refund_shortcodes, decision)


def attempt(file: CaseFile, payment_id: UUID | None = None) -> str:
    """What the booking is told by the case's payment."""
    wanted = payment_id or file.case.payment_id
    return next(one.booking_action.value for one in file.attempts if one.payment_id == wanted)
