"""Which payments hold the receipts and the ids of Safaricom that a group of facts brings, as they become."""

from datetime import datetime
from uuid import UUID

from payment_service.application.recording.known_rows import KnownRows
from payment_service.application.recording.pending_writes import PendingWrites
from payment_service.application.recording.refund_ledger import RefundLedger
from payment_service.domain.case_facts import CaseAccepted, CaseReturned
from payment_service.domain.cases import CaseKind
from payment_service.domain.facts import Fact, PromptAccepted, ResultReported, Verdict
from payment_service.domain.payment import Backing, Payment
from payment_service.domain.receipt_proof import proof_of
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
        known: KnownRows,
        writes: PendingWrites,
        refunds: RefundLedger,
    ) -> None:
        self._sealer, self._now = sealer, now
        self._receipts, self._checkouts = dict(known.receipt_holder), dict(known.checkout_holder)
        self._brought = dict(known.receipt_brought)
        self._writes, self._refunds = writes, refunds

    def of_receipt(self, fact: Fact) -> UUID | None:
        """The payment that the fact's receipt is recorded on."""
        receipt = fact.receipt if isinstance(fact, ResultReported | CaseAccepted | CaseReturned) else None
        return self._receipts.get(receipt) if receipt else None

    def brought_by(self, fact: Fact) -> int | None:
        """What was recorded with the fact's receipt; None where nobody could read it."""
        receipt = fact.receipt if isinstance(fact, ResultReported) else None
        return self._brought.get(receipt) if receipt else None

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
        brought = self.brought_by(fact)
        new = self._note_receipt(before, fact, fact.receipt, outcome)
        row = outcome.row
        proof = proof_of(before, fact, row, new=new, brought=brought) if row is not None else None
        if proof is not None and self._receipts.get(fact.receipt) == after.payment_id:
            self._prove(fact.receipt, proof)

    def _note_receipt(self, before: Payment, fact: ResultReported, receipt: str, outcome: Outcome) -> bool:
        """Record a receipt that nobody holds, if it is this payment's; whether it was."""
        after = outcome.payment
        if outcome.case is None and not outcome.changed(before):
            # What is no news proves no owner either: the receipt is left to whoever proves to be it.
            return False
        # A receipt that came with foreign ids, or in doubt, stands in its case only: its true owner may still be told.
        anothers = fact.in_doubt or (outcome.case is not None and outcome.case.kind is CaseKind.FOREIGN_IDS)
        if receipt in self._receipts or anothers:
            return False
        counted = after.receipt == receipt
        amount = fact.brought(after.amount if counted else None)
        self._receive(ReceiptRow(receipt, after.payment_id, amount, counted, self._now))
        return True

    def _count(self, payment_id: UUID, receipt: str, amount: int | None) -> None:
        """An operator has accepted it; it may have been recorded when it was in doubt."""
        if receipt in self._receipts:
            self._receipts[receipt] = payment_id
            self._writes.counted[receipt] = payment_id
        else:
            self._receive(ReceiptRow(receipt, payment_id, amount, counted=True, seen_at=self._now))
        self._prove(receipt, Backing.PERSON)

    def _prove(self, receipt: str, by: Backing) -> None:
        if (row := self._writes.receipts.get(receipt)) is not None:
            self._writes.receipts[receipt] = row._replace(proven_by=by)
        else:
            self._writes.proven[receipt] = by
        self._refunds.prove(receipt)

    def _receive(self, row: ReceiptRow) -> None:
        self._receipts[row.receipt] = row.payment_id
        self._writes.receipts[row.receipt] = row
        if row.amount is not None:
            self._brought[row.receipt] = int(row.amount)
            self._refunds.receive(row.receipt, int(row.amount))

    def _index(self, checkout_request_id: str) -> bytes:
        return self._sealer.index(CHECKOUT_INDEX, checkout_request_id)
