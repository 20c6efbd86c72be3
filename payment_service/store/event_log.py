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
from payment_service.store.evidence import UNAPPLIED_KINDS
from payment_service.store.many_rows import array_of, columns_of, inserting
from payment_service.store.pipeline import Connection, Statement
from payment_service.store.tables import events
from runtime.key_rings import KeyRing

TAG_BYTES = 8


class LoggedEvent(NamedTuple):
    """One event as its row has it. All up to the tag is hashed, in this order, so a new field goes behind it."""

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
    amount: int | Decimal
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
    # Said by the fact and the state, which are hashed: a row that says otherwise is found by `check`.
    refund_id: UUID | None
    refund_status: str | None
    refunded_amount: int | Decimal
    position: int = 0
    """In the log; 0 before the log has given it one."""


_COLUMNS = LoggedEvent._fields[:-1]
"""What is written; the position is the table's to give."""
_HASHED_WIDTH = _COLUMNS.index("tag") + 1
_NOT_HASHED_YET = b""

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
    UNION SELECT payment_id, reference FROM payment_transactions WHERE reference = ANY($2::text[])
    UNION SELECT payment_id, reference FROM refunds WHERE reference = ANY($2::text[]))
SELECT told.payment_id, known.fact_id, false FROM told CROSS JOIN LATERAL (
    SELECT fact_id FROM payment_events e WHERE e.payment_id = told.payment_id AND e.fact_id = ANY($3::text[]) OFFSET 0
) AS known
UNION ALL
SELECT told.payment_id, known.fact_id, known.unapplied FROM told CROSS JOIN LATERAL (
    SELECT fact_id, kind IN {UNAPPLIED_KINDS} AS unapplied FROM cases c
    WHERE c.reference = told.reference AND c.fact_id = ANY($3::text[]) OFFSET 0
) AS known"""

_OF_PAYMENTS = f"""
SELECT {", ".join(LoggedEvent._fields)} FROM payment_events WHERE payment_id = ANY(%s) ORDER BY payment_id, version"""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One change, before it is a row."""

    event_type: EventType
    fact_id: str
    fact_kind: str
    before: Payment | None
    after: Payment


class KnownFact(NamedTuple):
    """A fact that has led to an event or a case of a payment."""

    payment_id: UUID
    fact_id: str
    unapplied: bool
    """The case is that it has not been applied."""


def event_row(event: NewEvent, ring: KeyRing, previous_hash: bytes) -> LoggedEvent:
    """The row of an event. The payment's next event builds on its hash."""
    payment = event.after
    row = LoggedEvent(
        payment_id=payment.payment_id,
        version=payment.version,
        caller=payment.caller,
        event_type=event.event_type,
        fact_id=event.fact_id,
        fact_kind=event.fact_kind,
        previous_state=event.before.state if event.before is not None else None,
        state=payment.state,
        status_reason=payment.shown_reason,
        provider_result_code=payment.result_code,
        booking_action=payment.booking_action,
        outcome_certain=payment.outcome_certain,
        retry_allowed_at=payment.retry_allowed_at,
        amount=payment.amount,
        mpesa_receipt_number=payment.receipt,
        paid_late=payment.paid_late,
        completed_at=payment.completed_at,
        expires_at=payment.expires_at,
        occurred_at=payment.updated_at,
        tag=os.urandom(TAG_BYTES),
        chain_encoding=ENCODING,
        chain_key_id=ring.current_id,
        previous_hash=previous_hash,
        hash=_NOT_HASHED_YET,
        refund_id=payment.refund_id,
        refund_status=payment.refund_status,
        refunded_amount=payment.refunded_amount,
    )
    return row._replace(hash=link(ring, previous_hash, _hashed(row)))


def append(rows: Sequence[LoggedEvent]) -> Statement:
    """Append events, in order. COMMIT follows at once."""
    return Statement(_APPEND, _written(rows))


def append_of_inserted(rows: Sequence[LoggedEvent]) -> Statement:
    """Append the first events of those payments that have just been inserted."""
    return Statement(_APPEND_OF_INSERTED, [*_written(rows), array_of({row.payment_id for row in rows})])


def known_facts(ids: Sequence[UUID], references: Sequence[str], fact_ids: Sequence[str]) -> Statement:
    """Those of the facts that have already led to an event or a case; rows of `KnownFact`.

    The references are those of payments and of refunds: the case of a callback that was not applied has the callback's.
    """
    return Statement(_KNOWN_FACTS, (array_of(ids), array_of(references), array_of(fact_ids)))


async def events_of_payments(conn: Connection, ids: Sequence[UUID]) -> list[LoggedEvent]:
    """All events of the given payments, by payment and version."""
    cursor = await conn.execute(_OF_PAYMENTS, (list(ids),))
    return [LoggedEvent._make(row) for row in await cursor.fetchall()]


def event_holds(event: LoggedEvent, ring: KeyRing) -> bool:
    """Whether an event's hash is that of its content: the counterpart of `event_row`."""
    # The amount as the whole number that it was decided with; a fraction was never written here.
    amount = int(event.amount) if event.amount == int(event.amount) else event.amount
    fields = _hashed(event._replace(amount=amount))
    return link_holds(ring, event.chain_key_id, event.chain_encoding, event.previous_hash, fields, event.hash)


def _hashed(event: LoggedEvent) -> Sequence[object]:
    """The columns that the hash is over. Times in UTC: in which zone one was decided is not stored."""
    values = (*event[: _HASHED_WIDTH - 1], event.tag.hex())
    return [value.astimezone(UTC) if isinstance(value, datetime) else value for value in values]


def _written(rows: Sequence[LoggedEvent]) -> list[str]:
    return columns_of(row[: len(_COLUMNS)] for row in rows)
