"""Money that Safaricom sends back at the payer's request: whose it was, and what the booking is told."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from payment_service.domain.advice import customer_message
from payment_service.domain.cases import CaseKind, OpenCase
from payment_service.domain.facts import UNREADABLE, ResultReported, Source, TakenBack
from payment_service.domain.payment import BookingAction, Payment
from payment_service.domain.pull import Belonging, Candidate, Holder, PulledRow, Shelf, belonging
from payment_service.domain.reasons import Reason
from payment_service.domain.refund_facts import RefundReported, RefundVerdict
from payment_service.domain.standings import Standing, standing
from tests.domain import scenes
from tests.domain.scenes import ODD_RECEIPT, OTHER_ID, OTHER_RECEIPT, RECEIPT, START, seconds

NOW = START + seconds(600)
MINE = Candidate(UUID(int=1), "r1", "SEAT7", "174379", 500, START)
OTHER = replace(MINE, payment_id=UUID(int=2), reference="r2")
REVERSAL = PulledRow(
    receipt="TKR7E8V9E0",
    key="TKR7E8V9E0",
    amount=500,
    account_reference="SEAT7",
    readings=(START + seconds(300),),
    received=False,
    reversal=True,
)
UNDER_ITS_RECEIPT = replace(REVERSAL, receipt=RECEIPT, key=RECEIPT)


def shelf(*named: Candidate, holder: Holder | None = None, brought: tuple[int | None, ...] = (500,)) -> Shelf:
    return Shelf(
        "174379",
        {"seat7": named} if named else {},
        {RECEIPT: holder} if holder else {},
        received={one.payment_id: brought for one in named},
    )


def told(row: PulledRow, on: Shelf) -> tuple[Belonging, list[tuple[int, str | None, bool]]]:
    """What was found, and for each fact the payment's number, the receipt that went back, and whether in doubt."""
    found, facts = belonging(row, on, NOW)
    said = []
    for candidate, fact in facts:
        assert isinstance(fact, TakenBack)
        assert (fact.source, fact.shown_as, fact.amount) == (Source.PULL, row.receipt, row.amount)
        said.append((candidate.payment_id.int, fact.receipt, fact.in_doubt))
    return found, said


def test_a_reversal_takes_the_money_of_the_only_payment_that_it_can_mean() -> None:
    taken = (Belonging.TAKEN_BACK, [(1, None, False)])
    assert told(REVERSAL, shelf(MINE)) == taken
    assert told(REVERSAL, shelf(MINE, brought=())) == taken, "the money has not been told yet"
    assert told(replace(REVERSAL, amount=499), shelf(MINE, brought=(499,))) == taken, "a wrong amount that came"
    by_receipt = (Belonging.TAKEN_BACK, [(1, RECEIPT, False)])
    assert told(UNDER_ITS_RECEIPT, shelf(MINE, holder=Holder(MINE, 500))) == by_receipt
    assert told(replace(UNDER_ITS_RECEIPT, account_reference=""), shelf(holder=Holder(MINE, 500))) == by_receipt


@pytest.mark.parametrize(
    ("row", "on"),
    [
        (REVERSAL, shelf(MINE, brought=(500, 500))),
        (replace(REVERSAL, amount=300), shelf(MINE)),
        (replace(REVERSAL, amount=UNREADABLE), shelf(MINE)),
        (replace(REVERSAL, readings=()), shelf(MINE)),
        (replace(REVERSAL, readings=(START - seconds(3600),)), shelf(MINE)),
        (REVERSAL, shelf(replace(MINE, shortcode="600998"))),
    ],
    ids=["paid twice", "a part", "no amount", "no time", "before the prompt", "another shortcode"],
)
def test_a_reversal_that_may_be_of_other_money_is_in_doubt(row: PulledRow, on: Shelf) -> None:
    assert told(row, on) == (Belonging.IN_DOUBT, [(1, None, True)])


def test_of_two_payments_with_one_reference_neither_is_guessed() -> None:
    assert told(REVERSAL, shelf(MINE, OTHER)) == (Belonging.IN_DOUBT, [(1, None, True), (2, None, True)])
    assert told(UNDER_ITS_RECEIPT, shelf(OTHER, holder=Holder(MINE, 500))) == (
        Belonging.IN_DOUBT,
        [(1, RECEIPT, True)],
    )


def test_a_reversal_that_a_refund_of_ours_has_led_to_is_no_news() -> None:
    refunded = replace(MINE, refunded=True)
    assert told(REVERSAL, shelf(refunded)) == (Belonging.REFUNDED, [])
    assert told(UNDER_ITS_RECEIPT, shelf(refunded, holder=Holder(refunded, 500))) == (Belonging.REFUNDED, [])
    assert told(REVERSAL, shelf()) == (Belonging.NOT_OURS, [])


def open_case(kind: CaseKind, shown_as: str | None = None) -> OpenCase:
    return OpenCase(kind, is_money=True, fact_id="opened", receipt=shown_as)


def held(payment: Payment) -> Payment:
    return scenes.clocked(payment, {"money_case_open": True})


