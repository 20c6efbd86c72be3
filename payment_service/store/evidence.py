"""What is kept beside payments: exchanges with Daraja, receipts, and the cases that people look at."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, insert, or_, select, text
from sqlalchemy.dialects.postgresql import insert as insert_or_not
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from payment_service.domain.case_rules import deadline_of
from payment_service.domain.cases import UNAPPLIED, Case, CaseKind, OpenCase
from payment_service.domain.facts import Fact, ResultReported, TakenBack
from payment_service.domain.refund_facts import AboutRefund
from payment_service.store.many_rows import array_of, columns_of, inserting
from payment_service.store.pipeline import Statement
from payment_service.store.tables import DOUBTED_SQL, cases, exchanges, receipts

UNAPPLIED_KINDS = "(" + ", ".join(f"'{kind.value}'" for kind in sorted(UNAPPLIED)) + ")"
"""The kinds of those cases, as SQL takes them."""


class ExchangeRow(NamedTuple):
    """One request to Daraja and its answer, both sealed for the row's id."""

    exchange_id: UUID
    payment_id: UUID | None
    operation: str
    http_status: int | None
    classified_as: str
    request: bytes
    answer: bytes
    started_at: datetime
    duration_ms: int


class ReceiptRow(NamedTuple):
    """One receipt number as it was recorded."""

    receipt: str
    payment_id: UUID
    amount: Decimal | int | None
    counted: bool
    seen_at: datetime
    proven_by: str | None = None
    """What has shown beside a callback that it is this payment's."""


class NewCase(NamedTuple):
    """A case as it is opened."""

    case_id: UUID
    payment_id: UUID | None
    reference: str
    kind: CaseKind
    is_money: bool
    fact_id: str
    mpesa_receipt_number: str | None
    amount: int | None
    opened_at: datetime
    deadline_at: datetime


class EndedCase(NamedTuple):
    """How a case ends."""

    reference: str
    fact_id: str
    """Of the fact that opened it."""
    by_fact: str
    resolution: str | None
    """An operator's; None where it is proof that ends it."""


_INSERT_EXCHANGES = inserting(exchanges, ExchangeRow._fields, "ON CONFLICT DO NOTHING")
_INSERT_RECEIPTS = inserting(receipts, ReceiptRow._fields)
_INSERT_CASES = inserting(
    cases,
    NewCase._fields,
    # What a callback leads to once it is applied takes the place of the case that it was not.
    "ON CONFLICT (reference, fact_id) DO UPDATE SET payment_id = EXCLUDED.payment_id, kind = EXCLUDED.kind,"
    " is_money = EXCLUDED.is_money, opened_at = EXCLUDED.opened_at, deadline_at = EXCLUDED.deadline_at,"
    " settled_at = NULL, settled_by = NULL, resolution = NULL, version = cases.version + 1"
    f" WHERE cases.kind IN {UNAPPLIED_KINDS} AND EXCLUDED.kind NOT IN {UNAPPLIED_KINDS}",
)
_COUNT_RECEIPTS = """
UPDATE mpesa_receipts AS t SET counted = true, payment_id = own.payment_id
FROM unnest($1::text[], $2::uuid[]) AS own (receipt, payment_id)
WHERE t.receipt = own.receipt AND (t.payment_id = own.payment_id OR NOT t.counted)"""
_PROVE_RECEIPTS = """
UPDATE mpesa_receipts AS t SET proven_by = shown.by
FROM unnest($1::text[], $2::text[]) AS shown (receipt, by) WHERE t.receipt = shown.receipt"""
_SETTLE_CASES = f"""
UPDATE cases AS t SET settled_at = $3::timestamptz, version = t.version + 1
FROM unnest($1::text[], $2::text[]) AS applied (reference, fact_id)
WHERE t.reference = applied.reference AND t.fact_id = applied.fact_id AND t.kind IN {UNAPPLIED_KINDS}
AND t.settled_at IS NULL"""
_OPEN_CASES = """
SELECT c.payment_id, c.kind, c.is_money, c.fact_id, c.mpesa_receipt_number, r.refund_id,
    ARRAY(SELECT a.refund_id FROM case_acts a WHERE a.case_id = c.case_id AND a.refund_id IS NOT NULL)
FROM cases c LEFT JOIN refunds r ON r.refund_id = c.refund_id AND r.ended_at IS NULL
WHERE c.payment_id = ANY($1::uuid[]) AND c.settled_at IS NULL ORDER BY c.opened_at, c.case_id"""
_END_CASES = """
UPDATE cases AS t SET settled_at = $5::timestamptz, settled_by = ended.by_fact, resolution = ended.resolution,
    version = t.version + 1
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS ended (reference, fact_id, by_fact, resolution)
WHERE t.reference = ended.reference AND t.fact_id = ended.fact_id AND t.settled_at IS NULL"""
DOUBTS_PROVEN = (
    select(cases.c.payment_id, cases.c.mpesa_receipt_number)
    .join_from(cases, receipts, receipts.c.receipt == cases.c.mpesa_receipt_number)
    .where(cases.c.settled_at.is_(None), text(DOUBTED_SQL), cases.c.payment_id.is_not(None))
    # A receipt that was another payment's already when it was told with foreign ids is no doubt that its proof ends.
    .where(or_(cases.c.kind == "UNCLAIMED_MONEY", receipts.c.seen_at > cases.c.opened_at))
    .limit(bindparam("most"))
)
_RECEIPT_HOLDERS = "SELECT receipt, payment_id, amount FROM mpesa_receipts WHERE receipt = ANY($1::text[])"


