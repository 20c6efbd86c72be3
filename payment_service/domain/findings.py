"""What a fact says about the payment it is told of: the row of the table it falls into.

The table in `transitions` has a row for each finding and a column for each standing. This file changes nothing.
"""

from datetime import datetime
from typing import assert_never

from payment_service.domain.case_facts import CaseAccepted, CaseDismissed, CaseRefundFound, CaseReturned
from payment_service.domain.cases import OWN_MONEY, CaseKind, OpenCase
from payment_service.domain.facts import (
    UNREADABLE,
    AnswerLost,
    BackingOverdue,
    CancelRequested,
    DeadlinePassed,
    Fact,
    LeaseDead,
    NothingTold,
    NotSent,
    PromptAccepted,
    PromptRefused,
    ReceiptDue,
    ReceiptOverdue,
    ReceiptProven,
    RefundInDoubt,
    RefundRequested,
    ResultReported,
    SendClaimed,
    SiblingPaid,
    Source,
    TakenBack,
    Unreadable,
    Verdict,
    WatchEnded,
)
from payment_service.domain.finding import Finding, Surroundings
from payment_service.domain.payment import (
    SENDS_MAX,
    Backing,
    Payment,
    State,
    Times,
    backing_overdue,
    deadline,
    watch_end,
)
from payment_service.domain.refund_ends import RefundDone, RefundEnd, RefundFailed
from payment_service.domain.standings import Standing, standing

_COMPLETE = (Standing.COMPLETED_BY_CALLBACK, Standing.COMPLETED, Standing.REFUTED)


def finding(payment: Payment, fact: Fact, around: Surroundings, now: datetime, times: Times) -> Finding:
    """The row of the table a fact falls into for this payment."""
    match fact:
        case SendClaimed():
            return _claim(payment, around, now, times)
        case PromptAccepted() | PromptRefused() | NotSent() | AnswerLost():
            return _answer(payment, fact, around)
        case LeaseDead():
            dead = payment.lease_expires_at is not None and now >= payment.lease_expires_at
            return Finding.ANSWER_LOST if dead and fact.claim_id == payment.claim_id else Finding.NO_NEWS
        case ResultReported():
            return _result(payment, fact, around, now, times)
        case Unreadable():
            return Finding.UNREAD_BODY
        case NothingTold():
            return Finding.NO_NEWS
        case DeadlinePassed():
            return Finding.DEADLINE if now >= deadline(payment, times) else Finding.NO_NEWS
        case WatchEnded():
            return _watch_ended(payment, fact, around, now, times)
        case ReceiptOverdue():
            waited = payment.completed_at is not None and now >= payment.completed_at + times.receipt_within
            return Finding.RECEIPT_OVERDUE if waited else Finding.NO_NEWS
        case BackingOverdue():
            return Finding.BACKING_OVERDUE if backing_overdue(payment, now, times) else Finding.NO_NEWS
        case ReceiptProven():
            return Finding.RECEIPT_PROVEN
        case CancelRequested():
            return Finding.CANCEL
        case SiblingPaid():
            return Finding.SIBLING_PAID
        case ReceiptDue():
            return Finding.RECEIPT_DUE
        case RefundRequested() if fact.part:
            return Finding.REFUND_PART_ASKED
        case RefundRequested():
            return Finding.REFUND_REQUESTED
        case CaseReturned() if fact.beside:
            return Finding.BESIDE_ASKED
        case CaseReturned():
            return Finding.REFUND_PART_ASKED if fact.part else Finding.REFUND_BY_CASE
        case CaseRefundFound():
            # Where the same money has gone back by another refund, the payment knows it already.
            return _refund_ended(fact.means, around) if fact.means is not None else Finding.CASE_DISMISSED
        case RefundDone() | RefundFailed():
            return _refund_ended(fact, around)
        case RefundInDoubt():
            return Finding.REFUND_OVERPAID if fact.is_money else Finding.REFUND_UNCLEAR
        case TakenBack():
            return _taken_back(payment, fact, around)
        case CaseAccepted() if fact.moved_from is not None:
            mine = around.receipt_holder in (None, fact.moved_from)
            return Finding.CASE_ACCEPTED if mine else Finding.ACCEPTED_ANOTHERS
        case CaseAccepted():
            return _accepted(payment, fact, around)
        case CaseDismissed():
            return _dismissed(payment, fact, around)
        case _:
            assert_never(fact)


