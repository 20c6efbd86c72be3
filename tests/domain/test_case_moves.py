"""Where the money of a case may go, and where it may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from payment_service.domain.case_facts import CaseDismissed
from payment_service.domain.case_moves import MoveBar, arrival, bar_to_move
from payment_service.domain.payment import LIVE_STATES, PAID_STATES, Payment
from payment_service.domain.standings import Standing
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, OTHER_ID, OTHER_RECEIPT

SOURCE = scenes.standing_in(Standing.COMPLETED)
TARGET = replace(scenes.standing_in(Standing.EXPIRED), payment_id=OTHER_ID, booking_id="BK-2")
FACT = replace(scenes.dismiss(), moved_to=OTHER_ID, receipt=OTHER_RECEIPT, amount=AMOUNT)


@pytest.mark.parametrize(
    ("target", "fact", "promised", "bar"),
    [
        (TARGET, FACT, 0, None),
        (TARGET, replace(FACT, amount=AMOUNT + 1), 0, None),
        (None, FACT, 0, MoveBar.UNKNOWN_PAYMENT),
        (replace(TARGET, caller="another"), FACT, 0, MoveBar.ANOTHER_CALLER),
        (SOURCE, FACT, 0, MoveBar.SAME_PAYMENT),
        (TARGET, replace(FACT, receipt=None), 0, MoveBar.NO_RECEIPT),
        (TARGET, replace(FACT, amount=None), 0, MoveBar.NO_RECEIPT),
        (TARGET, replace(FACT, amount=AMOUNT - 1), 0, MoveBar.TOO_LITTLE),
        (TARGET, FACT, 1, MoveBar.PROMISED),
        (TARGET, replace(FACT, receipt=scenes.RECEIPT), 0, MoveBar.OWN),
    ],
)
def test_where_money_may_go(target: Payment | None, fact: CaseDismissed, promised: int, bar: MoveBar | None) -> None:
    assert bar_to_move(SOURCE, target, (), fact, promised=promised) is bar


@pytest.mark.parametrize("column", Standing)
def test_money_goes_to_no_payment_that_has_money(column: Standing) -> None:
    target = replace(scenes.standing_in(column), payment_id=OTHER_ID, booking_id="BK-2")
    has_money = column is Standing.UNDER_REVIEW or target.state in PAID_STATES
    assert bar_to_move(SOURCE, target, (), FACT, promised=0) is (MoveBar.PAID if has_money else None)


@pytest.mark.parametrize("column", Standing)
def test_money_goes_to_no_booking_that_another_attempt_has_paid_or_may_still_pay(column: Standing) -> None:
    dead, other = scenes.standing_in(Standing.FAILED), scenes.standing_in(column)
    bar = MoveBar.LIVE_BESIDE if other.state in LIVE_STATES else None
    if column is Standing.UNDER_REVIEW or (other.state in PAID_STATES and column is not Standing.REFUTED):
        bar = MoveBar.PAID_BESIDE
    assert bar_to_move(SOURCE, TARGET, (dead, other), FACT, promised=0) is bar


def test_who_moved_it_and_from_where_is_in_the_id_of_what_the_other_payment_is_told() -> None:
    told = arrival(SOURCE, FACT)
    assert (told.receipt, told.amount, told.moved_from) == (OTHER_RECEIPT, AMOUNT, SOURCE.payment_id)
    others = [
        replace(FACT, operator="brian"), replace(FACT, why="another"), replace(FACT, receipt=scenes.ODD_RECEIPT)
    ]  # fmt: skip
    assert len({told.fact_id, FACT.fact_id, *(arrival(SOURCE, one).fact_id for one in others)}) == 5
