"""The books' other side: every order to send money that was read, every shilling that went back to a phone.

As in ledger.py, rows are written when a thing happens, whatever became of an answer or a result. Money goes back by a
reversal or a B2C payment that somebody ordered, or because Safaricom takes a payment back at the payer's own request.
A payment goes back whole and once; that is these books' business, and so is what an account has left.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from daraja_simulator.ledger import CallbackAttempt, Ledger, Push

REVERSAL: Final = "reversal"
B2C: Final = "b2c"
TAKEN_BACK: Final = "taken_back"


@dataclass(slots=True)
class Order:
    """One order as the simulator lived it. Times are Unix seconds of the simulator's clock."""

    number: int
    kind: str
    received_time: float
    shortcode: str = ""
    phone: str = ""
    nth: int = 0
    amount: int = 0
    # Of the payment that a reversal sends back; a B2C payment names none.
    original_receipt: str = ""
    originator_conversation_id: str = ""
    conversation_id: str = ""
    outcome: str = "received"
    result_code: int | str | None = None
    ended_time: float | None = None
    sent_kes: int = 0
    receipt: str = ""
    results: list[CallbackAttempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Return:
    """Money that went back to a phone. `payment` is None for a B2C payment, `order` where nobody ordered it."""

    kind: str
    receipt: str
    phone: str
    amount: int
    shortcode: str
    time: float
    payment: Push | None
    order: Order | None


@dataclass(slots=True)
class Returns:
    """All orders in the order they were read, all money that went out, and what is left to send."""

    # What each shortcode's account had before the first payment.
    opening_kes: int
    orders: list[Order] = field(default_factory=list)
    orders_by_phone: defaultdict[str, list[Order]] = field(default_factory=lambda: defaultdict(list))
    # Orders that M-Pesa took, by the conversation they are known by; and those that moved money, by their receipt.
    by_conversation: dict[str, Order] = field(default_factory=dict)
    by_receipt: dict[str, Order] = field(default_factory=dict)
    returns: list[Return] = field(default_factory=list)
    by_payment: dict[str, Return] = field(default_factory=dict)
    sent_kes: Counter[str] = field(default_factory=Counter)
    added_kes: Counter[str] = field(default_factory=Counter)

    def record(self, kind: str, received_time: float) -> Order:
        order = Order(len(self.orders) + 1, kind, received_time)
        self.orders.append(order)
        return order

    def assign_phone(self, order: Order, phone: str) -> None:
        """Count the order among its phone's, which makes it that phone's nth."""
        order.phone = phone
        same_phone = self.orders_by_phone[phone]
        same_phone.append(order)
        order.nth = len(same_phone)

    def take(self, order: Order) -> None:
        """M-Pesa has the order: from now on its conversation is known, and not used again."""
        self.by_conversation[order.originator_conversation_id] = order

    def balance_kes(self, ledger: Ledger, shortcode: str) -> int:
        """What the shortcode's utility account has: payments arrive there, and what is sent comes from there."""
        received = ledger.received_kes[shortcode]
        return self.opening_kes + self.added_kes[shortcode] + received - self.sent_kes[shortcode]

    def set_balance(self, ledger: Ledger, shortcode: str, kes: int) -> None:
        """As when the merchant moves money into the account, or out of it."""
        self.added_kes[shortcode] += kes - self.balance_kes(ledger, shortcode)

    def send_back(self, ledger: Ledger, payment: Push, at: float, order: Order | None) -> None:
        """All of a payment back to its phone: by a reversal, or without an order at the payer's own request."""
        assert payment.receipt not in self.by_payment, "a payment goes back once"
        kind, receipt = TAKEN_BACK if order is None else REVERSAL, ledger.new_receipt(at)
        sent = Return(kind, receipt, payment.phone, payment.debited_kes, payment.shortcode, at, payment, order)
        self.by_payment[payment.receipt] = sent
        self._enter(sent)

    def pay_out(self, ledger: Ledger, order: Order, shortcode: str, at: float) -> None:
        """A B2C payment."""
        self._enter(Return(B2C, ledger.new_receipt(at), order.phone, order.amount, shortcode, at, None, order))

    def _enter(self, sent: Return) -> None:
        self.returns.append(sent)
        self.sent_kes[sent.shortcode] += sent.amount
        if sent.order is not None:
            sent.order.sent_kes, sent.order.receipt = sent.amount, sent.receipt
            self.by_receipt[sent.receipt] = sent.order


def order_row(order: Order) -> dict[str, Any]:
    """An order as the control API shows it."""
    return {
        "number": order.number,
        "kind": order.kind,
        "phone": order.phone,
        "nth": order.nth,
        "amount": order.amount,
        "shortcode": order.shortcode,
        "original_receipt": order.original_receipt,
        "originator_conversation_id": order.originator_conversation_id,
        "conversation_id": order.conversation_id,
        "outcome": order.outcome,
        "received_time": order.received_time,
        "ended_time": order.ended_time,
        "result_code": order.result_code,
        "sent_kes": order.sent_kes,
        "receipt": order.receipt,
        "results": [
            {"sent_time": attempt.sent_time, "status": attempt.status, "error": attempt.error}
            for attempt in order.results
        ],
    }


def return_row(sent: Return) -> dict[str, Any]:
    """Money that went back, as the control API shows it."""
    return {
        "kind": sent.kind,
        "receipt": sent.receipt,
        "amount": sent.amount,
        "shortcode": sent.shortcode,
        "time": sent.time,
        "original_receipt": sent.payment.receipt if sent.payment is not None else "",
        "account_reference": sent.payment.account_reference if sent.payment is not None else "",
        "order": sent.order.number if sent.order is not None else None,
    }


def order_totals(orders: Iterable[Order]) -> dict[str, int]:
    """What a list of orders adds up to."""
    sums: Counter[str] = Counter(orders=0, carried_out=0, sent_kes=0, results=0, results_ok=0)
    for order in orders:
        sums["orders"] += 1
        sums["carried_out"] += order.sent_kes > 0
        sums["sent_kes"] += order.sent_kes
        sums["results"] += len(order.results)
        sums["results_ok"] += sum(attempt.status == 200 for attempt in order.results)
    return dict(sums)
