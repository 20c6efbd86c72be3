"""The methods: parse, call, render. What is decided, is decided elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from mpesa_payments.v1 import callback_service_pb2 as callback_pb
from mpesa_payments.v1 import payment_service_pb2 as pb

from payment_service.application.collecting import cancel_payment as cancelling
from payment_service.application.collecting import retry_payment as retrying
from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.following import consumers as acknowledging
from payment_service.application.following import read_payments
from payment_service.application.following.consumers import follow_consumer
from payment_service.application.following.follow_events import (
    Batch,
    Start,
    Until,
    follow_all,
    follow_booking,
    follow_payment,
)
from payment_service.application.following.read_payments import PaymentReads
from payment_service.application.privacy.erase_person import Erasing
from payment_service.application.receipting.show_receipt import ReceiptTools
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.refunding import refund_payment as refunding
from payment_service.application.rekeying.held_keys import tell_of_gateway
from payment_service.application.settling.accept_callbacks import AcceptTools, accept_callbacks
from payment_service.application.settling.ask_status import StatusTools
from payment_service.application.settling.take_hints import HintTools, take_hint
from payment_service.domain.errors import InvalidRequest
from payment_service.domain.payment import ShortcodeLimits
from payment_service.domain.risk import Policy
from payment_service.domain.views import PaymentView
from payment_service.rpc import replies, requests
from payment_service.rpc.calls import Call, Lane, Streaming, Unary
from payment_service.rpc.cursors import Page, page_token, read_cursor, read_page_token
from payment_service.rpc.requests import Initiation
from payment_service.security.status_tokens import status_token
from payment_service.telemetry import traceparent
from runtime.callback_tokens import differing_keys
from runtime.key_rings import KeyRing

ANSWER_WITHIN_SECONDS = 5.0
"""A passenger sees "check your phone" by then, or "please wait"."""
ANSWER_MARGIN_SECONDS = 0.5
"""Before the caller's deadline: the answer has to travel."""
HEARTBEAT_SECONDS = 15.0
CALLBACKS_MAX_BYTES = 1_048_576

_STARTS: Mapping[int, Start] = {
    pb.WatchPaymentsRequest.POSITION_EARLIEST: Start.EARLIEST,
    pb.WatchPaymentsRequest.POSITION_LATEST: Start.LATEST,
}


@dataclass(frozen=True, slots=True)
class Core:
    """What the methods call, and the values they are set up with."""

    initiate: InitiatePayments
    facts: GroupCommit[Submission, Recorded]
    callbacks: AcceptTools
    hints: HintTools
    reads: PaymentReads
    refund_shortcodes: Collection[str]
    """Those that money can go back from; none where no initiator is set up."""
    questions: Mapping[str, StatusTools]
    """By shortcode, what M-Pesa is asked with as its operator; those without an initiator lack here."""
    shortcodes: Sequence[ShortcodeLimits]
    refunds_late_money: bool
    """Late money may go back without a person; otherwise no caller may ask for it."""
    token_keys: KeyRing
    """Of page tokens and of status tokens."""
    clock: Callable[[], datetime]
    erasing: Erasing
    receipts: ReceiptTools
    risk: Policy
    """The rules against unwanted prompts, for operators to look at."""
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    answer_within_seconds: float = ANSWER_WITHIN_SECONDS


async def initiate_payment(core: Core, call: Call, message: pb.InitiatePaymentRequest) -> pb.InitiatePaymentResponse:
    """InitiatePayment."""
    initiation = requests.parse_initiation(
        message, core.shortcodes, core.clock(), refunds_late_money=core.refunds_late_money
    )
    await _refuse_unless_repeated(core, call, initiation)
    bookmark, until = core.reads.feed.bookmark, _wait_until(core, call)
    answered = await core.initiate(call.caller, initiation.request, initiation.warning, until, traceparent())
    return replies.initiated(answered, bookmark, _status_token(core, answered.view))


async def retry_payment(core: Core, call: Call, message: pb.RetryPaymentRequest) -> pb.RetryPaymentResponse:
    """RetryPayment."""
    retry, warning = requests.parse_retry(message)
    bookmark, until = core.reads.feed.bookmark, _wait_until(core, call)
    answered = await retrying.retry_payment(
        core.initiate, core.shortcodes, core.clock(), call.caller, retry, warning, until, traceparent()
    )
    return replies.retried(answered, bookmark, _status_token(core, answered.view))


async def cancel_payment(core: Core, call: Call, message: pb.CancelPaymentRequest) -> pb.CancelPaymentResponse:
    """CancelPayment."""
    asked = requests.parse_cancel(message)
    bookmark = core.reads.feed.bookmark
    answered = await cancelling.cancel_payment(core.facts, core.reads, call.caller, asked)
    return replies.cancelled(answered, bookmark)


async def refund_payment(core: Core, call: Call, message: pb.RefundPaymentRequest) -> pb.RefundPaymentResponse:
    """RefundPayment."""
    asked = requests.parse_refund(message)
    bookmark = core.reads.feed.bookmark
    answered = await refunding.refund_payment(core.facts, core.reads, core.refund_shortcodes, call.caller, asked)
    return replies.refunded(answered, bookmark)


async def get_payment(core: Core, call: Call, message: pb.GetPaymentRequest) -> pb.GetPaymentResponse:
    """GetPayment."""
    view, bookmark = await read_payments.get_payment(core.reads, call.sees, requests.parse_target(message))
    return replies.found(view, bookmark, _status_token(core, view))


