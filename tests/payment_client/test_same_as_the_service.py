"""The fake answers as the service does: each scenario is played in both, and what a caller sees has to be the same.

The scenarios know neither: they use the client, and say what happens to a payment. What is written down is everything a
caller could go by, without ids, sentences and moments, which differ from run to run anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.json_format import MessageToDict
from mpesa_payments.v1.payment_service_pb2 import GetReceiptResponse
from pypdf import PdfReader

from payment_client import (
    LatePaymentPolicy,
    Payment,
    PaymentEvent,
    PaymentEventType,
    PaymentFilter,
    PaymentsClient,
    PaymentsError,
    PaymentStatus,
    Purchase,
    RefundReason,
)
from tests.databases import Database
from tests.payment_client.clients import a_purchase, client_of, next_of, take
from tests.payment_client.worlds import World, fake_world, real_world

Transcript = list[Any]
Scenario = Callable[[World, PaymentsClient], Awaitable[Transcript]]

OF_ONE_RUN = {"paymentId", "reference", "bookingId", "retryOf", "mpesaReceiptNumber", "customerMessage", "metadata"}
MOMENTS = {"createTime", "updateTime", "expireTime", "completeTime", "retryAllowedTime"}
OF_RECEIPTS = (
    PaymentEventType.PAYMENT_EVENT_TYPE_RECEIPT_ISSUED,
    PaymentEventType.PAYMENT_EVENT_TYPE_RECEIPT_AMENDED,
)
# Safaricom's own code, which the fake does not pretend to know, and what only support reads.
LEFT_OUT = {"providerResultCode", "caller"}


def seen(payment: Payment) -> dict[str, Any]:
    """What a caller can go by."""
    told: dict[str, Any] = MessageToDict(payment)
    known = {name: value for name, value in told.items() if name not in OF_ONE_RUN | MOMENTS | LEFT_OUT}
    known |= {name: bool(told.get(name)) for name in OF_ONE_RUN}
    known["moments"] = sorted(MOMENTS & told.keys())
    if payment.HasField("retry_allowed_time"):
        known["retry after"] = payment.retry_allowed_time.seconds - payment.update_time.seconds
    if payment.HasField("pay_bill"):
        offer = payment.pay_bill
        offered_for = offer.pay_until_time.seconds - payment.create_time.seconds
        known["payBill"] = [offer.business_number, offer.account_number == payment.reference, offered_for // 5]
    known["expires after"] = payment.expire_time.seconds - payment.create_time.seconds
    for refund in (*known.get("refunds", ()), known.get("refund", {})):
        for name in ("refundId", "requestTime", "endTime"):
            refund.pop(name, None)
        if "mpesaReceiptNumber" in refund:
            refund["mpesaReceiptNumber"] = refund["mpesaReceiptNumber"] == payment.mpesa_receipt_number
    return known


def noted(event: PaymentEvent) -> Transcript:
    assert event.event_id == f"{event.payment.payment_id}-{event.payment.version}"
    return [event.type, event.previous_status, seen(event.payment)]


async def outcome_of(call: Awaitable[Any]) -> Any:
    """The answer, or the error as a caller reads it."""
    try:
        answer = await call
    except PaymentsError as error:
        wait = None if error.retry_after is None else round(error.retry_after.total_seconds() / 10)
        facts = {key: value for key, value in error.metadata.items() if key != "payment_id"}
        return [
            type(error).__name__,
            error.code.name,
            error.reason,
            facts,
            sorted(error.violations),
            wait,
            bool(error.customer_message),
        ]
    return [seen(answer.payment), answer.replayed] if hasattr(answer, "replayed") else seen(answer.payment)


async def history(client: PaymentsClient, events: int) -> Transcript:
    return [noted(event) for event in await take(client.watch_payments(), events)]


async def started(client: PaymentsClient, booking_id: str = "TRIP-1", **fields: Any) -> str:
    return (await client.initiate(replace(a_purchase(booking_id), **fields))).payment.payment_id


async def paying(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    told = [await outcome_of(client.get(payment_id))]
    await world.send(payment_id)
    told += [await outcome_of(client.get(payment_id))]
    await world.pay(payment_id)
    return [*told, await outcome_of(client.get(payment_id)), *await history(client, 4)]


async def having_no_money_and_trying_again(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.has_no_money(payment_id)
    second = await client.retry(payment_id, request_id="retry-1")
    again = await outcome_of(client.retry(payment_id, request_id="retry-1"))
    return [seen(second.payment), again, *await history(client, 5)]


async def declining(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.decline(payment_id)
    return await history(client, 4)


async def declining_while_the_seat_is_held(world: World, client: PaymentsClient) -> Transcript:
    now = (await client.get(await started(client, "TRIP-2"))).payment.create_time.ToDatetime(UTC)
    payment_id = await started(client, hold_expire_time=now + timedelta(minutes=10))
    await world.send(payment_id)
    await world.decline(payment_id)
    failed = seen((await client.get(payment_id)).payment)
    assert "payBill" in failed
    await world.pay(payment_id)
    return [failed, seen((await client.get(payment_id)).payment)]


async def not_answering(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.expire(payment_id)
    early = await outcome_of(client.retry(payment_id))
    await world.advance(60)
    return [early, await outcome_of(client.retry(payment_id)), *await history(client, 5)]


async def paying_after_the_hold(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.expire(payment_id)
    await world.advance(1)
    await world.pay(payment_id)
    refused = await outcome_of(client.refund(payment_id, RefundReason.REFUND_REASON_PAID_LATE))
    return [refused, *await history(client, 5)]


async def paying_late_where_that_is_welcome(world: World, client: PaymentsClient) -> Transcript:
    policy = LatePaymentPolicy.LATE_PAYMENT_POLICY_CONFIRM
    payment_id = await started(client, late_payment_policy=policy)
    await world.send(payment_id)
    await world.expire(payment_id)
    await world.pay(payment_id)
    return await history(client, 5)


async def asking_twice(world: World, client: PaymentsClient) -> Transcript:
    purchase = a_purchase("TRIP-1")
    told = [await outcome_of(client.initiate(purchase)), await outcome_of(client.initiate(purchase))]
    spelt = replace(purchase, phone_number="+254 712-345678", language_code="en")
    told += [await outcome_of(client.initiate(spelt))]
    other = replace(purchase, amount=501, phone_number="0712000111", description="Another")
    told += [await outcome_of(client.initiate(other)), await outcome_of(client.initiate(a_purchase("TRIP-1")))]
    payment_id = (await client.initiate(purchase)).payment.payment_id
    return [*told, await outcome_of(client.cancel(payment_id, request_id=purchase.request_id))]


async def withdrawing(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    told = [await outcome_of(client.cancel(payment_id, request_id="cancel-1")) for _ in range(2)]
    told += [await outcome_of(client.cancel(payment_id))]
    second = await started(client)
    await world.send(second)
    return [*told, await outcome_of(client.cancel(second)), *await history(client, 5)]


async def sending_money_back(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    other, cannot = RefundReason.REFUND_REASON_OTHER, RefundReason.REFUND_REASON_CANNOT_DELIVER
    told = [await outcome_of(client.refund(payment_id, cannot))]
    await world.send(payment_id)
    await world.pay(payment_id)
    for amount in (501, 9, 0):
        told += [await outcome_of(client.refund(payment_id, other, amount=amount))]
    told += [await outcome_of(client.refund(payment_id, other, amount=100, request_id="part"))]
    told += [await outcome_of(client.refund(payment_id, cannot, request_id="rest"))]
    told += [await outcome_of(client.refund(payment_id, cannot, request_id="rest"))]
    told += [await outcome_of(client.refund(payment_id, cannot, request_id="more"))]
    return [*told, await outcome_of(client.initiate(a_purchase("TRIP-1"))), *await history(client, 6)]


async def sending_all_back(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.pay(payment_id)
    told = [await outcome_of(client.refund(payment_id, RefundReason.REFUND_REASON_CANNOT_DELIVER))]
    return [*told, *await history(client, 5)]


def read(answer: GetReceiptResponse) -> dict[str, Any]:
    """What a receipt says, without who issues it and what differs from run to run."""
    told: dict[str, Any] = MessageToDict(answer.receipt)
    names = ("receiptNumber", "paymentId", "accountReference", "mpesaReceiptNumber", "verificationUrl")
    present = {name: bool(told.pop(name)) for name in (*names, "payTime", "issueTime")}
    issuer = sorted(told.pop("issuer"))
    parts = [part["amount"] for part in told.pop("refunds", ())]
    pages = len(PdfReader(BytesIO(answer.pdf)).pages)
    return told | present | {"issuer": issuer, "parts": parts, "pages of the PDF": pages}


async def holding_a_receipt(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    told = [await outcome_of(client.get_receipt(payment_id))]
    await world.pay(payment_id)
    told += [read(await client.get_receipt(payment_id))]
    for amount in (None, 100, 400):
        if amount is not None:
            asked = await client.refund(payment_id, RefundReason.REFUND_REASON_OTHER, amount=amount)
            await world.send_back(payment_id, asked.payment.refund.refund_id, whole=False)
        await world.issue_receipts()
        told += [read(await client.get_receipt(payment_id)), seen((await client.get(payment_id)).payment)]
        await world.issue_receipts()
    told += [await outcome_of(client.get_receipt("not an id")), await outcome_of(client.get_receipt(str(uuid4())))]
    events = (await client.get(payment_id)).payment.version
    receipts = [event for event in await take(client.watch_payments(), events) if event.type in OF_RECEIPTS]
    return [*told, *map(noted, receipts)]


async def asking_for_a_receipt_that_nobody_issues(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.pay(payment_id)
    return [await outcome_of(client.get_receipt(payment_id))]


async def asking_wrongly(world: World, client: PaymentsClient) -> Transcript:
    wrong = [
        Purchase(booking_id="", phone_number="", amount=0, request_id=""),
        replace(a_purchase(), account_reference="a b", description="far too long a text", language_code="fr"),
        replace(a_purchase(), phone_number="+15551234567", amount=-1),
        replace(a_purchase(), shortcode="12"),
        replace(a_purchase(), amount=300_000),
    ]
    told = [await outcome_of(client.initiate(one)) for one in wrong]
    told += [await outcome_of(client.get("not an id")), await outcome_of(client.get(reference="x"))]
    told += [await outcome_of(client.get(str(uuid4()))), await outcome_of(client.retry(str(uuid4())))]
    told += [await outcome_of(client.retry("not an id", phone_number="12"))]
    told += [await outcome_of(next_of(client.watch_payments(cursor="nonsense")))]
    told += [await outcome_of(next_of(client.watch_payment(str(uuid4()))))]
    return told


async def listing(world: World, client: PaymentsClient) -> Transcript:
    made = [await started(client, f"TRIP-{number}") for number in range(5)]
    await client.cancel(made[1])

    def numbers(payments: list[Payment]) -> list[int]:
        return [made.index(payment.payment_id) for payment in payments]

    cancelled = PaymentFilter(statuses=[PaymentStatus.PAYMENT_STATUS_CANCELLED])
    page = await client.list_page(page_size=2)
    rest = await client.list_page(page_size=2, page_token=page.next_page_token)
    told = [numbers(list(page.payments)), numbers(list(rest.payments)), bool(rest.next_page_token)]
    told += [numbers([one async for one in client.list_payments(cancelled)])]
    told += [numbers([one async for one in client.list_payments(PaymentFilter(booking_id="TRIP-3"))])]
    changed = client.list_page(cancelled, page_size=2, page_token=page.next_page_token)
    return [*told, await outcome_of(changed)]


async def following_one(world: World, client: PaymentsClient) -> Transcript:
    first = await client.initiate(a_purchase("TRIP-1"))
    payment_id = first.payment.payment_id
    stream = client.watch_payment(payment_id, cursor=first.cursor)
    await world.send(payment_id)
    await world.has_no_money(payment_id)
    # Events that the answer told of already may come again after its cursor.
    told: Transcript = [seen(payment) async for payment in stream if payment.version > 1]
    told += [[seen(payment) async for payment in client.watch_payment(payment_id)]]
    booking = client.watch_booking("TRIP-1")
    told += [seen(await next_of(booking))]
    await client.retry(payment_id)
    return [*told, seen(await next_of(booking))]


async def following_all(world: World, client: PaymentsClient) -> Transcript:
    payment_id = await started(client)
    await world.send(payment_id)
    await world.pay(payment_id)
    completed = client.watch_payments(statuses=[PaymentStatus.PAYMENT_STATUS_COMPLETED])
    told = [noted(await next_of(completed))]
    events = await take(client.watch_payments(), 4)
    told += [[noted(event) for event in await take(client.watch_payments(cursor=events[1].cursor), 2)]]
    first, cursor = await next_of(client.watch_batches(from_now=True))
    return [*told, first, (await next_of(client.watch_batches(cursor=cursor)))[0]]


async def acknowledging(world: World, client: PaymentsClient) -> Transcript:
    await started(client)
    await started(client, "TRIP-2")
    events = await take(client.watch_payments(), 2)
    lags = [(await client.acknowledge("sms", event.cursor)).lag_events for event in (*events, events[0])]
    return [*lags, await outcome_of(client.acknowledge("sms", "nonsense"))]


SCENARIOS: tuple[Scenario, ...] = (
    paying,
    having_no_money_and_trying_again,
    declining,
    declining_while_the_seat_is_held,
    not_answering,
    paying_after_the_hold,
    paying_late_where_that_is_welcome,
    asking_twice,
    withdrawing,
    sending_money_back,
    sending_all_back,
    holding_a_receipt,
    asking_for_a_receipt_that_nobody_issues,
    asking_wrongly,
    listing,
    following_one,
    following_all,
    acknowledging,
)

WITH_AN_ISSUER = (holding_a_receipt,)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
async def test_a_caller_cannot_tell_the_fake_from_the_service(
    scenario: Scenario, database: Database, tmp_path: Path
) -> None:
    issues, url = scenario in WITH_AN_ISSUER, database.application_url
    async with real_world(url, tmp_path, issues_receipts=issues) as world, client_of(world.address) as client:
        expected = await scenario(world, client)
    async with fake_world(issues_receipts=issues) as world, client_of(world.address) as client:
        found = differences(expected, await scenario(world, client))
        assert not found, "\n".join(found)
    assert expected


def differences(service: Any, fake: Any, where: str = "") -> list[str]:
    """Leaf by leaf, so that a failure can be read."""
    if isinstance(service, list) and isinstance(fake, list) and len(service) == len(fake):
        pairs = [(f"{where}[{number}]", *pair) for number, pair in enumerate(zip(service, fake, strict=True))]
    elif isinstance(service, dict) and isinstance(fake, dict):
        names = sorted(service.keys() | fake.keys())
        pairs = [(f"{where}.{name}", service.get(name), fake.get(name)) for name in names]
    else:
        return [] if service == fake else [f"{where}: the service says {service!r}, the fake {fake!r}"]
    return [difference for place, one, other in pairs for difference in differences(one, other, place)]
