"""Every fact told to a payment in every standing, also facts that make no sense there.

Nothing may raise, nothing may happen by half, and no success may be lost.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import fields, replace
from datetime import timedelta
from uuid import UUID

import pytest

from payment_service.domain.advice import customer_message
from payment_service.domain.facts import (
    UNREADABLE,
    AnswerLost,
    BackingOverdue,
    CancelRequested,
    DeadlinePassed,
    Fact,
    LeaseDead,
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
    Unreadable,
    Verdict,
    WatchEnded,
)
from payment_service.domain.finding import Surroundings
from payment_service.domain.findings import finding
from payment_service.domain.payment import (
    ENDED_UNPAID,
    LIVE_STATES,
    PAID_STATES,
    STATUS_OF,
    BookingAction,
    Payment,
    State,
    deadline,
)
from payment_service.domain.reasons import REVIEWS, Reason
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import TABLE, Outcome, apply
from payment_service.domain.views import event_type
from tests.cells import try_each
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, CLAIM, ODD_RECEIPT, OTHER_ID, OTHER_RECEIPT, RECEIPT, REFUND, TIMES

# The lines are the same for each of the pairs, and other tests count them.
pytestmark = pytest.mark.usefixtures("untraced")

STALE_CLAIM = UUID(int=0xDEAD)

PLAIN_FACTS: list[Fact] = [
    SendClaimed(UUID(int=3)),
    *(make(claim) for claim in (CLAIM, STALE_CLAIM) for make in (scenes.accepted, scenes.refused, scenes.not_sent)),
    *(kind(claim) for claim in (CLAIM, STALE_CLAIM) for kind in (AnswerLost, LeaseDead)),
    scenes.accepted(checkout="checkout-9"),
    Unreadable("body:1", "not JSON"),
    DeadlinePassed(),
    *(WatchEnded(books_cover) for books_cover in (False, True)),
    ReceiptOverdue(),
    ReceiptDue(revision=1, digest="d"),
    BackingOverdue(),
    ReceiptProven(ODD_RECEIPT),
    CancelRequested("cancel:3"),
    SiblingPaid(OTHER_ID),
    *(ask(refund) for refund in (REFUND, UUID(int=4)) for ask in (RefundRequested, scenes.send_back)),
    RefundDone(REFUND, AMOUNT),
    RefundFailed(REFUND),
    *(RefundRequested(REFUND, part=True, frees_seat=freed) for freed in (False, True)),
    *(
        RefundDone(REFUND, AMOUNT - 100, True, the_rest, others)
        for the_rest in (False, True)
        for others in (False, True)
    ),
    RefundFailed(REFUND, part=True),
    replace(scenes.send_back(UUID(int=5)), beside=True),
    *(RefundDone(UUID(int=5), AMOUNT, others_under_way=others, beside=True) for others in (False, True)),
    RefundFailed(UUID(int=5), beside=True),
    *(scenes.taken_back(receipt, in_doubt=in_doubt) for receipt in (None, RECEIPT) for in_doubt in (False, True)),
    scenes.taken_back(RECEIPT, conversation=scenes.MERCHANT),
    scenes.accept(OTHER_RECEIPT),
    scenes.dismiss(),
    *(scenes.found_refund(returned=returned, part=part) for returned in (False, True) for part in (False, True)),
    replace(scenes.found_refund(returned=True), means=None),
    replace(scenes.dismiss(), moved_to=OTHER_ID, receipt=OTHER_RECEIPT, amount=scenes.AMOUNT),
    replace(scenes.accept(OTHER_RECEIPT, "another's"), moved_from=OTHER_ID),
    *(RefundInDoubt(REFUND, "callback:9", is_money) for is_money in (False, True)),
    *(scenes.pulled(receipt, in_doubt=True) for receipt in (RECEIPT, OTHER_RECEIPT)),
]

AMOUNTS: list[tuple[int | str | None, str | None]] = [
    (None, None),
    (scenes.AMOUNT, OTHER_RECEIPT),
    (scenes.AMOUNT + 1, ODD_RECEIPT),
    (UNREADABLE, RECEIPT),
]

IDS = [(None, None), (scenes.MERCHANT, scenes.CHECKOUT), ("merchant-9", None), (None, "checkout-9")]

RESULTS: list[Fact] = [
    ResultReported("result", source, verdict, code, reason, merchant, checkout, amount, receipt)
    for (verdict, code, reason), source, ((merchant, checkout), (amount, receipt)) in itertools.product(
        (
            (Verdict.PAID, "0", None),
            (Verdict.FAILED, "1", Reason.INSUFFICIENT_FUNDS),
            (Verdict.FAILED, "2001", None),
            (Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER),
            (Verdict.UNCERTAIN, "1037", None),
            (Verdict.UNKNOWN, "77777", None),
            (Verdict.STILL_PROCESSING, "4999", None),
        ),
        Source,
        # Whose a result is and what it says of money are read apart, so not every combination is tried.
        [*itertools.product(IDS, AMOUNTS[:2]), *((IDS[1], amount) for amount in AMOUNTS[2:])],
    )
]
FACTS = PLAIN_FACTS + RESULTS

PAYMENTS = [
    *(scenes.standing_in(column, ids=ids) for column in Standing for ids in (True, False)),
    scenes.withdrawn(),
    scenes.under_refund_by_case(),
    scenes.led(scenes.standing_in(Standing.COMPLETED_BY_CALLBACK), RefundRequested(REFUND)),
    replace(scenes.standing_in(Standing.UNCERTAIN_RESULT_SEEN), result_code="1037"),
    replace(scenes.standing_in(Standing.SENDING), not_sent_count=3),
]

_SIBLING = scenes.created(payment_id=OTHER_ID, attempt=2)
SURROUNDINGS = [
    Surroundings(),
    Surroundings([scenes.standing_in(Standing.COMPLETED, start=_SIBLING)]),
    Surroundings([scenes.standing_in(Standing.PROMPTED, start=_SIBLING)], receipt_holder=OTHER_ID),
    Surroundings([scenes.standing_in(Standing.REFUNDED, start=_SIBLING)], checkout_holder=OTHER_ID),
    Surroundings(receipt_holder=scenes.PAYMENT_ID, checkout_holder=scenes.PAYMENT_ID),
]
WAITS = [timedelta(seconds=1), timedelta(seconds=70), timedelta(minutes=16), timedelta(hours=49)]


# What else is known and how late it is hardly meet in one cell, so not every combination is tried.
CIRCUMSTANCES = [(SURROUNDINGS[0], wait) for wait in WAITS] + [(around, WAITS[0]) for around in SURROUNDINGS[1:]]

Told = tuple[Payment, Fact, Surroundings, timedelta, Outcome]


@functools.cache
def all_told() -> list[Told]:
    return [
        (payment, fact, around, wait, apply(payment, fact, around, payment.updated_at + wait, TIMES))
        for payment, fact, (around, wait) in itertools.product(PAYMENTS, FACTS, CIRCUMSTANCES)
    ]


def test_what_every_fact_does_is_whole_and_counted() -> None:
    # By identity: two of the payments are equal.
    told = itertools.groupby(all_told(), lambda one: id(one[0]))
    cells = {
        f"{number}-{standing(PAYMENTS[number]).name}": (list(what_followed),)
        for number, (_, what_followed) in enumerate(told)
    }
    assert len(cells) == len(PAYMENTS)
    try_each(cells, everything_is_whole_and_counted)


def everything_is_whole_and_counted(told: list[Told]) -> None:
    untouched = {field.name for field in fields(Payment)} & {
        "payment_id", "caller", "booking_id", "reference", "attempt", "retry_of", "amount", "created_at",
        "hold_expire_at", "late_payment_policy",
    }  # fmt: skip
    for before, fact, around, wait, outcome in told:
        after = outcome.payment
        now = before.updated_at + wait
        cell = TABLE[finding(before, fact, around, now, TIMES)][standing(before)]
        if cell in ("-", "no") or outcome.refused:
            assert (after, outcome.case) == (before, None), (cell, fact)
        assert outcome.refused <= (cell in ("no", "own"))
        assert after.version - before.version == outcome.changed(before) <= 1
        assert all(getattr(after, name) == getattr(before, name) for name in untouched)
        assert after.updated_at == (now if outcome.changed(before) else before.updated_at)
        if after.state is not before.state:
            assert outcome.changed(before)
            event_type(before, after)
        status, action, certain = STATUS_OF[after.state].value, after.booking_action.value, after.outcome_certain
        sentence = customer_message(status, after.shown_reason, action, certain, "en")
        if after.booking_action is BookingAction.REVIEW:
            assert after.shown_reason in REVIEWS
        else:
            assert after.shown_reason is after.reason
        if after.state in ENDED_UNPAID and after.reason is Reason.SIBLING_PAID:
            assert after.booking_action in (BookingAction.FOLLOW_SIBLING, BookingAction.REVIEW)
            assert after.retry_allowed_at is None
        assert len(sentence) > 10
        if any(s.said_confirm for s in around.siblings) and after.state in LIVE_STATES and not after.blocks_booking:
            assert "enter your M-Pesa PIN" not in sentence
        if outcome.case is not None and outcome.case.is_money:
            assert after.money_case_open
        assert after.money_case_open or not before.money_case_open
        assert not before.said_confirm or after.said_confirm or after.refuted
        if before.receipt is not None:
            assert after.receipt == before.receipt


@pytest.mark.parametrize(
    "column",
    [
        Standing.RECEIPT_PENDING,
        Standing.COMPLETED_BY_CALLBACK,
        Standing.COMPLETED,
        Standing.REFUNDING,
        Standing.REFUNDED,
    ],
)
def test_proven_success_is_never_downgraded(column: Standing) -> None:
    for before, _, _, _, outcome in all_told():
        if standing(before) is not column:
            continue
        after = outcome.payment
        if after.state in LIVE_STATES:
            assert (column, standing(after), before.completed_at) == (Standing.REFUNDING, Standing.UNDER_REVIEW, None)
        else:
            assert after.state in PAID_STATES
            assert after.completed_at == before.completed_at
            assert column is not Standing.REFUNDED or after.state is State.REFUNDED


PROOFS_OF_MONEY = (Source.CALLBACK, Source.PULL)
"""A query brings no receipt, and a status no more than an inference of whose it is."""


def test_proven_success_completes_a_payment_or_puts_it_before_a_person() -> None:
    """A callback or the books say paid, with a receipt nobody has: whatever else is in it, somebody gets to know."""
    for before, fact, around, _, outcome in all_told():
        if not isinstance(fact, ResultReported):
            continue
        if fact.in_doubt and around.receipt_holder is not None:
            continue
        says_paid = fact.verdict is Verdict.PAID and fact.source in PROOFS_OF_MONEY and fact.receipt is not None
        if says_paid and fact.receipt != before.receipt and around.receipt_holder != before.payment_id:
            completed = outcome.payment.receipt == fact.receipt and outcome.payment.state is State.COMPLETED
            reviewed = outcome.case is not None and outcome.case.is_money
            assert completed or reviewed


def test_sending_leads_back_to_created_only_when_nothing_was_sent() -> None:
    for before, fact, _, _, outcome in all_told():
        if outcome.payment.state is State.CREATED and before.state is not State.CREATED:
            assert before.state is State.SENDING
            assert isinstance(fact, NotSent)
            assert fact.claim_id == before.claim_id
        if outcome.payment.state is State.SENDING and before.state is not State.SENDING:
            assert before.state is State.CREATED
            assert isinstance(fact, SendClaimed)


PROOFS = (NotSent, PromptRefused, ResultReported, DeadlinePassed, CancelRequested, SiblingPaid)


def test_a_payment_ends_unpaid_only_by_listed_evidence() -> None:
    ended = set()
    for before, fact, _, _, outcome in all_told():
        state = outcome.payment.state
        if state is before.state or state not in (State.FAILED, State.CANCELLED, State.EXPIRED):
            continue
        assert isinstance(fact, PROOFS)
        verdict = fact.verdict if isinstance(fact, ResultReported) else None
        match state:
            case State.FAILED if verdict is None:
                created_is_too_old = isinstance(fact, DeadlinePassed) and before.state is State.CREATED
                assert isinstance(fact, NotSent | PromptRefused) or created_is_too_old
            case State.FAILED:
                assert verdict is Verdict.FAILED
            case State.CANCELLED:
                assert verdict is Verdict.CANCELLED or before.state is State.CREATED
            case _:
                assert isinstance(fact, DeadlinePassed) or verdict is Verdict.UNCERTAIN
        ended.add((before.state, state, type(fact)))
    assert {kind for _, _, kind in ended} == set(PROOFS)


def test_an_unknown_code_or_an_unreadable_body_never_ends_anything() -> None:
    for before, fact, _, _, outcome in all_told():
        if isinstance(fact, Unreadable) or (
            isinstance(fact, ResultReported) and fact.verdict in (Verdict.UNKNOWN, Verdict.STILL_PROCESSING)
        ):
            assert outcome.payment.state in (before.state, State.UNCERTAIN)


def test_no_standing_is_left_without_a_timer_a_case_or_an_end() -> None:
    for _, _, _, _, outcome in all_told():
        after = outcome.payment
        case_open = after.money_case_open or outcome.case is not None
        assert after.due_at is not None or case_open or after.outcome_certain, after
        assert not (after.outcome_certain and after.booking_action is BookingAction.WAIT), after


def test_an_end_without_money_is_certain_by_its_proof_alone() -> None:
    for before, fact, _, _, outcome in all_told():
        after = outcome.payment
        if after.state not in (State.FAILED, State.CANCELLED, State.EXPIRED):
            continue
        assert after.outcome_certain is (after.unpaid_proof is not None and not after.unread_callback)
        if after.outcome_certain and not before.outcome_certain and isinstance(fact, WatchEnded):
            assert fact.books_cover or before.unpaid_seen_at is not None, "silence proves nothing"


EXIT_WITHIN = TIMES.watch_for
"""Nothing is open for longer than the watch of an expired payment."""
TIMERS_MAX = 4
"""Send given up, or lease, expiry and watch: more would be a circle."""


def test_from_every_payment_that_any_fact_leads_to_the_timers_alone_lead_to_an_end_or_to_a_person() -> None:
    """But for a refund under way, whose timers are the refund's own."""
    reached: dict[Payment, tuple[timedelta, bool]] = {}
    for _, _, _, wait, outcome in all_told():
        if outcome.payment.state is not State.REFUNDING:
            had_case = reached.get(outcome.payment, (wait, False))[1]
            reached[outcome.payment] = wait, outcome.case is not None or had_case
    assert {standing(payment) for payment in reached} == set(Standing) - {Standing.REFUNDING}
    for start, (wait, case_open) in reached.items():
        payment, began = start, start.updated_at + wait
        now, timers = began, 0
        while payment.due_at is not None:
            now, timers = max(now, payment.due_at), timers + 1
            assert timers <= TIMERS_MAX, start
            fact = scenes.due_fact(payment)
            if fact is None:
                # Nobody sends: the payment waits for its deadline.
                fact, now = DeadlinePassed(), max(now, deadline(payment, TIMES))
            outcome = apply(payment, fact, Surroundings(), now, TIMES)
            payment, case_open = outcome.payment, case_open or outcome.case is not None
        assert payment.outcome_certain or payment.money_case_open or case_open, start
        assert payment.booking_action is not BookingAction.WAIT, start
        assert now - began <= EXIT_WITHIN, start


def test_an_answer_changes_nothing_when_it_is_told_again() -> None:
    """The caller drops facts it knows by their ids; where ids alone were recorded, there is nothing to drop them by."""
    for before, fact, around, wait, outcome in all_told():
        if outcome.case is None and not outcome.changed(before) and isinstance(fact, PromptAccepted):
            again = apply(outcome.payment, fact, around, before.updated_at + wait, TIMES)
            assert again.payment == outcome.payment
