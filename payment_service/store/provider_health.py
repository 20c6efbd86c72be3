"""How Safaricom has been answering lately: counts over a window of time. SQL only.

Ids are ordered by time, so a window of time is a range of the primary key, and only its rows are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.time_ordered_ids import first_id_at

_PUSHES = text("""
SELECT count(*) AS sent,
    count(*) FILTER (WHERE classified_as LIKE 'Uncertain%'
        OR (classified_as LIKE 'NotSent%' AND http_status IS NULL)) AS unanswered,
    count(*) FILTER (WHERE classified_as = 'Accepted' AND started_at < :due) AS accepted,
    count(*) FILTER (WHERE classified_as = 'Accepted' AND started_at < :due AND EXISTS (
        SELECT FROM callback_inbox i WHERE i.payment_id = e.payment_id AND i.kind = 'stk')) AS called_back
FROM daraja_exchanges e WHERE exchange_id >= :first AND operation = 'push'""")

_LATEST_PUSHES = text("""
SELECT classified_as, http_status FROM daraja_exchanges WHERE exchange_id >= :first AND operation = 'push'
ORDER BY exchange_id DESC LIMIT :most""")

# The log is read from its end; what came by callback or query says its code in the event.
_LATEST_CODES = text("""
SELECT provider_result_code FROM (SELECT * FROM payment_events ORDER BY position DESC LIMIT :looked_at) AS latest
WHERE fact_kind = 'ResultReported' AND provider_result_code IS NOT NULL AND occurred_at >= :since
ORDER BY position DESC LIMIT :most""")


@dataclass(frozen=True, slots=True)
class PushCounts:
    """Pushes of a window. The last two count only those whose callback should have come by now."""

    sent: int
    unanswered: int
    """Those that reached nobody, too."""
    accepted: int
    called_back: int


@dataclass(frozen=True, slots=True)
class AnsweredPush:
    """A push, and what it was answered."""

    name: str
    """What the answer was understood as."""
    http_status: int | None
    """None where nobody answered."""


async def count_pushes(conn: AsyncConnection, since: datetime, due: datetime) -> PushCounts:
    """The pushes made since then, and of those accepted before `due` how many have a callback."""
    row = (await conn.execute(_PUSHES, {"first": first_id_at(since), "due": due})).one()
    return PushCounts(row.sent, row.unanswered, row.accepted, row.called_back)


async def latest_push_answers(conn: AsyncConnection, since: datetime, most: int) -> Sequence[AnsweredPush]:
    """What the latest pushes were answered, the last one first."""
    rows = await conn.execute(_LATEST_PUSHES, {"first": first_id_at(since), "most": most})
    return [AnsweredPush(row.classified_as, row.http_status) for row in rows]


async def latest_result_codes(conn: AsyncConnection, since: datetime, most: int) -> Sequence[str]:
    """The codes of the latest results that changed a payment, the last one first."""
    return list(await conn.scalars(_LATEST_CODES, {"looked_at": most * 20, "since": since, "most": most}))
