"""Cases as operators work on them: found, shown, taken and settled; and every act on one, which is never changed.

What a resolution does to its payment is written by `record_facts`, in the same transaction as the act.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from payment_service.domain.case_facts import CaseDecided, CaseDismissed, CaseReturned
from payment_service.domain.case_rules import resolution_of
from payment_service.store.many_rows import array_of, columns_of, inserting, selected
from payment_service.store.pipeline import Statement
from payment_service.store.tables import case_acts

TAKEN = "TAKE"
"""The act of an operator who looks after a case from now on. All other acts are resolutions."""


class LockedCase(NamedTuple):
    """What settling a case is decided on."""

    case_id: UUID
    payment_id: UUID | None
    reference: str
    fact_id: str
    version: int
    settled_at: datetime | None
    settled_by: str | None
    refund_id: UUID | None


class CaseAct(NamedTuple):
    """What one operator did about a case, and why."""

    act_id: UUID
    case_id: UUID
    case_version: int
    """The one that the act has made of the case."""
    act: str
    operator: str
    reason: str
    mpesa_receipt_number: str | None
    """The receipt of the money that was accepted or returned, or that under which a refund was found done."""
    acted_at: datetime
    refund_id: UUID | None = None
    """The refund by which the money is sent back."""
    to_payment_id: UUID | None = None
    """The payment that the money was moved to."""


class CaseReturn(NamedTuple):
    """The refund of the money of a case, which is named as its opening is: a new version of the case."""

    reference: str
    fact_id: str
    refund_id: UUID


class WorkedCase(NamedTuple):
    """A case as an operator sees it, with what of its payment says whether anything has changed since."""

    case_id: UUID
    kind: str
    is_money: bool
    payment_id: UUID | None
    reference: str
    fact_id: str
    caller: str | None
    booking_id: str | None
    receipt: str | None
    amount: Decimal | None
    opened_at: datetime
    deadline_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    resolution: str | None
    owner: str | None
    taken_at: datetime | None
    version: int
    payments_version: int
    """The money versions of all attempts of the booking, added up; 0 where there is no payment."""
    open_cases: int
    """Of the payment, this one among them."""
    refund_id: UUID | None = None
    """The latest one by which an operator has the money sent back, or the one that the case is about; so are those that
    follow."""
    refund_state: str | None = None
    refund_amount: Decimal | None = None
    refund_result_code: str | None = None
    refund_requested_at: datetime | None = None
    refund_ended_at: datetime | None = None
    approval_id: UUID | None = None
    """What waits for a second person about it, and who has asked for that."""
    approval_asked_by: str | None = None


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which open cases; what is None is any."""

    kind: str | None = None
    owner: str | None = None
    booking_id: str | None = None
    overdue_at: datetime | None = None
    """Those whose deadline is over by then."""


_LOCK_CASES = f"""
SELECT {", ".join(LockedCase._fields)} FROM cases WHERE case_id = ANY($1::uuid[])
ORDER BY case_id FOR NO KEY UPDATE SKIP LOCKED"""
_INSERT_ACTS = inserting(case_acts, CaseAct._fields)
_NOTE_RETURNS = """
UPDATE cases AS t SET refund_id = noted.refund_id, version = t.version + 1
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS noted (reference, fact_id, refund_id)
WHERE t.reference = noted.reference AND t.fact_id = noted.fact_id AND t.settled_at IS NULL"""


def booking_versions(alias: str) -> str:
    """The money versions of all attempts of a booking, added up, by the alias that one of them has in a statement; NULL
    where there is none."""
    return f"""(SELECT sum(s.version - s.receipt_versions) FROM payment_transactions s
        WHERE s.booking_id = {alias}.booking_id AND s.caller = {alias}.caller)::bigint"""


# Two of its fields are counted: how the booking's payments stand, and how many cases of this one are open.
_OPEN = "(SELECT count(*) FROM cases o WHERE o.payment_id = c.payment_id AND o.settled_at IS NULL)"
# That which sends its money back, or the one that the case is about, which stands in its opening fact's id. Where an
# operator has found that a refund failed, it stands in the opening fact of the case that was settled by that.
_NAMED = "substring({}.fact_id FROM '^refund-[a-z]+:([0-9a-f-]{{36}})')"
_REFUND = f"""coalesce(c.refund_id, CASE WHEN c.kind = 'REFUND' THEN coalesce({_NAMED.format("c")},
    (SELECT {_NAMED.format("o")} FROM cases o
        WHERE o.case_id = substring(c.fact_id FROM '^case:([0-9a-f-]{{36}})')::uuid))::uuid END)"""
