"""The floor's core: gRPC in, rows, HTTP out to a Daraja, callbacks in over gRPC, events out on a stream."""

import argparse
import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import uuid_utils
from mpesa_payments.v1 import callback_service_pb2 as callback_pb2
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as service_pb2

from benchmarks.floor import rows
from benchmarks.floor.rows import ANSWER, COMPLETE, CREATE, Group, write_groups
from runtime.grpc_options import SERVER_OPTIONS
from runtime.serving import run, stop_requested, write_ready_file

CURSOR = "0" * 48
"""As long as a cursor of the service."""
CALLBACK_TOKEN = "01" + "0123456789abcdef" * 2
CONNECTIONS_MAX = 1_000
PUSH_WAIT_SECONDS = 30.0
STOP_GRACE_SECONDS = 1.0
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Daraja:
    """Where pushes go, with the token in hand."""

    session: aiohttp.ClientSession
    url: str
    token: str
    shortcode: str
    passkey: str
    callback_base_url: str


@dataclass(frozen=True, slots=True)
class Live:
    """A payment in memory: its message, which every event copies, and whether the push has been answered."""

    message: payment_pb2.Payment
    amount: str
    answered: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Pending:
    """What one subscriber has not been sent yet."""

    events: list[payment_pb2.PaymentEvent] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Streams:
    """The subscribers."""

    open: list[Pending] = field(default_factory=list)

    def publish(self, kind: payment_pb2.PaymentEventType.ValueType, payment: payment_pb2.Payment) -> None:
        """The payment as it is now, to every subscriber."""
        event = payment_pb2.PaymentEvent(
            event_id=f"{payment.payment_id}:{payment.version}",
            cursor=CURSOR,
            type=kind,
            previous_status=payment.status,
            payment=payment,
            event_time=payment.update_time,
        )
        for pending in self.open:
            pending.events.append(event)
            pending.arrived.set()


@dataclass(slots=True)
class Floor:
    """The state of the process."""

    daraja: Daraja
    create: Group = field(default_factory=lambda: Group(CREATE))
    answer: Group = field(default_factory=lambda: Group(ANSWER))
    complete: Group = field(default_factory=lambda: Group(COMPLETE))
    streams: Streams = field(default_factory=Streams)
    live: dict[str, Live] = field(default_factory=dict)
    # Unique in the database over all processes that have written to it.
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns() // 1_000_000))


async def initiate_payment(
    floor: Floor, request: service_pb2.InitiatePaymentRequest, _: Context
) -> service_pb2.InitiatePaymentResponse:
    """Create with its claim, push, record the answer."""
    live = new_payment(floor, request)
    payment, amount, booking = live.message, live.amount, request.booking_id
    payment_id, fixed = payment.payment_id, (rows.PHONE, rows.INDEX, rows.REQUEST, rows.HASH, rows.TRACE)
    claim_id = str(uuid_utils.uuid7())
    claim = (claim_id, f"claim:{claim_id}")
    await floor.create.add((payment_id, booking, payment.reference, amount, *fixed, *claim, rows.TAG, rows.HASH))
    floor.streams.publish(payment_pb2.PAYMENT_EVENT_TYPE_CREATED, payment)
    payment.version = 2
    floor.streams.publish(payment_pb2.PAYMENT_EVENT_TYPE_SENDING, payment)
    merchant_id = await push(floor.daraja, payment, request.phone_number)
    # The blind index is unique, as the payment's id is.
    index = '"\\\\x' + payment_id.replace("-", "") + '"'
    event = (payment_id, f"answer:{claim_id}", amount, rows.TAG, rows.HASH)
    exchange = (str(uuid_utils.uuid7()), rows.EXCHANGE_REQUEST, rows.EXCHANGE_ANSWER)
    await floor.answer.add((*event, merchant_id, rows.CHECKOUT, index, *exchange))
    payment.version, payment.status = 3, payment_pb2.PAYMENT_STATUS_PROCESSING
    floor.streams.publish(payment_pb2.PAYMENT_EVENT_TYPE_PROMPTED, payment)
    live.answered.set_result(None)
    return service_pb2.InitiatePaymentResponse(payment=payment, cursor=CURSOR)