def asked_after_prompt(payment: Payment, fact: ResultReported, now: datetime, times: Times) -> bool:
    """Whether it is the answer to a query that was asked when the prompt was surely gone from the phone."""
    if fact.source is not Source.QUERY or payment.sent_at is None:
        return False
    return (fact.asked_at or now) >= payment.sent_at + times.retry_wait


def _watch_ended(payment: Payment, fact: WatchEnded, around: Surroundings, now: datetime, times: Times) -> Finding:
    """The end of the watch proves nothing by itself: what nobody could be asked about is not known to be unpaid."""
    if now < watch_end(payment, times) or payment.outcome_certain:
        return Finding.NO_NEWS
    covered = fact.books_cover or payment.unpaid_seen_at is not None
    in_doubt = payment.unread_callback or payment.money_case_open or around.callback_waiting
    return Finding.WATCH_COVERED if covered and not in_doubt else Finding.WATCH_UNCOVERED


def _claim(payment: Payment, around: Surroundings, now: datetime, times: Times) -> Finding:
    """A callback of its own proves that a prompt was sent, and none is sent twice. Another attempt bars it by money,
    paid or in doubt, as in `decisions.bar_to_new_attempt`: a body of that one which cannot be read is no money case."""
    barred = (
        now >= deadline(payment, times)
        or payment.money_case_open
        or payment.unread_callback
        or around.callback_waiting
        or any(sibling.was_paid or sibling.money_case_open for sibling in around.siblings)
    )
    return Finding.CLAIM_BARRED if barred else Finding.CLAIM


def _answer(
    payment: Payment, fact: PromptAccepted | PromptRefused | NotSent | AnswerLost, around: Surroundings
) -> Finding:
    """An answer speaks of one claim only; an acceptance of another one may be a second prompt.

    A CREATED payment has no claim that is under way. An answer to any is news of a send that the row knows nothing of,
    as after a database lost its last moments; it must not pass for an answer to somebody else.
    """
    mine = payment.state is State.CREATED or fact.claim_id == payment.claim_id
    match fact:
        case PromptAccepted():
            same = (
                payment.checkout_request_id in (None, fact.checkout_request_id)
                and payment.merchant_request_id in (None, fact.merchant_request_id)
                and around.checkout_holder in (None, payment.payment_id)
            )
            return Finding.PROMPT_ACCEPTED if mine and same else Finding.PROMPT_OTHERWISE
        case PromptRefused():
            return Finding.PROMPT_REFUSED if mine else Finding.NO_NEWS
        case NotSent():
            if not mine:
                return Finding.NO_NEWS
            return Finding.NOT_SENT_TOO_OFTEN if payment.not_sent_count + 1 >= SENDS_MAX else Finding.NOT_SENT
        case AnswerLost():
            return Finding.ANSWER_LOST if mine else Finding.NO_NEWS
        case _:
            assert_never(fact)


