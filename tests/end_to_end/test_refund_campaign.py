"""The refund campaign's judge: what it must find where the books of M-Pesa and those of the service differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.end_to_end.refund_campaign import Figures, Row

WHOLE = Row("254720000001", 500, [500], [("DONE", 500)], "whole", 500, "REFUNDED")
PARTS = Row("254720000002", 500, [100, 200], [("DONE", 100), ("DONE", 200)], "parts", 300, "COMPLETED")
IN_DOUBT = Row("254720000003", 500, [], [("UNCERTAIN", 500)], "whole", 0, "REFUNDING")
FAILED = Row("254720000004", 500, [], [("FAILED", 500)], "whole", 0, "COMPLETED")


def test_books_that_agree_are_let_pass_and_so_is_a_doubt_either_way() -> None:
    for row in (WHOLE, PARTS, IN_DOUBT, FAILED, replace(IN_DOUBT, returned=[500])):
        assert row.violations(len(row.said)) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(WHOLE, returned=[500, 500]), "500 was paid and 1000 went back"),
        (replace(PARTS, returned=[100, 200, 200]), "[200] went back and nobody says so"),
        (replace(FAILED, returned=[500]), "[500] went back and nobody says so"),
        (replace(WHOLE, returned=[]), "[500] is said to be done and never went back"),
        (replace(PARTS, refunded_amount=500), "the payment says that 500 went back"),
        (replace(WHOLE, payment_state="COMPLETED"), "the payment is COMPLETED with 500 returned"),
        (replace(PARTS, said=PARTS.said[:1], returned=[100], refunded_amount=100), "2 refunds were asked for"),
    ],
)
def test_books_that_differ_are_named(row: Row, said: str) -> None:
    found = row.violations(len(PARTS.said) if row.way == "parts" else 1)
    assert any(said in one for one in found), found
    assert all(one.startswith(row.phone) for one in found)


def test_the_table_adds_up_what_each_phone_paid_and_had_back() -> None:
    figures = Figures([WHOLE, PARTS, IN_DOUBT, FAILED], orders={"orders": 4, "carried_out": 3})
    lines = str(figures).splitlines()
    assert lines[1:6] == [
        "parts: DONE, DONE       1          500           300",
        "whole: DONE             1          500           500",
        "whole: FAILED           1          500             0",
        "whole: UNCERTAIN        1          500             0",
        "total                   4        2,000           800",
    ]
    assert figures.open == 1
