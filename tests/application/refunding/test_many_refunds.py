"""Many refunds with every fault of the simulator, drawn by a seed: its books and ours must agree about each.

Goal: no payment is refunded twice and none for more than was received, in whole or in parts; what we call returned has
gone back, what we call failed has not, and what we do not know is before a person. Method: what is asked for of each
payment, and each refund's answer, result and fate are drawn; between them processes die after their claim, results are
told twice or late, and timers run out. In the end time passes until nothing is left to do.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from daraja_simulator.returns import Order, Return
from payment_service.application.recording.record_facts import Submission
from payment_service.domain.payment import Payment
from payment_service.domain.refund_facts import RefundClaimed
from payment_service.domain.refunds import DOUBT_MAX
from tests.application.refunding.returning import Returning, returning
from tests.databases import Database
from tests.refund_faults import drawn, never_drawn
from tests.rows import count, rows_of

SEED = 20261145
PAYMENTS, PAYMENTS_AT_LENGTH = 30, 60
"""With this seed thirty draw every fault that there is; with more of them it takes as much longer."""

WANTED: list[list[int | None]] = [[None], [None], [200], [200, 150], [200, None]]
"""What is asked for of a payment, one after the other: all that is left, or a part."""


pytestmark = pytest.mark.slow


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


async def died_after_its_claim(refunds: Returning, refund_id: UUID) -> None:
    payment = refunds.payments[refund_id]
    claim = RefundClaimed(uuid4(), refunds.tools.operator.key)
    await refunds.tools.facts.submit(Submission(claim, payment.payment_id, refund_id=refund_id))


async def hear(refunds: Returning) -> None:
    """Until the simulator has posted all that it posts by itself."""
    quiet, before = 0, -1
    while quiet < 5:
        await asyncio.sleep(0.02)
        taken = len(refunds.enquiring.taken)
        quiet, before = (quiet + 1 if taken == before else 0), taken


async def ask_and_send(
    refunds: Returning, payment: Payment, amount: int | None, chance: random.Random
) -> dict[str, Any]:
    """What M-Pesa was told to do; nothing where the process died before it asked."""
    # Whatever M-Pesa asked us to wait for is over.
    refunds.enquiring.books.clock.move(60)
    refund_id = await refunds.ask(payment, amount)
    if chance.random() < 0.1:
        await died_after_its_claim(refunds, refund_id)
        return {}
    behaviour = drawn(chance)
    await refunds.script(**behaviour)
    await asyncio.gather(refunds.send(), refunds.as_another_process().send())
    return behaviour


@pytest.mark.usefixtures("untraced")
async def test_the_books_of_mpesa_and_ours_agree_about_every_refund(
    refunds: Returning, database: Database, at_length: bool
) -> None:
    chance = random.Random(SEED)
    books, payments = refunds.enquiring.books, PAYMENTS_AT_LENGTH if at_length else PAYMENTS
    paid = [await refunds.paid(phone_number=f"25471{number:07d}") for number in range(payments)]
    wanted = [(payment, amount) for payment in paid for amount in chance.choice(WANTED)]
    behaviours = [await ask_and_send(refunds, payment, amount, chance) for payment, amount in wanted]
    assert never_drawn(behaviours) == [], "these were never drawn: choose another seed"
    for _ in range(27):
        await hear(refunds)
        await refunds.later(3_600)
        await refunds.send()
        for _ in wanted:
            heard = len(refunds.enquiring.taken)
            if not await refunds.enquiring.ask():
                break
            await refunds.enquiring.heard(heard + 1)
            books.clock.move(31)
        if chance.random() < 0.2:
            await books.tell_simulator("results/release")
    await hear(refunds)
    await refunds.later(DOUBT_MAX.total_seconds())

    back = Counter(map(name_of, refunds.returns))
    assert set(back.values()) <= {1}, "money went back twice"
    query = """SELECT r.payment_id, CASE r.method WHEN 'B2C' THEN r.originator_conversation_id ELSE r.receipt END,
        r.state, r.amount::int, p.state, p.refunded_amount::int,
        EXISTS (SELECT FROM cases c WHERE c.payment_id = p.payment_id AND c.kind = 'REFUND')
        FROM refunds r JOIN payment_transactions p USING (payment_id)"""
    told = await rows_of(database, query)
    assert len(told) == len(wanted)
    done: Counter[UUID] = Counter()
    for payment_id, name, state, amount, _, _, has_case in told:
        done[payment_id] += amount * (state == "DONE")
        assert back[name] == (state == "DONE") or state == "UNCERTAIN", (name, state)
        assert state == "DONE" or has_case, (name, state)
    for payment_id, _, state, _, payment_state, amount, _ in told:
        assert amount == done[payment_id] <= 500
        assert (payment_state == "REFUNDED") == (amount == 500)
        assert state in ("DONE", "FAILED", "UNCERTAIN")
    states = Counter(state for _, _, state, *_ in told)
    assert states["DONE"] > len(wanted) / 2, states
    sent = Counter(order.original_receipt or order.originator_conversation_id for order in accepted(refunds))
    assert max(sent.values()) == 1, "a refund that was taken was sent again"
    assert await count(database, "payment_events WHERE event_type = 'REFUND_REQUESTED'") == len(wanted)


def accepted(refunds: Returning) -> list[Order]:
    return [order for order in refunds.orders if order.outcome == "accepted"]


def name_of(one: Return) -> str:
    """What the refund goes by that has sent it: the receipt for a whole payment, our own name for a part."""
    if one.payment is not None:
        return one.payment.receipt
    assert one.order is not None, "nobody takes anything back here"
    return one.order.originator_conversation_id
