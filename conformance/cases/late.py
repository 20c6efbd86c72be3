"""Money that comes when nobody waits for it any more: never lost, and the caller's policy decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import payment_pb2

from conformance.account import Account, Seen
from conformance.caller import has_status
from conformance.installation import Installation
from conformance.running import case_given_up_soon
from conformance.simulator import UNTIL_TOLD
from development.slowness import slowness

CONFIRM = payment_pb2.LATE_PAYMENT_POLICY_CONFIRM


async def paid_after_expiry(town: Installation, **fields: Any) -> Account:
    """A payment that expired, and whose passenger paid after all."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.initiate(phone, **fields)
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
