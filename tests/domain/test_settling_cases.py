"""Cases as operators settle them: every kind and every resolution, wherever the payment stands.

The expectations of the walk are written in rules of their own, not read off the table.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from payment_service.domain.case_facts import CaseAccepted, CaseDismissed
from payment_service.domain.case_rules import RULES, Resolution, deadline_of, rules_of
from payment_service.domain.cases import Case, CaseKind, OpenCase
from payment_service.domain.facts import DeadlinePassed, Fact, RefundRequested, ResultReported, SiblingPaid, WatchEnded
from payment_service.domain.finding import Finding
from payment_service.domain.payment import (
    LIVE_STATES,
    PAID_STATES,
    BookingAction,
    Payment,
    RefundStatus,
    State,
    UnpaidProof,
)
from payment_service.domain.reasons import Reason
from payment_service.domain.refund_ends import RefundFailed
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import Outcome
from tests.cells import try_each
from tests.domain import scenes
from tests.domain.scenes import ODD_RECEIPT, OTHER_ID, OTHER_RECEIPT, RECEIPT, START

C, S, P, U0, U1, UR, K0, KC, K, KR, F0, X0, F, X, E, RG, RD = Standing
OWN = (CaseKind.LATE_PAYMENT, CaseKind.DUPLICATE_PAYMENT)
"""Cases about the money that the payment is complete by."""
NOT_MONEY = (
    CaseKind.CONTRADICTION, CaseKind.PAID_AFTER_FAILURE, CaseKind.UNREAD_CALLBACK, CaseKind.OUTCOME_UNKNOWN,
    CaseKind.CALLBACK_GIVEN_UP, CaseKind.UNKNOWN_PAYMENT,
)  # fmt: skip

REFUND_CASE = Case(CaseKind.REFUND, is_money=False)


def open_case(kind: CaseKind, fact_id: str = "opened", receipt: str | None = None) -> OpenCase:
    return OpenCase(kind, kind not in NOT_MONEY, fact_id, receipt)


def held(payment: Payment, case: OpenCase) -> Payment:
    """The payment as its open case makes it."""
    return scenes.clocked(
        payment,
        {
            "money_case_open": payment.money_case_open or case.is_money,
            "unread_callback": payment.unread_callback or case.kind == CaseKind.UNREAD_CALLBACK,
        },
    )


def settle(payment: Payment, case: OpenCase, resolution: Resolution, receipt: str | None = None) -> Outcome:
    beside = case.kind == CaseKind.SECOND_RECEIPT
    facts: dict[Resolution, Fact] = {
        Resolution.ACCEPT: scenes.accept(receipt),
        Resolution.DISMISS: scenes.dismiss(),
        Resolution.RETURN: replace(scenes.send_back(receipt=receipt), beside=beside, frees_seat=not beside),
        Resolution.REFUNDED: scenes.found_refund(returned=True),
        Resolution.NOT_REFUNDED: scenes.found_refund(returned=False),
        Resolution.MOVE: replace(scenes.dismiss(), moved_to=OTHER_ID, receipt=receipt, amount=scenes.AMOUNT),
    }
    fact = facts[resolution]
    return scenes.tell(payment, fact, payment.updated_at + timedelta(hours=1), open_cases=[case])


def test_every_kind_has_a_resolution_a_deadline_and_advice() -> None:
    assert set(RULES) == set(CaseKind)
    for kind, rules in RULES.items():
        assert bool(rules.resolutions) is (kind is not CaseKind.CALLBACK_GIVEN_UP)
        assert len(set(rules.resolutions)) == len(rules.resolutions)
        assert rules.suggested in (*rules.resolutions, None)
        assert START < deadline_of(kind, START) <= START + timedelta(days=3)
        assert rules.advice.endswith(".")


def test_the_ways_of_each_kind() -> None:
    """Money that may be the payment's is accepted, its own is accepted or returned, and the rest is dismissed."""
    a, d, r = Resolution.ACCEPT, Resolution.DISMISS, Resolution.RETURN
    ways = {kind: set(rules.resolutions) for kind, rules in RULES.items()}
    assert [kind for kind, allowed in ways.items() if r in allowed] == [
        CaseKind.LATE_PAYMENT, CaseKind.WRONG_AMOUNT, CaseKind.DUPLICATE_PAYMENT, CaseKind.SECOND_RECEIPT,
    ]  # fmt: skip
    told = (Resolution.REFUNDED, Resolution.NOT_REFUNDED)
    assert [kind for kind, allowed in ways.items() if allowed.intersection(told)] == [CaseKind.REFUND]
    assert {kind for kind, allowed in ways.items() if d not in allowed} == {
        CaseKind.RECEIPT_OVERDUE, CaseKind.CALLBACK_GIVEN_UP,
    }  # fmt: skip
    assert {kind for kind, allowed in ways.items() if a not in allowed} == {
        CaseKind.SECOND_RECEIPT, CaseKind.REFUND, CaseKind.TAKEN_BACK, CaseKind.UNKNOWN_PAYMENT,
        CaseKind.CALLBACK_GIVEN_UP, CaseKind.OTHER_PROMPT, CaseKind.CONTRADICTION, CaseKind.PAID_AFTER_FAILURE,
    }  # fmt: skip


