"""What each cell of the table does to the payment itself: the row as it leaves the cell.

Which cell it is, which cases it opens and ends, and what follows for the booking is decided in `transitions`.
"""

from datetime import datetime
from typing import assert_never

from payment_service.domain.case_facts import CaseAccepted, CaseDismissed, CaseReturned
from payment_service.domain.facts import (
    Fact,
    NotSent,
    PromptAccepted,
    PromptRefused,
    RefundRequested,
    ResultReported,
    SendClaimed,
    Source,
    TakenBack,
    Verdict,
    WatchEnded,
    refund_end,
)
from payment_service.domain.findings import asked_after_prompt
from payment_service.domain.payment import (
    PAID_STATES,
    UNBACKED,
    Backing,
    Payment,
    RefundStatus,
    State,
    Times,
    UnpaidProof,
)
from payment_service.domain.reasons import SENT_BACK, Reason
from payment_service.domain.refund_ends import RefundDone, RefundFailed

OfRefund = RefundRequested | CaseReturned | RefundDone | RefundFailed
"""What a payment is told of its refund."""


def moved(payment: Payment, target: str, fact: Fact, now: datetime, times: Times) -> Payment:
    """The payment with the cell's own effect; what follows from it is `decisions`' part."""
    # Evidence of a prompt dates the send, even where no claim of ours does.
    sent_at = payment.sent_at or now
    match target:
        case "-" | "ids" | "case" | "$" | "differs" | "seen" | "over" | "settled" | "told" | "own":
            return payment
        case "backed" | "doubt" | "refuted":
            return _with_backing(payment, target, fact)
        case "S" if isinstance(fact, SendClaimed):
            return payment.but(
                state=State.SENDING,
                claim_id=fact.claim_id,
                sent_at=now,
                lease_expires_at=now + times.lease,
                expires_at=now + times.expire_after,
            )
        case "C" if isinstance(fact, NotSent):
            wait = times.send_backoff * 2**payment.not_sent_count
            return payment.but(
                state=State.CREATED,
                sent_at=None,
                lease_expires_at=None,
                not_sent_count=payment.not_sent_count + 1,
                send_at=now + wait,
            )
        case "P":
            return payment.but(state=State.PROMPTED, reason=Reason.AWAITING_CUSTOMER, sent_at=sent_at)
        case "U0":
            return payment.but(state=State.UNCERTAIN, reason=Reason.CONFIRMING, sent_at=sent_at)
        case "U1":
            code = fact.code if isinstance(fact, ResultReported) else payment.result_code
            seen = payment.but(result_code=code, result_seen=True, sent_at=sent_at)
            return seen.but(state=State.UNCERTAIN, reason=Reason.CONFIRMING)
        case "UR":
            return payment.but(state=State.UNCERTAIN, reason=Reason.AMOUNT_DIFFERS, result_seen=True, sent_at=sent_at)
        case "K" | "receipt" | "second":
            return _paid(payment, target, fact, now, times)
        case "F" | "X" | "F|X" | "F0|X0" | "E":
            return _ended(payment, target, fact)
        case "agrees" if isinstance(fact, ResultReported) and not said_before(payment, fact):
            return payment
        case "cert" | "agrees":
            return payment.but(unpaid_proof=_proof(payment, fact))
        case "unread":
            return payment.but(unread_callback=True)
        case "unknown":
            return payment.but(due_at=None, query_at=None)
        case "block":
            return payment.but(blocks_booking=False)
        case "beside" if isinstance(told := refund_end(fact) or fact, OfRefund):
            return _with_refund_beside(payment, told)
        case "RG" | "RD" | "back" | "part" if isinstance(told := refund_end(fact) or fact, OfRefund):
            return _with_refund(payment, target, told)
        case "RD" if isinstance(fact, TakenBack):
            return payment.but(state=State.REFUNDED, reason=Reason.TAKEN_BACK)
        case _:
            raise AssertionError(f"no such cell in the table: {target} for {type(fact).__name__}")


