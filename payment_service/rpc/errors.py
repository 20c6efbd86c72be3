"""The one place where an exception becomes a status on the wire.

Every error carries ErrorInfo; bad fields are listed in BadRequest; where waiting
helps, RetryInfo says for how long. Text of a driver or a library never reaches a
caller: it is logged, whole, with the trace id that the caller is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from mpesa_payments.v1.error_reason_pb2 import ErrorReason
from opentelemetry import trace

from payment_service.alarms import PROGRAM_FAULT
from payment_service.application.following.consumers import ConsumerRewound
from payment_service.domain.advice import LANGUAGES
from payment_service.domain.decisions import Bar
from payment_service.domain.errors import (
    ApprovalDecided,
    ApprovalError,
    ApprovalNotFound,
    ApprovalOutdated,
    ApprovalWaits,
    BookingBarred,
    CancelTooLate,
    CaseAlreadySettled,
    CaseChanged,
    CaseNotFound,
    ConsumerNotFound,
    CursorInvalid,
    ErasureBarred,
    InvalidRequest,
    LogDiverged,
    NotTheAsker,
    Overloaded,
    PageTokenInvalid,
    PaymentNotFound,
    PaymentsError,
    PromptsStopped,
    ReceiptNotIssued,
    RefundBarred,
    RequestIdReused,
    ResolutionRefused,
    RiskRefused,
    SecondPersonNeeded,
    ShuttingDown,
    StatusTokenRefused,
    StoreUnavailable,
    TaxInvoiceDiffers,
    Violation,
)
from payment_service.domain.payment import STATUS_OF
from payment_service.domain.refund import B2C_AMOUNT_MAX, B2C_AMOUNT_MIN, RefundBar
from payment_service.domain.risk import Rule
from payment_service.rpc.caller_limits import TooManyCalls
from payment_service.rpc.cursors import cursor_text
from payment_service.rpc.passenger_sentences import SENTENCES
from runtime.alarms import raise_alarm
from runtime.grpc_options import DETAILS_KEY

DOMAIN: Final = "mpesa-payments"
PREFIX: Final = "ERROR_REASON_"
STORE_RETRY = timedelta(seconds=1)
DRAIN_RETRY = timedelta(milliseconds=100)
"""Another process answers at once; a moment for the caller's channel to find it."""

_WHY_NO_REFUND: Final[Mapping[RefundBar, str]] = {
    RefundBar.NOT_PAID: "No money of this payment is known to have arrived, so none can go back.",
    RefundBar.NOT_PAID_YET: "No money of this payment is known to have arrived, and some may still come. Ask again"
    " later.",
    RefundBar.UNDER_REVIEW: "An operator decides about the money of this payment first.",
    RefundBar.RECEIPT_PENDING: "The receipt number is not known yet. Ask again once mpesa_receipt_number is set.",
    RefundBar.REFUND_UNDER_WAY: "A refund of this payment is under way already.",
    RefundBar.REFUNDED: "The money of this payment has gone back already.",
    RefundBar.AMOUNT_UNKNOWN: "Nobody could read how much of this payment came, so it cannot be refunded from here. Ask"
    " the operator of this service to compare the receipt with the M-Pesa portal, and to send the money back there.",
    RefundBar.ABOVE_WHAT_IS_LEFT: "The amount is more than is left of this payment. Leave it unset for all of that.",
    RefundBar.PART_TOO_SMALL: "A part of a payment goes back by M-Pesa's B2C, which moves no less than"
    f" {B2C_AMOUNT_MIN} shillings. What is less has to be returned by other means, unless it is the whole"
    " of a payment: leave the amount unset for that.",
    RefundBar.PART_TOO_LARGE: "A part of a payment goes back by M-Pesa's B2C, which moves no more than"
    f" {B2C_AMOUNT_MAX} shillings at a time. Ask for several parts, each with a request id of its own.",
    RefundBar.SEVERAL_PAID: "More than one payment of this booking holds money. If one of them has a case, settle it:"
    " `cases resolve … return` sends its money back. If none has, send back what each holds:"
    " `refunds one --booking … --payment …`.",
    RefundBar.SEVERAL_CALLERS: "More than one caller has payments of a booking with this id. Name the one whose booking"
    " you mean: with --caller, or in the field caller.",
    RefundBar.NEEDS_APPROVAL: "A second operator has to agree to so much money going back.",
    RefundBar.NOT_SET_UP: "Refunds are not set up. The operator of this service has to set PAYMENTS_INITIATOR_NAME,"
    " PAYMENTS_INITIATOR_PASSWORD_FILE and PAYMENTS_INITIATOR_CERTIFICATE_FILE.",
}

