"""Payments in every standing, led there by real facts, and the facts to tell them.

Nothing here reaches into a payment to put it somewhere: a standing that no
sequence of facts leads to is one that no test can claim.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from payment_service.domain.case_facts import CaseAccepted, CaseDismissed, CaseRefundFound, CaseReturned
from payment_service.domain.cases import CaseKind, OpenCase
from payment_service.domain.decisions import first_row
from payment_service.domain.facts import (
    AnswerLost,
    BackingOverdue,
    CancelRequested,
    DeadlinePassed,
    Fact,
    LeaseDead,
    NotSent,
    PromptAccepted,
    PromptRefused,
    ReceiptOverdue,
    RefundRequested,
    ResultReported,
    SendClaimed,
    Source,
    TakenBack,
    Verdict,
    WatchEnded,
)
from payment_service.domain.finding import Surroundings
from payment_service.domain.payment import LatePaymentPolicy, Payment, Times
from payment_service.domain.reasons import Reason
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import Outcome, apply

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TIMES = Times()
AMOUNT = 500
CLAIM = UUID(int=0xC1)
REFUND = UUID(int=0x4EF)
CASE = UUID(int=0xCA5E)
MERCHANT, CHECKOUT = "merchant-1", "checkout-1"
RECEIPT, OTHER_RECEIPT, ODD_RECEIPT = "TKA1B2C3D4", "TKZ9Y8X7W6", "TKM5N6P7Q8"
PAYMENT_ID, OTHER_ID = UUID(int=1), UUID(int=2)

_ids = itertools.count(1)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def created(
    *,
    payment_id: UUID = PAYMENT_ID,
    attempt: int = 1,
    at: datetime = START,
    hold_expire_at: datetime | None = None,
    late_payment_policy: LatePaymentPolicy = LatePaymentPolicy.REVIEW,
) -> Payment:
    payment = Payment(
        payment_id=payment_id,
        caller="development",
        booking_id="booking-1",
        reference=f"r{attempt}",
        attempt=attempt,
        retry_of=None,
        amount=AMOUNT,
        created_at=at,
        updated_at=at,
        expires_at=at + TIMES.expire_after,
        hold_expire_at=hold_expire_at,
        late_payment_policy=late_payment_policy,
    )
    return first_row(payment, TIMES)


def result(
    verdict: Verdict,
    code: str,
    *,
    reason: Reason | None = None,
    source: Source = Source.CALLBACK,
    checkout: str | None = None,
    merchant: str | None = None,
    amount: int | str | None = None,
    receipt: str | None = None,
) -> ResultReported:
    return ResultReported(
        fact_id=f"result:{next(_ids)}",
        source=source,
        verdict=verdict,
        code=code,
        reason=reason,
        merchant_request_id=merchant,
        checkout_request_id=checkout,
        amount=amount,
        receipt=receipt,
    )


def paid(
    receipt: str | None = RECEIPT, amount: int | str | None = AMOUNT, checkout: str | None = None
) -> ResultReported:
    return result(Verdict.PAID, "0", receipt=receipt, amount=amount, checkout=checkout)


def pulled(receipt: str = RECEIPT, amount: int | str = AMOUNT, *, in_doubt: bool = False) -> ResultReported:
    """A row of the provider's books."""
    found = result(Verdict.PAID, "0", source=Source.PULL, amount=amount, receipt=receipt)
    return replace(found, in_doubt=in_doubt)


def status_paid(conversation: str | None, receipt: str = RECEIPT, amount: int | str = AMOUNT) -> ResultReported:
    """The result of asking for a transaction's status, with the conversation that the transaction came of."""
    return result(Verdict.PAID, "0", source=Source.STATUS, merchant=conversation, amount=amount, receipt=receipt)


def taken_back(
    receipt: str | None = None, *, in_doubt: bool = False, shown_as: str = "TKR7E8V9E0", conversation: str | None = None
) -> TakenBack:
    """The books show money as returned; `receipt` is the payment's, where that is told."""
    source = Source.PULL if conversation is None else Source.STATUS
    return TakenBack(f"taken-back:{next(_ids)}", source, shown_as, AMOUNT, receipt, conversation, in_doubt)


def query_paid(checkout: str | None = None) -> ResultReported:
    return result(Verdict.PAID, "0", source=Source.QUERY, checkout=checkout)


def failed(code: str = "1") -> ResultReported:
    return result(Verdict.FAILED, code, reason=Reason.INSUFFICIENT_FUNDS)


def cancelled(code: str = "1032") -> ResultReported:
    return result(Verdict.CANCELLED, code, reason=Reason.DECLINED_BY_CUSTOMER)


def uncertain(code: str = "1037", source: Source = Source.CALLBACK) -> ResultReported:
    return result(Verdict.UNCERTAIN, code, source=source)


def unknown(code: str = "77777") -> ResultReported:
    return result(Verdict.UNKNOWN, code)


def accepted(claim: UUID = CLAIM, checkout: str = CHECKOUT, merchant: str = MERCHANT) -> Fact:
    return PromptAccepted(claim, merchant, checkout)


def queried(answer: ResultReported, *, asked_at: datetime | None = None) -> ResultReported:
    """The same said by a query; `asked_at` unset: at the moment it is applied."""
    return replace(answer, source=Source.QUERY, asked_at=asked_at)


def refused(claim: UUID = CLAIM) -> Fact:
    return PromptRefused(claim, "400.002.02", Reason.PHONE_NUMBER_REFUSED)


def not_sent(claim: UUID = CLAIM) -> Fact:
    return NotSent(claim, "503")