def test_a_confirmed_booking_is_released_and_a_person_hears_of_it() -> None:
    paid = scenes.standing_in(Standing.COMPLETED)
    assert paid.booking_action is BookingAction.CONFIRM
    outcome = scenes.tell(paid, scenes.taken_back(), NOW)
    after = outcome.payment
    assert standing(after) is Standing.REFUNDED
    assert (after.shown_reason, after.booking_action) == (Reason.TAKEN_BACK, BookingAction.RELEASE)
    assert (after.outcome_certain, after.blocks_booking, after.receipt) == (True, False, RECEIPT)
    assert outcome.case is not None
    assert (outcome.case.kind, outcome.case.is_money) == (CaseKind.TAKEN_BACK, True)
    for language, word in (("en", "not paid"), ("sw", "haijalipiwa")):
        assert word in customer_message("REFUNDED", after.shown_reason, "RELEASE", after.outcome_certain, language)


@pytest.mark.parametrize("kind", [CaseKind.LATE_PAYMENT, CaseKind.DUPLICATE_PAYMENT])
def test_nobody_has_to_decide_about_money_that_the_payer_has_back(kind: CaseKind) -> None:
    outcome = scenes.tell(
        held(scenes.standing_in(Standing.COMPLETED)), scenes.taken_back(), NOW, open_cases=[open_case(kind)]
    )
    assert [case.kind for case in outcome.ended] == [kind]
    assert outcome.case is not None
    assert outcome.case.kind is CaseKind.TAKEN_BACK


def test_a_dismissed_case_gives_the_booking_no_money_back() -> None:
    taken = scenes.led(scenes.standing_in(Standing.COMPLETED), scenes.taken_back())
    after = scenes.tell(taken, scenes.dismiss(), NOW, open_cases=[open_case(CaseKind.TAKEN_BACK)]).payment
    assert (after.state, after.money_case_open) == (taken.state, False)
    assert (after.shown_reason, after.booking_action) == (Reason.TAKEN_BACK, BookingAction.RELEASE)


@pytest.mark.parametrize("later", [scenes.paid(), scenes.pulled(), scenes.query_paid(), scenes.failed()])
def test_old_news_of_the_money_makes_it_no_payment_again(later: ResultReported) -> None:
    taken = scenes.led(scenes.standing_in(Standing.COMPLETED), scenes.taken_back())
    after = scenes.tell(taken, later, NOW, receipt_holder=taken.payment_id if later.receipt else None).payment
    assert (after.state, after.booking_action) == (taken.state, BookingAction.RELEASE)


def test_only_the_money_that_a_payment_stands_on_takes_it_away() -> None:
    paid = scenes.standing_in(Standing.COMPLETED)
    other = scenes.tell(paid, scenes.taken_back(OTHER_RECEIPT), NOW)
    twice = scenes.tell(held(paid), scenes.taken_back(), NOW, open_cases=[open_case(CaseKind.SECOND_RECEIPT)])
    for outcome in (other, twice):
        assert standing(outcome.payment) is Standing.COMPLETED
        assert outcome.payment.booking_action is BookingAction.CONFIRM
        assert outcome.case is not None
        assert outcome.case.kind is CaseKind.TAKEN_BACK
    named = scenes.tell(held(paid), scenes.taken_back(RECEIPT), NOW, open_cases=[open_case(CaseKind.SECOND_RECEIPT)])
    assert standing(named.payment) is Standing.REFUNDED
    reviewed = scenes.standing_in(Standing.UNDER_REVIEW)
    assert standing(scenes.tell(reviewed, scenes.taken_back(ODD_RECEIPT), NOW).payment) is Standing.REFUNDED


def test_the_same_reversal_seen_again_opens_no_second_case() -> None:
    failed = held(scenes.standing_in(Standing.FAILED))
    seen = [open_case(CaseKind.TAKEN_BACK, "TKR7E8V9E0")]
    assert scenes.tell(failed, scenes.taken_back(), NOW, open_cases=seen).case is None
    assert scenes.tell(failed, scenes.taken_back(shown_as="TKR7E8V9E1"), NOW, open_cases=seen).case is not None


def test_what_went_back_before_the_payment_was_known_as_paid_holds_the_booking() -> None:
    failed = scenes.standing_in(Standing.FAILED)
    after = scenes.tell(failed, scenes.taken_back(), NOW).payment
    assert (after.state, after.booking_action) == (failed.state, BookingAction.REVIEW)
    assert after.shown_reason is Reason.MONEY_IN_DOUBT


def test_a_payment_that_was_taken_back_beside_a_paid_one_leaves_that_alone() -> None:
    sibling = scenes.standing_in(Standing.COMPLETED, start=scenes.created(payment_id=OTHER_ID, attempt=2))
    paid = scenes.standing_in(Standing.COMPLETED)
    after = scenes.tell(paid, scenes.taken_back(), NOW, siblings=[sibling]).payment
    assert after.booking_action is BookingAction.RELEASE


def test_a_reversal_ends_the_refund_that_nobody_could_tell_of() -> None:
    refunded = replace(MINE, refunded=True)
    uncertain = replace(refunded, uncertain_refund=UUID(int=9))
    found, facts = belonging(REVERSAL, shelf(uncertain), NOW)
    (told,) = [fact for _, fact in facts]
    assert isinstance(told, RefundReported)
    assert (found, told.verdict, told.amount) == (Belonging.REFUNDED, RefundVerdict.ALREADY_REVERSED, 500)
    for row, on in (
        (REVERSAL, shelf(refunded)),
        (replace(REVERSAL, amount=499), shelf(uncertain)),
        (REVERSAL, shelf(uncertain, brought=(500, 500))),
        (REVERSAL, shelf(uncertain, replace(OTHER, refunded=True))),
    ):
        assert belonging(row, on, NOW) == (Belonging.REFUNDED, []), "it may be of other money"
