"""Which payments hold the receipts and the ids of Safaricom that a group of facts brings, as they become."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from payment_service.application.recording.pending_writes import PendingWrites
from payment_service.application.recording.refund_ledger import RefundLedger
from payment_service.domain.case_facts import CaseAccepted
from payment_service.domain.cases import CaseKind
from payment_service.domain.facts import Fact, PromptAccepted, ResultReported, Verdict
from payment_service.domain.payment import Payment
from payment_service.domain.transitions import Outcome
from payment_service.security.sealing import Sealer
from payment_service.store.evidence import ReceiptRow
from payment_service.store.payments import CHECKOUT_INDEX


class Holders:
    """Who holds what; a receipt is held by one payment for ever."""

    def __init__(
        self,
        sealer: Sealer,
        now: datetime,
        receipts: Mapping[str, UUID],
        checkouts: Mapping[bytes, UUID],
        writes: PendingWrites,
        refunds: RefundLedger,
    ) -> None:
        self._sealer, self._now = sealer, now
        self._receipts, self._checkouts = dict(receipts), dict(checkouts)
        self._writes, self._refunds = writes, refunds

    def of_receipt(self, fact: Fact) -> UUID | None:
        """The payment that the fact's receipt is recorded on."""
        receipt = fact.receipt if isinstance(fact, ResultReported | CaseAccepted) else None
        return self._receipts.get(receipt) if receipt else None

    def of_checkout(self, fact: Fact) -> UUID | None:
        """The payment that the fact's CheckoutRequestID is recorded on."""
        checkout = fact.checkout_request_id if isinstance(fact, ResultReported | PromptAccepted) else None
        return self._checkouts.get(self._index(checkout)) if checkout else None

    def note(self, before: Payment, fact: Fact, outcome: Outcome) -> None:
        """Note what a fact that was applied has brought to its payment."""
        after = outcome.payment
        if after.checkout_request_id is not None and before.checkout_request_id is None:
            self._checkouts[self._index(after.checkout_request_id)] = after.payment_id
        if isinstance(fact, CaseAccepted) and fact.receipt is not None and after.receipt != before.receipt:
            self._count(after.payment_id, fact.receipt, fact.amount or after.amount)
        if not isinstance(fact, ResultReported) or fact.verdict is not Verdict.PAID or fact.receipt is None:
            return
        if outcome.case is None and not outcome.changed(before):
            # What is no news proves no owner either: the receipt is left to whoever proves to be it.
            return
        # A receipt that came with foreign ids, or in doubt, stands in its case only: its true owner may still be told.
        anothers = fact.in_doubt or (outcome.case is not None and outcome.case.kind is CaseKind.FOREIGN_IDS)
        if fact.receipt not in self._receipts and not anothers:
            counted = after.receipt == fact.receipt
            amount = fact.brought(after.amount if counted else None)
            self._receive(ReceiptRow(fact.receipt, after.payment_id, amount, counted, self._now))

    def _count(self, payment_id: UUID, receipt: str, amount: int | None) -> None:
        """An operator has accepted it; it may have been recorded when it was in doubt."""
        if receipt in self._receipts:
            self._receipts[receipt] = payment_id
            self._writes.counted[receipt] = payment_id
            return
        self._receive(ReceiptRow(receipt, payment_id, amount, counted=True, seen_at=self._now))

    def _receive(self, row: ReceiptRow) -> None:
        self._receipts[row.receipt] = row.payment_id
        self._writes.receipts[row.receipt] = row
        if row.amount is not None:
            self._refunds.receive(row.receipt, int(row.amount))

    def _index(self, checkout_request_id: str) -> bytes:
        return self._sealer.index(CHECKOUT_INDEX, checkout_request_id)
