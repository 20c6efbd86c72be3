"""Recording that the money of a payment is to go back.

Whether it may is decided under the payment's lock. Nothing is sent here: that the refund is recorded is committed
first, and any process sends it from its row.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from uuid_utils.compat import uuid7

from payment_service.application.following.read_payments import PaymentReads, get_payment, reading
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.domain.approvals import ApprovalAct, MoneyMove, NeedsApproval
from payment_service.domain.case_rules import CaseMarks
from payment_service.domain.consent import Consent
from payment_service.domain.errors import PaymentNotFound, RefundBarred
from payment_service.domain.facts import RefundRequested
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundBar, RefundOrder, RefundRefusal, RefundRequest
from payment_service.domain.views import Answered
from payment_service.store.reads import request_of
from runtime.callback_tokens import new_reference


@dataclass(frozen=True, slots=True)
class Agreed:
    """A second person's consent, and how the payment stood that it is about."""

    consent: Consent
    seen: CaseMarks


class NotAsSeen(Exception):
    """The payment does not stand as it did when the refund was asked for, or the second person may not agree to it."""


async def refund_payment(
    facts: GroupCommit[Submission, Recorded],
    reads: PaymentReads,
    shortcodes: Collection[str],
    caller: str,
    asked: RefundRequest,
    agreed: Agreed | None = None,
) -> Answered:
    """The payment as it stands once its refund is recorded. `shortcodes` are those that money can go back from.

    Raises PaymentNotFound, NeedsApproval, NotAsSeen, RefundBarred, RequestIdReused, Overloaded or StoreUnavailable;
    none of them leaves a row.
    """
    async with reading(reads) as connection:
        made = await request_of(connection, caller, asked.payment_id)
    # Another caller's payment does not exist, as far as this one can tell.
    if made is None:
        raise PaymentNotFound
    kept = KeptRequest(uuid7(), caller, asked)
    order = RefundOrder(
        reference=new_reference(),
        shortcode=made.shortcode,
        reason=asked.reason,
        amount=asked.amount,
        possible=made.shortcode in shortcodes,
        by_person=asked.operator is not None,
    )
    fact = RefundRequested(kept.kept_id, operator=asked.operator, why=asked.why)
    submission = Submission(fact, asked.payment_id, request=kept, refund=order)
    if agreed is not None:
        fact = replace(fact, consent=agreed.consent.mark)
        submission = replace(submission, fact=fact, consent=agreed.consent, seen=agreed.seen)
    recorded = await facts.submit(submission)
    if recorded.reused is not None:
        raise recorded.reused
    if recorded.payment is None:
        raise PaymentNotFound
    if recorded.unseen:
        raise NotAsSeen
    if recorded.refused:
        refusal = recorded.refund_refusal or RefundRefusal(RefundBar.NOT_PAID)
        if refusal.bar is RefundBar.NEEDS_APPROVAL:
            raise NeedsApproval(_move(recorded.payment, asked, refusal.left))
        raise RefundBarred(refusal.bar, recorded.payment, refusal.left)
    view, _ = await get_payment(reads, caller, asked.payment_id)
    return Answered(view, recorded.replayed)


def _move(payment: Payment, asked: RefundRequest, amount: int) -> MoneyMove:
    return MoneyMove(
        act=ApprovalAct.REFUND,
        payment_id=payment.payment_id,
        amount=amount,
        receipt=payment.receipt,
        refund_reason=asked.reason,
        request_id=asked.request_id,
        part=asked.amount is not None,
    )
