"""However many payments there are, a read or a step touches rows in proportion to what it returns.

300,000 payments, most of them settled long ago, each with an event. Every statement that callers and periodic steps run
is explained by PostgreSQL as it is run, and the rows that it touched are counted. The figures are PostgreSQL's own, so
they do not depend on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.cases import CaseKind
from payment_service.domain.pull import PulledRow, VisibleDigits
from payment_service.security.sealing import Sealer
from payment_service.store import (
    casework,
    due_timers,
    inbox,
    issued_receipts,
    payment_search,
    provider_health,
    pull_candidates,
    pull_progress,
    push_queries,
    reads,
    status_questions,
)
from payment_service.store.casework import CaseFilter
from payment_service.store.engines import read_engine
from payment_service.store.payment_search import PaymentSearch
from payment_service.store.reads import EventScope, PaymentFilter
from payment_service.store.time_ordered_ids import first_id_at
from tests.databases import Database
from tests.rows import touched_by

PAYMENTS = 300_000
CALLER = "development"
TOUCHED_PER_ROW, TOUCHED_MORE = 20, 200

# One payment in 97 is expired and still watched; the last twenty are live, four wait for a receipt, three are refunded.
FILL = f"""
CREATE TEMP VIEW wanted AS SELECT n, at, uuid_of, CASE
    WHEN n > {PAYMENTS} - 20 THEN 'PROMPTED' WHEN n % 75000 = 1 THEN 'PENDING_RECEIPT'
    WHEN n % 100000 = 2 THEN 'REFUNDED'
    WHEN n % 97 = 3 THEN 'EXPIRED' WHEN n % 20 = 4 THEN 'FAILED' ELSE 'COMPLETED' END AS story
