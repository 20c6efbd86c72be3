"""Hints: a body that anybody may have posted makes a query come sooner, three times at most, and does nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from daraja_simulator.world import World
from payment_service.application.settling.query_pushes import query_pushes
from payment_service.application.settling.take_hints import HintTools, take_hint
from payment_service.domain.payment import Payment
from tests.application.settling.asking import Asker, running_asker
from tests.daraja_simulator.simulators import in_process
from tests.databases import Database
from tests.rows import rows_of

FAR_OFF = 10.0**9
"""Seconds by which the simulator's clock may differ from the test's."""
WHOLE_ROW = "SELECT to_jsonb(p) - 'query_at' - 'query_count' - 'hint_count' FROM payment_transactions p"
KEPT = (
    "SELECT (SELECT count(*) FROM callback_inbox), (SELECT count(*) FROM cases), (SELECT count(*) FROM mpesa_receipts),"
    " (SELECT count(*) FROM payment_events), (SELECT count(*) FROM daraja_exchanges)"
)


@pytest.fixture
async def simulator() -> AsyncIterator[tuple[World, str]]:
    async with in_process(clock_tolerance_seconds=FAR_OFF) as running:
        yield running


@pytest.fixture
async def asker(database: Database, tmp_path: Path, simulator: tuple[World, str]) -> AsyncIterator[Asker]:
    async with running_asker(database, tmp_path, simulator[1]) as running:
        yield running


def result(payment: Payment, **changed: object) -> bytes:
    """A success with an invented receipt, as whoever knows the ids of a push can write it."""
    items = [{"Name": "Amount", "Value": payment.amount}, {"Name": "MpesaReceiptNumber", "Value": "TKA1B2C3D4"}]
    told = {
        "MerchantRequestID": payment.merchant_request_id,
        "CheckoutRequestID": payment.checkout_request_id,
        "ResultCode": 0,
        "ResultDesc": "done",
        "CallbackMetadata": {"Item": items},
    }
    return json.dumps({"Body": {"stkCallback": told | changed}}).encode()


async def hint(asker: Asker, body: bytes) -> None:
    await take_hint(HintTools(asker.tools.engine, asker.writers.sealer, asker.clock), body)


async def test_a_hint_leads_to_a_query_that_finds_the_truth(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="paid")
    assert (await query_pushes(asker.tools)).due == 0, "by itself the service asks later"
    await hint(asker, result(payment))
    assert (await query_pushes(asker.tools)).told == 1
    assert await asker.row(payment, "state", "mpesa_receipt_number") == ("COMPLETED", None)


async def test_a_hint_itself_is_believed_and_kept_nowhere(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="cancelled")
    before = await rows_of(asker.database, WHOLE_ROW), await rows_of(asker.database, KEPT)
    await hint(asker, result(payment))
    assert (await rows_of(asker.database, WHOLE_ROW), await rows_of(asker.database, KEPT)) == before
    await query_pushes(asker.tools)
    assert await asker.row(payment, "state", "mpesa_receipt_number") == ("CANCELLED", None)


async def test_a_payment_is_asked_about_for_three_hints_and_no_more(asker: Asker) -> None:
    payment = await asker.prompted({"queries": ["being_processed"] * 20})
    asked = 0
    for _ in range(10):
        await asyncio.gather(*(hint(asker, result(payment)) for _ in range(5)))
        asked += (await query_pushes(asker.tools)).asked
        asker.clock.move(0.1)
    assert asked == 3
    assert await asker.row(payment, "hint_count") == (3,)


async def test_hints_do_not_put_off_what_the_service_asks_by_itself(asker: Asker) -> None:
    payment = await asker.prompted({"queries": ["being_processed"] * 20})
    for _ in range(3):
        await hint(asker, result(payment))
        await query_pushes(asker.tools)
    # As after the first query of its own: so many hints are no answers that a passenger is given up for.
    assert await asker.row(payment, "query_at") == (asker.clock() + timedelta(seconds=15),)


@pytest.mark.parametrize(
    "changed",
    [
        {"CheckoutRequestID": "ws_CO_010120260000000254722000000"},
        {"MerchantRequestID": "29115-34620561-1"},
        {"CheckoutRequestID": None},
        {"ResultCode": None},
    ],
)
async def test_what_names_no_payment_leads_to_nothing(asker: Asker, changed: dict[str, object]) -> None:
    payment = await asker.prompted()
    await hint(asker, result(payment, **changed))
    await hint(asker, b"\xff")
    assert (await query_pushes(asker.tools)).due == 0
    assert await asker.row(payment, "hint_count") == (0,)


async def test_a_payment_that_is_settled_is_not_asked_about(asker: Asker) -> None:
    payment = await asker.prompted()
    await asker.settled(payment, ending="paid")
    asker.clock.move(30)
    await query_pushes(asker.tools)
    asker.clock.move(15)
    await query_pushes(asker.tools)
    await hint(asker, result(payment))
    assert (await query_pushes(asker.tools)).due == 0
    assert await asker.row(payment, "hint_count", "booking_action") == (0, "CONFIRM")
