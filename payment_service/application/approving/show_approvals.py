"""What waits for a second person, as operators see it: with its payment, and what has changed since."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.following.stored_views import payment_view
from payment_service.domain.errors import ApprovalNotFound
from payment_service.domain.views import PaymentView
from payment_service.store import approvals as store
from payment_service.store import reads
from payment_service.store.approvals import Approval


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """Some approvals that wait, the longest first; `more` if others follow."""

    approvals: Sequence[Approval]
    more: bool


@dataclass(frozen=True, slots=True)
class ApprovalFile:
    """All that a second person needs to decide."""

    approval: Approval
    attempts: Sequence[PaymentView]
    """Of the booking, the oldest first."""


async def list_approvals(using: PaymentReads, after: UUID | None, page_size: int) -> ApprovalPage:
    """One page of what waits."""
    async with using.lists, reading(using) as connection:
        rows = await store.waiting_approvals(connection, after, page_size + 1)
    return ApprovalPage(rows[:page_size], len(rows) > page_size)


async def get_approval(using: PaymentReads, approval_id: UUID) -> ApprovalFile:
    """One approval with the payments that it is about. Raises ApprovalNotFound."""
    async with using.lists, reading(using) as connection:
        # The approval first: what says whether anything has changed must not be newer than what is shown.
        approval = await store.approval_by_id(connection, approval_id)
        if approval is None:
            raise ApprovalNotFound
        attempts = await reads.payments_of_booking(connection, approval.caller, approval.booking_id)
    return ApprovalFile(approval, [payment_view(row, using.sealer) for row in attempts])


def changed_since(file: ApprovalFile) -> list[str]:
    """What is otherwise now than when it was asked for."""
    seen, now = file.approval.seen, file.approval.now
    changed = ["the case"] if now.case != seen.case else []
    if now.payments != seen.payments:
        changed += [
            f"payment {one.payment_id}, which is {one.status.value} ({one.booking_action.value}) now"
            for one in file.attempts
            if one.payment_id == file.approval.payment_id
        ] + ["the attempts of its booking"]
    if now.open_cases != seen.open_cases:
        changed.append(f"the open cases of its payment, of which there are {now.open_cases} now")
    if file.approval.seen_target != file.approval.now_target:
        changed.append(f"payment {file.approval.to_payment_id}, which the money is to go to, or another of its booking")
    return changed
