"""Money that comes when nobody waits for it any more: never lost, and the caller's policy decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import money_pb2, payment_pb2

from conformance.account import Account, Seen
from conformance.caller import has_status
from conformance.cases.refunds import orders_of, told_so
from conformance.installation import Installation
from conformance.judgement import expect, until
from conformance.running import case_given_up_soon
from conformance.simulator import UNTIL_TOLD
from development.slowness import slowness

CONFIRM = payment_pb2.LATE_PAYMENT_POLICY_CONFIRM
TOLD_TO_THE_SECOND = timedelta(seconds=1)
"""M-Pesa tells in which second the passenger paid: what is paid in the next one is surely late."""
REFUND = payment_pb2.LATE_PAYMENT_POLICY_REFUND


async def paid_after_expiry(town: Installation, **fields: Any) -> Account:
    """A payment that expired, and whose passenger paid after all."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone, **fields)
    (await town.account(started, has_status("EXPIRED"))).must(action="OFFER_RETRY", certain=False)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started, has_status("COMPLETED"))
    return account.must(path="PENDING → PROCESSING → EXPIRED → COMPLETED", late=True, prompts=1, debited=500)


@case_given_up_soon
async def late_money_after_the_hold(town: Installation) -> Seen:
    """The booking's hold is over when the money comes, and its caller asked for review."""
    hold = Timestamp()
    hold.FromDatetime(datetime.now(UTC) + timedelta(seconds=4 * slowness()))
    account = await paid_after_expiry(town, hold_expire_time=hold)
    return account.must(action="REVIEW").seen()


@case_given_up_soon
async def late_money_that_the_caller_wants(town: Installation) -> Seen:
    """The hold is over when the money comes, and the caller's policy is to confirm however late."""
    return (await paid_after_expiry(town, late_payment_policy=CONFIRM)).must(action="CONFIRM").seen()


@case_given_up_soon
async def late_money_that_the_caller_wants_sent_back(town: Installation) -> Seen:
    """The hold is over when the money comes, and the caller's policy is to refund it: nobody has to ask for it."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone, late_payment_policy=REFUND)
    expired = await town.account(started, has_status("EXPIRED"))

    async def hold_is_surely_over() -> bool | None:
        return datetime.now(UTC) > expired.payment.expire_time.ToDatetime(UTC) + TOLD_TO_THE_SECOND or None

    await until(hold_is_surely_over, "the second after the end of the hold")
    await town.simulator.settle(phone, ending="paid")
    account = await told_so(town, started, phone, has_status("REFUNDED"), 500)
    account.must(path="PENDING → PROCESSING → EXPIRED → COMPLETED → REFUNDED", late=True, prompts=1)
    told = [event.payment.booking_action for event in account.events]
    expect("events that confirm the booking", told.count(payment_pb2.BOOKING_ACTION_CONFIRM), 0)
    expect("the reason of the refund", account.payment.refund.reason, payment_pb2.REFUND_REASON_PAID_LATE)
    return account.seen(ledger="KES 500 returned once")


@case_given_up_soon
async def late_money_too_much_to_send_back_unasked(town: Installation) -> Seen:
    """The caller's policy is to refund late money, and it is more than goes back without a person."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    amount = money_pb2.Money(currency_code="KES", units=501)
    started = await town.first.prompt(phone, amount=amount, late_payment_policy=REFUND)
    await town.account(started, has_status("EXPIRED"))
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started, has_status("COMPLETED"))
    account.must(action="REVIEW", reason="PAID_LATE", debited=501)
    expect("orders to send money back", await orders_of(town, phone), [])
    return account.seen(ledger="nothing returned")


@case_given_up_soon
async def late_money_within_the_hold(town: Installation) -> Seen:
    """The payment had expired, but the booking is held for an hour when the money comes."""
    hold = Timestamp()
    hold.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    return (await paid_after_expiry(town, hold_expire_time=hold)).must(action="CONFIRM").seen()


@case_given_up_soon
async def answer_lost_and_nobody_pays(town: Installation) -> Seen:
    """The answer to the push is lost, and no callback ever comes."""
    phone = await town.simulator.phone({"answer": "lost", "ending": "silent", "callback": "never"})
    account = await town.lived(phone)
    account.must(path="PENDING → PROCESSING → EXPIRED", certain=False, pushes=1, prompts=1, debited=0)
    return account.seen("outcome not certain")
