"""The subscriber of a run: a `WatchPayments` client in a process of its own, which tells the load generator what ended.

It reads every event, as a notification service would, and writes a line to standard output for each payment that has
come to an end: booking, reference, status, wall clock in ns. What that means for the run is `load`'s to say.
"""

import argparse
import sys
import time

import grpc
import uvloop
from mpesa_payments.v1 import payment_pb2 as messages
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from benchmarks.reaching import add_service, channel_to_service

LIVE = (messages.PAYMENT_STATUS_PENDING, messages.PAYMENT_STATUS_PROCESSING)
READY_LINE = "ready"


async def subscribe(channel: grpc.aio.Channel) -> None:
    """Report ends until killed, or until nobody reads any more."""
    request = pb.WatchPaymentsRequest(position=pb.WatchPaymentsRequest.POSITION_LATEST)
    async with channel:
        stream = PaymentServiceStub(channel).WatchPayments(request)
        ready = False
        async for message in stream:
            now = time.time_ns()
            lines = [] if ready else [READY_LINE]
            ready = True
            for event in message.events:
                payment = event.payment
                if payment.status not in LIVE:
                    lines.append(f"{payment.booking_id} {payment.reference} {payment.status} {now}")
            if lines:
                sys.stdout.write("\n".join(lines) + "\n")
                sys.stdout.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_service(parser)
    arguments = parser.parse_args()

    async def run() -> None:
        await subscribe(channel_to_service(arguments))

    uvloop.run(run())


if __name__ == "__main__":
    main()
