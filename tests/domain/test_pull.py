"""Whose money a row of the books is: one payment's beyond doubt, a person's to look at, or nobody's here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from payment_service.domain.facts import UNREADABLE, ResultReported, Source
from payment_service.domain.pull import (
    Belonging,
    Candidate,
    Holder,
    Lookalike,
    PulledRow,
    Shelf,
    VisibleDigits,
    belonging,
)
from tests.domain.scenes import START, seconds

NOW = START + seconds(600)
PHONE = "254722000126"
MINE = Candidate(UUID(int=1), "r1", "SEAT7", "174379", 500, START)
OTHER = replace(MINE, payment_id=UUID(int=2), reference="r2")
ROW = PulledRow(
    receipt="TKA1B2C3D4",
    key="TKA1B2C3D4",
    amount=500,
    account_reference="SEAT7",
    readings=(START + seconds(20),),
    received=True,
    payer=VisibleDigits("7", "126"),
)
AT_A_TILL = replace(ROW, account_reference="")


def shelf(
    named: Sequence[Candidate] = (),
    holder: Candidate | None = None,
    lookalikes: Sequence[Lookalike] = (),
    shortcode: str = "174379",
    recorded: int | None = 500,
    moved_from: Sequence[Candidate] = (),
    *,
    proven: bool = True,
) -> Shelf:
    from_ids = frozenset(one.payment_id for one in moved_from)
    holders = {ROW.key: Holder(holder, recorded, from_ids, proven=proven)} if holder else {}
    return Shelf(shortcode, {"seat7": named} if named else {}, holders, lookalikes)


def told(row: PulledRow, on: Shelf) -> tuple[Belonging, list[tuple[int, bool]]]:
    """What was found, and for each fact the payment's number and whether it is told in doubt."""
    found, facts = belonging(row, on, NOW)
    said = []
    for candidate, fact in facts:
        assert isinstance(fact, ResultReported)
        assert (fact.source, fact.receipt, fact.amount) == (Source.PULL, row.receipt, row.amount)
        assert fact.fact_id == f"{'pull-doubt' if fact.in_doubt else 'pull'}:{row.key}"
        said.append((candidate.payment_id.int, fact.in_doubt))
    return found, said


@pytest.mark.parametrize("amount", [500, 499, UNREADABLE])
def test_the_only_payment_that_is_named_is_told_whatever_the_amount(amount: int | str) -> None:
    assert told(replace(ROW, amount=amount), shelf([MINE])) == (Belonging.OURS, [(1, False)])


@pytest.mark.parametrize(
    ("row", "on"),
    [
        (replace(ROW, readings=()), shelf([MINE])),
        (replace(ROW, readings=(START - timedelta(hours=1),)), shelf([MINE])),
        (replace(ROW, readings=(NOW + timedelta(hours=1),)), shelf([MINE])),
        (ROW, shelf([MINE], shortcode="600998")),
        (replace(ROW, received=False), shelf([MINE])),
        (replace(ROW, receipt=None, key="8c0f"), shelf([MINE])),
    ],
    ids=["no time", "before the prompt", "from the future", "at another shortcode", "of another type", "no receipt"],
)
def test_a_named_payment_that_does_not_fit_is_in_doubt(row: PulledRow, on: Shelf) -> None:
    assert told(row, on) == (Belonging.IN_DOUBT, [(1, True)])


def test_of_two_that_are_named_none_is_chosen() -> None:
    assert told(ROW, shelf([MINE, replace(OTHER, amount=70)])) == (Belonging.IN_DOUBT, [(1, True), (2, True)])


@pytest.mark.parametrize(
    ("row", "on"),
    [
        (ROW, shelf()),
        (replace(ROW, account_reference="SEAT1"), shelf([MINE])),
        (ROW, shelf(lookalikes=[Lookalike(MINE, PHONE)])),
    ],
    ids=["a name that is none of ours", "another account", "another name, for all its likeness"],
)
def test_other_money_is_left(row: PulledRow, on: Shelf) -> None:
    assert told(row, on) == (Belonging.NOT_OURS, [])


@pytest.mark.parametrize("typed", ["seat7", "Seat7", " SEAT 7 "])
def test_an_account_that_a_person_has_typed_is_the_same_in_every_spelling(typed: str) -> None:
    assert told(replace(ROW, account_reference=typed), shelf([MINE])) == (Belonging.OURS, [(1, False)])


def test_a_receipt_that_is_recorded_as_the_books_have_it_is_known() -> None:
    for named in ([], [MINE], [MINE, OTHER]):
        for row in (ROW, replace(ROW, amount=UNREADABLE)):
            assert told(row, shelf(named, MINE)) == (Belonging.KNOWN, [])


