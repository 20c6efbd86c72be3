"""The SQL of all reads: payments as they stand, and the log.

Each statement is written once. Those that the tailer runs many times a second
are also kept as text, because psycopg alone runs them at a third of the cost.
Rows are returned as they are stored, phone numbers sealed; what a caller may
see of them is decided in `application.read_payments`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.callers import callers_of_payments
from payment_service.store.pipeline import Connection, Statement
from payment_service.store.tables import events, log, payments
from payment_service.store.time_ordered_ids import MADE_WITHIN, first_id_at
from payment_service.store.told_columns import ENDED_BY_THE_EVENT, by_hand_until, refunds_told


class PaymentRow(NamedTuple):
    """A payment as it stands; `phone_number` is sealed."""

    payment_id: UUID
    caller: str
    reference: str
    booking_id: str
    attempt: int
    retry_of: UUID | None
    status: str
    status_reason: str | None
    provider_result_code: str | None
    language_code: str
    booking_action: str
    outcome_certain: bool
    retry_allowed_at: datetime | None
    amount: int
    phone_number: bytes
    phone_warning: str | None
    receipt: str | None
    paid_late: bool
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    completed_at: datetime | None
    metadata: Mapping[str, str]
    version: int
    shortcode: str
    account_reference: str
    pay_by_hand_until: datetime | None
    refunded_amount: int
    refund_id: UUID | None
    refunds: Sequence[Mapping[str, Any]] | None
    """As the log had told of them by then, the oldest first; None where there is none."""


class RequestRow(NamedTuple):
    """What a payment was asked for with, as it was understood; `phone_number` is sealed."""

    booking_id: str
    reference: str
    phone_number: bytes
    phone_warning: str | None
    amount: int
    shortcode: str
    account_reference: str
    """As the payer sees it."""
    description: str
    language_code: str
    metadata: Mapping[str, str]
    hold_expire_at: datetime | None
    late_payment_policy: str


class EventRow(NamedTuple):
    """An event with what its payment never changes; `phone_number` is sealed."""

    position: int
    tag: bytes
    payment_id: UUID
    version: int
    caller: str
    event_type: str
    previous_state: str | None
    state: str
    status_reason: str | None
    provider_result_code: str | None
    booking_action: str
    outcome_certain: bool
    retry_allowed_at: datetime | None
    receipt: str | None
    paid_late: bool
    completed_at: datetime | None
    expires_at: datetime
    occurred_at: datetime
    reference: str
    booking_id: str
    attempt: int
    retry_of: UUID | None
    amount: int
    phone_number: bytes
    phone_warning: str | None
    language_code: str
    metadata: Mapping[str, str]
    created_at: datetime
    shortcode: str
    account_reference: str
    pay_by_hand_until: datetime | None
    refunded_amount: int
    refund_id: UUID | None
    refunds: Sequence[Mapping[str, Any]] | None
    """As the log had told of them by then, the oldest first; None where there is none."""


class Place(NamedTuple):
    """A place in the log: an event's position and its random tag."""

    position: int
    tag: bytes


class Head(NamedTuple):
    """The newest event of the log, and which log it is; position 0 when it is empty."""

    log_id: UUID
    position: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """Which payments to list; all that is set must match."""

    booking_id: str | None = None
    reference: str | None = None
    request_id: str | None = None
    receipt: str | None = None
    statuses: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventScope:
    """Which events of a caller, or of everybody: one payment's, one booking's, or all; in some states, or in any."""

    caller: str | None
    payment_id: UUID | None = None
    booking_id: str | None = None
    states: tuple[str, ...] = ()


_p, _e = payments.c, events.c

_AMOUNT = cast(_p.amount, BigInteger)
# As `Payment.shown_reason`; an event holds what was shown.
_SHOWN_REASON = case(
    (_p.booking_action == literal_column("'REVIEW'"), func.coalesce(_p.review_reason, _p.status_reason)),
    else_=_p.status_reason,
)


