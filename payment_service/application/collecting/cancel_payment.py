"""Withdrawing a payment, as long as nothing has been sent.

Whether it is in time is decided by the table, under the lock that the claim to
send takes as well: of a withdrawal and a send that meet, one is refused.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.request_encoding import KeptRequest
from payment_service.domain.errors import CancelTooLate, PaymentNotFound
from payment_service.domain.facts import CancelRequested
from payment_service.domain.payment import CancelRequest
from payment_service.domain.views import PaymentView


@dataclass(frozen=True, slots=True)
class CancelPayments:
    """Withdraws payments."""

    facts: GroupCommit[Submission, Recorded]
    read: Callable[[str, UUID], Awaitable[PaymentView]]

    async def __call__(self, caller: str, asked: CancelRequest) -> tuple[PaymentView, bool]:
        """The payment as it stands once it is withdrawn. The second value is true when an earlier call did it.

        Raises PaymentNotFound, CancelTooLate, RequestIdReused, Overloaded or StoreUnavailable; none of them leaves a
        row.
        """
        kept = KeptRequest(uuid7(), caller, asked)
        fact = CancelRequested(f"cancel:{kept.kept_id}")
        recorded = await self.facts.submit(Submission(fact, asked.payment_id, request=kept))
        if recorded.reused is not None:
            raise recorded.reused
        if recorded.payment is None:
            raise PaymentNotFound
        if recorded.refused:
            raise CancelTooLate(recorded.payment)
        return await self.read(caller, asked.payment_id), recorded.replayed