def test_a_kind_of_a_newer_release_is_left_to_it() -> None:
    assert rules_of("SOMETHING_NEW").resolutions == ()
    assert rules_of("LATE_PAYMENT") is RULES[CaseKind.LATE_PAYMENT]


def refusal_due(kind: CaseKind, resolution: Resolution, column: Standing) -> Finding | None:
    """Why it must be refused, with a receipt that nobody has and no other attempt."""
    if resolution is Resolution.ACCEPT:
        if kind in OWN:
            refused = Finding.ACCEPTED_FREED if column is KR else Finding.OWN_ACCEPTED
            return None if column in (K0, KC, K) else refused
        if kind is CaseKind.UNBACKED_MONEY:
            return None if column is KC else Finding.BACKED_BY_PERSON
        if column is KR:
            return Finding.ACCEPTED_FREED
        return Finding.CASE_ACCEPTED if column in (KC, K, RG, RD) else None
    if resolution is Resolution.RETURN and kind is CaseKind.SECOND_RECEIPT:
        return None if column in (KC, K, KR, RG, RD) else Finding.BESIDE_ASKED
    if resolution is Resolution.RETURN:
        return None if column in (UR, KC, K) else Finding.REFUND_BY_CASE
    if resolution in (Resolution.REFUNDED, Resolution.NOT_REFUNDED):
        return None
    if kind in (CaseKind.LATE_PAYMENT, CaseKind.DUPLICATE_PAYMENT) and column is KR:
        return None
    if kind in (CaseKind.LATE_PAYMENT, CaseKind.RECEIPT_OVERDUE, CaseKind.DUPLICATE_PAYMENT):
        return Finding.DISMISSED_OWN
    under_way = (kind, column) in ((CaseKind.WRONG_AMOUNT, UR), (CaseKind.REFUND, RG))
    return Finding.DISMISSED_OWN if under_way else None


WALK = {
    f"{kind}-{resolution}-{column.name}": (kind, resolution, column)
    for kind, resolution, column in itertools.product(CaseKind, Resolution, Standing)
}


@pytest.mark.usefixtures("untraced")
def test_a_settled_case_leads_where_it_should() -> None:
    try_each(WALK, settled_case_leads_where_it_should)


