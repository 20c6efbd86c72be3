"""What was kept long enough is removed, a few rows at a time; and what came to an erased payment later, soon.

Nothing goes that a payment under way or an open case needs: the functions of the schema see to that. What the money is
known by stays for ever: payments, their log, receipts, refunds and cases.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_service.application.privacy.erase_person import BATCH, NOBODY, Erasing, empty_bodies, erase_held
from payment_service.store import erasure
from payment_service.store.time_ordered_ids import first_id_at

LOOK_SECONDS: Final = 60.0
"""Between two looks: what is kept for months may stay a minute longer."""
ROWS_MAX: Final = 200
"""Of one transaction, which takes some ten milliseconds; a body may have 64 KiB."""
BATCHES_MAX: Final = 25
"""Of one kind in one look: 300,000 rows an hour in each process, and never more than a second of the database."""
LATE_FOR: Final = timedelta(days=60)
"""How long after it was erased a payment is looked at again: M-Pesa and gateways deliver within days."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What the step needs, and how long each kind is kept."""

    engine: AsyncEngine
    erasing: Erasing
    clock: Callable[[], datetime]
    exchanges_for: timedelta
    bodies_for: timedelta
    decisions_for: timedelta


async def forget_records(tools: Forgetting) -> None:
    """Remove the oldest of what is due."""
    now = tools.clock()
    upto = first_id_at(now - tools.exchanges_for)

    async def exchanges(conn: AsyncConnection) -> int:
        return await erasure.forget_exchanges(conn, upto, ROWS_MAX)

    async def decisions(conn: AsyncConnection) -> int:
        return await erasure.forget_decisions(conn, now - tools.decisions_for, ROWS_MAX)

    async def bodies(conn: AsyncConnection) -> int:
        old = await erasure.old_bodies(conn, now - tools.bodies_for, ROWS_MAX)
        return await erasure.remove_bodies(conn, empty_bodies(tools.erasing.reads.sealer, old))

    async def late(conn: AsyncConnection) -> int:
        ids = await erasure.came_later(conn, now - LATE_FOR, BATCH)
        held = await erasure.held_payments(conn, ids, lock=True)
        barred = {payment_id for payment_id, _ in await erasure.under_way(conn, ids)}
        # What came may have set the payment in motion again: then it waits until that has ended.
        ended = [one for one in held if one.payment_id not in barred]
        await erase_held(conn, tools.erasing, ended, NOBODY)
        return len(ended)

    gone = {
        "exchanges": await _in_batches(tools.engine, exchanges),
        "bodies": await _in_batches(tools.engine, bodies),
        "decisions": await _in_batches(tools.engine, decisions),
        "erased_again": await _in_batches(tools.engine, late),
    }
    if any(gone.values()):
        _log.info("old records removed", **gone)


async def _in_batches(engine: AsyncEngine, batch: Callable[[AsyncConnection], Awaitable[int]]) -> int:
    total = 0
    for _ in range(BATCHES_MAX):
        async with engine.begin() as conn:
            count = await batch(conn)
        total += count
        if not count:
            break
    return total
