"""A success that only a callback has told: what backs it, what denies it, and what follows when nothing does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from payment_service.domain.advice import customer_message
from payment_service.domain.cases import CaseKind, OpenCase
from payment_service.domain.decisions import Bar, bar_to_new_attempt
from payment_service.domain.facts import (
    AnswerLost,
    BackingOverdue,
    Fact,
    RefundRequested,
    ResultReported,
    SendClaimed,
    Verdict,
)
from payment_service.domain.finding import Finding
from payment_service.domain.payment import Backing, BookingAction, Payment, State
from payment_service.domain.query_schedule import next_back_at
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import (
    MONEY_NEVER_CAME,
    MONEY_NOT_BACKED,
    Refund,
    RefundBar,
    RefundMethod,
    RefundOrder,
    RefundReason,
    RefundState,
    RefundTimes,
)
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.refund_facts import RefundClaimed
from payment_service.domain.refund_requests import bar_to_refund
from payment_service.domain.refunds import RefundOutcome, apply_refund, first_refund, refund_surroundings
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import Outcome
from tests.domain import scenes
from tests.domain.scenes import (
    AMOUNT,
    CHECKOUT,
    CLAIM,
    MERCHANT,
    OTHER_ID,
    OTHER_RECEIPT,
    RECEIPT,
    REFUND,
    TIMES,
    seconds,
)

DOUBT = OpenCase(CaseKind.UNBACKED_MONEY, is_money=True, fact_id="opened", receipt=RECEIPT)
LATER = timedelta(hours=1)


def told_by_callback(*, back_first: bool = False) -> Payment:
    start = scenes.clocked(scenes.created(), {"back_first": back_first})
    return scenes.standing_in(Standing.COMPLETED_BY_CALLBACK, start=start)


def tell(payment: Payment, fact: Fact, at: datetime | None = None, *cases: OpenCase) -> Outcome:
    holder = payment.payment_id if payment.receipt else None
    return scenes.tell(payment, fact, at or payment.updated_at + LATER, receipt_holder=holder, open_cases=cases)


def doubted(payment: Payment) -> Payment:
    """With the case that an operator has about it."""
    return tell(payment, scenes.queried(scenes.cancelled())).payment


SECOND_SOURCES = [
    (scenes.query_paid(CHECKOUT), Backing.QUERY),
    (scenes.pulled(), Backing.BOOKS),
    (scenes.status_paid(MERCHANT), Backing.STATUS),
]


def test_a_success_by_callback_confirms_at_once_and_is_to_be_backed() -> None:
    paid = told_by_callback()
    assert (paid.backing, paid.booking_action, paid.outcome_certain) == (Backing.AWAITED, BookingAction.CONFIRM, True)
    assert (paid.back_at, paid.query_at) == (paid.updated_at + TIMES.back_after, None)
    assert paid.completed_at is not None
    assert paid.due_at == paid.completed_at + TIMES.backed_within


@pytest.mark.parametrize(("fact", "backing"), SECOND_SOURCES)
def test_a_second_source_backs_it_without_news_for_anybody(fact: Fact, backing: Backing) -> None:
    before = told_by_callback()
    outcome = tell(before, fact)
    after = outcome.payment
    assert (after.backing, standing(after), outcome.case) == (backing, Standing.COMPLETED, None)
    assert (after.due_at, after.back_at, after.query_at) == (None, None, None)
    assert not outcome.changed(before)


@pytest.mark.parametrize(("fact", "backing"), SECOND_SOURCES)
def test_money_that_another_source_told_first_needs_no_other(fact: Fact, backing: Backing) -> None:
    prompted = scenes.standing_in(Standing.PROMPTED)
    after = scenes.tell(prompted, fact, prompted.updated_at + LATER).payment
    assert (after.state, after.backing) == (State.COMPLETED, backing)
    with_receipt = scenes.tell(after, scenes.paid(), after.updated_at).payment if after.receipt is None else after
    assert (with_receipt.backing, standing(with_receipt)) == (backing, Standing.COMPLETED)


@pytest.mark.parametrize(
    "fact",
    [scenes.paid(), scenes.paid(checkout=CHECKOUT), scenes.paid(None), scenes.unknown()],
    ids=["same receipt", "same receipt and the id", "no receipt", "unknown code"],
)
def test_no_second_callback_backs_the_first(fact: Fact) -> None:
    before = told_by_callback()
    assert tell(before, fact).payment == before


@pytest.mark.parametrize(
    "fact",
    [
        scenes.queried(scenes.cancelled()),
        scenes.queried(scenes.failed()),
        scenes.queried(scenes.uncertain()),
        scenes.cancelled(),
        scenes.failed(),
    ],
    ids=["query: cancelled", "query: failed", "query: no answer", "callback: cancelled", "callback: failed"],
)
@pytest.mark.parametrize("back_first", [False, True])
def test_what_denies_it_is_a_money_case_and_takes_nothing_away(fact: Fact, back_first: bool) -> None:
    before = told_by_callback(back_first=back_first)
    outcome = tell(before, fact)
    after = outcome.payment
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.UNBACKED_MONEY, True)
    assert (after.state, after.receipt, after.backing) == (State.COMPLETED, RECEIPT, Backing.DOUBTED)
    action = BookingAction.REVIEW if back_first else BookingAction.CONFIRM
    assert (after.booking_action, after.said_confirm) == (action, not back_first)
    assert (after.due_at, after.back_at, after.query_at) == (None, None, None)


def test_a_denial_of_money_that_is_backed_is_no_case_about_money() -> None:
    outcome = tell(scenes.standing_in(Standing.COMPLETED), scenes.queried(scenes.cancelled()))
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.CONTRADICTION, False)


def test_one_doubt_is_one_case() -> None:
    before = doubted(told_by_callback())
    for fact in (scenes.queried(scenes.cancelled()), scenes.failed(), BackingOverdue()):
        assert tell(before, fact, before.updated_at + timedelta(days=3), DOUBT).case is None


def test_what_nothing_backs_in_time_is_a_money_case() -> None:
    before = told_by_callback()
    assert before.due_at is not None
    early = tell(before, BackingOverdue(), before.due_at - seconds(1))
    assert (early.payment, early.case) == (before, None)
    outcome = tell(before, BackingOverdue(), before.due_at)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.payment.backing) == (CaseKind.UNBACKED_MONEY, Backing.DOUBTED)
    assert (outcome.payment.due_at, outcome.payment.back_at) == (None, None)


@pytest.mark.parametrize(("fact", "backing"), SECOND_SOURCES)
@pytest.mark.parametrize("back_first", [False, True])
def test_a_doubt_ends_with_its_proof(fact: Fact, backing: Backing, back_first: bool) -> None:
    before = doubted(told_by_callback(back_first=back_first))
    outcome = tell(before, fact, None, DOUBT)
    assert outcome.ended == (DOUBT,)
    assert (outcome.payment.backing, outcome.payment.money_case_open) == (backing, False)
    assert outcome.payment.booking_action is BookingAction.CONFIRM


def test_another_receipt_in_the_books_does_not_back_the_one_of_the_callback() -> None:
    before = told_by_callback()
    outcome = scenes.tell(before, scenes.pulled(scenes.OTHER_RECEIPT), before.updated_at + LATER)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.SECOND_RECEIPT, True)
    assert (outcome.payment.backing, outcome.payment.due_at) == (Backing.AWAITED, before.due_at)


# Ids that only a callback told.


def lost_answer(checkout: str = "checkout-9", receipt: str | None = RECEIPT) -> Payment:
    """Its push was not answered: the callback brought the ids, and they may be those of a push of the forger's own."""
    unanswered = scenes.standing_in(Standing.UNCERTAIN_NO_RESULT)
    told = scenes.result(Verdict.PAID, "0", checkout=checkout, merchant="merchant-9", amount=AMOUNT, receipt=receipt)
    return scenes.tell(unanswered, told, unanswered.updated_at + seconds(20)).payment