def settled_case_leads_where_it_should(kind: CaseKind, resolution: Resolution, column: Standing) -> None:
    case = open_case(kind)
    before = held(scenes.standing_in(column), case)
    outcome = settle(before, case, resolution, OTHER_RECEIPT)
    after, refusal = outcome.payment, refusal_due(kind, resolution, column)
    if refusal is not None:
        assert (outcome.refused, outcome.row, after, outcome.ended) == (True, refusal, before, ())
        return
    if resolution is Resolution.RETURN:
        # The case ends once the money has gone back, and not before.
        stays = kind is CaseKind.SECOND_RECEIPT
        assert (after.state, after.refund_id) == (before.state if stays else State.REFUNDING, scenes.REFUND)
        assert case not in outcome.ended or Resolution.RETURN not in RULES[kind].resolutions
        return
    assert case in outcome.ended
    assert after.version - before.version == outcome.changed(before) <= 1
    if resolution in (Resolution.REFUNDED, Resolution.NOT_REFUNDED):
        if column is RG:
            assert standing(after) is (RD if resolution is Resolution.REFUNDED else K)
        return
    if resolution is Resolution.ACCEPT:
        assert after.state is State.COMPLETED
        if kind in OWN or kind is CaseKind.UNBACKED_MONEY:
            assert after.receipt == before.receipt
        else:
            assert after.receipt == OTHER_RECEIPT
        # Beside the case that the walk settles, a payment under review has one about its amount.
        still_held = column is UR and kind is not CaseKind.WRONG_AMOUNT and after.money_case_open
        assert after.said_confirm or still_held or column is K0
    else:
        assert (after.state, after.receipt) == (before.state, before.receipt)
        refuted = kind is CaseKind.UNBACKED_MONEY and column is KC
        assert after.said_confirm is (before.said_confirm and not refuted), "a dismissal confirms nothing here"
    if column is not UR:
        assert not after.money_case_open
    assert not after.unread_callback
    # What is neither certain nor live nor paid without its receipt has nothing that would ever look at it again.
    if kind is CaseKind.OUTCOME_UNKNOWN and resolution is Resolution.DISMISS and after.state not in PAID_STATES:
        assert after.outcome_certain or after.state in LIVE_STATES


def test_late_money_that_is_accepted_confirms_the_booking() -> None:
    expired = scenes.standing_in(Standing.EXPIRED)
    late = scenes.tell(expired, scenes.paid(), expired.updated_at + timedelta(hours=1))
    assert late.case is not None
    assert (late.case.kind, late.payment.booking_action) == (CaseKind.LATE_PAYMENT, BookingAction.REVIEW)
    outcome = settle(late.payment, open_case(CaseKind.LATE_PAYMENT, receipt=RECEIPT), Resolution.ACCEPT)
    after = outcome.payment
    assert (after.booking_action, after.said_confirm, after.outcome_certain) == (BookingAction.CONFIRM, True, True)
    assert (after.version, after.receipt, outcome.case) == (late.payment.version + 1, RECEIPT, None)


def test_money_that_is_accepted_is_not_put_before_a_person_again_for_being_late() -> None:
    expired = scenes.standing_in(Standing.EXPIRED)
    case = open_case(CaseKind.UNCLAIMED_MONEY, receipt=OTHER_RECEIPT)
    outcome = settle(held(expired, case), case, Resolution.ACCEPT, OTHER_RECEIPT)
    assert (outcome.payment.paid_late, outcome.case) == (True, None)
    assert outcome.payment.booking_action is BookingAction.CONFIRM


def test_the_review_goes_with_the_last_case_about_money() -> None:
    expired = held(scenes.standing_in(Standing.EXPIRED), open_case(CaseKind.UNCLAIMED_MONEY))
    two = [open_case(CaseKind.UNCLAIMED_MONEY), open_case(CaseKind.FOREIGN_IDS, "another")]
    at = expired.updated_at
    once = scenes.tell(expired, scenes.dismiss(), at, open_cases=two)
    assert (once.ended, once.payment.money_case_open) == ((two[0],), True)
    twice = scenes.tell(once.payment, scenes.dismiss("another"), at, open_cases=two[1:])
    assert (twice.payment.money_case_open, twice.payment.booking_action) == (False, BookingAction.OFFER_RETRY)
    assert twice.changed(once.payment)


def test_a_dismissal_about_no_money_changes_nothing_that_a_caller_sees() -> None:
    complete = scenes.standing_in(K)
    case = open_case(CaseKind.PAID_AFTER_FAILURE)
    outcome = settle(complete, case, Resolution.DISMISS)
    assert (outcome.payment, outcome.ended) == (complete, (case,))


def test_money_that_is_another_payments_is_not_accepted() -> None:
    expired = held(scenes.standing_in(E), open_case(CaseKind.UNCLAIMED_MONEY))
    outcome = scenes.tell(
        expired,
        scenes.accept(OTHER_RECEIPT),
        expired.updated_at,
        receipt_holder=OTHER_ID,
        open_cases=[open_case(CaseKind.UNCLAIMED_MONEY)],
    )
    assert (outcome.refused, outcome.row, outcome.payment) == (True, Finding.ACCEPTED_ANOTHERS, expired)


