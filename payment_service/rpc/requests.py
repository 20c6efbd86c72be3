"""From wire messages to domain values: every bad field is found at once, by name, with what was expected.

Nothing here looks at the database. Two kinds of rules are kept apart: what is
wrong by itself, and what is wrong only now (a hold that has expired, a shortcode
that is no longer set up). The second kind does not count against a request that
has already been taken: its repetition gives the same payment, at any time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import phonenumbers
from mpesa_payments.v1 import callback_service_pb2 as callback_pb
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from phonenumbers import carrier

from payment_service.application.settling.accept_callbacks import ReceivedCallback
from payment_service.domain.advice import LANGUAGES
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.errors import InvalidRequest, Violation
from payment_service.domain.payment import (
    CancelRequest,
    LatePaymentPolicy,
    PaymentRequest,
    PhoneWarning,
    RetryRequest,
    ShortcodeLimits,
    Status,
)
from payment_service.domain.refund import RefundReason, RefundRequest
from payment_service.rpc.fields import (
    DRIVES_TERMINALS,
    NAME,
    NAME_EXPECTED,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    Fields,
    moment_in,
    moment_of,
    payment_id_in,
    phone_number_in,
    receipt_in,
    reference_in,
    request_id_in,
)
from payment_service.store.reads import PaymentFilter

CURRENCY = "KES"
ACCOUNT_REFERENCE_MAX = 9
"""Daraja takes 12 characters; three are added that tell attempts apart."""
DESCRIPTION_MAX = 13
METADATA_MAX_PAIRS = 16
METADATA_VALUE_MAX = 200
HOLD_MAX = timedelta(days=366)
"""A booking held for longer is a mistake in a year or in a unit."""

CALLBACK_KEYS_MAX = 256
PROCESS_NAME_MAX = 200
CALLBACKS_MAX = 256
SOURCE_ADDRESS_MAX = 64
"""Characters: the longest IPv6 address with a zone, and room."""

_PLAIN = re.compile(r"[A-Za-z0-9]+")
_PLAIN_WITH_SPACES = re.compile(r"[A-Za-z0-9 ]*[A-Za-z0-9][A-Za-z0-9 ]*")
_METADATA_KEY = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_SHORTCODE = re.compile(r"[0-9]{5,7}")
_WHOLE_SHILLINGS = re.compile(r"([0-9]{1,18})(?:\.0{1,2})?")


_POLICIES = {
    payment_pb2.LATE_PAYMENT_POLICY_UNSPECIFIED: LatePaymentPolicy.REVIEW,
    payment_pb2.LATE_PAYMENT_POLICY_REVIEW: LatePaymentPolicy.REVIEW,
    payment_pb2.LATE_PAYMENT_POLICY_CONFIRM: LatePaymentPolicy.CONFIRM,
    payment_pb2.LATE_PAYMENT_POLICY_REFUND: LatePaymentPolicy.REFUND,
}
_REFUND_NOT_ALLOWED = (
    "expected LATE_PAYMENT_POLICY_REVIEW or _CONFIRM; _REFUND is allowed once the operator of this service has set"
    " PAYMENTS_AUTOMATIC_REFUND_MAX_KES to more than 0"
)
_KINDS: Mapping[int, CallbackKind] = {
    callback_pb.CALLBACK_KIND_STK: CallbackKind.STK,
    callback_pb.CALLBACK_KIND_RESULT: CallbackKind.RESULT,
}
REFUND_REASONS: Mapping[int, RefundReason] = {
    payment_pb2.RefundReason.Value(f"REFUND_REASON_{reason.value}"): reason for reason in RefundReason
}
_STATUSES: Mapping[int, Status] = {
    payment_pb2.PaymentStatus.Value(f"PAYMENT_STATUS_{status.value}"): status for status in Status
}


@dataclass(frozen=True, slots=True)
class Initiation:
    """A parsed InitiatePaymentRequest. `unless_repeated` refuses it, unless its request id has made a payment."""

    request: PaymentRequest
    warning: PhoneWarning | None
    unless_repeated: Sequence[Violation]


def parse_initiation(
    message: pb.InitiatePaymentRequest,
    shortcodes: Sequence[ShortcodeLimits],
    now: datetime,
    *,
    refunds_late_money: bool,
) -> Initiation:
    """The request, or InvalidRequest with all that is wrong by itself."""
    fields, later = Fields(), Fields()
    request_id_in(fields, message.request_id)
    fields.require("booking_id", NAME.fullmatch(message.booking_id), NAME_EXPECTED)
    phone_number = phone_number_in(fields, message.phone_number)
    shortcode = message.shortcode or shortcodes[0].number
    amount = _amount(fields, message.amount) if message.HasField("amount") else _no_amount(fields)
    _check_shortcode(fields, later, shortcode, amount, shortcodes)
    _check_texts(fields, message)
    _check_metadata(fields, later, message)
    hold_expire_at = None
    if message.HasField("hold_expire_time"):
        hold_expire_at = moment_in(fields, "hold_expire_time", message.hold_expire_time)
    if hold_expire_at is not None and not now < hold_expire_at <= now + HOLD_MAX:
        later.refuse("hold_expire_time", "expected a time from now to one year ahead")
    policy = _POLICIES.get(message.late_payment_policy)
    fields.require("late_payment_policy", policy, "expected LATE_PAYMENT_POLICY_REVIEW, _CONFIRM or _REFUND")
    if policy is LatePaymentPolicy.REFUND and not refunds_late_money:
        later.refuse("late_payment_policy", _REFUND_NOT_ALLOWED)
    if fields.violations:
        # One answer tells everything that is wrong.
        raise InvalidRequest([*fields.violations, *later.violations])
    request = PaymentRequest(
        request_id=message.request_id,
        booking_id=message.booking_id,
        phone_number=phone_number,
        amount=amount,
        shortcode=message.shortcode,
        account_reference=message.account_reference,
        description=message.description,
        language_code=message.language_code or LANGUAGES[0],
        metadata=dict(message.metadata),
        hold_expire_at=hold_expire_at,
        late_payment_policy=policy or LatePaymentPolicy.REVIEW,
    )
    return Initiation(request, _phone_warning(phone_number), tuple(later.violations))


def parse_retry(message: pb.RetryPaymentRequest) -> tuple[RetryRequest, PhoneWarning | None]:
    """The retry, and a warning about the number it names, if any."""
    fields = Fields()
    request_id_in(fields, message.request_id)
    payment_id = payment_id_in(fields, message.payment_id)
    phone_number = phone_number_in(fields, message.phone_number) if message.phone_number else ""
    fields.end()
    assert payment_id is not None, "anything else has been refused"
    warning = _phone_warning(phone_number) if phone_number else None
    return RetryRequest(message.request_id, payment_id, phone_number), warning


def parse_cancel(message: pb.CancelPaymentRequest) -> CancelRequest:
    """The withdrawal."""
    fields = Fields()
    request_id_in(fields, message.request_id)
    payment_id = payment_id_in(fields, message.payment_id)
    fields.end()
    assert payment_id is not None, "anything else has been refused"
    return CancelRequest(message.request_id, payment_id)


def parse_refund(message: pb.RefundPaymentRequest) -> RefundRequest:
    """The refund."""
    fields = Fields()
    request_id_in(fields, message.request_id)
    payment_id = payment_id_in(fields, message.payment_id)
    reason = REFUND_REASONS.get(message.reason)
    fields.require("reason", reason, "expected a value of RefundReason other than REFUND_REASON_UNSPECIFIED")
    amount = _amount(fields, message.amount) if message.HasField("amount") else None
    fields.end()
    assert payment_id is not None, "anything else has been refused"
    assert reason is not None, "anything else has been refused"
    return RefundRequest(message.request_id, payment_id, reason, amount)


def parse_target(message: pb.GetPaymentRequest) -> UUID | str:
    """The payment that is asked for: its id, or its reference in lower case."""
    fields = Fields()
    target = message.WhichOneof("target")
    name: UUID | str | None = None
    if target == "payment_id":
        name = payment_id_in(fields, message.payment_id)
    elif target == "reference":
        name = reference_in(fields, message.reference)
    else:
        fields.refuse("target", "expected payment_id or reference")
    fields.end()
    return name or ""


def parse_list(message: pb.ListPaymentsRequest) -> tuple[PaymentFilter, int]:
    """The filter and the page size."""
    fields = Fields()
    for field, text in (("booking_id", message.booking_id), ("request_id", message.request_id)):
        fields.require(field, not text or NAME.fullmatch(text), NAME_EXPECTED)
    receipt = receipt_in(fields, message.mpesa_receipt_number) if message.mpesa_receipt_number else None
    fields.require("page_size", message.page_size >= 0, "expected 0 to 1000")
    statuses = _statuses(fields, message.statuses)
    wanted = PaymentFilter(
        booking_id=message.booking_id or None,
        reference=reference_in(fields, message.reference) if message.reference else None,
        request_id=message.request_id or None,
        receipt=receipt,
        statuses=tuple(status.value for status in Status if status in statuses),
        created_from=moment_in(fields, "create_time_from", message.create_time_from)
        if message.HasField("create_time_from")
        else None,
        created_before=moment_in(fields, "create_time_before", message.create_time_before)
        if message.HasField("create_time_before")
        else None,
    )
    fields.end()
    return wanted, min(message.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def parse_watch(message: pb.WatchPaymentRequest) -> UUID | str:
    """What is to be watched: a payment's id, or a booking's."""
    fields = Fields()
    target = message.WhichOneof("target")
    watched: UUID | str | None = message.booking_id
    if target == "payment_id":
        watched = payment_id_in(fields, message.payment_id)
    elif target == "booking_id":
        fields.require("booking_id", NAME.fullmatch(message.booking_id), NAME_EXPECTED)
    else:
        fields.refuse("target", "expected payment_id or booking_id")
    fields.end()
    return watched or ""


def parse_watch_all(message: pb.WatchPaymentsRequest) -> frozenset[Status]:
    """The statuses to be told of; whether there is a start is checked, which one it is left to the servicer."""
    fields = Fields()
    start = message.WhichOneof("start")
    positions = (pb.WatchPaymentsRequest.POSITION_EARLIEST, pb.WatchPaymentsRequest.POSITION_LATEST)
    expected = "expected a cursor, a position or a consumer: a stream does not start by itself"
    fields.require("start", start, expected)
    if start == "position":
        fields.require("position", message.position in positions, "expected POSITION_EARLIEST or POSITION_LATEST")
    elif start == "consumer":
        fields.require("consumer", NAME.fullmatch(message.consumer), NAME_EXPECTED)
    statuses = _statuses(fields, message.statuses)
    fields.end()
    return statuses


def parse_acknowledgement(message: pb.AcknowledgeEventsRequest) -> tuple[str, str]:
    """The consumer, and the cursor as it came."""
    fields = Fields()
    fields.require("consumer", NAME.fullmatch(message.consumer), NAME_EXPECTED)
    fields.require("cursor", message.cursor, "expected the cursor of what is dealt with")
    fields.end()
    return message.consumer, message.cursor


def parse_callbacks(message: callback_pb.SubmitCallbacksRequest, now: datetime) -> list[ReceivedCallback]:
    """The callbacks, each as it came: what is wrong with one is found out with its token, and fails no other."""
    fields = Fields()
    fields.require("callbacks", len(message.callbacks) <= CALLBACKS_MAX, f"expected at most {CALLBACKS_MAX}")
    fields.end()
    return [
        ReceivedCallback(
            kind=_KINDS.get(callback.kind),
            reference=callback.reference,
            token=callback.token,
            body=callback.body,
            source_address=callback.source_address[:SOURCE_ADDRESS_MAX].replace("\0", ""),
            received_at=(moment_of(callback.receive_time) if callback.HasField("receive_time") else None) or now,
        )
        for callback in message.callbacks
    ]


def parse_key_checks(message: callback_pb.CheckCallbackKeysRequest) -> Mapping[str, bytes]:
    """The check values of the gateway's keys, by their ids."""
    fields = Fields()
    fields.require("keys", len(message.keys) <= CALLBACK_KEYS_MAX, f"expected at most {CALLBACK_KEYS_MAX}")
    readable = len(message.process) <= PROCESS_NAME_MAX and message.process.isprintable()
    fields.require("process", readable, f"expected at most {PROCESS_NAME_MAX} printable characters")
    fields.end()
    return {key.key_id: key.check for key in message.keys}


