"""The simulator's own books: every push it read, every prompt a phone showed, every shilling that moved.

Rows are written at the moment a thing happens (request fully read, phone prompted, money moved, callback answered),
whatever became of the answer or the callback, so that a test can hold the payment service's account of events
against an independent one. The ledger decides nothing about pushes; it hands out receipts, because uniqueness
across the platform is the books' business.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

# Evidence is never dropped: a full ledger makes the simulator refuse pushes instead. At about 1 KiB each this is 1 GiB.
PUSHES_MAX: Final = 1_000_000

_BASE36: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(slots=True)
class CallbackAttempt:
    """One callback as sent: status is None when no answer came, and error then says why."""

    sent_time: float
    status: int | None = None
    error: str | None = None


@dataclass(slots=True)
class Push:
    """One STK push as the simulator lived it. Times are Unix seconds of the simulator's clock."""

    number: int
    received_time: float
    phone: str = ""
    nth: int = 0
    amount: int = 0
    shortcode: str = ""
    party_b: str = ""
    account_reference: str = ""
    transaction_desc: str = ""
    callback_url: str = ""
    outcome: str = "received"
    # Where Daraja's words do not say it.
    why_refused: str | None = None
    merchant_request_id: str = ""
    checkout_request_id: str = ""
    prompted_time: float | None = None
    ended_time: float | None = None
    result_code: int | str | None = None
    result_desc: str = ""
    debited_kes: int = 0
    debited_time: float = 0.0
    receipt: str = ""
    callbacks: list[CallbackAttempt] = field(default_factory=list)
    # The last callback's content type and body, so that it can be sent again.
    last_body: tuple[str, bytes] | None = None
    # Nobody asked for it: its payer typed the account into the M-PESA menu. It has no ids, no prompt and no callback.
    by_hand: bool = False


@dataclass(slots=True)
class Ledger:
    """All pushes in the order they were read, with the indexes that queries and scripts need."""

    pushes: list[Push] = field(default_factory=list)
    by_checkout_id: dict[str, Push] = field(default_factory=dict)
    by_merchant_id: dict[str, Push] = field(default_factory=dict)
    pushes_by_phone: defaultdict[str, list[Push]] = field(default_factory=lambda: defaultdict(list))
    # Every push that moved money, in the order in which it moved.
    debits: list[Push] = field(default_factory=list)
    by_receipt: dict[str, Push] = field(default_factory=dict)
    received_kes: Counter[str] = field(default_factory=Counter)
    last_receipt: int = 0

    def record(self, received_time: float) -> Push:
        push = Push(number=len(self.pushes) + 1, received_time=received_time)
        self.pushes.append(push)
        return push

    def record_by_hand(self, phone: str, shortcode: str, account: str, amount: int, at: float) -> Push:
        """A payment that its payer makes in the menu, with its money moved."""
        paid = self.record(at)
        paid.by_hand, paid.outcome, paid.ended_time = True, "paid by hand", at
        paid.shortcode = paid.party_b = shortcode
        paid.account_reference, paid.amount = account, amount
        self.assign_phone(paid, phone)
        self.debit(paid, at)
        return paid

    def assign_phone(self, push: Push, phone: str) -> None:
        """Count the push among its phone's, which makes it that phone's nth."""
        push.phone = phone
        same_phone = self.pushes_by_phone[phone]
        same_phone.append(push)
        push.nth = len(same_phone)

    def assign_ids(self, push: Push, merchant_request_id: str, checkout_request_id: str) -> None:
        push.merchant_request_id = merchant_request_id
        push.checkout_request_id = checkout_request_id
        self.by_merchant_id[merchant_request_id] = push
        self.by_checkout_id[checkout_request_id] = push

    def debit(self, push: Push, at: float) -> None:
        """Move the money, once: a push that has been paid stays paid."""
        if push.debited_kes == 0:
            push.debited_kes = push.amount
            push.debited_time = at
            push.receipt = self.new_receipt(at)
            self.received_kes[push.shortcode] += push.amount
            self.debits.append(push)
            self.by_receipt[push.receipt] = push

    def new_receipt(self, at: float) -> str:
        """Ten capitals and digits: three for the day, seven for its hundred-thousandths of a second.

        The clock keeps receipts unique across restarts with the same seed, as a database outlives simulators; the
        step past the last one keeps them unique within a run.
        """
        value = max(int(at * 100_000), self.last_receipt + 1)
        self.last_receipt = value
        tail = ""
        remainder = value % 36**7
        for _ in range(7):
            remainder, digit = divmod(remainder, 36)
            tail = _BASE36[digit] + tail
        return receipt_day(at) + tail


def receipt_day(at: float) -> str:
    """The three characters that every receipt of a day begins with."""
    moment = time.gmtime(at)
    return _BASE36[10 + moment.tm_year % 26] + _BASE36[10 + moment.tm_mon] + _BASE36[moment.tm_mday]


def row(push: Push) -> dict[str, Any]:
    """A push as the control API shows it."""
    return {
        "number": push.number,
        "phone": push.phone,
        "nth": push.nth,
        "amount": push.amount,
        "shortcode": push.shortcode,
        "party_b": push.party_b,
        "account_reference": push.account_reference,
        "transaction_desc": push.transaction_desc,
        "callback_url": push.callback_url,
        "outcome": push.outcome,
        "why_refused": push.why_refused,
        "by_hand": push.by_hand,
        "merchant_request_id": push.merchant_request_id,
        "checkout_request_id": push.checkout_request_id,
        "received_time": push.received_time,
        "prompted": push.prompted_time is not None,
        "prompted_time": push.prompted_time,
        "ended_time": push.ended_time,
        "result_code": push.result_code,
        "debited_kes": push.debited_kes,
        "debited_time": push.debited_time or None,
        "receipt": push.receipt,
        "callbacks": [
            {"sent_time": attempt.sent_time, "status": attempt.status, "error": attempt.error}
            for attempt in push.callbacks
        ],
    }


def debit_row(push: Push) -> dict[str, Any]:
    """The money a push moved, as the control API shows it."""
    return {
        "receipt": push.receipt,
        "amount": push.debited_kes,
        "account_reference": push.account_reference,
        "shortcode": push.shortcode,
        "time": push.debited_time,
        "checkout_request_id": push.checkout_request_id,
        "number": push.number,
    }


def totals(pushes: Iterable[Push]) -> dict[str, int]:
    """What a list of pushes adds up to."""
    sums: Counter[str] = Counter(pushes=0, prompted=0, payments=0, debited_kes=0, callbacks=0, callbacks_ok=0)
    for push in pushes:
        sums["pushes"] += not push.by_hand
        sums["prompted"] += push.prompted_time is not None
        sums["payments"] += push.debited_kes > 0
        sums["debited_kes"] += push.debited_kes
        sums["callbacks"] += len(push.callbacks)
        sums["callbacks_ok"] += sum(attempt.status == 200 for attempt in push.callbacks)
    return dict(sums)
