"""Whole lives of a booking: any facts, in any order, over several attempts.

Goal: at most one attempt ever says CONFIRM, at most one holds the block, and every attempt comes to rest.
Method: hypothesis draws what happens next; a booking in memory takes it as the writer of facts would, under one
clock: known facts are dropped, holders of receipts and ids are looked up, and whoever is paid is told to its siblings.
After every step all rules are checked; at the end the timers alone must bring everything to rest.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payment_service.domain.decisions import bar_to_new_attempt
from payment_service.domain.facts import (
    UNREADABLE,
    AnswerLost,
    CancelRequested,
    DeadlinePassed,
    Fact,
    PromptAccepted,
    RefundRequested,
    ResultReported,
    SendClaimed,
    SiblingPaid,
    Source,
    Verdict,
)
from payment_service.domain.payment import (
    LIVE_STATES,
    PAID_STATES,
    BookingAction,
    LatePaymentPolicy,
    Payment,
    State,
    deadline,
)
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.standings import Standing, standing
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, START, TIMES

ATTEMPTS_MAX = 4
TIMERS_MAX = 16
"""Four sends that reach nobody are nine timers, then loss, expiry and watch; more would be a circle."""

REFUND = scenes.REFUND
WISHES = ("cancel", "refund", "refund by case", "refund done", "refund failed", "taken back")
RECEIPTS = [f"TK{number:08d}" for number in range(3)]


class Booking:
    """All attempts for one booking, as the writer of facts keeps them."""

    def __init__(self, policy: LatePaymentPolicy, hold_seconds: int | None) -> None:
        self.now = START
        self.payments: dict[UUID, Payment] = {}
        self._policy, self._hold_seconds = policy, hold_seconds
        self._known: set[tuple[UUID, str]] = set()
        self._receipts: dict[str, UUID] = {}
        self._checkouts: dict[str, UUID] = {}
        self._claims = 0
        self.cases: set[UUID] = set()
        self.start_attempt()

    def siblings(self, payment_id: UUID) -> list[Payment]:
        return [payment for other, payment in self.payments.items() if other != payment_id]

    def start_attempt(self) -> None:
        if bar_to_new_attempt(list(self.payments.values()), self.now) is not None:
            return
        number = len(self.payments) + 1
        hold = None if self._hold_seconds is None else self.now + timedelta(seconds=self._hold_seconds)
        payment = scenes.created(
            payment_id=UUID(int=number),
            attempt=number,
            at=self.now,
            hold_expire_at=hold,
            late_payment_policy=self._policy,
        )
        assert not any(other.blocks_booking for other in self.payments.values())
        self.payments[payment.payment_id] = payment

    def claim(self, payment_id: UUID) -> bool:
        self._claims += 1
        before = self.payments[payment_id]
        self.tell(payment_id, SendClaimed(UUID(int=0xC000 + self._claims)))
        granted = self.payments[payment_id].state is State.SENDING and before.state is State.CREATED
        if granted:
            assert not any(other.state in PAID_STATES or other.money_case_open for other in self.siblings(payment_id))
        return granted

    def tell(self, payment_id: UUID, fact: Fact) -> None:
        before = self.payments[payment_id]
        if (payment_id, fact.fact_id) in self._known:
            return
        receipt = fact.receipt if isinstance(fact, ResultReported) else None
        checkout = fact.checkout_request_id if isinstance(fact, ResultReported | PromptAccepted) else None
        outcome = scenes.tell(
            before,
            fact,
            self.now,
            siblings=self.siblings(payment_id),
            receipt_holder=self._receipts.get(receipt) if receipt else None,
            checkout_holder=self._checkouts.get(checkout) if checkout else None,
        )
        after = outcome.payment
        self.payments[payment_id] = after
        if outcome.changed(before) or outcome.case is not None:
            self._known.add((payment_id, fact.fact_id))
        if outcome.case is not None:
            self.cases.add(payment_id)
        if receipt and isinstance(fact, ResultReported) and fact.verdict is Verdict.PAID and not fact.in_doubt:
            self._receipts.setdefault(receipt, payment_id)
        if after.checkout_request_id is not None:
            assert self._checkouts.setdefault(after.checkout_request_id, payment_id) == payment_id
        check_step(before, after)
        if after.state is State.COMPLETED and before.state is not State.COMPLETED:
            for sibling in self.siblings(payment_id):
                self.tell(sibling.payment_id, SiblingPaid(payment_id))

    def check(self) -> None:
        payments = list(self.payments.values())
        assert sum(payment.said_confirm for payment in payments) <= 1
        assert sum(payment.blocks_booking for payment in payments) <= 1
        receipts = [payment.receipt for payment in payments if payment.receipt]
        assert len(receipts) == len(set(receipts))
        for payment in payments:
            assert payment.said_confirm or payment.booking_action is not BookingAction.CONFIRM
            if payment.state in LIVE_STATES:
                assert payment.due_at is not None or payment.money_case_open
            assert not (payment.outcome_certain and payment.booking_action is BookingAction.WAIT)


def check_step(before: Payment, after: Payment) -> None:
    assert 0 <= after.version - before.version <= 1
    assert after.said_confirm or not before.said_confirm
    if before.state in PAID_STATES:
        assert after.state in PAID_STATES or standing(after) is Standing.UNDER_REVIEW
    if not before.blocks_booking and after.blocks_booking:
        assert before.state not in LIVE_STATES
        assert after.state is State.COMPLETED


def run_timers_to_rest(booking: Booking) -> None:
    """Only the timers go on: no answer, no callback, and no process that would send in time."""
    for _ in range(TIMERS_MAX * ATTEMPTS_MAX):
        due = [payment for payment in booking.payments.values() if payment.due_at is not None]
        if not due:
            break
        payment = min(due, key=lambda waiting: waiting.due_at or waiting.created_at)
        assert payment.due_at is not None
        booking.now = max(booking.now, payment.due_at)
        fact = scenes.due_fact(payment)
        if fact is not None:
            booking.tell(payment.payment_id, fact)
        elif booking.now >= deadline(payment, TIMES) or not booking.claim(payment.payment_id):
            booking.now = max(booking.now, deadline(payment, TIMES))
            booking.tell(payment.payment_id, DeadlinePassed())
        assert booking.payments[payment.payment_id] != payment, "a timer that is due has something to do"
        booking.check()
    for payment in booking.payments.values():
        assert payment.due_at is None
        resting = payment.outcome_certain or payment.money_case_open or payment.payment_id in booking.cases
        assert resting, "neither certain nor before a person"
        assert payment.booking_action is not BookingAction.WAIT


results = st.tuples(
    st.sampled_from(
        [(Verdict.PAID, "0")] * 4
        + [(Verdict.FAILED, "1"), (Verdict.CANCELLED, "1032"), (Verdict.UNCERTAIN, "1037"), (Verdict.UNKNOWN, "7")]
    ),
    st.sampled_from([Source.CALLBACK, Source.CALLBACK, Source.QUERY]),
    st.sampled_from([None, *RECEIPTS]),
    st.sampled_from([None, scenes.AMOUNT, scenes.AMOUNT, scenes.AMOUNT, scenes.AMOUNT + 1, UNREADABLE]),
    st.sampled_from(["own", "own", "own", "none", "sibling's"]),
)
happenings = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 16, 61, 125, 181, 1_000, 200_000])),
    st.tuples(st.just("attempt"), st.none()),
    st.tuples(st.just("claim"), st.none()),
    st.tuples(st.just("answer"), st.sampled_from(["accepted", "refused", "not sent", "lost"])),
    st.tuples(st.just("result"), results),
    st.tuples(st.just("paid"), st.booleans()),
    st.tuples(st.just("paid"), st.booleans()),
    st.tuples(st.just("pulled"), st.tuples(st.sampled_from(RECEIPTS), st.booleans())),
    st.tuples(st.just("timer"), st.none()),
    st.tuples(st.just("wish"), st.sampled_from(WISHES)),
    st.tuples(st.just("case closed"), st.none()),
)


Drawn = tuple[tuple[Verdict, str], Source, str | None, int | str | None, str]


def result_for(booking: Booking, payment: Payment, drawn: Drawn, number: int) -> Fact:
    (verdict, code), source, receipt, amount, whose = drawn
    other = next(iter(booking.siblings(payment.payment_id)), None)
    checkout = {
        "own": payment.checkout_request_id,
        "none": None,
        "sibling's": other.checkout_request_id if other else None,
    }
    queried = source is Source.QUERY
    return ResultReported(
        fact_id=f"result:{number}",
        source=source,
        verdict=verdict,
        code=code,
        checkout_request_id=checkout[whose],
        amount=None if queried or verdict is not Verdict.PAID else amount,
        receipt=None if queried or verdict is not Verdict.PAID else receipt,
    )


def answer_for(payment: Payment, kind: str) -> Fact | None:
    claim = payment.claim_id
    if claim is None:
        return None
    match kind:
        case "accepted":
            return PromptAccepted(claim, f"merchant-{payment.attempt}", f"checkout-{payment.attempt}")
        case "refused":
            return scenes.refused(claim)
        case "not sent":
            return scenes.not_sent(claim)
        case _:
            return AnswerLost(claim)


def happen(booking: Booking, payment: Payment, kind: str, drawn: object, number: int) -> None:
    match kind:
        case "wait":
            assert isinstance(drawn, int)
            booking.now += timedelta(seconds=drawn)
        case "attempt":
            if len(booking.payments) < ATTEMPTS_MAX:
                booking.start_attempt()
        case "claim":
            booking.claim(payment.payment_id)
        case "answer":
            answer = answer_for(payment, str(drawn))
            if answer is not None:
                booking.tell(payment.payment_id, answer)
        case "result":
            booking.tell(payment.payment_id, result_for(booking, payment, cast(Drawn, drawn), number))
        case "paid":
            booking.tell(payment.payment_id, scenes.paid(f"TKOWN{number:05d}" if drawn else None))
        case "pulled":
            receipt, in_doubt = cast(tuple[str, bool], drawn)
            booking.tell(payment.payment_id, scenes.pulled(receipt, in_doubt=in_doubt))
        case "timer":
            fact = scenes.due_fact(payment)
            if fact is not None:
                booking.tell(payment.payment_id, fact)
        case "case closed":
            # An operator settled the case in a way that changed no state; the row alone knows of it.
            booking.payments[payment.payment_id] = scenes.clocked(payment, {"money_case_open": False})
        case _:
            booking.tell(payment.payment_id, wish(str(drawn), number))


def wish(kind: str, number: int) -> Fact:
    match kind:
        case "cancel":
            return CancelRequested(f"cancel:{number}")
        case "refund":
            return RefundRequested(REFUND)
        case "refund by case":
            return scenes.send_back()
        case "refund done":
            return RefundDone(REFUND, AMOUNT)
        case "taken back":
            return scenes.taken_back()
        case _:
            return RefundFailed(REFUND)


ENDINGS = ("expired", "declined", "refused", "unsent")


def open_and_end(booking: Booking, ending: str) -> None:
    """The newest attempt, sent and ended without money, and the next one started as early as may be."""
    payment_id = list(booking.payments)[-1]
    if ending == "unsent":
        booking.tell(payment_id, CancelRequested(f"cancel:{payment_id}"))
    else:
        assert booking.claim(payment_id)
        kind = "refused" if ending == "refused" else "accepted"
        booking.tell(payment_id, cast(Fact, answer_for(booking.payments[payment_id], kind)))
    if ending == "declined":
        booking.tell(payment_id, scenes.cancelled())
    if ending == "expired":
        booking.now = booking.payments[payment_id].expires_at
        booking.tell(payment_id, DeadlinePassed())
    ended = booking.payments[payment_id]
    assert ended.retry_allowed_at is not None
    booking.now = max(booking.now, ended.retry_allowed_at)
    booking.start_attempt()
    assert len(booking.payments) == ended.attempt + 1


def send_newest(booking: Booking, answer: str) -> None:
    payment_id = list(booking.payments)[-1]
    if answer != "waiting" and booking.claim(payment_id):
        booking.tell(payment_id, cast(Fact, answer_for(booking.payments[payment_id], answer)))


lives = {
    "policy": st.sampled_from(LatePaymentPolicy),
    "hold_seconds": st.sampled_from([None, 30, 600, 100_000]),
    # Random facts alone hardly ever come as far as a second attempt, where all the danger is.
    "endings": st.lists(st.sampled_from(ENDINGS), min_size=1, max_size=ATTEMPTS_MAX - 1),
    "newest": st.sampled_from(["waiting", "accepted", "lost"]),
}


def scripts(steps: st.SearchStrategy[tuple[str, object]]) -> st.SearchStrategy[list[tuple[int, tuple[str, object]]]]:
    return st.lists(st.tuples(st.integers(0, ATTEMPTS_MAX - 1), steps), min_size=3, max_size=30)


def begun(policy: LatePaymentPolicy, hold_seconds: int | None, endings: list[str], newest: str) -> Booking:
    booking = Booking(policy, hold_seconds)
    for ending in endings:
        open_and_end(booking, ending)
        booking.check()
    send_newest(booking, newest)
    return booking


@pytest.mark.usefixtures("untraced")
@settings(max_examples=400)
@given(script=scripts(happenings.filter(lambda happening: happening[0] != "case closed")), **lives)
def test_whatever_happens_one_attempt_confirms_one_blocks_and_all_come_to_rest(
    script: list[tuple[int, tuple[str, object]]],
    policy: LatePaymentPolicy,
    hold_seconds: int | None,
    endings: list[str],
    newest: str,
) -> None:
    booking = begun(policy, hold_seconds, endings, newest)
    for number, (chosen, (kind, drawn)) in enumerate(script):
        payments = list(booking.payments.values())
        happen(booking, payments[chosen % len(payments)], kind, drawn, number)
        booking.check()
    run_timers_to_rest(booking)


@pytest.mark.usefixtures("untraced")
@settings(max_examples=200)
@given(script=scripts(happenings), **lives)
def test_closing_cases_never_lets_a_second_attempt_confirm(
    script: list[tuple[int, tuple[str, object]]],
    policy: LatePaymentPolicy,
    hold_seconds: int | None,
    endings: list[str],
    newest: str,
) -> None:
    booking = begun(policy, hold_seconds, endings, newest)
    for number, (chosen, (kind, drawn)) in enumerate(script):
        payments = list(booking.payments.values())
        happen(booking, payments[chosen % len(payments)], kind, drawn, number)
        assert sum(payment.said_confirm for payment in booking.payments.values()) <= 1
        assert sum(payment.blocks_booking for payment in booking.payments.values()) <= 1


def rest_of(payment: Payment, at: datetime) -> Booking:
    booking = Booking(payment.late_payment_policy, None)
    booking.payments = {payment.payment_id: payment}
    booking.now = at
    run_timers_to_rest(booking)
    return booking


def test_from_every_standing_the_timers_alone_lead_to_rest() -> None:
    ends = {}
    for column in Standing:
        payment = scenes.standing_in(column)
        if column is not Standing.REFUNDING:
            ends[column] = standing(next(iter(rest_of(payment, payment.updated_at).payments.values())))
    C, S, P, U0, U1, *_ = Standing
    at_rest = {column: column for column in Standing if column is not Standing.REFUNDING}
    assert ends == at_rest | dict.fromkeys((C, S, P, U0, U1), Standing.EXPIRED)
