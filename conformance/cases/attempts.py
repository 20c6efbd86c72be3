"""One booking, several attempts: never two prompts, never two confirmations."""

from __future__ import annotations

import asyncio
import uuid

import grpc.aio
from mpesa_payments.v1 import money_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from conformance.account import Seen
from conformance.caller import a_request, has_reason, has_status, refusal_of, refused
from conformance.installation import RETRY_WAIT_SECONDS, Installation
from conformance.judgement import expect, until
from conformance.running import case
from conformance.simulator import UNTIL_TOLD, a_number
from development.slowness import slowness

CALLERS = 50


@case
async def fifty_callers_one_booking(town: Installation) -> Seen:
    """Fifty calls with different request ids ask for one booking at the same moment, through two processes."""
    booking = f"BK-{uuid.uuid4()}"
    phones = [await town.simulator.phone(UNTIL_TOLD) for _ in range(CALLERS)]
    calls = [
        (town.first if number % 2 else town.second).initiate(phone, booking_id=booking)
        for number, phone in enumerate(phones)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    started = [answer for answer in answers if isinstance(answer, pb.InitiatePaymentResponse)]
    refusals = {refusal_of(answer).name for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
    expect("payments made", len(started), 1)
    expect("refusals", refusals, {"FAILED_PRECONDITION/BOOKING_HAS_LIVE_PAYMENT"})
    await town.first.followed(started[0], has_status("PROCESSING"), "the answer to the push")
    prompts = [push for phone in phones for push in await town.simulator.pushes(phone=phone)]
    expect("pushes to all fifty phones", len(prompts), 1)
    await town.simulator.settle(prompts[0]["phone"], ending="paid")
    account = await town.account(started[0])
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen(f"{CALLERS - 1} × BOOKING_HAS_LIVE_PAYMENT")


@case
async def late_money_beside_a_live_attempt(town: Installation) -> Seen:
    """The first attempt fails; while the second is on the phone, the first one's money comes; then the second's."""
    phone = a_number("001")
    first = await town.first.initiate(phone)
    failed = await town.account(first, has_status("FAILED"))
    second_phone = await town.simulator.phone(UNTIL_TOLD)
    second = await town.second.prompt(second_phone, booking_id=failed.payment.booking_id)
    await town.simulator.settle(phone, ending="paid")
    late = await town.account(first, has_status("COMPLETED"))
    late.must(late=True, action="CONFIRM", debited=500)
    await town.simulator.settle(second_phone, ending="paid")
    duplicate = await town.account(second, has_status("COMPLETED"))
    duplicate.must(action="REVIEW", debited=500)
    attempts = await town.first.listed(booking_id=failed.payment.booking_id)
    expect("the attempts' numbers", [payment.attempt for payment in attempts], [2, 1])
    said = f"attempt 1: {late.path}, CONFIRM; attempt 2: {duplicate.path}, REVIEW"
    return Seen(said, "2 prompts, KES 500 paid twice")


@case
async def bad_request_uses_up_nothing(town: Installation) -> Seen:
    """A request with a wrong amount and a wrong phone is refused; corrected, it comes with the same request id."""
    request = a_request(a_number(), amount=money_pb2.Money(currency_code="KES", units=0), request_id=str(uuid.uuid4()))
    request.phone_number = "12345"
    refusal = await refused(town.first.ask(request))
    expect("the refusal", refusal.name, "INVALID_ARGUMENT/INVALID_REQUEST")
    expect("payments of this request", await town.first.listed(request_id=request.request_id), [])
    request.phone_number = a_number()
    request.amount.units = 500
    account = await town.account(await town.second.ask(request))
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen(f"{refusal.reason} before the correction")


@case
async def caller_hangs_up(town: Installation) -> Seen:
    """The caller hangs up while the push is on the wire, and asks again through another process."""
    phone = await town.simulator.phone({"answer_delay_seconds": slowness(), "callback_delay_seconds": 1.5 * slowness()})
    request = a_request(phone)
    call = asyncio.ensure_future(town.first.ask(request))
    await town.simulator.prompted(phone)
    call.cancel()
    replay = await town.second.ask(request)
    expect("the repeat", replay.replayed, True)
    account = await town.account(replay)
    account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen("the same payment")


@case
async def retry_too_early(town: Installation) -> Seen:
    """The passenger cancels; RetryPayment is called at once, and again until it is allowed."""
    cancelled = await town.lived(a_number("032"))
    early = await refused(town.second.retry(cancelled.payment))
    expect("the refusal", early.name, "FAILED_PRECONDITION/RETRY_TOO_EARLY")
    expect("a time to wait is named", 0 < (early.retry_after or 0) <= RETRY_WAIT_SECONDS, True)
    phone = a_number()

    async def allowed() -> pb.RetryPaymentResponse | None:
        try:
            return await town.second.retry(cancelled.payment, phone_number=phone)
        except grpc.aio.AioRpcError as error:
            expect("the refusal", refusal_of(error).reason, "RETRY_TOO_EARLY")
            return None

    account = await town.account(await until(allowed, "another attempt"))
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    expect("the attempt before it", account.payment.retry_of, cancelled.payment.payment_id)
    return account.seen(f"{early.reason} with the time, then attempt 2")


@case
async def retry_on_another_phone(town: Installation) -> Seen:
    """The first phone has no money; RetryPayment names another, ten times at once with one request id."""
    failed = await town.lived(a_number("001"))
    phone, request_id = a_number(), str(uuid.uuid4())
    callers = [town.first, town.second] * 5
    answers = await asyncio.gather(
        *(caller.retry(failed.payment, phone_number=phone, request_id=request_id) for caller in callers)
    )
    expect("different attempts", len({answer.payment.payment_id for answer in answers}), 1)
    account = await town.account(answers[0])
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    expect("the attempt before it", account.payment.retry_of, failed.payment.payment_id)
    expect("pushes to the other phone", len(await town.simulator.pushes(phone=phone)), 1)
    return account.seen("10 answers, attempt 2")


@case
async def cancel_after_the_prompt(town: Installation) -> Seen:
    """CancelPayment comes while the prompt is on the phone; then the passenger pays."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    late = await refused(town.second.cancel(started.payment))
    expect("the refusal", late.name, "FAILED_PRECONDITION/CANCEL_TOO_LATE")
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    return account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500).seen(f"{late.reason} before")


@case
async def cancel_before_the_prompt(town: Installation) -> Seen:
    """Safaricom is under maintenance and takes no push; CancelPayment comes between two tries."""
    phone = await town.simulator.phone(*[{"error": "maintenance"}] * 4)
    request = a_request(phone)
    asking = asyncio.ensure_future(town.first.ask(request))

    async def withdrawn() -> pb.CancelPaymentResponse | None:
        for payment in await town.second.listed(request_id=request.request_id):
            try:
                return await town.second.cancel(payment)
            except grpc.aio.AioRpcError as error:
                # While a try is on the wire.
                expect("the refusal", refusal_of(error).reason, "CANCEL_TOO_LATE")
        return None

    answer = await until(withdrawn, "the withdrawal")
    account = await town.account(await asking, lambda payment: payment == answer.payment)
    account.must(status="CANCELLED", reason="WITHDRAWN", action="OFFER_RETRY", certain=True, prompts=0)
    paid = await town.lived(a_number(), booking_id=request.booking_id)
    paid.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen("the next attempt pays at once")


@case
async def nobody_is_asked_to_pay_what_is_paid(town: Installation) -> Seen:
    """Attempt 2 is on the phone when the money of attempt 1 comes: what attempt 2 says must invite nobody to pay."""
    failed = await town.lived(a_number("001"))
    phone = await town.simulator.phone(UNTIL_TOLD)
    second = await town.second.prompt(phone, booking_id=failed.payment.booking_id)
    await town.simulator.settle(failed.ledger[0]["phone"], ending="paid")
    told = await town.account(second, has_reason("SIBLING_PAID"))
    said = "This booking is already paid. Do not enter your PIN."
    expect("the sentence", told.payment.customer_message, said)
    await town.simulator.settle(phone, ending="cancelled")
    account = await town.account(second, has_status("CANCELLED"))
    return account.must(certain=True, prompts=1, debited=0).seen("attempt 1: COMPLETED, CONFIRM")


@case
async def default_shortcode_named_in_a_repeat(town: Installation) -> Seen:
    """A request names no shortcode; its repeat names the one that is used then."""
    request = a_request(a_number())
    account = await town.account(await town.first.ask(request))
    request.shortcode = account.ledger[0]["shortcode"]
    repeat = await town.second.ask(request)
    expect("the repeat", (repeat.replayed, repeat.payment.payment_id), (True, account.payment.payment_id))
    return account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500).seen("the same payment")


@case
async def phone_that_never_pays(town: Installation) -> Seen:
    """A phone declines the prompts of three bookings; a fourth is asked for ten times at once, in two processes."""
    phone = await town.simulator.phone(UNTIL_TOLD, UNTIL_TOLD, UNTIL_TOLD)
    for _ in range(3):
        started = await town.first.prompt(phone)
        await town.simulator.settle(phone, ending="cancelled")
        (await town.account(started, has_status("CANCELLED"))).must(prompts=1, debited=0)
    refusals = await asyncio.gather(*(refused(by.initiate(phone)) for by in [town.first, town.second] * 5))
    expect("the refusals", {one.name for one in refusals}, {"RESOURCE_EXHAUSTED/TOO_MANY_PROMPTS"})
    expect("what has had its share", {one.metadata["subject"] for one in refusals}, {"phone"})
    expect("a time to wait is named", all(0 < (one.retry_after or 0) <= 3600 for one in refusals), True)
    expect("pushes to the phone", len(await town.simulator.pushes(phone=phone)), 3)
    (await town.lived(a_number())).must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return Seen("3 × CANCELLED, 10 × TOO_MANY_PROMPTS", "3 prompts, nothing paid; another phone pays")


# By the phone's last digits: what the callback says, and for how long no other attempt makes sense, seconds.
WAITS = {"017": 120, "101": 60, "004": 60}


@case
async def retry_waits_as_long_as_the_reason_says(town: Installation) -> Seen:
    """One passenger has just paid the same amount, one has another prompt open, one has reached the daily limit."""
    accounts = await asyncio.gather(*(town.lived(a_number(ends)) for ends in WAITS))
    for account, seconds in zip(accounts, WAITS.values(), strict=True):
        account.must(status="FAILED", action="OFFER_RETRY", certain=True, debited=0)
        payment = account.payment
        wait = payment.retry_allowed_time.ToDatetime() - payment.update_time.ToDatetime()
        expect(f"{wait.total_seconds():.0f} s to wait, at least {seconds}", wait.total_seconds() >= seconds - 1, True)
        early = await refused(town.second.retry(payment))
        expect("the refusal", early.name, "FAILED_PRECONDITION/RETRY_TOO_EARLY")
    return Seen("3 × FAILED; RETRY_TOO_EARLY with the time", "nothing paid")
