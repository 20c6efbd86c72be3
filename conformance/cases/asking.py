"""When nobody tells what became of a prompt, Safaricom is asked and its books are read: within limits, with care."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

from conformance.account import Seen
from conformance.caller import action_of, has_action, has_receipt, has_status, status_of
from conformance.installation import QUERIES_PER_MINUTE, SOON_ASKED, SOON_GIVEN_UP, Installation
from conformance.judgement import expect, until
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
# From the send to the end of the watch.
WATCH_SECONDS = 8 * slowness()


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
    account = await town.lived(await town.simulator.phone({"callback_without": ["MpesaReceiptNumber"]}))
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
    """Ten passengers pay without a callback, through two processes; four processes may ask ten times a minute."""
    askers = [await arena.add_service(name, SOON_ASKED) for name in ("asker", "other_asker")]
    asked_before, began = (await arena.simulator.shown("totals"))["queries_asked"], time.monotonic()
    phones = [await arena.simulator.phone(NO_NEWS) for _ in range(UNTOLD)]
    callers = itertools.cycle(askers)
    await asyncio.gather(*(next(callers).prompt(phone) for phone in phones))

    async def enough_settled() -> int | None:
        statuses = [status_of(payment) for payment in await arena.first.listed(page_size=UNTOLD)]
        settled = statuses.count("COMPLETED")
        expect("those that wait", statuses.count("PROCESSING"), UNTOLD - settled)
        return settled if settled >= SETTLED else None

    settled = await until(enough_settled, "payments settled by queries")
    asked = (await arena.simulator.shown("totals"))["queries_asked"] - asked_before
    # One that was saved up, and what the time allows: a slow machine allows more, never less.
    allowed = 1 + (time.monotonic() - began) * QUERIES_PER_MINUTE / 60
    expect(f"{asked} queries are within the {allowed:.1f} allowed", asked <= allowed, True)
    # The others need not wait for their turn.
    await asyncio.gather(*(arena.simulator.settle(phone, ending="paid") for phone in phones))
    for name in ("asker", "other_asker"):
        await arena.stop(name)
    pushes = [push for phone in phones for push in await arena.simulator.pushes(phone=phone)]
    expect("what was paid", [push["debited_kes"] for push in pushes], [500] * UNTOLD)
    return Seen(f"{settled} × COMPLETED, the others wait", f"{asked} queries asked; {UNTOLD} × 1 prompt, KES 500 paid")


@case_alone
async def silent_for_the_whole_watch(arena: Installation) -> Seen:
    """No callback comes and no query is answered; after the watch two of five tell that they had paid."""
    brief = await arena.add_service(
        "brief", {**SOON_ASKED, **SOON_GIVEN_UP, "PAYMENTS_WATCH_FOR_S": str(WATCH_SECONDS)}
    )
    # A prompt that another process sends has the times of that one.
    for name in ("first", "second"):
        await arena.stop(name)
    phones = [await arena.simulator.phone({**UNTIL_TOLD, "queries": NOTHING_ELSE}) for _ in range(5)]
    started = await asyncio.gather(*(brief.prompt(phone) for phone in phones))
    for one in started:
        (await arena.account(one, by=brief)).must(status="EXPIRED", certain=False, prompts=1, debited=0)
    # The watch is counted from the send, which was before.
    ended_at = datetime.now(UTC)

    async def watched() -> bool | None:
        return datetime.now(UTC) > ended_at + timedelta(seconds=WATCH_SECONDS) or None

    await until(watched, "the end of the watch")
    for one in started:
        (await arena.account(one, by=brief)).must(status="EXPIRED", certain=False, prompts=1, debited=0)
    await asyncio.gather(*(arena.start_again(name) for name in ("first", "second")))
    await arena.stop("brief")
    for phone in phones[:2]:
        expect("the answer to the callback", await arena.simulator.settle(phone, ending="paid"), [200])
    for one in started[:2]:
        account = await arena.account(one, has_status("COMPLETED"))
        account.must(late=True, certain=True, prompts=1, debited=500)
    return Seen("5 × EXPIRED, never certain; 2 × COMPLETED at last", "5 × 1 prompt, 2 × KES 500 paid")
