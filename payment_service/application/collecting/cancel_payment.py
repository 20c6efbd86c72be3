"""Withdrawing a payment, as long as nothing has been sent.

Whether it is in time is decided by the table, under the lock that the claim to
send takes as well: of a withdrawal and a send that meet, one is refused.
"""

from uuid_utils.compat import uuid7

from payment_service.application.following.read_payments import PaymentReads, get_payment
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.domain.errors import CancelTooLate, PaymentNotFound
from payment_service.domain.facts import CancelRequested
from payment_service.domain.payment import CancelRequest
from payment_service.domain.views import Answered


async def cancel_payment(
    facts: GroupCommit[Submission, Recorded], reads: PaymentReads, caller: str, asked: CancelRequest
) -> Answered:
    """The payment as it stands once it is withdrawn. Raises what `withdraw` raises."""
    recorded = await withdraw(facts, caller, asked)
    view, _ = await get_payment(reads, caller, asked.payment_id)
    return Answered(view, recorded.replayed)


async def withdraw(facts: GroupCommit[Submission, Recorded], caller: str, asked: CancelRequest) -> Recorded:
    """Record that a payment is withdrawn; `replayed` when an earlier call did it.

    Raises PaymentNotFound, CancelTooLate, RequestIdReused, Overloaded or StoreUnavailable; none of them leaves a row.
    """
    kept = KeptRequest(uuid7(), caller, asked)
    fact = CancelRequested(f"cancel:{kept.kept_id}")
    recorded = await facts.submit(Submission(fact, asked.payment_id, request=kept))
    if recorded.reused is not None:
        raise recorded.reused
    if recorded.payment is None:
        raise PaymentNotFound
    if recorded.refused:
        raise CancelTooLate(recorded.payment)
    return recorded