def _phone_warning(phone_number: str) -> PhoneWarning | None:
    """Numbers move between networks, and new prefixes are opened: only a prefix known as another's is worth a word."""
    number = phonenumbers.PhoneNumber(country_code=254, national_number=int(phone_number[3:]))
    network = carrier.name_for_number(number, "en")
    return PhoneWarning.NOT_A_SAFARICOM_PREFIX if network not in ("", "Safaricom") else None


def _no_amount(fields: Fields) -> int:
    fields.refuse("amount", "expected whole Kenyan shillings")
    return 0


def _amount(fields: Fields, amount: money_pb2.Money) -> int:
    fields.require("amount.currency_code", amount.currency_code == CURRENCY, 'expected "KES"')
    fields.require("amount.nanos", amount.nanos == 0, "expected 0: M-Pesa moves whole shillings only")
    fields.require("amount.units", amount.units > 0, "expected 1 or more whole shillings")
    if amount.decimal_text:
        whole = _WHOLE_SHILLINGS.fullmatch(amount.decimal_text)
        expected = f'expected what units says: "{amount.units}" or "{amount.units}.00"'
        fields.require("amount.decimal_text", whole and int(whole[1]) == amount.units, expected)
    return amount.units


def _check_shortcode(
    fields: Fields, later: Fields, shortcode: str, amount: int, shortcodes: Sequence[ShortcodeLimits]
) -> None:
    if not _SHORTCODE.fullmatch(shortcode):
        fields.refuse("shortcode", "expected 5 to 7 digits")
        return
    limits = next((one for one in shortcodes if one.number == shortcode), None)
    if limits is None:
        later.refuse("shortcode", "expected one of " + ", ".join(one.number for one in shortcodes))
    elif amount > 0 and not limits.takes(amount):
        later.refuse("amount.units", f"expected {limits.amount_min} to {limits.amount_max} for shortcode {shortcode}")