def test_money_that_no_receipt_names_is_not_accepted() -> None:
    expired = scenes.standing_in(E)
    outcome = settle(expired, open_case(CaseKind.OUTCOME_UNKNOWN), Resolution.ACCEPT)
    assert (outcome.refused, outcome.row) == (True, Finding.ACCEPTED_UNNAMED)


def confirmed_sibling() -> Payment:
    return scenes.standing_in(K, start=scenes.created(payment_id=OTHER_ID, attempt=2))


def test_at_most_one_attempt_confirms_whatever_operators_accept() -> None:
    sibling = confirmed_sibling()
    assert sibling.said_confirm
    case = open_case(CaseKind.DUPLICATE_PAYMENT)
    paid_too = scenes.tell(scenes.standing_in(P), scenes.paid(OTHER_RECEIPT), START, siblings=[sibling]).payment
    assert paid_too.booking_action is BookingAction.REVIEW
    accepted = scenes.tell(paid_too, scenes.accept(), START, siblings=[sibling], open_cases=[case])
    assert (accepted.refused, accepted.row) == (True, Finding.ACCEPTED_BESIDE)
    dismissed = scenes.tell(paid_too, scenes.dismiss(), START, siblings=[sibling], open_cases=[case])
    assert (dismissed.ended, dismissed.payment.said_confirm) == ((case,), False)
    assert (dismissed.payment.booking_action, dismissed.payment.shown_reason) == (BookingAction.FOLLOW_SIBLING, None)


def test_a_duplicate_is_not_dismissed_into_a_confirmation() -> None:
    """The other attempt is complete and waits for its receipt: neither has confirmed the booking yet."""
    sibling = scenes.standing_in(K0, start=scenes.created(payment_id=OTHER_ID, attempt=2))
    case = open_case(CaseKind.DUPLICATE_PAYMENT)
    paid_too = scenes.tell(scenes.standing_in(P), scenes.paid(OTHER_RECEIPT), START, siblings=[sibling]).payment
    dismissed = scenes.tell(paid_too, scenes.dismiss(), START, siblings=[sibling], open_cases=[case])
    assert (dismissed.refused, dismissed.row) == (True, Finding.DISMISSED_OWN)
    accepted = scenes.tell(paid_too, scenes.accept(), START, siblings=[sibling], open_cases=[case])
    assert accepted.payment.booking_action is BookingAction.CONFIRM


@pytest.mark.parametrize("accepted_first", ["late", "second"])
def test_of_a_late_payment_and_a_second_one_only_the_first_accepted_is_kept(accepted_first: str) -> None:
    expired = scenes.standing_in(E)
    late = scenes.tell(expired, scenes.paid(), expired.updated_at + timedelta(hours=1)).payment
    prompted = scenes.standing_in(P, start=scenes.created(payment_id=OTHER_ID, attempt=2))
    second = scenes.tell(prompted, scenes.paid(OTHER_RECEIPT), START, siblings=[late]).payment
    of_late, of_second = open_case(CaseKind.LATE_PAYMENT), open_case(CaseKind.DUPLICATE_PAYMENT)
    one, other = ((late, of_late), (second, of_second))[:: 1 if accepted_first == "late" else -1]
    kept = scenes.tell(one[0], scenes.accept(), START, siblings=[other[0]], open_cases=[one[1]]).payment
    assert kept.booking_action is BookingAction.CONFIRM
    beside = scenes.tell(other[0], scenes.accept(), START, siblings=[kept], open_cases=[other[1]])
    assert (beside.refused, beside.row) == (True, Finding.ACCEPTED_BESIDE)
    assert (beside.payment.money_case_open, beside.ended) == (True, ())


