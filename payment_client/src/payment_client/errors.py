"""What can go wrong with a call, as exceptions.

    PaymentsError
    ├── Refused                    asking again changes nothing, unless `retry_after` says when
    │   ├── InvalidRequest         `violations` names every bad field and what was expected
    │   ├── RequestIdReused        the request id has served for something else
    │   ├── BookingHasLivePayment  watch `payment_id` instead
    │   ├── RetryTooEarly          the last prompt may still be on the phone
    │   ├── BookingUnderReview     an operator decides first
    │   ├── PromptsRefused         no prompt now: stopped, too many, or not for this phone
    │   ├── CancelTooLate          the prompt may have left
    │   ├── RefundNotPossible      `metadata["cause"]` says why
    │   ├── ReceiptNotIssued       the payment has no receipt: `is_coming` says whether to wait for one
    │   ├── PaymentNotFound        no such payment of this caller
    │   ├── ConsumerNotFound       no consumer of this name has acknowledged anything
    │   ├── ConsumerRewound        an operator offers events again: go on from `metadata["cursor"]`
    │   ├── CallerNotAllowed       the certificate that was shown may not do this
    │   └── CursorRefused
    │       ├── CursorInvalid      no cursor of the service
    │       └── LogDiverged        a cursor of another database, or of one that was restored
    └── Unanswered                 what became of the request is not known: repeat it with the same request id
        ├── ServiceUnavailable     the service is away, draining, or has no database
        │   └── CannotConnect      nothing listens there, or TLS, a certificate or a proxy is set up wrongly
        ├── TooManyRequests        come back after `retry_after`
        ├── DeadlineExceeded         no answer within the timeout
        ├── StillOpen              `pay_and_wait` has waited long enough, and the payment goes on
        └── ServiceFault           a fault of the service, which its log explains

A payment that fails is none of these: it is a Payment whose status is FAILED.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

import grpc

from payment_client.contract import payment_pb2
from payment_client.error_details import DETAILS_KEY, Details, read_details


class PaymentsError(Exception):
    """A call did not do what it was asked for. The classes below say what that means."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Details | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or Details()
        self.request_id = ""
        """Of the call, where it has one: repeat it with this one, and nothing happens twice."""
        self.lasting = False
        """True where waiting does not help: the connection is set up wrongly."""

    def __str__(self) -> str:
        named = f"{self.reason}: " if self.reason else ""
        fields = "".join(f"; {name}: {expected}" for name, expected in self.violations.items())
        return f"{named}{self.message}{fields}"

    @property
    def reason(self) -> str:
        """A name of the service's catalogue of errors; empty where gRPC itself ended the call."""
        return self.details.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the catalogue promises beside the reason."""
        return self.details.metadata

    @property
    def violations(self) -> Mapping[str, str]:
        """What was expected, by the name of the field."""
        return self.details.violations

    @property
    def retry_after(self) -> timedelta | None:
        """When it makes sense to ask again; None where waiting does not help."""
        return self.details.retry_after

    @property
    def customer_message(self) -> str:
        """A sentence to show to the passenger; empty where the service has none for this error."""
        return self.details.customer_message

    @property
    def payment_id(self) -> str:
        """The payment that stands in the way, where there is one."""
        return self.metadata.get("payment_id", "")


class Refused(PaymentsError):
    """The service has read the request and refuses it. Nothing was done."""


class InvalidRequest(Refused):
    """Fields are wrong: `violations` names all of them."""


class RequestIdReused(Refused):
    """The request id was used with other content: make a new one, and find out why one id served two requests."""


class BookingHasLivePayment(Refused):
    """The booking has a payment that is live or paid: watch `payment_id` instead."""


class RetryTooEarly(Refused):
    """The last prompt may still be on the phone: ask again after `retry_after`."""


class BookingUnderReview(Refused):
    """Money of this booking is in doubt, and an operator decides first."""


class PromptsRefused(Refused):
    """No prompt is sent now: an operator has stopped them, there were too many, or this phone gets none."""


class CancelTooLate(Refused):
    """The prompt may have left, or the payment has ended: watch it instead."""


class RefundNotPossible(Refused):
    """The money cannot go back as it was asked for: `metadata["cause"]` says why."""


class ReceiptNotIssued(Refused):
    """The payment has no receipt: `is_coming` says whether an event may tell of one."""

    @property
    def is_coming(self) -> bool:
        """True: its money has not surely come. If it does, PAYMENT_EVENT_TYPE_RECEIPT_ISSUED tells of the receipt.

        False: no event tells of one; `metadata["cause"]` says why.
        """
        return self.metadata.get("cause") == "NOT_ISSUED_YET"


class PaymentNotFound(Refused):
    """No such payment of this caller."""


class ConsumerNotFound(Refused):
    """No consumer of this name has acknowledged anything yet."""


class ConsumerRewound(Refused):
    """An operator has had events offered again: keep `metadata["cursor"]` as your own, and go on from there."""


class CallerNotAllowed(Refused):
    """The certificate that this client shows may not use the method."""


class CursorRefused(Refused):
    """The stream cannot be resumed from this cursor."""


class CursorInvalid(CursorRefused):
    """The text is no cursor of the service: look where it comes from, and start anew."""


class LogDiverged(CursorRefused):
    """The database is another than the one the cursor comes from, or was restored to an earlier point.

    List the payments, compare them with what you have recorded, and watch from the list's cursor; or let
    `watch_payments(resynchronise=…)` do so.
    """


class Unanswered(PaymentsError):
    """What became of the request is not known. Repeat it with the same request id, and nothing happens twice."""


class ServiceUnavailable(Unanswered):
    """The service is away for the moment."""


class CannotConnect(ServiceUnavailable):
    """There is no connection, and the message says why."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, message)
        self.lasting = lasting


