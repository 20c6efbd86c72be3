"""Every cell of the refunds' table, told in facts, and whole lives of a refund.

The expectations are written a second time here, in other words than the table's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.domain.facts import RefundInDoubt, RefundRequested
from payment_service.domain.payment import BookingAction, RefundStatus, State
from payment_service.domain.refund import (
    Refund,
    RefundMethod,
    RefundReason,
    RefundState,
    RefundSurroundings,
    RefundTimes,
)
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.refund_facts import (
    RefundAccepted,
    RefundAnswerLost,
    RefundClaimed,
    RefundDue,
    RefundFact,
    RefundLookedUp,
    RefundNotSent,
    RefundOvertaken,
    RefundRefused,
    RefundReported,
    RefundTimedOut,
    RefundVerdict,
)
from payment_service.domain.refunds import (
    DOUBT_MAX,
    ENDED,
    REFUND_TABLE,
    SEND_BACKOFF_MAX,
    SEND_WITHIN,
    RefundFinding,
    RefundOutcome,
    apply_refund,
    first_refund,
)
from payment_service.domain.standings import Standing
from tests.cells import try_each
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, OTHER_RECEIPT, PAYMENT_ID, RECEIPT, REFUND, START, seconds

TIMES = RefundTimes()
CLAIM, OTHER_CLAIM = UUID(int=0xC1), UUID(int=0xC2)
R, S, A, U, D, F = RefundState


def requested() -> Refund:
    refund = Refund(
        refund_id=REFUND,
        payment_id=PAYMENT_ID,
        caller="development",
        reference="bcdfghjknprt",
        shortcode="174379",
        receipt=RECEIPT,
        amount=AMOUNT,
        reason=RefundReason.CANNOT_DELIVER,
        requested_at=START,
    )
    return first_refund(refund, TIMES)


def tell(refund: Refund, fact: RefundFact, at: datetime = START) -> RefundOutcome:
    return apply_refund(refund, fact, at, TIMES)


def led(refund: Refund, *facts: RefundFact) -> Refund:
    for fact in facts:
        refund = tell(refund, fact).refund
    return refund


ACCEPTED = RefundAccepted(CLAIM, "originator-1", "AG_1")


def reported(
    verdict: RefundVerdict, code: str = "0", receipt: str | None = None, fact_id: str = "callback:1"
) -> RefundReported:
    return RefundReported(fact_id, verdict, code, receipt)


DONE = reported(RefundVerdict.DONE, receipt=RECEIPT)
FAILED = reported(RefundVerdict.FAILED, "1")


def standing_in(state: RefundState) -> Refund:
    """A refund in a state, led there by facts."""
    sending = led(requested(), RefundClaimed(CLAIM))
    return {
        R: requested(),
        S: sending,
        A: led(sending, ACCEPTED),
        U: led(sending, RefundAnswerLost(CLAIM)),
        D: led(sending, ACCEPTED, DONE),
        F: led(sending, ACCEPTED, FAILED),
    }[state]


@dataclass(frozen=True)
class Expected:
    """What one cell promises."""

    to: RefundState | None = None
    case: bool = False
    money: bool = False
    refused: bool = False


NOTHING = Expected()
CASE, MONEY = Expected(case=True), Expected(case=True, money=True)
REFUSED = Expected(refused=True)


def to(state: RefundState, case: bool = False, money: bool = False) -> Expected:
    return Expected(state, case or money, money)


CELLS: dict[str, tuple[RefundFact, Mapping[RefundState, Expected]]] = {
    "found gone back": (
        RefundLookedUp("case:1", returned=True),
        {R: REFUSED, S: REFUSED, A: REFUSED, U: to(D), D: REFUSED, F: REFUSED},
    ),
    "found not gone back on the day of the send": (
        RefundLookedUp("case:1", returned=False),
        dict.fromkeys(RefundState, REFUSED),
    ),
    "claimed": (RefundClaimed(OTHER_CLAIM), {R: to(S), S: REFUSED, A: REFUSED, U: REFUSED, D: REFUSED, F: REFUSED}),
    "accepted": (ACCEPTED, {R: to(U, money=True), S: to(A), A: NOTHING, U: NOTHING, D: NOTHING, F: MONEY}),
    "done with another amount": (
        replace(DONE, amount=AMOUNT - 1),
        {R: MONEY, S: MONEY, A: MONEY, U: MONEY, D: MONEY, F: MONEY},
    ),
    "done with an amount nobody can read": (
        replace(DONE, amount="unreadable"),
        {R: MONEY, S: MONEY, A: MONEY, U: MONEY, D: MONEY, F: MONEY},
    ),
    "another send accepted": (
        RefundAccepted(OTHER_CLAIM, "originator-2", None),
        {R: to(U, money=True), S: MONEY, A: MONEY, U: MONEY, D: MONEY, F: MONEY},
    ),
    "refused": (RefundRefused(CLAIM, "400.002.02"), {R: NOTHING, S: to(F), A: CASE, U: to(F), D: CASE, F: NOTHING}),
    "not sent": (RefundNotSent(CLAIM, "429"), {R: NOTHING, S: to(R), A: CASE, U: to(F), D: CASE, F: NOTHING}),
    "answer lost": (RefundAnswerLost(CLAIM), {R: NOTHING, S: to(U), A: to(U), U: NOTHING, D: NOTHING, F: NOTHING}),
    "nothing proven": (
        reported(RefundVerdict.UNPROVEN),
        {R: CASE, S: to(U), A: to(U), U: NOTHING, D: NOTHING, F: NOTHING},
    ),
    "done, without the receipt": (
        reported(RefundVerdict.DONE),
        {R: CASE, S: to(U), A: to(U), U: NOTHING, D: NOTHING, F: NOTHING},
    ),
    "timed out": (RefundTimedOut("callback:2"), {R: CASE, S: to(U), A: to(U), U: NOTHING, D: NOTHING, F: NOTHING}),
    "done": (DONE, {R: to(D, case=True), S: to(D), A: to(D), U: to(D), D: NOTHING, F: to(D, money=True)}),
    "already reversed": (
        reported(RefundVerdict.ALREADY_REVERSED, "R000001"),
        {R: to(D, case=True), S: to(D, case=True), A: to(D, case=True), U: to(D), D: NOTHING, F: to(D, money=True)},
    ),
    "failed": (FAILED, {R: CASE, S: to(F), A: to(F), U: to(F), D: MONEY, F: NOTHING}),
    "another receipt": (
        reported(RefundVerdict.DONE, receipt=OTHER_RECEIPT),
        dict.fromkeys(RefundState, MONEY),
    ),
}


def test_a_cell_does_what_it_promises() -> None:
    try_each({f"{name}-{state}": (name, state) for name in CELLS for state in RefundState}, cell_does_what_it_promises)


def cell_does_what_it_promises(name: str, state: RefundState) -> None:
    fact, expected = CELLS[name][0], CELLS[name][1][state]
    before = standing_in(state)
    outcome = tell(before, fact)
    assert outcome.refund.state is (expected.to or state)
    assert outcome.refused is expected.refused
    ends: dict[RefundState | None, list[RefundDone | RefundFailed]] = {
        D: [RefundDone(REFUND, AMOUNT)],
        F: [RefundFailed(REFUND)],
    }
    doubts = [RefundInDoubt(REFUND, fact.fact_id, expected.money)] if expected.case else []
    assert list(outcome.told) == [*ends.get(expected.to, []), *doubts]
    again = tell(outcome.refund, fact)
    if not isinstance(fact, RefundClaimed) and expected.to is not None:
        assert again.refund == outcome.refund


RETURNED = RefundSurroundings(awaited=False, returned=True)
"""Another refund of the receipt is done, and the payment says so."""

BESIDE: dict[str, tuple[RefundFact, Mapping[RefundState, Expected]]] = {
    "claimed": (RefundClaimed(OTHER_CLAIM), dict.fromkeys(RefundState, REFUSED) | {R: NOTHING}),
    "overtaken": (RefundOvertaken(), {R: to(F), S: NOTHING, A: NOTHING, U: NOTHING, D: NOTHING, F: NOTHING}),
    "done": (
        DONE,
        {state: to(F, money=True) for state in (R, S, A, U)} | {D: NOTHING, F: MONEY},
    ),
    "already reversed": (
        reported(RefundVerdict.ALREADY_REVERSED, "R000001"),
        {state: to(F) for state in (R, S, A, U)} | {D: NOTHING, F: NOTHING},
    ),
}


def test_a_receipt_that_another_refund_has_returned_is_neither_sent_back_nor_counted_again() -> None:
    cells = {f"{name}-{state}": (name, state) for name in BESIDE for state in RefundState}
    try_each(cells, returned_receipt_is_neither_sent_back_nor_counted_again)


def returned_receipt_is_neither_sent_back_nor_counted_again(name: str, state: RefundState) -> None:
    fact, expected = BESIDE[name][0], BESIDE[name][1][state]
    outcome = apply_refund(standing_in(state), fact, START, TIMES, RETURNED)
    assert outcome.refund.state is (expected.to or state)
    assert outcome.refused is expected.refused
    # The payment is returned already: only what may be money that went back twice is told of it.
    assert list(outcome.told) == [RefundInDoubt(REFUND, fact.fact_id, is_money=True)] * expected.case


@pytest.mark.parametrize("state", list(RefundState))
def test_that_nothing_went_back_is_believed_once_no_result_is_awaited_any_more(state: RefundState) -> None:
    """A part that is sent again goes twice where the first is carried out late."""
    fact, before = RefundLookedUp("case:1", returned=False), standing_in(state)
    assert tell(before, fact, START + DOUBT_MAX - seconds(1)).refused
    outcome = tell(before, fact, START + DOUBT_MAX)
    found = state is U
    assert (outcome.refused, outcome.refund.state) == (not found, F if found else state)
    assert list(outcome.told) == [RefundFailed(REFUND)] * found


@pytest.mark.parametrize(("method", "doubted"), [(RefundMethod.REVERSAL, False), (RefundMethod.B2C, True)])
def test_what_is_found_gone_back_beside_a_reversal_is_that_or_went_twice(method: RefundMethod, doubted: bool) -> None:
    """A receipt is reversed once, so it is the reversal that is known. A part is other money."""
    uncertain = replace(standing_in(U), method=method)
    outcome = apply_refund(uncertain, RefundLookedUp("case:1", returned=True), START + DOUBT_MAX, TIMES, RETURNED)
    assert outcome.refund.state is F
    assert list(outcome.told) == [RefundInDoubt(REFUND, "case:1", is_money=True)] * doubted


@pytest.mark.parametrize(("returned", "result"), [(True, FAILED), (False, DONE)])
def test_a_result_that_says_otherwise_than_a_person_has_found_is_about_money(
    returned: bool, result: RefundReported
) -> None:
    found = tell(standing_in(U), RefundLookedUp("case:1", returned), START + DOUBT_MAX).refund
    outcome = tell(found, result, START + DOUBT_MAX + seconds(1))
    assert outcome.refund.state is D
    assert RefundInDoubt(REFUND, result.fact_id, is_money=True) in outcome.told


def test_a_refund_that_its_payment_does_not_wait_for_is_not_sent_and_lets_others_go_first() -> None:
    refund, waits = requested(), []
    for _ in range(2):
        outcome = apply_refund(refund, RefundClaimed(CLAIM), START, TIMES, RefundSurroundings(awaited=False))
        refund = outcome.refund
        assert (refund.state, refund.claim_id, outcome.told) == (R, None, ())
        assert refund.send_at is not None
        waits.append(refund.send_at - START)
    assert timedelta(0) < waits[0] < waits[1]
    assert apply_refund(refund, RefundDue(), START + SEND_WITHIN, TIMES).refund.state is F


TIMED_OUT = RefundTimedOut("callback:2")
FOREIGN = reported(RefundVerdict.DONE, receipt=OTHER_RECEIPT)


def test_a_refund_that_is_not_needed_any_more_is_not_sent_again() -> None:
    """Another refund of the receipt was done while this one was being sent, and this one reached nobody."""
    sending = led(requested(), RefundClaimed(CLAIM))
    outcome = apply_refund(sending, RefundNotSent(CLAIM, "429"), START, TIMES, RETURNED)
    assert (outcome.refund.state, outcome.refund.send_at, outcome.told) == (F, None, ())


@pytest.mark.parametrize("answer", [RefundRefused(CLAIM, "403.001.01"), RefundNotSent(CLAIM, "429")])
@pytest.mark.parametrize(
    "before",
    [(TIMED_OUT,), (RefundAnswerLost(CLAIM), TIMED_OUT), (reported(RefundVerdict.UNPROVEN),), (FOREIGN,)],
)
def test_an_answer_that_nothing_was_sent_is_not_believed_after_a_post(
    before: tuple[RefundFact, ...], answer: RefundFact
) -> None:
    """M-Pesa had the request, so its money may have moved: no failure is told, and nothing is sent again."""
    posted = led(requested(), RefundClaimed(CLAIM), *before)
    outcome = tell(posted, answer)
    assert outcome.refund.state is U
    assert outcome.told == (RefundInDoubt(REFUND, answer.fact_id, is_money=False),)
    assert tell(outcome.refund, DONE).refund.state is D


def test_the_table_is_total() -> None:
    assert REFUND_TABLE.keys() == set(RefundFinding)
    assert all(row.keys() == set(RefundState) for row in REFUND_TABLE.values())


def test_an_answer_to_an_earlier_claim_says_nothing_of_the_later_one() -> None:
    again = led(requested(), RefundClaimed(CLAIM), RefundNotSent(CLAIM, "429"), RefundClaimed(OTHER_CLAIM))
    for late in (RefundRefused(CLAIM, "400"), RefundNotSent(CLAIM, "429"), RefundAnswerLost(CLAIM)):
        assert tell(again, late).refund == again


def test_the_ids_of_the_request_are_kept_even_if_its_answer_comes_after_its_lease() -> None:
    late = tell(standing_in(U), ACCEPTED)
    assert late.refund.state is U
    assert late.refund.originator_conversation_id == "originator-1"


def test_every_state_has_a_way_out_by_time_alone() -> None:
    unsent, sending = requested(), standing_in(S)
    assert tell(unsent, RefundDue(), START + SEND_WITHIN).refund.state is F
    assert tell(unsent, RefundDue(), START + SEND_WITHIN - seconds(1)).refund.state is R
    doubted = tell(sending, RefundDue(), START + TIMES.lease).refund
    assert doubted.state is U
    assert tell(standing_in(A), RefundDue(), START + TIMES.result_within).refund.state is U
    for_a_person = tell(doubted, RefundDue(), START + DOUBT_MAX)
    assert for_a_person.told == (RefundInDoubt(REFUND, "refund-due", is_money=False),)
    assert for_a_person.refund.state is U
    assert for_a_person.refund.due_at is None
    assert tell(for_a_person.refund, RefundDue(), START + DOUBT_MAX * 2).told == ()
    assert tell(for_a_person.refund, DONE, START + DOUBT_MAX * 2).refund.state is D


def test_a_request_that_reached_nobody_is_sent_again_ever_more_slowly() -> None:
    refund, waits = requested(), []
    for number in range(20):
        claim = UUID(int=number)
        refund = led(refund, RefundClaimed(claim), RefundNotSent(claim, "429"))
        assert refund.send_at is not None
        waits.append(refund.send_at - START)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (timedelta(seconds=1), SEND_BACKOFF_MAX)


FACTS = st.one_of(
    st.sampled_from([fact for fact, _ in CELLS.values()]),
    st.builds(RefundClaimed, st.sampled_from([CLAIM, OTHER_CLAIM])),
    st.just(RefundDue()),
)


@given(st.lists(st.tuples(FACTS, st.integers(0, 90_000)), max_size=30))
def test_a_refund_is_sent_again_only_after_proof_that_it_was_not_and_what_is_done_stays_so(
    life: list[tuple[RefundFact, int]],
) -> None:
    refund, now, may_be_sent = requested(), START, True
    for fact, wait in life:
        now += seconds(wait)
        before, outcome = refund, tell(refund, fact, now)
        refund = outcome.refund
        if isinstance(fact, RefundClaimed) and not outcome.refused:
            assert may_be_sent, "sent again while its fate was unknown"
        if refund.state is not before.state:
            may_be_sent = refund.state is R and isinstance(fact, RefundNotSent)
        assert before.state is not D or refund.state is D
        ended = any(isinstance(fact, RefundDone | RefundFailed) for fact in outcome.told)
        assert ended is (refund.state is not before.state and refund.state in ENDED)
    # The timers alone bring it to an end, or to a person.
    for _ in range(6):
        if refund.due_at is None:
            break
        refund = tell(refund, RefundDue(), refund.due_at).refund
    assert refund.due_at is None
    assert refund.state in (U, D, F)


def test_the_payment_follows_its_refund() -> None:
    paid = scenes.standing_in(Standing.COMPLETED)
    assert paid.booking_action is BookingAction.CONFIRM
    asked = scenes.led(paid, RefundRequested(REFUND))
    assert (asked.state, asked.refund_status, asked.refund_id) == (State.REFUNDING, RefundStatus.PENDING, REFUND)
    returned = scenes.led(asked, RefundDone(REFUND, AMOUNT))
    assert (returned.state, returned.refund_status, returned.refunded_amount) == (
        State.REFUNDED,
        RefundStatus.DONE,
        AMOUNT,
    )


def test_a_seat_that_was_given_up_is_not_confirmed_when_the_refund_fails() -> None:
    paid = scenes.standing_in(Standing.COMPLETED)
    failed = scenes.led(paid, RefundRequested(REFUND), RefundFailed(REFUND))
    assert (failed.state, failed.refund_status) == (State.COMPLETED, RefundStatus.FAILED)
    assert failed.booking_action is BookingAction.RELEASE
    again = scenes.led(failed, RefundRequested(UUID(int=0x2)))
    assert (again.state, again.refund_id, again.refund_status) == (
        State.REFUNDING,
        UUID(int=0x2),
        RefundStatus.PENDING,
    )