def test_what_is_asked_by_an_id_of_the_callback_backs_nothing() -> None:
    before = lost_answer()
    assert (before.ids_from_callback, before.back_at, before.query_at) == (True, None, None)
    for fact in (scenes.query_paid("checkout-9"), scenes.status_paid("merchant-9")):
        assert tell(before, fact).payment == before
    assert tell(before, scenes.pulled()).payment.backing is Backing.BOOKS


@pytest.mark.parametrize("told", [scenes.query_paid("checkout-9"), scenes.status_paid("merchant-9")])
def test_no_receipt_that_an_id_of_the_callback_led_to_is_reversed(told: ResultReported) -> None:
    """The callback named no receipt. M-Pesa tells that of the prompt whose id it brought, and a callback may, too."""
    pending = lost_answer(receipt=None)
    paid = scenes.led(pending, told, scenes.paid())
    assert (paid.receipt, paid.backing) == (RECEIPT, Backing.AWAITED)
    whole, asked = whole_of(paid)
    assert claimed(whole, asked).refund.result_code == MONEY_NOT_BACKED
    assert claimed(part_of(paid), paid).refund.result_code == MONEY_NOT_BACKED


def test_the_answer_to_the_push_makes_the_ids_ours() -> None:
    before = lost_answer(CHECKOUT)
    answered = scenes.tell(before, scenes.accepted(CLAIM, CHECKOUT, "merchant-9"), before.updated_at).payment
    assert answered.ids_from_callback is False
    assert answered.back_at == before.updated_at + TIMES.back_after
    assert tell(answered, scenes.query_paid(CHECKOUT)).payment.backing is Backing.QUERY


