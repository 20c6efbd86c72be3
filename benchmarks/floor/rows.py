"""The rows of the floor: three grouped statements a payment, into the tables of the service, as wide as its own.

Where the service seals, hashes or draws a trace, the floor sends fixed bytes of the same length. A statement carries
the rows of many payments, one array a column; the events go last in each, because their table's trigger takes the
lock of the log and keeps it until the commit. (PostgreSQL runs the writing CTEs after the main statement, the first
one last.)
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import psycopg

GROUP_MAX = 128
"""Rows in one statement, as in the service."""

# By key, never by scan, and each statement planned once: the same settings as the service's own writers.
_OPTIONS = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c timezone=UTC"


def sealed(length: int) -> str:
    """An element of a bytea array: so many bytes that stand for a ciphertext or a hash."""
    return '"\\\\x' + "a7" * length + '"'


# Lengths as the service writes them for the bench's payments: key id, nonce, text and tag.
PHONE, REQUEST, CHECKOUT = sealed(41), sealed(178), sealed(61)
EXCHANGE_REQUEST, EXCHANGE_ANSWER, CALLBACK_BODY = sealed(421), sealed(296), sealed(497)
INDEX, HASH, TAG = sealed(16), sealed(32), sealed(8)
TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-03"

_EVENT_COLUMNS = (
    "payment_id, version, caller, event_type, fact_id, fact_kind, previous_state, state, status_reason,"
    " provider_result_code, booking_action, outcome_certain, amount, mpesa_receipt_number, paid_late, completed_at,"
    " expires_at, occurred_at, tag, chain_encoding, chain_key_id, previous_hash, hash"
)

CREATE = f"""
WITH rows AS MATERIALIZED (
    SELECT *, now() AS at, now() + interval '120 s' AS expires_at FROM unnest(
        %s::uuid[], %s::text[], %s::text[], %s::numeric[], %s::bytea[], %s::bytea[], %s::bytea[], %s::bytea[],
        %s::text[], %s::uuid[], %s::text[], %s::bytea[], %s::bytea[])
    AS r (payment_id, request_id, reference, amount, phone, phone_index, request, fingerprint, trace, claim_id, claim,
        tag, hash)),
e AS (INSERT INTO payment_events ({_EVENT_COLUMNS})
    SELECT payment_id, 1, 'development', 'CREATED', 'created', 'PaymentCreated', NULL, 'CREATED', NULL, NULL, 'WAIT',
        false, amount, NULL, false, NULL::timestamptz, expires_at, at, tag, 1, '1', hash, hash FROM rows
    UNION ALL
    SELECT payment_id, 2, 'development', 'SENDING', claim, 'SendClaimed', 'CREATED', 'SENDING', NULL, NULL, 'WAIT',
        false, amount, NULL, false, NULL, expires_at, at, tag, 1, '1', hash, hash FROM rows)
INSERT INTO payment_transactions (payment_id, caller, request_id, reference, booking_id, attempt, amount, shortcode,
    phone_number, phone_index_a, account_reference, transaction_desc, language_code, metadata, late_payment_policy,
    request, request_fingerprint, request_encoding, request_key_id, trace_parent, state, version, booking_action,
    outcome_certain, paid_late, blocks_booking, said_confirm, money_case_open, not_sent_count, result_seen, paid_twice,
    claim_id, lease_expires_at, sent_at, due_at, chain_hash, created_at, updated_at, expires_at)
SELECT payment_id, 'development', request_id, reference, request_id, 1, amount, '174379', phone, phone_index, reference,
    'Booking', 'en', '{{}}', 'REVIEW', request, fingerprint, 1, '1', trace, 'SENDING', 2, 'WAIT', false, false, true,
    false, false, 0, false, false, claim_id, at + interval '45 s', at, at + interval '45 s', hash, at, at, expires_at
FROM rows"""

ANSWER = f"""
WITH rows AS MATERIALIZED (
    SELECT *, now() AS at, now() + interval '120 s' AS expires_at FROM unnest(
        %s::uuid[], %s::text[], %s::numeric[], %s::bytea[], %s::bytea[], %s::text[], %s::bytea[], %s::bytea[],
        %s::uuid[], %s::bytea[], %s::bytea[])
    AS r (payment_id, fact_id, amount, tag, hash, merchant_id, checkout, checkout_index, exchange_id, asked, answered)),
