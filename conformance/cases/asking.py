"""When nobody tells what became of a prompt, Safaricom is asked and its books are read: within limits, with care."""

from __future__ import annotations

import asyncio
import itertools
import time

from mpesa_payments.v1 import operations_service_pb2 as operations_pb
from mpesa_payments.v1 import payment_pb2

from conformance.account import Seen
from conformance.caller import action_of, has_action, has_receipt, has_status, status_of
from conformance.cases.casework import operations
from conformance.installation import QUERIES_PER_MINUTE, SOON_ASKED, Installation
from conformance.judgement import PATIENCE_SECONDS, expect, until
from conformance.running import case, case_alone, case_asked_soon, case_given_up_soon
from conformance.simulator import NO_NEWS, UNTIL_TOLD
from development.slowness import slowness

NONSENSE = ("html", "empty", "wrong_types")
# The answer to the push is lost long before the passenger pays, and no callback comes.
LOST = {"answer": "lost", "callback": "never", "callback_delay_seconds": 2 * slowness()}
# More than can be asked before a prompt is given up.
NOTHING_ELSE = ["html"] * 100
UNTOLD = 10
# As many as four processes with a budget each would settle at once.
SETTLED = 4


@case_asked_soon
async def callback_never_comes(town: Installation) -> Seen:
    """The passenger pays, and no callback ever comes: a query tells of the money, Transaction Status of the receipt."""
    account = await town.account(await town.first.initiate(await town.simulator.phone(NO_NEWS)), has_receipt)
    account.must(path="PENDING → PROCESSING → COMPLETED", receipt_was_pending=True, prompts=1, debited=500)
    paid = next(event for event in account.events if has_status("COMPLETED")(event.payment))
    expect("what the booking may do at the first answer", action_of(paid.payment), "WAIT")
    return account.must(action="CONFIRM", receipt_was_pending=True).seen("WAIT before", "no callback")


@case_asked_soon
async def callback_of_a_refusal_never_comes(town: Installation) -> Seen:
    """The passenger cancels, and no callback ever comes."""
    account = await town.lived(await town.simulator.phone({**NO_NEWS, "ending": "cancelled"}))
    account.must(path="PENDING → PROCESSING → CANCELLED", action="OFFER_RETRY", prompts=1, debited=0)
    return account.must(reason="DECLINED_BY_CUSTOMER").seen(ledger="no callback")


@case_asked_soon
async def query_answered_with_nonsense(town: Installation) -> Seen:
    """No callback comes, and the first queries are answered with a page, with nothing, and with the wrong types."""
    phone = await town.simulator.phone({**NO_NEWS, "queries": list(NONSENSE)})
    account = await town.account(await town.first.initiate(phone), has_status("COMPLETED"))
    account.must(reason="RECEIPT_PENDING", action="WAIT", prompts=1, debited=500)
    return account.seen(ledger="no callback")


