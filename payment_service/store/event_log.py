"""The log: one row for every change of every payment, in commit order.

The order is kept by the table itself: a trigger takes the log's lock as the
append begins, and the lock is held until the commit. So the append is the last
statement of a transaction and goes out together with its COMMIT: nothing that
could wait, least of all this process, stands between the two.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from payment_service.domain.payment import Payment
from payment_service.domain.views import EventType
from payment_service.security.chain import ENCODING, link, link_holds
from payment_service.security.keys import KeyRing
from payment_service.store.evidence import UNAPPLIED_KINDS
from payment_service.store.many_rows import Row, array_of, columns_of, inserting
from payment_service.store.pipeline import Connection, Statement
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
    events,
    _COLUMNS,
    "WHERE payment_id IN"
    f" (SELECT payment_id FROM payment_transactions WHERE payment_id = ANY(${len(_COLUMNS) + 1}::uuid[]))"
    # The join may shuffle them, and a payment's second version must not come before its first.
    " ORDER BY version",
)

# OFFSET 0 keeps each look-up to the one payment it is about, whatever the planner thinks of the tables' sizes.
_KNOWN_FACTS = f"""
WITH told AS (
    SELECT payment_id, reference FROM payment_transactions WHERE payment_id = ANY($1::uuid[])
    UNION SELECT payment_id, reference FROM payment_transactions WHERE reference = ANY($2::text[]))
SELECT told.payment_id, known.fact_id, false FROM told CROSS JOIN LATERAL (
    SELECT fact_id FROM payment_events e WHERE e.payment_id = told.payment_id AND e.fact_id = ANY($3::text[]) OFFSET 0
) AS known
UNION ALL
SELECT told.payment_id, known.fact_id, known.unapplied FROM told CROSS JOIN LATERAL (
    SELECT fact_id, kind IN {UNAPPLIED_KINDS} AS unapplied FROM cases c
    WHERE c.reference = told.reference AND c.fact_id = ANY($3::text[]) OFFSET 0
) AS known"""

_OF_PAYMENTS = f"""
SELECT {", ".join(_COLUMNS)}, position FROM payment_events WHERE payment_id = ANY(%s) ORDER BY payment_id, version"""


class LoggedEvent(NamedTuple):
    """One event as its row has it, in the order of `_COLUMNS`."""

    payment_id: UUID
    version: int
    caller: str
    event_type: str
    fact_id: str
    fact_kind: str
    previous_state: str | None
    state: str
    status_reason: str | None
    provider_result_code: str | None
    booking_action: str
    outcome_certain: bool
    retry_allowed_at: datetime | None
    amount: Decimal
    mpesa_receipt_number: str | None
    paid_late: bool
    completed_at: datetime | None
    expires_at: datetime
    occurred_at: datetime
    tag: bytes
    chain_encoding: int
    chain_key_id: str
    previous_hash: bytes
    hash: bytes
    position: int


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


def append(rows: Sequence[Row]) -> Statement:
    """Append events, in order. COMMIT follows at once."""
    return Statement(_APPEND, columns_of(rows))


def append_of_inserted(rows: Sequence[Row]) -> Statement:
    """Append the first events of those payments that have just been inserted."""
    return Statement(_APPEND_OF_INSERTED, [*columns_of(rows), array_of({row[0] for row in rows})])


def known_facts(ids: Sequence[object], references: Sequence[str], fact_ids: Sequence[str]) -> Statement:
    """(payment id, fact id, false) of those facts that have already led to an event or a case.

    True instead for those whose case is that they have not been applied.
    """
    return Statement(_KNOWN_FACTS, (array_of(ids), array_of(references), array_of(fact_ids)))


async def events_of_payments(conn: Connection, ids: Sequence[UUID]) -> list[LoggedEvent]:
    """All events of the given payments, by payment and version."""
    cursor = await conn.execute(_OF_PAYMENTS, (list(ids),))
    return [LoggedEvent._make(row) for row in await cursor.fetchall()]


def event_holds(event: LoggedEvent, ring: KeyRing) -> bool:
    """Whether an event's hash is that of its content: the counterpart of `event_row`."""
    content: list[object] = [
        field.astimezone(UTC) if isinstance(field, datetime) else field for field in event[: len(_HASHED) - 1]
    ]
    # Hashed as the whole number that it was decided with; a fraction is nothing that was ever written here.
    content[_HASHED.index("amount")] = int(event.amount) if event.amount == int(event.amount) else event.amount
    fields = (*content, event.tag.hex())
    return link_holds(ring, event.chain_key_id, event.chain_encoding, event.previous_hash, fields, event.hash)
