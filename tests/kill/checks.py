"""What must be true after any crash, held against the simulator's ledger and the customers' own memory.

Every violation is one sentence that names the payment; an empty list is what a test hopes for.
"""

import asyncio
import contextlib
import json
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from development.slowness import slowness
from tests.databases import Database
from tests.kill.stage import LIVE, Order, Stage
from tests.patience import PATIENCE_SECONDS

SETTLE_WAIT_SECONDS = 90.0 * slowness()
LOOK_SECONDS = 0.2

# A callback that was answered 200 is in the inbox; what it means for the payment may be recorded a moment later.
_UNDER_WAY = f"""SELECT (SELECT count(*) FROM payment_transactions WHERE state IN {LIVE})
    + (SELECT count(*) FROM callback_inbox WHERE status = 'PENDING')"""
_PAYMENTS = """
SELECT p.payment_id::text, request_id, booking_id, reference, p.state, p.version, p.mpesa_receipt_number, said_confirm,
    array_agg(e.version ORDER BY e.position), count(*) FILTER (WHERE e.fact_kind = 'SendClaimed')
FROM payment_transactions p LEFT JOIN payment_events e USING (payment_id) GROUP BY p.payment_id"""


@dataclass(frozen=True)
class Paid:
    """A payment as its row and its events have it."""

    payment_id: str
    request_id: str
    booking_id: str
    reference: str
    state: str
    version: int
    receipt: str | None
    said_confirm: bool
    versions: Sequence[int]
    claims: int


@dataclass(frozen=True)
class Settled:
    """How everything ended."""

    payments: Sequence[Paid]
    pushes: Mapping[str, Sequence[Mapping[str, Any]]]
    """The simulator's ledger by payment reference."""
    orders: Sequence[Order]

    @property
    def unheard(self) -> int:
        """Payments whose money moved and whose callback nobody took: they wait for a query."""
        return sum(
            payment.state != "COMPLETED" and any(push["debited_kes"] for push in self.pushes.get(payment.reference, ()))
            for payment in self.payments
        )

    def __str__(self) -> str:
        states = Counter(payment.state for payment in self.payments)
        pushes = Counter(len(self.pushes.get(payment.reference, ())) for payment in self.payments)
        return (
            f"{len(self.orders)} requests became {len(self.payments)} payments:"
            f" {', '.join(f'{state} {count}' for state, count in sorted(states.items()))}\n"
            f"pushes of a payment: {', '.join(f'{n} x {count}' for n, count in sorted(pushes.items()))};"
            f" paid, but nobody was there to take the callback: {self.unheard}\n"
        )


async def settled(stage: Stage) -> Settled:
    """Wait until every customer is answered and every payment has ended; ask once more; then look.

    Whoever is not answered in time, and whatever has not ended, is found by `violations`.
    """
    await asyncio.gather(*stage.customers, return_exceptions=True)
    await _at_rest(stage)
    await asyncio.gather(*(stage.ask(order) for order in stage.orders), return_exceptions=True)
    return await _at_rest(stage)


async def _at_rest(stage: Stage) -> Settled:
    """How everything stands once nothing is on its way: the ledger and the payments of one and the same moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_WAIT_SECONDS):
            while True:
                # Asked for first: what waits now and has no push in the ledger will never have one.
                waiting = await stage.waiting()
                pushes = await _pushes(stage.simulator_url)
                await stage.end_waits([one for one in waiting if _over(pushes.get(one, ()))])
                if _all_told(pushes) and not await _under_way(stage.database):
                    payments = await _payments(stage.database)
                    if await _pushes(stage.simulator_url) == pushes:
                        return Settled(payments, pushes, stage.orders)
                await asyncio.sleep(LOOK_SECONDS)
    return Settled(await _payments(stage.database), await _pushes(stage.simulator_url), stage.orders)


def _all_told(by_reference: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Whether no callback is on its way: each was answered or has failed, and there is one of all money."""
    pushes = [push for found in by_reference.values() for push in found]
    return all(push["callbacks"] or not push["debited_kes"] for push in pushes) and all(
        callback["status"] is not None or callback["error"] for push in pushes for callback in push["callbacks"]
    )


def _over(pushes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no callback comes any more: there was no push, or nobody took what the simulator tells once."""
    return all(push["callbacks"] and all(callback["error"] for callback in push["callbacks"]) for push in pushes)


async def _under_way(database: Database) -> int:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        ((number,),) = await (await owner.execute(_UNDER_WAY)).fetchall()
    return int(number)


async def _payments(database: Database) -> list[Paid]:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        return [Paid(*row) for row in await (await owner.execute(_PAYMENTS)).fetchall()]


async def _pushes(simulator_url: str) -> dict[str, list[Mapping[str, Any]]]:
    def ledger() -> Any:
        with urllib.request.urlopen(f"{simulator_url}/control/ledger", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    by_reference: dict[str, list[Mapping[str, Any]]] = {}
    for push in (await asyncio.to_thread(ledger))["pushes"]:
        if not push["callback_url"]:
            # Refused for its token before anything of it was read, so that it was sent again.
            assert not push["prompted"]
            continue
        reference = str(push["callback_url"]).split("/")[-2]
        by_reference.setdefault(reference, []).append(push)
    return by_reference


def violations(found: Settled) -> list[str]:
    """Everything that is not as it must be."""
    by_id = {payment.payment_id: payment for payment in found.payments}
    wrong = [sentence for payment in found.payments for sentence in _of_payment(payment, found.pushes)]
    for order in found.orders:
        request_id, answered = order.request.request_id, order.answered
        if len(answered) != 1:
            wrong.append(f"request {request_id} was answered with {len(answered)} payments")
        wrong += [f"payment {one} was acknowledged and is lost" for one in answered - by_id.keys()]
    asked = {order.request.request_id for order in found.orders}
    wrong += [f"{p.payment_id} was asked for by nobody" for p in found.payments if p.request_id not in asked]
    requests = Counter(payment.request_id for payment in found.payments)
    wrong += [f"request {one} made {count} payments" for one, count in requests.items() if count > 1]
    confirmed = Counter(payment.booking_id for payment in found.payments if payment.said_confirm)
    wrong += [f"booking {one} was confirmed {count} times" for one, count in confirmed.items() if count > 1]
    references = {payment.reference for payment in found.payments}
    wrong += [f"a push for {one}, which is no payment" for one in found.pushes.keys() - references]
    return wrong


def _of_payment(payment: Paid, ledger: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    pushes = ledger.get(payment.reference, ())
    debited = [push for push in pushes if push["debited_kes"]]
    heard = [push for push in debited if any(callback["status"] == 200 for callback in push["callbacks"])]
    wrong = []
    if payment.state in LIVE:
        wrong.append(f"{payment.payment_id} is still {payment.state}")
    if len(pushes) > 1:
        wrong.append(f"{payment.payment_id} was pushed {len(pushes)} times")
    if pushes and not payment.claims:
        wrong.append(f"{payment.payment_id} was pushed without a claim")
    if list(payment.versions) != list(range(1, payment.version + 1)):
        wrong.append(f"{payment.payment_id} is at version {payment.version} and has events {payment.versions}")
    if heard and (payment.state != "COMPLETED" or payment.receipt != heard[0]["receipt"]):
        wrong.append(f"{payment.payment_id} is {payment.state} though its callback was taken: the payer has paid")
    # Of money that only a query told the receipt is not known yet.
    known = [push["receipt"] for push in debited if payment.receipt in (None, push["receipt"])]
    if payment.state == "COMPLETED" and not known:
        wrong.append(f"{payment.payment_id} is COMPLETED and nobody paid")
    return wrong