@pytest.mark.parametrize("proof", [scenes.paid(OTHER_RECEIPT), scenes.query_paid()], ids=["receipt", "second answer"])
def test_a_receipt_that_comes_after_another_attempt_has_confirmed_calls_a_person(proof: ResultReported) -> None:
    """The second payment was accepted when neither had confirmed, and then the first one was."""
    late = scenes.standing_in(K0, start=scenes.created(payment_id=OTHER_ID, attempt=2))
    duplicate = open_case(CaseKind.DUPLICATE_PAYMENT)
    prompted = scenes.standing_in(P)
    pending = scenes.tell(prompted, scenes.query_paid(), START, siblings=[late]).payment
    accepted = scenes.tell(pending, scenes.accept(), START, siblings=[late], open_cases=[duplicate]).payment
    assert (standing(accepted), accepted.booking_action) == (K0, BookingAction.WAIT)
    at = START + timedelta(minutes=5)
    outcome = scenes.tell(accepted, proof, at, siblings=[confirmed_sibling()])
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.DUPLICATE_PAYMENT, True)
    assert (outcome.payment.booking_action, outcome.payment.said_confirm) == (BookingAction.REVIEW, False)
    again = scenes.tell(pending, proof, at, siblings=[confirmed_sibling()], open_cases=[duplicate])
    assert (again.case, again.ended, again.payment.money_case_open) == (None, (), True), "a person looks already"


def test_money_accepted_beside_a_paid_attempt_is_a_duplicate() -> None:
    sibling = confirmed_sibling()
    case = open_case(CaseKind.UNCLAIMED_MONEY, receipt=OTHER_RECEIPT)
    expired = held(scenes.tell(scenes.standing_in(E), SiblingPaid(OTHER_ID), START).payment, case)
    outcome = scenes.tell(expired, scenes.accept(OTHER_RECEIPT), START, siblings=[sibling], open_cases=[case])
    assert outcome.case is not None
    assert outcome.case.kind is CaseKind.DUPLICATE_PAYMENT
    assert (outcome.payment.said_confirm, outcome.payment.money_case_open) == (False, True)


def test_a_review_is_over_when_its_amount_is_accepted() -> None:
    review = scenes.standing_in(UR)
    case = open_case(CaseKind.WRONG_AMOUNT, receipt=ODD_RECEIPT)
    after = settle(review, case, Resolution.ACCEPT, ODD_RECEIPT).payment
    assert (standing(after), after.receipt, after.reason) == (K, ODD_RECEIPT, None)
    assert (after.booking_action, after.paid_late) == (BookingAction.CONFIRM, False)


def test_a_receipt_that_an_operator_has_found_ends_the_wait_for_it() -> None:
    pending = held(scenes.standing_in(K0), open_case(CaseKind.RECEIPT_OVERDUE))
    after = settle(pending, open_case(CaseKind.RECEIPT_OVERDUE), Resolution.ACCEPT, OTHER_RECEIPT).payment
    assert (standing(after), after.receipt, after.booking_action) == (K, OTHER_RECEIPT, BookingAction.CONFIRM)


def test_what_a_person_could_not_find_either_is_certainly_unpaid() -> None:
    expired = scenes.standing_in(E)
    watched = scenes.tell(expired, WatchEnded(), START + timedelta(hours=49))
    assert watched.case is not None
    assert (watched.case.kind, watched.payment.outcome_certain) == (CaseKind.OUTCOME_UNKNOWN, False)
    after = settle(watched.payment, open_case(CaseKind.OUTCOME_UNKNOWN), Resolution.DISMISS).payment
    assert (after.outcome_certain, after.unpaid_proof) == (True, UnpaidProof.PERSON)
    # Money that comes all the same is never dropped.
    assert scenes.tell(after, scenes.paid(), after.updated_at).payment.state is State.COMPLETED


def test_accepting_money_ends_all_doubts_about_the_same_receipt() -> None:
    cases = [
        open_case(CaseKind.FOREIGN_IDS, receipt=OTHER_RECEIPT),
        open_case(CaseKind.UNCLAIMED_MONEY, "books", OTHER_RECEIPT),
        open_case(CaseKind.UNCLAIMED_MONEY, "other money", RECEIPT),
    ]
    expired = held(scenes.standing_in(E), cases[0])
    outcome = scenes.tell(expired, scenes.accept(OTHER_RECEIPT), expired.updated_at, open_cases=cases)
    assert outcome.ended == tuple(cases[:2])
    assert (outcome.payment.receipt, outcome.payment.money_case_open) == (OTHER_RECEIPT, True)


