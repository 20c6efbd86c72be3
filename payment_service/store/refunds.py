"""Refunds: those of the locked payments, what is written of them, and which are to be sent, timed or asked about.

Only `application.record_facts` calls the functions that write a refund's state. That a receipt's refunds never add up
to more than was received is held by the table itself: constraint `refunds_within_receipt`.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.refund import Refund, RefundMethod, RefundReason, RefundState
from payment_service.store.many_rows import array_of, columns_of, inserting, updating
from payment_service.store.pipeline import Connection, Statement
from payment_service.store.refund_tables import refunds
from payment_service.store.tables import payments

_FIELDS = tuple(field.name for field in fields(Refund))
_MUTABLE = _FIELDS[_FIELDS.index("state") :]
_SELECTED = ", ".join(_FIELDS)

_INSERT = inserting(refunds, _FIELDS)
_UPDATE = updating(refunds, "refund_id", "state", _MUTABLE)
_OF_PAYMENTS = f"SELECT {_SELECTED} FROM refunds WHERE payment_id = ANY($1::uuid[]) ORDER BY refund_id"
_ABOUT = f"SELECT {_SELECTED} FROM refunds WHERE payment_id = ANY(%s) ORDER BY requested_at, refund_id"
_RECEIVED = """
SELECT receipt, amount, proven_by IS NOT NULL FROM mpesa_receipts WHERE payment_id = ANY($1::uuid[])"""
# One after the other, until each commits: what is counted can grow by nobody else's hand meanwhile.
_LOCK_BY_ITSELF = "SELECT count(pg_advisory_xact_lock(1919315556, 1))"
_BY_ITSELF = """
SELECT count(*), coalesce(sum(amount), 0)::bigint FROM refunds WHERE by_itself AND requested_at > $1::timestamptz"""
_NAMED = "SELECT reference, refund_id, payment_id FROM refunds WHERE reference = ANY(%s)"

REFUND_DUE = refunds.c.due_at <= bindparam("now")
REFUND_TO_SEND = refunds.c.send_at <= bindparam("now")

_DUE = (
    select(refunds.c.refund_id, refunds.c.payment_id)
    .where(REFUND_DUE)
    .order_by(refunds.c.due_at)
    .limit(bindparam("most"))
)
_TO_SEND = (
    select(*(refunds.c[name] for name in _FIELDS))
    .where(REFUND_TO_SEND, refunds.c.shortcode.in_(bindparam("shortcodes", expanding=True)))
    .order_by(refunds.c.send_at)
    .limit(bindparam("most"))
)


_LONGEST_WAITING = (
    select(*(refunds.c[name] for name in _FIELDS))
    .where(refunds.c.send_at.is_not(None), refunds.c.requested_at <= bindparam("before"))
    .order_by(refunds.c.requested_at)
    .limit(1)
)


class RefundNames(NamedTuple):
    """What a refund goes by, and its payment."""

    reference: str
    refund_id: UUID
    payment_id: UUID


class DueRefund(NamedTuple):
    """A refund whose timer has run out."""

    refund_id: UUID
    payment_id: UUID


def insert_refunds(rows: Sequence[Refund]) -> Statement:
    """Record refunds. One too many for its receipt is an error: `refunds_within_receipt`."""
    return Statement(_INSERT, columns_of([[getattr(row, name) for name in _FIELDS] for row in rows]))


def update_refunds(pairs: Sequence[tuple[Refund, Refund]]) -> Statement:
    """Write refunds as they are now, each only if its row still has the state that it was read with."""
    rows = [[after.refund_id, before.state, *(getattr(after, name) for name in _MUTABLE)] for before, after in pairs]
    return Statement(_UPDATE, columns_of(rows))


def refunds_of(payment_ids: Sequence[UUID]) -> Statement:
    """The refunds of the given payments; rows for `refund_of`."""
    return Statement(_OF_PAYMENTS, (array_of(payment_ids),))


def received_of(payment_ids: Sequence[UUID]) -> Statement:
    """(receipt, what it brought; null where nobody could read it, whether it is proven) of the given payments."""
    return Statement(_RECEIVED, (array_of(payment_ids),))


def lock_by_itself() -> Statement:
    """Let no other transaction count, or record, refunds that nobody asks for until this one ends."""
    return Statement(_LOCK_BY_ITSELF)


def sent_by_itself(since: datetime) -> Statement:
    """(how many, how much) refunds that nobody asked for were recorded since then."""
    return Statement(_BY_ITSELF, (since.isoformat(),))


def refund_of(row: Sequence[Any]) -> Refund:
    """The refund of a row that was selected here."""
    values = dict(zip(_FIELDS, row, strict=True))
    values |= {
        "amount": int(values["amount"]),
        "reason": RefundReason(values["reason"]),
        "method": RefundMethod(values["method"]),
        "state": RefundState(values["state"]),
    }
    return Refund(**values)


async def named(conn: Connection, references: Sequence[str]) -> list[RefundNames]:
    """The refunds that have these references. A refund's names never change."""
    cursor = await conn.execute(_NAMED, (list(references),))
    return [RefundNames._make(row) for row in await cursor.fetchall()]


async def refunds_about(conn: Connection, payment_ids: Sequence[UUID]) -> list[Refund]:
    """The refunds of the given payments, the oldest first."""
    cursor = await conn.execute(_ABOUT, (list(payment_ids),))
    return [refund_of(row) for row in await cursor.fetchall()]


async def due_refunds(conn: AsyncConnection, now: datetime, most: int) -> list[DueRefund]:
    """Refunds whose timer has run out, the longest first."""
    return [DueRefund._make(row) for row in await conn.execute(_DUE, {"now": now, "most": most})]


async def initiator_proven(conn: AsyncConnection, sent_as: str, since: datetime) -> bool:
    """Whether M-Pesa has carried out a refund of this initiator since then: its password is right."""
    done = select(refunds.c.refund_id).where(
        refunds.c.sent_as == sent_as, refunds.c.state == "DONE", refunds.c.ended_at >= since
    )
    # The order is that of an index: one row is read, however many refunds the time holds.
    return (await conn.scalar(done.order_by(refunds.c.ended_at.desc()).limit(1))) is not None


async def order_on_its_way(conn: AsyncConnection, sent_as: str) -> bool:
    """Whether a refund of this initiator is on the wire, or waits for its result."""
    under_way = refunds.c.due_at.is_not(None) & refunds.c.state.in_(("SENDING", "ACCEPTED"))
    return bool(await conn.scalar(select(exists().where(refunds.c.sent_as == sent_as, under_way))))


async def payer_of(conn: AsyncConnection, payment_id: UUID) -> bytes:
    """The sealed number that the payment was asked for from, and that a part of it goes back to."""
    sealed = await conn.scalar(select(payments.c.phone_number).where(payments.c.payment_id == payment_id))
    assert isinstance(sealed, bytes), "a refund has a payment"
    return sealed


async def refunds_to_send(conn: AsyncConnection, shortcodes: Sequence[str], now: datetime, most: int) -> list[Refund]:
    """Refunds that may be sent now, the longest waiting first."""
    rows = await conn.execute(_TO_SEND, {"now": now, "most": most, "shortcodes": list(shortcodes)})
    return [refund_of(row) for row in rows]


async def longest_waiting(conn: AsyncConnection, before: datetime) -> Refund | None:
    """Of the refunds that were asked for before and are not under way, the one that has waited longest."""
    row = (await conn.execute(_LONGEST_WAITING, {"before": before})).first()
    return refund_of(row) if row is not None else None
