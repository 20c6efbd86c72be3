"""Settling a case: an operator's decision becomes a fact about its payment, unless something has changed meanwhile.

Whether it may be settled so is decided under the locks of the payment and the case, by the table.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from psycopg.errors import UniqueViolation
from uuid_utils.compat import uuid7

from payment_service.application.casework.show_cases import CaseFile, get_case
from payment_service.application.casework.what_changed import changed_since
from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.domain.approvals import ApprovalAct, MoneyMove, NeedsApproval
from payment_service.domain.case_facts import CaseAccepted, CaseDecided, CaseDismissed, CaseRefundFound, CaseReturned
from payment_service.domain.case_rules import CaseMarks, Resolution, refund_reason_of, rules_of
from payment_service.domain.cases import OWN_MONEY, CaseKind
from payment_service.domain.consent import Consent, unmarked
from payment_service.domain.errors import InvalidRequest, RefundBarred, ResolutionRefused, Violation
from payment_service.domain.finding import Finding
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundBar, RefundOrder, RefundRefusal, RefundState
from payment_service.store import casework
from payment_service.store.casework import WorkedCase
from payment_service.store.reads import request_of
from runtime.callback_tokens import new_reference

_WHY: Final[Mapping[Finding, str]] = {
    Finding.ACCEPTED_ANOTHERS: "The receipt is recorded on another payment: its money is not this one's.",
    Finding.ACCEPTED_BESIDE: "Another attempt has confirmed the booking: this money has to go back.",
    Finding.ACCEPTED_FREED: "The seat was released when the money was to go back: return it again if that has failed.",
    Finding.ACCEPTED_UNNAMED: "No receipt names the money: find it, and give it as the M-Pesa receipt number.",
    Finding.CASE_ACCEPTED: "The payment has a receipt already, or its money has gone back: this is other money.",
    Finding.OWN_ACCEPTED: "The payment's money is going back, or is not there: there is nothing to accept.",
    Finding.BACKED_BY_PERSON: "The payment's money is going back, or is not there: there is nothing to accept.",
    Finding.DISMISSED_OWN: "The payment stands on this money, or its refund is under way: it cannot be dismissed.",
}
_NOT_UNCERTAIN = "The refund of this case is not UNCERTAIN: what became of it is known, or will be soon."
_TOO_EARLY = "The refund was sent less than a day ago: M-Pesa may still carry it out. Look again when the day is over."
_RECEIPT_EXPECTED = "expected the M-Pesa receipt number of the money: this case does not name one"
_RETURNED_UNNAMED = (
    "No receipt names the money of this case, so nothing says which money to send back. Find it in the M-Pesa portal."
    " If the payment is under review, accept the receipt, and have the payment refunded; if not, send the money back"
    " there, and dismiss."
)
_PROOF_EXPECTED = "expected the receipt number under which the M-Pesa portal shows that the money went back"
_PROOF_KNOWN = (
    "expected the receipt number of what went back by this refund: this one is recorded for a payment or another refund"
)
_TARGET_EXPECTED = "expected the id of the payment that the money belongs to with MOVE, and nothing with all else"
_RECEIPT_DIFFERS = "expected nothing, or the receipt that the case is about"


@dataclass(frozen=True, slots=True)
class CaseDecision:
    """What an operator wants, parsed."""

    case_id: UUID
    seen: CaseMarks
    resolution: Resolution
    operator: str
    why: str
    receipt: str | None
    """One that the operator has found; None where the case names it."""
    to_payment_id: UUID | None = None
    """The payment that the money belongs to, where it is moved."""


async def resolve_case(
    using: PaymentReads,
    facts: GroupCommit[Submission, Recorded],
    shortcodes: Collection[str],
    asked: CaseDecision,
    consent: Consent | None = None,
) -> CaseFile:
    """The case once it is settled, or the refund of its money is begun. `shortcodes` are those that money can go back
    from. Asked again by the same operator for the same reason, it is as it is.

    Raises CaseNotFound, CaseAlreadySettled, CaseChanged, ResolutionRefused, NeedsApproval, RefundBarred or
    InvalidRequest, and then changes nothing.
    """
    before = await get_case(using, asked.case_id)
    fact = _fact(before.case, asked, consent)
    if unmarked(before.case.settled_by or "") == unmarked(fact.fact_id) or _is_returned(before, asked):
        return before
    if before.case.settled_at is not None:
        raise changed_since(before, asked.seen)
    _check(before.case, asked, fact)
    if isinstance(fact, CaseRefundFound) and fact.receipt is not None:
        await _check_receipt(using, fact.receipt)
    order = await _order(using, shortcodes, before.case, fact)
    submission = Submission(fact, before.case.payment_id, seen=asked.seen, refund=order, consent=consent)
    try:
        recorded = await facts.submit(submission)
    except UniqueViolation as error:
        # Between the look and the decision, another refund was settled by it.
        if casework.is_of_another_refund(error):
            raise InvalidRequest([Violation("mpesa_receipt_number", _PROOF_KNOWN)]) from error
        raise
    now = await get_case(using, asked.case_id)
    if recorded.unseen:
        raise changed_since(now, asked.seen)
    if (refusal := recorded.refund_refusal) is not None and recorded.payment is not None:
        if refusal.bar is RefundBar.NEEDS_APPROVAL:
            raise NeedsApproval(_move(recorded.payment, before.case, asked, refusal))
        raise RefundBarred(refusal.bar, recorded.payment, refusal.left)
    if recorded.refused:
        raise ResolutionRefused(_why(recorded), _other_ways(now.case, asked))
    return now


def _other_ways(case: WorkedCase, refused: CaseDecision) -> list[Resolution]:
    return [way for way in rules_of(case.kind).resolutions if way is not refused.resolution]


def _move(payment: Payment, case: WorkedCase, asked: CaseDecision, needed: RefundRefusal) -> MoneyMove:
    return MoneyMove(
        act=ApprovalAct(asked.resolution),
        payment_id=payment.payment_id,
        amount=needed.left,
        receipt=case.receipt or payment.receipt,
        case_id=case.case_id,
        to_payment_id=asked.to_payment_id,
        seen_target=needed.seen_target,
        seen=asked.seen,
    )


def _why(refused: Recorded) -> str:
    if refused.move_bar is not None:
        return refused.move_bar.value
    if refused.barred_by is not None:
        return _WHY.get(refused.barred_by, "")
    uncertain = refused.refund is not None and refused.refund.state is RefundState.UNCERTAIN
    return _TOO_EARLY if uncertain else _NOT_UNCERTAIN


async def _check_receipt(using: PaymentReads, receipt: str) -> None:
    async with reading(using) as connection:
        if await casework.receipt_is_known(connection, receipt):
            raise InvalidRequest([Violation("mpesa_receipt_number", _PROOF_KNOWN)])


def _is_returned(file: CaseFile, asked: CaseDecision) -> bool:
    """Whether the same was asked for before, and the money is on its way."""
    under_way = file.case.refund_id is not None and file.case.refund_ended_at is None
    returned = (file.acts[-1].act, file.acts[-1].operator, file.acts[-1].reason) if file.acts else None
    return under_way and returned == (asked.resolution, asked.operator, asked.why)


async def _order(
    using: PaymentReads, shortcodes: Collection[str], case: WorkedCase, fact: CaseDecided
) -> RefundOrder | None:
    """The refund that is to be begun, where money is to go back."""
    if not isinstance(fact, CaseReturned) or case.payment_id is None or case.caller is None:
        return None
    async with reading(using) as connection:
        made = await request_of(connection, case.caller, case.payment_id)
    assert made is not None, "a payment is never deleted"
    return RefundOrder(
        reference=new_reference(),
        shortcode=made.shortcode,
        reason=refund_reason_of(case.kind),
        amount=None,
        possible=made.shortcode in shortcodes,
        receipt=fact.receipt,
        by_person=True,
    )


def _fact(case: WorkedCase, asked: CaseDecision, consent: Consent | None) -> CaseDecided:
    if asked.resolution is Resolution.DISMISS:
        return CaseDismissed(case.case_id, case.fact_id, asked.operator, asked.why)
    if asked.resolution in (Resolution.REFUNDED, Resolution.NOT_REFUNDED):
        return CaseRefundFound(
            case_id=case.case_id,
            opened_by=case.fact_id,
            operator=asked.operator,
            why=asked.why,
            refund_id=case.refund_id,
            returned=asked.resolution is Resolution.REFUNDED,
            receipt=asked.receipt,
        )
    mark, amount = consent.mark if consent is not None else None, int(case.amount) if case.amount is not None else None
    if asked.resolution is Resolution.MOVE:
        settled = CaseDismissed(case.case_id, case.fact_id, asked.operator, asked.why)
        return replace(settled, moved_to=asked.to_payment_id, receipt=case.receipt, amount=amount, consent=mark)
    if asked.resolution is Resolution.RETURN:
        returned = CaseReturned(case.case_id, case.fact_id, asked.operator, asked.why, uuid7(), case.receipt)
        return replace(returned, consent=mark)
    return CaseAccepted(
        case_id=case.case_id,
        opened_by=case.fact_id,
        operator=asked.operator,
        why=asked.why,
        receipt=case.receipt or asked.receipt,
        amount=amount,
    )


def _check(case: WorkedCase, asked: CaseDecision, fact: CaseDecided) -> None:
    """Raise what is wrong whatever the payment does meanwhile."""
    allowed = rules_of(case.kind).resolutions
    if asked.resolution not in allowed:
        ways = " or ".join(allowed) if allowed else "what its advice says"
        raise ResolutionRefused(f"A case {case.kind} is settled by {ways}.", allowed)
    if (asked.resolution is Resolution.MOVE) != (asked.to_payment_id is not None):
        raise InvalidRequest([Violation("to_payment_id", _TARGET_EXPECTED)])
    if isinstance(fact, CaseReturned) and case.receipt is None and not _names_own_money(case):
        raise ResolutionRefused(_RETURNED_UNNAMED, _other_ways(case, asked))
    # What is accepted may be named by the operator; what is sent back, by the case alone.
    may_differ = case.receipt is None and not isinstance(fact, CaseReturned)
    if asked.receipt not in (None, case.receipt) and not may_differ:
        raise InvalidRequest([Violation("mpesa_receipt_number", _RECEIPT_DIFFERS)])
    if isinstance(fact, CaseRefundFound):
        if fact.returned and asked.receipt is None:
            raise InvalidRequest([Violation("mpesa_receipt_number", _PROOF_EXPECTED)])
        if not fact.returned and asked.receipt is not None:
            raise InvalidRequest([Violation("mpesa_receipt_number", "expected nothing: no money went back")])
    if isinstance(fact, CaseDismissed) and asked.receipt is not None:
        raise InvalidRequest([Violation("mpesa_receipt_number", "expected nothing: no money is accepted")])
    if isinstance(fact, CaseAccepted) and fact.receipt is None and not _names_own_money(case):
        raise InvalidRequest([Violation("mpesa_receipt_number", _RECEIPT_EXPECTED)])


def _names_own_money(case: WorkedCase) -> bool:
    return case.kind in OWN_MONEY or case.kind == CaseKind.UNBACKED_MONEY
