"""Whether there is anything to do: one look for all the steps that would otherwise each look for themselves.

What is due is said where the statement of each step is; here it is only asked for together. SQL only.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.due_timers import TIMER_DUE
from payment_service.store.evidence import DOUBTS_PROVEN
from payment_service.store.inbox import CALLBACK_DUE
from payment_service.store.issued_receipts import RECEIPT_DUE
from payment_service.store.pull_progress import BOOKS_DUE
from payment_service.store.push_queries import QUERY_DUE, UNBACKED_DUE
from payment_service.store.refunds import REFUND_DUE, REFUND_TO_SEND


class DueWork(NamedTuple):
    """What one look has found. A step may still find nothing: another process may be faster."""

    read_at: datetime
    """By the database's clock."""
    takes_writes: bool
    """This connection can write. To a standby nothing is due that could be acted on."""
    timers: bool
    callbacks: bool
    refund_timers: bool
    refunds: bool
    receipts: bool
    queries: bool
    doubts: bool
    books: bool


def _any(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(condition)


_LOOK = select(
    func.clock_timestamp(),
    text("NOT current_setting('transaction_read_only')::boolean"),
    _any(TIMER_DUE),
    _any(CALLBACK_DUE),
    _any(REFUND_DUE),
    _any(REFUND_TO_SEND),
    _any(RECEIPT_DUE),
    or_(_any(QUERY_DUE), _any(UNBACKED_DUE)),
    DOUBTS_PROVEN.exists(),
    BOOKS_DUE.exists(),
)


async def look_for_work(conn: AsyncConnection, now: datetime, pulled: Sequence[str]) -> DueWork:
    """What is due by now; `pulled` are the shortcodes whose books are read."""
    values = {"now": now, "shortcodes": list(pulled), "most": 1}
    return DueWork._make((await conn.execute(_LOOK, values)).one())
