"""Refunds by booking: which payment is meant, and which request id is the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from payment_service.domain.booking_refunds import bar_by_booking, fee_of, latest_try, payment_to_refund, request_ids
from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund, RefundBar, RefundReason, RefundState
from payment_service.domain.standings import Standing
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, PAYMENT_ID, RECEIPT, START

PAID, GONE, UNPAID = Standing.COMPLETED, Standing.REFUNDED, Standing.FAILED


def refund(number: int, state: RefundState) -> Refund:
    return Refund(
        refund_id=UUID(int=number),
        payment_id=PAYMENT_ID,
        caller="development",
        reference="b2c3d4f5g6h7",
        shortcode="174379",
        receipt=RECEIPT,
        amount=AMOUNT,
        reason=RefundReason.OTHER,
        requested_at=START + timedelta(minutes=number),
        state=state,
    )


def attempts(*standings: Standing) -> list[Payment]:
    return [replace(scenes.standing_in(one), attempt=number) for number, one in enumerate(standings, 1)]


@pytest.mark.parametrize(
    ("standings", "meant"),
    [
        ((UNPAID, PAID, UNPAID), 2),
        ((GONE, PAID), 2),
        ((GONE, UNPAID), 1),
        ((UNPAID, Standing.EXPIRED), 2),
        ((Standing.PROMPTED, UNPAID), 1),
        ((GONE, Standing.PROMPTED), 1),
        ((Standing.REFUNDING, UNPAID), 1),
        ((Standing.UNDER_REVIEW,), 1),
    ],
)
def test_the_payment_that_holds_money_is_meant(standings: tuple[Standing, ...], meant: int) -> None:
    found = payment_to_refund(attempts(*standings))
    assert isinstance(found, Payment)
    assert found.attempt == meant


@pytest.mark.parametrize("other", [PAID, Standing.RECEIPT_PENDING, Standing.UNDER_REVIEW, Standing.REFUNDING])
def test_of_two_payments_with_money_a_person_decides(other: Standing) -> None:
    assert payment_to_refund(attempts(PAID, other)) is RefundBar.SEVERAL_PAID


def test_whether_money_may_still_come_is_told() -> None:
    unpaid, prompted = scenes.standing_in(UNPAID), scenes.standing_in(Standing.PROMPTED)
    assert bar_by_booking(unpaid, RefundBar.NOT_PAID) is RefundBar.NOT_PAID
    assert bar_by_booking(prompted, RefundBar.NOT_PAID) is RefundBar.NOT_PAID_YET
    assert bar_by_booking(prompted, RefundBar.NOT_SET_UP) is RefundBar.NOT_SET_UP


@pytest.mark.parametrize(
    ("left", "percent", "fee"),
    [(1_500, 10, 150), (1_505, 10, 150), (9, 10, 0), (500, 0, 0), (1, 99, 0)],
)
def test_a_fee_is_rounded_in_the_passengers_favour(left: int, percent: int, fee: int) -> None:
    assert fee_of(left, percent) == fee


def test_only_a_refund_that_has_failed_makes_way_for_another() -> None:
    first, failed, done = refund(1, RefundState.UNCERTAIN), refund(1, RefundState.FAILED), refund(2, RefundState.DONE)
    ids = request_ids(PAYMENT_ID, 2)
    assert latest_try(ids, {}, []).next_request_id == ids[0]
    assert latest_try(ids, {ids[0]: first.refund_id}, [first]).settled
    again = latest_try(ids, {ids[0]: failed.refund_id}, [failed])
    assert (again.settled, again.next_request_id) == (False, ids[1])
    assert latest_try(ids, {ids[0]: failed.refund_id, ids[1]: done.refund_id}, [failed, done]).refund == done


def test_an_id_that_is_used_while_this_is_read_is_the_next_one_still() -> None:
    failed, new = refund(1, RefundState.FAILED), UUID(int=2)
    ids = request_ids(PAYMENT_ID, 1)
    found = latest_try(ids, {ids[0]: failed.refund_id, ids[1]: new}, [failed])
    assert (found.refund, found.next_request_id) == (failed, ids[1])
