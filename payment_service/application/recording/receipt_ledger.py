"""The passengers' receipts of a group in memory: which are written, and which are to be.

A receipt is locked by its payment's lock. That one is due is noted in the transaction that changes the payment; a step
writes it a moment later, as a fact of its own. A first receipt is noted only by a process that knows who issues them;
one that may have been issued is amended by any process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from payment_service.application.recording.refund_ledger import RefundLedger
from payment_service.domain.cases import CaseKind, OpenCase
from payment_service.domain.facts import Fact, ReceiptDue
from payment_service.domain.payment import Payment
from payment_service.domain.receipt import Issuer, Receipt, next_receipt, receipt_touched, return_in_doubt
from payment_service.domain.transitions import Outcome
from payment_service.store import issued_receipts as store
from payment_service.store.pipeline import Connection, Statement, run_together


async def read_receipts(conn: Connection, payment_ids: Sequence[UUID]) -> Mapping[UUID, Receipt]:
    """The latest receipts of payments that are locked."""
    (found,) = await run_together(conn, [store.latest_receipts(payment_ids)])
    return {receipt.payment_id: receipt for receipt in map(store.receipt_of, found.rows)}


class ReceiptLedger:
    """The receipts as they become."""

    def __init__(
        self,
        known: Mapping[UUID, Receipt],
        refunds: RefundLedger,
        open_cases: Callable[[UUID], Sequence[OpenCase]],
        issuer: Issuer | None,
        now: datetime,
    ) -> None:
        self._latest, self._refunds, self._issuer, self._now = dict(known), refunds, issuer, now
        self._open_cases = open_cases
        self._new: list[Receipt] = []
        self._due: set[UUID] = set()
        self._looked_at: set[UUID] = set()

    def write(self, payment: Payment, fact: ReceiptDue) -> ReceiptDue | Outcome:
        """Write what the receipt has to say: the fact that tells of it, or the outcome where nothing is written."""
        last = self._latest.get(payment.payment_id)
        came = self._refunds.came(payment.receipt)
        returned = self._refunds.returned(payment)
        doubted = self._return_doubted(payment)
        receipt = next_receipt(payment, last, came, returned, self._issuer, self._now, return_doubted=doubted)
        if fact.tax_invoice is not None:
            held = receipt or last
            if held is None or not held.takes(fact.tax_invoice, fact.replaces):
                return Outcome(payment, refused=True)
            if held.tax_invoice != fact.tax_invoice:
                receipt = held.with_tax_invoice(fact.tax_invoice, self._now, follows=last)
        if receipt is None and last is None and self._issuer is None:
            # It is left to a process that knows who issues receipts.
            return Outcome(payment)
        self._due.discard(payment.payment_id)
        self._looked_at.add(payment.payment_id)
        if receipt is None:
            return Outcome(payment)
        self._new.append(receipt)
        self._latest[payment.payment_id] = receipt
        return replace(fact, revision=receipt.revision, digest=receipt.digest)

    def note(self, before: Payment, fact: Fact, outcome: Outcome) -> None:
        """Note that the receipt of a payment has to say something else from now on, or may have to."""
        may_be_held = self._issuer is not None or before.receipt is not None or before.refuted
        moved = [case.kind for case in outcome.ended] + [case.kind for case in (outcome.case,) if case is not None]
        touched = receipt_touched(before, outcome.payment) or CaseKind.TAKEN_BACK in moved
        if may_be_held and not isinstance(fact, ReceiptDue) and touched:
            self._due.add(before.payment_id)

    def _return_doubted(self, payment: Payment) -> bool:
        cases = self._open_cases(payment.payment_id)
        listed_as = [case.receipt for case in cases if case.kind == CaseKind.TAKEN_BACK]
        known = [number for number in listed_as if self._refunds.came(number) is not None]
        return return_in_doubt(payment.receipt, listed_as, known)

    def statements(self) -> list[Statement]:
        """What is to be written."""
        note = store.note_due if self._issuer is not None else store.note_to_amend
        written = self._looked_at - self._due
        return [
            *([store.insert_receipts(self._new)] if self._new else []),
            *([store.note_written(written)] if written else []),
            *([note(self._due, self._now)] if self._due else []),
        ]