def accept(receipt: str | None = None, opened_by: str = "opened") -> CaseAccepted:
    """An operator accepts the money of the case that this fact has opened."""
    return CaseAccepted(CASE, opened_by, "amina", "the passenger has the message", receipt)


def dismiss(opened_by: str = "opened") -> CaseDismissed:
    """An operator dismisses the case that this fact has opened."""
    return CaseDismissed(CASE, opened_by, "amina", "looked up in the portal")


def send_back(refund_id: UUID = REFUND, receipt: str | None = None, opened_by: str = "opened") -> CaseReturned:
    """An operator returns the money of the case that this fact has opened."""
    return CaseReturned(CASE, opened_by, "amina", "no seat is left", refund_id, receipt)


def found_refund(
    *, returned: bool, part: bool = False, the_rest: bool = True, opened_by: str = "opened"
) -> CaseRefundFound:
    """An operator has looked up what became of a refund of the whole, or of a part."""
    amount = AMOUNT - 100 if part else AMOUNT
    means = RefundDone(REFUND, amount, part, the_rest) if returned else RefundFailed(REFUND, part)
    return CaseRefundFound(CASE, opened_by, "amina", "looked up in the portal", REFUND, returned, means=means)


def tell(
    payment: Payment,
    fact: Fact,
    at: datetime,
    *,
    siblings: Iterable[Payment] = (),
    receipt_holder: UUID | None = None,
    checkout_holder: UUID | None = None,
    open_cases: Iterable[OpenCase] = (),
    callback_waiting: bool = False,
) -> Outcome:
    around = Surroundings(tuple(siblings), receipt_holder, checkout_holder, tuple(open_cases), callback_waiting)
    return apply(payment, fact, around, at, TIMES)


def led(payment: Payment, *facts: Fact, at: datetime | None = None) -> Payment:
    """The payment after these facts, one second apart."""
    moment = at or payment.updated_at
    for fact in facts:
        moment += seconds(1)
        payment = tell(payment, fact, moment).payment
    return payment


def standing_in(column: Standing, *, ids: bool = True, start: Payment | None = None) -> Payment:
    """A payment in a standing; `ids` says whether Safaricom's ids are on record where that is open."""
    new = start or created()
    sending = led(new, SendClaimed(CLAIM))
    prompted = led(sending, accepted() if ids else AnswerLost(CLAIM))
    complete = led(prompted, pulled())
    ways: dict[Standing, Callable[[], Payment]] = {
        Standing.CREATED: lambda: new,
        Standing.SENDING: lambda: sending,
        Standing.PROMPTED: lambda: led(sending, accepted()),
        Standing.UNCERTAIN_NO_RESULT: lambda: led(sending, AnswerLost(CLAIM)),
        Standing.UNCERTAIN_RESULT_SEEN: lambda: led(prompted, unknown()),
        Standing.UNDER_REVIEW: lambda: led(prompted, paid(ODD_RECEIPT, AMOUNT + 1)),
        Standing.RECEIPT_PENDING: lambda: led(prompted, paid(None)),
        Standing.COMPLETED_BY_CALLBACK: lambda: led(prompted, paid()),
        Standing.COMPLETED: lambda: complete,
        Standing.REFUTED: lambda: refuted(led(prompted, paid())),
        Standing.FAILED_BY_QUERY: lambda: led(prompted, queried(failed())),
        Standing.CANCELLED_BY_QUERY: lambda: led(prompted, queried(cancelled())),
        Standing.FAILED: lambda: led(prompted, failed()),
        Standing.CANCELLED: lambda: led(prompted, cancelled()),
        Standing.EXPIRED: lambda: tell(prompted, DeadlinePassed(), prompted.expires_at).payment,
        Standing.REFUNDING: lambda: led(complete, RefundRequested(REFUND)),
        Standing.REFUNDED: lambda: led(complete, RefundRequested(REFUND), RefundDone(REFUND, AMOUNT)),
    }
    return ways[column]()


def refuted(told: Payment) -> Payment:
    """The money that only a callback told of was denied, and an operator has found that it never came."""
    denied = led(told, queried(cancelled()))
    case = OpenCase(CaseKind.UNBACKED_MONEY, is_money=True, fact_id="opened", receipt=denied.receipt)
    return tell(denied, dismiss(), denied.updated_at + seconds(1), open_cases=[case]).payment


def due_fact(payment: Payment) -> Fact | None:
    """What the timer of a payment says; None where it is time to send."""
    match standing(payment):
        case Standing.CREATED:
            return None
        case Standing.SENDING:
            assert payment.claim_id is not None
            return LeaseDead(payment.claim_id)
        case Standing.RECEIPT_PENDING:
            return ReceiptOverdue()
        case Standing.COMPLETED_BY_CALLBACK:
            return BackingOverdue()
        case Standing.EXPIRED | Standing.FAILED_BY_QUERY | Standing.CANCELLED_BY_QUERY:
            return WatchEnded()
        case _:
            return DeadlinePassed()


def withdrawn() -> Payment:
    return led(created(), CancelRequested("cancel:1"))


def under_refund_by_case() -> Payment:
    """REFUNDING, reached from a review instead of from a completed payment."""
    return led(standing_in(Standing.UNDER_REVIEW), send_back())


def clocked(payment: Payment, changes: dict[str, object]) -> Payment:
    """The payment with stored fields changed: for rows as only a restored database could hold them."""
    return replace(payment, **changes)  # type: ignore[arg-type]  # the names are checked by replace itself


def refund_done() -> Fact:
    return RefundDone(REFUND, AMOUNT)
