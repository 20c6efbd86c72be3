"""The refunds of a group in memory, beside their payments: what is asked for, what is learned, and what is written.

A refund is locked by its payment's lock. What becomes of it is told to the payment as facts of the payment's own table,
in the same transaction, so that the two never disagree.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from payment_service.domain.case_facts import CaseRefundFound, CaseReturned
from payment_service.domain.facts import Fact, RefundRequested
from payment_service.domain.payment import Payment
from payment_service.domain.reasons import Reason
from payment_service.domain.receipt import ReturnedPart, returned_parts
from payment_service.domain.refund import (
    GIVES_UP_THE_SEAT,
    MONEY_NOT_BACKED,
    Refund,
    RefundBar,
    RefundMethod,
    RefundOrder,
    RefundReason,
    RefundRefusal,
    RefundTimes,
    left_of,
)
from payment_service.domain.refund_ends import RefundEnd
from payment_service.domain.refund_facts import AboutRefund, RefundFact, RefundLookedUp, RefundOvertaken, RefundPost
from payment_service.domain.refund_requests import bar_to_refund, method_of, needs_approval
from payment_service.domain.refunds import RefundOutcome, apply_refund, first_refund, refund_surroundings
from payment_service.store import refunds as store
from payment_service.store.pipeline import Connection, Statement, run_together
from payment_service.store.refunds import RefundNames
from runtime.callback_tokens import new_reference


@dataclass(frozen=True, slots=True)
class KnownRefunds:
    """The refunds of the locked payments, and what their receipts brought."""

    by_id: Mapping[UUID, Refund]
    received: Mapping[str, int]
    """Only of those whose amount is known."""
    names: Mapping[str, RefundNames]
    """By the reference of a refund."""
    proven: Collection[str] = ()
    """The receipts that are proven to be their payments'."""


NO_REFUNDS = KnownRefunds({}, {}, {})


async def read_refunds(conn: Connection, payment_ids: Sequence[UUID], names: Sequence[RefundNames]) -> KnownRefunds:
    """What is known of the refunds of payments that are locked."""
    rows, received = await run_together(conn, [store.refunds_of(payment_ids), store.received_of(payment_ids)])
    found = map(store.refund_of, rows.rows)
    return KnownRefunds(
        by_id={refund.refund_id: refund for refund in found},
        received={receipt: int(amount) for receipt, amount, _ in received.rows if amount is not None},
        names={name.reference: name for name in names},
        proven={receipt for receipt, _, proven in received.rows if proven},
    )


