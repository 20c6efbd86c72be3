"""Receipts that passengers hold, and which are to be issued or amended: SQL only.

Only `application.record_facts` calls the functions that write. The service's role may add a revision and alter none. A
payment stands among those that are due from the transaction that changed it to the one that wrote its receipt; the time
there is its own lease, as that of a timer is: whoever moves it forward acts on it.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.cases import CaseKind
from payment_service.domain.payment import Backing, State
from payment_service.domain.receipt import Issuer, Receipt, ReceiptStanding, ReturnedPart, return_in_doubt
from payment_service.domain.tax_invoices import TaxInvoice
from payment_service.store.many_rows import array_of, columns_of, inserting
from payment_service.store.pipeline import Connection, Statement
from payment_service.store.receipt_tables import issued_receipts, receipts_due
from payment_service.store.tables import cases, payments, receipts

_COLUMNS: Final = tuple(column.name for column in issued_receipts.columns)
_NAMES = ", ".join(f"i.{name}" for name in _COLUMNS)

_INSERT = inserting(issued_receipts, _COLUMNS)
_NOTE_DUE = inserting(
    receipts_due, ("payment_id", "due_at"), "ON CONFLICT (payment_id) DO UPDATE SET due_at = EXCLUDED.due_at"
)
_NOTE_TO_AMEND = """
INSERT INTO receipts_due (payment_id, due_at)
SELECT new.payment_id, new.due_at FROM unnest($1::uuid[], $2::timestamptz[]) AS new (payment_id, due_at)
WHERE EXISTS (SELECT FROM issued_receipts r WHERE r.payment_id = new.payment_id)
ON CONFLICT (payment_id) DO UPDATE SET due_at = EXCLUDED.due_at"""
_WRITTEN = "DELETE FROM receipts_due WHERE payment_id = ANY($1::uuid[])"
_LATEST = f"""
SELECT {_NAMES} FROM unnest($1::uuid[]) AS of_payment (payment_id) CROSS JOIN LATERAL (
    SELECT * FROM issued_receipts r WHERE r.payment_id = of_payment.payment_id ORDER BY r.revision DESC LIMIT 1
) AS i"""
_ALL_OF = f"SELECT {_NAMES} FROM issued_receipts i WHERE i.payment_id = ANY(%s) ORDER BY i.payment_id, i.revision"
_DUE_OF = "SELECT payment_id FROM receipts_due WHERE payment_id = ANY(%s)"
_OPEN_RETURN = (
    (cases.c.payment_id == payments.c.payment_id)
    & (cases.c.kind == CaseKind.TAKEN_BACK.value)
    & cases.c.settled_at.is_(None)
)
_RETURNS = (
    payments.c.mpesa_receipt_number.label("receipt"),
    func.array(select(cases.c.mpesa_receipt_number).where(_OPEN_RETURN).scalar_subquery()).label("listed_as"),
    func.array(
        select(receipts.c.receipt)
        .join(cases, cases.c.mpesa_receipt_number == receipts.c.receipt)
        .where(_OPEN_RETURN, receipts.c.amount.is_not(None))
        .correlate(payments)
        .scalar_subquery()
    ).label("known"),
)
"""What `return_in_doubt` is told of a payment."""
_RETURNS_OF = select(*_RETURNS).where(payments.c.payment_id == bindparam("payment_id"))
_LATEST_OF = (
    select(
        *issued_receipts.columns,
        payments.c.state,
        payments.c.backing,
        payments.c.completed_at,
        payments.c.transaction_date,
        *_RETURNS,
    )
    .join_from(issued_receipts, payments, issued_receipts.c.payment_id == payments.c.payment_id)
    .where(issued_receipts.c.payment_id == bindparam("payment_id"))
    .order_by(issued_receipts.c.revision.desc())
    .limit(1)
)
RECEIPT_DUE = receipts_due.c.due_at <= bindparam("now")
_LONGEST_DUE = (
    select(receipts_due.c.payment_id)
    .where(RECEIPT_DUE)
    .order_by(receipts_due.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    update(receipts_due)
    .where(receipts_due.c.payment_id.in_(_LONGEST_DUE))
    .values(due_at=bindparam("again_at"))
    .returning(receipts_due.c.payment_id)
)


def insert_receipts(rows: Sequence[Receipt]) -> Statement:
    """Write revisions. One that is there already is an error: `issued_receipts_pk`."""
    return Statement(_INSERT, columns_of(map(_values, rows)))


def note_due(payment_ids: Collection[UUID], now: datetime) -> Statement:
    """The receipts of these payments have to say something new, from now on."""
    return Statement(_NOTE_DUE, columns_of([(payment_id, now) for payment_id in sorted(payment_ids)]))


def note_to_amend(payment_ids: Collection[UUID], now: datetime) -> Statement:
    """The same, only for those of the payments that have a receipt."""
    return Statement(_NOTE_TO_AMEND, columns_of([(payment_id, now) for payment_id in sorted(payment_ids)]))


def note_written(payment_ids: Collection[UUID]) -> Statement:
    """The receipts of these payments say what they have to say."""
    return Statement(_WRITTEN, (array_of(sorted(payment_ids)),))


def latest_receipts(payment_ids: Sequence[UUID]) -> Statement:
    """The latest revision of each payment that has one; rows for `receipt_of`."""
    return Statement(_LATEST, (array_of(payment_ids),))


def receipt_of(row: Sequence[Any]) -> Receipt:
    """The receipt of a row that was selected here."""
    values = dict(zip(_COLUMNS, row, strict=True))
    tax_invoice = values["tax_invoice"]
    return Receipt(
        **values
        | {
            "standing": ReceiptStanding(values["standing"]),
            "amount": int(values["amount"]),
            "refunded_amount": int(values["refunded_amount"]),
            "returned": tuple(
                ReturnedPart(part["amount"], datetime.fromisoformat(part["returned_at"])) for part in values["returned"]
            ),
            "issuer": Issuer(**values["issuer"]),
            "tax_invoice": None
            if tax_invoice is None
            else TaxInvoice(**tax_invoice | {"issued_at": datetime.fromisoformat(tax_invoice["issued_at"])}),
        }
    )


@dataclass(frozen=True, slots=True)
class HeldReceipt:
    """The latest revision of a payment's receipt, and how its money stands at the same moment."""

    receipt: Receipt
    state: State
    backing: Backing | None
    completed_at: datetime | None
    moved_at: datetime | None
    """When M-Pesa says the money moved."""
    return_doubted: bool
    """See `return_in_doubt`."""