def test_an_answer_with_ids_leaves_no_doubt_about_them() -> None:
    prompted = scenes.led(scenes.standing_in(Standing.SENDING), scenes.accepted())
    assert prompted.ids_from_callback is False
    assert scenes.led(prompted, scenes.paid(checkout=CHECKOUT)).ids_from_callback is False
    assert scenes.led(scenes.standing_in(Standing.SENDING), AnswerLost(CLAIM)).ids_from_callback is False


# Backed before the booking is confirmed.


def test_a_booking_that_waits_for_the_backing_is_asked_about_at_once() -> None:
    paid = told_by_callback(back_first=True)
    assert (paid.state, paid.booking_action, paid.outcome_certain) == (State.COMPLETED, BookingAction.WAIT, False)
    assert (paid.reason, paid.query_at, paid.back_at) == (Reason.CONFIRMING, paid.updated_at, None)
    sentence = customer_message("COMPLETED", paid.shown_reason, paid.booking_action.value, False, "en")
    assert sentence == "We are confirming with M-Pesa. Please do not pay again."


@pytest.mark.parametrize(("fact", "backing"), SECOND_SOURCES)
def test_the_backing_confirms_the_booking(fact: Fact, backing: Backing) -> None:
    before = told_by_callback(back_first=True)
    outcome = tell(before, fact)
    after = outcome.payment
    assert (after.booking_action, after.reason, after.backing) == (BookingAction.CONFIRM, None, backing)
    assert after.outcome_certain
    assert outcome.changed(before), "callers wait for this"


def test_a_booking_that_another_attempt_confirmed_meanwhile_is_paid_twice() -> None:
    before = told_by_callback(back_first=True)
    other = scenes.standing_in(Standing.COMPLETED, start=scenes.created(payment_id=OTHER_ID, attempt=2))
    outcome = scenes.tell(
        before, scenes.pulled(), before.updated_at + LATER, siblings=[other], receipt_holder=before.payment_id
    )
    assert outcome.case is not None
    assert outcome.case.kind is CaseKind.DUPLICATE_PAYMENT
    assert not outcome.payment.said_confirm


# Operators.


@pytest.mark.parametrize("back_first", [False, True])
def test_an_operator_who_finds_the_money_backs_it(back_first: bool) -> None:
    outcome = tell(doubted(told_by_callback(back_first=back_first)), scenes.accept(RECEIPT), None, DOUBT)
    assert outcome.ended == (DOUBT,)
    assert (outcome.payment.backing, outcome.payment.booking_action) == (Backing.PERSON, BookingAction.CONFIRM)


@pytest.mark.parametrize("back_first", [False, True])
def test_an_operator_who_does_not_find_it_frees_the_seat(back_first: bool) -> None:
    before = doubted(told_by_callback(back_first=back_first))
    outcome = tell(before, scenes.dismiss(), None, DOUBT)
    after = outcome.payment
    assert (outcome.ended, outcome.changed(before)) == ((DOUBT,), True)
    refuted = (State.COMPLETED, Backing.REFUTED, BookingAction.RELEASE)
    assert (after.state, after.backing, after.booking_action) == refuted
    assert (after.shown_reason, after.outcome_certain) == (Reason.MONEY_NEVER_CAME, True)
    assert (after.due_at, after.back_at, after.query_at) == (None, None, None)


