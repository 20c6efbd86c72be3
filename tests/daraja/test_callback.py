"""Reading callbacks: what the body says is taken, what it does not say is not, and nothing is an exception."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payment_service.daraja.callback import read_callback
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import UNREADABLE, ResultReported, Source, Unreadable, Verdict

MERCHANT = "3d0e-4aa1-bf3c-0011223344551234567"
CHECKOUT = "ws_CO_23112026101500123700000001"
PAID_ITEMS: list[Any] = [
    {"Name": "Amount", "Value": 850},
    {"Name": "MpesaReceiptNumber", "Value": "TKN4ABC9XY"},
    {"Name": "Balance"},
    {"Name": "TransactionDate", "Value": 20261123101512},
    {"Name": "PhoneNumber", "Value": 254700000001},
]


def read_stk(body: bytes) -> ResultReported | Unreadable:
    return read_callback(CallbackKind.STK, body, "callback:1")


def callback(items: object = None, **fields: object) -> bytes:
    inner = {"MerchantRequestID": MERCHANT, "CheckoutRequestID": CHECKOUT, "ResultCode": 0, "ResultDesc": "ok"}
    metadata = {} if items is None else {"CallbackMetadata": {"Item": items}}
    return json.dumps({"Body": {"stkCallback": inner | metadata | fields}}).encode()


def read(body: bytes) -> ResultReported:
    fact = read_stk(body)
    assert isinstance(fact, ResultReported), fact
    return fact


def with_item(name: str, *values: object) -> list[Any]:
    return [item for item in PAID_ITEMS if item["Name"] != name] + [{"Name": name, "Value": value} for value in values]


def test_a_success_says_what_was_paid_and_when() -> None:
    body = callback(PAID_ITEMS)
    assert read(body) == ResultReported(
        fact_id="callback:1",
        source=Source.CALLBACK,
        verdict=Verdict.PAID,
        code="0",
        merchant_request_id=MERCHANT,
        checkout_request_id=CHECKOUT,
        amount=850,
        receipt="TKN4ABC9XY",
        transaction_at=datetime(2026, 11, 23, 7, 15, 12, tzinfo=UTC),
    )


def test_items_are_found_by_name_in_any_order_and_unknown_ones_are_passed_over() -> None:
    strange = [{"Name": "Discount", "Value": {"a": [1]}}, {"Name": 5}, {"Value": 3}, "text", None, [], {}]
    for items in (PAID_ITEMS[::-1], [*strange, *PAID_ITEMS], [i for i in PAID_ITEMS if i["Name"] != "Balance"]):
        fact = read(callback(items))
        assert (fact.amount, fact.receipt) == (850, "TKN4ABC9XY")


@pytest.mark.parametrize("spelled", ["1", "1.0", "1.00", '"1"', '"1.00"', "1e0", "10E-1", "1.0000000"])
def test_one_shilling_is_one_shilling_however_spelled(spelled: str) -> None:
    body = callback(with_item("Amount", "@")).replace(b'"@"', spelled.encode())
    assert read(body).amount == 1


@pytest.mark.parametrize(
    "spelled",
    [
        *("1.5", "0.999999999999999999999999", '"1.5"', '""', '"KES 1"', '" 1"', '"1,000"', '"\\u0661"', '"1e2"'),
        *("true", "false", "[]", "[1]", "{}", '{"BasicAmount": 1}', "0", "-1", "0.0", "-0.0"),
        *("1e130000", "1e99999999999999999999", "1e-99999999999999999999", "1" * 400, "1" * 400 + ".0", "100000000"),
    ],
)
def test_an_amount_that_is_no_whole_number_of_shillings_is_unreadable_and_the_rest_is_read(spelled: str) -> None:
    fact = read(callback(with_item("Amount", "@")).replace(b'"@"', spelled.encode()))
    assert (fact.amount, fact.receipt, fact.verdict) == (UNREADABLE, "TKN4ABC9XY", Verdict.PAID)


@pytest.mark.parametrize("items", [[], None, [{"Name": "Amount"}], [{"Name": "Amount", "Value": None}]])
def test_what_is_absent_is_absent(items: object) -> None:
    fact = read(callback(items))
    assert (fact.verdict, fact.amount, fact.receipt, fact.transaction_at) == (Verdict.PAID, None, None, None)


@pytest.mark.parametrize(
    "value", [12345, "short", "x" * 10, "TKN4ABC9X!", "TKN4ABC9XY\n", "A" * 21, True, ["TKN4ABC9XY"], "", "ТKN4ABC9XY"]
)
def test_what_is_no_receipt_number_leaves_the_receipt_pending(value: object) -> None:
    fact = read(callback(with_item("MpesaReceiptNumber", value)))
    assert (fact.verdict, fact.receipt, fact.amount) == (Verdict.PAID, None, 850)


@pytest.mark.parametrize("value", ["20261123101512", 20261123101512])
def test_the_date_is_nairobis(value: object) -> None:
    assert read(callback(with_item("TransactionDate", value))).transaction_at == datetime(
        2026, 11, 23, 7, 15, 12, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "value", [20261323101512, 0, 10101000000, "2026-11-23", 20261123, True, 1.5, "2026112310151２"]
)
def test_a_date_that_is_none_costs_nothing(value: object) -> None:
    fact = read(callback(with_item("TransactionDate", value)))
    assert (fact.transaction_at, fact.receipt) == (None, "TKN4ABC9XY")


def test_an_item_that_comes_twice_has_to_agree_with_itself() -> None:
    for name, same, other in (
        ("Amount", (850, "850", 850.0), 851),
        ("MpesaReceiptNumber", ("TKN4ABC9XY", "TKN4ABC9XY"), "TKN4ABC9XZ"),
        ("TransactionDate", (20261123101512, "20261123101512"), 20261123101513),
    ):
        assert (read(callback(with_item(name, *same))).amount) == 850
        assert isinstance(read_stk(callback(with_item(name, same[0], other))), Unreadable)


@pytest.mark.parametrize("code", [False, True, None, 0.0, 1.0, "0.0", "", " 0", "0 ", "٠", "paid", [], {}, "9" * 11])
def test_a_result_code_is_an_integer_or_digits_and_nothing_else(code: object) -> None:
    assert isinstance(read_stk(callback(PAID_ITEMS, ResultCode=code)), Unreadable)


def test_a_result_code_of_hundreds_of_digits_is_unreadable() -> None:
    body = callback(PAID_ITEMS).replace(b'"ResultCode": 0', b'"ResultCode": ' + b"1" * 400)
    assert isinstance(read_stk(body), Unreadable)


def test_negative_and_unlisted_codes_are_read_and_mean_nothing() -> None:
    for code in (-1, 77777, "77777"):
        fact = read(callback(ResultCode=code))
        assert (fact.code, fact.verdict) == (str(code), Verdict.UNKNOWN)


@pytest.mark.parametrize("name", ["MerchantRequestID", "CheckoutRequestID"])
@pytest.mark.parametrize("value", [None, ""])
def test_an_absent_id_does_not_contradict(name: str, value: object) -> None:
    fact = read(callback(PAID_ITEMS, **{name: value}))
    assert None in (fact.merchant_request_id, fact.checkout_request_id)


@pytest.mark.parametrize("name", ["MerchantRequestID", "CheckoutRequestID"])
@pytest.mark.parametrize("value", [5, True, [], "x" * 65, "a\nb", "a\x7f", "é", "a\ud800"])
def test_an_id_that_is_none_makes_the_body_unreadable(name: str, value: object) -> None:
    assert isinstance(read_stk(callback(PAID_ITEMS, **{name: value})), Unreadable)


GOOD = callback(PAID_ITEMS)
UNREADABLE_BODIES = {
    "empty": b"",
    "space": b"  \r\n",
    "not JSON": b"<html></html>",
    "cut": GOOD[:-1],
    "trailing": GOOD + b"{}",
    "not UTF-8": GOOD.replace(b"ok", b"\xff\xfe"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a key twice": GOOD.replace(b'"ResultCode": 0', b'"ResultCode": 1, "ResultCode": 0'),
    "an item's key twice": GOOD.replace(b'"Value": 850', b'"Value": 1, "Value": 850'),
    "NaN": GOOD.replace(b"850", b"NaN"),
    "Infinity": GOOD.replace(b"850", b"-Infinity"),
    "NUL": GOOD.replace(b"ok", b"\\u0000"),
    "a lone surrogate": GOOD.replace(b"ok", b"\\ud83d"),
    "a lone surrogate in a key": GOOD.replace(b'"ResultDesc"', b'"\\udc00"'),
    "nine levels": GOOD.replace(b'"ok"', b"[" * 6 + b"]" * 6),
    "a hundred thousand levels": b"[" * 100_000,
    "a hundred thousand levels inside": GOOD.replace(b'"ok"', b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no Body": b"{}",
    "Body null": b'{"Body": null}',
    "no callback": b'{"Body": {}}',
    "a callback that is a list": b'{"Body": {"stkCallback": []}}',
    "no ResultCode": b'{"Body": {"stkCallback": {}}}',
    "metadata that is a text": callback(CallbackMetadata="Amount=1"),
    "metadata that is a list": callback(CallbackMetadata=PAID_ITEMS),
    "items that are a text": callback("Amount"),
}


@pytest.mark.parametrize("body", UNREADABLE_BODIES.values(), ids=UNREADABLE_BODIES.keys())
def test_a_body_that_is_no_result_is_kept_as_unreadable(body: bytes) -> None:
    fact = read_stk(body)
    assert isinstance(fact, Unreadable)
    assert fact.why


def test_eight_levels_are_read_and_a_single_item_may_stand_without_its_list() -> None:
    assert read(GOOD.replace(b'"ok"', b"[" * 5 + b"]" * 5)).amount == 850
    assert read(callback({"Name": "Amount", "Value": 850})).amount == 850


def test_why_a_body_is_unreadable_quotes_nothing_of_it() -> None:
    fact = read_stk(callback(CheckoutRequestID="254700000001" * 9))
    assert isinstance(fact, Unreadable)
    assert "2547" not in fact.why


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.binary(max_size=2_000))
def test_no_bytes_are_an_exception_and_only_a_callback_is_one(body: bytes) -> None:
    # Hypothesis also draws what it finds written in these tests, so a real callback may be among them.
    if not isinstance(read_stk(body), Unreadable):
        assert "ResultCode" in json.loads(body)["Body"]["stkCallback"]


@given(
    st.dictionaries(
        st.sampled_from(["ResultCode", "MerchantRequestID", "CheckoutRequestID", "CallbackMetadata", "Extra"]),
        JSON_VALUES
        | st.fixed_dictionaries(
            {"Item": st.lists(st.fixed_dictionaries({"Name": st.just("Amount"), "Value": JSON_VALUES}))}
        ),
    )
)
def test_no_shape_is_an_exception_and_none_is_a_success_without_a_zero(fields: dict[str, Any]) -> None:
    fact = read_stk(json.dumps({"Body": {"stkCallback": fields}}).encode())
    if isinstance(fact, ResultReported) and fact.verdict is Verdict.PAID:
        assert fields["ResultCode"] in (0, "0")
        assert type(fields["ResultCode"]) in (int, str)
