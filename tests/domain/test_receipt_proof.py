"""What shows that a receipt is a payment's: another source than a callback, which names this payment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from payment_service.domain.finding import Finding
from payment_service.domain.payment import Backing
from payment_service.domain.receipt_proof import proof_of
from payment_service.domain.standings import Standing
from tests.domain import scenes
from tests.domain.scenes import CHECKOUT, MERCHANT

PAID = scenes.standing_in(Standing.COMPLETED_BY_CALLBACK)


@pytest.mark.parametrize("row", [Finding.PAID_LISTED, Finding.PAID_KNOWN_RECEIPT, Finding.PAID_NEW_RECEIPT])
def test_the_books_and_the_status_of_the_transaction_prove_a_receipt(row: Finding) -> None:
    assert proof_of(PAID, scenes.pulled(), row, new=False) is Backing.BOOKS
    assert proof_of(PAID, scenes.status_paid(MERCHANT), row, new=False) is Backing.STATUS


def test_no_callback_no_query_and_no_doubt_proves_a_receipt() -> None:
    listed = scenes.pulled()
    for fact in (scenes.paid(), scenes.query_paid(CHECKOUT), replace(listed, in_doubt=True)):
        assert proof_of(PAID, fact, Finding.PAID_LISTED, new=False) is None
    for row in (Finding.FOREIGN_PAID, Finding.NO_NEWS, Finding.PAID_IN_DOUBT):
        assert proof_of(PAID, listed, row, new=True) is None


def test_a_row_that_names_no_payment_proves_no_receipt() -> None:
    assert proof_of(PAID, replace(scenes.pulled(), unnamed=True), Finding.PAID_LISTED, new=False) is None


def test_a_status_that_was_asked_by_ids_of_the_callback_proves_no_receipt() -> None:
    by_callback = scenes.clocked(PAID, {"ids_from_callback": True})
    assert proof_of(by_callback, scenes.status_paid(MERCHANT), Finding.PAID_LISTED, new=False) is None


def test_another_amount_proves_the_receipt_that_it_came_with() -> None:
    assert proof_of(PAID, scenes.pulled(), Finding.WRONG_AMOUNT, new=True) is Backing.BOOKS
    assert proof_of(PAID, scenes.pulled(), Finding.WRONG_AMOUNT, new=False) is None


def test_what_is_known_with_one_amount_is_not_proven_by_another() -> None:
    listed = scenes.pulled()
    assert proof_of(PAID, listed, Finding.PAID_KNOWN_RECEIPT, new=False, brought=500) is Backing.BOOKS
    assert proof_of(PAID, listed, Finding.PAID_KNOWN_RECEIPT, new=False, brought=5000) is None
