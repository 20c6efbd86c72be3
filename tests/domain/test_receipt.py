"""What a receipt says of money that nobody but a callback has told of."""

import pytest

from payment_service.domain.facts import RefundRequested
from payment_service.domain.receipt import ReceiptStanding, receipt_standing, receipt_touched
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
