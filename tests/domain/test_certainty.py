"""What makes an outcome certain: proof, never silence; and what takes a doubt away again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from payment_service.domain.cases import CaseKind, OpenCase, may_have_ending_case
from payment_service.domain.decisions import bar_to_new_attempt
from payment_service.domain.edges import STATE_OF
from payment_service.domain.facts import (
    CancelRequested,
    DeadlinePassed,
    Fact,
    NothingTold,
    ReceiptOverdue,
    ReceiptProven,
    ResultReported,
    SendClaimed,
    SiblingPaid,
    Unreadable,
    WatchEnded,
    unread_fact_id,
)
from payment_service.domain.payment import ENDED_UNPAID, LIVE_STATES, BookingAction, Payment, State, UnpaidProof
from payment_service.domain.reasons import Reason
from payment_service.domain.standings import Standing, standing
from tests.domain import scenes
from tests.domain.scenes import OTHER_ID, OTHER_RECEIPT, RECEIPT, START, TIMES, seconds

SENT = START + seconds(1)
GONE = SENT + TIMES.retry_wait
WATCH_END = SENT + TIMES.watch_for

BY_QUERY = {
    Standing.FAILED_BY_QUERY: (Standing.FAILED, scenes.failed),
    Standing.CANCELLED_BY_QUERY: (Standing.CANCELLED, scenes.cancelled),
}


def queried(answer: ResultReported, asked_at: datetime) -> ResultReported:
    return scenes.queried(answer, asked_at=asked_at)


# The end of the watch.


@pytest.mark.parametrize("column", [Standing.EXPIRED, *BY_QUERY])
def test_after_two_days_of_silence_a_person_is_asked_and_nothing_is_certain(column: Standing) -> None:
    before = scenes.standing_in(column)
    outcome = scenes.tell(before, WatchEnded(), WATCH_END)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.OUTCOME_UNKNOWN, False)
    after = outcome.payment
    assert (standing(after), after.outcome_certain, after.due_at) == (column, False, None)
    later = scenes.tell(after, scenes.unknown(), WATCH_END + seconds(1)).payment
    assert later.due_at is None, "the timer does not come back"


def test_money_in_doubt_is_not_made_certain_by_books_that_cover_the_watch() -> None:
    expired = scenes.standing_in(Standing.EXPIRED)
    doubted = scenes.tell(expired, scenes.pulled(OTHER_RECEIPT, in_doubt=True), GONE).payment
    assert doubted.money_case_open
    ended = scenes.tell(doubted, WatchEnded(books_cover=True), WATCH_END).payment
    assert (ended.outcome_certain, ended.due_at) == (False, None)


def test_money_in_doubt_is_not_made_certain_by_an_answer_that_says_unpaid() -> None:
    expired = scenes.standing_in(Standing.EXPIRED)
    doubted = scenes.tell(expired, scenes.pulled(OTHER_RECEIPT, in_doubt=True), GONE).payment
    denied = scenes.tell(doubted, queried(scenes.failed("1032"), GONE), GONE + seconds(9)).payment
    assert (denied.money_case_open, denied.unpaid_proof, denied.outcome_certain) == (True, UnpaidProof.QUERY, False)
    ended = scenes.tell(denied, WatchEnded(books_cover=True), WATCH_END).payment
    assert (ended.outcome_certain, ended.due_at) == (False, None)


@pytest.mark.parametrize("answer", [scenes.uncertain("1037"), scenes.uncertain("1031"), scenes.failed("2001")])
def test_a_query_that_was_asked_after_the_prompt_covers_the_end_of_the_watch(answer: ResultReported) -> None:
    expired = scenes.standing_in(Standing.EXPIRED)
    early = scenes.tell(expired, queried(answer, GONE - seconds(1)), GONE + seconds(60)).payment
    silent = scenes.tell(early, WatchEnded(), WATCH_END)
    assert silent.case is not None, "asked while the prompt could still be open"
    seen = scenes.tell(expired, queried(answer, GONE), GONE + seconds(60)).payment
    ended = scenes.tell(seen, WatchEnded(), WATCH_END)
    assert (ended.case, ended.payment.outcome_certain) == (None, True)
    assert ended.payment.unpaid_proof is UnpaidProof.QUERY


@pytest.mark.parametrize("answer", [scenes.unknown(), scenes.uncertain("1037")])
def test_neither_an_unknown_code_nor_a_callback_that_is_uncertain_covers_it(answer: Fact) -> None:
    expired = scenes.tell(scenes.standing_in(Standing.EXPIRED), answer, GONE + seconds(60)).payment
    assert scenes.tell(expired, WatchEnded(), WATCH_END).case is not None


def test_books_that_were_read_over_the_whole_window_cover_it() -> None:
    ended = scenes.tell(scenes.standing_in(Standing.EXPIRED), WatchEnded(books_cover=True), WATCH_END).payment
    assert (ended.outcome_certain, ended.unpaid_proof) == (True, UnpaidProof.BOOKS)


def test_later_evidence_settles_what_the_watch_left_open() -> None:
    watched = scenes.tell(scenes.standing_in(Standing.EXPIRED), WatchEnded(), WATCH_END).payment
    left = OpenCase(CaseKind.OUTCOME_UNKNOWN, is_money=False, fact_id="watch-ended")
    later = WATCH_END + timedelta(hours=1)
    for evidence in (scenes.failed(), queried(scenes.cancelled(), later), scenes.paid()):
        outcome = scenes.tell(watched, evidence, later, open_cases=[left])
        assert outcome.payment.outcome_certain
        assert outcome.ended == (left,)
    for news in (scenes.unknown(), queried(scenes.uncertain(), later)):
        outcome = scenes.tell(watched, news, later, open_cases=[left])
        assert (outcome.payment.outcome_certain, outcome.ended) == (False, ())


# A callback that is kept and not applied.


PROOFS: dict[str, tuple[Payment, Fact, datetime]] = {
    "a query": (scenes.standing_in(Standing.EXPIRED), queried(scenes.failed("2001"), GONE), GONE),
    "a second look": (scenes.standing_in(Standing.FAILED_BY_QUERY), queried(scenes.failed(), GONE), GONE),
    "a callback": (scenes.standing_in(Standing.PROMPTED), scenes.cancelled(), GONE),
    "a refused push": (scenes.standing_in(Standing.SENDING), scenes.refused(), SENT),
    "a withdrawal": (scenes.created(), CancelRequested("cancel"), START),
}


@pytest.mark.parametrize("proof", PROOFS)
def test_no_end_is_certain_while_a_callback_is_not_applied_and_every_end_is_once_it_is(proof: str) -> None:
    before, fact, at = PROOFS[proof]
    ended = scenes.tell(before, fact, at, callback_waiting=True).payment
    assert (ended.unpaid_proof is not None, ended.outcome_certain) == (True, False)
    for news in (scenes.unknown(), NothingTold("told", "nothing")):
        still = scenes.tell(ended, news, at + seconds(1), callback_waiting=True)
        assert (still.payment, still.case) == (ended, None)
        applied = scenes.tell(ended, news, at + seconds(1))
        assert (applied.payment.outcome_certain, applied.changed(ended), applied.case) == (True, True, None)
        assert (applied.payment.state, applied.payment.query_at) == (ended.state, None)


def test_no_watch_ends_as_covered_while_a_callback_is_not_applied() -> None:
    seen = scenes.tell(scenes.standing_in(Standing.EXPIRED), queried(scenes.uncertain(), GONE), GONE).payment
    for before in (seen, scenes.standing_in(Standing.EXPIRED)):
        ended = scenes.tell(before, WatchEnded(books_cover=True), WATCH_END, callback_waiting=True)
        assert ended.case is not None
        assert (ended.case.kind, ended.payment.outcome_certain) == (CaseKind.OUTCOME_UNKNOWN, False)


def test_a_payment_that_was_certain_stays_so_while_a_callback_waits_to_be_applied() -> None:
    failed = scenes.standing_in(Standing.FAILED)
    again = scenes.tell(failed, scenes.failed(), GONE, callback_waiting=True)
    assert (again.payment.outcome_certain, again.changed(failed)) == (True, False)


def test_a_payment_with_a_callback_of_its_own_is_never_sent() -> None:
    """It proves that a prompt was made, though the row knows of none, as after a database lost its last moments."""
    claim = SendClaimed(UUID(int=9))
    unread = scenes.tell(scenes.created(), Unreadable("unread:1", "not JSON"), START).payment
    assert scenes.tell(unread, claim, START + seconds(1)).refused
    assert scenes.tell(scenes.created(), claim, START + seconds(1), callback_waiting=True).refused
    assert not scenes.tell(scenes.created(), claim, START + seconds(1)).refused


@pytest.mark.parametrize("column", [column for column in Standing if STATE_OF[column] not in LIVE_STATES])
@pytest.mark.parametrize("doubt", ["none", "unread", "money"])
def test_an_attempt_may_be_sent_exactly_where_it_may_be_started(column: Standing, doubt: str) -> None:
    """Money of another attempt, paid or in doubt, bars both; a body of it that cannot be read bars neither."""
    sibling = scenes.standing_in(column, start=scenes.created(payment_id=OTHER_ID))
    if doubt == "unread":
        sibling = scenes.tell(sibling, Unreadable("unread:1", "not JSON"), sibling.updated_at).payment
    if doubt == "money":
        sibling = scenes.tell(sibling, scenes.pulled("RCPTDOUBT1", in_doubt=True), sibling.updated_at).payment
    later = sibling.updated_at + timedelta(days=1)
    new = scenes.created(attempt=2, at=later)
    claimed = scenes.tell(new, SendClaimed(UUID(int=9)), later + seconds(1), siblings=[sibling])
    assert claimed.refused is (bar_to_new_attempt([sibling], later) is not None)
    assert claimed.refused or (doubt != "money" and (sibling.state in ENDED_UNPAID or sibling.refuted))


# A failure that only a query told.


@pytest.mark.parametrize("column", BY_QUERY)
def test_a_failure_that_only_a_query_told_allows_the_next_attempt_when_the_prompt_is_gone(column: Standing) -> None:
    told = scenes.standing_in(column)
    assert (told.booking_action, told.outcome_certain) == (BookingAction.OFFER_RETRY, False)
    assert (told.retry_allowed_at, told.query_at) == (GONE, GONE)


@pytest.mark.parametrize("column", BY_QUERY)
def test_it_becomes_certain_by_a_callback_that_agrees_or_by_a_second_look(column: Standing) -> None:
    told, (proven, again) = scenes.standing_in(column), BY_QUERY[column]
    by_callback = scenes.tell(told, again(), SENT + seconds(40)).payment
    assert (standing(by_callback), by_callback.outcome_certain) == (proven, True)
    assert by_callback.query_at is None
    too_early = scenes.tell(told, queried(again(), GONE - seconds(1)), GONE + seconds(1)).payment
    assert not too_early.outcome_certain
    looked = scenes.tell(too_early, queried(again(), GONE), GONE + seconds(1)).payment
    assert (standing(looked), looked.outcome_certain, looked.unpaid_proof) == (proven, True, UnpaidProof.QUERY)
    assert looked.retry_allowed_at == GONE


@pytest.mark.parametrize("paid_by", [scenes.query_paid(scenes.CHECKOUT), scenes.paid(None)])
def test_the_case_of_a_silent_watch_ends_with_a_receipt_that_follows_the_money(
    paid_by: ResultReported,
) -> None:
    held = scenes.created(hold_expire_at=WATCH_END + timedelta(days=1))
    watched = scenes.tell(scenes.standing_in(Standing.EXPIRED, start=held), WatchEnded(), WATCH_END).payment
    left = OpenCase(CaseKind.OUTCOME_UNKNOWN, is_money=False, fact_id="watch-ended")
    pending = scenes.tell(watched, paid_by, WATCH_END + seconds(1), open_cases=[left])
    assert (pending.payment.state, pending.payment.outcome_certain, pending.ended) == (State.COMPLETED, False, ())
    assert may_have_ending_case(pending.payment), "its cases are read with it"
    told = scenes.tell(pending.payment, scenes.paid(), WATCH_END + seconds(2), open_cases=[left])
    assert (told.payment.outcome_certain, told.ended) == (True, (left,))


@pytest.mark.parametrize("column", BY_QUERY)
def test_a_success_that_comes_instead_completes_it_without_a_case(column: Standing) -> None:
    for success in (scenes.paid(), scenes.paid(None), scenes.pulled(), scenes.query_paid(scenes.CHECKOUT)):
        told = scenes.standing_in(column, start=scenes.created(hold_expire_at=START + timedelta(days=1)))
        outcome = scenes.tell(told, success, GONE)
        assert (outcome.payment.state, outcome.payment.paid_late) == (State.COMPLETED, True)
        assert outcome.case is None


def test_a_second_look_with_another_code_is_a_contradiction() -> None:
    told = scenes.standing_in(Standing.FAILED_BY_QUERY)
    outcome = scenes.tell(told, queried(scenes.failed("2001"), GONE), GONE)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.payment.outcome_certain) == (CaseKind.CONTRADICTION, False)


# A callback that cannot be read.


UNREAD = Unreadable(unread_fact_id("callback:1"), "not JSON")
UNREAD_CASE = OpenCase(CaseKind.UNREAD_CALLBACK, is_money=False, fact_id=UNREAD.fact_id)


@pytest.mark.parametrize("column", list(Standing))
def test_nothing_without_money_is_certain_while_a_callback_is_unread(column: Standing) -> None:
    doubted = scenes.tell(scenes.standing_in(column), UNREAD, GONE).payment
    completed = (Standing.COMPLETED, Standing.COMPLETED_BY_CALLBACK)
    paid = column in (*completed, Standing.REFUNDING, Standing.REFUNDED)
    # Money that is found after all, beside the receipt that was made up, is a case about money.
    found = column is Standing.REFUTED
    assert (doubted.unread_callback, doubted.outcome_certain) == (not paid, paid)
    for proof in (scenes.failed(), scenes.cancelled(), queried(scenes.failed(), GONE), WatchEnded(books_cover=True)):
        told = scenes.tell(doubted, proof, WATCH_END).payment
        assert told.outcome_certain is paid
    # Money is as certain as ever.
    success = scenes.tell(doubted, scenes.paid(OTHER_RECEIPT), WATCH_END).payment
    assert success.outcome_certain is (success.receipt is not None and not found)


def test_the_same_body_read_by_a_later_release_takes_the_doubt_away() -> None:
    failed = scenes.led(scenes.standing_in(Standing.FAILED), UNREAD)
    assert not failed.outcome_certain
    read = scenes.failed()
    outcome = scenes.tell(failed, replace(read, fact_id="callback:1"), GONE, open_cases=[UNREAD_CASE])
    assert (outcome.ended, outcome.payment.outcome_certain) == ((UNREAD_CASE,), True)
    expired = scenes.led(scenes.standing_in(Standing.EXPIRED), UNREAD)
    no_news = replace(scenes.unknown(), fact_id="callback:1")
    assert scenes.tell(expired, no_news, GONE, open_cases=[UNREAD_CASE]).ended == (UNREAD_CASE,)
    prompted = scenes.led(scenes.standing_in(Standing.PROMPTED), UNREAD)
    settled = scenes.tell(prompted, replace(read, fact_id="callback:1"), GONE, open_cases=[UNREAD_CASE])
    assert settled.ended == (UNREAD_CASE,)
    assert (settled.payment.unread_callback, settled.payment.outcome_certain) == (False, True)
    another = OpenCase(CaseKind.UNREAD_CALLBACK, is_money=False, fact_id=unread_fact_id("callback:2"))
    two = scenes.tell(prompted, replace(read, fact_id="callback:1"), GONE, open_cases=[UNREAD_CASE, another])
    assert (two.payment.unread_callback, two.payment.outcome_certain) == (True, False)


# A doubt ends with its proof.


def doubt(receipt: str = RECEIPT, number: int = 1) -> OpenCase:
    return OpenCase(CaseKind.UNCLAIMED_MONEY, is_money=True, fact_id=f"pull-doubt:{number}", receipt=receipt)


def in_doubt(column: Standing = Standing.PROMPTED) -> Payment:
    before = scenes.standing_in(column)
    doubted = scenes.tell(before, scenes.pulled(in_doubt=True), before.updated_at).payment
    assert (doubted.money_case_open, doubted.booking_action) == (True, BookingAction.REVIEW)
    return doubted


@pytest.mark.parametrize("proof", [scenes.paid(), scenes.pulled()])
def test_the_clean_news_of_a_receipt_that_was_in_doubt_ends_the_doubt_and_confirms(proof: Fact) -> None:
    before = in_doubt()
    outcome = scenes.tell(before, proof, before.updated_at, open_cases=[doubt()])
    assert outcome.ended == (doubt(),)
    after = outcome.payment
    assert (after.booking_action, after.said_confirm, after.money_case_open) == (BookingAction.CONFIRM, True, False)


def test_another_receipt_ends_no_doubt() -> None:
    before = in_doubt()
    outcome = scenes.tell(before, scenes.paid(OTHER_RECEIPT), before.updated_at, open_cases=[doubt()])
    assert (outcome.ended, outcome.payment.booking_action) == ((), BookingAction.REVIEW)


@pytest.mark.parametrize("column", [Standing.PROMPTED, Standing.EXPIRED, Standing.RECEIPT_PENDING])
def test_a_doubt_about_foreign_ids_ends_with_the_proof_whose_receipt_it_was(column: Standing) -> None:
    """Whether it was this payment's after all or another's; a case of a receipt that nobody proves stays."""
    before = scenes.standing_in(column, start=scenes.created(hold_expire_at=START + timedelta(days=1)))
    foreign = scenes.paid(OTHER_RECEIPT, checkout="checkout-9")
    doubted = scenes.tell(before, foreign, before.updated_at)
    assert doubted.case is not None
    assert doubted.case.kind is CaseKind.FOREIGN_IDS
    left = OpenCase(CaseKind.FOREIGN_IDS, is_money=True, fact_id=foreign.fact_id, receipt=OTHER_RECEIPT)
    mine = scenes.tell(doubted.payment, scenes.paid(OTHER_RECEIPT), before.updated_at, open_cases=[left])
    assert (mine.ended, mine.payment.booking_action) == ((left,), BookingAction.CONFIRM)
    anothers = scenes.tell(doubted.payment, ReceiptProven(OTHER_RECEIPT), before.updated_at, open_cases=[left])
    assert (anothers.ended, anothers.payment.booking_action) == ((left,), before.booking_action)
    neither = scenes.tell(doubted.payment, scenes.paid(RECEIPT), before.updated_at, open_cases=[left])
    assert (neither.ended, neither.payment.booking_action) == ((), BookingAction.REVIEW)


def test_what_was_certain_before_proofs_were_recorded_is_so_again_after_an_unread_callback() -> None:
    earlier = replace(scenes.standing_in(Standing.FAILED), unpaid_proof=None)
    assert earlier.outcome_certain
    unread = scenes.tell(earlier, Unreadable(unread_fact_id("body"), "not JSON"), GONE).payment
    assert (standing(unread), unread.outcome_certain) == (Standing.FAILED, False)
    case = OpenCase(CaseKind.UNREAD_CALLBACK, is_money=False, fact_id=unread_fact_id("body"))
    read = scenes.tell(unread, replace(scenes.failed(), fact_id="body"), GONE, open_cases=[case])
    assert (read.ended, read.payment.outcome_certain) == ((case,), True)


def test_the_bar_goes_with_the_last_open_case_about_money() -> None:
    before = in_doubt()
    cases = [doubt(), doubt(OTHER_RECEIPT, 2)]
    once = scenes.tell(before, ReceiptProven(RECEIPT), before.updated_at, open_cases=cases)
    assert once.ended == (cases[0],)
    assert (once.payment.money_case_open, once.changed(before)) == (True, False)
    foreign = OpenCase(CaseKind.FOREIGN_IDS, is_money=True, fact_id="foreign")
    spoken = scenes.tell(before, ReceiptProven(RECEIPT), before.updated_at, open_cases=[*cases[:1], foreign])
    assert (spoken.payment.shown_reason, spoken.changed(before)) == (Reason.IDS_DIFFER, True), "the next one speaks"
    twice = scenes.tell(once.payment, ReceiptProven(OTHER_RECEIPT), before.updated_at, open_cases=cases[1:])
    assert (twice.payment.money_case_open, twice.payment.booking_action) == (False, BookingAction.WAIT)
    assert twice.changed(before)


@pytest.mark.parametrize("column", list(Standing))
def test_a_receipt_proven_elsewhere_ends_a_doubt_wherever_it_stands_and_nothing_else(column: Standing) -> None:
    before = scenes.standing_in(column)
    doubted = scenes.tell(before, scenes.pulled(OTHER_RECEIPT, in_doubt=True), before.updated_at).payment
    others = [
        OpenCase(kind, is_money=True, fact_id=kind.value, receipt=OTHER_RECEIPT)
        for kind in (CaseKind.WRONG_AMOUNT, CaseKind.SECOND_RECEIPT, CaseKind.DUPLICATE_PAYMENT)
        # About money that never came there is no such case.
        if not (column is Standing.REFUTED and kind is CaseKind.DUPLICATE_PAYMENT)
    ]
    beside = scenes.tell(
        doubted, ReceiptProven(OTHER_RECEIPT), before.updated_at, open_cases=[doubt(OTHER_RECEIPT), *others]
    )
    assert beside.ended == (doubt(OTHER_RECEIPT),)
    assert beside.payment.money_case_open
    if column is Standing.UNDER_REVIEW:
        return
    alone = scenes.tell(doubted, ReceiptProven(OTHER_RECEIPT), before.updated_at, open_cases=[doubt(OTHER_RECEIPT)])
    after = alone.payment
    assert (after.booking_action, after.money_case_open) == (before.booking_action, False)
    assert (standing(after), after.shown_reason) == (column, before.shown_reason)


def test_a_doubt_that_ends_beside_a_confirmed_sibling_confirms_nothing() -> None:
    sibling = scenes.standing_in(Standing.COMPLETED, start=scenes.created(payment_id=OTHER_ID, attempt=2))
    before = in_doubt()
    outcome = scenes.tell(before, scenes.paid(), before.updated_at, siblings=[sibling], open_cases=[doubt()])
    assert outcome.ended == (doubt(),)
    assert outcome.case is not None
    assert outcome.case.kind is CaseKind.DUPLICATE_PAYMENT
    after = outcome.payment
    assert (after.booking_action, after.said_confirm, after.money_case_open) == (BookingAction.REVIEW, False, True)


def test_a_receipt_that_comes_after_all_ends_the_case_that_it_was_overdue() -> None:
    pending = scenes.standing_in(Standing.RECEIPT_PENDING)
    overdue = scenes.tell(pending, ReceiptOverdue(), pending.updated_at + TIMES.receipt_within).payment
    assert (overdue.booking_action, overdue.outcome_certain) == (BookingAction.REVIEW, False)
    assert overdue.shown_reason is Reason.RECEIPT_OVERDUE
    case = OpenCase(CaseKind.RECEIPT_OVERDUE, is_money=True, fact_id="receipt-overdue")
    outcome = scenes.tell(overdue, scenes.paid(), overdue.updated_at, open_cases=[case])
    assert outcome.ended == (case,)
    assert (outcome.payment.booking_action, outcome.payment.outcome_certain) == (BookingAction.CONFIRM, True)
    assert outcome.payment.shown_reason is None


# Late is judged by when the news reached us.


@pytest.mark.parametrize("column", [Standing.PROMPTED, Standing.EXPIRED])
def test_a_success_that_reached_our_edge_in_time_is_not_late_however_late_it_is_applied(column: Standing) -> None:
    before = scenes.standing_in(column)
    success = scenes.paid()
    in_time = replace(success, received_at=before.expires_at - seconds(1))
    outcome = scenes.tell(before, in_time, before.expires_at + timedelta(hours=1))
    assert (outcome.case, outcome.payment.booking_action) == (None, BookingAction.CONFIRM)
    assert outcome.payment.completed_at == in_time.received_at
    too_late = replace(success, received_at=before.expires_at + seconds(1))
    assert scenes.tell(before, too_late, before.expires_at + timedelta(hours=1)).case is not None


def test_an_edge_whose_clock_is_ahead_makes_no_news_of_the_future() -> None:
    before = scenes.standing_in(Standing.PROMPTED)
    success = scenes.paid()
    ahead = replace(success, received_at=before.expires_at + timedelta(hours=1))
    after = scenes.tell(before, ahead, before.expires_at - seconds(1)).payment
    assert (after.booking_action, after.completed_at) == (BookingAction.CONFIRM, before.expires_at - seconds(1))
    behind = replace(success, received_at=before.created_at - timedelta(hours=1))
    assert scenes.tell(before, behind, before.expires_at).payment.completed_at == before.created_at


def test_money_that_only_a_query_tells_of_is_as_late_as_the_question() -> None:
    prompted = scenes.standing_in(Standing.PROMPTED)
    expired = scenes.tell(prompted, DeadlinePassed(), prompted.expires_at).payment
    asked = queried(scenes.query_paid(scenes.CHECKOUT), prompted.expires_at - seconds(1))
    outcome = scenes.tell(expired, asked, prompted.expires_at + seconds(20))
    assert (outcome.case, outcome.payment.booking_action) == (None, BookingAction.WAIT)


@pytest.mark.parametrize("ending", [scenes.failed("2001"), scenes.cancelled()])
def test_an_attempt_that_ends_after_its_sibling_was_paid_offers_no_other_payment(ending: ResultReported) -> None:
    prompted = scenes.standing_in(Standing.PROMPTED)
    beaten = scenes.tell(prompted, SiblingPaid(UUID(int=7)), SENT + seconds(5)).payment
    assert beaten.reason is Reason.SIBLING_PAID
    ended = scenes.tell(beaten, ending, SENT + seconds(9)).payment
    assert (ended.state in (State.FAILED, State.CANCELLED), ended.reason) == (True, Reason.SIBLING_PAID)
    assert (ended.booking_action, ended.retry_allowed_at) == (BookingAction.FOLLOW_SIBLING, None)
    expired = scenes.tell(beaten, DeadlinePassed(), beaten.expires_at).payment
    certain = scenes.tell(expired, WatchEnded(books_cover=True), WATCH_END).payment
    assert (certain.booking_action, certain.outcome_certain) == (BookingAction.FOLLOW_SIBLING, True)
    paid = scenes.tell(ended, scenes.paid(), SENT + seconds(20)).payment
    assert paid.reason is not Reason.SIBLING_PAID


def test_an_attempt_whose_sibling_was_paid_can_be_withdrawn_twice() -> None:
    sending = scenes.standing_in(Standing.SENDING)
    beaten = scenes.tell(sending, SiblingPaid(UUID(int=7)), SENT + seconds(1)).payment
    unsent = scenes.tell(beaten, scenes.not_sent(), SENT + seconds(2)).payment
    assert (unsent.state, unsent.reason) == (State.CREATED, Reason.SIBLING_PAID)
    withdrawn = scenes.tell(unsent, CancelRequested("cancel-1"), SENT + seconds(3)).payment
    assert (withdrawn.state, withdrawn.booking_action) == (State.CANCELLED, BookingAction.FOLLOW_SIBLING)
    again = scenes.tell(withdrawn, CancelRequested("cancel-2"), SENT + seconds(4))
    assert (again.refused, again.payment) == (False, withdrawn)


def test_an_attempt_that_was_not_sent_when_its_sibling_was_paid_offers_no_other_payment() -> None:
    beaten = scenes.tell(scenes.created(), SiblingPaid(UUID(int=7)), SENT).payment
    assert (beaten.state, beaten.reason) == (State.CANCELLED, Reason.SIBLING_PAID)
    assert (beaten.booking_action, beaten.retry_allowed_at) == (BookingAction.FOLLOW_SIBLING, None)
    assert not scenes.tell(beaten, CancelRequested("cancel-1"), SENT + seconds(1)).refused