@case
async def answer_and_callback_lost(town: Installation) -> Seen:
    """The answer to the push is lost and no callback comes: there is no id to ask by, but the books have the money."""
    account = await town.lived(await town.simulator.phone(LOST))
    account.must(path="PENDING → PROCESSING → COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen(ledger="no callback")


@case
async def receipt_is_in_the_books(town: Installation) -> Seen:
    """The callback says paid without a receipt number; Safaricom's books have it."""
    # The books show the money later than its callback tells of it, however long that takes to be heard.
    late = {"callback_without": ["MpesaReceiptNumber"], "pull_delay_seconds": 5 * slowness()}
    account = await town.lived(await town.simulator.phone(late))
    account.must(status="COMPLETED", action="CONFIRM", receipt_was_pending=True, prompts=1, debited=500)
    return account.seen("RECEIPT_PENDING, WAIT in between")


@case
async def books_have_the_money_under_another_type(town: Installation) -> Seen:
    """Answer and callback are lost, and the books show the money under a transaction type that nobody lists."""
    phone = await town.simulator.phone({**LOST, "quirks": ["pull.type_other"]})
    account = await town.account(await town.first.initiate(phone), has_action("REVIEW"))
    account.must(action="REVIEW", pushes=1, prompts=1, debited=500)
    return account.seen("a person decides", "no callback")


@case
async def books_say_nothing_was_found(town: Installation) -> Seen:
    """Answer and callback are lost. The books say for a while that they found nothing, or that Pull does not work."""
    await town.simulator.control("pulls", behaviour={"quirks": ["pull.not_working"]}, count=5)
    account = await town.lived(await town.simulator.phone(LOST))
    account.must(path="PENDING → PROCESSING → COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    expect("how often nothing was found", await town.simulator.shown_hits("pull.not_working") > 0, True)
    return account.seen(ledger="no callback")


@case_given_up_soon
async def nothing_is_heard_in_time(town: Installation) -> Seen:
    """No callback comes and no query is answered until the payment is given up; then the passenger pays."""
    phone = await town.simulator.phone({**UNTIL_TOLD, "queries": NOTHING_ELSE})
    started = await town.first.prompt(phone)
    (await town.account(started, has_status("EXPIRED"))).must(action="OFFER_RETRY", certain=False, debited=0)
    await town.simulator.settle(phone, ending="paid")
    account = await town.account(started, has_status("COMPLETED"))
    account.must(path="PENDING → PROCESSING → EXPIRED → COMPLETED", late=True, action="REVIEW", prompts=1, debited=500)
    return account.seen()


@case_alone
async def queries_share_one_budget(arena: Installation) -> Seen:
    """Ten passengers pay without a callback, through two processes; four processes may ask thirty times a minute."""
    names = ("asker", "other_asker")
    askers = await asyncio.gather(*(arena.add_service(name, SOON_ASKED) for name in names))
    phones = [await arena.simulator.phone(NO_NEWS) for _ in range(UNTOLD)]
    asked_before, began = await queries_asked(arena), time.monotonic()
    callers = itertools.cycle(askers)
    prompts = asyncio.gather(*(next(callers).prompt(phone) for phone in phones))

    async def first_question() -> bool | None:
        nonlocal began
        looked = time.monotonic()
        if await queries_asked(arena) > asked_before:
            return True
        began = looked
        return None

    await until(first_question, "the first query")
    await prompts

    async def enough_settled() -> int | None:
        statuses = [status_of(payment) for payment in await arena.first.listed(page_size=UNTOLD)]
        settled = statuses.count("COMPLETED")
        expect("those that wait", statuses.count("PROCESSING"), UNTOLD - settled)
        return settled if settled >= SETTLED else None

    settled = await until(enough_settled, "payments settled by queries")
    asked = await queries_asked(arena) - asked_before
    # One that was saved up, and what the time since then allows: a slow machine allows more, never less.
    allowed = 1 + (time.monotonic() - began) * QUERIES_PER_MINUTE / 60
    expect(f"{asked} queries are within the {allowed:.1f} allowed", asked <= allowed, True)
    # The others need not wait for their turn.
    await asyncio.gather(*(arena.simulator.settle(phone, ending="paid") for phone in phones))
    await asyncio.gather(*(arena.stop(name) for name in names))
    pushes = [push for phone in phones for push in await arena.simulator.pushes(phone=phone)]
    expect("what was paid", [push["debited_kes"] for push in pushes], [500] * UNTOLD)
    return Seen(f"{settled} × COMPLETED, the others wait", f"{asked} queries asked; {UNTOLD} × 1 prompt, KES 500 paid")


async def queries_asked(arena: Installation) -> int:
    return int((await arena.simulator.shown("totals"))["queries_asked"])


@case_given_up_soon
async def silent_for_the_whole_watch(town: Installation) -> Seen:
    """No callback comes and no query is answered; after the watch two of five tell that they had paid."""
    phones = [await town.simulator.phone({**UNTIL_TOLD, "queries": NOTHING_ELSE}) for _ in range(5)]
    started = await asyncio.gather(*(town.first.prompt(phone) for phone in phones))
    for one in started:
        (await town.account(one)).must(status="EXPIRED", certain=False, prompts=1, debited=0)
    for one in started:
        await watch_ended(town, one.payment)
        (await town.account(one)).must(status="EXPIRED", certain=False, prompts=1, debited=0)
    for phone in phones[:2]:
        expect("the answer to the callback", await town.simulator.settle(phone, ending="paid"), [200])
    for one in started[:2]:
        account = await town.account(one, has_status("COMPLETED"))
        account.must(late=True, certain=True, prompts=1, debited=500)
    return Seen("5 × EXPIRED, never certain; 2 × COMPLETED at last", "5 × 1 prompt, 2 × KES 500 paid")


async def watch_ended(town: Installation, payment: payment_pb2.Payment) -> None:
    """Wait until no more news is waited for, and operators have a case of it."""

    async def look() -> bool | None:
        known = operations_pb.FindPaymentsRequest(reference=payment.reference)
        found = await operations(town.first).FindPayments(known, timeout=PATIENCE_SECONDS)
        return [one.kind for one in found.cases] == [operations_pb.CASE_KIND_OUTCOME_UNKNOWN] or None

    await until(look, "the end of the watch")
