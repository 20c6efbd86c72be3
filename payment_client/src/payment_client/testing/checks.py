"""What the service refuses in a request by itself: the same fields, by the same names, all at once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from payment_client.contract import money_pb2, payment_pb2
from payment_client.contract import payment_service_pb2 as pb

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
PHONE = re.compile(r"(?:\+?254|0)([17][0-9]{8})")
TEXT = re.compile(r"[A-Za-z0-9]{1,9}|")
DESCRIPTION = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9 ]{1,13}|")
SHORTCODE = re.compile(r"[0-9]{5,7}|")
REFERENCE = re.compile(r"[0-9a-z]{12}")
NAME_EXPECTED = 'expected 1 to 64 letters, digits or "-_.:"'
AMOUNT_MAX = 250_000
HOLD_MAX = timedelta(days=366)

Violations = Mapping[str, str]


def phone_number(text: str) -> str:
    """The number as 2547XXXXXXXX; empty where it is none."""
    found = PHONE.fullmatch(text.replace(" ", "").replace("-", ""))
    return f"254{found[1]}" if found else ""


def wrong_with_initiation(request: pb.InitiatePaymentRequest, now: datetime) -> Violations:
    """Every bad field, and what was expected."""
    wrong = {
        **_wrong_names(request_id=request.request_id, booking_id=request.booking_id),
        **(wrong_with_amount(request.amount) if request.HasField("amount") else {"amount": "expected whole shillings"}),
    }
    if not phone_number(request.phone_number):
        wrong["phone_number"] = "expected a Kenyan mobile number: 0712345678 or 254712345678"
    if not TEXT.fullmatch(request.account_reference):
        wrong["account_reference"] = "expected 1 to 9 letters and digits, or nothing"
    if not DESCRIPTION.fullmatch(request.description):
        wrong["description"] = "expected 1 to 13 letters, digits and spaces, or nothing"
    if not SHORTCODE.fullmatch(request.shortcode):
        wrong["shortcode"] = "expected 5 to 7 digits"
    if request.language_code not in ("", "en", "sw"):
        wrong["language_code"] = 'expected "en" or "sw"'
    if request.late_payment_policy not in payment_pb2.LatePaymentPolicy.values():
        wrong["late_payment_policy"] = "expected LATE_PAYMENT_POLICY_REVIEW, _CONFIRM or _REFUND"
    if request.HasField("hold_expire_time"):
        hold = request.hold_expire_time.ToDatetime(UTC)
        if not now < hold <= now + HOLD_MAX:
            wrong["hold_expire_time"] = "expected a time from now to one year ahead"
    return wrong


def wrong_with_amount(amount: money_pb2.Money) -> Violations:
    """The parts of an amount that are wrong."""
    wrong = {}
    if amount.currency_code != "KES":
        wrong["amount.currency_code"] = 'expected "KES"'
    if amount.nanos:
        wrong["amount.nanos"] = "expected 0: M-Pesa moves whole shillings only"
    if not 0 < amount.units <= AMOUNT_MAX:
        wrong["amount.units"] = f"expected 1 to {AMOUNT_MAX}"
    return wrong


def wrong_with_call(request_id: str, payment_id: str) -> Violations:
    """Of the calls that name a payment and carry a request id."""
    return {**_wrong_names(request_id=request_id), **wrong_with_payment_id(payment_id)}


def wrong_with_payment_id(payment_id: str) -> Violations:
    """An id that is none."""
    try:
        good = str(uuid.UUID(payment_id)) == payment_id.lower()
    except ValueError:
        good = False
    return {} if good else {"payment_id": "expected the id of a payment"}


def _wrong_names(**names: str) -> Violations:
    return {field: NAME_EXPECTED for field, text in names.items() if not NAME.fullmatch(text)}