# A booking that was never paid.


def found_unpaid() -> Payment:
    return tell(doubted(told_by_callback()), scenes.dismiss(), None, DOUBT).payment


def second_attempt(refuted: Payment) -> Payment:
    """Another attempt of the booking, whose prompt is on the phone."""
    new = scenes.created(payment_id=OTHER_ID, attempt=2, at=refuted.updated_at)
    claimed = scenes.tell(new, SendClaimed(CLAIM), new.created_at + seconds(1), siblings=[refuted])
    assert not claimed.refused
    return scenes.led(claimed.payment, scenes.accepted(checkout="checkout-2", merchant="merchant-2"))


def test_a_booking_whose_money_never_came_can_be_paid_and_is_confirmed_by_that() -> None:
    refuted = found_unpaid()
    assert (refuted.blocks_booking, refuted.said_confirm) == (False, False)
    assert bar_to_new_attempt([refuted], refuted.updated_at) is None
    prompted = second_attempt(refuted)
    outcome = scenes.tell(prompted, scenes.paid(OTHER_RECEIPT), prompted.updated_at, siblings=[refuted])
    paid = outcome.payment
    assert (outcome.case, paid.booking_action, paid.blocks_booking) == (None, BookingAction.CONFIRM, True)


def test_what_an_older_release_has_refuted_bars_its_booking_as_it_did_there() -> None:
    kept = scenes.clocked(found_unpaid(), {"blocks_booking": True, "said_confirm": True})
    assert bar_to_new_attempt([kept], kept.updated_at) == (Bar.LIVE_OR_PAID, kept)


@pytest.mark.parametrize(("fact", "backing"), SECOND_SOURCES)
def test_money_that_is_found_after_all_is_a_case_and_confirms_nothing(fact: Fact, backing: Backing) -> None:
    refuted = found_unpaid()
    outcome = tell(refuted, fact)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.LATE_PAYMENT, True)
    found = outcome.payment
    assert (standing(found), found.backing, found.booking_action) == (
        Standing.COMPLETED,
        backing,
        BookingAction.RELEASE,
    )
    assert bar_to_new_attempt([found], found.updated_at) == (Bar.LIVE_OR_PAID, found)


def test_money_that_is_found_beside_the_payment_that_confirmed_the_booking_is_one_too_many() -> None:
    refuted = found_unpaid()
    prompted = second_attempt(refuted)
    paid = scenes.tell(prompted, scenes.paid(OTHER_RECEIPT), prompted.updated_at, siblings=[refuted]).payment
    outcome = scenes.tell(refuted, scenes.pulled(), paid.updated_at, siblings=[paid], receipt_holder=refuted.payment_id)
    assert outcome.case is not None
    assert outcome.case.kind is CaseKind.DUPLICATE_PAYMENT
    assert (outcome.payment.booking_action, outcome.payment.blocks_booking) == (BookingAction.FOLLOW_SIBLING, False)


def test_a_denial_of_money_that_never_came_is_no_news() -> None:
    refuted = found_unpaid()
    for fact in (scenes.queried(scenes.cancelled()), scenes.failed()):
        assert tell(refuted, fact).payment == refuted


def test_the_case_of_late_money_ends_where_that_never_came() -> None:
    late = OpenCase(CaseKind.LATE_PAYMENT, is_money=True, fact_id="late", receipt=RECEIPT)
    outcome = tell(doubted(told_by_callback()), scenes.dismiss(), None, DOUBT, late)
    assert (set(outcome.ended), outcome.payment.money_case_open) == ({DOUBT, late}, False)


def test_accepting_late_money_says_nothing_of_what_backs_it() -> None:
    expired = scenes.standing_in(Standing.EXPIRED)
    late = scenes.tell(expired, scenes.paid(), expired.updated_at + LATER)
    case = OpenCase(CaseKind.LATE_PAYMENT, is_money=True, fact_id="opened", receipt=RECEIPT)
    accepted = tell(late.payment, scenes.accept(RECEIPT), None, case).payment
    assert (accepted.booking_action, accepted.backing) == (BookingAction.CONFIRM, Backing.AWAITED)
    assert accepted.due_at == late.payment.due_at


