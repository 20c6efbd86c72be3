"""No receipt proves money that the service itself doubts: neither its paper, nor the page that its code leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mpesa_payments.v1 import passenger_service_pb2 as passenger_pb
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1 import receipt_pb2

from payment_service.application.receipting.show_receipt import prove_receipt
from payment_service.domain.case_rules import Resolution
from payment_service.domain.facts import Source, TakenBack
from payment_service.rpc.receipts import proof_message
from tests.application.casework.casefiles import only_case, open_cases, settle
from tests.application.receipting.offices import (
    DENIED,
    RECEIPT,
    completed,
    issue,
    office,
    reported,
    shown,
    violations,
    written,
)
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, listed, paid


@pytest.fixture
async def process(database: Database, tmp_path: Path) -> AsyncIterator[Process]:
    async with office(database, tmp_path) as running:
        yield running


async def proof(process: Process, link: str) -> passenger_pb.ReceiptProof:
    """What the page shows that the code of a receipt leads to."""
    found = await prove_receipt(process.core.receipts, link.rsplit("/", 1)[1])
    assert found is not None
    return proof_message(found)


async def test_a_receipt_is_issued_at_once_and_says_that_m_pesa_is_still_to_confirm(process: Process) -> None:
    payment = await reported(process)
    assert await issue(process) == 1
    receipt = await shown(process, payment)
    assert (receipt.standing, receipt.only_reported) == (receipt_pb2.RECEIPT_STANDING_PAID, True)
    assert (await proof(process, receipt.verification_url)).only_reported
    await process.tell(payment, listed(RECEIPT))
    receipt = await shown(process, payment)
    assert (receipt.revision, receipt.only_reported) == (1, False)
    assert not (await proof(process, receipt.verification_url)).only_reported


async def test_a_receipt_proves_nothing_from_the_moment_its_money_is_doubted(
    process: Process, database: Database
) -> None:
    payment = await reported(process)
    await issue(process)
    link = (await shown(process, payment)).verification_url
    await process.tell(payment, DENIED)
    for _ in range(2):
        receipt, on_page = await shown(process, payment), await proof(process, link)
        for told in (receipt, on_page):
            assert told.standing == receipt_pb2.RECEIPT_STANDING_UNDER_REVIEW
            assert (told.amount_left.units, told.only_reported) == (0, False)
        await issue(process)
    await process.tell(payment, listed(RECEIPT))
    await issue(process)
    assert (await shown(process, payment)).standing == receipt_pb2.RECEIPT_STANDING_PAID
    assert await written(database) == [(1, "PAID", 0), (2, "UNDER_REVIEW", 0), (3, "PAID", 0)]
    told_of = await rows_of(database, "SELECT event_type FROM payment_events WHERE event_type LIKE 'RECEIPT%%'")
    assert [row[0] for row in told_of] == ["RECEIPT_ISSUED", "RECEIPT_AMENDED", "RECEIPT_AMENDED"]
    assert await violations(process, database) == {}


async def test_a_doubt_amends_the_receipt_although_another_case_is_open_about_the_payment(
    process: Process, database: Database
) -> None:
    payment = await process.tell(await reported(process), paid("TKA1B2C3D5"))
    await issue(process)
    doubted = await process.tell(payment, DENIED)
    assert len(await open_cases(process)) == 2
    assert await issue(process) == 1, doubted
    assert await written(database) == [(1, "PAID", 0), (2, "UNDER_REVIEW", 0)]


async def test_money_that_a_person_does_not_find_makes_the_receipt_void(process: Process, database: Database) -> None:
    payment = await reported(process)
    await issue(process)
    await process.tell(payment, DENIED)
    await issue(process)
    await settle(process, await only_case(process), Resolution.DISMISS)
    await issue(process)
    assert [row[1] for row in await written(database)] == ["PAID", "UNDER_REVIEW", "VOID"]
    assert await violations(process, database) == {}


async def test_of_money_that_never_came_no_receipt_is_ever_promised(process: Process, database: Database) -> None:
    payment = await process.tell(await reported(process), DENIED)
    await settle(process, await only_case(process), Resolution.DISMISS)
    asking = pb.GetReceiptRequest(payment_id=str(payment.payment_id))
    assert (await refused(process.payments.GetReceipt(asking))).metadata == {"cause": "MONEY_NEVER_CAME"}
    assert await written(database) == []


async def test_money_in_doubt_gets_no_first_receipt_until_it_is_proven(process: Process, database: Database) -> None:
    payment = await process.tell(await reported(process), DENIED)
    await issue(process)
    asking = pb.GetReceiptRequest(payment_id=str(payment.payment_id))
    assert (await refused(process.payments.GetReceipt(asking))).reason == "RECEIPT_NOT_ISSUED"
    await process.tell(payment, listed(RECEIPT))
    assert await issue(process) == 1
    assert await written(database) == [(1, "PAID", 0)]


async def test_money_that_may_have_been_taken_back_is_under_review_until_a_person_has_looked(
    process: Process, database: Database
) -> None:
    payment = await completed(process)
    await issue(process)
    await process.tell(payment, TakenBack("taken-back:1", Source.PULL, "TKR7E8V9E0", 500, in_doubt=True))
    for _ in range(2):
        receipt = await shown(process, payment)
        assert receipt.standing == receipt_pb2.RECEIPT_STANDING_UNDER_REVIEW
        assert receipt.amount_left.units == 0
        assert (await proof(process, receipt.verification_url)).standing == receipt.standing
        await issue(process)
    assert await violations(process, database) == {}
    await settle(process, await only_case(process), Resolution.DISMISS)
    await issue(process)
    assert [row[1] for row in await written(database)] == ["PAID", "UNDER_REVIEW", "PAID"]
    assert await violations(process, database) == {}


async def test_a_first_receipt_waits_for_a_person_where_its_money_may_have_been_taken_back(process: Process) -> None:
    payment = await completed(process)
    await process.tell(payment, TakenBack("taken-back:1", Source.PULL, "TKR7E8V9E0", 500, in_doubt=True))
    await issue(process)
    asking = pb.GetReceiptRequest(payment_id=str(payment.payment_id))
    assert (await refused(process.payments.GetReceipt(asking))).metadata == {"cause": "NOT_ISSUED_YET"}
    await settle(process, await only_case(process), Resolution.DISMISS)
    assert (await shown(process, payment)).standing == receipt_pb2.RECEIPT_STANDING_PAID
