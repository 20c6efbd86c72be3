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
from tests.odd_successes import AMOUNT, RECEIPT, mutated_successes, odd_successes

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
    read = read_callback(CallbackKind.STK, body, "callback:1")
    assert isinstance(read, ResultReported | Unreadable)
    return read


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


@pytest.mark.parametrize(
    "shown",
    [254700000001, "2547****001", "07****001", "010****222", "", None, "9f" * 32, "9f86d081****0f00a08", [], {}],
)
def test_what_is_shown_of_the_payers_number_decides_nothing(shown: object) -> None:
    assert read(callback(with_item("PhoneNumber", shown))) == read(callback(PAID_ITEMS))
    assert read(callback(with_item("PhoneNumber"))) == read(callback(PAID_ITEMS))
    assert read(callback(with_item("PhoneNumber", 254700000001, shown))) == read(callback(PAID_ITEMS))


def test_an_item_that_comes_twice_counts_once_if_it_agrees_with_itself() -> None:
    for name, same in (
        ("Amount", (850, "850", 850.0)),
        ("MpesaReceiptNumber", ("TKN4ABC9XY", "TKN4ABC9XY", "no receipt")),
        ("TransactionDate", (20261123101512, "20261123101512")),
    ):
        assert read(callback(with_item(name, *same))) == read(callback(PAID_ITEMS))


@pytest.mark.parametrize(
    ("name", "values"), [("Amount", (850, 851)), ("MpesaReceiptNumber", ("TKN4ABC9XY", "TKN4ABC9XZ"))]
)
def test_money_that_contradicts_itself_is_paid_and_for_a_person_to_look_at(
    name: str, values: tuple[object, ...]
) -> None:
    fact = read(callback(with_item(name, *values)))
    assert (fact.verdict, fact.amount) == (Verdict.PAID, UNREADABLE)


@pytest.mark.parametrize("name", ["MerchantRequestID", "CheckoutRequestID"])
def test_a_failure_that_names_two_prompts_is_not_believed(name: str) -> None:
    body = callback(ResultCode=1032).replace(b'"ResultCode":', b'"%s": "another", "ResultCode":' % name.encode())
    assert isinstance(read_stk(body), Unreadable)


def test_two_dates_cost_nothing_but_the_date() -> None:
    fact = read(callback(with_item("TransactionDate", 20261123101512, 20261123101513)))
    assert (fact.amount, fact.receipt, fact.transaction_at) == (850, "TKN4ABC9XY", None)


@pytest.mark.parametrize("code", [False, True, None, 0.0, 1.0, "0.0", "", " 0", "0 ", "٠", "paid", [], {}, "-0"])
def test_a_result_code_is_an_integer_or_digits_and_nothing_else(code: object) -> None:
    assert isinstance(read_stk(callback(PAID_ITEMS, ResultCode=code)), Unreadable)


@pytest.mark.parametrize("spelled", [b"-0", b"1" * 400])
def test_a_number_that_nobody_means_is_no_result_code(spelled: bytes) -> None:
    assert isinstance(
        read_stk(callback(PAID_ITEMS).replace(b'"ResultCode": 0', b'"ResultCode": ' + spelled)), Unreadable
    )


@pytest.mark.parametrize("code", [254712345678, "254712345678", 712345678])
def test_a_code_that_may_be_a_phone_number_stands_nowhere_in_clear(code: object) -> None:
    fact = read(callback(ResultCode=code))
    assert (fact.code, fact.verdict) == ("UNLISTED", Verdict.UNKNOWN)


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
def test_an_id_that_is_none_is_absent_and_costs_nothing_else(name: str, value: object) -> None:
    fact = read(callback(PAID_ITEMS, **{name: value}))
    assert None in (fact.merchant_request_id, fact.checkout_request_id)
    assert (fact.verdict, fact.amount, fact.receipt) == (Verdict.PAID, 850, "TKN4ABC9XY")


GOOD = callback(PAID_ITEMS)
UNREADABLE_BODIES = {
    "empty": b"",
    "space": b"  \r\n",
    "not JSON": b"<html></html>",
    "cut": GOOD[:-1],
    "trailing": GOOD + b"{}",
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a key twice": GOOD.replace(b'"ResultCode": 0', b'"ResultCode": 1, "ResultCode": 0'),
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
    "two results": b"[" + GOOD + b"," + GOOD + b"]",
}


@pytest.mark.parametrize("body", UNREADABLE_BODIES.values(), ids=UNREADABLE_BODIES.keys())
def test_a_body_that_is_no_result_is_kept_as_unreadable(body: bytes) -> None:
    fact = read_stk(body)
    assert isinstance(fact, Unreadable)
    assert fact.why


@pytest.mark.parametrize("code", [1, 1032, 1037, 77777])
def test_a_failure_that_names_a_receipt_is_not_believed(code: int) -> None:
    assert isinstance(read_stk(callback(PAID_ITEMS, ResultCode=code)), Unreadable)


@pytest.mark.parametrize("name", odd_successes())
def test_a_defect_in_a_field_costs_no_other_field(name: str) -> None:
    fact = read(odd_successes()[name])
    assert (fact.verdict, fact.amount, fact.receipt) == (Verdict.PAID, AMOUNT, RECEIPT)
    assert fact.checkout_request_id in ("ws_CO_23112026101500123700000001", None)


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_success_is_never_taken_for_no_money(seed: int) -> None:
    for receipt, body in mutated_successes(200, seed):
        fact = read_stk(body)
        if isinstance(fact, ResultReported) and fact.verdict is not Verdict.PAID:
            assert receipt.encode() not in body, body
            assert b'"ResultCode": 0,' not in body, body


def test_why_a_body_is_unreadable_quotes_nothing_of_it() -> None:
    fact = read_stk(json.dumps({"Body": {"stkCallback": {"ResultCode": "254700000001 x"}}}).encode())
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
        assert b"resultcode" in body.lower()


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