def _columns(fields: Sequence[str], *tables: Table, **elsewhere: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """One for each field of a row: of its name, in the first table that has it, or what `elsewhere` reads it from."""
    named = {column.name: column for table in reversed(tables) for column in table.c}
    return [elsewhere[field] if field in elsewhere else named[field] for field in fields]


_SHOWN = {
    "amount": _AMOUNT,
    "receipt": _p.mpesa_receipt_number,
    "status_reason": _SHOWN_REASON,
    "refunded_amount": cast(_p.refunded_amount, BigInteger),
    "refunds": refunds_told(payments.name, "r.ended_at IS NOT NULL"),
    "pay_by_hand_until": by_hand_until(payments.name),
}
_PAYMENT = select(*_columns(PaymentRow._fields, payments, **_SHOWN))
_REQUEST = select(*_columns(RequestRow._fields, payments, amount=_AMOUNT, description=_p.transaction_desc))
_EVENT = select(
    *_columns(
        EventRow._fields,
        events,
        payments,
        amount=_AMOUNT,
        receipt=_e.mpesa_receipt_number,
        refunded_amount=cast(_e.refunded_amount, BigInteger),
        refunds=refunds_told(events.name, ENDED_BY_THE_EVENT),
        pay_by_hand_until=by_hand_until(events.name),
    )
).select_from(events.join(payments, _e.payment_id == _p.payment_id))


def _text(statement: Select[Any], paramstyle: Literal["pyformat", "numeric_dollar"] = "pyformat") -> str:
    """The statement as psycopg takes it, with named parameters; or as `Statement` does, with $1, $2, …"""
    dialect = PGDialect_psycopg(paramstyle=paramstyle)  # type: ignore[no-untyped-call]  # SQLAlchemy leaves the dialect's constructor untyped
    return str(statement.compile(dialect=dialect))


_AFTER = _e.position > bindparam("after", type_=BigInteger)
_NEWEST = select(func.max(_e.position)).scalar_subquery()

_TAIL = _text(_EVENT.where(_AFTER).order_by(_e.position).limit(bindparam("most")), "numeric_dollar")
_HEAD = _text(
    select(log.c.log_id, _e.position, _e.tag).select_from(log.outerjoin(events, _e.position == _NEWEST)),
)
_TAG_AT = _text(select(_e.tag).where(_e.position == bindparam("position", type_=BigInteger)))
_BY_IDS = f"{_text(_PAYMENT)} WHERE payment_transactions.payment_id = ANY(%(ids)s)"
_BY_REFERENCES = f"{_text(_PAYMENT)} WHERE payment_transactions.reference = ANY(%(references)s)"


def tail(after: int, most: int) -> Statement:
    """The next events of the whole log, oldest first; rows for `EventRow`."""
    return Statement(_TAIL, (str(after), str(most)))


async def head(connection: Connection) -> Head:
    """Where the log ends now."""
    cursor = await connection.execute(_HEAD)
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("event_log has no row: the database was not migrated")
    log_id, position, tag = row
    return Head(log_id, position or 0, tag or b"")


async def tag_at(connection: Connection, position: int) -> bytes | None:
    """The random tag of the event at this position; None where there is none."""
    cursor = await connection.execute(_TAG_AT, {"position": position})
    row = await cursor.fetchone()
    if row is None:
        return None
    tag: bytes
    (tag,) = row
    return tag


async def payments_by(connection: Connection, ids: Sequence[UUID], references: Sequence[str]) -> list[PaymentRow]:
    """Payments of any caller by id or by reference."""
    cursors = []
    if ids:
        cursors.append(await connection.execute(_BY_IDS, {"ids": list(ids)}))
    if references:
        cursors.append(await connection.execute(_BY_REFERENCES, {"references": list(references)}))
    return [PaymentRow._make(row) for cursor in cursors for row in await cursor.fetchall()]


async def payments_of_booking(connection: AsyncConnection, caller: str | None, booking_id: str) -> list[PaymentRow]:
    """All attempts of a booking, the oldest first; without a caller, of everybody's booking of that name."""
    named = _PAYMENT.where(*_of(caller, _p.caller), _p.booking_id == booking_id)
    return [PaymentRow._make(row) for row in await connection.execute(named.order_by(_p.caller, _p.attempt))]


async def payments_named(connection: AsyncConnection, ids: Sequence[UUID]) -> list[PaymentRow]:
    """Payments of any caller, the newest first."""
    named = _PAYMENT.where(_p.payment_id.in_(ids)).order_by(_p.payment_id.desc())
    return [PaymentRow._make(row) for row in await connection.execute(named)]


async def list_payments(
    connection: AsyncConnection, caller: str | None, wanted: PaymentFilter, before: UUID | None, most: int
) -> list[PaymentRow]:
    """Payments of a caller, or of everybody, the newest first: ids are in order of creation."""
    conditions = []
    for column, value in (
        (_p.booking_id, wanted.booking_id),
        (_p.reference, wanted.reference),
        (_p.request_id, wanted.request_id),
        (_p.mpesa_receipt_number, wanted.receipt),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.created_from is not None:
        # The times are bounds of the ids, too: no row outside of them is read.
        conditions += [
            _p.created_at >= wanted.created_from,
            _p.payment_id >= first_id_at(wanted.created_from - MADE_WITHIN),
        ]
    if wanted.created_before is not None:
        conditions += [
            _p.created_at < wanted.created_before,
            _p.payment_id < first_id_at(wanted.created_before + MADE_WITHIN),
        ]
    if before is not None:
        conditions.append(_p.payment_id < before)
    newest_first = _PAYMENT.where(*conditions).order_by(_p.payment_id.desc()).limit(most)
    if not wanted.statuses:
        rows = await connection.execute(newest_first.where(*_of(caller, _p.caller)))
        return [PaymentRow._make(row) for row in rows]
    # The index of statuses is in the order of the ids within one status of one caller only: each is read by itself, and
    # then merged.
    callers = [caller] if caller is not None else await callers_of_payments(connection)
    by_status = [
        newest_first.where(_p.caller == one, _p.status == status).subquery().select()
        for one in callers
        for status in wanted.statuses
    ]
    if not by_status:
        return []
    rows = await connection.execute(union_all(*by_status))
    found = sorted(map(PaymentRow._make, rows), key=lambda row: row.payment_id, reverse=True)
    return found[:most]


async def request_of(connection: AsyncConnection, caller: str, payment_id: UUID) -> RequestRow | None:
    """What a caller's payment was asked for with; None if it has no such payment."""
    named = _REQUEST.where(_p.payment_id == payment_id, _p.caller == caller)
    row = (await connection.execute(named)).one_or_none()
    return None if row is None else RequestRow._make(row)


async def request_id_known(connection: AsyncConnection, caller: str, request_id: str) -> bool:
    """Whether this request id has made a payment."""
    made = exists().where(_p.caller == caller, _p.request_id == request_id)
    return bool(await connection.scalar(select(made)))


async def request_id_of(connection: AsyncConnection, caller: str, payment_id: UUID) -> str:
    """The request id of a payment that is there."""
    of_payment = select(_p.request_id).where(_p.payment_id == payment_id, _p.caller == caller)
    return str((await connection.execute(of_payment)).scalar_one())


async def place_exists(connection: AsyncConnection, position: int, tag: bytes) -> bool:
    """Whether the log holds this very event."""
    held = exists().where(_e.position == position, _e.tag == tag)
    return bool(await connection.scalar(select(held)))


async def place_of_version(connection: AsyncConnection, payment_id: UUID, version: int) -> Place | None:
    """The place of the event that made this version of a payment."""
    made = select(_e.position, _e.tag).where(_e.payment_id == payment_id, _e.version == version)
    row = (await connection.execute(made)).one_or_none()
    return Place._make(row) if row else None


async def place_further_on(connection: AsyncConnection, after: int, upto: int, events_most: int) -> Place | None:
    """The place `events_most` events further on in the whole log; None if `upto` comes first."""
    within = select(_e.position, _e.tag).where(_e.position > after, _e.position < upto)
    row = (await connection.execute(within.order_by(_e.position).offset(events_most - 1).limit(1))).one_or_none()
    return Place._make(row) if row else None


async def events_between(
    connection: AsyncConnection, scope: EventScope, after: int, upto: int, most: int
) -> list[EventRow]:
    """Events in the scope after one position and up to another, oldest first."""
    conditions = [*_of(scope.caller, _e.caller), _e.position > after, _e.position <= upto]
    if scope.payment_id is not None:
        conditions.append(_e.payment_id == scope.payment_id)
    elif scope.booking_id is not None:
        # The caller once more, on the side where the index of bookings is.
        conditions += [*_of(scope.caller, _p.caller), _p.booking_id == scope.booking_id]
    if scope.states:
        conditions.append(_e.state.in_(scope.states))
    statement = _EVENT.where(*conditions).order_by(_e.position).limit(most)
    return [EventRow._make(row) for row in await connection.execute(statement)]


def _of(caller: str | None, column: ColumnElement[str]) -> list[ColumnElement[bool]]:
    """What leaves only the caller's rows; nothing where everybody's are wanted."""
    return [] if caller is None else [column == caller]
