"""When a payment is asked about: from its standing, and then at a falling rate."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from payment_service.domain.cases import CaseKind
from payment_service.domain.facts import DeadlinePassed, Fact, Source, Verdict, WatchEnded
from payment_service.domain.payment import BookingAction, State
from payment_service.domain.query_schedule import next_query_at, worth_asking
from payment_service.domain.standings import Standing
from tests.domain import scenes
from tests.domain.scenes import CHECKOUT, START, TIMES, seconds

C, S, P, U0, U1, UR, K0, KC, K, KR, F0, X0, F, X, E, RG, RD = Standing
ASKED = {P, U1, K0, F0, X0, E}
SENT = START + seconds(1)
WATCH_END = SENT + timedelta(hours=48)


@pytest.mark.parametrize("column", list(Standing))
def test_what_is_asked_about_in_every_standing(column: Standing) -> None:
    payment = scenes.standing_in(column)
    assert (payment.query_at is not None) is (column in ASKED)
    assert worth_asking(payment) is (column in ASKED)
    if column in ASKED:
        assert payment.query_at == SENT + seconds(180 if column in (F0, X0) else 30)


@pytest.mark.parametrize("column", [P, U0, U1, K0, F0, X0, E])
def test_without_a_checkout_id_there_is_nothing_to_ask_by(column: Standing) -> None:
    if column is not P:
        assert scenes.standing_in(column, ids=False).query_at is None


def test_ids_that_come_late_begin_the_queries() -> None:
    unanswered = scenes.standing_in(U0)
    assert unanswered.query_at is None
    seen = scenes.tell(unanswered, scenes.uncertain(), SENT + seconds(20)).payment
    assert seen.query_at is None
    told = scenes.tell(seen, scenes.accepted(), SENT + seconds(26)).payment
    assert told.query_at == SENT + seconds(30)
    much_later = scenes.tell(seen, scenes.accepted(), SENT + seconds(90)).payment
    assert much_later.query_at == SENT + seconds(90)


@pytest.mark.parametrize("code", ["1019", "1031", "1036", "1037", "9999"])
def test_a_failing_code_in_doubt_is_asked_about(code: str) -> None:
    doubted = scenes.led(scenes.standing_in(P), scenes.uncertain(code))
    assert (doubted.state, doubted.query_at) == (State.UNCERTAIN, SENT + seconds(30))
    expired = scenes.tell(doubted, DeadlinePassed(), doubted.expires_at).payment
    assert expired.query_at == doubted.query_at, "also when it expires before there was a turn to ask"


def test_asking_ends_with_the_watch() -> None:
    for column in (F0, X0, E):
        watched = scenes.tell(scenes.standing_in(column), WatchEnded(books_cover=True), WATCH_END).payment
        assert watched.query_at is None


def test_a_payment_that_an_earlier_release_left_unscheduled_is_scheduled_when_it_expires() -> None:
    unscheduled = scenes.clocked(scenes.standing_in(P), {"query_at": None})
    assert scenes.tell(unscheduled, scenes.accepted(), SENT + seconds(2)).payment.query_at is None
    expired = scenes.tell(unscheduled, DeadlinePassed(), unscheduled.expires_at).payment
    assert expired.query_at == unscheduled.expires_at


# The waits.


def asked_at(*, deadlines: list[datetime], draw: float, watch_until: datetime = WATCH_END) -> list[float]:
    """Seconds after the send of every query, if each is made when it is due."""
    at: datetime | None = SENT + TIMES.query_after
    moments = []
    while at is not None:
        moments.append((at - SENT).total_seconds())
        assert len(moments) < 100, "without end"
        at = next_query_at(at, len(moments), deadlines, watch_until, draw, TIMES)
    return moments


def test_the_rate_falls_until_the_watch_ends() -> None:
    moments = asked_at(deadlines=[], draw=0.0)
    assert moments[:6] == [30, 45, 75, 135, 255, 495]
    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert waits[:-1] == sorted(waits[:-1])
    assert waits[-2] == 7_200
    assert moments[-1] == 48 * 3_600 - 5, "the last look, before the watch ends"
    assert len(moments) < 40


def test_jitter_lengthens_a_wait_by_a_fifth_at_most() -> None:
    plain, spread = asked_at(deadlines=[], draw=0.0), asked_at(deadlines=[], draw=1.0)
    assert spread[1] - spread[0] == 15 * 1.2
    assert all(p <= s <= 30 + (p - 30) * 1.2 for p, s in zip(plain[:8], spread[:8], strict=True))


def test_a_last_look_before_the_payment_expires_and_before_the_hold_ends() -> None:
    moments = asked_at(deadlines=[SENT + seconds(120), SENT + seconds(600)], draw=0.0)
    assert moments[:7] == [30, 45, 75, 115, 235, 475, 595]


# Two looks.


def query(verdict: Verdict, code: str, asked: datetime) -> Fact:
    return replace(scenes.result(verdict, code, source=Source.QUERY, checkout=CHECKOUT), asked_at=asked)


def test_two_readings_of_one_answer_are_one_look() -> None:
    asked = SENT + seconds(30)
    first = scenes.tell(scenes.standing_in(P), query(Verdict.PAID, "0", asked), asked + seconds(1)).payment
    assert (first.state, first.booking_action, first.paid_seen_at) == (State.COMPLETED, BookingAction.WAIT, asked)
    assert first.query_at == asked + seconds(15), "the second look is due as soon as it counts"
    again = scenes.tell(first, query(Verdict.PAID, "0", asked), asked + seconds(600)).payment
    assert again == first
    too_soon = scenes.tell(first, query(Verdict.PAID, "0", asked + seconds(14)), asked + seconds(60)).payment
    assert too_soon == first
    second = scenes.tell(first, query(Verdict.PAID, "0", asked + seconds(15)), asked + seconds(16)).payment
    assert (second.booking_action, second.query_at) == (BookingAction.CONFIRM, None)


def test_an_answer_agrees_by_when_it_was_asked_not_by_when_it_is_applied() -> None:
    doubted = scenes.led(scenes.standing_in(P), scenes.uncertain("1037"))
    early = scenes.tell(doubted, query(Verdict.UNCERTAIN, "1037", SENT + seconds(59)), SENT + seconds(90))
    assert early.payment == doubted
    late = scenes.tell(doubted, query(Verdict.UNCERTAIN, "1037", SENT + seconds(60)), SENT + seconds(90))
    assert late.payment.state is State.EXPIRED


def test_a_query_that_contradicts_a_success_changes_nothing_opens_one_case_and_is_not_repeated() -> None:
    pending = scenes.standing_in(K0)
    outcome = scenes.tell(pending, query(Verdict.FAILED, "1", SENT + seconds(30)), SENT + seconds(31))
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.CONTRADICTION, False)
    assert outcome.payment == replace(pending, query_at=None)
    receipted = scenes.tell(outcome.payment, scenes.paid(), SENT + seconds(40)).payment
    assert receipted.booking_action is BookingAction.CONFIRM


def test_money_that_is_late_is_looked_at_twice_all_the_same() -> None:
    expired = scenes.standing_in(E)
    outcome = scenes.tell(expired, query(Verdict.PAID, "0", SENT + seconds(300)), SENT + seconds(301))
    assert outcome.case is not None
    assert outcome.payment.query_at == SENT + seconds(315)
