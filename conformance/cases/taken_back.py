"""Money that M-Pesa returns at the payer's own request: the booking is released, and a person hears of it."""

from __future__ import annotations

from mpesa_payments.v1 import operations_service_pb2 as pb

from conformance.account import Account, Seen
from conformance.caller import has_status
from conformance.cases.casework import operations, the_case
from conformance.cases.refunds import paid_before
from conformance.installation import Installation
from conformance.judgement import PATIENCE_SECONDS, expect
from conformance.running import case


async def taken_back(town: Installation) -> Account:
    """A payment that was confirmed, and whose payer has the money back."""
    phone, started = await paid_before(town)
    await town.simulator.control("takebacks", phone=phone)
    account = await town.account(started, has_status("REFUNDED"), "that the money went back")
    return account.must(path="PENDING → PROCESSING → COMPLETED → REFUNDED", reason="TAKEN_BACK", action="RELEASE")


@case
async def payer_takes_the_money_back(town: Installation) -> Seen:
    """A passenger pays, the booking is confirmed, and then M-Pesa returns the money at the passenger's request."""
    account = await taken_back(town)
    one = await the_case(town.second, booking_id=account.payment.booking_id)
    expect("the kind", one.kind, pb.CASE_KIND_TAKEN_BACK)
    return account.seen("a case", "KES 500 taken back")


@case
async def books_show_a_refund_of_ours(town: Installation) -> Seen:
    """The books list the reversal that a refund has led to, and later one that a payer has asked for."""
    _, started = await paid_before(town)
    await town.first.refund(started.payment)
    account = await town.account(started, has_status("REFUNDED"), "the refund")
    # The books are read in the order of time: when the later reversal is known, the earlier one has been read.
    await taken_back(town)
    wanted = pb.FindPaymentsRequest(booking_id=started.payment.booking_id)
    found = await operations(town.second).FindPayments(wanted, timeout=PATIENCE_SECONDS)
    expect("cases of the refund", len(found.cases), 0)
    return account.must(reason="", action="RELEASE").seen("no case", "KES 500 returned")
