"""Shows what a `WatchPayments` client receives, and nothing else: `python -m development.view HOST:PORT`.

A program of its own, so that what it prints has travelled the whole way: through the log, the stream and the network
to somebody who knows nothing but the contract. It decides how an event reads, and adds only the time at which it came.
With `--record-fd` it also writes every event, as received, as a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToJson
from mpesa_payments.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc
from rich.console import Console
from rich.text import Text

from development.certificates import NOTIFICATION, Certificates
from development.system import channel_to
from runtime.enum_names import short
from runtime.serving import StartRefused, stop_requested

# Connecting is retried for as long as this; afterwards the stream itself says when it is cut.
CONNECT_TIMEOUT_SECONDS = 20.0

_STATUS = payment_pb2.PaymentStatus
_COLOURS = {
    _STATUS.PAYMENT_STATUS_COMPLETED: "bold green",
    _STATUS.PAYMENT_STATUS_FAILED: "bold red",
    _STATUS.PAYMENT_STATUS_CANCELLED: "bold magenta",
    _STATUS.PAYMENT_STATUS_EXPIRED: "bold yellow",
}
# Wide enough for the longest of each in an ordinary run; more is shown whole, out of line.
LABEL_WIDTH, STATUS_WIDTH = 34, 10


@dataclass(frozen=True, slots=True)
class Source:
    """Where the events come from, and what the notification service shows there."""

    address: str
    certificates: Certificates | None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m development.view", description="Print every payment event.")
    parser.add_argument("address", help="HOST:PORT of the payment service")
    parser.add_argument(
        "--certificates", type=Path, help="folder of the development certificates; without it, plaintext"
    )
    parser.add_argument("--from-now", action="store_true", help="leave out what has already happened")
    parser.add_argument("--record-fd", type=int, help="open file descriptor for the events as lines of JSON")
    options = parser.parse_args()
    certificates = None if options.certificates is None else Certificates(options.certificates)
    record = None if options.record_fd is None else os.fdopen(options.record_fd, "w", encoding="utf-8", buffering=1)

    def keep(event: payment_pb2.PaymentEvent) -> None:
        if record is not None:
            record.write(MessageToJson(event, indent=None) + "\n")

    try:
        asyncio.run(_watch_until_stopped(Source(options.address, certificates), options.from_now, keep))
    except StartRefused as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    except (grpc.aio.AioRpcError, TimeoutError) as error:
        reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else "nobody answers"
        sys.stderr.write(f"The stream from {options.address} has ended: {reason}\n")
        return 1
    return 0


async def _watch_until_stopped(
    source: Source, from_now: bool, keep: Callable[[payment_pb2.PaymentEvent], None]
) -> None:
    stop = stop_requested()
    console = Console(highlight=False)
    watching = asyncio.create_task(_watch(source, from_now, console, keep))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        watching.cancel()
    else:
        await watching


async def _watch(
    source: Source, from_now: bool, console: Console, keep: Callable[[payment_pb2.PaymentEvent], None]
) -> None:
    async for event, received_at in events(source, from_now):
        # soft_wrap: a line is a line, however narrow the terminal and whatever reads it.
        console.print(line(event, received_at), soft_wrap=True)
        keep(event)


async def events(source: Source, from_now: bool) -> AsyncIterator[tuple[payment_pb2.PaymentEvent, float]]:
    """Every event with the time it came, in Unix seconds."""
    request = payment_service_pb2.WatchPaymentsRequest(
        position=payment_service_pb2.WatchPaymentsRequest.POSITION_LATEST
        if from_now
        else payment_service_pb2.WatchPaymentsRequest.POSITION_EARLIEST
    )
    async with channel_to(source.address, source.certificates, NOTIFICATION) as channel:
        await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT_SECONDS)
        async for message in payment_service_pb2_grpc.PaymentServiceStub(channel).WatchPayments(request):
            received_at = time.time()
            for event in message.events:
                yield event, received_at


def line(event: payment_pb2.PaymentEvent, received_at: float) -> Text:
    """When, which payment, what it is now, and what that means; all of it from the event."""
    payment = event.payment
    happened_at = event.event_time.ToNanoseconds() / 1e9
    age = (event.event_time.ToNanoseconds() - payment.create_time.ToNanoseconds()) / 1e9
    label = payment.metadata.get("story", payment.booking_id)
    status = status_name(payment.status)
    text = Text(f"{age:7.3f} s  ")
    text.append(f"{label:<{LABEL_WIDTH}}  ")
    text.append(f"{status:<{STATUS_WIDTH}}", style=_COLOURS.get(payment.status, ""))
    text.append(f"  {meaning(event)}")
    text.append(f"  [seen {(received_at - happened_at) * 1000:.0f} ms later]", style="dim")
    return text


def meaning(event: payment_pb2.PaymentEvent) -> str:
    """What happened, in a few words."""
    payment, types = event.payment, payment_pb2.PaymentEventType
    amount = f"{payment.amount.currency_code} {payment.amount.units}"
    reason = reason_words(payment.status_reason)
    action = f"the booking may: {action_words(payment.booking_action)}"
    match event.type:
        case types.PAYMENT_EVENT_TYPE_CREATED:
            return f"recorded: {amount} from {payment.masked_phone}"
        case types.PAYMENT_EVENT_TYPE_SENDING:
            return "asking Safaricom to prompt the phone"
        case types.PAYMENT_EVENT_TYPE_PROMPTED:
            return "accepted; the prompt is on the phone"
        case types.PAYMENT_EVENT_TYPE_UNCERTAIN:
            return f"{reason}: not known whether the phone rings, so it is not asked again"
        case types.PAYMENT_EVENT_TYPE_COMPLETED:
            return f"paid {amount}, receipt {payment.mpesa_receipt_number or 'pending'}; {action}"
        case types.PAYMENT_EVENT_TYPE_COMPLETED_LATE:
            return f"paid {amount} after all, receipt {payment.mpesa_receipt_number or 'pending'}; {action}"
        case types.PAYMENT_EVENT_TYPE_UPDATED if payment.outcome_certain:
            return f"now certain; {action}"
        case _:
            return f'{reason}: "{payment.customer_message}"; {action}'


def status_name(status: int) -> str:
    return short("PAYMENT_STATUS_", payment_pb2.PaymentStatus.DESCRIPTOR, status)


def reason_words(reason: int) -> str:
    return short("STATUS_REASON_", payment_pb2.StatusReason.DESCRIPTOR, reason).lower().replace("_", " ")


def action_words(action: int) -> str:
    return short("BOOKING_ACTION_", payment_pb2.BookingAction.DESCRIPTOR, action).lower().replace("_", " ")


if __name__ == "__main__":
    sys.exit(main())
