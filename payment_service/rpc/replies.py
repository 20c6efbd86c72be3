"""What callers see, as wire messages. On the path of every event, so it is written for speed."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import callback_service_pb2, money_pb2, payment_pb2, payment_service_pb2

from payment_service.application.following.consumers import ConsumerState
from payment_service.application.following.event_feed import Bookmark
from payment_service.application.following.follow_events import Batch
from payment_service.application.settling.accept_callbacks import CallbackOutcome
from payment_service.domain.advice import NextStep
from payment_service.domain.pay_bill import PayBill
from payment_service.domain.payment import BookingAction, PhoneWarning, RefundStatus, Status
from payment_service.domain.reasons import Reason
from payment_service.domain.refund import RefundReason
from payment_service.domain.views import Answered, EventType, EventView, PaymentView, RefundView
from payment_service.rpc.cursors import cursor_text

CURRENCY = "KES"

_STATUS = {s: payment_pb2.PaymentStatus.Value(f"PAYMENT_STATUS_{s.value}") for s in Status}
_REASON = {r: payment_pb2.StatusReason.Value(f"STATUS_REASON_{r.value}") for r in Reason}
_ACTION = {a: payment_pb2.BookingAction.Value(f"BOOKING_ACTION_{a.value}") for a in BookingAction}
_NEXT_STEP = {s: payment_pb2.NextStep.Value(f"NEXT_STEP_{s.value}") for s in NextStep}
_WARNING = {w: payment_pb2.PhoneWarning.Value(f"PHONE_WARNING_{w.value}") for w in PhoneWarning}
_REFUND_STATUS = {s: payment_pb2.RefundStatus.Value(f"REFUND_STATUS_{s.value}") for s in RefundStatus}
_REFUND_REASON = {r: payment_pb2.RefundReason.Value(f"REFUND_REASON_{r.value}") for r in RefundReason}
_EVENT_TYPE = {t: payment_pb2.PaymentEventType.Value(f"PAYMENT_EVENT_TYPE_{t.value}") for t in EventType}
_OUTCOME = {o: callback_service_pb2.CallbackOutcome.Value(f"CALLBACK_OUTCOME_{o.value}") for o in CallbackOutcome}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS = 86_400


def payment_message(view: PaymentView) -> payment_pb2.Payment:
    """A payment."""
    advice = view.advice
    message = payment_pb2.Payment(
        payment_id=str(view.payment_id),
        reference=view.reference,
        booking_id=view.booking_id,
        attempt=view.attempt,
        status=_STATUS[view.status],
        provider_result_code=view.result_code or "",
        customer_message=advice.sentence.spoken(view.language_code),
        next_step=_NEXT_STEP[advice.next_step],
        booking_action=_ACTION[view.booking_action],
        outcome_certain=view.outcome_certain,
        amount=money_message(view.amount),
        masked_phone=view.masked_phone,
        mpesa_receipt_number=view.receipt or "",
        paid_late=view.paid_late,
        create_time=timestamp(view.created_at),
        update_time=timestamp(view.updated_at),
        expire_time=timestamp(view.expires_at),
        metadata=view.metadata,
        version=view.version,
        caller=view.caller,
    )
    if view.reason is not None:
        message.status_reason = _REASON[view.reason]
    if view.retry_of is not None:
        message.retry_of = str(view.retry_of)
    if view.phone_warning is not None:
        message.phone_warning = _WARNING[view.phone_warning]
    if view.retry_allowed_at is not None:
        message.retry_allowed_time.CopyFrom(timestamp(view.retry_allowed_at))
    if view.refund is not None:
        message.refund.CopyFrom(refund_message(view.refund))
    message.refunds.extend(map(refund_message, view.refunds))
    if view.refunded_amount:
        message.refunded_amount.CopyFrom(money_message(view.refunded_amount))
    if view.completed_at is not None:
        message.complete_time.CopyFrom(timestamp(view.completed_at))
    if view.pay_bill is not None:
        message.pay_bill.CopyFrom(_pay_bill_message(view.pay_bill))
    return message


def _pay_bill_message(offer: PayBill) -> payment_pb2.PayBill:
    message = payment_pb2.PayBill(
        business_number=offer.business_number,
        account_number=offer.account_number,
        pay_until_time=timestamp(offer.until),
    )
    if offer.since is not None:
        message.pay_from_time.CopyFrom(timestamp(offer.since))
    return message


def refund_message(view: RefundView) -> payment_pb2.Refund:
    """A refund."""
    message = payment_pb2.Refund(
        refund_id=str(view.refund_id),
        status=_REFUND_STATUS[view.status],
        amount=money_message(view.amount),
        reason=_REFUND_REASON[view.reason],
        request_time=timestamp(view.requested_at),
        mpesa_receipt_number=view.receipt,
    )
    if view.ended_at is not None:
        message.end_time.CopyFrom(timestamp(view.ended_at))
    return message


def money_message(shillings: int) -> money_pb2.Money:
    """Whole shillings."""
    return money_pb2.Money(currency_code=CURRENCY, units=shillings)


def event_message(event: EventView, bookmark: Bookmark) -> payment_pb2.PaymentEvent:
    """An event; `bookmark` is any of the same reader."""
    view = event.payment
    message = payment_pb2.PaymentEvent(
        event_id=event_id(view),
        cursor=cursor_text(bookmark.after(event.position, event.tag)),
        type=_EVENT_TYPE[event.event_type],
        payment=payment_message(view),
        event_time=timestamp(view.updated_at),
    )
    if event.previous_status is not None:
        message.previous_status = _STATUS[event.previous_status]
    return message


def event_id(view: PaymentView) -> str:
    """Names the change that made the payment what it is."""
    return f"{view.payment_id}-{view.version}"


def initiated(answered: Answered, bookmark: Bookmark, token: str) -> payment_service_pb2.InitiatePaymentResponse:
    """The answer to InitiatePayment."""
    return payment_service_pb2.InitiatePaymentResponse(
        payment=payment_message(answered.view),
        cursor=cursor_text(bookmark),
        replayed=answered.replayed,
        status_token=token,
    )


def retried(answered: Answered, bookmark: Bookmark, token: str) -> payment_service_pb2.RetryPaymentResponse:
    """The answer to RetryPayment."""
    return payment_service_pb2.RetryPaymentResponse(
        payment=payment_message(answered.view),
        cursor=cursor_text(bookmark),
        replayed=answered.replayed,
        status_token=token,
    )


def cancelled(answered: Answered, bookmark: Bookmark) -> payment_service_pb2.CancelPaymentResponse:
    """The answer to CancelPayment."""
    return payment_service_pb2.CancelPaymentResponse(
        payment=payment_message(answered.view), cursor=cursor_text(bookmark), replayed=answered.replayed
    )


def refunded(answered: Answered, bookmark: Bookmark) -> payment_service_pb2.RefundPaymentResponse:
    """The answer to RefundPayment."""
    return payment_service_pb2.RefundPaymentResponse(
        payment=payment_message(answered.view), cursor=cursor_text(bookmark), replayed=answered.replayed
    )


def found(view: PaymentView, bookmark: Bookmark, token: str) -> payment_service_pb2.GetPaymentResponse:
    """The answer to GetPayment."""
    return payment_service_pb2.GetPaymentResponse(
        payment=payment_message(view), cursor=cursor_text(bookmark), status_token=token
    )


def listed(
    views: Sequence[PaymentView], next_page_token: str, bookmark: Bookmark
) -> payment_service_pb2.ListPaymentsResponse:
    """One page of ListPayments."""
    return payment_service_pb2.ListPaymentsResponse(
        payments=[payment_message(view) for view in views],
        next_page_token=next_page_token,
        cursor=cursor_text(bookmark),
    )


def followed_payment(batch: Batch) -> payment_service_pb2.WatchPaymentResponse:
    """One message of WatchPayment."""
    snapshot = None
    if batch.snapshot is not None:
        snapshot = _snapshot(batch.snapshot)
    return payment_service_pb2.WatchPaymentResponse(
        snapshot=snapshot,
        events=[event_message(event, batch.bookmark) for event in batch.events],
        cursor=cursor_text(batch.bookmark),
    )


def _snapshot(views: Sequence[PaymentView]) -> payment_service_pb2.PaymentSnapshot:
    """Payments as they stand, at the start of a watch."""
    return payment_service_pb2.PaymentSnapshot(payments=[payment_message(view) for view in views])


def followed_payments(batch: Batch) -> payment_service_pb2.WatchPaymentsResponse:
    """One message of WatchPayments."""
    return payment_service_pb2.WatchPaymentsResponse(
        events=[event_message(event, batch.bookmark) for event in batch.events],
        cursor=cursor_text(batch.bookmark),
        caught_up=batch.caught_up,
    )


def acknowledged(state: ConsumerState, now: datetime) -> payment_service_pb2.AcknowledgeEventsResponse:
    """The answer to AcknowledgeEvents."""
    answer = payment_service_pb2.AcknowledgeEventsResponse(
        cursor=cursor_text(state.bookmark), lag_events=state.lag.events
    )
    answer.lag.FromTimedelta(state.lag.age(now))
    return answer


def submitted(outcomes: Sequence[CallbackOutcome]) -> callback_service_pb2.SubmitCallbacksResponse:
    """The answer to SubmitCallbacks."""
    return callback_service_pb2.SubmitCallbacksResponse(outcomes=[_OUTCOME[outcome] for outcome in outcomes])


def timestamp(moment: datetime) -> Timestamp:
    """A time."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * _DAY_SECONDS + since.seconds, nanos=since.microseconds * 1_000)
