"""Several payment services that read Safaricom's books: what is lost on every other way is found there, once."""

from __future__ import annotations

from typing import Any

import pytest
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.slowness import slowness
from tests.end_to_end.town import (
    Grounds,
    a_phone,
    action_of,
    events_to_the_end,
    events_until,
    initiate,
    reason_of,
    status_of,
    told_by,
)
from tests.parts import channel
from tests.rows import rows_of

pytestmark = pytest.mark.slow

BOOKS: dict[str, Any] = {"pull_nominated_number": "254722000000", "pull_interval_s": 1}
INITIATOR: dict[str, Any] = {
    "initiator_name": "development-initiator",
    "initiator_password": "development-initiator-password",
}
LOST = {"answer": "lost", "callback": "never", "callback_delay_seconds": 2 * slowness()}


async def test_a_payment_of_a_process_that_died_is_settled_by_reading_and_released_when_its_payer_has_the_money_back(
    grounds: Grounds,
) -> None:
    phone = a_phone()
    await grounds.simulator.script(phone, LOST)
    async with (
        # It reads no books: a process that dies while it does has them to itself for a while.
        grounds.site.running_core() as core,
        grounds.site.running_core(**BOOKS) as reader,
        channel(core.address) as to_core,
        channel(reader.address) as to_reader,
    ):
        started = await initiate(PaymentServiceStub(to_core), phone)
        await grounds.simulator.prompted(phone)
        await core.kill()
        payments = PaymentServiceStub(to_reader)
        story = await told_by(grounds, payments, await events_to_the_end(payments, started))
        # Books that are read before the dead process's lease has ended leave no doubt to tell of.
        assert [status for status in story.path if status != "PROCESSING"] == ["PENDING", "COMPLETED"]
        assert action_of(story.payment) == "CONFIRM"
        assert (story.prompts, story.debited) == (1, 500)
        assert await grounds.cases(story.payment) == []
        kept = "SELECT count(*) FROM daraja_exchanges WHERE operation = 'pulled' AND payment_id = %s"
        assert await rows_of(grounds.database, kept, (story.payment.payment_id,)) == [(1,)]
        await grounds.simulator.control("takebacks", phone=phone)
        events = await events_until(payments, started, lambda payment: status_of(payment) == "REFUNDED")
        story = await told_by(grounds, payments, events)
    assert story.path[-2:] == ["COMPLETED", "REFUNDED"]
    assert (reason_of(story.payment), action_of(story.payment)) == ("TAKEN_BACK", "RELEASE")
    assert await grounds.cases(story.payment) == [("TAKEN_BACK", True)]


async def test_a_receipt_that_the_callback_did_not_bring_is_asked_for(grounds: Grounds) -> None:
    phone = a_phone()
    await grounds.simulator.script(phone, {"callback_without": ["MpesaReceiptNumber"]})
    certificate = grounds.site.folder / "certificate.pem"
    answer = await grounds.simulator.http.get("/control/certificate")
    certificate.write_text(answer.json()["certificate"])
    async with (
        grounds.site.running_core(**INITIATOR, initiator_certificate_file=certificate) as core,
        grounds.site.running_gateway(core.address, grounds.edge_address),
        channel(core.address) as client,
    ):
        payments = PaymentServiceStub(client)
        started = await initiate(payments, phone)
        events = await events_until(payments, started, lambda payment: bool(payment.mpesa_receipt_number))
        story = await told_by(grounds, payments, events)
    waiting = [action_of(event.payment) for event in story.events if not event.payment.mpesa_receipt_number]
    assert (waiting[-1], action_of(story.payment)) == ("WAIT", "CONFIRM")
    assert await grounds.cases(story.payment) == []
    assert [status for _, status in await grounds.kept_bodies(story.payment.reference)] == ["APPLIED", "APPLIED"]
