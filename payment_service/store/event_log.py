"""The log: one row for every change of every payment, in commit order.

The order is kept by the table itself: a trigger takes the log's lock as the
append begins, and the lock is held until the commit. So the append is the last
statement of a transaction and goes out together with its COMMIT: nothing that
could wait, least of all this process, stands between the two.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from payment_service.domain.payment import Payment
from payment_service.domain.views import EventType
from payment_service.security.chain import ENCODING, link
from payment_service.security.keys import KeyRing
from payment_service.store.grouped import Connection, Cursor, Row, columns_of, inserting
from payment_service.store.tables import events

TAG_BYTES = 8

_HASHED = (
    "payment_id",
    "version",
    "caller",
    "event_type",
    "fact_id",
    "fact_kind",
    "previous_state",
    "state",
    "status_reason",
    "provider_result_code",
    "booking_action",
    "outcome_certain",
    "retry_allowed_at",
    "amount",
    "mpesa_receipt_number",
    "paid_late",
    "completed_at",
    "expires_at",
    "occurred_at",
    "tag",
)
_COLUMNS = (*_HASHED, "chain_encoding", "chain_key_id", "previous_hash", "hash")

_APPEND = inserting(events, _COLUMNS)

# The events of payments that were not inserted after all, because another one stood in their place, are left out.
_APPEND_OF_INSERTED = inserting(
    events, _COLUMNS, "WHERE payment_id IN (SELECT payment_id FROM payment_transactions WHERE payment_id = ANY(%s))"
)

_KNOWN_FACTS = """
SELECT payment_id, fact_id FROM payment_events e JOIN payment_transactions p USING (payment_id)
WHERE (p.payment_id = ANY(%s) OR p.reference = ANY(%s)) AND e.fact_id = ANY(%s)
UNION
SELECT payment_id, fact_id FROM cases c JOIN payment_transactions p USING (payment_id)
WHERE (p.payment_id = ANY(%s) OR p.reference = ANY(%s)) AND c.fact_id = ANY(%s)"""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One change, before it has a position."""

    event_type: EventType
    fact_id: str
    fact_kind: str
    before: Payment | None
    after: Payment


def event_row(event: NewEvent, ring: KeyRing, previous_hash: bytes) -> tuple[Row, bytes]:
    """The row of an event and its hash, which the payment's next event builds on."""
    payment = event.after
    tag = os.urandom(TAG_BYTES)
    content = (
        payment.payment_id,
        payment.version,
        payment.caller,
        event.event_type.value,
        event.fact_id,
        event.fact_kind,
        event.before and event.before.state.value,
        payment.state.value,
        payment.reason and payment.reason.value,
        payment.result_code,
        payment.booking_action.value,
        payment.outcome_certain,
        payment.retry_allowed_at,
        payment.amount,
        payment.receipt,
        payment.paid_late,
        payment.completed_at,
        payment.expires_at,
        payment.updated_at,
    )
    hashed = link(ring, previous_hash, (*content, tag.hex()))
    return (*content, tag, ENCODING, ring.current_id, previous_hash, hashed), hashed


async def append(conn: Connection, rows: Sequence[Row]) -> Cursor:
    """Append events, in order. The caller commits at once."""
    return await conn.execute(_APPEND, columns_of(rows))


async def append_of_inserted(conn: Connection, rows: Sequence[Row]) -> Cursor:
    """Append the first events of those payments that have just been inserted."""
    return await conn.execute(_APPEND_OF_INSERTED, [*columns_of(rows), [row[0] for row in rows]])


async def known_facts(
    conn: Connection, ids: Sequence[object], references: Sequence[str], fact_ids: Sequence[str]
) -> Cursor:
    """(payment id, fact id) of those facts that have already led to an event or a case."""
    return await conn.execute(_KNOWN_FACTS, (ids, references, fact_ids) * 2)
