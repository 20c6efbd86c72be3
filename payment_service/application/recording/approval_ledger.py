"""The approvals of a group in memory: whether a second person may have what waits done, and that it was done."""

from collections.abc import Mapping
from uuid import UUID

from payment_service.application.recording.pending_writes import PendingWrites
from payment_service.domain.approvals import ApprovalState
from payment_service.domain.consent import Consent
from payment_service.store.approvals import Decided, LockedApproval


class ApprovalLedger:
    """What waits, as it becomes."""

    def __init__(self, known: Mapping[UUID, LockedApproval], writes: PendingWrites) -> None:
        self._rows, self._writes = dict(known), writes

    def is_locked(self, consent: Consent | None) -> bool:
        """Whether somebody else decides about it at this moment."""
        return consent is not None and consent.approval_id not in self._rows

    def agreed(self, consent: Consent, payment_id: UUID | None, case_id: UUID | None) -> int | None:
        """To how many shillings of this money a second person may agree here; None to nothing: it does not wait, it is
        about other money, or it is the asker's own."""
        row = self._rows[consent.approval_id]
        waits = row.state == ApprovalState.WAITING and (row.payment_id, row.case_id) == (payment_id, case_id)
        another = row.asked_by == consent.asked_by != consent.by.proven
        return int(row.amount) if waits and another else None

    def done(self, consent: Consent) -> None:
        """What waited has been done."""
        row, by = self._rows[consent.approval_id], consent.by
        self._rows[row.approval_id] = row._replace(state=ApprovalState.APPROVED)
        decided = Decided(row.approval_id, ApprovalState.APPROVED, by.proven, by.called, by.why)
        self._writes.approved[row.approval_id] = decided