def test_a_case_that_is_not_open_any_more_is_no_news() -> None:
    complete = scenes.standing_in(K)
    for fact in (scenes.accept(OTHER_RECEIPT, "gone"), scenes.dismiss("gone")):
        outcome = scenes.tell(complete, fact, complete.updated_at, open_cases=[open_case(CaseKind.LATE_PAYMENT)])
        assert (outcome.payment, outcome.refused, outcome.ended) == (complete, False, ())


def test_a_review_ends_when_the_money_has_gone_back() -> None:
    complete = held(scenes.standing_in(RG), open_case(CaseKind.LATE_PAYMENT))
    cases = [open_case(CaseKind.LATE_PAYMENT), open_case(CaseKind.SECOND_RECEIPT, "second")]
    outcome = scenes.tell(complete, scenes.refund_done(), complete.updated_at, open_cases=cases)
    assert outcome.ended == (cases[0],)
    assert outcome.payment.state is State.REFUNDED


def returning(payment: Payment, kind: CaseKind) -> tuple[Payment, OpenCase]:
    """The payment while the money of its case is on its way back, and that case."""
    case = open_case(kind)
    before = held(payment, case)
    after = scenes.tell(before, scenes.send_back(), before.updated_at, open_cases=[case]).payment
    return after, replace(case, refund_id=scenes.REFUND, returns=(scenes.REFUND,))


@pytest.mark.parametrize(
    ("kind", "column"),
    [(CaseKind.LATE_PAYMENT, K), (CaseKind.DUPLICATE_PAYMENT, K), (CaseKind.WRONG_AMOUNT, UR)],
)
def test_a_case_ends_when_its_money_has_gone_back_and_is_decided_again_when_it_has_not(
    kind: CaseKind, column: Standing
) -> None:
    payment, case = returning(scenes.standing_in(column), kind)
    done = scenes.tell(payment, scenes.refund_done(), payment.updated_at, open_cases=[case])
    assert (done.payment.state, done.ended, done.payment.money_case_open) == (State.REFUNDED, (case,), False)
    assert done.payment.booking_action is BookingAction.RELEASE
    failed = scenes.tell(payment, RefundFailed(scenes.REFUND), payment.updated_at, open_cases=[case])
    assert (standing(failed.payment), failed.ended, failed.payment.money_case_open) == (column, (), True)
    assert failed.case is None, "the case that is open already is in the operator's hands again"


def test_the_return_of_a_rest_that_fails_gives_its_case_back_and_opens_no_other() -> None:
    case = replace(open_case(CaseKind.LATE_PAYMENT), refund_id=scenes.REFUND, returns=(scenes.REFUND,))
    payment = scenes.led(scenes.standing_in(K), replace(scenes.send_back(), part=True))
    failed = RefundFailed(scenes.REFUND, part=True)
    outcome = scenes.tell(payment, failed, payment.updated_at, open_cases=[case])
    assert (outcome.case, outcome.ended) == (None, ())
    assert (outcome.payment.refund_status, outcome.payment.awaits_refund) == (RefundStatus.FAILED, False)
    beside = scenes.tell(payment, failed, payment.updated_at, open_cases=[replace(case, refund_id=UUID(int=2))])
    assert beside.case is not None, "of a part that no case waits for, a person is told"


@pytest.mark.parametrize("again", [True, False], ids=["while a second is under way", "alone"])
@pytest.mark.parametrize(
    ("kind", "column"),
    [(CaseKind.LATE_PAYMENT, K), (CaseKind.DUPLICATE_PAYMENT, K), (CaseKind.WRONG_AMOUNT, UR)],
)
def test_a_case_ends_when_a_return_that_had_failed_is_done_after_all(
    kind: CaseKind, column: Standing, again: bool
) -> None:
    payment, case = returning(scenes.standing_in(column), kind)
    payment = scenes.tell(payment, RefundFailed(scenes.REFUND), payment.updated_at, open_cases=[case]).payment
    case = replace(case, refund_id=None)
    if again:
        second = UUID(int=2)
        payment = scenes.tell(payment, scenes.send_back(second), payment.updated_at, open_cases=[case]).payment
        case = replace(case, refund_id=second, returns=(*case.returns, second))
    done = scenes.tell(payment, scenes.refund_done(), payment.updated_at, open_cases=[case])
    assert done.payment.state is State.REFUNDED
    assert (done.ended, done.payment.money_case_open) == ((case,), False)


