"""The cases that everyone who takes M-Pesa payments meets sooner or later, and must not get wrong."""

from __future__ import annotations

import asyncio
import itertools

import grpc.aio
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import operations_service_pb2 as operations_pb
from mpesa_payments.v1 import payment_service_pb2 as pb

from conformance.account import Account, Seen
from conformance.bodies import success_body
from conformance.caller import (
    Refusal,
    a_request,
    action_of,
    has_action,
    has_reason,
    has_receipt,
    has_status,
    reason_of,
    refusal_of,
    refused,
    status_of,
)
from conformance.cases.answers import confirmed_by_callback
from conformance.cases.casework import operations
from conformance.installation import RETRY_WAIT_SECONDS, Installation
from conformance.judgement import PATIENCE_SECONDS, NotSo, expect, until
from conformance.running import case, case_asked_soon, case_given_up_soon, case_with_certificates
from conformance.simulator import NO_NEWS, UNTIL_TOLD, a_number
from development.slowness import slowness

MANY = 200
# Each takes as much longer as the machine is slower, and so does each of the others that it waits for.
MANY_AT_ONCE = max(1, int(MANY / slowness() ** 2))
# A busy machine may be too late for some of them.
PASSENGERS_CUT_MAX = 8
PASSENGERS_ASKED_ABOUT_MAX = 4


@case_with_certificates
async def happy_path(town: Installation) -> Seen:
    """Two hundred passengers pay, asked through two processes."""
    callers, places = itertools.cycle([town.first, town.second]), asyncio.Semaphore(MANY_AT_ONCE)

    async def passenger() -> Account:
        async with places:
            return await town.lived(a_number(), by=next(callers))

    accounts = await asyncio.gather(*(passenger() for _ in range(MANY)))
    for account in accounts:
        account.must(status="COMPLETED", action="CONFIRM", certain=True, late=False, prompts=1, debited=500)
    expect("different receipts", len({account.receipt for account in accounts}), MANY)
    return Seen(f"{MANY} × COMPLETED, CONFIRM, a receipt each", f"{MANY} × 1 prompt, KES 500 paid")