async def latest_receipt(conn: AsyncConnection, payment_id: UUID) -> HeldReceipt | None:
    """The latest revision of a payment's receipt; None where it has none."""
    row = (await conn.execute(_LATEST_OF, {"payment_id": payment_id})).one_or_none()
    if row is None:
        return None
    *receipt, state, backing, completed_at, moved_at, stands_on, listed_as, known = row
    backed = Backing(backing) if backing is not None else None
    doubted = return_in_doubt(stands_on, listed_as, known)
    return HeldReceipt(receipt_of(receipt), State(state), backed, completed_at, moved_at, doubted)


async def return_doubted(conn: AsyncConnection, payment_id: UUID) -> bool:
    """Whether money that M-Pesa lists as returned may be what a payment stands on."""
    row = (await conn.execute(_RETURNS_OF, {"payment_id": payment_id})).one()
    return return_in_doubt(*row)


async def receipts_of(conn: Connection, payment_ids: Sequence[UUID]) -> list[Receipt]:
    """All revisions of the receipts of payments, the first one first."""
    cursor = await conn.execute(_ALL_OF, (list(payment_ids),))
    return [receipt_of(row) for row in await cursor.fetchall()]


async def due_of(conn: Connection, payment_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the payments whose receipts are to be written."""
    cursor = await conn.execute(_DUE_OF, (list(payment_ids),))
    return frozenset(row[0] for row in await cursor.fetchall())


async def claim_due_receipts(conn: AsyncConnection, now: datetime, again_at: datetime, most: int) -> list[UUID]:
    """Payments whose receipts are to be written, the longest due first; they are due again at `again_at`."""
    return [row[0] for row in await conn.execute(_CLAIM, {"now": now, "again_at": again_at, "most": most})]


def _values(receipt: Receipt) -> tuple[object, ...]:
    tax_invoice = receipt.tax_invoice
    jsons: Mapping[str, object] = {
        "returned": json.dumps([asdict(part) for part in receipt.returned], default=_plain),
        "issuer": json.dumps(asdict(receipt.issuer)),
        "tax_invoice": None if tax_invoice is None else json.dumps(asdict(tax_invoice), default=_plain),
    }
    return tuple(jsons[name] if name in jsons else getattr(receipt, name) for name in _COLUMNS)


def _plain(value: object) -> str:
    assert isinstance(value, datetime), "all else is text or a number"
    return value.astimezone(UTC).isoformat()
