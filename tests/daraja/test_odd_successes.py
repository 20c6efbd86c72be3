"""Where a payment ends when its success arrives with something changed in it: paid, or before a person."""

from collections import Counter
from dataclasses import replace

import pytest

from payment_service.daraja.callback import read_callback
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.cases import OpenCase
from payment_service.domain.facts import DeadlinePassed, ResultReported, Unreadable, WatchEnded
from payment_service.domain.payment import State
from payment_service.domain.standings import Standing
from tests.domain import scenes
from tests.odd_successes import AMOUNT, mutated_successes, odd_successes, success

FACT_ID = "callback:1"
WATCH_END = scenes.START + scenes.seconds(1) + scenes.TIMES.watch_for


def ending(body: bytes) -> tuple[State, str | None, bool]:
    """The state, the case and whether the outcome is certain, when the watch is over and nothing else was heard."""
    told = success()["Body"]["stkCallback"]
    prompted = replace(
        scenes.standing_in(Standing.PROMPTED),
        amount=AMOUNT,
        merchant_request_id=told["MerchantRequestID"],
        checkout_request_id=told["CheckoutRequestID"],
    )
    fact = read_callback(CallbackKind.STK, body, FACT_ID)
    assert isinstance(fact, ResultReported | Unreadable)
    outcome = scenes.tell(prompted, fact, scenes.START + scenes.seconds(30))
    payment, case = outcome.payment, outcome.case
    cases = [OpenCase(case.kind, is_money=case.is_money, fact_id=FACT_ID)] if case is not None else []
    for silence in (DeadlinePassed(), WatchEnded()):
        payment = scenes.tell(payment, silence, WATCH_END, open_cases=cases).payment
    return payment.state, case.kind.value if case is not None else None, payment.outcome_certain


@pytest.mark.parametrize("name", odd_successes())
def test_a_success_with_one_odd_field_completes_its_payment(name: str) -> None:
    assert ending(odd_successes()[name]) == (State.COMPLETED, None, True)


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_success_ends_paid_or_with_a_case_and_no_certainty(seed: int) -> None:
    endings: Counter[tuple[State, str | None, bool]] = Counter()
    for _, body in mutated_successes(200, seed):
        state, case, certain = ending(body)
        assert state is State.COMPLETED or (case is not None and not certain), body
        endings[state, case, certain] += 1
    assert endings[State.COMPLETED, None, True] >= 100, "most of them are read in full"