async def submit_callbacks(
    floor: Floor, request: callback_pb2.SubmitCallbacksRequest, _: Context
) -> callback_pb2.SubmitCallbacksResponse:
    """Complete the payments; the rows of one call go out together."""
    lives = [floor.live.pop(callback.reference) for callback in request.callbacks]
    for live in lives:
        # The push's answer is often still being written, and one row is not written twice at once.
        await live.answered
    written = [floor.complete.add(completed_row(live)) for live in lives]
    for live, future in zip(lives, written, strict=True):
        await future
        payment = live.message
        payment.version, payment.status = 4, payment_pb2.PAYMENT_STATUS_COMPLETED
        payment.booking_action = payment_pb2.BOOKING_ACTION_CONFIRM
        payment.complete_time.GetCurrentTime()
        floor.streams.publish(payment_pb2.PAYMENT_EVENT_TYPE_COMPLETED, payment)
    return callback_pb2.SubmitCallbacksResponse(outcomes=[callback_pb2.CALLBACK_OUTCOME_STORED] * len(lives))


async def watch_payments(
    floor: Floor, _request: service_pb2.WatchPaymentsRequest, _: Context
) -> AsyncIterator[service_pb2.WatchPaymentsResponse]:
    """Everything from now on, several events a message."""
    pending = Pending()
    floor.streams.open.append(pending)
    try:
        yield service_pb2.WatchPaymentsResponse(cursor=CURSOR, caught_up=True)
        while True:
            await pending.arrived.wait()
            pending.arrived.clear()
            message = service_pb2.WatchPaymentsResponse(events=pending.events, cursor=CURSOR)
            pending.events.clear()
            yield message
    finally:
        floor.streams.open.remove(pending)


def new_payment(floor: Floor, request: service_pb2.InitiatePaymentRequest) -> Live:
    """A payment in memory."""
    payment = payment_pb2.Payment(
        payment_id=str(uuid_utils.uuid7()),
        reference=f"{next(floor.numbers):012d}"[-12:],
        booking_id=request.booking_id,
        attempt=1,
        status=payment_pb2.PAYMENT_STATUS_PENDING,
        customer_message="Check your phone and enter your M-PESA PIN.",
        booking_action=payment_pb2.BOOKING_ACTION_WAIT,
        amount=request.amount,
        masked_phone="254***678",
        version=1,
    )
    payment.create_time.GetCurrentTime()
    payment.update_time.CopyFrom(payment.create_time)
    payment.expire_time.FromSeconds(payment.create_time.seconds + 120)
    live = Live(payment, str(request.amount.units), asyncio.get_running_loop().create_future())
    floor.live[payment.reference] = live
    return live


def completed_row(live: Live) -> rows.Row:
    """The columns of COMPLETE."""
    payment = live.message
    payment.mpesa_receipt_number = payment.reference[-10:]
    event = (f"callback:{payment.payment_id[:32]}", live.amount, rows.TAG, rows.HASH)
    callback = (str(uuid_utils.uuid7()), rows.CALLBACK_BODY, rows.INDEX)
    return (payment.payment_id, payment.reference, *event, payment.mpesa_receipt_number, *callback)