_HAD_ITS_SHARE: Final[Mapping[str, str]] = {
    "phone": "This phone gets no further prompt now.",
    "booking": "No further prompt is sent for this booking now.",
    "caller": "You have asked for as many prompts as you may for now.",
}

_log = structlog.get_logger(__name__)


class CallerNotAllowed(PaymentsError):
    """You may not use this method."""

    def __init__(self, why: str = "You may not use this method.", who: str = "") -> None:
        """`who` is what is known of the caller; it is not told to the caller, but to the operator."""
        super().__init__(why)
        self.who = who


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as it goes on the wire."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: timedelta | None = None

    def trailing_metadata(self, language: str) -> tuple[tuple[str, bytes], ...]:
        """The details, as gRPC carries them, with the sentence for the passenger in this language."""
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        details: list[Any] = [info]
        if self.violations:
            listed = [
                error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
                for violation in self.violations
            ]
            details.append(error_details_pb2.BadRequest(field_violations=listed))
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromTimedelta(self.retry_after)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        sentence = SENTENCES[self.reason]
        if sentence is not None:
            locale = language if language in LANGUAGES else LANGUAGES[0]
            details.append(error_details_pb2.LocalizedMessage(locale=locale, message=sentence.spoken(locale)))
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return ((DETAILS_KEY, status.SerializeToString()),)


def reason_name(reason: "ErrorReason.ValueType") -> str:
    """A reason as ErrorInfo carries it."""
    return ErrorReason.Name(reason).removeprefix(PREFIX)