def _paid(payment: Payment, target: str, fact: Fact, now: datetime, times: Times) -> Payment:
    asked_at = (fact.asked_at if isinstance(fact, ResultReported) else None) or now
    known_at = fact.known_at(now) if isinstance(fact, ResultReported) else now
    if target == "second":
        first = payment.paid_seen_at or asked_at
        confirmed = payment.paid_seen_at is not None and asked_at >= first + times.second_look_after
        twice = payment.paid_twice or confirmed
        return payment.but(paid_seen_at=first, paid_twice=twice, backing=_backing(payment, fact))
    queried = is_query(fact)
    # The answer to a query proves no receipt: it comes without the amount that would have to be right.
    receipt = fact.receipt if isinstance(fact, ResultReported | CaseAccepted) and not queried else None
    transaction_at = fact.transaction_at if isinstance(fact, ResultReported) else None
    backing = _backing(payment, fact)
    waits = Reason.CONFIRMING if payment.back_first and backing in UNBACKED else None
    return payment.but(
        state=State.COMPLETED,
        backing=backing,
        reason=waits if receipt else Reason.RECEIPT_PENDING,
        result_code=fact.code if isinstance(fact, ResultReported) else payment.result_code,
        receipt=receipt,
        transaction_at=transaction_at or payment.transaction_at,
        paid_late=payment.paid_late or payment.state in (State.FAILED, State.CANCELLED, State.EXPIRED),
        completed_at=payment.completed_at or max(known_at, payment.created_at),
        paid_seen_at=asked_at if queried else payment.paid_seen_at,
        result_seen=True,
    )


def _with_backing(payment: Payment, target: str, fact: Fact) -> Payment:
    match target:
        case "doubt":
            return payment.but(backing=Backing.DOUBTED)
        case "refuted":
            # The booking may be paid again, and then that payment is the one that confirms it.
            told = payment.but(reason=Reason.MONEY_NEVER_CAME, said_confirm=False)
            return told.but(backing=Backing.REFUTED, seat_freed=True)
        case _:
            waited = payment.reason in (Reason.CONFIRMING, Reason.MONEY_NEVER_CAME)
            return payment.but(backing=_backing(payment, fact), reason=None if waited else payment.reason)


def _backing(payment: Payment, fact: Fact) -> Backing:
    """What backs the money once a fact has told of it. A callback backs nothing, and takes no backing away.

    Nor does what was asked by an id that only a callback has brought: it may be that of somebody else's prompt.
    """
    if isinstance(fact, CaseAccepted):
        return Backing.PERSON
    source = fact.source if isinstance(fact, ResultReported) else Source.CALLBACK
    if payment.ids_from_callback and source is not Source.PULL:
        source = Source.CALLBACK
    match source:
        case Source.CALLBACK:
            return payment.backing or Backing.AWAITED
        case Source.QUERY:
            return Backing.QUERY
        case Source.PULL:
            return Backing.BOOKS
        case Source.STATUS:
            return Backing.STATUS
        case _:
            assert_never(source)


def _ended(payment: Payment, target: str, fact: Fact) -> Payment:
    state: State
    reason: Reason | None
    code: str | None
    match fact:
        case ResultReported() if target in ("F|X", "F0|X0"):
            cancelled = fact.verdict is Verdict.CANCELLED
            state, reason, code = (State.CANCELLED if cancelled else State.FAILED), fact.reason, fact.code
        case PromptRefused():
            state, reason, code = State.FAILED, fact.reason, fact.code
        case NotSent():
            state, reason, code = State.FAILED, Reason.NOT_SENT, fact.code
        case _ if target == "X":
            state, reason, code = State.CANCELLED, Reason.WITHDRAWN, payment.result_code
        case _ if target == "F":
            state, reason, code = State.FAILED, Reason.NOT_SENT, payment.result_code
        case _:
            state, reason, code = State.EXPIRED, Reason.NO_ANSWER, payment.result_code
    proof = None if target in ("F0|X0", "E") else _proof(payment, fact)
    return payment.but(state=state, reason=reason, result_code=code, unpaid_proof=proof)


def _proof(payment: Payment, fact: Fact) -> UnpaidProof:
    match fact:
        case ResultReported():
            return UnpaidProof.QUERY if fact.source is Source.QUERY else UnpaidProof.RESULT
        case WatchEnded():
            return UnpaidProof.BOOKS if payment.unpaid_seen_at is None else UnpaidProof.QUERY
        case CaseDismissed():
            return UnpaidProof.PERSON
        case _:
            return UnpaidProof.NO_PROMPT


