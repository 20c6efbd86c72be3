"""The methods of PassengerService, and what they show: nothing that names a person."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final
from uuid import UUID

from mpesa_payments.v1 import passenger_service_pb2 as pb

from payment_service.application.following.follow_for_passenger import follow_for_passenger
from payment_service.application.following.read_payments import get_payment
from payment_service.application.receipting.show_receipt import prove_receipt
from payment_service.domain.errors import PaymentNotFound, StatusTokenRefused
from payment_service.domain.views import PaymentView
from payment_service.rpc.calls import Call, Lane, Streaming, Unary
from payment_service.rpc.methods import Core
from payment_service.rpc.receipts import proof_message
from payment_service.rpc.replies import event_id, payment_message
from payment_service.security.status_tokens import check_status_token

_SHOWN: Final = frozenset(field.name for field in pb.PassengerPayment.DESCRIPTOR.fields)
_EVENT_ID: Final = re.compile(r"(.{36})-([1-9][0-9]{0,8})", re.ASCII)


async def get_passenger_payment(
    core: Core, _call: Call, message: pb.GetPassengerPaymentRequest
) -> pb.GetPassengerPaymentResponse:
    """GetPassengerPayment."""
    try:
        view, _ = await get_payment(core.reads, None, _payment_id(core, message))
    except PaymentNotFound as error:
        raise StatusTokenRefused from error
    return pb.GetPassengerPaymentResponse(payment=_passenger_payment(view))


async def watch_passenger_payment(
    core: Core, _call: Call, message: pb.WatchPassengerPaymentRequest
) -> AsyncGenerator[PaymentView | None]:
    """WatchPassengerPayment."""
    payment_id = _payment_id(core, message)
    seen = _EVENT_ID.fullmatch(message.last_event_id)
    seen_version = int(seen[2]) if seen is not None and seen[1] == str(payment_id) else 0
    following = follow_for_passenger(core.reads, payment_id, seen_version, core.heartbeat_seconds)
    try:
        async with aclosing(following) as views:
            async for view in views:
                yield view
    except PaymentNotFound as error:
        raise StatusTokenRefused from error


async def verify_receipt(core: Core, _call: Call, message: pb.VerifyReceiptRequest) -> pb.VerifyReceiptResponse:
    """VerifyReceipt."""
    shown = await prove_receipt(core.receipts, message.token)
    return pb.VerifyReceiptResponse(receipt=proof_message(shown) if shown is not None else None)


def _payment_id(core: Core, message: pb.GetPassengerPaymentRequest | pb.WatchPassengerPaymentRequest) -> UUID:
    """The payment that the token of the request is for, or StatusTokenRefused."""
    try:
        payment_id = UUID(message.payment_id)
    except ValueError as error:
        raise StatusTokenRefused from error
    check_status_token(core.token_keys, payment_id, message.status_token, core.clock())
    return payment_id


def _told(view: PaymentView | None) -> pb.WatchPassengerPaymentResponse:
    if view is None:
        return pb.WatchPassengerPaymentResponse()
    return pb.WatchPassengerPaymentResponse(payment=_passenger_payment(view), event_id=event_id(view))


def _passenger_payment(view: PaymentView) -> pb.PassengerPayment:
    """The fields that a passenger may see; they have the names that they have in a payment."""
    whole = payment_message(view)
    return pb.PassengerPayment(**{field.name: value for field, value in whole.ListFields() if field.name in _SHOWN})


PASSENGERS: Final[Mapping[str, Unary | Streaming]] = {
    "mpesa_payments.v1.PassengerService/GetPassengerPayment": Unary(get_passenger_payment, Lane.PASSENGER),
    "mpesa_payments.v1.PassengerService/VerifyReceipt": Unary(verify_receipt, Lane.PASSENGER),
    "mpesa_payments.v1.PassengerService/WatchPassengerPayment": Streaming(
        watch_passenger_payment, _told, lane=Lane.PASSENGER_STREAM
    ),
}
"""Every method of the service. The server refuses to start when one is missing."""