FROM (SELECT n, now() - (({PAYMENTS} - n) * interval '1 second') AS at,
    (regexp_replace(lpad(to_hex((extract(epoch FROM now() - (({PAYMENTS} - n) * interval '1 second')) * 1000)::bigint),
        12, '0'), '(.{{8}})(.{{4}})', '\\1-\\2') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS uuid_of
    FROM generate_series(1, {PAYMENTS}) AS n) AS numbered;
INSERT INTO payment_transactions (payment_id, caller, request_id, reference, booking_id, attempt, amount, shortcode,
    phone_number, phone_index_a, account_reference, transaction_desc, language_code, metadata, late_payment_policy,
    request, request_fingerprint, request_encoding, request_key_id, state, status_reason, version, booking_action,
    outcome_certain, mpesa_receipt_number, paid_late, completed_at, blocks_booking, said_confirm, money_case_open,
    merchant_request_id, sent_at, not_sent_count, result_seen, paid_twice, due_at, query_at, chain_hash, created_at,
    updated_at, expires_at)
SELECT uuid_of, '{CALLER}', 'request-' || n, 'ref' || n, 'BK-' || n, 1, 500, '174379',
    '', int4send(n::int), 'ref' || n, 'Booking', 'en', '{{}}', 'REVIEW', '', '', 1, 'k',
    CASE story WHEN 'PENDING_RECEIPT' THEN 'COMPLETED' ELSE story END,
    CASE story WHEN 'FAILED' THEN 'WRONG_PIN' END, 1, 'WAIT', story NOT IN ('EXPIRED', 'PROMPTED', 'PENDING_RECEIPT'),
    CASE WHEN story IN ('COMPLETED', 'REFUNDED') THEN 'R' || n END, false,
    CASE WHEN story IN ('COMPLETED', 'PENDING_RECEIPT', 'REFUNDED') THEN at END, story = 'PROMPTED', false, false,
    'm' || n, at, 0, true, false,
    CASE WHEN story IN ('EXPIRED', 'PROMPTED', 'PENDING_RECEIPT') THEN now() + interval '1 day' END,
    CASE WHEN story IN ('EXPIRED', 'PROMPTED') THEN now() + interval '1 hour' END, '', at, at, at
FROM wanted;
UPDATE payment_transactions SET due_at = now() - interval '1 second', query_at = now() - interval '1 second'
WHERE state = 'PROMPTED' AND booking_id IN (SELECT 'BK-' || n FROM generate_series({PAYMENTS} - 4, {PAYMENTS}) AS n);
INSERT INTO payment_events (tag, payment_id, version, caller, event_type, fact_id, fact_kind, state, booking_action,
    outcome_certain, amount, paid_late, expires_at, occurred_at, chain_encoding, chain_key_id, previous_hash, hash)
SELECT '', uuid_of, 1, '{CALLER}', 'CREATED', 'created', 'PaymentCreated', 'CREATED', 'WAIT', false, 500, false, at, at,
    1, 'k', '', '' FROM wanted ORDER BY n;
INSERT INTO receipts_due (payment_id, due_at) SELECT uuid_of, now() + CASE WHEN n % 60000 = 0 THEN interval '-1 hour'
    ELSE interval '1 day' END FROM wanted WHERE story = 'COMPLETED' AND n % 6 = 0;
ANALYZE payment_transactions; ANALYZE payment_events; ANALYZE receipts_due;
"""

Read = Callable[[AsyncConnection], Awaitable[Any]]


def middle() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=PAYMENTS / 2)


def listing(**wanted: Any) -> Read:
    return lambda conn: reads.list_payments(conn, CALLER, PaymentFilter(**wanted), None, 51)


def listing_everybodys(**wanted: Any) -> Read:
    return lambda conn: reads.list_payments(conn, None, PaymentFilter(**wanted), None, 51)


def finding(**known: Any) -> Read:
    return lambda conn: payment_search.find_payments(conn, PaymentSearch(**known), None, 51)


def not_again(_claimed: push_queries.Claimed) -> datetime | None:
    return None


class Unsealed(Sealer):
    """For payments that were filled in without sealing anything."""

    def __init__(self) -> None: ...

    def open(self, place: str, row_id: bytes | str, sealed: bytes) -> bytes:
        return b"254722000126"


def row_without_a_name() -> PulledRow:
    """A till's row about one of the expired payments: its amount and its time are all that it shares with it."""
    return PulledRow("RCPT", "RCPT", 500, "", (middle(),), received=True, payer=VisibleDigits("7", "126"))


READS: dict[str, Read] = {
    "receipts that are due": lambda conn: issued_receipts.claim_due_receipts(
        conn, datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=10), 200
    ),
    "the receipt of a payment": lambda conn: issued_receipts.latest_receipt(conn, UUID(int=1)),
    "ListPayments": listing(),
    "ListPayments, before a payment": lambda conn: reads.list_payments(
        conn, CALLER, PaymentFilter(), first_id_at(middle()), 51
    ),
    "ListPayments, by a rare status": listing(statuses=("REFUNDED",)),
    "ListPayments, by two statuses": listing(statuses=("PROCESSING", "REFUNDED")),
    "ListPayments, by a common status": listing(statuses=("COMPLETED",)),
    "ListPayments, of a minute long ago": lambda conn: listing(
        created_from=middle(), created_before=middle() + timedelta(minutes=1)
    )(conn),
    "ListPayments, by status, of a minute long ago": lambda conn: listing(
        statuses=("FAILED",), created_from=middle(), created_before=middle() + timedelta(minutes=1)
    )(conn),
    "ListPayments, by booking": listing(booking_id="BK-777"),
    "ListPayments, by reference": listing(reference="ref778"),
    "ListPayments, by request id": listing(request_id="request-779"),
    "ListPayments, by receipt": listing(receipt="R780"),
    "ListPayments of everybody": listing_everybodys(),
    "ListPayments of everybody, by a rare status": listing_everybodys(statuses=("REFUNDED",)),
    "ListPayments of everybody, by two statuses": listing_everybodys(statuses=("PROCESSING", "COMPLETED")),
    "ListPayments of everybody, by booking": listing_everybodys(booking_id="BK-777"),
    "ListPayments of everybody, by reference": listing_everybodys(reference="ref778"),
    "ListPayments of everybody, by request id": listing_everybodys(request_id="request-779"),
    "ListPayments of everybody, by receipt": listing_everybodys(receipt="R780"),
    "ListCases": lambda conn: casework.open_cases_by_deadline(conn, CaseFilter(), None, 51),
    "FindPayments, by phone number": finding(phone_index=(784).to_bytes(4, "big")),
    "FindPayments, by receipt": finding(receipt="R785"),
    "FindPayments, by booking": finding(booking_id="BK-786"),
    "FindPayments, by reference": finding(reference="ref787"),
    "FindPayments, by request id": finding(request_id="request-788"),
    "FindPayments, completed in a minute long ago": lambda conn: finding(
        completed_from=middle(), completed_before=middle() + timedelta(minutes=1)
    )(conn),
    "RetryPayment": lambda conn: reads.request_of(conn, CALLER, first_id_at(middle())),
    "WatchPayment, history of a booking": lambda conn: reads.events_between(
        conn, EventScope(CALLER, booking_id="BK-781"), 0, PAYMENTS, 100
    ),
    "WatchPayment, history of a payment": lambda conn: reads.events_between(
        conn, EventScope(CALLER, payment_id=UUID(int=1)), 0, PAYMENTS, 100
    ),
    "timers": lambda conn: due_timers.claim_due_timers(
        conn, datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1), 200
    ),
    "queries, counted": lambda conn: push_queries.count_due(conn, datetime.now(UTC)),
    "queries, claimed": lambda conn: push_queries.claim_queries(conn, "174379", datetime.now(UTC), 20, not_again),
    "status, wanted": lambda conn: status_questions.next_wanted(
        conn,
        shortcodes=["174379"],
        unclaimed=CaseKind.UNCLAIMED_MONEY.value,
        unbacked=CaseKind.UNBACKED_MONEY.value,
        completed_before=datetime.now(UTC),
        queried_before=datetime.now(UTC),
        tries_max=6,
        refund_sent_before=datetime.now(UTC),
        refund_tries_max=11,
        now=datetime.now(UTC),
    ),
    "callbacks, due": lambda conn: inbox.due_callbacks(conn, datetime.now(UTC), 40),
    "callbacks, matched": lambda conn: inbox.matched_callbacks(conn, 40),
    "pull, rows without a name": lambda conn: pull_candidates.lookalikes(
        conn, Unsealed(), "174379", [row_without_a_name()], datetime.now(UTC)
    ),
    "pull, rows with a name": lambda conn: pull_candidates.candidates_named(
        conn, ["ref782"], datetime.now(UTC) - timedelta(days=7)
    ),
    "pull, receipts": lambda conn: pull_candidates.holders_of(conn, ["R783"]),
    "pull, the first payment": pull_progress.first_payment_at,
    "provider, pushes": lambda conn: provider_health.count_pushes(conn, middle(), middle()),
    "provider, codes": lambda conn: provider_health.latest_result_codes(conn, middle(), 10),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_read_and_step_touches_rows_in_proportion(database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(FILL)
        # A database at rest: what vacuum has not seen yet would be counted as touched.
        owner.execute("VACUUM payment_transactions")
        owner.execute("VACUUM payment_events")
    # As the owner: what is explained is run a second time.
    engine = read_engine(database.owner_url)
    statements: list[tuple[str, Any]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_conn: object, _cursor: object, sql: str, parameters: Any, _context: object, many: bool) -> None:
        if not many and not sql.startswith("EXPLAIN"):
            statements.append((sql, parameters))

    too_much, table = {}, []
    for name, read in READS.items():
        statements.clear()
        async with engine.connect() as conn:
            result = await read(conn)
            await conn.rollback()
            touched = sum([await rows_touched(conn, sql, parameters) for sql, parameters in tuple(statements)])
            await conn.rollback()
        returned = len(result) if hasattr(result, "__len__") else int(result is not None)
        table.append(f"{name:48} {returned:6} returned {touched:8} touched")
        if touched > returned * TOUCHED_PER_ROW + TOUCHED_MORE:
            too_much[name] = touched
    await engine.dispose()
    print("\n".join(table))  # noqa: T201 -- the table is what a reader of the run wants to see
    assert too_much == {}


async def rows_touched(conn: AsyncConnection, sql: str, parameters: Any) -> int:
    """Rows that the statement looked at, whether it gave them back or not."""
    explained = await conn.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
    plan = explained.scalar_one()
    return touched_by((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