def _result(payment: Payment, fact: ResultReported, around: Surroundings, now: datetime, times: Times) -> Finding:
    if fact.verdict is Verdict.STILL_PROCESSING:
        return Finding.NO_NEWS
    if fact.in_doubt:
        # Once the receipt is recorded on a payment, this one or another, the doubt is over.
        return Finding.PAID_IN_DOUBT if around.receipt_holder is None else Finding.NO_NEWS
    if fact.source is Source.STATUS and (fact.merchant_request_id or "") != payment.merchant_request_id:
        # That an STK payment's conversation is its MerchantRequestID is inferred from recorded results. What agrees in
        # it, in the amount and in a receipt that nobody has is this payment's; what does not agree proves nothing.
        return Finding.NO_NEWS
    if _foreign(payment, fact, around):
        return Finding.FOREIGN_PAID if fact.verdict is Verdict.PAID else Finding.FOREIGN_OTHER
    if payment.backing is Backing.DOUBTED and fact.verdict is not Verdict.PAID:
        # A person is looking already, and has no use for a second case of the same.
        return Finding.NO_NEWS
    match fact.verdict:
        case Verdict.PAID:
            return _paid(payment, fact, around)
        case Verdict.FAILED | Verdict.CANCELLED:
            return _failure(payment, fact, now, times)
        case Verdict.UNCERTAIN:
            agrees = (
                fact.source is Source.QUERY
                and payment.sent_at is not None
                and (fact.asked_at or now) >= payment.sent_at + times.agree_after
                and fact.code == payment.result_code
            )
            return Finding.UNCERTAIN_AGREED if agrees else Finding.UNCERTAIN_CODE
        case Verdict.UNKNOWN:
            return Finding.UNKNOWN_CODE
        case _:
            assert_never(fact.verdict)


def _failure(payment: Payment, fact: ResultReported, now: datetime, times: Times) -> Finding:
    """A callback proves a failure. A query proves it once the prompt is gone, and only where it agrees with the end
    that is on record: queries are known to deny payments that were paid."""
    if fact.source is Source.CALLBACK:
        return Finding.FINAL_FAILURE
    agrees = payment.state is State.EXPIRED or fact.code == payment.result_code
    if agrees and asked_after_prompt(payment, fact, now, times):
        return Finding.FINAL_FAILURE
    return Finding.FAILURE_QUERIED


def _foreign(payment: Payment, fact: ResultReported, around: Surroundings) -> bool:
    """Absent ids do not contradict; present ones must be this payment's, or nobody's yet."""
    if fact.checkout_request_id is not None:
        if payment.checkout_request_id not in (None, fact.checkout_request_id):
            return True
        if around.checkout_holder not in (None, payment.payment_id):
            return True
    if fact.merchant_request_id is not None and payment.merchant_request_id not in (None, fact.merchant_request_id):
        return True
    return fact.receipt is not None and around.receipt_holder not in (None, payment.payment_id)


def _paid(payment: Payment, fact: ResultReported, around: Surroundings) -> Finding:
    if fact.source is Source.QUERY:
        return Finding.NO_NEWS if payment.receipt and payment.ids_from_callback else Finding.QUERY_PAID
    known = fact.receipt is not None and (
        fact.receipt == payment.receipt or around.receipt_holder == payment.payment_id
    )
    if fact.amount == UNREADABLE or fact.amount not in (None, payment.amount):
        told_before = known and (standing(payment) is Standing.UNDER_REVIEW or fact.amount == around.receipt_brought)
        return Finding.PAID_KNOWN_RECEIPT if told_before else Finding.WRONG_AMOUNT
    if fact.receipt is None:
        return Finding.PAID_NO_RECEIPT
    independent = fact.source is Source.PULL or (fact.source is Source.STATUS and not payment.ids_from_callback)
    if known and independent and fact.receipt == payment.receipt:
        return Finding.PAID_LISTED
    return Finding.PAID_KNOWN_RECEIPT if known else Finding.PAID_NEW_RECEIPT


def _taken_back(payment: Payment, fact: TakenBack, around: Surroundings) -> Finding:
    """Only what can be no other money than the payment's own takes the payment away."""
    if fact.conversation_id not in (None, payment.merchant_request_id):
        return Finding.NO_NEWS
    if any(case.kind == CaseKind.TAKEN_BACK and case.receipt == fact.shown_as for case in around.open_cases):
        return Finding.NO_NEWS
    another = fact.receipt is not None and payment.receipt not in (None, fact.receipt)
    paid_twice = any(case.kind == CaseKind.SECOND_RECEIPT for case in around.open_cases)
    if fact.in_doubt or another or (paid_twice and fact.receipt is None):
        return Finding.TAKEN_BACK_IN_DOUBT
    return Finding.TAKEN_BACK


