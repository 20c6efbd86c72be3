"""Every row that is kept about a payment or a phone, as it is, for whoever has a right to read all of it.

Reads only. A new table with anything about a payer belongs into the lists here; a test holds them against the schema.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import LargeBinary, text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.provider_tables import whole_schema
from payment_service.store.sealed_values import SEALED, Place

ROWS_MAX: Final = 100
"""Of a table about one payment: with bodies of some KiB each, one page stays below what gRPC's clients take."""

_REFERENCES = (
    "(SELECT reference FROM payment_transactions WHERE payment_id = :payment_id"
    " UNION ALL SELECT reference FROM refunds WHERE payment_id = :payment_id)"
)
_OF_PAYMENT = "payment_id = :payment_id"
_CALLBACKS = f"{_OF_PAYMENT} OR reference IN {_REFERENCES}"
ABOUT_PAYMENT: Final[Mapping[str, str]] = {
    "payment_transactions": _OF_PAYMENT,
    "payment_events": f"{_OF_PAYMENT} ORDER BY version",
    "caller_requests": f"{_OF_PAYMENT} ORDER BY kept_at",
    "daraja_exchanges": f"{_OF_PAYMENT} ORDER BY started_at",
    "callback_inbox": f"{_CALLBACKS} ORDER BY received_at",
    "callback_replays": f"callback_id IN (SELECT callback_id FROM callback_inbox WHERE {_CALLBACKS})",
    "mpesa_receipts": _OF_PAYMENT,
    "refunds": f"{_OF_PAYMENT} ORDER BY requested_at",
    "cases": f"reference IN {_REFERENCES} ORDER BY opened_at",
    "case_acts": f"case_id IN (SELECT case_id FROM cases WHERE reference IN {_REFERENCES}) ORDER BY acted_at",
    "approvals": f"{_OF_PAYMENT} ORDER BY asked_at",
    "issued_receipts": f"{_OF_PAYMENT} ORDER BY revision",
    "daraja_questions": _OF_PAYMENT,
    "risk_decisions": f"{_OF_PAYMENT} ORDER BY decided_at",
}
"""The tables with rows about a payment, and which rows those are."""
ABOUT_PHONE: Final[Mapping[str, str]] = {
    "risk_decisions": "phone_index = :phone_index AND payment_id IS NULL ORDER BY decided_at",
    "risk_list": "phone_index = :phone_index ORDER BY position",
}
"""The tables with rows about a phone that belong to no payment."""


class SealedColumn(NamedTuple):
    """A value of a row that is stored encrypted."""

    place: Place
    row_id: bytes
    sealed: bytes | None


class KeptRow(NamedTuple):
    """One row, by column; bytes that only a machine reads are left out."""

    table: str
    columns: dict[str, Any]
    sealed: Sequence[SealedColumn]


async def rows_about_payment(conn: AsyncConnection, payment_id: UUID) -> list[KeptRow]:
    """All rows about a payment, the first `ROWS_MAX` of each table."""
    rows = []
    for table, where in ABOUT_PAYMENT.items():
        rows += await _rows(conn, table, where, {"payment_id": payment_id})
    return rows


async def rows_about_phone(conn: AsyncConnection, phone_index: bytes) -> list[KeptRow]:
    """All rows about a phone that belong to no payment, the first `ROWS_MAX` of each table."""
    rows = []
    for table, where in ABOUT_PHONE.items():
        rows += await _rows(conn, table, where, {"phone_index": phone_index})
    return rows


async def _rows(conn: AsyncConnection, table: str, where: str, values: Mapping[str, object]) -> list[KeptRow]:
    places = [place for place in SEALED if place.table == table]
    raw = [column.name for column in whole_schema.tables[table].columns if isinstance(column.type, LargeBinary)]
    selected = [f"to_jsonb({table}) - CAST(:raw AS text[])"]
    for place in places:
        selected += [place.sealed_for, place.column]
    statement = f"SELECT {', '.join(selected)} FROM {table} WHERE {where} LIMIT {ROWS_MAX}"
    found = await conn.execute(text(statement), {**values, "raw": raw})
    return [
        KeptRow(
            table,
            row[0],
            [SealedColumn(place, row[1 + 2 * i], row[2 + 2 * i]) for i, place in enumerate(places)],
        )
        for row in found
    ]