def insert_exchanges(rows: Sequence[ExchangeRow]) -> Statement:
    """Keep what went over the wire to Daraja."""
    return Statement(_INSERT_EXCHANGES, columns_of(rows))


def insert_receipts(rows: Sequence[ReceiptRow]) -> Statement:
    """Record receipt numbers. A number that another payment holds is an error: constraint `receipts_pk`."""
    return Statement(_INSERT_RECEIPTS, columns_of(rows))


def count_receipts(counted: Sequence[tuple[str, UUID]]) -> Statement:
    """Let receipts count that were recorded in doubt, for this payment or another: pairs of (receipt, payment id)."""
    return Statement(_COUNT_RECEIPTS, columns_of(counted))


def prove_receipts(shown: Sequence[tuple[str, str]]) -> Statement:
    """Note what has shown that receipts are their payments': pairs of (receipt, what)."""
    return Statement(_PROVE_RECEIPTS, columns_of(shown))


def insert_cases(rows: Sequence[NewCase]) -> Statement:
    """Open cases, at most one for a fact."""
    return Statement(_INSERT_CASES, columns_of(rows))


def settle_unapplied(keys: Sequence[tuple[str, str]], at: datetime) -> Statement:
    """End the cases of callbacks that have been applied by now: pairs of (reference, fact id)."""
    return Statement(_SETTLE_CASES, (*columns_of(keys), at.isoformat()))


def open_cases(ids: Sequence[UUID]) -> Statement:
    """The open cases of the given payments; rows for `open_case_of`."""
    return Statement(_OPEN_CASES, (array_of(ids),))


def open_case_of(row: Sequence[Any]) -> tuple[UUID, OpenCase]:
    """The payment and the case of a row that was selected by `open_cases`."""
    payment_id, kind, is_money, fact_id, receipt, refund_id, returns = row
    return payment_id, OpenCase(kind, is_money, fact_id, receipt, refund_id, tuple(returns))


def end_cases(ended: Sequence[EndedCase], at: datetime) -> Statement:
    """End cases that are open."""
    return Statement(_END_CASES, (*columns_of(ended), at.isoformat()))


async def doubts_proven(conn: AsyncConnection, most: int) -> list[tuple[UUID, str]]:
    """(payment, receipt) of open cases about money whose receipt is recorded with proof."""
    return [(row[0], row[1]) for row in await conn.execute(DOUBTS_PROVEN, {"most": most})]


def receipt_holders(numbers: Sequence[str]) -> Statement:
    """(receipt number, payment id, what it brought; null where nobody could read it) of those that are recorded."""
    return Statement(_RECEIPT_HOLDERS, (array_of(numbers),))


def new_case(payment_id: UUID | None, reference: str, case: Case, fact: Fact | AboutRefund, now: datetime) -> NewCase:
    """A case as it is opened, with the money that the fact tells of."""
    money = fact if isinstance(fact, ResultReported | TakenBack) else None
    receipt = money.shown_as if isinstance(money, TakenBack) else None if money is None else money.receipt
    return NewCase(
        case_id=uuid7(),
        payment_id=payment_id,
        reference=reference,
        kind=case.kind,
        is_money=case.is_money,
        fact_id=fact.fact_id,
        mpesa_receipt_number=receipt,
        amount=money.amount if money is not None and isinstance(money.amount, int) else None,
        opened_at=now,
        deadline_at=deadline_of(case.kind, now),
    )


async def open_case(conn: AsyncConnection, case: NewCase) -> None:
    """Open one case, unless its fact has one."""
    await conn.execute(insert_or_not(cases).values(case._asdict()).on_conflict_do_nothing())


async def insert_exchange(conn: AsyncConnection, exchange: ExchangeRow) -> None:
    """Keep one exchange that changes no payment by itself: a request for a token, a question."""
    await conn.execute(insert(exchanges).values(exchange._asdict()))
