"""Money that waits for a second person: asked for, shown, locked when one decides, and what has become of it.

That an approval is never the asker's own is held by the table itself: constraint `approvals_by_another`. Only
`application.recording` writes that one is approved, in the transaction that moves the money.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.approvals import ApprovalState
from payment_service.domain.case_rules import CaseMarks
from payment_service.store.casework import booking_versions
from payment_service.store.many_rows import array_of, columns_of, selected
from payment_service.store.pipeline import Connection, Statement


class Asked(NamedTuple):
    """What one person wants to be done, as the row of its approval keeps it."""

    approval_id: UUID
    payment_id: UUID
    case_id: UUID | None
    act: str
    amount: Decimal | int
    mpesa_receipt_number: str | None
    refund_reason: str | None
    request_id: str | None
    part: bool
    seen_case: int
    seen_payments: int
    seen_open_cases: int
    asked_by: str
    """By certificate; `asked_as` is what the command says."""
    asked_as: str
    asked_why: str
    asked_at: datetime
    to_payment_id: UUID | None
    seen_target: int | None


class Approval(NamedTuple):
    """The same with what has become of it, and how everything stands that it is about."""

    approval_id: UUID
    payment_id: UUID
    case_id: UUID | None
    act: str
    amount: Decimal
    mpesa_receipt_number: str | None
    refund_reason: str | None
    request_id: str | None
    part: bool
    seen_case: int
    seen_payments: int
    seen_open_cases: int
    asked_by: str
    asked_as: str
    asked_why: str
    asked_at: datetime
    state: str
    decided_by: str | None
    decided_as: str | None
    decided_why: str | None
    decided_at: datetime | None
    caller: str
    booking_id: str
    reference: str
    now_case: int
    now_payments: int
    now_open_cases: int
    to_payment_id: UUID | None
    to_booking_id: str | None
    seen_target: int | None
    now_target: int | None

    @property
    def is_current(self) -> bool:
        """Whether everything stands as it did when it was asked for."""
        return self.seen == self.now and self.seen_target == self.now_target

    @property
    def seen(self) -> CaseMarks:
        """How everything stood when it was asked for."""
        return CaseMarks(self.seen_case, self.seen_payments, self.seen_open_cases)

    @property
    def now(self) -> CaseMarks:
        """How it stands."""
        return CaseMarks(self.now_case, self.now_payments, self.now_open_cases)


class LockedApproval(NamedTuple):
    """What approving is decided on."""

    approval_id: UUID
    payment_id: UUID
    case_id: UUID | None
    amount: Decimal
    asked_by: str
    state: str
    to_payment_id: UUID | None
    seen_target: int | None


class Decided(NamedTuple):
    """What has become of one that waited, and by whom."""

    approval_id: UUID
    state: str
    decided_by: str
    decided_as: str
    decided_why: str


class ApprovalRow(NamedTuple):
    """One approval, as the log of its payment is held against it."""

    payment_id: UUID
    approval_id: UUID
    act: str
    amount: Decimal
    asked_by: str
    asked_as: str
    asked_why: str
    asked_at: datetime
    state: str
    decided_by: str | None
    decided_as: str | None
    decided_why: str | None
    decided_at: datetime | None


_VERSIONS = f"coalesce({booking_versions('p')}, 0)"
_OPEN = "(SELECT count(*) FROM cases o WHERE o.payment_id = p.payment_id AND o.settled_at IS NULL)"
_APPROVAL = f"""SELECT {
    selected(
        Approval._fields,
        "a",
        caller="p.caller",
        booking_id="p.booking_id",
        reference="p.reference",
        now_case="coalesce(c.version, 0)",
        now_payments=_VERSIONS,
        now_open_cases=_OPEN,
        to_booking_id="t.booking_id",
        now_target=booking_versions("t"),
    )
} FROM approvals a JOIN payment_transactions p ON p.payment_id = a.payment_id
LEFT JOIN cases c ON c.case_id = a.case_id LEFT JOIN payment_transactions t ON t.payment_id = a.to_payment_id"""
_BY_ID = text(f"{_APPROVAL} WHERE a.approval_id = :approval_id")
_WAITING_OF = text(f"{_APPROVAL} WHERE a.payment_id = :payment_id AND a.state = 'WAITING'")
_WAITING = text(f"""{_APPROVAL} WHERE a.state = 'WAITING'
AND (CAST(:after AS uuid) IS NULL OR a.approval_id > :after) ORDER BY a.approval_id LIMIT :most""")
_LONGEST = text(f"{_APPROVAL} WHERE a.state = 'WAITING' AND a.asked_at <= :before ORDER BY a.asked_at LIMIT 1")
_ASK = text(
    f"INSERT INTO approvals ({', '.join(Asked._fields)}, state)"
    f" VALUES ({', '.join(f':{name}' for name in Asked._fields)}, 'WAITING')"
    " ON CONFLICT (payment_id) WHERE state = 'WAITING' DO NOTHING"
)
_DECIDE = text(
    "UPDATE approvals SET state = :state, decided_by = :decided_by, decided_as = :decided_as,"
    " decided_why = :decided_why, decided_at = :at WHERE approval_id = :approval_id AND state = 'WAITING'"
)
_MARKS = text(f"""SELECT 0, {_VERSIONS}, {_OPEN} FROM payment_transactions p WHERE p.payment_id = :payment_id""")
_LOCK = f"""
SELECT {", ".join(LockedApproval._fields)} FROM approvals WHERE approval_id = ANY($1::uuid[])
ORDER BY approval_id FOR NO KEY UPDATE SKIP LOCKED"""
_APPROVE = """
UPDATE approvals AS t SET state = decided.state, decided_by = decided.decided_by, decided_as = decided.decided_as,
    decided_why = decided.decided_why, decided_at = $6::timestamptz
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS decided (approval_id, state, decided_by, decided_as, decided_why)
WHERE t.approval_id = decided.approval_id AND t.state = 'WAITING'"""
_OF_PAYMENTS = f"""
SELECT {", ".join(ApprovalRow._fields)} FROM approvals WHERE payment_id = ANY(%s) ORDER BY asked_at, approval_id"""


def lock_approvals(ids: Sequence[UUID]) -> Statement:
    """Lock approvals that a second person decides about, but for what is locked already; rows of `LockedApproval`."""
    return Statement(_LOCK, (array_of(ids),))


def approve(decided: Sequence[Decided], at: datetime) -> Statement:
    """Write down who has approved what waited."""
    return Statement(_APPROVE, (*columns_of(decided), at.isoformat()))


async def ask(conn: AsyncConnection, asked: Asked) -> None:
    """Let it wait for a second person; not where something else about the payment waits already."""
    await conn.execute(_ASK, asked._asdict())


async def decide(conn: AsyncConnection, decided: Decided, at: datetime) -> None:
    """End what waits without doing it, if it still waits."""
    assert decided.state != ApprovalState.APPROVED, "that is written with the money"
    await conn.execute(_DECIDE, {**decided._asdict(), "at": at})


async def approval_by_id(conn: AsyncConnection, approval_id: UUID) -> Approval | None:
    """One approval, whatever has become of it."""
    row = (await conn.execute(_BY_ID, {"approval_id": approval_id})).one_or_none()
    return None if row is None else Approval._make(row)


async def waiting_for(conn: AsyncConnection, payment_id: UUID) -> Approval | None:
    """What waits about a payment."""
    row = (await conn.execute(_WAITING_OF, {"payment_id": payment_id})).one_or_none()
    return None if row is None else Approval._make(row)


async def waiting_approvals(conn: AsyncConnection, after: UUID | None, most: int) -> list[Approval]:
    """What waits, the longest first; after one of them, or from the first one on."""
    return [Approval._make(row) for row in await conn.execute(_WAITING, {"after": after, "most": most})]


async def longest_waiting(conn: AsyncConnection, before: datetime) -> Approval | None:
    """What was asked for before then and still waits, the oldest."""
    row = (await conn.execute(_LONGEST, {"before": before})).one_or_none()
    return None if row is None else Approval._make(row)


async def marks_of_payment(conn: AsyncConnection, payment_id: UUID) -> CaseMarks:
    """How a payment stands that is looked at without a case."""
    return CaseMarks(*(await conn.execute(_MARKS, {"payment_id": payment_id})).one())


async def approvals_about(conn: Connection, payment_ids: Sequence[UUID]) -> list[ApprovalRow]:
    """Everything that a second person was asked about these payments, the oldest first."""
    cursor = await conn.execute(_OF_PAYMENTS, (list(payment_ids),))
    return [ApprovalRow._make(row) for row in await cursor.fetchall()]
