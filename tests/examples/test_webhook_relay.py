"""The webhook relay between the real service and a receiver that works, fails, or lies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from mpesa_payments.v1 import operations_service_pb2 as operations_pb
from standardwebhooks import Webhook

from development.postgres import find_free_port
from examples.webhook_relay.outbox import Entry, Outbox
from examples.webhook_relay.relay import GIVEN_UP_AFTER_SECONDS, LONGEST_PAUSE_SECONDS, Relay
from examples.webhook_relay.webhook import Receiver, entry_of
from payment_client import PaymentEvent, PaymentEventType, PaymentsClient
from payment_service.domain.payment import Payment
from tests.databases import Database
from tests.examples.shops import until
from tests.patience import PATIENCE_SECONDS
from tests.payment_client.clients import client_of
from tests.rpc.processes import Process, paid, running_process, sent

SECRET = "whsec_" + b64encode(b"a secret for this test only!").decode()


@dataclass
class Team:
    """The team's endpoint, as it is and as the test has it behave."""

    url: str = ""
    status: int = 200
    retry_after: str = ""
    refused: frozenset[str] = frozenset()
    """Bookings whose events are not taken."""
    taken: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    posts: int = 0

    async def take(self, request: web.Request) -> web.Response:
        self.posts += 1
        text, at = (await request.read()).decode(), float(request.headers["webhook-timestamp"])
        # Not by the library's `verify`: it goes by the real time, and tests turn the clock.
        signature = Webhook(SECRET).sign(request.headers["webhook-id"], datetime.fromtimestamp(at, UTC), text)
        assert request.headers["webhook-signature"] == signature
        body = json.loads(text)
        if self.status != 200 or body["data"]["booking_id"] in self.refused:
            status = self.status if self.status != 200 else 500
            return web.Response(status=status, headers={"retry-after": self.retry_after, "location": "/elsewhere"})
        self.taken.append(request.headers["webhook-id"])
        self.bodies.append(body)
        return web.Response(status=204)