def _accepted(payment: Payment, fact: CaseAccepted, around: Surroundings) -> Finding:
    """The case of money that came late, or beside another attempt's, is about what the payment has already."""
    case = _settled_case(fact, around)
    if case is None:
        return Finding.NO_NEWS
    if case.kind == CaseKind.UNBACKED_MONEY:
        return Finding.BACKED_BY_PERSON
    if payment.seat_freed and payment.state not in (State.REFUNDING, State.REFUNDED):
        return Finding.ACCEPTED_FREED
    if case.kind in OWN_MONEY:
        beside = any(sibling.said_confirm for sibling in around.siblings)
        return Finding.ACCEPTED_BESIDE if beside else Finding.OWN_ACCEPTED
    if fact.receipt is None:
        return Finding.ACCEPTED_UNNAMED
    anothers = around.receipt_holder not in (None, payment.payment_id)
    return Finding.ACCEPTED_ANOTHERS if anothers else Finding.CASE_ACCEPTED


def _dismissed(payment: Payment, fact: CaseDismissed, around: Surroundings) -> Finding:
    """A person's word takes a doubt away, never the money that a payment is complete by or waits for."""
    case, column, under_way = _settled_case(fact, around), standing(payment), payment.awaits_refund
    if case is None:
        return Finding.NO_NEWS
    match case.kind:
        case _ if case.refund_id is not None:
            return Finding.DISMISSED_OWN
        case CaseKind.OUTCOME_UNKNOWN:
            return Finding.DISMISSED_UNPAID
        case CaseKind.UNBACKED_MONEY:
            return Finding.DISMISSED_UNBACKED
        case kind if kind in OWN_MONEY and column in _COMPLETE and payment.seat_freed and not under_way:
            # No booking stands on it: a person has given it back by other means.
            return Finding.CASE_DISMISSED
        case CaseKind.LATE_PAYMENT | CaseKind.RECEIPT_OVERDUE:
            return Finding.DISMISSED_OWN
        case CaseKind.WRONG_AMOUNT if column is Standing.UNDER_REVIEW:
            return Finding.DISMISSED_OWN
        case CaseKind.REFUND if column in (Standing.REFUNDING, *_COMPLETE) and under_way:
            return Finding.DISMISSED_OWN
        case CaseKind.DUPLICATE_PAYMENT if not any(sibling.said_confirm for sibling in around.siblings):
            return Finding.DISMISSED_OWN
        case _:
            return Finding.CASE_DISMISSED


def _refund_ended(fact: RefundEnd, around: Surroundings) -> Finding:
    """A failure leaves money here. The open case that the refund was begun for keeps it on a list; else a case opens,
    also where an operator has found it out: the case that this settles was about the doubt."""
    for_case = any(case.refund_id == fact.refund_id for case in around.open_cases)
    match fact:
        case RefundDone() if fact.beside:
            return Finding.BESIDE_DONE
        case RefundFailed() if fact.beside:
            return Finding.BESIDE_NOT_RETURNED if for_case else Finding.BESIDE_FAILED
        case RefundDone() if fact.part:
            return Finding.REFUND_REST_DONE if fact.the_rest else Finding.REFUND_PART_DONE
        case RefundDone():
            return Finding.REFUND_DONE
        case RefundFailed() if fact.part:
            return Finding.RETURN_PART_FAILED if for_case else Finding.REFUND_PART_FAILED
        case RefundFailed():
            return Finding.RETURN_FAILED if for_case else Finding.REFUND_FAILED
        case _:
            assert_never(fact)


def _settled_case(fact: CaseAccepted | CaseDismissed, around: Surroundings) -> OpenCase | None:
    return next((case for case in around.open_cases if case.fact_id == fact.opened_by), None)
