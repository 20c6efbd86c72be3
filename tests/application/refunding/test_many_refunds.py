"""Many refunds with every fault of the simulator, drawn by a seed: its books and ours must agree about each.

Goal: no payment is refunded twice and none for more than was received; what we call returned has gone back, what we
call failed has not, and what we do not know is before a person. Method: each refund's answer, result and fate are
drawn; between them processes die after their claim, results are told twice or late, and timers run out. In the end
time passes until nothing is left to do.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from payment_service.application.recording.record_facts import Submission
from payment_service.domain.refund_facts import RefundClaimed
from payment_service.domain.refunds import DOUBT_MAX
from tests.application.refunding.returning import Returning, returning
from tests.databases import Database
from tests.rows import count, rows_of

SEED = 20261128
REFUNDS = 60
"""As many as are worth their time on every run; with another seed and more of them it takes as much longer."""

ANSWERS = ["normal"] * 6 + ["lost", "reset", "cut_header", "cut_body"]
RESULTS = ["once"] * 5 + ["twice", "never", "queue_timeout", "held"]
ODDITIES: list[dict[str, Any]] = [
    *([{}] * 6),
    {"carries_out": False},
    {"error": "internal_error", "carries_out": True},
    {"error": "spike_arrest"},
    {"quirks": ["reversal.no_original"]},
    {"quirks": ["order.code_string", "order.bare_list"]},
    {"result_code": 4711},
    {"result_code": 1},
    {"without": ["OriginalTransactionID"]},
    {"raw_result": {"body": "<html>"}},
]


pytestmark = pytest.mark.slow


@pytest.fixture
async def refunds(database: Database, tmp_path: Path) -> AsyncIterator[Returning]:
    async with returning(database, tmp_path) as running:
        yield running


def drawn(chance: random.Random) -> dict[str, Any]:
    behaviour = dict(chance.choice(ODDITIES))
    if "error" not in behaviour:
        behaviour |= {"answer": chance.choice(ANSWERS)}
    if "error" not in behaviour or behaviour.get("carries_out"):
        behaviour |= {"result": chance.choice(RESULTS)}
    return behaviour


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


async def test_the_books_of_mpesa_and_ours_agree_about_every_refund(refunds: Returning, database: Database) -> None:
    chance = random.Random(SEED)
    books = refunds.enquiring.books
    paid = [await refunds.paid(phone_number=f"25471{number:07d}") for number in range(REFUNDS)]
    for payment in paid:
        # Whatever M-Pesa asked us to wait for is over.
        books.clock.move(60)
        refund_id = await refunds.ask(payment)
        if chance.random() < 0.1:
            await died_after_its_claim(refunds, refund_id)
            continue
        await refunds.script(**drawn(chance))
        await asyncio.gather(refunds.send(), refunds.as_another_process().send())
    for _ in range(27):
        await hear(refunds)
        await refunds.later(3_600)
        await refunds.send()
        for _ in range(REFUNDS):
            heard = len(refunds.enquiring.taken)
            if not await refunds.enquiring.ask():
                break
            await refunds.enquiring.heard(heard + 1)
            books.clock.move(31)
        if chance.random() < 0.2:
            await books.tell_simulator("results/release")
    await hear(refunds)
    await refunds.later(DOUBT_MAX.total_seconds())

    back = Counter(one.payment.receipt for one in refunds.returns if one.payment is not None)
    assert set(back.values()) <= {1}, "a payment went back twice"
    query = """SELECT r.receipt, r.state, p.state, p.refunded_amount::int, EXISTS (
        SELECT FROM cases c WHERE c.payment_id = p.payment_id AND c.kind = 'REFUND')
        FROM refunds r JOIN payment_transactions p USING (payment_id)"""
    told = await rows_of(database, query)
    assert len(told) == REFUNDS
    for receipt, state, payment_state, amount, has_case in told:
        match state:
            case "DONE":
                assert (back[receipt], payment_state, amount) == (1, "REFUNDED", 500)
            case "FAILED":
                assert (payment_state, amount, has_case) == ("COMPLETED", 0, True)
            case _:
                assert (state, payment_state, amount, has_case) == ("UNCERTAIN", "REFUNDING", 0, True)
    states = Counter(state for _, state, *_ in told)
    assert states["DONE"] > REFUNDS / 2, states
    sent = Counter(order.original_receipt for order in refunds.orders if order.outcome == "accepted")
    assert max(sent.values()) == 1, "a refund that was taken was sent again"
    assert await count(database, "payment_events WHERE event_type = 'REFUND_REQUESTED'") == REFUNDS