def _check_texts(fields: Fields, message: pb.InitiatePaymentRequest) -> None:
    shown = message.account_reference
    fields.require(
        "account_reference",
        not shown or (len(shown) <= ACCOUNT_REFERENCE_MAX and _PLAIN.fullmatch(shown)),
        f"expected 1 to {ACCOUNT_REFERENCE_MAX} letters and digits, or nothing",
    )
    description = message.description
    fields.require(
        "description",
        not description or (len(description) <= DESCRIPTION_MAX and _PLAIN_WITH_SPACES.fullmatch(description)),
        f"expected 1 to {DESCRIPTION_MAX} letters, digits and spaces, or nothing",
    )
    fields.require("language_code", message.language_code in ("", *LANGUAGES), 'expected "en" or "sw"')


def _check_metadata(fields: Fields, later: Fields, message: pb.InitiatePaymentRequest) -> None:
    fields.require("metadata", len(message.metadata) <= METADATA_MAX_PAIRS, f"expected at most {METADATA_MAX_PAIRS}")
    for key, value in sorted(message.metadata.items())[:METADATA_MAX_PAIRS]:
        if not _METADATA_KEY.fullmatch(key):
            fields.refuse("metadata", 'expected keys of 1 to 40 letters, digits or "-_."')
        elif len(value) > METADATA_VALUE_MAX or "\0" in value:
            fields.refuse(f"metadata.{key}", f"expected at most {METADATA_VALUE_MAX} characters, none of them NUL")
        elif DRIVES_TERMINALS.search(value):
            # Earlier releases took such values, and the repetition of a request they took gives its payment.
            later.refuse(f"metadata.{key}", "expected no control characters and none that turn the direction of text")


def _statuses(fields: Fields, numbers: Sequence[int]) -> frozenset[Status]:
    if any(number not in _STATUSES for number in numbers):
        fields.refuse("statuses", "expected values of PaymentStatus other than PAYMENT_STATUS_UNSPECIFIED")
    return frozenset(_STATUSES[number] for number in numbers if number in _STATUSES)