# Refunds.


def test_money_that_mpesa_sent_back_was_there() -> None:
    before = doubted(told_by_callback())
    asked = tell(before, RefundRequested(REFUND), None, DOUBT)
    assert (asked.payment.state, asked.ended) == (State.REFUNDING, ())
    done = tell(asked.payment, RefundDone(REFUND, AMOUNT), None, DOUBT)
    assert (done.payment.state, done.ended, done.payment.money_case_open) == (State.REFUNDED, (DOUBT,), False)


def test_a_refund_that_failed_leaves_the_money_to_be_backed() -> None:
    asked = tell(told_by_callback(), RefundRequested(REFUND)).payment
    assert (asked.due_at, asked.back_at) == (None, None)
    failed = tell(asked, RefundFailed(REFUND)).payment
    assert (standing(failed), failed.backing) == (Standing.COMPLETED_BY_CALLBACK, Backing.AWAITED)
    assert failed.due_at is not None


def test_only_an_operator_who_had_a_case_backs_money() -> None:
    before = told_by_callback()
    outcome = tell(before, scenes.accept(RECEIPT), None, replace(DOUBT, fact_id="another"))
    assert (outcome.payment, outcome.refused) == (before, False)
    refunding = tell(doubted(before), RefundRequested(REFUND), None, DOUBT).payment
    refused = tell(refunding, scenes.accept(RECEIPT), None, DOUBT)
    assert (refused.refused, refused.row) == (True, Finding.BACKED_BY_PERSON)


# When to ask.


def test_it_is_asked_about_at_a_falling_rate_and_once_more_before_the_end() -> None:
    told_at = scenes.START
    at: datetime | None = told_at + TIMES.back_after
    moments = []
    while at is not None:
        moments.append(at - told_at)
        at = next_back_at(at, told_at, 0.0, TIMES)
    minutes = [moment.total_seconds() / 60 for moment in moments]
    assert minutes[:-1] == [15, 30, 60, 120, 240, 480, 960]
    assert moments[-1] == TIMES.backed_within - TIMES.last_look_before


def test_a_first_look_at_once_is_repeated_soon() -> None:
    again = next_back_at(scenes.START, scenes.START, 0.0, TIMES)
    assert again == scenes.START + TIMES.query_after / 2


def bar_to(payment: Payment, amount: int | None) -> RefundBar | None:
    order = RefundOrder("bcdfgh234567", "174379", RefundReason.BOOKING_CANCELLED, amount, possible=True)
    return bar_to_refund(payment, order, AMOUNT, AMOUNT, by_case=False)


def test_no_money_is_sent_for_money_that_is_denied() -> None:
    """A part goes out of our own account, to a phone whose owner may have forged the success. The receipt of the whole
    may be somebody else's."""
    awaited = told_by_callback()
    denied = doubted(awaited)
    refuted = tell(denied, scenes.dismiss(), None, DOUBT).payment
    assert (bar_to(awaited, None), bar_to(awaited, 100)) == (None, None)
    assert (bar_to(denied, None), bar_to(denied, 100)) == (RefundBar.UNDER_REVIEW, RefundBar.UNDER_REVIEW)
    assert refuted.backing is Backing.REFUTED
    assert (bar_to(refuted, None), bar_to(refuted, 100)) == (RefundBar.NOT_PAID, RefundBar.NOT_PAID)


def part_of(payment: Payment, amount: int = 100) -> Refund:
    """A part that was asked for, to be sent by B2C."""
    asked = Refund(
        refund_id=REFUND,
        payment_id=payment.payment_id,
        caller="development",
        reference="bcdfgh234567",
        shortcode="174379",
        receipt=RECEIPT,
        amount=amount,
        reason=RefundReason.BOOKING_CANCELLED,
        requested_at=scenes.START,
        method=RefundMethod.B2C,
    )
    return first_refund(asked, RefundTimes())


def claimed(refund: Refund, payment: Payment, *, proven: bool = False) -> RefundOutcome:
    """What a process is told that wants to send it now; `proven` says whether its receipt is the payment's."""
    around = refund_surroundings(refund, payment, [refund], AMOUNT, proven=proven)
    return apply_refund(refund, RefundClaimed(CLAIM), scenes.START, RefundTimes(), around)


