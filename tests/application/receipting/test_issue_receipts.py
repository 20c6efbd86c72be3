"""Receipts are issued by themselves, once, and amended when money goes back; what was issued is never altered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path

import grpc
import psycopg
import pytest
from mpesa_payments.v1 import payment_pb2, receipt_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.following.read_payments import PaymentName
from payment_service.application.receipting.issue_receipts import LEASE, issue_receipts
from payment_service.application.receipting.show_receipt import prove_receipt, show_receipt
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.domain.case_rules import Resolution
from payment_service.domain.facts import ReceiptDue, Source, TakenBack
from payment_service.store.engines import connect_writer
from payment_service.store.pipeline import Connection
from payment_service.store.reads import PaymentRow
from tests.application.casework.casefiles import only_case, settle
from tests.application.privacy.test_erase_person import erasing
from tests.application.receipting.offices import (
    RECEIPT,
    completed,
    issue,
    issuing,
    office,
    returned,
    shown,
    violations,
    written,
)
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count, rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, listed, paid, sent


async def write_nothing(_conn: Connection, _group: Sequence[Submission]) -> Sequence[Recorded]:
    """Never called."""
    return []


class ReadBefore(GroupCommit[PaymentName, PaymentRow | None]):
    """Answers with a payment as it was read before something else happened."""

    def __init__(self, row: PaymentRow | None) -> None:
        self._row = row

    async def submit(self, item: PaymentName, *, patient: bool = False) -> PaymentRow | None:
        return self._row


@pytest.fixture
async def process(database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    async with office(database, tmp_path) as running:
        yield running


async def test_a_receipt_that_is_asked_for_while_the_money_comes_says_when_it_came(process: Process) -> None:
    payment, reads = await process.tell(await process.create(), *sent(1)), process.core.reads
    before = await reads.points.submit(payment.payment_id)
    process.writers.clock.move(20)
    await process.tell(payment, paid(RECEIPT))
    await issue(process)
    tools = replace(process.core.receipts, reads=replace(reads, points=ReadBefore(before)))
    asked_meanwhile = await show_receipt(process.writers.facts, tools, None, payment.payment_id)
    assert asked_meanwhile.paid_at == process.writers.clock.now


async def test_a_completed_payment_gets_its_receipt_and_the_stream_tells_of_it(
    process: Process, database: Database
) -> None:
    payment = await completed(process, booking_id="BK-17")
    before = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    await process.caught_up()
    cursor = process.feed.bookmark
    assert await issue(process) == 1
    receipt = await shown(process, payment)
    assert (receipt.receipt_number, receipt.revision) == (receipt.receipt_number.upper(), 1)
    assert receipt.receipt_number.replace("-", "").lower() == payment.reference
    assert receipt.standing == receipt_pb2.RECEIPT_STANDING_PAID
    assert (receipt.amount.units, receipt.refunded_amount.units, receipt.amount_left.units) == (500, 0, 500)
    assert (receipt.mpesa_receipt_number, receipt.booking_id) == (RECEIPT, "BK-17")
    assert (receipt.masked_phone, receipt.issuer.kra_pin) == ("2547*****678", "P051234567X")
    assert receipt.pay_time == before.complete_time
    after = (await process.payments.GetPayment(pb.GetPaymentRequest(payment_id=str(payment.payment_id)))).payment
    assert after.version == before.version + 1
    assert (after.status, after.booking_action) == (before.status, payment_pb2.BOOKING_ACTION_CONFIRM)
    await process.caught_up()
    assert process.feed.bookmark.position == cursor.position + 1
    kinds = await rows_of(database, "SELECT event_type, previous_state, state FROM payment_events ORDER BY position")
    assert kinds[-1] == ("RECEIPT_ISSUED", "COMPLETED", "COMPLETED")
    async for message in process.payments.WatchPayments(
        pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_EARLIEST)
    ):
        if any(event.type == payment_pb2.PAYMENT_EVENT_TYPE_RECEIPT_ISSUED for event in message.events):
            break
    assert await issue(process) == 0
    assert await violations(process, database) == {}


async def test_a_receipt_says_when_m_pesa_moved_the_money_and_not_when_the_news_came(process: Process) -> None:
    payment = await process.tell(await process.create(), *sent(1))
    moved_at = process.writers.clock() + timedelta(seconds=30)
    process.writers.clock.move(timedelta(hours=20).total_seconds())
    found = replace(listed(RECEIPT), transaction_at=moved_at)
    await process.tell(payment, found)
    await issue(process)
    receipt = await shown(process, payment)
    assert receipt.pay_time.ToDatetime(UTC) == moved_at
    proven = await prove_receipt(process.core.receipts, receipt.verification_url.rsplit("/", 1)[1])
    assert proven is not None
    assert proven.paid_at == moved_at


async def test_money_that_goes_back_amends_the_receipt_and_what_was_issued_stays(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    await issue(process)
    await returned(process, payment, 200)
    await issue(process)
    part = await shown(process, payment)
    assert part.standing == receipt_pb2.RECEIPT_STANDING_PART_REFUNDED
    assert (part.refunded_amount.units, part.amount_left.units) == (200, 300)
    assert [refund.amount.units for refund in part.refunds] == [200]
    await returned(process, payment)
    await issue(process)
    whole = await shown(process, payment)
    assert whole.standing == receipt_pb2.RECEIPT_STANDING_REFUNDED
    assert (whole.refunded_amount.units, whole.amount_left.units, len(whole.refunds)) == (500, 0, 2)
    assert whole.receipt_number == part.receipt_number
    assert await written(database) == [(1, "PAID", 0), (2, "PART_REFUNDED", 200), (3, "REFUNDED", 500)]
    told = "SELECT event_type FROM payment_events WHERE event_type LIKE 'RECEIPT%%' ORDER BY position"
    assert [row[0] for row in await rows_of(database, told)] == ["RECEIPT_ISSUED", *["RECEIPT_AMENDED"] * 2]
    assert await violations(process, database) == {}


async def test_money_that_was_taken_back_is_said_plainly(process: Process, database: Database) -> None:
    payment = await completed(process)
    await issue(process)
    await process.tell(payment, TakenBack("taken-back:1", Source.PULL, RECEIPT, 500))
    await issue(process)
    receipt = await shown(process, payment)
    assert receipt.standing == receipt_pb2.RECEIPT_STANDING_TAKEN_BACK
    assert (receipt.amount.units, receipt.amount_left.units) == (500, 0)
    assert await violations(process, database) == {}


async def test_two_processes_at_once_issue_one_receipt(process: Process, database: Database, tmp_path: Path) -> None:
    payments = [await completed(process, f"TKA1B2C3{n:02}", claim=n) for n in range(10, 14)]
    async with office(database, tmp_path) as other:
        told = [Submission(ReceiptDue(), one.payment_id) for one in payments]
        # Each is told of every payment, whoever has claimed it.
        submitted = [where.writers.facts.submit(one) for one in told for where in (process, other)]
        await asyncio.gather(issue(process), issue(other), *submitted)
    assert await written(database) == [(1, "PAID", 0)] * 4
    assert await count(database, "receipts_due") == 0
    assert await violations(process, database) == {}


async def test_a_receipt_whose_process_died_is_issued_by_another_one_later(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    tools, connect = issuing(process), partial(connect_writer, database.application_url)
    # Nothing runs this writer, so the step waits for it for ever, and there it dies.
    unwritten = GroupCommit[Submission, Recorded]("facts", connect, write_nothing, lambda: None)
    dying = asyncio.create_task(issue_receipts(replace(tools, facts=unwritten)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await rows_of(database, "SELECT FROM receipts_due WHERE due_at <= %s", (tools.clock(),)):
            await asyncio.sleep(0.01)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await issue(process) == 0, "it is left to the process that took it up"
    process.writers.clock.move(LEASE.total_seconds())
    assert await issue(process) == 1
    assert (await shown(process, payment)).revision == 1


async def test_without_an_issuer_nothing_is_issued_and_the_caller_reads_why(database: Database, tmp_path: Path) -> None:
    async with office(database, tmp_path, issuer=None) as process:
        payment = await completed(process)
        assert await issue(process) == 0
        assert (await count(database, "receipts_due"), await count(database, "issued_receipts")) == (0, 0)
        refusal = await refused(process.payments.GetReceipt(pb.GetReceiptRequest(payment_id=str(payment.payment_id))))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RECEIPT_NOT_ISSUED")
        assert refusal.metadata == {"cause": "NO_ISSUER"}
        assert "PAYMENTS_RECEIPT_ISSUER_NAME" in refusal.message
        told = await process.tell(payment, ReceiptDue())
        assert told.version == payment.version


async def test_a_receipt_outlives_the_setting_of_its_issuer(database: Database, tmp_path: Path) -> None:
    async with office(database, tmp_path) as on:
        payment = await completed(on)
        await issue(on)
        link = (await shown(on, payment)).verification_url
    async with office(database, tmp_path, issuer=None) as off:
        assert (await shown(off, payment)).standing == receipt_pb2.RECEIPT_STANDING_PAID
        assert await prove_receipt(off.core.receipts, link.rsplit("/", 1)[1]) is not None
        await returned(off, payment)
        assert await issue(off) == 1
        amended = await shown(off, payment)
        assert (amended.standing, amended.amount_left.units) == (receipt_pb2.RECEIPT_STANDING_REFUNDED, 0)
        assert amended.issuer.kra_pin == "P051234567X"
        assert await violations(off, database) == {}


async def test_a_process_without_an_issuer_leaves_a_first_receipt_to_one_that_has_one(
    process: Process, database: Database, tmp_path: Path
) -> None:
    await completed(process)
    async with office(database, tmp_path, issuer=None) as off:
        assert await issue(off) == 1
    assert (await count(database, "receipts_due"), await count(database, "issued_receipts")) == (1, 0)
    process.writers.clock.move(LEASE.total_seconds() * 1_000)
    assert await issue(process) == 1
    assert await written(database) == [(1, "PAID", 0)]


async def test_a_payment_that_was_completed_before_there_was_an_issuer_gets_its_receipt_when_it_is_asked_for(
    database: Database, tmp_path: Path
) -> None:
    async with office(database, tmp_path, issuer=None) as before:
        payment = await completed(before)
    async with office(database, tmp_path) as process:
        assert await issue(process) == 0, "nobody is told of trips long over"
        assert (await shown(process, payment)).revision == 1
        assert (await shown(process, payment)).revision == 1
        assert await written(database) == [(1, "PAID", 0)]
        kinds = await rows_of(database, "SELECT event_type FROM payment_events ORDER BY position DESC LIMIT 1")
        assert kinds == [("RECEIPT_ISSUED",)]
        assert await violations(process, database) == {}


async def test_a_receipt_that_is_asked_for_before_the_step_is_issued_once(process: Process, database: Database) -> None:
    payment = await completed(process)
    assert (await shown(process, payment)).revision == 1
    assert await issue(process) == 0
    assert await written(database) == [(1, "PAID", 0)]


async def test_a_refund_of_a_payment_that_never_had_a_receipt_notes_none_without_an_issuer(
    database: Database, tmp_path: Path
) -> None:
    async with office(database, tmp_path, issuer=None) as off:
        await returned(off, await completed(off), 200)
    assert await count(database, "receipts_due") == 0


async def test_no_receipt_states_an_amount_that_nobody_knows(process: Process, database: Database) -> None:
    unreadable = replace(paid(RECEIPT), amount="UNREADABLE")
    payment = await process.tell(await process.create(), *sent(1), unreadable)
    await settle(process, await only_case(process), Resolution.ACCEPT)
    await issue(process)
    asking = pb.GetReceiptRequest(payment_id=str(payment.payment_id))
    assert (await refused(process.payments.GetReceipt(asking))).metadata == {"cause": "AMOUNT_UNKNOWN"}
    assert await written(database) == []


async def test_no_receipt_is_issued_before_the_money_is_here(process: Process, database: Database) -> None:
    payment = await process.tell(await process.create(), *sent(1))
    assert await issue(process) == 0
    assert (await process.tell(payment, ReceiptDue())).version == payment.version
    refusal = await refused(process.payments.GetReceipt(pb.GetReceiptRequest(payment_id=str(payment.payment_id))))
    assert (refusal.reason, refusal.metadata) == ("RECEIPT_NOT_ISSUED", {"cause": "NOT_ISSUED_YET"})
    await process.tell(payment, paid(RECEIPT))
    assert await issue(process) == 1
    assert await written(database) == [(1, "PAID", 0)]


async def test_a_receipt_is_its_own_callers_only(process: Process) -> None:
    others = await process.create(caller="another")
    refusal = await refused(process.payments.GetReceipt(pb.GetReceiptRequest(payment_id=str(others.payment_id))))
    assert refusal.reason == "PAYMENT_NOT_FOUND"
    bad = await refused(process.payments.GetReceipt(pb.GetReceiptRequest(payment_id="x")))
    assert (bad.reason, set(bad.fields)) == ("INVALID_REQUEST", {"payment_id"})


async def test_an_erasure_leaves_the_receipt_true_without_the_number(process: Process, database: Database) -> None:
    payment = await completed(process)
    await issue(process)
    before = await shown(process, payment)
    rows = await rows_of(database, "SELECT i::text FROM issued_receipts i")
    assert "712345678" not in str(rows)
    process.writers.clock.move(timedelta(days=3).total_seconds())
    done = await process.operations.ErasePerson(erasing("254712345678"))
    assert done.payments == 1
    after = await shown(process, payment)
    assert (before.masked_phone, after.masked_phone) == ("2547*****678", "*****")
    after.masked_phone = before.masked_phone
    assert after == before
    assert await rows_of(database, "SELECT i::text FROM issued_receipts i") == rows
    assert await violations(process, database) == {}


async def test_a_receipt_that_was_altered_is_found_by_the_checker(process: Process, database: Database) -> None:
    payment = await completed(process)
    await issue(process)
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        await owner.execute("UPDATE issued_receipts SET amount = 5000")
    (found,) = (await violations(process, database)).items()
    assert found[0] == "ISSUED"
    assert str(payment.payment_id) in str(found[1])


async def test_a_receipt_that_says_something_else_than_is_so_is_found_by_the_checker(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    await issue(process)
    await returned(process, payment, 200)
    assert await violations(process, database) == {}, "the next revision is due"
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        await owner.execute("DELETE FROM receipts_due")
    (found,) = (await violations(process, database)).items()
    assert found[0] == "ISSUED"
    assert "its receipt says PAID with KES 0 returned, where PART_REFUNDED with KES 200 is so" in str(found[1])