async def push(daraja: Daraja, payment: payment_pb2.Payment, phone_number: str) -> str:
    """One push; the MerchantRequestID of its answer."""
    timestamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 3 * 3600))
    body = {
        "BusinessShortCode": daraja.shortcode,
        "Password": base64.b64encode(f"{daraja.shortcode}{daraja.passkey}{timestamp}".encode()).decode(),
        "Timestamp": timestamp,
        "TransactionType": "CustomerPayBillOnline",
        "Amount": payment.amount.units,
        "PartyA": phone_number,
        "PartyB": daraja.shortcode,
        "PhoneNumber": phone_number,
        "CallBackURL": f"{daraja.callback_base_url}/callbacks/stk/{payment.reference}/{CALLBACK_TOKEN}",
        "AccountReference": payment.reference,
        "TransactionDesc": "Booking",
    }
    headers = {"Authorization": f"Bearer {daraja.token}", "Content-Type": "application/json"}
    url = f"{daraja.url}/mpesa/stkpush/v1/processrequest"
    async with daraja.session.post(url, data=json.dumps(body), headers=headers) as response:
        return str(json.loads(await response.read())["MerchantRequestID"])


async def fetch_token(session: aiohttp.ClientSession, url: str, credentials: str) -> str:
    """The one token of the run."""
    headers = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}
    async with session.get(f"{url}/oauth/v1/generate?grant_type=client_credentials", headers=headers) as response:
        return str(json.loads(await response.read())["access_token"])


def handlers(floor: Floor) -> "tuple[grpc.GenericRpcHandler[Any, Any], ...]":
    """The methods that the load generator, the subscriber and the edge call."""
    initiate = grpc.unary_unary_rpc_method_handler(
        partial(initiate_payment, floor),
        request_deserializer=service_pb2.InitiatePaymentRequest.FromString,
        response_serializer=service_pb2.InitiatePaymentResponse.SerializeToString,
    )
    watch = grpc.unary_stream_rpc_method_handler(
        partial(watch_payments, floor),
        request_deserializer=service_pb2.WatchPaymentsRequest.FromString,
        response_serializer=service_pb2.WatchPaymentsResponse.SerializeToString,
    )
    submit = grpc.unary_unary_rpc_method_handler(
        partial(submit_callbacks, floor),
        request_deserializer=callback_pb2.SubmitCallbacksRequest.FromString,
        response_serializer=callback_pb2.SubmitCallbacksResponse.SerializeToString,
    )
    payments = {"InitiatePayment": initiate, "WatchPayments": watch}
    return (
        grpc.method_handlers_generic_handler("mpesa_payments.v1.PaymentService", payments),
        grpc.method_handlers_generic_handler("mpesa_payments.v1.CallbackService", {"SubmitCallbacks": submit}),
    )


async def serve(arguments: argparse.Namespace) -> None:
    """Serve on a free port until told to stop."""
    stop = stop_requested()
    database_url = arguments.database_url_file.read_text(encoding="utf-8").strip()
    shortcode, passkey = arguments.shortcode.split("=")
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    timeout = aiohttp.ClientTimeout(total=PUSH_WAIT_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
    ) as session:
        token = await fetch_token(session, arguments.daraja_url, arguments.credentials)
        daraja = Daraja(session, arguments.daraja_url, token, shortcode, passkey, f"http://{arguments.edge}")
        floor = Floor(daraja)
        groups = (floor.create, floor.answer, floor.complete)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers(handlers(floor))
        server.add_insecure_port(arguments.listen)
        await server.start()
        async with asyncio.TaskGroup() as writers:
            tasks = [writers.create_task(write_groups(database_url, group)) for group in groups]
            write_ready_file(arguments.ready_file, {"address": arguments.listen})
            await stop.wait()
            await server.stop(STOP_GRACE_SECONDS)
            for task in tasks:
                task.cancel()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--database-url-file", type=Path, required=True, help="a database with the service's schema")
    parser.add_argument("--daraja-url", required=True)
    parser.add_argument("--credentials", required=True, help="KEY:SECRET of the simulator")
    parser.add_argument("--shortcode", required=True, help="NUMBER=PASSKEY of the simulator")
    parser.add_argument("--edge", required=True, help="HOST:PORT that takes the callbacks")
    parser.add_argument("--ready-file", type=Path, required=True)
    run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
