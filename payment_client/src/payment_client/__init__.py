"""What a booking or notification service installs to take M-Pesa payments through the payment service."""

from payment_client.channels import UsedAcrossFork
from payment_client.client import PaymentsClient
from payment_client.contract import money_pb2, payment_pb2, payment_service_pb2, receipt_pb2
from payment_client.cursors import AsyncCursorStore, CursorMoved, CursorStore
from payment_client.errors import (
    BookingHasLivePayment,
    BookingUnderReview,
    CallerNotAllowed,
    CancelTooLate,
    CannotConnect,
    ConsumerNotFound,
    ConsumerRewound,
    CursorInvalid,
    CursorRefused,
    DeadlineExceeded,
    InvalidRequest,
    LogDiverged,
    PaymentNotFound,
    PaymentsError,
    PromptsRefused,
    ReceiptNotIssued,
    RefundNotPossible,
    Refused,
    RequestIdReused,
    RetryTooEarly,
    ServiceFault,
    ServiceUnavailable,
    StillOpen,
    TooManyRequests,
    Unanswered,
)
from payment_client.requests import PaymentFilter, Purchase
from payment_client.resuming import Backoff
from payment_client.sync_client import SyncPaymentsClient
from payment_client.tls import TlsFiles, TlsFilesUnusable

Payment = payment_pb2.Payment
PaymentEvent = payment_pb2.PaymentEvent
PaymentStatus = payment_pb2.PaymentStatus
StatusReason = payment_pb2.StatusReason
BookingAction = payment_pb2.BookingAction
PaymentEventType = payment_pb2.PaymentEventType
LatePaymentPolicy = payment_pb2.LatePaymentPolicy
RefundReason = payment_pb2.RefundReason
NextStep = payment_pb2.NextStep
RefundStatus = payment_pb2.RefundStatus
Money = money_pb2.Money
Receipt = receipt_pb2.Receipt
ReceiptIssuer = receipt_pb2.ReceiptIssuer
ReceiptStanding = receipt_pb2.ReceiptStanding

__all__ = [
    "AsyncCursorStore",
    "Backoff",
    "BookingAction",
    "BookingHasLivePayment",
    "BookingUnderReview",
    "CallerNotAllowed",
    "CancelTooLate",
    "CannotConnect",
    "ConsumerNotFound",
    "ConsumerRewound",
    "CursorInvalid",
    "CursorMoved",
    "CursorRefused",
    "CursorStore",
    "DeadlineExceeded",
    "InvalidRequest",
    "LatePaymentPolicy",
    "LogDiverged",
    "Money",
    "NextStep",
    "Payment",
    "PaymentEvent",
    "PaymentEventType",
    "PaymentFilter",
    "PaymentNotFound",
    "PaymentStatus",
    "PaymentsClient",
    "PaymentsError",
    "PromptsRefused",
    "Purchase",
    "Receipt",
    "ReceiptIssuer",
    "ReceiptNotIssued",
    "ReceiptStanding",
    "RefundNotPossible",
    "RefundReason",
    "RefundStatus",
    "Refused",
    "RequestIdReused",
    "RetryTooEarly",
    "ServiceFault",
    "ServiceUnavailable",
    "StatusReason",
    "StillOpen",
    "SyncPaymentsClient",
    "TlsFiles",
    "TlsFilesUnusable",
    "TooManyRequests",
    "Unanswered",
    "UsedAcrossFork",
    "payment_pb2",
    "payment_service_pb2",
    "receipt_pb2",
]
