"""Answers of Pull Transactions in every recorded shape, and what no shape may ever become."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.pull import (
    NotRegistered,
    Page,
    PullAnswer,
    Registered,
    read_beside,
    read_page,
    read_registration,
)
from payment_service.daraja.pull_rows import read_row
from payment_service.daraja.transport import HttpAnswer
from payment_service.domain.facts import UNREADABLE
from payment_service.domain.pull import PulledRow, VisibleDigits

ROW: dict[str, Any] = {
    "transactionId": "TKA1B2C3D4",
    "trxDate": "2026-11-25T10:13:00Z",
    "msisdn": "2547 ***** 126",
    "sender": "PASSENGER",
    "transactiontype": "c2b-pay-bill-debit",
    "billreference": "n974d9n7d8dx",
    "amount": "168.00",
    "organizationname": "Virtual Coaches",
}
NAMELESS = ROW | {"transactionId": None, "billreference": ""}
OTHER = ROW | {"transactionId": "TKA1B2C3D5"}
MOMENT = datetime(2026, 11, 25, 10, 13, tzinfo=UTC)
READ = PulledRow(
    receipt="TKA1B2C3D4",
    key="TKA1B2C3D4",
    amount=168,
    account_reference="n974d9n7d8dx",
    readings=(MOMENT - timedelta(hours=3), MOMENT),
    received=True,
    payer=VisibleDigits("7", "126"),
)


def answered(body: object, status: int = 200, headers: dict[str, str] | None = None) -> PullAnswer:
    return read_page(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def receipts_in(answer: PullAnswer) -> list[str | None]:
    assert isinstance(answer, Page)
    return [listed.row.receipt for listed in answer.rows]


@pytest.mark.parametrize("code", ["1000", 1000])
@pytest.mark.parametrize("nested", [[[ROW, OTHER]], [ROW, OTHER], [[ROW], [OTHER]], [[ROW], OTHER]])
def test_rows_are_found_however_they_are_nested(code: object, nested: object) -> None:
    answer = answered({"ResponseRefID": "1", "ResponseCode": code, "ResponseMessage": "Success", "Response": nested})
    assert receipts_in(answer) == ["TKA1B2C3D4", "TKA1B2C3D5"]
    assert isinstance(answer, Page)
    assert answer.rows[0].row == READ
    assert json.loads(answer.rows[0].body) == ROW


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"ResponseCode": "1001", "ResponseMessage": "No transactions available"}),
        (200, {"ResponseCode": 1001, "Response": [[]]}),
        (200, {"ResponseCode": "1001", "Transaction": "[[]]"}),
        (200, {"ResponseCode": "1001", "ResponseMessage": "No records found or Organization Name not available"}),
        (
            200,
            {
                "ResponseCode": 500,
                "ResponseMessage": "Failed to retrieve transactions. The short code does not have any available "
                "transactions.",
            },
        ),
        (
            500,
            {
                "errorCode": "500",
                "errorMessage": "Failed to retrieve transactions. The short code does not have any available "
                "transactions.",
            },
        ),
    ],
)
def test_nothing_found_is_an_empty_page_that_proves_nothing(status: int, body: object) -> None:
    assert answered(body, status) == Page()


@pytest.mark.parametrize("nothing", [[], [[]]])
def test_an_empty_page_with_the_code_for_success_shows_that_pull_works(nothing: object) -> None:
    assert answered({"ResponseCode": "1000", "Response": nothing}) == Page(proves_pull=True)


@pytest.mark.parametrize(
    ("told", "read"), [(50, 50), ("50", 50), (0, 0), (-1, None), ("many", None), (None, None), (True, None)]
)
def test_what_the_provider_says_it_has_is_read_also_beside_no_row(told: object, read: int | None) -> None:
    for body in ({"ResponseCode": "1000", "Response": [[ROW]]}, {"ResponseCode": "1000", "Response": []}):
        answer = answered(body | {"TotalRecords": told})
        assert isinstance(answer, Page)
        assert answer.rows_told == read
    assert answered({"ResponseCode": "1001", "TotalRecords": told}) == Page(rows_told=read)


def test_pages_with_the_same_rows_have_the_same_digest_and_no_others() -> None:
    pages = [
        answered({"ResponseRefID": str(number), "ResponseCode": "1000", "Response": [rows]})
        for number, rows in enumerate([[ROW, OTHER], [ROW, OTHER], [OTHER, ROW], [ROW], [ROW, OTHER, {}]])
    ]
    digests = [page.digest for page in pages if isinstance(page, Page)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


async def test_reading_a_full_page_leaves_the_loop_to_others() -> None:
    rows = [ROW | {"transactionId": f"TKA1B2C{number:05d}"} for number in range(4000)]
    body = json.dumps({"ResponseCode": "1000", "Response": [rows]}).encode()
    turns, reading = 0, asyncio.create_task(read_beside(HttpAnswer(200, {}, body)))
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    answer = await reading
    assert isinstance(answer, Page)
    assert answer.length == 4000
    assert turns > 10, "nothing else ran while the page was read"


def test_rows_beside_the_code_for_none_are_still_rows() -> None:
    assert receipts_in(answered({"ResponseCode": "1001", "Response": [[ROW]]})) == ["TKA1B2C3D4"]


def test_what_is_no_row_is_counted_and_takes_no_other_with_it() -> None:
    odd = [{}, "text", None, 5, NAMELESS, NAMELESS | {"transactionId": "yzlyrEsy0u"}]
    answer = answered({"ResponseCode": "1000", "Response": [[odd[0], ROW, *odd[1:]], OTHER]})
    assert receipts_in(answer) == ["TKA1B2C3D4", "TKA1B2C3D5"]
    assert isinstance(answer, Page)
    assert (answer.unreadable, answer.length) == (6, 8), "the next page begins behind all of them"


def test_a_row_that_names_two_payments_is_known_as_unread() -> None:
    row = json.dumps(ROW).replace('"billreference":', '"billreference": "another", "billreference":')
    answer = answered(f'{{"ResponseCode": "1000", "Response": [[{row}]]}}'.encode())
    assert isinstance(answer, Page)
    assert (answer.rows, answer.unreadable) == ((), 1)


@pytest.mark.parametrize("receipt", ["yzlyrEsy0u", None, 7])
def test_a_row_without_a_readable_receipt_is_still_a_row_when_it_names_somebody(receipt: object) -> None:
    row = read_row(ROW | {"transactionId": receipt})
    assert row is not None
    assert (row.receipt, row.account_reference, len(row.key)) == (None, "n974d9n7d8dx", 20)
    again = read_row(ROW | {"transactionId": receipt})
    assert again == row, "it is known again"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"errorCode": "400.001", "errorMessage": "Invalid ShortCode"}, NotRegistered()),
        (200, {}, NothingLearned("HTTP_200")),
        (200, b"<html>", NothingLearned("HTTP_200")),
        (200, {"ResponseCode": "1000"}, NothingLearned("UNREADABLE_PAGE")),
        (200, {"ResponseCode": "1000", "Response": "[[]]"}, NothingLearned("UNREADABLE_PAGE")),
        (200, {"ResponseCode": "1000", "Response": {"rows": [ROW]}}, NothingLearned("UNREADABLE_PAGE")),
        (200, {"ResponseCode": "1002", "Response": [[ROW]]}, NothingLearned("1002")),
        (200, {"ResponseCode": "a" * 40}, NothingLearned("HTTP_200")),
        (200, {"ResponseCode": "500", "ResponseMessage": "Failed to retrieve transactions"}, NothingLearned("500")),
        (200, {"ResponseCode": "400.001", "ResponseMessage": "Invalid ShortCode"}, NotRegistered()),
        (500, {"ResponseCode": "1000", "Response": [[ROW]]}, NothingLearned("HTTP_500")),
        (500, {"errorCode": "500", "errorMessage": "Failed to retrieve transactions."}, NothingLearned("500")),
        (500, {"errorCode": "500.003.1001", "errorMessage": "Internal Server Error"}, NothingLearned("500.003.1001")),
        (500, {"errorCode": "a" * 40, "errorMessage": ""}, NothingLearned("HTTP_500")),
        (502, b"<html>Bad Gateway</html>", NothingLearned("HTTP_502")),
        (405, {"errorCode": "405.001", "errorMessage": "Method Not Allowed"}, NothingLearned("405.001")),
    ],
)
def test_everything_else_says_nothing(status: int, body: object, expected: PullAnswer) -> None:
    assert answered(body, status) == expected


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "401.001"), (400, "400.003.01"), (401, "401.002.01"), (401, "401.003.01"), (404, "404.001.03")],
)
def test_a_refused_token_is_told_apart_with_what_to_check(status: int, code: str) -> None:
    answer = answered({"errorCode": code, "errorMessage": "Error Occurred - Invalid Access Token"}, status)
    assert isinstance(answer, NothingLearned)
    assert (answer.code, answer.token_refused) == (code, True)
    assert "Pull Transactions" in (answer.alarm or "")
    other = answered({"errorCode": code, "errorMessage": "Bad Request"}, status)
    assert isinstance(other, NothingLearned)
    assert not other.token_refused


def test_a_rate_limit_says_how_long_to_wait() -> None:
    fault = {"fault": {"faultstring": "Spike arrest", "detail": {"errorcode": "policies.ratelimit"}}}
    assert answered(fault, 429, {"retry-after": "40"}) == NothingLearned("429", retry_after=timedelta(seconds=40))


def test_the_edges_page_is_an_alarm() -> None:
    answer = answered(b"<html>Request unsuccessful. Incapsula incident ID: 4</html>", 403)
    assert isinstance(answer, NothingLearned)
    assert (answer.code, answer.alarm is not None) == ("EDGE_REFUSED", True)


@pytest.mark.parametrize("key", ["ResponseStatus", "Response Status"])
@pytest.mark.parametrize("code", ["1000", 1000, "1001", 1001])
def test_registered_now_or_before_is_registered_in_both_spellings(key: str, code: object) -> None:
    assert read_registration(200, {}, json.dumps({key: code, "ShortCode": "600584"}).encode()) == Registered()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, {}, "UNREADABLE_REGISTRATION"),
        (200, {"ResponseStatus": "1002"}, "UNREADABLE_REGISTRATION"),
        (400, {"errorCode": "400.001", "errorMessage": "Invalid ShortCode"}, "400.001"),
        (400, {"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid NominatedNumber"}, "400.002.02"),
        (
            500,
            {
                "errorCode": "500",
                "errorMessage": "Failed to retrieve transactions. The short code does not have any available "
                "transactions.",
            },
            "HTTP_500",
        ),
        (503, b"", "HTTP_503"),
    ],
)
def test_anything_else_is_no_registration(status: int, body: object, code: str) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = read_registration(status, {}, text)
    assert isinstance(answer, NothingLearned)
    assert answer.code == code
    assert (answer.alarm is not None) is (code == "400.001")


@pytest.mark.parametrize(
    ("amount", "read"),
    [
        ("168.00", 168),
        ("168", 168),
        (168, 168),
        (Decimal("168.0"), 168),
        ("168.50", UNREADABLE),
        ("0", UNREADABLE),
        ("-5", UNREADABLE),
        ("1e3", UNREADABLE),
        (True, UNREADABLE),
        ([168], UNREADABLE),
        (None, UNREADABLE),
    ],
)
def test_an_amount_is_whole_shillings_or_none_that_agrees(amount: object, read: object) -> None:
    row = read_row(ROW | {"amount": amount})
    assert row is not None
    assert row.amount == read


@pytest.mark.parametrize(
    ("date", "readings"),
    [
        ("2026-11-25T10:13:00Z", READ.readings),
        ("2026-11-25 10:13:00", READ.readings),
        ("2026-11-25T10:13:00", READ.readings),
        ("25.11.2026 10:13:00", ()),
        ("2026-11-31T10:13:00Z", ()),
        ("2026-11-25T10:13:00.123Z", READ.readings),
        ("2026-11-25 10:13:00.5", READ.readings),
        ("20261125101300", READ.readings),
        (20261125101300, READ.readings),
        ("2026-11-25T13:13:00+03:00", (MOMENT,)),
        ("2026-11-25T13:13:00.000+0300", (MOMENT,)),
        ("2026-11-25T10:13:00+00:00", (MOMENT,)),
        ("2026-11-25T10:13:00+99:00", ()),
        ("0001-01-01T00:00:00+03:00", ()),
        ("20261131101300", ()),
        (None, ()),
    ],
)
def test_a_time_without_an_offset_is_read_both_ways_since_its_zone_lies(
    date: object, readings: tuple[datetime, ...]
) -> None:
    row = read_row(ROW | {"trxDate": date})
    assert row is not None
    assert row.readings == readings


@pytest.mark.parametrize(
    ("number", "fits"),
    [
        ("2547 ***** 126", True),
        ("2547*****126", True),
        ("254722000126", True),
        ("0722000126", True),
        ("722000126", True),
        (722000126, True),
        ("0722000***", True),
        ("2547 ***** 127", False),
        ("2541 ***** 126", False),
        (722000127, False),
        ("********126", None),
        ("*", None),
        ("PASSENGER", None),
        (None, None),
        ([722000126], None),
    ],
)
def test_the_digits_that_are_shown_are_compared_and_too_few_are_none(number: object, fits: bool | None) -> None:
    row = read_row(ROW | {"msisdn": number})
    assert row is not None
    assert (row.payer.fit("254722000126") if row.payer else None) is fits


def test_a_number_that_is_hashed_fits_its_own_and_no_other() -> None:
    digest = hashlib.sha256(b"254722000126").hexdigest()
    for shown in (digest, digest.upper(), f"{digest[:6]}********{digest[-6:]}", f"{digest[:12]}****"):
        row = read_row(ROW | {"msisdn": shown})
        assert row is not None
        assert row.payer is not None
        assert row.payer.fit("254722000126")
        assert not row.payer.fit("254722000127")
    row = read_row(ROW | {"msisdn": f"{digest[:3]}f****"})
    assert row is not None
    assert row.payer is None


@pytest.mark.parametrize(
    ("kind", "received"),
    [
        ("c2b-pay-bill-debit", True),
        ("c2b-buy-goods-debit", True),
        ("c2b-paybill-debi", True),
        (None, True),
        ("b2c-payment", False),
        ("organization-reversal", False),
        ("Fuliza M-PESA Ov", False),
        (5, False),
    ],
)
def test_only_the_listed_types_say_that_a_customer_paid(kind: object, received: bool) -> None:
    row = read_row(ROW | {"transactiontype": kind})
    assert row is not None
    assert row.received is received


@pytest.mark.parametrize(
    ("kind", "reversal"),
    [
        ("organization-reversal", True),
        ("organization-rev", True),
        ("Reversal", True),
        ("Pay Utility Reversal", True),
        ("c2b-pay-bill-debit", False),
        ("revenue-share", False),
        ("prevented", False),
        (None, False),
        (5, False),
    ],
)
def test_a_type_that_says_reversal_is_money_that_went_back(kind: object, reversal: bool) -> None:
    row = read_row(ROW | {"transactiontype": kind})
    assert row is not None
    assert row.reversal is reversal


@pytest.mark.parametrize(
    ("reference", "read"), [("SEAT7", "SEAT7"), (" SEAT7 ", "SEAT7"), ("", ""), (None, ""), (7, "7"), ("x" * 65, "")]
)
def test_a_reference_is_a_text_a_number_or_none(reference: object, read: str) -> None:
    row = read_row(ROW | {"billreference": reference})
    assert row is not None
    assert row.account_reference == read


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(ROW),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["ResponseCode", "Response", "errorCode", *ROW]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from([200, 400, 401, 429, 500, 503]), ANYTHING)
def test_no_shape_is_an_exception_and_none_without_rows_is_a_page_of_some(status: int, value: object) -> None:
    answer = answered(json.dumps(value).encode(), status)
    read_registration(status, {}, json.dumps(value).encode())
    if isinstance(answer, Page) and answer.rows:
        assert status == 200
        assert "transactionId" in json.dumps(value)
