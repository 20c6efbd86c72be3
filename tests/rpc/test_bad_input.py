"""Bad input: every bad field at once, by name, with what was expected; and nothing is left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import callback_service_pb2 as callback_pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money

from payment_service.domain.errors import InvalidRequest, PageTokenInvalid
from payment_service.domain.payment import LatePaymentPolicy, PhoneWarning
from payment_service.rpc.cursors import Page, page_token, read_page_token
from payment_service.rpc.fields import PHONE_EXPECTED
from payment_service.rpc.requests import Initiation, parse_initiation, parse_list
from runtime.key_rings import KeyRing
from tests.databases import Database
from tests.rows import count
from tests.rpc.answers import refused
from tests.rpc.processes import SHORTCODES, Process
from tests.rpc.test_methods import a_message

LATEST = pb.WatchPaymentsRequest.POSITION_LATEST
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def initiation_of(message: pb.InitiatePaymentRequest, *, refunds_late_money: bool = False) -> Initiation:
    return parse_initiation(message, SHORTCODES, NOW, refunds_late_money=refunds_late_money)


def violations(**changed: Any) -> dict[str, str]:
    try:
        initiation = initiation_of(a_message(**changed))
    except InvalidRequest as error:
        return {violation.field: violation.description for violation in error.violations}
    return {violation.field: violation.description for violation in initiation.unless_repeated}


def stamp(moment: datetime) -> Timestamp:
    return Timestamp(seconds=int(moment.timestamp()))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0712345678", "254712345678"),
        ("0112345678", "254112345678"),
        ("254712345678", "254712345678"),
        ("+254712345678", "254712345678"),
        (" +254 712-345 678 ", "254712345678"),
    ],
)
def test_a_phone_number_is_understood_in_every_usual_spelling(text: str, number: str) -> None:
    assert initiation_of(a_message(phone_number=text)).request.phone_number == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "712345678",
        "07123456789",
        "071234567",
        "0212345678",
        "+255712345678",
        "+1 202 555 0100",
        "254 0712345678",
        "07१2345678",
        "0712345678;",
        "0712345678\n",
        "0" * 10_000,
    ],
)
def test_what_is_no_kenyan_mobile_number_is_refused_without_repeating_it(text: str) -> None:
    found = violations(phone_number=text)
    assert list(found) == ["phone_number"]
    assert found["phone_number"] == PHONE_EXPECTED


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("0712345678", None),
        ("0733000000", PhoneWarning.NOT_A_SAFARICOM_PREFIX),
        ("0770000000", PhoneWarning.NOT_A_SAFARICOM_PREFIX),
        ("0110000000", None),
        # A prefix that nobody is known to have: it may be Safaricom's newest.
        ("0199000000", None),
    ],
)
def test_another_networks_prefix_is_a_warning(text: str, warning: PhoneWarning | None) -> None:
    assert initiation_of(a_message(phone_number=text)).warning is warning


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 65}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
        ({"request_id": "ä"}, "request_id"),
        ({"booking_id": ""}, "booking_id"),
        ({"booking_id": "b\n"}, "booking_id"),
        ({"amount": None}, "amount"),
        ({"amount": Money(currency_code="KES", units=0)}, "amount.units"),
        ({"amount": Money(currency_code="KES", units=-5)}, "amount.units"),
        ({"amount": Money(currency_code="KES", units=1, nanos=500_000_000)}, "amount.nanos"),
        ({"amount": Money(currency_code="KES", units=250_001)}, "amount.units"),
        ({"amount": Money(currency_code="KES", units=2**63 - 1)}, "amount.units"),
        ({"amount": Money(currency_code="KES", units=9), "shortcode": "600000"}, "amount.units"),
        ({"amount": Money(currency_code="USD", units=5)}, "amount.currency_code"),
        ({"amount": Money(units=5)}, "amount.currency_code"),
        ({"amount": Money(currency_code="KES", units=499, decimal_text="499.99")}, "amount.decimal_text"),
        ({"amount": Money(currency_code="KES", units=499, decimal_text="499.001")}, "amount.decimal_text"),
        ({"amount": Money(currency_code="KES", units=499, decimal_text="500")}, "amount.decimal_text"),
        ({"amount": Money(currency_code="KES", units=499, decimal_text="4,99")}, "amount.decimal_text"),
        ({"amount": Money(currency_code="KES", units=499, decimal_text="٤٩٩")}, "amount.decimal_text"),
        ({"account_reference": "TENLETTERS"}, "account_reference"),
        ({"account_reference": "A-1"}, "account_reference"),
        ({"description": "fourteen chars"}, "description"),
        ({"description": "bus!"}, "description"),
        ({"description": "   "}, "description"),
        ({"shortcode": "12"}, "shortcode"),
        ({"shortcode": "999999"}, "shortcode"),
        ({"language_code": "fr"}, "language_code"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"metadata": {"a key": "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 201}}, "metadata.k"),
        ({"metadata": {"k": "a\0b"}}, "metadata.k"),
        ({"hold_expire_time": stamp(NOW - timedelta(seconds=1))}, "hold_expire_time"),
        ({"hold_expire_time": stamp(NOW + timedelta(days=400))}, "hold_expire_time"),
        ({"hold_expire_time": Timestamp(seconds=2**62)}, "hold_expire_time"),
        ({"hold_expire_time": Timestamp(seconds=1, nanos=-1)}, "hold_expire_time"),
        ({"late_payment_policy": 77}, "late_payment_policy"),
    ],
)
def test_each_bad_field_is_named(changed: dict[str, object], field: str) -> None:
    found = violations(**changed)
    assert list(found) == [field]
    assert found[field].startswith("expected")


@pytest.mark.parametrize("text", ["", "500", "500.0", "500.00", "0500"])
def test_a_decimal_text_that_says_the_same_changes_nothing(text: str) -> None:
    amount = Money(currency_code="KES", units=500, decimal_text=text)
    plain = Money(currency_code="KES", units=500)
    assert initiation_of(a_message(amount=amount)).request == initiation_of(a_message(amount=plain)).request


def test_a_refund_of_late_money_is_asked_for_only_where_its_operator_allows_it() -> None:
    wanted = payment_pb2.LATE_PAYMENT_POLICY_REFUND
    refusal = violations(late_payment_policy=wanted)
    assert list(refusal) == ["late_payment_policy"]
    assert "PAYMENTS_AUTOMATIC_REFUND_MAX_KES" in refusal["late_payment_policy"]
    allowed = initiation_of(a_message(late_payment_policy=wanted), refunds_late_money=True)
    assert (allowed.request.late_payment_policy, allowed.unless_repeated) == (LatePaymentPolicy.REFUND, ())


def test_what_the_configuration_decides_stays_left_out_of_the_request() -> None:
    request = initiation_of(a_message()).request
    assert (request.shortcode, request.description, request.language_code) == ("", "", "en")


async def test_all_violations_come_at_once_and_the_id_stays_free(process: Process, database: Database) -> None:
    bad = a_message(
        phone_number="12",
        amount=Money(currency_code="USD", units=0, nanos=1),
        description="!",
        account_reference="?",
        language_code="xx",
        hold_expire_time=Timestamp(seconds=1),
    )
    refusal = await refused(process.payments.InitiatePayment(bad))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.domain) == ("INVALID_REQUEST", "mpesa-payments")
    assert set(refusal.fields) == {
        "phone_number",
        "amount.currency_code",
        "amount.units",
        "amount.nanos",
        "description",
        "account_reference",
        "language_code",
        "hold_expire_time",
    }
    assert await count(database, "payment_transactions") == 0
    assert not (await process.payments.InitiatePayment(a_message())).replayed


async def test_a_repeated_request_is_the_same_payment_after_its_hold_has_expired(process: Process) -> None:
    hold = stamp(process.writers.clock() + timedelta(minutes=5))
    first = await process.payments.InitiatePayment(a_message(hold_expire_time=hold))
    process.writers.clock.move(600)
    again = await process.payments.InitiatePayment(a_message(hold_expire_time=hold))
    assert again.replayed
    assert again.payment.payment_id == first.payment.payment_id
    new = await refused(process.payments.InitiatePayment(a_message(request_id="request-2", hold_expire_time=hold)))
    assert list(new.fields) == ["hold_expire_time"]


async def test_reads_and_watches_name_what_is_missing_or_malformed(process: Process) -> None:
    # Enum numbers as a client in another language may send them.
    none: Any = 0
    unknown: Any = 99
    for call, field in (
        (process.payments.GetPayment(pb.GetPaymentRequest()), "target"),
        (process.payments.GetPayment(pb.GetPaymentRequest(payment_id="x")), "payment_id"),
        (process.payments.GetPayment(pb.GetPaymentRequest(reference="short")), "reference"),
        (process.payments.ListPayments(pb.ListPaymentsRequest(page_size=-1)), "page_size"),
        (process.payments.ListPayments(pb.ListPaymentsRequest(statuses=[none])), "statuses"),
        (process.payments.ListPayments(pb.ListPaymentsRequest(booking_id="b\0")), "booking_id"),
        (process.payments.ListPayments(pb.ListPaymentsRequest(mpesa_receipt_number="-")), "mpesa_receipt_number"),
        (
            process.payments.ListPayments(pb.ListPaymentsRequest(create_time_from=Timestamp(seconds=-(2**61)))),
            "create_time_from",
        ),
        (_first(process.payments.WatchPayment(pb.WatchPaymentRequest())), "target"),
        (_first(process.payments.WatchPayment(pb.WatchPaymentRequest(booking_id="?"))), "booking_id"),
        (_first(process.payments.WatchPayments(pb.WatchPaymentsRequest())), "start"),
        (_first(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=none))), "position"),
        (
            _first(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=LATEST, statuses=[unknown]))),
            "statuses",
        ),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert list(refusal.fields) == [field]


async def test_page_tokens_are_ours_and_belong_to_their_filters(process: Process) -> None:
    for _ in range(2):
        await process.create()
    token = (await process.payments.ListPayments(pb.ListPaymentsRequest(page_size=1))).next_page_token
    tampered = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    for request in (
        pb.ListPaymentsRequest(page_token="garbage"),
        pb.ListPaymentsRequest(page_token=tampered),
        pb.ListPaymentsRequest(page_token=token, booking_id="BK-1"),
    ):
        refusal = await refused(process.payments.ListPayments(request))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
        assert list(refusal.fields) == ["page_token"]


async def test_a_page_token_outlives_the_rotation_of_its_key(process: Process) -> None:
    filters, page = b"all", Page(uuid4(), process.feed.bookmark)
    old = KeyRing("1", {"1": b"1" * 32})
    rotated = KeyRing("2", {"1": b"1" * 32, "2": b"2" * 32})
    for keys in (old, rotated):
        assert read_page_token(page_token(page, filters, keys), filters, rotated) == page
    with pytest.raises(PageTokenInvalid):
        read_page_token(page_token(page, filters, rotated), filters, old)


async def test_a_message_that_is_too_large_or_no_message_is_a_bad_request(process: Process) -> None:
    raw: Any = process.channel.unary_unary("/mpesa_payments.v1.PaymentService/GetPayment", None, None)
    for content in (b"x" * 65_537, b"\xff\xff\xff"):
        refusal = await refused(raw(content))
        assert (refusal.code, list(refusal.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])
    many = callback_pb.SubmitCallbacksRequest(callbacks=[callback_pb.Callback()] * 257)
    assert list((await refused(process.callbacks.SubmitCallbacks(many))).fields) == ["callbacks"]
    large = callback_pb.SubmitCallbacksRequest(callbacks=[callback_pb.Callback(body=b"x" * 65_536)] * 15)
    assert len((await process.callbacks.SubmitCallbacks(large)).outcomes) == 15


async def _first(stream: grpc.aio.UnaryStreamCall[Any, Any]) -> object:
    return await anext(aiter(stream))


@pytest.mark.parametrize(
    "value", ["\x1b]0;title\x07", "a\nb", "\x9b31m", "user\u202eexe.pdf", "\u2066x\u2069", "\u2028"]
)
def test_metadata_that_would_act_on_a_screen_is_refused(value: str) -> None:
    found = violations(metadata={"note": value})
    assert list(found) == ["metadata.note"]
    assert "control characters" in found["metadata.note"]
    assert violations(metadata={"note": "Côte d’Azur ✓ حجز"}) == {}


def test_bad_statuses_are_one_violation() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_list(pb.ListPaymentsRequest(statuses=[77, 78]))  # type: ignore[list-item]  # no statuses at all
    assert [violation.field for violation in refusal.value.violations] == ["statuses"]