@pytest.mark.parametrize(
    ("kind", "column"),
    [(CaseKind.LATE_PAYMENT, K), (CaseKind.DUPLICATE_PAYMENT, K), (CaseKind.WRONG_AMOUNT, UR)],
)
def test_money_whose_seat_is_released_is_not_accepted_after_its_return_has_failed(
    kind: CaseKind, column: Standing
) -> None:
    payment, case = returning(scenes.standing_in(column), kind)
    failed = scenes.tell(payment, RefundFailed(scenes.REFUND), payment.updated_at, open_cases=[case]).payment
    again = replace(case, refund_id=None)
    accepted = settle(failed, again, Resolution.ACCEPT, OTHER_RECEIPT)
    assert (accepted.refused, accepted.row) == (True, Finding.ACCEPTED_FREED)
    assert (accepted.payment, accepted.ended) == (failed, ())
    returned = settle(failed, again, Resolution.RETURN)
    assert (returned.refused, returned.payment.state) == (False, State.REFUNDING)


def test_money_is_not_accepted_while_its_rest_is_on_its_way_back() -> None:
    """After a part, the rest goes by B2C, and the payment stays complete meanwhile."""
    case = open_case(CaseKind.LATE_PAYMENT)
    before = held(scenes.standing_in(K), case)
    rest = replace(scenes.send_back(), part=True)
    payment = scenes.tell(before, rest, before.updated_at, open_cases=[case]).payment
    assert (payment.state, payment.booking_action) == (State.COMPLETED, BookingAction.RELEASE)
    under_way = replace(case, refund_id=scenes.REFUND, returns=(scenes.REFUND,))
    for resolution in (Resolution.ACCEPT, Resolution.DISMISS):
        outcome = settle(payment, under_way, resolution)
        assert (outcome.refused, outcome.payment, outcome.ended) == (True, payment, ())


@pytest.mark.parametrize("kind", [CaseKind.LATE_PAYMENT, CaseKind.DUPLICATE_PAYMENT])
def test_money_whose_return_has_failed_may_have_gone_back_by_other_means(kind: CaseKind) -> None:
    payment, case = returning(scenes.standing_in(K), kind)
    failed = scenes.tell(payment, RefundFailed(scenes.REFUND), payment.updated_at, open_cases=[case]).payment
    dismissed = settle(failed, replace(case, refund_id=None), Resolution.DISMISS)
    assert (dismissed.refused, [one.kind for one in dismissed.ended]) == (False, [kind])
    assert dismissed.payment.booking_action is BookingAction.RELEASE


@pytest.mark.parametrize("resolution", [Resolution.ACCEPT, Resolution.DISMISS, Resolution.RETURN])
@pytest.mark.parametrize("kind", [CaseKind.LATE_PAYMENT, CaseKind.DUPLICATE_PAYMENT, CaseKind.WRONG_AMOUNT])
def test_nothing_else_is_decided_while_money_is_on_its_way_back(kind: CaseKind, resolution: Resolution) -> None:
    payment, case = returning(scenes.standing_in(UR if kind is CaseKind.WRONG_AMOUNT else K), kind)
    outcome = settle(payment, case, resolution, OTHER_RECEIPT)
    assert (outcome.refused, outcome.payment, outcome.ended) == (True, payment, ())


def test_a_person_who_finds_that_nothing_went_back_gives_the_money_to_its_case_again() -> None:
    payment, case = returning(scenes.standing_in(K), CaseKind.LATE_PAYMENT)
    doubt = open_case(CaseKind.REFUND, "doubt")
    fact = scenes.found_refund(returned=False, opened_by="doubt")
    outcome = scenes.tell(payment, fact, payment.updated_at, open_cases=[case, doubt])
    assert (standing(outcome.payment), outcome.ended, outcome.case) == (K, (doubt,), None)
    fact = scenes.found_refund(returned=True, opened_by="doubt")
    outcome = scenes.tell(payment, fact, payment.updated_at, open_cases=[case, doubt])
    assert (standing(outcome.payment), outcome.ended) == (RD, (case, doubt))
    assert outcome.payment.refunded_amount == scenes.AMOUNT


