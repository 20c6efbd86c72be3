"""A trip is refunded: its bookings by the operators' method, asked for by whom and however often it may be."""

from __future__ import annotations

import asyncio

from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2

from conformance.account import Seen
from conformance.caller import Caller, has_status, refund_is
from conformance.cases.casework import operations
from conformance.cases.refunds import paid_before, told_so
from conformance.installation import Installation
from conformance.judgement import PATIENCE_SECONDS, expect
from conformance.running import case


async def refund_booking(
    caller: Caller, payment: payment_pb2.Payment, operator: str = "amina", *, only_look: bool = False
) -> pb.RefundBookingResponse:
    """RefundBooking for a payment's booking."""
    asked = pb.RefundBookingRequest(
        booking_id=payment.booking_id,
        refund_reason=payment_pb2.REFUND_REASON_BOOKING_CANCELLED,
        operator=operator,
        reason="the bus broke down",
        validate_only=only_look,
    )
    answer: pb.RefundBookingResponse = await operations(caller).RefundBooking(asked, timeout=PATIENCE_SECONDS)
    return answer


@case
async def a_booking_refunded_by_two_operators(town: Installation) -> Seen:
    """Two operators refund one booking again and again, one after the other, through two processes."""
    phone, started = await paid_before(town)
    looked = await refund_booking(town.first, started.payment, only_look=True)
    expect("what would go back", (looked.amount.units, looked.HasField("refund")), (500, False))
    first = await refund_booking(town.first, started.payment)
    repeats = [refund_booking(town.second, started.payment, operator) for operator in ("amina", "brian") * 4]
    answers = await asyncio.gather(*repeats)
    expect("refunds", {one.refund.refund_id for one in answers}, {first.refund.refund_id})
    account = await told_so(town, started, phone, has_status("REFUNDED"), 500)
    return account.seen(ledger="KES 500 returned once")


@case
async def a_booking_refunded_again_after_the_float_was_gone(town: Installation) -> Seen:
    """M-Pesa has too little money for the refund of a booking; there is more, and it is asked for again five times."""
    phone, started = await paid_before(town)
    await town.simulator.control(f"phones/{phone}/orders", carries_out=False, result_code=1)
    await refund_booking(town.first, started.payment)
    (await told_so(town, started, phone, refund_is("FAILED"), 0)).must(status="COMPLETED")
    looked = await refund_booking(town.second, started.payment, only_look=True)
    expect("M-Pesa's code", looked.provider_result_code, "1")
    answers = await asyncio.gather(*(refund_booking(town.first, started.payment) for _ in range(5)))
    expect("refunds", len({one.refund.refund_id for one in answers} - {looked.refund.refund_id}), 1)
    account = await town.account(started, has_status("REFUNDED"))
    orders = (await town.simulator.shown("orders", phone=phone))["orders"]
    expect("what went back", [order["sent_kes"] for order in orders], [0, 500])
    return account.must(action="RELEASE").seen("failed, then done", "KES 500 returned once")
