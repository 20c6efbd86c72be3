"""A callback that never comes: the payment is settled by asking, and its story can be read afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.slowness import slowness
from tests.commands.started import command
from tests.end_to_end.town import (
    Grounds,
    a_phone_that,
    action_of,
    events_until,
    initiate,
    reason_of,
    status_of,
)
from tests.parts import channel

PAYS_UNHEARD = "998"


async def test_money_that_nobody_tells_of_is_found_confirmed_and_explained(grounds: Grounds) -> None:
    phone = a_phone_that(PAYS_UNHEARD)
    # The budget is the sandbox's, as shipped: five queries a minute, which the simulator holds us to.
    async with grounds.site.running_core(query_after_s=slowness()) as core, channel(core.address) as client:
        payments = PaymentServiceStub(client)
        started = await initiate(payments, phone)
        events = await events_until(payments, started, lambda payment: action_of(payment) == "CONFIRM")
    told = [(status_of(event.payment), reason_of(event.payment), action_of(event.payment)) for event in events[-3:]]
    assert told == [
        ("PROCESSING", "AWAITING_CUSTOMER", "WAIT"),
        ("COMPLETED", "RECEIPT_PENDING", "WAIT"),
        ("COMPLETED", "RECEIPT_PENDING", "CONFIRM"),
    ]
    looks = [event.event_time.ToDatetime() for event in events[-2:]]
    assert (looks[1] - looks[0]).total_seconds() > 14, "two looks at one moment would be one"
    (push,) = await grounds.simulator.pushes(phone=phone)
    assert (push["debited_kes"], push["callbacks"]) == (500, [])
    assert await grounds.cases(started.payment) == []

    environment = grounds.site.core_environment()
    story = await output_of(environment, "explain", started.payment.payment_id)
    assert story.count("query: HTTP ") >= 2
    assert re.search(r"query: HTTP 200 .*\n?.*understood as Told 0, led to version 4", story)
    assert re.search(r"version 5: COMPLETED.*Daraja, answering a query", story)
    assert phone[-9:] not in story
    assert "hold, over 1 payments" in await output_of(environment, "check")


async def output_of(environment: Mapping[str, str], *words: str) -> str:
    """What one of the operators' commands prints; it must succeed."""
    code, output, errors = await command(environment, *words)
    assert (code, errors) == (0, "")
    return output