class TurnedClock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def team() -> AsyncIterator[Team]:
    made = Team()
    app = web.Application()
    app.router.add_post("/payments", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/payments"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(process: Process) -> AsyncIterator[PaymentsClient]:
    async with client_of(str(process.server.address)) as made:
        yield made


@contextlib.asynccontextmanager
async def a_relay(client: PaymentsClient, team: Team, path: Path, clock: TurnedClock) -> AsyncIterator[Relay]:
    """A relay that reads by itself and posts when the test says so."""
    outbox = Outbox(path)
    async with httpx.AsyncClient() as http:
        relay = Relay(client, outbox, Receiver(team.url, SECRET, http), clock)
        reading = asyncio.create_task(relay.read())
        try:
            yield relay
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            outbox.close()


async def post_until(relay: Relay, team: Team, count: int) -> None:
    """Post what is due until the team has taken so many events."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(team.taken) < count:
            if not await relay.post_what_is_due():
                await asyncio.sleep(0.02)


async def until_read(relay: Relay, count: int) -> None:
    """Until the relay has so many events to post."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while relay.outbox.waiting() < count:
            await asyncio.sleep(0.02)


def events_of(payment: Payment) -> list[str]:
    return [f"{payment.payment_id}-{version}" for version in (1, 2, 3, 4)]


async def test_events_come_signed_once_and_in_order_across_restarts(
    process: Process, client: PaymentsClient, team: Team, tmp_path: Path
) -> None:
    expected = []
    for number in (1, 2):
        payment = await process.tell(await process.create(), *sent(number), paid(f"SJ1234567{number}"))
        expected += events_of(payment)
        async with a_relay(client, team, tmp_path / "outbox", TurnedClock()) as relay:
            await post_until(relay, team, len(expected))
    assert team.taken == expected
    assert [body["type"] for body in team.bodies[:4]] == [
        "payment.created", "payment.sending", "payment.prompted", "payment.completed",
    ]  # fmt: skip
    data = team.bodies[3]["data"]
    assert isinstance(data, dict)
    assert (data["status"], data["amount"]) == ("PAYMENT_STATUS_COMPLETED", {"currency_code": "KES", "units": "500"})
    assert "254712345678" not in json.dumps(team.bodies)


async def test_operators_see_the_relay_and_what_they_offer_again_is_posted_again(
    database: Database, team: Team, tmp_path: Path
) -> None:
    async with (
        # It says something often, so that the relay acknowledges as soon as it starts.
        running_process(database.application_url, tmp_path, heartbeat_seconds=0.2) as process,
        client_of(str(process.server.address)) as client,
    ):
        payment = await process.tell(await process.create(), *sent(1), paid("SJ12345678"))

        async def seen() -> Sequence[operations_pb.Consumer]:
            return (await process.operations.ListConsumers(operations_pb.ListConsumersRequest())).consumers

        async def is_seen() -> bool:
            return [(one.consumer, one.lag_events) for one in await seen()] == [("webhooks", 0)]

        async with a_relay(client, team, tmp_path / "outbox", TurnedClock()) as relay:
            await post_until(relay, team, 4)
        async with a_relay(client, team, tmp_path / "outbox", TurnedClock()):
            await until(is_seen, "the relay has acknowledged")
        (consumer,) = await seen()
        again = operations_pb.RewindConsumerRequest(
            caller=consumer.caller, consumer="webhooks", operator="amina", reason="lost by the team"
        )
        again.from_time.FromSeconds(0)
        await process.operations.RewindConsumer(again)
        async with a_relay(client, team, tmp_path / "outbox", TurnedClock()) as relay:
            await post_until(relay, team, 8)
    assert team.taken == events_of(payment) * 2


async def test_a_receiver_that_fails_for_an_hour_takes_all_in_order_afterwards(
    process: Process, client: PaymentsClient, team: Team, tmp_path: Path
) -> None:
    payment = await process.tell(await process.create(), *sent(1), paid("SJ12345671"))
    clock = TurnedClock()
    team.status = 503
    async with a_relay(client, team, tmp_path / "outbox", clock) as relay:
        await until_read(relay, 4)
        for _ in range(60):
            await relay.post_what_is_due()
            clock.now += 60
    assert 6 <= team.posts <= 14, "the pauses double"
    assert team.taken == []
    team.status = 200
    clock.now += LONGEST_PAUSE_SECONDS
    async with a_relay(client, team, tmp_path / "outbox", clock) as relay:
        await post_until(relay, team, 4)
        assert await relay.post_what_is_due() == 0
    assert team.taken == events_of(payment)


async def test_one_booking_that_is_not_taken_holds_up_no_other(
    process: Process, client: PaymentsClient, team: Team, tmp_path: Path
) -> None:
    poisoned = await process.create(booking_id="POISON")
    fine = await process.tell(await process.create(), *sent(1), paid("SJ12345671"))
    team.refused = frozenset({"POISON"})
    clock = TurnedClock()
    async with a_relay(client, team, tmp_path / "outbox", clock) as relay:
        await post_until(relay, team, 4)
        assert team.taken == events_of(fine)
        clock.now += GIVEN_UP_AFTER_SECONDS
        await relay.post_what_is_due()
    with contextlib.closing(Outbox(tmp_path / "outbox")) as outbox:
        (dead,) = outbox.given_up()
        assert (dead.event_id, dead.booking_id, dead.tries) == (f"{poisoned.payment_id}-1", "POISON", 2)
        assert dead.last_error == "HTTP 500"
        assert outbox.offer_again([dead.event_id, "unknown"]) == 1
    team.refused = frozenset()
    async with a_relay(client, team, tmp_path / "outbox", clock) as relay:
        await post_until(relay, team, 5)
    assert team.taken[-1] == f"{poisoned.payment_id}-1"


@pytest.mark.parametrize("asked", ["7200", "http date"])
async def test_a_receiver_that_asks_for_a_pause_gets_it(
    process: Process, client: PaymentsClient, team: Team, tmp_path: Path, asked: str
) -> None:
    await process.create()
    clock = TurnedClock()
    team.status, team.retry_after = 429, "7200" if asked == "7200" else formatdate(clock.now + 7200, usegmt=True)
    async with a_relay(client, team, tmp_path / "outbox", clock) as relay:
        await until_read(relay, 1)
        await relay.post_what_is_due()
        clock.now += 7000
        assert await relay.post_what_is_due() == 0
        clock.now += 300
        assert await relay.post_what_is_due() == 1


async def test_an_answer_that_leads_elsewhere_is_not_followed_and_no_answer_is_tried_again(
    process: Process, client: PaymentsClient, team: Team, tmp_path: Path
) -> None:
    await process.create()
    clock = TurnedClock()
    team.status = 307
    async with a_relay(client, team, tmp_path / "outbox", clock) as relay:
        await until_read(relay, 1)
        await relay.post_what_is_due()
        assert (team.posts, team.taken) == (1, [])
    gone = Team(url=f"http://127.0.0.1:{find_free_port()}/")
    clock.now += LONGEST_PAUSE_SECONDS
    async with a_relay(client, gone, tmp_path / "outbox", clock) as relay:
        assert await relay.post_what_is_due() == 1
    with contextlib.closing(Outbox(tmp_path / "outbox")) as outbox:
        assert outbox.waiting() == 1


def test_the_file_belongs_to_one_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(Outbox(tmp_path / "outbox")) as outbox:
        outbox.take([Entry("e-1", "B", "{}")], "cursor")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Outbox(tmp_path / "outbox", wait_seconds=0)
    with contextlib.closing(Outbox(tmp_path / "outbox")) as outbox:
        assert (outbox.cursor, outbox.waiting()) == ("cursor", 1)


@pytest.mark.parametrize("url", ["http://team.example/hook", "ftp://127.0.0.1/", "team.example"])
async def test_events_leave_this_machine_over_https_only(url: str) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(ValueError, match="expected https"):
            Receiver(url, SECRET, http)
        Receiver("https://team.example/hook", SECRET, http)


def test_news_that_are_newer_than_the_relay_are_posted_all_the_same() -> None:
    unheard_of = PaymentEventType.ValueType(max(PaymentEventType.values()) + 1)
    entry = entry_of(PaymentEvent(event_id="e-1", type=unheard_of))
    assert json.loads(entry.body)["type"] == "payment.updated"