def answer_to(error: Exception, clock: Callable[[], datetime]) -> Answer:
    """What a caller is told of an exception."""
    code = grpc.StatusCode
    text = str(error)
    if isinstance(error, ApprovalError):
        return _about_approval(error)
    match error:
        case InvalidRequest():
            violations = error.violations
            return Answer(code.INVALID_ARGUMENT, "INVALID_REQUEST", text, violations=violations)
        case RequestIdReused():
            metadata = {"payment_id": str(error.payment_id), "fields": ",".join(error.fields)}
            return Answer(code.ALREADY_EXISTS, "REQUEST_ID_REUSED", text, metadata)
        case BookingBarred():
            return _barred(error, clock())
        case CancelTooLate():
            metadata = {"payment_id": str(error.payment.payment_id), "status": STATUS_OF[error.payment.state].value}
            return Answer(code.FAILED_PRECONDITION, "CANCEL_TOO_LATE", text, metadata)
        case RefundBarred():
            return _no_refund(error)
        case PromptsStopped() | RiskRefused():
            return _no_prompt(error, clock())
        case PaymentNotFound():
            return Answer(code.NOT_FOUND, "PAYMENT_NOT_FOUND", text)
        case StatusTokenRefused():
            return Answer(code.UNAUTHENTICATED, "STATUS_TOKEN_REFUSED", text)
        case CaseNotFound() | CaseChanged() | CaseAlreadySettled() | ResolutionRefused():
            return _about_case(error)
        case ConsumerNotFound():
            return Answer(code.NOT_FOUND, "CONSUMER_NOT_FOUND", text)
        case ConsumerRewound():
            metadata = {"cursor": cursor_text(error.bookmark)}
            return Answer(code.FAILED_PRECONDITION, "CONSUMER_REWOUND", text, metadata)
        case ErasureBarred():
            return Answer(code.FAILED_PRECONDITION, "ERASURE_BARRED", text, {"bars": str(len(error.bars))})
        case ReceiptNotIssued() | TaxInvoiceDiffers():
            return _about_receipt(error)
        case CursorInvalid():
            violations = (Violation("cursor", "expected a cursor of this service, or none"),)
            return Answer(code.INVALID_ARGUMENT, "CURSOR_INVALID", text, violations=violations)
        case LogDiverged():
            violations = (Violation("cursor", "expected a cursor of this database"),)
            return Answer(code.INVALID_ARGUMENT, "LOG_DIVERGED", text, violations=violations)
        case PageTokenInvalid():
            violations = (Violation("page_token", "expected the token of the page before, with the same filters"),)
            return Answer(code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", text, violations=violations)
        case TooManyCalls():
            metadata = {"limit": error.limit.value}
            return Answer(code.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS", text, metadata, retry_after=error.retry_after)
        case ShuttingDown():
            return Answer(code.UNAVAILABLE, "SERVICE_DRAINING", text, retry_after=DRAIN_RETRY)
        case StoreUnavailable() | Overloaded():
            _log.warning("store unavailable", cause=repr(error.__cause__ or error))
            return Answer(code.UNAVAILABLE, "STORE_UNAVAILABLE", text, retry_after=STORE_RETRY)
        case CallerNotAllowed():
            return Answer(code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED", text)
        case _:
            return _fault(error)


def _about_case(error: CaseNotFound | CaseChanged | CaseAlreadySettled | ResolutionRefused) -> Answer:
    refused = grpc.StatusCode.FAILED_PRECONDITION
    match error:
        case CaseNotFound():
            return Answer(grpc.StatusCode.NOT_FOUND, "CASE_NOT_FOUND", str(error))
        case CaseChanged():
            metadata = {"changed": "; ".join(error.changed), "owner": error.owner}
            return Answer(refused, "CASE_CHANGED", str(error), metadata)
        case CaseAlreadySettled():
            return Answer(refused, "CASE_SETTLED", str(error), {"how": error.how, "by": error.by})
        case ResolutionRefused():
            return Answer(refused, "RESOLUTION_REFUSED", str(error), {"allowed": ",".join(error.allowed)})
        case _:
            assert_never(error)


def _about_receipt(error: ReceiptNotIssued | TaxInvoiceDiffers) -> Answer:
    refused = grpc.StatusCode.FAILED_PRECONDITION
    if isinstance(error, ReceiptNotIssued):
        return Answer(refused, "RECEIPT_NOT_ISSUED", str(error), {"cause": error.cause})
    return Answer(refused, "TAX_INVOICE_DIFFERS", str(error), {"invoice_number": error.invoice_number})


def _about_approval(error: ApprovalError) -> Answer:
    refused = grpc.StatusCode.FAILED_PRECONDITION
    match error:
        case ApprovalNotFound():
            return Answer(grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND", str(error))
        case ApprovalDecided():
            return Answer(refused, "APPROVAL_DECIDED", str(error), {"how": error.how, "by": error.by})
        case ApprovalOutdated():
            return Answer(refused, "APPROVAL_OUTDATED", str(error), {"changed": "; ".join(error.changed)})
        case ApprovalWaits():
            metadata = {"approval_id": str(error.approval_id), "asked_by": error.asked_by}
            return Answer(refused, "APPROVAL_WAITS", str(error), metadata)
        case SecondPersonNeeded():
            return Answer(refused, "SECOND_PERSON_NEEDED", str(error), {"asked_by": error.asked_by})
        case NotTheAsker():
            return Answer(refused, "NOT_THE_ASKER", str(error), {"asked_by": error.asked_by})
        case _:
            assert_never(error)


def _no_refund(error: RefundBarred) -> Answer:
    metadata = {
        "payment_id": str(error.payment.payment_id),
        "status": STATUS_OF[error.payment.state].value,
        "cause": error.bar.value,
    }
    why, violations = _WHY_NO_REFUND[error.bar], _refund_amount(error)
    if error.one_of:
        metadata["payment_ids"] = ",".join(str(one.payment_id) for one in error.one_of)
        why += f" They are {' and '.join(str(one.payment_id) for one in error.one_of)}."
    return Answer(grpc.StatusCode.FAILED_PRECONDITION, "REFUND_NOT_POSSIBLE", why, metadata, violations)


def _refund_amount(error: RefundBarred) -> tuple[Violation, ...]:
    """What the amount may be, where that is what bars the refund."""
    match error.bar:
        case RefundBar.ABOVE_WHAT_IS_LEFT:
            expected = f"expected at most {error.left}, which is left of this payment"
        case RefundBar.PART_TOO_SMALL | RefundBar.PART_TOO_LARGE:
            expected = f"expected {B2C_AMOUNT_MIN} to {B2C_AMOUNT_MAX} for a part; {error.left} is left of this payment"
        case _:
            return ()
    return (Violation("amount.units", expected),)


def _barred(error: BookingBarred, now: datetime) -> Answer:
    payment = error.payment
    metadata = {"payment_id": str(payment.payment_id)}
    refused = grpc.StatusCode.FAILED_PRECONDITION
    match error.bar:
        case Bar.LIVE_OR_PAID:
            metadata["status"] = STATUS_OF[payment.state].value
            return Answer(
                refused, "BOOKING_HAS_LIVE_PAYMENT", "The booking has a payment that is live or paid.", metadata
            )
        case Bar.TOO_EARLY:
            message = "The prompt of the last attempt may still be on the phone."
            wait = (payment.retry_allowed_at or now) - now
            return Answer(refused, "RETRY_TOO_EARLY", message, metadata, retry_after=max(wait, timedelta(0)))
        case Bar.UNDER_REVIEW:
            return Answer(
                refused, "BOOKING_UNDER_REVIEW", "Money of this booking is in doubt; an operator decides.", metadata
            )
        case _:
            assert_never(error.bar)


def _no_prompt(error: PromptsStopped | RiskRefused, now: datetime) -> Answer:
    """Why and until when; the number of a rule's limit would help whoever is to be kept off."""
    if isinstance(error, PromptsStopped):
        metadata = {"since": error.since.isoformat(), "why": error.reason}
        return Answer(grpc.StatusCode.FAILED_PRECONDITION, "PROMPTS_STOPPED", str(error), metadata)
    wait = max(error.retry_at - now, timedelta(0)) if error.retry_at is not None else None
    when = f" Ask again from {error.retry_at:%Y-%m-%d %H:%M:%S} UTC on." if error.retry_at is not None else ""
    if error.rule is Rule.PHONE_BLOCKED:
        text = f"An operator has seen to it that this phone gets no prompts.{when}"
        return Answer(grpc.StatusCode.FAILED_PRECONDITION, "PHONE_BLOCKED", text, retry_after=wait)
    text = _HAD_ITS_SHARE[error.rule.subject] + (when or " Waiting does not help: ask for a smaller amount.")
    metadata = {"subject": error.rule.subject, "rule": error.rule.value}
    return Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_PROMPTS", text, metadata, retry_after=wait)


def _fault(error: Exception) -> Answer:
    """A fault of ours: everything goes to the log, and to the caller the id to find it there."""
    raise_alarm(PROGRAM_FAULT, exc_info=error)
    trace_id = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
    message = "The service failed to answer; the fault is logged."
    return Answer(grpc.StatusCode.INTERNAL, "INTERNAL", message, {"trace_id": trace_id})
