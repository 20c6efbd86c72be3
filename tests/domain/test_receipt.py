"""What a receipt says of money that nobody but a callback has told of."""

from datetime import timedelta

import pytest

from payment_service.domain.facts import RefundRequested
from payment_service.domain.receipt import (
    ReceiptStanding,
    paid_at,
    receipt_standing,
    receipt_touched,
    return_in_doubt,
)
from tests.domain import scenes
from tests.domain.test_backing import DOUBT, doubted, tell, told_by_callback


def test_the_receipt_waits_for_what_the_booking_waits_for() -> None:
    waiting = told_by_callback(back_first=True)
    assert receipt_standing(waiting) is None
    backed = tell(waiting, scenes.pulled()).payment
    assert receipt_standing(backed) is ReceiptStanding.PAID
    assert receipt_touched(waiting, backed)


def test_the_receipt_of_a_confirmed_booking_waits_for_nothing() -> None:
    paid = told_by_callback()
    assert receipt_standing(paid) is ReceiptStanding.PAID
    assert not receipt_touched(paid, tell(paid, scenes.pulled()).payment)


@pytest.mark.parametrize("back_first", [False, True])
def test_money_in_doubt_is_never_called_paid(back_first: bool) -> None:
    in_doubt = doubted(told_by_callback(back_first=back_first))
    assert receipt_standing(in_doubt) is (None if back_first else ReceiptStanding.UNDER_REVIEW)


def test_money_in_doubt_stays_so_until_it_has_gone_back() -> None:
    refunding = tell(doubted(told_by_callback()), RefundRequested(scenes.REFUND), None, DOUBT).payment
    assert receipt_standing(refunding) is ReceiptStanding.UNDER_REVIEW
    refunded = tell(refunding, scenes.refund_done(), None, DOUBT).payment
    assert receipt_standing(refunded) is ReceiptStanding.REFUNDED


def test_a_return_listed_under_the_receipt_of_other_money_is_no_doubt() -> None:
    mine, other, unknown = scenes.RECEIPT, scenes.OTHER_RECEIPT, "TKR7E8V9E0"
    listings: list[list[str | None]] = [[other], [unknown], [None], [mine], [other, unknown], []]
    assert [return_in_doubt(mine, listed_as, [mine, other]) for listed_as in listings] == [
        False, True, True, True, True, False,
    ]  # fmt: skip


def test_a_time_at_which_no_money_can_have_moved_is_not_said() -> None:
    asked, told = scenes.START, scenes.START + timedelta(hours=20)
    moved = asked + timedelta(minutes=1)
    assert paid_at(moved, told, asked) == moved
    for wrong in (None, asked - timedelta(hours=3), told + timedelta(seconds=1)):
        assert paid_at(wrong, told, asked) == told