class TooManyRequests(Unanswered):
    """Too many calls or streams at once."""


class DeadlineExceeded(Unanswered):
    """No answer came within the timeout."""


class ServiceFault(Unanswered):
    """A fault of the service. Its operators find it in the log by `metadata["trace_id"]`."""


class StillOpen(Unanswered):
    """The payment has not ended within the time that `pay_and_wait` was given. It goes on: watch it from `cursor`."""

    def __init__(self, payment: payment_pb2.Payment, cursor: str) -> None:
        text = f"Payment {payment.payment_id} has not ended yet; it goes on, so keep the seat and watch it."
        super().__init__(grpc.StatusCode.DEADLINE_EXCEEDED, text)
        self.payment, self.cursor = payment, cursor


_BY_REASON: Final[Mapping[str, type[PaymentsError]]] = {
    "INVALID_REQUEST": InvalidRequest,
    "PAGE_TOKEN_INVALID": InvalidRequest,
    "REQUEST_ID_REUSED": RequestIdReused,
    "BOOKING_HAS_LIVE_PAYMENT": BookingHasLivePayment,
    "RETRY_TOO_EARLY": RetryTooEarly,
    "BOOKING_UNDER_REVIEW": BookingUnderReview,
    "PROMPTS_STOPPED": PromptsRefused,
    "TOO_MANY_PROMPTS": PromptsRefused,
    "PHONE_BLOCKED": PromptsRefused,
    "CANCEL_TOO_LATE": CancelTooLate,
    "REFUND_NOT_POSSIBLE": RefundNotPossible,
    "RECEIPT_NOT_ISSUED": ReceiptNotIssued,
    "PAYMENT_NOT_FOUND": PaymentNotFound,
    "CALLER_NOT_ALLOWED": CallerNotAllowed,
    "CONSUMER_NOT_FOUND": ConsumerNotFound,
    "CONSUMER_REWOUND": ConsumerRewound,
    "CURSOR_INVALID": CursorInvalid,
    "LOG_DIVERGED": LogDiverged,
    "TOO_MANY_REQUESTS": TooManyRequests,
    "SERVICE_DRAINING": ServiceUnavailable,
    "STORE_UNAVAILABLE": ServiceUnavailable,
    "INTERNAL": ServiceFault,
}
# For an error without a reason, which gRPC or something on the way has made, and for a reason of a later release.
_BY_CODE: Final[Mapping[grpc.StatusCode, type[PaymentsError]]] = {
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailable,
    # A process that stops may cut off a call so.
    grpc.StatusCode.CANCELLED: ServiceUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooManyRequests,
    grpc.StatusCode.INTERNAL: ServiceFault,
    grpc.StatusCode.UNKNOWN: ServiceFault,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: PaymentNotFound,
    grpc.StatusCode.PERMISSION_DENIED: CallerNotAllowed,
    grpc.StatusCode.UNAUTHENTICATED: CallerNotAllowed,
}


class Failure(Protocol):
    """What gRPC raises, in the client for asyncio and in the one for threads."""

    def code(self) -> grpc.StatusCode:
        """The kind of failure."""

    def details(self) -> str | None:
        """Its message."""

    def trailing_metadata(self) -> Any:
        """Pairs of a key and a text, or bytes where the key ends in "-bin"."""


def error_of(failure: Failure) -> PaymentsError:
    """The exception for what gRPC raised."""
    code, message = failure.code(), failure.details() or "the call ended without a message"
    trailers = dict(failure.trailing_metadata() or ())
    details = read_details(trailers.get(DETAILS_KEY, b""))
    kind = _BY_REASON.get(details.reason) or _BY_CODE.get(code, Refused)
    return kind(code, message, details)