async def list_payments(core: Core, call: Call, message: pb.ListPaymentsRequest) -> pb.ListPaymentsResponse:
    """ListPayments."""
    wanted, page_size = requests.parse_list(message)
    filters = f"{call.caller} {wanted!r}".encode()
    before, bookmark = None, core.reads.feed.bookmark
    if message.page_token:
        asked = read_page_token(message.page_token, filters, core.token_keys)
        before, bookmark = asked.before, asked.bookmark
    page = await read_payments.list_payments(core.reads, call.sees, wanted, before, page_size)
    last = page.payments[-1].payment_id if page.more else None
    token = page_token(Page(last, bookmark), filters, core.token_keys) if last else ""
    return replies.listed(page.payments, token, bookmark)


def watch_payment(core: Core, call: Call, message: pb.WatchPaymentRequest) -> AsyncGenerator[Batch]:
    """WatchPayment."""
    watched = requests.parse_watch(message)
    after = read_cursor(message.cursor) if message.cursor else None
    if isinstance(watched, UUID):
        until = Until.CERTAIN if message.follow else Until.ENDED
        return follow_payment(core.reads, call.sees, watched, after, until, core.heartbeat_seconds)
    return follow_booking(core.reads, call.sees, watched, after, core.heartbeat_seconds)


def watch_payments(core: Core, call: Call, message: pb.WatchPaymentsRequest) -> AsyncGenerator[Batch]:
    """WatchPayments."""
    statuses, heartbeat = requests.parse_watch_all(message), core.heartbeat_seconds
    if message.WhichOneof("start") == "consumer":
        return follow_consumer(core.reads, call.caller, call.sees, message.consumer, statuses, heartbeat)
    by_cursor = message.WhichOneof("start") == "cursor"
    start = read_cursor(message.cursor) if by_cursor else _STARTS[message.position]
    return follow_all(core.reads, call.sees, start, statuses, heartbeat)


async def acknowledge_events(
    core: Core, call: Call, message: pb.AcknowledgeEventsRequest
) -> pb.AcknowledgeEventsResponse:
    """AcknowledgeEvents."""
    consumer, cursor = requests.parse_acknowledgement(message)
    now, upto = core.clock(), read_cursor(cursor)
    return replies.acknowledged(
        await acknowledging.acknowledge_events(core.reads, call.caller, call.sees, consumer, upto, now), now
    )


async def submit_callbacks(
    core: Core, _call: Call, message: callback_pb.SubmitCallbacksRequest
) -> callback_pb.SubmitCallbacksResponse:
    """SubmitCallbacks."""
    return replies.submitted(await accept_callbacks(core.callbacks, requests.parse_callbacks(message, core.clock())))


async def submit_hint(
    core: Core, _call: Call, message: callback_pb.SubmitHintRequest
) -> callback_pb.SubmitHintResponse:
    """SubmitHint."""
    await take_hint(core.hints, message.body)
    return callback_pb.SubmitHintResponse()


async def check_callback_keys(
    core: Core, _call: Call, message: callback_pb.CheckCallbackKeysRequest
) -> callback_pb.CheckCallbackKeysResponse:
    """CheckCallbackKeys."""
    checks = requests.parse_key_checks(message)
    if message.process:
        await tell_of_gateway(core.reads.engine, message.process, checks)
    differing = differing_keys(core.callbacks.keys, checks)
    return callback_pb.CheckCallbackKeysResponse(differing_key_ids=differing)


def _status_token(core: Core, view: PaymentView) -> str:
    return status_token(core.token_keys, view.payment_id, core.clock())


def _wait_until(core: Core, call: Call) -> float:
    """When a call that prompts a phone is answered at the latest, in the loop's time."""
    soon = asyncio.get_running_loop().time() + core.answer_within_seconds
    return min(soon, call.deadline - ANSWER_MARGIN_SECONDS)


async def _refuse_unless_repeated(core: Core, call: Call, initiation: Initiation) -> None:
    if not initiation.unless_repeated:
        return
    if not await read_payments.request_id_known(core.reads, call.caller, initiation.request.request_id):
        raise InvalidRequest(initiation.unless_repeated)


METHODS: Final[Mapping[str, Unary | Streaming]] = {
    "mpesa_payments.v1.PaymentService/InitiatePayment": Unary(initiate_payment, Lane.INITIATE),
    "mpesa_payments.v1.PaymentService/RetryPayment": Unary(retry_payment, Lane.INITIATE),
    "mpesa_payments.v1.PaymentService/CancelPayment": Unary(cancel_payment),
    "mpesa_payments.v1.PaymentService/RefundPayment": Unary(refund_payment),
    "mpesa_payments.v1.PaymentService/GetPayment": Unary(get_payment),
    "mpesa_payments.v1.PaymentService/ListPayments": Unary(list_payments),
    "mpesa_payments.v1.PaymentService/WatchPayment": Streaming(watch_payment, replies.followed_payment),
    "mpesa_payments.v1.PaymentService/WatchPayments": Streaming(watch_payments, replies.followed_payments),
    "mpesa_payments.v1.PaymentService/AcknowledgeEvents": Unary(acknowledge_events),
    "mpesa_payments.v1.CallbackService/SubmitCallbacks": Unary(
        submit_callbacks, Lane.CALLBACKS, request_max_bytes=CALLBACKS_MAX_BYTES
    ),
    "mpesa_payments.v1.CallbackService/SubmitHint": Unary(submit_hint, Lane.GATEWAY),
    "mpesa_payments.v1.CallbackService/CheckCallbackKeys": Unary(check_callback_keys, Lane.GATEWAY),
}
"""Every method of the API. The server refuses to start when one is missing."""
