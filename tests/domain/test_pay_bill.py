"""When a passenger may pay by hand: after an end that nothing more can come of, and early enough to be found."""

from dataclasses import replace
from datetime import timedelta

import pytest

from payment_service.domain.cases import CaseKind
from payment_service.domain.pay_bill import ByHand, PayBill, found_until, pay_bill
from payment_service.domain.payment import BookingAction, State, Status
from payment_service.domain.reasons import Reason
from payment_service.domain.standings import Standing
from tests.domain import scenes
from tests.domain.scenes import START, seconds

UNTIL = START + seconds(500)
RETRY_AT = START + seconds(180)


def offered(**changed: object) -> PayBill | None:
    """For a payment whose prompt was cancelled, as a callback has told."""
    standing: dict[str, object] = {
        "until": UNTIL,
        "status": Status.CANCELLED,
        "reason": Reason.DECLINED_BY_CUSTOMER,
        "unanswered": False,
        "booking_action": BookingAction.OFFER_RETRY,
        "outcome_certain": True,
        "retry_allowed_at": RETRY_AT,
        "updated_at": START + seconds(20),
    }
    standing |= changed
    by_hand = ByHand("174379", "dxbp6tw7vg67", standing.pop("until"))  # type: ignore[arg-type]  # a time, or None
    return pay_bill(by_hand, **standing)  # type: ignore[arg-type]  # the arguments are those of the function


UNANSWERED: dict[str, object] = {
    "status": Status.EXPIRED,
    "reason": Reason.NO_ANSWER,
    "unanswered": True,
    "outcome_certain": False,
}


def test_after_a_proven_end_it_is_offered_at_once() -> None:
    assert offered() == PayBill("174379", "dxbp6tw7vg67", None, UNTIL)
    assert offered(status=Status.FAILED, reason=Reason.INSUFFICIENT_FUNDS) is not None


def test_after_a_phone_that_gave_no_answer_it_is_offered_as_soon_as_another_prompt() -> None:
    assert offered(**UNANSWERED) == PayBill("174379", "dxbp6tw7vg67", RETRY_AT, UNTIL)


@pytest.mark.parametrize(
    "changed",
    [
        {"status": Status.PROCESSING, "booking_action": BookingAction.WAIT, "outcome_certain": False},
        {"outcome_certain": False},
        {**UNANSWERED, "unanswered": False},
        {"booking_action": BookingAction.REVIEW},
        {"booking_action": BookingAction.FOLLOW_SIBLING, "reason": Reason.SIBLING_PAID},
        {"status": Status.COMPLETED, "booking_action": BookingAction.CONFIRM},
        {"reason": Reason.RECEIVER_LIMIT_REACHED},
        {"reason": Reason.WITHDRAWN},
        {"until": None},
        {"until": START + seconds(20)},
        {**UNANSWERED, "until": RETRY_AT},
    ],
    ids=[
        "a prompt on the phone",
        "a failure that only a query told",
        "silence, or a code that nobody knows",
        "money in doubt",
        "another attempt is paid",
        "paid",
        "no money can arrive",
        "withdrawn by the caller",
        "not found in the books",
        "too late when it ended",
        "too late when another attempt may begin",
    ],
)
def test_it_is_not_offered(changed: dict[str, object]) -> None:
    assert offered(**changed) is None


def test_it_ends_so_early_that_the_books_show_the_money_before_the_hold_ends() -> None:
    assert found_until(START + seconds(600), timedelta(seconds=100)) == UNTIL
    assert found_until(None, timedelta(seconds=100)) is None
    assert found_until(START, None) is None


@pytest.mark.parametrize(("moved_after", "case"), [(1, None), (-1, CaseKind.PAID_AFTER_FAILURE)])
def test_money_that_moved_after_the_failure_contradicts_nothing(moved_after: float, case: CaseKind | None) -> None:
    cancelled = scenes.standing_in(Standing.CANCELLED)
    moved_at = cancelled.updated_at + seconds(moved_after)
    outcome = scenes.tell(
        cancelled, replace(scenes.pulled(), transaction_at=moved_at), cancelled.updated_at + seconds(90)
    )
    assert (outcome.payment.state, outcome.payment.booking_action) == (State.COMPLETED, BookingAction.CONFIRM)
    assert (outcome.case and outcome.case.kind) == case
