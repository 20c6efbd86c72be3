"""A second person decides: what waits is done now, or it is not done.

Who a person is, is what their certificate says, or the desk at which they are logged in. Whether anything has changed
since it was asked for is decided once more under the locks of the payment, in the transaction that moves the money and
records who has agreed.
"""

import contextlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from payment_service.application.approving.ask_second_person import ApprovalTools
from payment_service.application.approving.show_approvals import ApprovalFile, changed_since, get_approval
from payment_service.application.casework.resolve_case import CaseDecision, resolve_case
from payment_service.application.following.read_payments import reading
from payment_service.application.refunding.refund_payment import Agreed, NotAsSeen, refund_payment
from payment_service.domain.approvals import ApprovalState, NeedsApproval
from payment_service.domain.case_rules import CaseMarks, Resolution
from payment_service.domain.consent import Consent, Person, is_another
from payment_service.domain.errors import (
    ApprovalDecided,
    ApprovalOutdated,
    CaseAlreadySettled,
    CaseChanged,
    NotTheAsker,
    SecondPersonNeeded,
)
from payment_service.domain.refund import RefundReason, RefundRequest
from payment_service.store import approvals as store
from payment_service.store.approvals import Approval, Decided


class Decision(StrEnum):
    """What a person says to what waits; the names are those of the wire enum."""

    APPROVE = "APPROVE"
    REFUSE = "REFUSE"
    WITHDRAW = "WITHDRAW"


@dataclass(frozen=True, slots=True)
class ApprovalDecision:
    """Who says what, parsed."""

    approval_id: UUID
    seen: CaseMarks
    decision: Decision
    by: Person


_ENDS = {
    Decision.APPROVE: ApprovalState.APPROVED,
    Decision.REFUSE: ApprovalState.REFUSED,
    Decision.WITHDRAW: ApprovalState.WITHDRAWN,
}


async def decide_approval(tools: ApprovalTools, asked: ApprovalDecision, now: datetime) -> ApprovalFile:
    """What has become of it. Decided again by the same person in the same way, it is as it is.

    Raises ApprovalNotFound, ApprovalDecided, SecondPersonNeeded, NotTheAsker, ApprovalOutdated, or what bars the money
    from moving; and then nothing has moved.
    """
    before = await get_approval(tools.reads, asked.approval_id)
    if _is_done(before.approval, asked):
        return before
    _check(before, asked)
    if asked.decision is Decision.APPROVE:
        await _do(tools, before, asked)
    else:
        decided = Decided(asked.approval_id, _ENDS[asked.decision], asked.by.proven, asked.by.called, asked.by.why)
        async with reading(tools.reads) as connection:
            await store.decide(connection, decided, now)
    after = await get_approval(tools.reads, asked.approval_id)
    if not _is_done(after.approval, asked):
        _check(after, asked)
        raise ApprovalOutdated(changed_since(after) or ["what it is about"])
    return after


def _is_done(approval: Approval, asked: ApprovalDecision) -> bool:
    by = (approval.decided_by, approval.decided_as, approval.decided_why)
    return approval.state == _ENDS[asked.decision] and by == (asked.by.proven, asked.by.called, asked.by.why)


def _check(file: ApprovalFile, asked: ApprovalDecision) -> None:
    """Raise what is wrong with it as it stands."""
    approval = file.approval
    if approval.state != ApprovalState.WAITING:
        raise ApprovalDecided(approval.state, approval.decided_by or "")
    asker, by = approval.asked_by, asked.by.proven
    if asked.decision is Decision.WITHDRAW and by != asker:
        raise NotTheAsker(asker)
    if asked.decision is not Decision.WITHDRAW and not is_another(asker, by):
        raise SecondPersonNeeded(asker, by)
    if asked.decision is Decision.APPROVE and not (approval.is_current and asked.seen == approval.seen):
        raise ApprovalOutdated(changed_since(file) or ["the approval is about another state than your etag names"])


async def _do(tools: ApprovalTools, file: ApprovalFile, asked: ApprovalDecision) -> None:
    """Do what waits, as the first person has asked for it. What is not done, the approval itself tells afterwards."""
    waiting = file.approval
    consent = Consent(waiting.approval_id, waiting.asked_by, asked.by)
    with contextlib.suppress(NotAsSeen, NeedsApproval, CaseChanged, CaseAlreadySettled):
        if waiting.case_id is None:
            request, agreed = _request(waiting), Agreed(consent, waiting.seen)
            await refund_payment(tools.facts, tools.reads, tools.shortcodes, waiting.caller, request, agreed)
        else:
            resolution = Resolution(waiting.act)
            decision = CaseDecision(
                case_id=waiting.case_id,
                seen=waiting.seen,
                resolution=resolution,
                operator=waiting.asked_as,
                why=waiting.asked_why,
                receipt=None,
                to_payment_id=waiting.to_payment_id,
            )
            await resolve_case(tools.reads, tools.facts, tools.shortcodes, decision, consent)


def _request(waiting: Approval) -> RefundRequest:
    return RefundRequest(
        request_id=waiting.request_id or "",
        payment_id=waiting.payment_id,
        reason=RefundReason(waiting.refund_reason or RefundReason.OTHER),
        amount=int(waiting.amount) if waiting.part else None,
        operator=waiting.asked_as,
        why=waiting.asked_why,
    )
