"""Which stored payments a row of the provider's books may be about. SQL only; `domain.pull` decides."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import exists, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.case_rules import Resolution
from payment_service.domain.payment import UNBACKED, State
from payment_service.domain.pull import CLOCKS_APART_MAX, PROMPT_LIVES_MAX, Candidate, Holder, Lookalike, PulledRow
from payment_service.security.sealing import PHONE_NUMBER, Sealer
from payment_service.store.refund_tables import refunds
from payment_service.store.tables import UNSETTLED_SQL, cases, payments, receipts

_UNCERTAIN = select(refunds.c.refund_id).where(refunds.c.state == "UNCERTAIN", refunds.c.method == "REVERSAL")

# In the order of `_candidate`; first in every statement that selects them.
_CANDIDATE = (
    payments.c.payment_id,
    payments.c.reference,
    payments.c.account_reference,
    payments.c.shortcode,
    payments.c.amount,
    payments.c.sent_at,
    payments.c.created_at,
    payments.c.state,
    payments.c.backing,
    _UNCERTAIN.where(refunds.c.payment_id == payments.c.payment_id).limit(1).scalar_subquery(),
)


_LOOKALIKES = text(f"""
SELECT {", ".join(f"p.{column.name}" for column in _CANDIDATE[:-1])}, NULL, p.phone_number
FROM unnest(CAST(:amounts AS numeric[]), CAST(:earliest AS timestamptz[]), CAST(:latest AS timestamptz[]))
    AS wanted (amount, earliest, latest)
JOIN payment_transactions p ON p.shortcode = :shortcode AND p.amount = wanted.amount
    AND p.sent_at BETWEEN wanted.earliest AND wanted.latest
WHERE {UNSETTLED_SQL} AND p.expires_at <= :now""")


async def candidates_named(
    conn: AsyncConnection, account_references: Sequence[str], since: datetime
) -> list[Candidate]:
    """The payments made since then whose prompts carried one of these account references."""
    statement = select(*_CANDIDATE).where(
        payments.c.account_reference.in_(account_references), payments.c.created_at > since
    )
    return [_candidate(*row[: len(_CANDIDATE)]) for row in await conn.execute(statement)]


async def holders_of(conn: AsyncConnection, numbers: Sequence[str]) -> Mapping[str, Holder]:
    """Those of the receipt numbers that are recorded, and on which payments."""
    held_by_cases_of = select(func.array_agg(cases.c.payment_id)).where(
        cases.c.mpesa_receipt_number == receipts.c.receipt, cases.c.resolution == Resolution.MOVE
    )
    # Of a payment that was paid twice, each receipt may have gone back.
    of_receipt = refunds.c.receipt == receipts.c.receipt
    statement = (
        select(
            *_CANDIDATE[:-1],
            _UNCERTAIN.where(of_receipt).limit(1).scalar_subquery(),
            receipts.c.receipt,
            receipts.c.amount,
            receipts.c.proven_by.is_not(None),
            held_by_cases_of.scalar_subquery(),
            exists().where(of_receipt, refunds.c.state != "FAILED"),
        )
        .join(payments, payments.c.payment_id == receipts.c.payment_id)
        .where(receipts.c.receipt.in_(numbers))
    )
    return {
        receipt: Holder(
            _candidate(*candidate),
            None if amount is None else int(amount),
            frozenset(moved_from or ()),
            refunded=refunded,
            proven=proven,
        )
        for *candidate, receipt, amount, proven, moved_from, refunded in await conn.execute(statement)
    }


async def received_by(conn: AsyncConnection, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[int | None]]:
    """What each receipt has brought that was paid for these payments, where that could be read.

    Money that an operator has moved away counts too: the books go on naming the payment that it was paid for.
    """
    recorded = select(receipts.c.payment_id, receipts.c.amount).where(receipts.c.payment_id.in_(ids))
    moved = select(cases.c.payment_id, cases.c.amount).where(
        cases.c.payment_id.in_(ids), cases.c.resolution == Resolution.MOVE
    )
    statement = union_all(recorded, moved)
    received: dict[UUID, list[int | None]] = {}
    for payment_id, amount in await conn.execute(statement):
        received.setdefault(payment_id, []).append(None if amount is None else int(amount))
    return received


async def lookalikes(
    conn: AsyncConnection, sealer: Sealer, shortcode: str, rows: Sequence[PulledRow], now: datetime
) -> list[Lookalike]:
    """The unsettled payments whose time has passed and that rows without a reference may be about.

    Sought by amount and by the time of the prompt, row by row, so that an index finds each; the rest is for
    `domain.pull` to compare.
    """
    wanted = {
        (row.amount, moment - PROMPT_LIVES_MAX, moment + CLOCKS_APART_MAX)
        for row in rows
        if not row.account_reference and isinstance(row.amount, int) and row.payer is not None
        for moment in row.readings
    }
    if not wanted:
        return []
    amounts, earliest, latest = (list(column) for column in zip(*sorted(wanted), strict=True))
    bounds = {"amounts": amounts, "earliest": earliest, "latest": latest}
    found = await conn.execute(_LOOKALIKES, {"shortcode": shortcode, "now": now, **bounds})
    return [
        Lookalike(
            _candidate(*row[: len(_CANDIDATE)]),
            sealer.open(PHONE_NUMBER, row.payment_id.bytes, row.phone_number).decode(),
        )
        for row in {row.payment_id: row for row in found}.values()
    ]


async def told_before(
    conn: AsyncConnection, references: Sequence[str], fact_ids: Sequence[str]
) -> set[tuple[str, str]]:
    """(reference, fact id) of those that have led to a case already."""
    statement = select(cases.c.reference, cases.c.fact_id).where(
        cases.c.reference.in_(references), cases.c.fact_id.in_(fact_ids)
    )
    return {(row.reference, row.fact_id) for row in await conn.execute(statement)}


def _candidate(
    payment_id: UUID,
    reference: str,
    account_reference: str,
    shortcode: str,
    amount: Decimal,
    sent_at: datetime | None,
    created_at: datetime,
    state: str,
    backing: str | None,
    uncertain_refund: UUID | None,
) -> Candidate:
    return Candidate(
        payment_id=payment_id,
        reference=reference,
        account_reference=account_reference,
        shortcode=shortcode,
        amount=int(amount),
        prompted_at=sent_at or created_at,
        refunded=state in (State.REFUNDING, State.REFUNDED),
        unbacked=state == State.COMPLETED and backing in UNBACKED,
        uncertain_refund=uncertain_refund,
    )