e AS (INSERT INTO payment_events ({_EVENT_COLUMNS})
    SELECT payment_id, 3, 'development', 'PROMPTED', fact_id, 'PromptAccepted', 'SENDING', 'PROMPTED',
        'AWAITING_CUSTOMER', NULL, 'WAIT', false, amount, NULL, false, NULL, expires_at, at, tag, 1, '1', hash, hash
    FROM rows),
x AS (INSERT INTO daraja_exchanges
    (exchange_id, payment_id, operation, http_status, classified_as, request, answer, started_at, duration_ms)
    SELECT exchange_id, payment_id, 'push', 200, 'Accepted', asked, answered, at, 20 FROM rows)
UPDATE payment_transactions AS t SET state = 'PROMPTED', status_reason = 'AWAITING_CUSTOMER', version = 3,
    merchant_request_id = rows.merchant_id, checkout_request_id = rows.checkout,
    checkout_index_a = rows.checkout_index, due_at = rows.expires_at, query_at = rows.at + interval '30 s',
    updated_at = rows.at, chain_hash = rows.hash
FROM rows WHERE t.payment_id = rows.payment_id"""

COMPLETE = f"""
WITH rows AS MATERIALIZED (
    SELECT *, now() AS at, now() + interval '120 s' AS expires_at FROM unnest(
        %s::uuid[], %s::text[], %s::text[], %s::numeric[], %s::bytea[], %s::bytea[], %s::text[], %s::uuid[],
        %s::bytea[], %s::bytea[])
    AS r (payment_id, reference, fact_id, amount, tag, hash, receipt, callback_id, body, body_hash)),
e AS (INSERT INTO payment_events ({_EVENT_COLUMNS})
    SELECT payment_id, 4, 'development', 'COMPLETED', fact_id, 'ResultReported', 'PROMPTED', 'COMPLETED', NULL, '0',
        'CONFIRM', true, amount, receipt, false, at, expires_at, at, tag, 1, '1', hash, hash FROM rows),
i AS (INSERT INTO callback_inbox (callback_id, kind, reference, payment_id, body, body_hash, source_address,
        received_at, stored_at, status)
    SELECT callback_id, 'stk', reference, payment_id, body, body_hash, '127.0.0.1', at, at, 'APPLIED' FROM rows),
m AS (INSERT INTO mpesa_receipts (receipt, payment_id, amount, counted, seen_at)
    SELECT receipt, payment_id, amount, true, at FROM rows)
UPDATE payment_transactions AS t SET state = 'COMPLETED', status_reason = NULL, provider_result_code = '0',
    version = 4, booking_action = 'CONFIRM', outcome_certain = true, mpesa_receipt_number = rows.receipt,
    transaction_date = rows.at, completed_at = rows.at, said_confirm = true, result_seen = true, due_at = NULL,
    query_at = NULL, updated_at = rows.at, chain_hash = rows.hash
FROM rows WHERE t.payment_id = rows.payment_id"""

Row = tuple[str, ...]


@dataclass(slots=True)
class Group:
    """Rows that wait for their statement. While one is in flight the next gathers, as in the service."""

    statement: str
    rows: list[Row] = field(default_factory=list)
    written: list[asyncio.Future[None]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, row: Row) -> asyncio.Future[None]:
        """Queue a row; the future is done once it is committed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rows.append(row)
        self.written.append(future)
        self.arrived.set()
        return future


async def connect(database_url: str) -> psycopg.AsyncConnection[Any]:
    """A connection for one kind of statement; every statement is a transaction."""
    return await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=_OPTIONS, prepare_threshold=0)


async def write_groups(database_url: str, group: Group) -> NoReturn:
    """Write what has gathered, for ever, on a connection of this group's own."""
    connection = await connect(database_url)
    while True:
        await group.arrived.wait()
        rows, written = group.rows[:GROUP_MAX], group.written[:GROUP_MAX]
        del group.rows[:GROUP_MAX], group.written[:GROUP_MAX]
        if not group.rows:
            group.arrived.clear()
        await connection.execute(group.statement, columns_of(rows))
        for future in written:
            future.set_result(None)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """One array literal a column; the elements are literals already."""
    return ["{" + ",".join(column) + "}" for column in zip(*rows, strict=True)]