class RefundLedger:
    """The refunds as they become."""

    def __init__(self, known: KnownRefunds, now: datetime, times: RefundTimes, approval_above: int) -> None:
        self._approval_above = approval_above
        self._before, self._received, self._names = known.by_id, dict(known.received), known.names
        self._now, self._times = now, times
        self._rows = dict(known.by_id)
        self._proven = set(known.proven)
        self.changes: list[dict[str, object]] = []
        """For the log, once they are committed."""

    def find(self, refund_id: UUID | None, reference: str | None) -> Refund | None:
        """The refund that is named in one way or the other."""
        names = self._names.get(reference or "")
        known_by = refund_id or (names.refund_id if names is not None else None)
        return self._rows.get(known_by) if known_by is not None else None

    def payment_of(self, reference: str | None) -> UUID | None:
        """The payment of the refund with this reference."""
        names = self._names.get(reference or "")
        return names.payment_id if names is not None else None

    def receive(self, receipt: str, amount: int) -> None:
        """So much has come with this receipt."""
        self._received[receipt] = amount

    def prove(self, receipt: str) -> None:
        """The receipt is its payment's: what waited for that is sent now."""
        self._proven.add(receipt)
        for row in self._rows.values():
            if row.receipt == receipt and row.send_at is not None and row.result_code == MONEY_NOT_BACKED:
                self._rows[row.refund_id] = replace(row, send_at=min(row.send_at, self._now))

    def left(self, receipt: str) -> int | None:
        """What of a receipt's money can still be sent back; None where nobody knows how much came."""
        return left_of(receipt, self._received.get(receipt), self._rows.values())

    def came(self, receipt: str | None) -> int | None:
        """What a receipt brought; None where nobody knows."""
        return self._received.get(receipt or "")

    def returned(self, payment: Payment) -> list[ReturnedPart]:
        """What of the money that a payment stands on has gone back by refunds, the first part first."""
        return returned_parts(payment, self._rows.values())

    def promised(self, receipt: str) -> int:
        """What of a receipt's money has gone back, or is to go back."""
        return sum(refund.amount for refund in self._rows.values() if refund.receipt == receipt and refund.counts)

    def send_back(self, payment: Payment, shortcode: str, why: Reason, shortcodes: Collection[str]) -> Fact | None:
        """Record a refund that nobody asked for, unless something bars it: what it means for the payment."""
        order = RefundOrder(
            reference=new_reference(),
            shortcode=shortcode,
            reason=RefundReason(why.value),
            amount=None,
            possible=shortcode in shortcodes,
        )
        fact = RefundRequested(uuid7(), by_itself=why)
        asked = self.ask(payment, order, fact)
        return None if isinstance(asked, RefundRefusal) else asked

    def ask(self, payment: Payment, order: RefundOrder | None, fact: Fact) -> Fact | RefundRefusal:
        """Record a refund where one is asked for: what its payment is told then, or why nothing is recorded."""
        if order is None or not isinstance(fact, RefundRequested | CaseReturned):
            return fact
        receipt = order.receipt or payment.receipt
        received = self._received.get(receipt or "")
        left = self.left(receipt) if receipt is not None else None
        bar = bar_to_refund(payment, order, received, left, by_case=isinstance(fact, CaseReturned))
        if bar is not None or receipt is None or received is None or left is None:
            return RefundRefusal(bar or RefundBar.RECEIPT_PENDING, left or 0)
        amount = order.amount or left
        if needs_approval(order, amount, self._approval_above):
            return RefundRefusal(RefundBar.NEEDS_APPROVAL, amount)
        method = method_of(amount, received, left)
        part = method is RefundMethod.B2C
        refund = Refund(
            refund_id=fact.refund_id,
            payment_id=payment.payment_id,
            caller=payment.caller,
            reference=order.reference,
            shortcode=order.shortcode,
            receipt=receipt,
            amount=amount,
            reason=order.reason,
            requested_at=self._now,
            method=method,
            # Our own name for a part, for ever the same: M-Pesa refuses a second order under it.
            originator_conversation_id=str(fact.refund_id) if part else None,
            by_itself=isinstance(fact, RefundRequested) and fact.by_itself is not None,
        )
        self._rows[refund.refund_id] = first_refund(refund, self._times)
        self._changed(type(fact).__name__, None, refund)
        if isinstance(fact, CaseReturned) and order.is_beside(payment.receipt):
            return replace(fact, part=part, beside=True, frees_seat=False)
        frees_seat = amount == left or order.reason in GIVES_UP_THE_SEAT
        return replace(fact, part=part, frees_seat=frees_seat)

    def looked_up(self, payment: Payment, fact: CaseRefundFound) -> tuple[Fact, ...] | Refund | None:
        """End an uncertain refund as a person has found it: what its payment is told. Otherwise, what refund it is."""
        refund = self.find(fact.refund_id, None)
        if refund is None:
            return None
        outcome = self.apply(refund, RefundLookedUp(fact.fact_id, fact.returned), payment)
        if outcome.refused:
            return refund
        end = next((told for told in outcome.told if isinstance(told, RefundEnd)), None)
        # The person's word is what the log keeps of the end, so that its chain vouches for who found it.
        return (replace(fact, means=end), *(told for told in outcome.told if told is not end))

    def apply(self, refund: Refund, fact: AboutRefund, payment: Payment) -> RefundOutcome:
        """Take one fact about a refund of a payment; what it means for the payment is in the outcome."""
        outcome = self._take(refund, fact.read(refund) if isinstance(fact, RefundPost) else fact, payment)
        if outcome.refund.reversed and not refund.reversed:
            for other in [row for row in self._rows.values() if row.receipt == refund.receipt]:
                if other.refund_id != refund.refund_id:
                    self._take(other, RefundOvertaken(), payment)
        return outcome

    def _take(self, refund: Refund, fact: RefundFact, payment: Payment) -> RefundOutcome:
        received = self._received.get(refund.receipt)
        proven = refund.receipt in self._proven
        around = refund_surroundings(refund, payment, self._rows.values(), received, proven=proven)
        outcome = apply_refund(refund, fact, self._now, self._times, around)
        self._rows[refund.refund_id] = outcome.refund
        if outcome.refund.state is not refund.state:
            self._changed(type(fact).__name__, refund, outcome.refund)
        return outcome

    def statements(self) -> list[Statement]:
        """What is to be written, in the order of the ids."""
        rows = [self._rows[refund_id] for refund_id in sorted(self._rows)]
        new = [row for row in rows if row.refund_id not in self._before]
        changed = [
            (before, row) for row in rows if (before := self._before.get(row.refund_id)) is not None and before != row
        ]
        return [
            *([store.insert_refunds(new)] if new else []),
            *([store.update_refunds(changed)] if changed else []),
        ]

    def _changed(self, cause: str, before: Refund | None, after: Refund) -> None:
        self.changes.append(
            {
                "refund_id": str(after.refund_id),
                "payment_id": str(after.payment_id),
                "from_state": before.state.value if before is not None else None,
                "to_state": after.state.value,
                "code": after.result_code,
                "cause": cause,
            }
        )
