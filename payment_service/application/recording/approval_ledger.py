"""The approvals of a group in memory: whether a second person may have what waits done, and that it was done."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from payment_service.application.recording.pending_writes import PendingWrites
from payment_service.domain.approvals import ApprovalState
from payment_service.domain.consent import Consent, is_another
from payment_service.domain.payment import Payment
from payment_service.domain.refund import RefundOrder
from payment_service.store.approvals import Decided, LockedApproval


class ApprovalLedger:
    """What waits, as it becomes."""

    def __init__(self, known: Mapping[UUID, LockedApproval], writes: PendingWrites) -> None:
        self._rows, self._writes = dict(known), writes

    def is_locked(self, consent: Consent | None) -> bool:
        """Whether somebody else decides about it at this moment."""
        return consent is not None and consent.approval_id not in self._rows

    def agreed(
        self,
        consent: Consent,
        payment: Payment | None,
        case_id: UUID | None,
        goes_to: tuple[UUID | None, int | None] = (None, None),
    ) -> int | None:
        """To how many shillings a second person may agree here: of this money, back to its payer, or to the payment of
        `goes_to`, where the money versions of its booking's payments are these, added up.

        None to nothing: it does not wait, it is about other money, or it is the asker's own.
        """
        row = self._rows[consent.approval_id]
        about = (payment.payment_id if payment is not None else None, case_id)
        same = (row.payment_id, row.case_id) == about and (row.to_payment_id, row.seen_target) == goes_to
        another = row.asked_by == consent.asked_by and is_another(consent.asked_by, consent.by.proven)
        return int(row.amount) if same and another and row.state == ApprovalState.WAITING else None

    def agreed_order(
        self, order: RefundOrder | None, consent: Consent | None, payment: Payment | None, case_id: UUID | None
    ) -> RefundOrder | None:
        """A refund that is asked for, with what a second person agrees to; None where that is no second person."""
        if order is None or consent is None:
            return order
        agreed = self.agreed(consent, payment, case_id)
        return replace(order, approved=agreed) if agreed is not None else None

    def done(self, consent: Consent | None) -> None:
        """What waited, if anything did, has been done."""
        if consent is None:
            return
        row, by = self._rows[consent.approval_id], consent.by
        self._rows[row.approval_id] = row._replace(state=ApprovalState.APPROVED)
        decided = Decided(row.approval_id, ApprovalState.APPROVED, by.proven, by.called, by.why)
        self._writes.approved[row.approval_id] = decided
