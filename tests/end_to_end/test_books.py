"""Several payment services that read Safaricom's books: what is lost on every other way is found there, once."""

from __future__ import annotations

from typing import Any

import pytest
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from tests.core.rows import rows_of
from tests.end_to_end.town import Grounds, a_phone, action_of, events_to_the_end, initiate, told_by
from tests.parts import channel

pytestmark = pytest.mark.slow

BOOKS: dict[str, Any] = {"pull_nominated_number": "254722000000", "pull_interval_s": 1}
LOST = {"answer": "lost", "callback": "never", "callback_delay_seconds": 0.5}


async def test_a_payment_of_a_process_that_died_is_settled_by_another_ones_reading(grounds: Grounds) -> None:
    phone = a_phone()
    await grounds.simulator.script(phone, LOST)
    async with (
        grounds.site.running_core(**BOOKS) as core,
        grounds.site.running_core(**BOOKS) as other,
        channel(core.address) as to_core,
        channel(other.address) as to_other,
    ):
        started = await initiate(PaymentServiceStub(to_core), phone)
        await core.kill()
        payments = PaymentServiceStub(to_other)
        story = await told_by(grounds, payments, await events_to_the_end(payments, started))
    assert story.path == ["PENDING", "PROCESSING", "COMPLETED"]
    assert action_of(story.payment) == "CONFIRM"
    assert (story.prompts, story.debited) == (1, 500)
    assert await grounds.cases(story.payment) == []
    kept = "SELECT count(*) FROM daraja_exchanges WHERE operation = 'pulled' AND payment_id = %s"
    assert await rows_of(grounds.database, kept, (story.payment.payment_id,)) == [(1,)]