_WORKED = selected(
    WorkedCase._fields,
    "c",
    refund_id="r.refund_id",
    caller="p.caller",
    booking_id="p.booking_id",
    receipt="c.mpesa_receipt_number",
    payments_version=f"coalesce({booking_versions('p')}, 0)",
    open_cases=_OPEN,
    refund_state="r.state",
    refund_amount="r.amount",
    refund_result_code="r.result_code",
    refund_requested_at="r.requested_at",
    refund_ended_at="r.ended_at",
    approval_id="w.approval_id",
    approval_asked_by="w.asked_by",
)
_CASE = f"""SELECT {_WORKED} FROM cases c LEFT JOIN payment_transactions p ON p.payment_id = c.payment_id
LEFT JOIN refunds r ON r.refund_id = {_REFUND}
LEFT JOIN approvals w ON w.case_id = c.case_id AND w.state = 'WAITING'"""
_BY_ID = text(f"{_CASE} WHERE c.case_id = :case_id")
_OF_PAYMENTS = text(f"{_CASE} WHERE c.reference = ANY(:references) ORDER BY c.opened_at, c.case_id")
_OF_RECEIPT = text(f"{_CASE} WHERE c.mpesa_receipt_number = :receipt ORDER BY c.opened_at, c.case_id")
# One statement, so that the owner and the act are written together.
_TAKE = text(f"""
WITH taken AS (
    UPDATE cases SET owner = :operator, taken_at = :acted_at, version = version + 1
    WHERE case_id = :case_id AND version = :case_version AND settled_at IS NULL RETURNING version)
INSERT INTO case_acts ({", ".join(CaseAct._fields)})
SELECT :act_id, :case_id, taken.version, :act, :operator, :reason, :mpesa_receipt_number, :acted_at, :refund_id,
    :to_payment_id
FROM taken RETURNING act_id""")
_RECEIPT_KNOWN = text("""
SELECT EXISTS (SELECT FROM mpesa_receipts WHERE receipt = :receipt)
    OR EXISTS (SELECT FROM case_acts WHERE act = 'REFUNDED' AND mpesa_receipt_number = :receipt)""")
_ACTS = text(f"SELECT {', '.join(CaseAct._fields)} FROM case_acts WHERE case_id = :case_id ORDER BY case_version")


def lock_cases(ids: Sequence[UUID]) -> Statement:
    """Lock cases that operators decide about, but for what is locked already; rows of `LockedCase`."""
    return Statement(_LOCK_CASES, (array_of(ids),))


def insert_acts(acts: Sequence[CaseAct]) -> Statement:
    """Keep what operators did. A second act on one version of a case is an error: `case_acts_one_per_version`."""
    return Statement(_INSERT_ACTS, columns_of(acts))


def note_returns(noted: Sequence[CaseReturn]) -> Statement:
    """Write down which refund sends the money of open cases back, or that it has ended: who saw less must look."""
    return Statement(_NOTE_RETURNS, columns_of(noted))


def deciding_act(fact: CaseDecided, case_version: int, now: datetime) -> CaseAct:
    """The act of deciding about a case, which makes this version of it."""
    return CaseAct(
        act_id=uuid7(),
        case_id=fact.case_id,
        case_version=case_version,
        act=resolution_of(fact),
        operator=fact.operator,
        reason=fact.why,
        mpesa_receipt_number=fact.receipt,
        acted_at=now,
        refund_id=fact.refund_id if isinstance(fact, CaseReturned) else None,
        to_payment_id=fact.moved_to if isinstance(fact, CaseDismissed) else None,
    )


async def take_case(
    conn: AsyncConnection, case_id: UUID, version: int, operator: str, reason: str, now: datetime
) -> bool:
    """Make an operator the one who looks after a case; False where the case is settled or has another version."""
    act = CaseAct(uuid7(), case_id, version, TAKEN, operator, reason, None, now)
    return (await conn.execute(_TAKE, act._asdict())).one_or_none() is not None


async def open_cases_by_deadline(
    conn: AsyncConnection, wanted: CaseFilter, after: UUID | None, most: int
) -> list[WorkedCase]:
    """Open cases, those that are due first at the front; after one of them, or from the first one on."""
    conditions = ["c.settled_at IS NULL"]
    values: dict[str, object] = {"most": most, "after": after}
    for condition, value in (
        ("c.kind = :kind", wanted.kind),
        ("c.owner = :owner", wanted.owner),
        ("p.booking_id = :booking_id", wanted.booking_id),
        ("c.deadline_at < :overdue_at", wanted.overdue_at),
    ):
        if value is not None:
            conditions.append(condition)
            values[condition.rpartition(":")[2]] = value
    if after is not None:
        place = "SELECT deadline_at, case_id FROM cases WHERE case_id = :after"
        conditions.append(f"(c.deadline_at, c.case_id) > ({place})")
    listed = f"{_CASE} WHERE {' AND '.join(conditions)} ORDER BY c.deadline_at, c.case_id LIMIT :most"
    return [WorkedCase._make(row) for row in await conn.execute(text(listed), values)]


async def case_by_id(conn: AsyncConnection, case_id: UUID) -> WorkedCase | None:
    """One case, open or settled."""
    row = (await conn.execute(_BY_ID, {"case_id": case_id})).one_or_none()
    return None if row is None else WorkedCase._make(row)


async def cases_of(conn: AsyncConnection, references: Sequence[str]) -> list[WorkedCase]:
    """All cases of the payments with these references, the oldest first."""
    rows = await conn.execute(_OF_PAYMENTS, {"references": list(references)})
    return [WorkedCase._make(row) for row in rows]


async def cases_naming(conn: AsyncConnection, receipt: str) -> list[WorkedCase]:
    """All cases about this receipt, the oldest first; some may be for no payment."""
    return [WorkedCase._make(row) for row in await conn.execute(_OF_RECEIPT, {"receipt": receipt})]


async def receipt_is_known(conn: AsyncConnection, receipt: str) -> bool:
    """Whether a receipt number is recorded on a payment, or has been given as that of a refund."""
    return bool(await conn.scalar(_RECEIPT_KNOWN, {"receipt": receipt}))


def is_of_another_refund(error: UniqueViolation) -> bool:
    """Whether a decision was refused because its receipt number proves another refund: one process was first."""
    return error.diag.constraint_name == "case_acts_one_per_proof"


async def acts_on(conn: AsyncConnection, case_id: UUID) -> list[CaseAct]:
    """What operators have done about a case, the oldest first."""
    return [CaseAct._make(row) for row in await conn.execute(_ACTS, {"case_id": case_id})]
