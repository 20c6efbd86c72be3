"""`payment-service consumers` as operators type it: a client of a running service, without its keys."""

from __future__ import annotations

from mpesa_payments.v1 import payment_service_pb2 as pb

from tests.application.following.reading import events_until
from tests.commands.started import command
from tests.rpc.processes import Process, sent

EARLIEST = pb.WatchPaymentsRequest.POSITION_EARLIEST


async def test_an_operator_sees_who_is_behind_and_offers_events_again(process: Process) -> None:
    environment = {"PAYMENTS_GRPC_ADDRESS": str(process.server.address), "PAYMENTS_PLAINTEXT": "true"}
    assert (await command(environment, "consumers", "list"))[:2] == (0, "There is none.\n")
    await process.tell(await process.create(), *sent(1))
    stream = aiter(process.payments.WatchPayments(pb.WatchPaymentsRequest(position=EARLIEST)))
    events = await events_until(stream, lambda some: len(some) >= 3)
    for consumer, event in (("bookings", events[2]), ("sms", events[0])):
        asked = pb.AcknowledgeEventsRequest(consumer=consumer, cursor=event.cursor)
        await process.payments.AcknowledgeEvents(asked)

    code, shown, errors = await command(environment, "consumers", "list")
    assert (code, errors) == (0, "")
    first, second = shown.splitlines()
    assert first.startswith("sms of development (its caller's events): 2 not acknowledged, the oldest for ")
    assert second.startswith("bookings of development (its caller's events): up to date; last word ")

    back = ("consumers", "rewind", "development", "bookings", "--reason", "lost its table")
    code, _, errors = await command(environment, *back)
    assert (code, errors) == (1, "Say from when on: with --minutes or with --since, not with both.\n")
    code, shown, errors = await command(environment, *back, "--since", "2020-01-01T00:00+03:00")
    assert (code, errors) == (0, "")
    assert "bookings of development (its caller's events): 3 not acknowledged" in shown
    assert shown.endswith(", which it has not heard of yet\n")

    gone = ("consumers", "forget", "development", "sms", "--reason", "no more")
    assert (await command(environment, *gone))[:2] == (0, "Forgotten: sms of development.\n")
    code, _, errors = await command(environment, *gone)
    assert (code, "no consumer of this name" in errors) == (1, True)
