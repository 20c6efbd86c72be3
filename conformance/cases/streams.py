"""Those who watch: nothing missed, nothing out of order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from mpesa_payments.v1 import payment_pb2

from conformance.account import Seen
from conformance.caller import Caller
from conformance.installation import Installation
from conformance.judgement import expect
from conformance.running import case
from conformance.simulator import a_number

RECONNECTS = 50


async def read_on(caller: Caller, cursor: str, most: int) -> tuple[list[payment_pb2.PaymentEvent], str]:
    """Some more events from a new connection, which is then dropped; and the cursor to go on from."""
    events: list[payment_pb2.PaymentEvent] = []
    async with contextlib.aclosing(caller.watch(cursor)) as messages:
        async for message in messages:
            events += message.events
            cursor = message.cursor
            if len(events) >= most:
                break
    return events, cursor


@case
async def watcher_that_reconnects(town: Installation) -> Seen:
    """A watcher drops its connection fifty times and resumes at the other process, while passengers pay."""
    started = await town.first.initiate(a_number())
    cursor, seen, asked = started.cursor, [], [started]
    for number, caller in zip(range(RECONNECTS), itertools.cycle([town.second, town.first])):
        asked.append(await town.first.initiate(a_number()))
        # Each payment brings four events, so there is always something more to come.
        events, cursor = await read_on(caller, cursor, most=1 + number % 3)
        seen += events
    accounts = await asyncio.gather(*(town.account(one) for one in asked))
    last = {account.payment.payment_id: account.payment for account in accounts}
    told = {event.payment.payment_id: event.payment for event in seen}
    while any(told.get(payment_id) != payment for payment_id, payment in last.items()):
        events, cursor = await read_on(town.second, cursor, most=1)
        seen += events
        told |= {event.payment.payment_id: event.payment for event in events}
    expect("events told twice", len({event.event_id for event in seen}), len(seen))
    for account in accounts:
        versions = [event.payment.version for event in seen if event.payment.payment_id == account.payment.payment_id]
        expect("the versions told", versions, list(range(1, account.payment.version + 1)))
    debited = sum(account.debited for account in accounts)
    said = f"{len(asked)} payments, each version once and in order, over {RECONNECTS} connections"
    return Seen(said, f"KES {debited} paid")