@case
async def callback_before_the_answer(town: Installation) -> Seen:
    """The callback arrives while the push is still being answered."""
    # Half of the time that the service waits for an answer: many times what a callback takes.
    phone = await town.simulator.phone({"callback": "before_answer", "answer_delay_seconds": RETRY_WAIT_SECONDS / 2})
    account = await town.lived(phone)
    return account.must(path="PENDING → COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500).seen()


@case
async def answer_to_the_push_lost(town: Installation) -> Seen:
    """The phone has the prompt, the connection closes without an answer; then the callback comes."""
    phone = await town.simulator.phone({**UNTIL_TOLD, "answer": "lost"})
    account = await confirmed_by_callback(town, phone)
    account.must(path="PENDING → PROCESSING → COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen("CONFIRMING in between")


@case
async def same_request_in_two_processes(town: Installation) -> Seen:
    """Twenty calls with one request id, ten to each of two processes, at the same moment."""
    phone = a_number()
    request = a_request(phone)
    answers = await asyncio.gather(*(caller.ask(request) for caller in [town.first, town.second] * 10))
    expect("different payments", len({answer.payment.payment_id for answer in answers}), 1)
    expect("answers that were no repeat", sum(not answer.replayed for answer in answers), 1)
    account = await town.account(answers[0])
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    expect("pushes to the phone", len(await town.simulator.pushes(phone=phone)), 1)
    return account.seen("20 answers, 1 payment")


@case
async def same_request_with_other_content(town: Installation) -> Seen:
    """A request id comes again, through another process, with another amount and another phone."""
    request, other = a_request(a_number()), pb.InitiatePaymentRequest()
    account = await town.account(await town.first.ask(request))
    other.CopyFrom(request)
    other.phone_number = a_number()
    other.amount.CopyFrom(money_pb2.Money(currency_code="KES", units=700))
    conflict = await refused(town.second.ask(other))
    expect("the refusal", conflict.name, "ALREADY_EXISTS/REQUEST_ID_REUSED")
    expect("the fields it names", set(conflict.metadata["fields"].split(",")), {"amount", "phone_number"})
    expect("the payment it names", conflict.metadata["payment_id"], account.payment.payment_id)
    expect("pushes to the other phone", await town.simulator.pushes(phone=other.phone_number), [])
    return account.must(status="COMPLETED", prompts=1, debited=500).seen(f"then {conflict.name}: amount, phone_number")


@case
async def duplicate_and_parallel_callbacks(town: Installation) -> Seen:
    """The callback comes twice at the same moment, and twenty times more, all at once."""
    phone = await town.simulator.phone({"callback": "twice", "callback_gap_seconds": 0})
    account = await town.lived(phone)
    again = await asyncio.gather(*(town.simulator.resend(phone) for _ in range(20)))
    expect("answers to the repeats", again, [[200]] * 20)
    expect("the payment afterwards", await town.second.get(account.payment.payment_id), account.payment)
    completed = [event for event in account.events if has_status("COMPLETED")(event.payment)]
    expect("events of the money", len(completed), 1)
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen("1 event of the money, 1 receipt", "22 callbacks, all answered 200")


@case
async def failure_then_success(town: Installation) -> Seen:
    """The callback says wrong PIN; then the money moves all the same, and a second callback says so."""
    phone = a_number("201")
    started = await town.first.initiate(phone)
    await town.first.followed(started, has_status("FAILED"), "the failure")
    expect("the answer to the second callback", await town.simulator.settle(phone, ending="paid"), [200])
    account = await town.account(started, has_status("COMPLETED"))
    account.must(status="COMPLETED", late=True, action="CONFIRM", prompts=1, debited=500)
    return account.seen()


@case_given_up_soon
async def expiry_then_success(town: Installation) -> Seen:
    """No result comes in time; the passenger pays after the payment was given up."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    started = await town.first.prompt(phone)
    expired = await town.account(started, has_status("EXPIRED"))
    expired.must(action="OFFER_RETRY", certain=False, debited=0)
    expect("the answer to the callback", await town.simulator.settle(phone, ending="paid"), [200])
    account = await town.account(started, has_status("COMPLETED"))
    account.must(path="PENDING → PROCESSING → EXPIRED → COMPLETED", late=True, action="REVIEW", prompts=1, debited=500)
    return account.seen()


@case
async def forged_callbacks(town: Installation) -> Seen:
    """A perfect success is posted with a token that is wrong, missing, another payment's, or of another path."""
    phone = await town.simulator.phone(UNTIL_TOLD)
    other = await town.simulator.phone(UNTIL_TOLD)
    started, _ = await town.first.prompt(phone), await town.first.prompt(other)
    push, other_push = await town.simulator.prompted(phone), await town.simulator.prompted(other)
    stem, _, token = push["callback_url"].rpartition("/")
    stolen = other_push["callback_url"].rpartition("/")[2]
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    body = success_body(push, "FORGED0001")
    forged = [f"{stem}/{wrong}", f"{stem}/{stolen}", f"{stem}/", f"{stem}/{'0' * len(token)}", stem]
    forged += [f"{stem.replace('/stk/', '/result/')}/{token}"]
    answers = [(await town.edge.post(url, content=body)).status_code for url in forged]
    expect("answers to the forged callbacks", answers, [404] * len(forged))
    expect("the payment afterwards", await town.first.get(started.payment.payment_id), started.payment)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started)
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen(f"nothing of {len(forged)} forged callbacks, all answered 404", "the real callback came last")


@case
async def wrong_amount(town: Installation) -> Seen:
    """The callback says that KES 5 was paid where 500 was asked for."""
    phone = await town.simulator.phone({"callback_items": {"Amount": 5}, "pull": "never"})
    started = await town.first.initiate(phone)
    account = await town.account(started, has_reason("AMOUNT_DIFFERS"))
    account.must(status="PROCESSING", action="REVIEW", receipt="", prompts=1)
    barred = await refused(town.first.initiate(a_number(), booking_id=started.payment.booking_id))
    expect("another attempt", barred.code, "FAILED_PRECONDITION")
    return account.seen(f"another attempt: {barred.reason}", "callback says KES 5")


@case_asked_soon
async def query_contradicts_the_callback(town: Installation) -> Seen:
    """While a query is being answered the callback comes; then the query says the opposite. Once each way."""
    cancelled, paid = await asyncio.gather(contradicted(town, "cancelled"), contradicted(town, "paid"))
    under_review = await town.account(cancelled, has_action("REVIEW"))
    under_review.must(status="CANCELLED", prompts=1, debited=0)
    kept = await town.account(paid)
    kept.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    said = "callback says cancelled: CANCELLED, REVIEW; callback says paid: COMPLETED, CONFIRM"
    return Seen(said, "nothing paid; KES 500 paid")


async def contradicted(town: Installation, ending: str) -> pb.InitiatePaymentResponse:
    """A payment that is settled by its callback while a query that says the opposite is under way."""
    for _ in range(PASSENGERS_ASKED_ABOUT_MAX):
        if (started := await contradicted_by_an_answer(town, ending)) is not None:
            return started
    raise NotSo(f"the first query was not answered with HTTP 200 for any of {PASSENGERS_ASKED_ABOUT_MAX} payments")


async def contradicted_by_an_answer(town: Installation, ending: str) -> pb.InitiatePaymentResponse | None:
    """None where the service gave the query up before it was answered, as it may on a busy machine."""
    phone = await town.simulator.phone({**UNTIL_TOLD, "queries": ["contradiction"]})
    await town.simulator.hold_queries(phone)
    hits = "query.says_paid" if ending == "cancelled" else "query.says_failed"
    hits_before = await town.simulator.shown_hits(hits)
    started = await town.first.initiate(phone)
    await town.simulator.query_waits(phone)
    await town.simulator.settle(phone, ending=ending)
    await town.account(started, has_status("CANCELLED" if ending == "cancelled" else "COMPLETED"))
    await town.simulator.let_queries_go(phone)
    story_of = operations_pb.ExplainPaymentRequest(reference=started.payment.reference)

    async def recorded() -> str | None:
        story = await operations(town.first).ExplainPayment(story_of, timeout=PATIENCE_SECONDS)
        return next((moment.what for moment in story.moments if moment.what.startswith("query: ")), None)

    if not (await until(recorded, "what has become of the query")).startswith("query: HTTP 200"):
        return None
    expect("whether the query said the opposite", await town.simulator.shown_hits(hits) > hits_before, True)
    return started


@case_asked_soon
async def query_answered_429(town: Installation) -> Seen:
    """No callback comes, and the first query is answered 429."""
    phone = await town.simulator.phone({**NO_NEWS, "queries": ["rate_limited"]})
    account = await town.account(await town.first.initiate(phone), has_receipt)
    account.must(status="COMPLETED", action="CONFIRM", receipt_was_pending=True, prompts=1, debited=500)
    return account.seen("asked again after a pause")


@case_with_certificates
async def killed_between_push_and_commit(arena: Installation) -> Seen:
    """The process is killed with -9 while the phone has the prompt and the answer is under way; another takes over."""
    for _ in range(PASSENGERS_CUT_MAX):
        if (left := await cut_by_a_kill(arena)) is not None:
            break
        await arena.mend()
    else:
        raise NotSo(f"no kill cut the push of any of {PASSENGERS_CUT_MAX} passengers")
    phone, cut, replay = left
    uncertain = await arena.first.get(replay.payment.payment_id)
    expect("what the booking may do", action_of(uncertain), "WAIT")
    await arena.simulator.settle(phone, ending="paid")
    account = await arena.account(replay)
    account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen(f"{cut.code}, then the same payment, CONFIRMING in between")


async def cut_by_a_kill(arena: Installation) -> tuple[str, Refusal, pb.InitiatePaymentResponse] | None:
    """The phone, what its caller heard, and its payment, which waits; None where the kill cut no push.

    On a busy machine the caller's 5 s may be over before the kill, or another process may have sent the push. There
    is no second push either way, and the payment has not ended unpaid.
    """
    phone = await arena.simulator.phone({**NO_NEWS, "answer_delay_seconds": 30})
    request = a_request(phone)
    push_timeout = 2 * slowness()
    times = {"PAYMENTS_PUSH_TIMEOUT_S": str(push_timeout), "PAYMENTS_LEASE_S": str(push_timeout + 3)}
    doomed = await arena.add_service("doomed", times)
    call = asyncio.ensure_future(doomed.ask(request))
    await arena.simulator.prompted(phone)
    await arena.kill("doomed")
    cut: Refusal | None = None
    try:
        await call
    except grpc.aio.AioRpcError as error:
        cut = refusal_of(error)
    replay = await arena.first.ask(request)
    expect("a repeat of the call", replay.replayed, True)

    def was_sent(payment: payment_pb2.Payment) -> bool:
        return status_of(payment) != "PENDING"

    found = await arena.first.when(replay.payment.payment_id, was_sent, "CONFIRMING, or the answer to the push")
    pushes = await arena.simulator.pushes(phone=phone)
    expect("pushes to the phone, and whether each was shown", [push["prompted"] for push in pushes], [True])
    if status_of(found) not in ("PROCESSING", "COMPLETED"):
        raise NotSo(f"the payment is {status_of(found)} while the phone has the prompt and may still pay")
    return (phone, cut, replay) if cut is not None and reason_of(found) == "CONFIRMING" else None


@case
async def receipt_reaches_the_consumer(town: Installation) -> Seen:
    """A consumer follows all events; another process is asked for the receipt number."""
    started = await town.first.initiate(a_number())
    account = await town.account(started)
    told = await town.second.told(started.cursor, lambda payment: payment == account.payment, "the money")
    expect("the receipt in the stream", told.mpesa_receipt_number, account.ledger[0]["receipt"])
    found = await town.second.listed(mpesa_receipt_number=account.receipt)
    expect("payments with this receipt", found, [account.payment])
    return account.must(status="COMPLETED", prompts=1, debited=500).seen("receipt in the stream and in the list")
