"""What one operator wants done with money, done at once or left waiting for a second one.

Whether it needs a second one is decided by the writer, which then does nothing. What waits changes nothing of its
payment: no seat is given up and no money is promised before somebody has agreed.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from payment_service.application.casework.resolve_case import CaseDecision, resolve_case
from payment_service.application.casework.show_cases import CaseFile, get_case
from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.refunding.refund_booking import BookingRefund, BookingRefundRequest, refund_booking
from payment_service.domain.approvals import ApprovalState, MoneyMove, NeedsApproval
from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.consent import Person
from payment_service.domain.errors import ApprovalWaits, StoreUnavailable
from payment_service.store import approvals as store
from payment_service.store.approvals import Approval, Asked, Decided

OVERTAKEN_WHY: Final = "asked for again after the facts had changed"


@dataclass(frozen=True, slots=True)
class ApprovalTools:
    """What doing it at once, or letting it wait, takes."""

    reads: PaymentReads
    facts: GroupCommit[Submission, Recorded]
    shortcodes: Collection[str]
    """Those that money can go back from."""


async def resolve_or_ask(
    tools: ApprovalTools, asked: CaseDecision, proven: str, now: datetime
) -> tuple[CaseFile, Approval | None]:
    """The case once it is settled, or as it stands, with what waits for a second person.

    Raises what `resolve_case` raises, and ApprovalWaits.
    """
    try:
        return await resolve_case(tools.reads, tools.facts, tools.shortcodes, asked), None
    except NeedsApproval as needed:
        waiting = await _ask(tools.reads, needed.move, Person(proven, asked.operator, asked.why), now)
    return await get_case(tools.reads, asked.case_id), waiting


async def refund_or_ask(
    tools: ApprovalTools, asked: BookingRefundRequest, proven: str, now: datetime
) -> tuple[BookingRefund, Approval | None]:
    """The refund of a booking, or what it would be, with what waits for a second person, also where it is looked at.

    Raises what `refund_booking` raises, and ApprovalWaits.
    """
    try:
        found = await refund_booking(tools.facts, tools.reads, tools.shortcodes, asked)
        return found, await _still_waiting(tools.reads, found.view.payment_id) if asked.only_look else None
    except NeedsApproval as needed:
        waiting = await _ask(tools.reads, needed.move, Person(proven, asked.operator, asked.why), now)
    return await refund_booking(tools.facts, tools.reads, tools.shortcodes, replace(asked, only_look=True)), waiting


async def _still_waiting(reads: PaymentReads, payment_id: UUID) -> Approval | None:
    """What waits about a payment; not where the facts have changed since, as it is asked for anew then."""
    async with reading(reads) as connection:
        waiting = await store.waiting_for(connection, payment_id)
    return waiting if waiting is not None and waiting.seen == waiting.now else None


async def _ask(reads: PaymentReads, move: MoneyMove, by: Person, now: datetime) -> Approval:
    """What waits now: asked for before in the same way, or from now on."""
    async with reading(reads) as connection:
        seen = move.seen or await store.marks_of_payment(connection, move.payment_id)
        asked = Asked(
            approval_id=uuid7(),
            payment_id=move.payment_id,
            case_id=move.case_id,
            act=move.act.value,
            amount=move.amount,
            mpesa_receipt_number=move.receipt,
            refund_reason=move.refund_reason.value if move.refund_reason is not None else None,
            request_id=move.request_id,
            part=move.part,
            seen_case=seen.case,
            seen_payments=seen.payments,
            seen_open_cases=seen.open_cases,
            asked_by=by.proven,
            asked_as=by.called,
            asked_why=by.why,
            asked_at=now,
            to_payment_id=move.to_payment_id,
            seen_target=move.seen_target,
        )
        before = await store.waiting_for(connection, move.payment_id)
        if before is not None and not before.is_current:
            overtaken = Decided(before.approval_id, ApprovalState.OVERTAKEN, by.proven, by.called, OVERTAKEN_WHY)
            await store.decide(connection, overtaken, now)
        await store.ask(connection, asked)
        waiting = await store.waiting_for(connection, move.payment_id)
    if waiting is None:
        # Decided in the same moment by somebody else: whoever asks again sees what has become of it.
        raise StoreUnavailable
    if not _same(waiting, asked):
        raise ApprovalWaits(waiting.approval_id, waiting.asked_by)
    return waiting


def _same(waiting: Approval, asked: Asked) -> bool:
    """Whether it is what somebody wants done, whoever has asked for it first."""
    seen = CaseMarks(asked.seen_case, asked.seen_payments, asked.seen_open_cases)
    same = (waiting.case_id, waiting.act, int(waiting.amount)) == (asked.case_id, asked.act, int(asked.amount))
    target = (waiting.to_payment_id, waiting.seen_target) == (asked.to_payment_id, asked.seen_target)
    return same and target and waiting.seen == seen
