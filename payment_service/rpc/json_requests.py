"""A payment asked for as JSON, read into the message that gRPC callers send: so both are judged by the same rules.

What JSON can get wrong and a message cannot is found here: what is no JSON at all, a field that does not exist or
stands there twice, a number or half of a character where a text belongs. Numbers are read as decimals, never as
floating point: 500.00 is 500, and 499.99 is refused as it is over gRPC.
"""

import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.domain.errors import InvalidRequest, Violation

TEXTS = ("booking_id", "phone_number", "account_reference", "description", "shortcode", "language_code")
FIELDS = (*TEXTS, "amount", "metadata", "hold_expire_time", "late_payment_policy")
CURRENCY = "KES"
UNITS_DIGITS_MAX = 18
"""What fits into the units of an amount."""
NANO = Decimal("1e-9")
UNKNOWN_POLICY = 99
"""Stands for a word that is no policy: it is refused like any other number that is none."""


def read_initiation(content: bytes, request_id: str) -> tuple[pb.InitiatePaymentRequest, Sequence[Violation]]:
    """The message, and what is wrong with the JSON itself; InvalidRequest where it is no JSON object."""
    given = _object_in(content)
    message, wrong = pb.InitiatePaymentRequest(request_id=request_id), []
    wrong += [Violation(name, f"expected one of {', '.join(FIELDS)}") for name in given if name not in FIELDS]
    for name in TEXTS:
        if is_text(value := given.get(name, "")):
            setattr(message, name, value)
        else:
            wrong.append(Violation(name, "expected text"))
    if "amount" in given:
        amount = _amount_in(given["amount"])
        if amount is None:
            wrong.append(Violation("amount", 'expected shillings, such as 500 or "500.00"'))
        else:
            message.amount.CopyFrom(amount)
    if "metadata" in given:
        if _is_texts(given["metadata"]):
            message.metadata.update(given["metadata"])
        else:
            wrong.append(Violation("metadata", "expected an object whose values are texts"))
    if "hold_expire_time" in given:
        try:
            message.hold_expire_time.CopyFrom(_moment_in(given["hold_expire_time"]))
        except ValueError:
            wrong.append(Violation("hold_expire_time", "expected a time such as 2026-11-28T18:00:00Z"))
    if "late_payment_policy" in given:
        message.late_payment_policy = _policy_in(given["late_payment_policy"])  # type: ignore[assignment]  # may be none
    return message, wrong


def _object_in(content: bytes) -> dict[str, Any]:
    try:
        given = json.loads(
            content.decode("utf-8"),
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_repetition,
        )
    except (ValueError, RecursionError, InvalidOperation):
        raise InvalidRequest([Violation("request", "expected JSON in UTF-8, each field once")]) from None
    if not isinstance(given, dict):
        raise InvalidRequest([Violation("request", "expected a JSON object")])
    return given


def _refuse_constant(name: str) -> None:
    # NaN and Infinity are no JSON, though Python reads them.
    raise ValueError(name)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _amount_in(value: object) -> money_pb2.Money | None:
    """Exactly what was written, whole shillings or not; None where it is no number."""
    if isinstance(value, str):
        if not value.isascii() or "_" in value:
            return None
        try:
            value = Decimal(value)
        except InvalidOperation:
            return None
    if not isinstance(value, Decimal) or not value.is_finite() or value.adjusted() >= UNITS_DIGITS_MAX:
        return None
    if value and value.adjusted() < NANO.adjusted():
        # Too small for the message to say: any part of a shilling is refused for the same reason.
        return money_pb2.Money(currency_code=CURRENCY, nanos=1)
    units = int(value)
    parts = (value - units) / NANO
    return money_pb2.Money(currency_code=CURRENCY, units=units, nanos=int(parts) or (1 if parts else 0))


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(is_text(one) for pair in value.items() for one in pair)


def is_text(value: object) -> bool:
    """JSON can spell half of a character, which Python takes as text, and which no message can hold."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _moment_in(value: object) -> Timestamp:
    if not isinstance(value, str):
        raise ValueError("no text")
    moment = Timestamp()
    moment.FromJsonString(value)
    return moment


def _policy_in(value: object) -> int:
    policies = payment_pb2.LatePaymentPolicy
    named = f"LATE_PAYMENT_POLICY_{value}"
    return policies.Value(named) if isinstance(value, str) and named in policies.keys() else UNKNOWN_POLICY  # noqa: SIM118 -- the enum wrapper is not a mapping
