"""Money of a case that belongs to another payment: it goes there once a second person agrees, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

from development.certificates import APPROVER, BOOKING
from payment_service.application.casework.resolve_case import CaseDecision, resolve_case
from payment_service.domain.case_rules import Resolution
from payment_service.domain.consent import Consent, Person
from payment_service.domain.errors import CaseChanged
from payment_service.domain.facts import DeadlinePassed, Fact
from payment_service.domain.payment import Payment
from payment_service.store.approvals import approval_by_id
from tests.application.approving.twosome import AGREED, WITHDRAW, Twosome, decision, resolution, two_operators
from tests.application.casework.casefiles import pulled
from tests.application.casework.test_resolve_case import broken
from tests.certificates import AGENCY
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import paid, sent
from tests.rpc.processes import refused as failed

MOVE = pb.CASE_RESOLUTION_MOVE
RECEIPTS = "SELECT receipt, payment_id, amount, counted FROM mpesa_receipts ORDER BY receipt"
FIRST, SECOND = "RCPT000001", "RCPT000009"


@pytest.fixture
async def two(database: Database, tmp_path: Path) -> AsyncIterator[Twosome]:
    async with two_operators(database, tmp_path) as running:
        yield running


async def expired(two: Twosome, number: int, booking_id: str, caller: str = BOOKING, amount: int = 500) -> Payment:
    """A booking that nobody has paid for, as far as is known."""
    made = await two.process.create(caller, booking_id=booking_id, request_id=f"x-{caller}-{number}", amount=amount)
    payment = await two.process.tell(made, *sent(number))
    two.process.writers.clock.move(121)
    return await two.process.tell(payment, DeadlinePassed())


async def paid_twice(two: Twosome) -> Payment:
    """A booking that is paid, and paid a second time with another receipt: that money is meant for another booking."""
    payment = await two.completed()
    return await two.process.tell(payment, paid(SECOND))


def to(case: pb.Case, target: Payment | UUID) -> pb.ResolveCaseRequest:
    payment_id = target if isinstance(target, UUID) else target.payment_id
    return resolution(case, MOVE, to_payment_id=str(payment_id))


async def test_a_second_payment_settles_the_booking_that_it_was_meant_for(two: Twosome, database: Database) -> None:
    source, target = await paid_twice(two), await expired(two, 2, "BK-2")
    asked = await two.first.ResolveCase(to(await two.the_case(), target))
    assert (asked.approval.act, asked.approval.amount.units) == (pb.Approval.ACT_MOVE, 500)
    assert (asked.approval.to_payment_id, asked.approval.to_booking_id) == (str(target.payment_id), "BK-2")
    assert await rows_of(database, RECEIPTS) == [
        (FIRST, source.payment_id, 500, True),
        (SECOND, source.payment_id, 500, False),
    ]
    agreed = await two.second.DecideApproval(decision(asked.approval))
    assert agreed.attempts[0].payment.booking_action == payment_pb2.BOOKING_ACTION_CONFIRM
    states = "SELECT booking_id, state, booking_action, mpesa_receipt_number FROM payment_transactions ORDER BY 1"
    both = [("BK-1", "COMPLETED", "CONFIRM", FIRST), ("BK-2", "COMPLETED", "CONFIRM", SECOND)]
    assert await rows_of(database, states) == both
    moved = [(FIRST, source.payment_id, 500, True), (SECOND, target.payment_id, 500, True)]
    assert await rows_of(database, RECEIPTS) == moved
    acts = "SELECT act, operator, mpesa_receipt_number, to_payment_id FROM case_acts"
    assert await rows_of(database, acts) == [("MOVE", "amina", SECOND, target.payment_id)]
    assert (await two.second.DecideApproval(decision(asked.approval))).approval.state == pb.Approval.STATE_APPROVED
    assert await rows_of(database, RECEIPTS) == moved
    assert await broken(two.process, database) == []


async def test_money_of_the_books_goes_to_the_payment_that_it_was_meant_for(two: Twosome, database: Database) -> None:
    source, target = await expired(two, 1, "BK-1"), await expired(two, 2, "BK-2")
    await two.process.tell(source, pulled(SECOND))
    waits = (await two.first.ResolveCase(to(await two.the_case(), target))).approval
    await two.second.DecideApproval(decision(waits))
    assert await rows_of(database, RECEIPTS) == [(SECOND, target.payment_id, 500, True)]
    cases = "SELECT kind, resolution FROM cases"
    assert await rows_of(database, cases) == [("UNCLAIMED_MONEY", "MOVE")]
    held = "SELECT state, money_case_open FROM payment_transactions ORDER BY booking_id"
    assert await rows_of(database, held) == [("EXPIRED", False), ("COMPLETED", False)]
    assert await broken(two.process, database) == []


async def test_money_is_not_moved_to_another_callers_booking(two: Twosome, database: Database) -> None:
    await paid_twice(two)
    other = await expired(two, 2, "BK-2", caller=AGENCY)
    refusal = await refused(two.first.ResolveCase(to(await two.the_case(), other)))
    assert refusal.reason == "RESOLUTION_REFUSED"
    assert "another caller's" in refusal.message
    assert await two.waiting() == []


async def test_money_is_not_moved_to_where_it_does_not_fit(two: Twosome, database: Database) -> None:
    source = await paid_twice(two)
    dear, settled = await expired(two, 2, "BK-2", amount=700), await two.completed(3, booking_id="BK-3")
    case = await two.the_case()
    said = {
        "less than that payment asks for": dear.payment_id,
        "has been paid": settled.payment_id,
        "the payment that the case is about": source.payment_id,
        "no such payment": uuid4(),
    }
    for words, target in said.items():
        assert words in (await refused(two.first.ResolveCase(to(case, target)))).message
    for request in (resolution(case, MOVE), resolution(case, pb.CASE_RESOLUTION_DISMISS, to_payment_id=str(uuid4()))):
        assert "to_payment_id" in (await refused(two.first.ResolveCase(request))).fields
    assert await two.waiting() == []


async def test_the_one_who_asked_moves_nothing_alone(two: Twosome, database: Database) -> None:
    await paid_twice(two)
    target = await expired(two, 2, "BK-2")
    waits = (await two.first.ResolveCase(to(await two.the_case(), target))).approval
    assert (await refused(two.first.DecideApproval(decision(waits)))).reason == "SECOND_PERSON_NEEDED"
    assert [row[1] for row in await rows_of(database, RECEIPTS)].count(target.payment_id) == 0


async def test_money_is_not_moved_to_a_payment_that_has_changed_since(two: Twosome, database: Database) -> None:
    await paid_twice(two)
    target = await expired(two, 2, "BK-2")
    waits = (await two.first.ResolveCase(to(await two.the_case(), target))).approval
    await two.process.tell(target, paid("RCPT000002"))
    refusal = await refused(two.second.DecideApproval(decision(waits)))
    assert refusal.reason == "APPROVAL_OUTDATED"
    assert "which the money is to go to" in refusal.metadata["changed"]
    assert [row[0] for row in await rows_of(database, RECEIPTS) if row[1] == target.payment_id] == ["RCPT000002"]


async def attempts(two: Twosome, *facts_of_each: tuple[Fact, ...]) -> list[Payment]:
    """Two attempts of one booking, the first of which ended unpaid before the second was made."""
    first = await expired(two, 2, "BK-2")
    two.process.writers.clock.move(200)
    second = await two.process.create(BOOKING, booking_id="BK-2", request_id="again", amount=500)
    return [await two.process.tell(one, *facts) for one, facts in zip((first, second), facts_of_each, strict=True)]


async def test_money_is_not_moved_to_a_booking_that_another_attempt_has_paid(two: Twosome, database: Database) -> None:
    await paid_twice(two)
    unpaid, _ = await attempts(two, (), (*sent(3), paid("RCPT000003")))
    refusal = await refused(two.first.ResolveCase(to(await two.the_case(), unpaid)))
    assert refusal.message.startswith("Another payment of that booking has been paid")
    assert await two.waiting() == []


async def test_money_waits_for_the_end_of_an_attempt_that_may_still_be_paid(two: Twosome, database: Database) -> None:
    await paid_twice(two)
    unpaid, prompted = await attempts(two, (), sent(3))
    case = await two.the_case()
    assert "may still be paid" in (await refused(two.first.ResolveCase(to(case, unpaid)))).message
    two.process.writers.clock.move(121)
    await two.process.tell(prompted, DeadlinePassed())
    waits = (await two.first.ResolveCase(to(case, unpaid))).approval
    assert (await two.second.DecideApproval(decision(waits))).approval.state == pb.Approval.STATE_APPROVED
    assert await broken(two.process, database) == []


async def test_money_is_not_moved_to_a_booking_with_another_attempt_that_was_paid_since(
    two: Twosome, database: Database
) -> None:
    await paid_twice(two)
    unpaid, ended = await attempts(two, (), (*sent(3), failed()))
    waits = (await two.first.ResolveCase(to(await two.the_case(), unpaid))).approval
    await two.process.tell(ended, paid("RCPT000003"))
    refusal = await refused(two.second.DecideApproval(decision(waits)))
    assert refusal.reason == "APPROVAL_OUTDATED"
    assert "another of its booking" in refusal.metadata["changed"]
    assert [row for row in await rows_of(database, RECEIPTS) if row[1] == unpaid.payment_id] == []


async def test_money_that_came_with_foreign_ids_goes_to_the_payment_that_it_was_meant_for(
    two: Twosome, database: Database
) -> None:
    source, target = await expired(two, 1, "BK-1"), await expired(two, 2, "BK-2")
    await two.process.tell(source, replace(paid(SECOND), checkout_request_id="ws_CO_foreign"))
    case = await two.the_case()
    assert case.kind == pb.CASE_KIND_FOREIGN_IDS
    waits = (await two.first.ResolveCase(to(case, target))).approval
    await two.second.DecideApproval(decision(waits))
    assert await rows_of(database, RECEIPTS) == [(SECOND, target.payment_id, 500, True)]
    held = "SELECT state, money_case_open FROM payment_transactions ORDER BY booking_id"
    assert await rows_of(database, held) == [("EXPIRED", False), ("COMPLETED", False)]
    assert await broken(two.process, database) == []


async def test_of_all_who_decide_at_once_one_is_heard_and_no_shilling_is_lost_or_made(
    two: Twosome, database: Database
) -> None:
    await paid_twice(two)
    target = await expired(two, 2, "BK-2")
    case = await two.the_case()
    waits = (await two.first.ResolveCase(to(case, target))).approval
    told = await asyncio.gather(
        *(two.second.DecideApproval(decision(waits, reason=f"seen {n}")) for n in range(3)),
        two.first.DecideApproval(decision(waits, WITHDRAW)),
        two.first.ResolveCase(resolution(case, pb.CASE_RESOLUTION_DISMISS)),
        return_exceptions=True,
    )
    assert sum(not isinstance(one, BaseException) for one in told) in (1, 2)
    assert await rows_of(database, "SELECT count(*), sum(amount) FROM mpesa_receipts") == [(2, 1000)]
    assert await broken(two.process, database) == []


async def test_the_writer_moves_money_once_and_by_the_consent_to_this_move_only(
    two: Twosome, database: Database
) -> None:
    await paid_twice(two)
    target, other = await expired(two, 2, "BK-2"), await expired(two, 3, "BK-3")
    waits = (await two.first.ResolveCase(to(await two.the_case(), target))).approval
    core = two.process.core
    async with core.reads.engine.connect() as conn:
        row = await approval_by_id(conn, UUID(waits.approval_id))
    assert row is not None
    assert row.case_id is not None
    consent = Consent(row.approval_id, row.asked_by, Person(APPROVER, "brian", AGREED))

    async def move(payment: Payment) -> None:
        asked = CaseDecision(
            case_id=row.case_id or UUID(int=0),
            seen=row.seen,
            resolution=Resolution.MOVE,
            operator=row.asked_as,
            why=row.asked_why,
            receipt=None,
            to_payment_id=payment.payment_id,
        )
        await resolve_case(core.reads, core.facts, core.refund_shortcodes, asked, consent)

    with pytest.raises(CaseChanged):
        await move(other)
    await asyncio.gather(*(move(target) for _ in range(4)))
    assert [row[1] for row in await rows_of(database, RECEIPTS)].count(target.payment_id) == 1
    events = "SELECT count(*) FROM payment_events WHERE payment_id = '{}' AND fact_kind = 'CaseAccepted'"
    assert await rows_of(database, events.format(target.payment_id)) == [(1,)]
    assert await broken(two.process, database) == []