def _with_refund(payment: Payment, target: str, fact: OfRefund) -> Payment:
    """The payment with what a fact says of its refund, where the table of payments lets it count, by its cell."""
    told = payment.but(refund_id=fact.refund_id)
    match fact:
        case RefundRequested() | CaseReturned():
            by_itself = fact.by_itself if isinstance(fact, RefundRequested) else None
            reason = by_itself or payment.reason
            freed = payment.seat_freed or fact.frees_seat
            asked = told.but(refund_status=RefundStatus.PENDING, refund_under_way=True, seat_freed=freed)
            return asked if fact.part else asked.but(state=State.REFUNDING, reason=reason)
        case RefundDone():
            returned = payment.refunded_amount + fact.amount
            done = told.but(
                refund_status=RefundStatus.DONE, refund_under_way=fact.others_under_way, refunded_amount=returned
            )
            # Why it went back by itself stays with it.
            reason = payment.reason if payment.reason in SENT_BACK else None
            return done if target == "part" else done.but(state=State.REFUNDED, reason=reason)
        case RefundFailed():
            # A process of an older release may have asked for the whole, and it did not note that the seat is free.
            freed = payment.seat_freed or not fact.part
            failed = told.but(
                refund_status=RefundStatus.FAILED, refund_under_way=fact.others_under_way, seat_freed=freed
            )
            paid = payment.completed_at is not None
            return failed if fact.part else failed.but(state=State.COMPLETED if paid else State.UNCERTAIN)
        case _:
            assert_never(fact)


def _with_refund_beside(payment: Payment, fact: OfRefund) -> Payment:
    """Of its refunds alone something is said. What went back came beside the payment's own money, and so is no part of
    what the payment itself has sent back."""
    told = payment.but(refund_id=fact.refund_id)
    match fact:
        case RefundRequested() | CaseReturned():
            return told.but(refund_status=RefundStatus.PENDING, refund_under_way=True)
        case RefundDone():
            return told.but(refund_status=RefundStatus.DONE, refund_under_way=fact.others_under_way)
        case RefundFailed():
            return told.but(refund_status=RefundStatus.FAILED, refund_under_way=fact.others_under_way)
        case _:
            assert_never(fact)


def with_ids(payment: Payment, fact: Fact) -> Payment:
    if not isinstance(fact, PromptAccepted | ResultReported):
        return payment
    checkout_new = payment.checkout_request_id is None and fact.checkout_request_id is not None
    told_here = checkout_new or (payment.merchant_request_id is None and fact.merchant_request_id is not None)
    return payment.but(
        checkout_request_id=payment.checkout_request_id or fact.checkout_request_id,
        merchant_request_id=payment.merchant_request_id or fact.merchant_request_id,
        ids_from_callback=isinstance(fact, ResultReported) and (told_here or payment.ids_from_callback),
    )


def with_evidence(payment: Payment, fact: Fact, now: datetime, times: Times) -> Payment:
    settled = payment.state in PAID_STATES or payment.unpaid_proof is not None
    if not isinstance(fact, ResultReported) or settled or payment.unpaid_seen_at is not None:
        return payment
    if not asked_after_prompt(payment, fact, now, times):
        return payment
    return payment.but(unpaid_seen_at=fact.asked_at or now)


def said_before(payment: Payment, fact: ResultReported) -> bool:
    ended_so = State.CANCELLED if fact.verdict is Verdict.CANCELLED else State.FAILED
    return ended_so is payment.state and fact.code == payment.result_code


def paid_by_hand(payment: Payment, fact: Fact) -> bool:
    """Whether the books show money that moved when the prompt had failed already: its payer has typed the account, and
    Safaricom has told nothing that contradicts the failure."""
    if not isinstance(fact, ResultReported) or fact.source is not Source.PULL or fact.transaction_at is None:
        return False
    return fact.transaction_at > payment.updated_at


def is_query(fact: Fact) -> bool:
    return isinstance(fact, ResultReported) and fact.source is Source.QUERY