@pytest.mark.parametrize(
    ("returned", "the_rest", "column", "left", "opened"),
    [(False, False, K, scenes.AMOUNT, REFUND_CASE), (True, False, K, 100, None), (True, True, RD, 100, None)],
)
def test_what_is_found_of_a_part_leaves_the_payment_as_the_part_does(
    returned: bool, the_rest: bool, column: Standing, left: int, opened: Case | None
) -> None:
    """`the_rest`: what was not in this part had gone back before."""
    paid, doubt = scenes.standing_in(K), open_case(CaseKind.REFUND, "doubt")
    asked = scenes.tell(paid, RefundRequested(scenes.REFUND, part=True), paid.updated_at).payment
    fact = scenes.found_refund(returned=returned, part=True, the_rest=the_rest, opened_by="doubt")
    outcome = scenes.tell(asked, fact, asked.updated_at, open_cases=[doubt])
    assert (standing(outcome.payment), outcome.ended, outcome.case) == (column, (doubt,), opened)
    assert scenes.AMOUNT - outcome.payment.refunded_amount == left
    assert not outcome.payment.refund_under_way


def test_money_that_is_found_not_to_have_gone_back_stays_on_a_list_where_no_case_holds_it() -> None:
    """A refund of late money that began by itself has ended the case of that money."""
    paid, doubt = scenes.standing_in(K), open_case(CaseKind.REFUND, "doubt")
    asked = scenes.tell(paid, RefundRequested(scenes.REFUND, by_itself=Reason.PAID_LATE), paid.updated_at).payment
    fact = scenes.found_refund(returned=False, opened_by="doubt")
    outcome = scenes.tell(asked, fact, asked.updated_at, open_cases=[doubt])
    assert (standing(outcome.payment), outcome.ended, outcome.case) == (K, (doubt,), REFUND_CASE)


def test_who_and_why_are_part_of_what_the_chain_vouches_for() -> None:
    one = CaseAccepted(scenes.CASE, "opened", "amina", "has the message", OTHER_RECEIPT)
    assert one.fact_id.startswith(f"case:{scenes.CASE}:")
    for other in (
        replace(one, operator="brian"),
        replace(one, why="has none"),
        replace(one, receipt=RECEIPT),
        CaseDismissed(scenes.CASE, "opened", "amina", "has the message"),
    ):
        assert other.fact_id != one.fact_id
    assert "amina" not in one.fact_id
    assert replace(one, amount=5).fact_id == one.fact_id


def test_a_deadline_that_passes_beside_an_open_case_settles_none() -> None:
    prompted = held(scenes.standing_in(P), open_case(CaseKind.UNCLAIMED_MONEY))
    outcome = scenes.tell(
        prompted, DeadlinePassed(), prompted.expires_at, open_cases=[open_case(CaseKind.UNCLAIMED_MONEY)]
    )
    assert outcome.ended == ()


@pytest.mark.parametrize("column", [C, S, P, U0, U1, F0, X0, F, X, E])
def test_money_that_is_moved_settles_the_payment_that_it_belongs_to(column: Standing) -> None:
    moved = replace(
        scenes.accept(OTHER_RECEIPT, "a case of another payment"), moved_from=OTHER_ID, amount=scenes.AMOUNT
    )
    before = scenes.standing_in(column)
    outcome = scenes.tell(before, moved, before.updated_at + timedelta(hours=1), receipt_holder=OTHER_ID)
    assert (outcome.payment.state, outcome.payment.receipt) == (State.COMPLETED, OTHER_RECEIPT)
    assert outcome.payment.booking_action is BookingAction.CONFIRM
    # It is another's in the meantime: proven there, or moved there by somebody else.
    anothers = scenes.tell(before, moved, before.updated_at + timedelta(hours=1), receipt_holder=scenes.CASE)
    assert (anothers.refused, anothers.row) == (True, Finding.ACCEPTED_ANOTHERS)