def test_a_part_waits_until_more_than_a_callback_has_told_of_the_money() -> None:
    paid = told_by_callback()
    for unbacked in (paid, doubted(paid)):
        waits = claimed(part_of(unbacked), unbacked)
        assert (waits.refund.state, waits.refund.result_code) == (RefundState.REQUESTED, MONEY_NOT_BACKED)
        assert waits.refund.send_at is not None
        assert (waits.refund.send_at > scenes.START, waits.told) == (True, ())
        backed = tell(unbacked, scenes.pulled()).payment
        sent = claimed(waits.refund, backed).refund
        assert (sent.state, sent.result_code) == (RefundState.SENDING, None)


def test_a_part_of_money_that_never_came_ends_unsent_and_says_why() -> None:
    refuted = tell(doubted(told_by_callback()), scenes.dismiss(), None, DOUBT).payment
    outcome = claimed(part_of(refuted), refuted)
    assert (outcome.refund.state, outcome.refund.result_code) == (RefundState.FAILED, MONEY_NEVER_CAME)
    assert (outcome.refund.sent_at, outcome.told) == (None, (RefundFailed(REFUND, part=True),))


def whole_of(payment: Payment) -> tuple[Refund, Payment]:
    """All of its money was asked for, to be reversed by its receipt."""
    asked = tell(payment, RefundRequested(REFUND)).payment
    return replace(part_of(asked, AMOUNT), method=RefundMethod.REVERSAL), asked


@pytest.mark.parametrize("backed_by", [None, scenes.query_paid(CHECKOUT), scenes.pulled()], ids=["", "query", "books"])
def test_no_receipt_is_reversed_before_it_is_proven_to_be_the_payments(backed_by: Fact | None) -> None:
    """A callback may name the receipt of somebody else, and a query names none. What the books show is kept with it."""
    paid = told_by_callback()
    whole, asked = whole_of(tell(paid, backed_by).payment if backed_by is not None else paid)
    waits = claimed(whole, asked)
    assert (waits.refund.state, waits.refund.result_code) == (RefundState.REQUESTED, MONEY_NOT_BACKED)
    assert waits.told == ()
    sent = claimed(waits.refund, asked, proven=True).refund
    assert (sent.state, sent.result_code) == (RefundState.SENDING, None)


def test_a_receipt_that_mpesa_or_a_person_has_found_is_reversed() -> None:
    by_status = tell(told_by_callback(), scenes.status_paid(MERCHANT)).payment
    by_person = tell(doubted(told_by_callback()), scenes.accept(RECEIPT), None, DOUBT).payment
    for paid in (by_status, by_person):
        whole, asked = whole_of(paid)
        assert claimed(whole, asked).refund.state is RefundState.SENDING


def test_what_backs_a_payment_proves_no_second_receipt() -> None:
    whole, asked = whole_of(tell(told_by_callback(), scenes.status_paid(MERCHANT)).payment)
    waits = claimed(replace(whole, receipt=OTHER_RECEIPT), asked).refund
    assert (waits.state, waits.result_code) == (RefundState.REQUESTED, MONEY_NOT_BACKED)


def test_a_part_of_a_second_receipt_waits_until_that_one_is_proven() -> None:
    """It would go out of our own account, for money that perhaps never came."""
    whole, asked = whole_of(tell(told_by_callback(), scenes.status_paid(MERCHANT)).payment)
    part = replace(whole, receipt=OTHER_RECEIPT, method=RefundMethod.B2C, amount=whole.amount - 1)
    waits = claimed(part, asked).refund
    assert (waits.state, waits.result_code) == (RefundState.REQUESTED, MONEY_NOT_BACKED)
    assert claimed(part, asked, proven=True).refund.state is RefundState.SENDING


def test_mpesa_is_asked_at_once_about_money_of_which_a_part_is_to_go_back() -> None:
    before = told_by_callback()
    at = before.updated_at + seconds(5)
    asked = tell(before, RefundRequested(REFUND, part=True), at).payment
    assert (before.back_at, asked.back_at) == (before.updated_at + TIMES.back_after, at)
    assert tell(asked, RefundRequested(OTHER_ID, part=True), at + seconds(5)).payment.back_at == at