def test_a_receipt_that_only_a_callback_has_told_is_told_where_its_row_names_the_payment() -> None:
    """That proves whose it is: before, its money is not reversed. A till's rows name nobody."""
    assert told(ROW, shelf([MINE], MINE, proven=False)) == (Belonging.KNOWN, [(1, False)])
    assert told(AT_A_TILL, shelf([], MINE, proven=False)) == (Belonging.KNOWN, [])
    for other in (replace(ROW, amount=UNREADABLE), replace(ROW, received=False)):
        assert told(other, shelf([MINE], MINE, proven=False)) == (Belonging.KNOWN, [])


def test_a_row_that_backs_money_and_names_nobody_says_so() -> None:
    awaited = replace(MINE, unbacked=True)
    ((_, named),), ((_, unnamed),) = (
        belonging(row, shelf([MINE] if row is ROW else [], awaited, proven=False), NOW)[1] for row in (ROW, AT_A_TILL)
    )
    assert isinstance(named, ResultReported)
    assert isinstance(unnamed, ResultReported)
    assert (named.unnamed, unnamed.unnamed) == (False, True)


def test_a_receipt_that_is_recorded_is_judged_whatever_the_type_of_its_row() -> None:
    other_type = replace(ROW, received=False)
    assert told(other_type, shelf([MINE], MINE)) == (Belonging.KNOWN, [])
    assert told(replace(other_type, amount=1), shelf([MINE], MINE)) == (Belonging.OURS, [(1, False)])


def test_a_receipt_that_is_recorded_with_another_amount_is_told_again() -> None:
    assert told(replace(ROW, amount=1), shelf([MINE], MINE)) == (Belonging.OURS, [(1, False)])
    assert told(replace(AT_A_TILL, amount=1), shelf([], MINE)) == (Belonging.OURS, [(1, False)])


def test_what_was_recorded_with_a_receipt_is_what_the_books_are_compared_with() -> None:
    """A wrong amount that a callback brought has its case already; the books only say the same again."""
    odd = replace(ROW, amount=499)
    assert told(odd, shelf([MINE], MINE, recorded=499)) == (Belonging.KNOWN, [])
    assert told(odd, shelf([MINE], MINE, recorded=None)) == (Belonging.OURS, [(1, False)])
    assert told(ROW, shelf([MINE], MINE, recorded=None)) == (Belonging.KNOWN, [])


def test_money_that_was_moved_is_known_to_the_payment_that_the_books_name() -> None:
    assert told(ROW, shelf([MINE], OTHER, moved_from=[MINE])) == (Belonging.KNOWN, [])
    third = replace(MINE, payment_id=UUID(int=3), reference="r3")
    assert told(ROW, shelf([third], OTHER, moved_from=[MINE])) == (Belonging.IN_DOUBT, [(3, False)])


def test_a_receipt_that_is_recorded_on_another_than_the_named_one_is_told_to_that() -> None:
    assert told(ROW, shelf([OTHER], MINE)) == (Belonging.IN_DOUBT, [(2, False)])


def test_at_a_till_amount_time_and_digits_together_are_a_doubt() -> None:
    alike = [Lookalike(MINE, PHONE), Lookalike(OTHER, PHONE)]
    assert told(AT_A_TILL, shelf(lookalikes=alike[:1])) == (Belonging.IN_DOUBT, [(1, True)])
    assert told(AT_A_TILL, shelf(lookalikes=alike)) == (Belonging.IN_DOUBT, [(1, True), (2, True)])


@pytest.mark.parametrize(
    "row",
    [
        replace(AT_A_TILL, amount=501),
        replace(AT_A_TILL, readings=(START - seconds(301),)),
        replace(AT_A_TILL, readings=(START + seconds(601),)),
        replace(AT_A_TILL, readings=()),
        replace(AT_A_TILL, payer=None),
        replace(AT_A_TILL, payer=VisibleDigits("7", "127")),
        replace(AT_A_TILL, payer=VisibleDigits("722000126", "6")),
    ],
    ids=["amount", "too early", "too late", "no time", "no digits", "other digits", "too many digits"],
)
def test_at_a_till_one_thing_that_does_not_agree_is_enough(row: PulledRow) -> None:
    assert told(row, shelf(lookalikes=[Lookalike(MINE, PHONE)])) == (Belonging.NOT_OURS, [])


def test_the_first_reading_since_the_prompt_is_when_it_moved() -> None:
    """Written after UTC or after Nairobi's time, which is three hours ahead: only one can be since the prompt."""
    true = START + seconds(20)
    for readings in ((true - timedelta(hours=3), true), (true, true + timedelta(hours=3))):
        _, ((_, fact),) = belonging(replace(ROW, readings=readings), shelf([MINE]), NOW + timedelta(hours=9))
        assert isinstance(fact, ResultReported)
        assert fact.transaction_at == true
