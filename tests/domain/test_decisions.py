"""What follows from a payment's row: for the booking, for another attempt, for the next timer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from payment_service.domain.cases import CaseKind, OpenCase
from payment_service.domain.decisions import Bar, bar_to_new_attempt
from payment_service.domain.facts import (
    DeadlinePassed,
    NotSent,
    ReceiptOverdue,
    ReceiptProven,
    RefundRequested,
    SendClaimed,
    SiblingPaid,
    Source,
    Verdict,
    WatchEnded,
)
from payment_service.domain.payment import BookingAction, LatePaymentPolicy, Payment, State
from payment_service.domain.reasons import Reason
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import Outcome
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, CHECKOUT, CLAIM, OTHER_ID, OTHER_RECEIPT, RECEIPT, REFUND, START, seconds

C, S, P, U0, U1, UR, K0, KC, K, KR, F0, X0, F, X, E, RG, RD = Standing
WAIT, CONFIRM, OFFER_RETRY, RELEASE, REVIEW = (
    BookingAction.WAIT,
    BookingAction.CONFIRM,
    BookingAction.OFFER_RETRY,
    BookingAction.RELEASE,
    BookingAction.REVIEW,
)


def sibling_in(column: Standing, **changes: object) -> Payment:
    return scenes.clocked(scenes.standing_in(column, start=scenes.created(payment_id=OTHER_ID, attempt=2)), changes)


@pytest.mark.parametrize(
    ("column", "action", "certain", "blocks"),
    [
        (C, WAIT, False, True),
        (S, WAIT, False, True),
        (P, WAIT, False, True),
        (U0, WAIT, False, True),
        (U1, WAIT, False, True),
        (UR, REVIEW, False, True),
        (K0, WAIT, False, True),
        (K, CONFIRM, True, True),
        (F0, OFFER_RETRY, False, False),
        (X0, OFFER_RETRY, False, False),
        (F, OFFER_RETRY, True, False),
        (X, OFFER_RETRY, True, False),
        (E, OFFER_RETRY, False, False),
        (RG, RELEASE, True, True),
        (RD, RELEASE, True, False),
    ],
)
def test_what_the_booking_may_do_in_every_standing(
    column: Standing, action: BookingAction, certain: bool, blocks: bool
) -> None:
    payment = scenes.standing_in(column)
    assert (payment.booking_action, payment.outcome_certain, payment.blocks_booking) == (action, certain, blocks)


@pytest.mark.parametrize(
    ("column", "action"),
    [
        *((column, REVIEW) for column in (C, S, P, U0, U1, UR, K0, F0, X0, F, X, E)),
        (K, CONFIRM),
        (RG, RELEASE),
        (RD, RELEASE),
    ],
)
def test_what_the_booking_may_do_in_every_standing_while_money_is_in_doubt(
    column: Standing, action: BookingAction
) -> None:
    """A booking that was told to confirm is told so for ever; certain is what was certain before."""
    before = scenes.standing_in(column)
    moment = before.updated_at + seconds(1)
    after = scenes.tell(before, scenes.paid(OTHER_RECEIPT, 1), moment, receipt_holder=OTHER_ID).payment
    assert (after.money_case_open, after.booking_action) == (True, action)
    assert after.outcome_certain is before.outcome_certain


LONG = timedelta(minutes=16)


@pytest.mark.parametrize(
    ("reason", "before", "outcome"),
    [
        ("IDS_DIFFER", E, lambda p: scenes.tell(p, scenes.paid(OTHER_RECEIPT, checkout="checkout-9"), p.updated_at)),
        ("IDS_DIFFER", F, lambda p: scenes.tell(p, scenes.paid(), p.updated_at, receipt_holder=OTHER_ID)),
        ("IDS_DIFFER", X, lambda p: scenes.tell(p, scenes.accepted(checkout="checkout-9"), p.updated_at)),
        ("MONEY_IN_DOUBT", P, lambda p: scenes.tell(p, scenes.pulled(in_doubt=True), p.updated_at)),
        ("MONEY_IN_DOUBT", F, lambda p: scenes.tell(p, scenes.query_paid(CHECKOUT), p.updated_at)),
        ("AMOUNT_DIFFERS", E, lambda p: scenes.tell(p, scenes.paid(OTHER_RECEIPT, 499), p.updated_at)),
        ("RECEIPT_OVERDUE", K0, lambda p: scenes.tell(p, ReceiptOverdue(), p.updated_at + LONG)),
        ("PAID_LATE", E, lambda p: scenes.tell(p, scenes.paid(), p.updated_at + LONG)),
        ("PAID_TWICE", E, lambda p: scenes.tell(p, scenes.paid(), p.updated_at, siblings=[sibling_in(K)])),
    ],
)
def test_every_review_says_why_and_what_stood_before_it_stands_again_after_it(
    reason: str, before: Standing, outcome: Callable[[Payment], Outcome]
) -> None:
    stood = scenes.standing_in(before)
    reviewed = outcome(stood).payment
    assert (reviewed.booking_action, reviewed.shown_reason) == (REVIEW, Reason(reason))
    # As if its case were one that a receipt ends: all end alike.
    case = OpenCase(CaseKind.UNCLAIMED_MONEY, is_money=True, fact_id="doubt", receipt=OTHER_RECEIPT)
    ended = scenes.tell(reviewed, ReceiptProven(OTHER_RECEIPT), reviewed.updated_at, open_cases=[case]).payment
    money_came = reviewed.state is not stood.state
    assert (ended.booking_action, ended.shown_reason) == (
        (CONFIRM, None) if money_came else (stood.booking_action, stood.reason)
    )


def test_what_is_certain_in_the_standings_that_time_changes() -> None:
    expired = scenes.standing_in(E)
    watched = scenes.tell(expired, WatchEnded(books_cover=True), START + timedelta(hours=49)).payment
    assert (watched.booking_action, watched.outcome_certain) == (OFFER_RETRY, True)
    confirmed = scenes.standing_in(K0)
    for wait in (30, 60):
        confirmed = scenes.tell(confirmed, scenes.query_paid(CHECKOUT), START + seconds(wait)).payment
    assert (standing(confirmed), confirmed.booking_action, confirmed.outcome_certain) == (K0, CONFIRM, True)


@pytest.mark.parametrize(
    ("column", "due"),
    [
        (C, lambda p: p.created_at + seconds(2)),
        (S, lambda p: p.sent_at + seconds(45)),
        (P, lambda p: p.sent_at + seconds(120)),
        (U0, lambda p: p.sent_at + seconds(120)),
        (U1, lambda p: p.sent_at + seconds(120)),
        (UR, lambda _: None),
        (K0, lambda p: p.completed_at + timedelta(minutes=15)),
        (K, lambda _: None),
        *((column, lambda p: p.sent_at + timedelta(hours=48)) for column in (F0, X0)),
        (F, lambda _: None),
        (X, lambda _: None),
        (E, lambda p: p.sent_at + timedelta(hours=48)),
        (RG, lambda _: None),
        (RD, lambda _: None),
    ],
)
def test_the_next_timer_in_every_standing(column: Standing, due: Callable[[Payment], datetime | None]) -> None:
    payment = scenes.standing_in(column)
    assert payment.due_at == due(payment)


def test_a_claim_moves_the_expiry_and_a_created_payment_is_never_due_after_its_deadline() -> None:
    claimed = scenes.tell(scenes.created(), SendClaimed(CLAIM), START + seconds(19)).payment
    assert claimed.expires_at == START + seconds(19 + 120)
    again = scenes.tell(claimed, NotSent(CLAIM, "503"), START + seconds(19.5)).payment
    assert again.due_at == START + seconds(20), "its own second send would come later than the deadline"
    assert scenes.tell(again, SendClaimed(UUID(int=5)), START + seconds(20)).refused
    given_up = scenes.tell(again, DeadlinePassed(), START + seconds(20)).payment
    assert (given_up.state, given_up.reason, given_up.due_at) == (State.FAILED, Reason.NOT_SENT, None)


@pytest.mark.parametrize(
    ("payment", "allowed"),
    [
        (scenes.standing_in(F), scenes.standing_in(F).updated_at),
        (scenes.standing_in(X), START + seconds(1 + 180)),
        *((scenes.standing_in(column), START + seconds(1 + 180)) for column in (F0, X0, E)),
        (scenes.withdrawn(), scenes.withdrawn().updated_at),
        *((scenes.standing_in(column), None) for column in (C, S, P, U0, U1, UR, K0, K, RG, RD)),
    ],
    ids=lambda value: value.state.value if isinstance(value, Payment) else "",
)
def test_when_another_attempt_may_be_made(payment: Payment, allowed: datetime | None) -> None:
    assert payment.retry_allowed_at == allowed


def test_a_prompt_that_outlasts_the_wait_allows_the_next_attempt_at_once_and_never_in_the_past() -> None:
    prompted = scenes.standing_in(P)
    much_later = START + seconds(900)
    expired = scenes.tell(prompted, DeadlinePassed(), much_later).payment
    assert expired.retry_allowed_at == much_later
    watched = scenes.tell(expired, WatchEnded(books_cover=True), START + timedelta(hours=49)).payment
    assert watched.retry_allowed_at == much_later, "the end of the watch is no new prompt"
    assert watched.outcome_certain
    assert watched.due_at is None


@pytest.mark.parametrize("column", list(Standing))
def test_what_bars_another_attempt(column: Standing) -> None:
    payment = scenes.standing_in(column)
    moment = payment.updated_at
    barred = bar_to_new_attempt([payment], moment)
    if column in (F, KR):
        assert barred is None
    elif column in (F0, X0, X, E):
        assert barred == (Bar.TOO_EARLY, payment)
        assert payment.retry_allowed_at is not None
        assert bar_to_new_attempt([payment], payment.retry_allowed_at - seconds(0.001)) == (Bar.TOO_EARLY, payment)
        assert bar_to_new_attempt([payment], payment.retry_allowed_at) is None
    else:
        assert barred == (Bar.LIVE_OR_PAID, payment)
        assert bar_to_new_attempt([payment], moment + timedelta(days=365)) == barred


def test_a_bar_names_the_gravest_obstacle() -> None:
    dead, reviewed, live = scenes.standing_in(E), sibling_in(F, money_case_open=True), scenes.standing_in(P)
    later = START + timedelta(days=1)
    assert bar_to_new_attempt([], later) is None
    assert bar_to_new_attempt([dead, reviewed], later) == (Bar.UNDER_REVIEW, reviewed)
    assert bar_to_new_attempt([dead, reviewed, live], later) == (Bar.LIVE_OR_PAID, live)
    assert bar_to_new_attempt([dead], later) is None


@pytest.mark.parametrize("column", [P, U0, U1, F, X, E, K0])
def test_money_in_doubt_means_review_unless_confirm_was_said(column: Standing) -> None:
    before = scenes.standing_in(column)
    after = scenes.tell(before, scenes.paid(OTHER_RECEIPT, 1), before.updated_at).payment
    assert after.money_case_open
    assert after.booking_action is REVIEW
    confirmed = scenes.standing_in(K)
    doubted = scenes.tell(confirmed, scenes.paid(OTHER_RECEIPT), confirmed.updated_at).payment
    assert doubted.money_case_open
    assert doubted.booking_action is CONFIRM


LATE, REVIEWED = LatePaymentPolicy.CONFIRM, LatePaymentPolicy.REVIEW


@pytest.mark.parametrize(
    ("hold", "policy", "learned", "action"),
    [
        (None, REVIEWED, 120, CONFIRM),
        (None, REVIEWED, 120.001, REVIEW),
        (None, LATE, 100_000, CONFIRM),
        (30, REVIEWED, 30, CONFIRM),
        (30, REVIEWED, 30.001, REVIEW),
        (30, LATE, 31, CONFIRM),
        (7_200, REVIEWED, 7_000, CONFIRM),
        (7_200, REVIEWED, 7_201, REVIEW),
    ],
)
@pytest.mark.parametrize("column", [P, U0, E])
def test_late_money_follows_the_callers_words(
    column: Standing, hold: float | None, policy: LatePaymentPolicy, learned: float, action: BookingAction
) -> None:
    """An unset hold ends when the payment expires. What counts is when we learn of the money, not when it moved."""
    sent = START + seconds(1)
    hold_end = None if hold is None else sent + seconds(hold)
    new = scenes.created(hold_expire_at=hold_end, late_payment_policy=policy)
    before = scenes.standing_in(column, start=new)
    outcome = scenes.tell(before, scenes.paid(), sent + seconds(learned))
    assert outcome.payment.booking_action is action
    assert outcome.payment.paid_late is (column is E)
    reviewed = action is REVIEW
    assert (outcome.case.kind if outcome.case else None) is (CaseKind.LATE_PAYMENT if reviewed else None)
    assert outcome.payment.money_case_open is reviewed
    assert outcome.payment.said_confirm is not reviewed


def test_late_money_stays_late_when_its_receipt_follows() -> None:
    before = scenes.standing_in(E)
    told = scenes.tell(before, scenes.query_paid(CHECKOUT), before.updated_at + seconds(60)).payment
    assert (told.booking_action, told.money_case_open, told.paid_late) == (REVIEW, True, True)
    receipted = scenes.tell(told, scenes.paid(), told.updated_at + seconds(1)).payment
    assert (receipted.booking_action, receipted.receipt, receipted.said_confirm) == (REVIEW, RECEIPT, False)


def test_paid_without_a_receipt_waits_until_the_receipt_comes() -> None:
    pending = scenes.standing_in(K0)
    assert (pending.state, pending.reason, pending.booking_action) == (State.COMPLETED, Reason.RECEIPT_PENDING, WAIT)
    done = scenes.tell(pending, scenes.paid(), pending.updated_at + seconds(1)).payment
    assert (done.receipt, done.reason, done.booking_action) == (RECEIPT, None, CONFIRM)
    assert done.completed_at == pending.completed_at, "the money became known earlier"


def test_a_second_answer_paid_confirms_not_before_fifteen_seconds() -> None:
    prompted = scenes.standing_in(P)
    first = prompted.updated_at + seconds(10)
    pending = scenes.tell(prompted, scenes.query_paid(CHECKOUT), first).payment
    assert (pending.booking_action, pending.reason) == (WAIT, Reason.RECEIPT_PENDING)
    soon = scenes.tell(pending, scenes.query_paid(CHECKOUT), first + seconds(14.999)).payment
    assert soon == pending
    confirmed = scenes.tell(soon, scenes.query_paid(CHECKOUT), first + seconds(15)).payment
    assert (confirmed.booking_action, confirmed.said_confirm) == (CONFIRM, True)
    assert confirmed.version == pending.version + 1
    receipted = scenes.tell(confirmed, scenes.paid(), first + seconds(60)).payment
    assert (receipted.booking_action, receipted.receipt) == (CONFIRM, RECEIPT)


def test_an_answer_to_a_query_brings_no_receipt_whatever_it_says() -> None:
    prompted = scenes.standing_in(P)
    talkative = scenes.result(Verdict.PAID, "0", source=Source.QUERY, checkout=CHECKOUT, amount=1, receipt=RECEIPT)
    told = scenes.tell(prompted, talkative, prompted.updated_at).payment
    assert (told.state, told.receipt, told.booking_action) == (State.COMPLETED, None, WAIT)


def test_after_a_callback_without_receipt_two_answers_to_queries_are_needed() -> None:
    pending = scenes.standing_in(K0)
    at = pending.updated_at + seconds(60)
    once = scenes.tell(pending, scenes.query_paid(CHECKOUT), at)
    assert not once.changed(pending)
    assert once.payment.booking_action is WAIT
    twice = scenes.tell(once.payment, scenes.query_paid(CHECKOUT), at + seconds(15)).payment
    assert twice.booking_action is CONFIRM


def test_a_receipt_that_does_not_come_in_a_quarter_of_an_hour_is_a_case() -> None:
    pending = scenes.standing_in(K0)
    assert pending.due_at is not None
    assert scenes.tell(pending, ReceiptOverdue(), pending.due_at - seconds(0.001)).payment == pending
    outcome = scenes.tell(pending, ReceiptOverdue(), pending.due_at)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.RECEIPT_OVERDUE, True)
    assert (outcome.payment.booking_action, outcome.payment.due_at) == (REVIEW, None)


@pytest.mark.parametrize("policy", list(LatePaymentPolicy))
@pytest.mark.parametrize("column", [K0, K, RG])
def test_money_for_a_booking_that_is_paid_already_is_a_duplicate(column: Standing, policy: LatePaymentPolicy) -> None:
    sibling = sibling_in(column)
    new = scenes.created(late_payment_policy=policy)
    for own in (P, U0, U1, F, X, E):
        before = scenes.standing_in(own, start=new)
        outcome = scenes.tell(before, scenes.paid(), before.updated_at, siblings=[sibling])
        assert outcome.payment.state is State.COMPLETED
        assert outcome.case is not None
        assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.DUPLICATE_PAYMENT, True)
        assert (outcome.payment.booking_action, outcome.payment.said_confirm) == (REVIEW, False)


@pytest.mark.parametrize("column", [C, S, P, U0, U1, UR, F, X, E])
def test_money_beside_an_unpaid_sibling_is_no_duplicate_and_takes_the_block(column: Standing) -> None:
    before = scenes.standing_in(E, start=scenes.created(late_payment_policy=LATE))
    assert not before.blocks_booking
    sibling = sibling_in(column)
    outcome = scenes.tell(before, scenes.paid(), before.updated_at, siblings=[sibling])
    assert (outcome.case, outcome.payment.booking_action) == (None, CONFIRM)
    assert outcome.payment.blocks_booking
    told = scenes.tell(sibling, SiblingPaid(before.payment_id), before.updated_at, siblings=[outcome.payment]).payment
    assert not told.blocks_booking
    assert told.state is (State.CANCELLED if column is C else sibling.state)


def test_a_block_once_lost_never_returns() -> None:
    paid_sibling = sibling_in(K)
    lost = scenes.tell(scenes.standing_in(P), SiblingPaid(OTHER_ID), START, siblings=[paid_sibling]).payment
    paid = scenes.tell(lost, scenes.paid(), START, siblings=[paid_sibling]).payment
    expired = scenes.tell(lost, DeadlinePassed(), lost.expires_at, siblings=[paid_sibling]).payment
    late = scenes.tell(expired, scenes.paid(), lost.expires_at, siblings=[paid_sibling]).payment
    returned = scenes.led(paid_sibling, RefundRequested(REFUND), RefundDone(REFUND, AMOUNT))
    after_return = scenes.tell(expired, scenes.paid(), lost.expires_at, siblings=[returned]).payment
    assert [p.blocks_booking for p in (lost, paid, expired, late, after_return)] == [False] * 5


def test_a_refunded_payment_that_said_confirm_keeps_every_sibling_from_saying_so() -> None:
    returned = sibling_in(RD)
    assert returned.said_confirm
    before = scenes.standing_in(P)
    outcome = scenes.tell(before, scenes.paid(), before.updated_at, siblings=[returned])
    assert outcome.case is not None
    assert outcome.case.kind is CaseKind.DUPLICATE_PAYMENT
    unconfirmed = replace(returned, said_confirm=False)
    alone = scenes.tell(before, scenes.paid(), before.updated_at, siblings=[unconfirmed])
    assert (alone.case, alone.payment.booking_action) == (None, CONFIRM)


def test_no_payment_says_confirm_beside_one_that_did_even_when_its_own_case_is_closed() -> None:
    confirmed = sibling_in(K)
    before = scenes.standing_in(U0)
    duplicate = scenes.tell(before, scenes.paid(), before.updated_at, siblings=[confirmed]).payment
    settled = replace(duplicate, money_case_open=False, review_reason=None)
    with_ids = scenes.tell(settled, scenes.accepted(), settled.updated_at, siblings=[confirmed]).payment
    assert with_ids.checkout_request_id == CHECKOUT
    assert (with_ids.booking_action, with_ids.said_confirm) == (BookingAction.FOLLOW_SIBLING, False)
    assert with_ids.shown_reason is None


def test_a_refund_never_frees_the_seat_that_another_attempt_has_confirmed() -> None:
    confirmed = sibling_in(K)
    paid = scenes.standing_in(P)
    told = []
    for fact in (scenes.paid(), scenes.send_back(), RefundFailed(REFUND)):
        paid = scenes.tell(paid, fact, paid.updated_at, siblings=[confirmed]).payment
        told.append(paid.booking_action)
    again = scenes.send_back(UUID(int=1))
    for refund in (again, RefundDone(again.refund_id, AMOUNT)):
        paid = scenes.tell(paid, refund, paid.updated_at, siblings=[confirmed]).payment
        told.append(paid.booking_action)
    assert standing(paid) is RD
    assert told == [REVIEW, *[BookingAction.FOLLOW_SIBLING] * 4]


@pytest.mark.parametrize("twice", [True, False])
def test_a_refund_of_late_or_double_money_that_fails_is_a_case_of_the_refund(twice: bool) -> None:
    siblings = [sibling_in(K)] if twice else []
    late = scenes.standing_in(E)
    for fact in (scenes.paid(), scenes.send_back()):
        late = scenes.tell(late, fact, late.updated_at + LONG, siblings=siblings).payment
    failed = scenes.tell(late, RefundFailed(REFUND), late.updated_at + LONG, siblings=siblings)
    assert standing(failed.payment) is KC
    assert failed.case is not None
    assert (failed.case.kind, failed.case.is_money) == (CaseKind.REFUND, False)


def test_no_seat_is_confirmed_again_whose_refund_an_older_release_has_noted() -> None:
    """While an upgrade goes on, a process of the release before records a refund, and notes only what it knows of."""
    confirmed = scenes.standing_in(K)
    asked = scenes.led(confirmed, RefundRequested(REFUND))
    noted = replace(asked, refund_under_way=False, seat_freed=False)
    assert (noted.booking_action, noted.awaits_refund) == (RELEASE, True)
    failed = scenes.led(noted, RefundFailed(REFUND))
    assert (standing(failed), failed.booking_action) == (K, RELEASE)
    again = scenes.led(failed, RefundRequested(UUID(int=1)), RefundFailed(UUID(int=1)))
    assert again.booking_action is RELEASE


def test_confirm_is_remembered_through_everything_that_follows() -> None:
    confirmed = scenes.standing_in(K)
    assert confirmed.said_confirm
    refunding = scenes.led(confirmed, RefundRequested(REFUND))
    back = scenes.led(refunding, RefundFailed(REFUND))
    returned = scenes.led(refunding, RefundDone(REFUND, AMOUNT))
    assert [p.said_confirm for p in (refunding, back, returned)] == [True] * 3
    assert [p.booking_action for p in (refunding, back, returned)] == [RELEASE] * 3
    assert standing(back) is K
