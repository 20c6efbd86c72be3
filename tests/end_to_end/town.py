"""The people around a whole installation: the booking service, the passenger's phone, Safaricom; and what they saw.

Everything runs as the programs that are shipped, each in a process of its own. A test asks for a payment as the
booking service does, scripts the phone through the simulator, and then compares three independent accounts: the
caller's stream, what the service says when asked, and the simulator's own ledger.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from mpesa_payments.v1 import money_pb2, payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.slowness import slowness
from payment_service.security.keys import load_keys
from payment_service.security.sealing import CALLBACK_BODY, Sealer
from tests.databases import Database
from tests.parts import Process, Site
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of

LOOK_SECONDS = 0.05
# For a prompt that only the test itself ends: it stays open longer than any test takes.
UNTIL_TOLD: Mapping[str, Any] = {"callback": "never", "callback_delay_seconds": 3600}
# As shipped on a quiet machine. On a slow one nothing is asked about, and nothing given up, before a test goes on.
PATIENT_TIMES: Mapping[str, Any] = {"query_after_s": 30 * slowness(), "expire_after_s": 120 * slowness()}
# One per test process: a phone that two tests shared would have two prompts open.
PHONES = itertools.count(1)

Found = TypeVar("Found")


def a_phone() -> str:
    """A number that nobody else uses, and that pays."""
    return f"25472{next(PHONES):07d}"


def a_phone_that(ends: str) -> str:
    """A virtual phone by its last three digits, which decide what its owner does."""
    return f"2547000{next(PHONES) % 100:02d}{ends}"


async def until(look: Callable[[], Awaitable[Found | None]], what: str) -> Found:
    """Look again and again until something is found."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await look()) is None:
                await asyncio.sleep(LOOK_SECONDS)
            return found
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


@dataclass(frozen=True)
class Simulator:
    """The simulator's control API. Its ledger is the account of the passenger and of Safaricom."""

    http: httpx.AsyncClient

    async def control(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(f"/control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def script(self, phone: str, *behaviours: Mapping[str, Any]) -> None:
        """What the phone does with its next pushes, in order."""
        await self.control(f"phones/{phone}/script", behaviours=list(behaviours))

    async def ledger(self, **narrowed_by: str) -> dict[str, Any]:
        return dict((await self.http.get("/control/ledger", params=narrowed_by)).json())

    async def pushes(self, **narrowed_by: str) -> list[dict[str, Any]]:
        return list((await self.ledger(**narrowed_by))["pushes"])

    async def first_push(self, phone: str) -> dict[str, Any]:
        """The first push for a phone, as soon as the simulator has it."""

        async def look() -> dict[str, Any] | None:
            return next(iter(await self.pushes(phone=phone)), None)

        return await until(look, "a push")

    async def prompted(self, phone: str) -> dict[str, Any]:
        """The push that the phone shows, as soon as it does."""

        async def look() -> dict[str, Any] | None:
            return next((push for push in await self.pushes(phone=phone) if push["prompted"]), None)

        return await until(look, "a prompt")

    async def settle(self, phone: str, **behaviour: Any) -> list[int | None]:
        """A new result for the phone's latest prompt, and its callback; the statuses it was answered with."""
        answer = await self.control("callbacks/settle", phone=phone, **behaviour)
        return [callback["status"] for callback in answer["callbacks"]]


@dataclass(frozen=True)
class Grounds:
    """What an installation stands on: keys and settings, a database, a simulator, and the address of its gateway."""

    site: Site
    database: Database
    simulator: Simulator
    edge_address: str
    edge: httpx.AsyncClient

    async def post_callback(self, push: Mapping[str, Any], body: bytes, **headers: str) -> int:
        """Post a body to the address that Daraja was given with a push; the status of the answer."""
        return (await self.edge.post(push["callback_url"], content=body, headers=headers)).status_code

    async def cases(self, payment: payment_pb2.Payment) -> list[tuple[str, bool]]:
        """The cases of a payment, in order: kind, and whether it is about money."""
        query = "SELECT kind, is_money FROM cases WHERE reference = %s ORDER BY opened_at, case_id"
        return [(row[0], row[1]) for row in await rows_of(self.database, query, (payment.reference,))]

    async def kept_exchange(self, payment: payment_pb2.Payment) -> str:
        """How the answer to a payment's push was understood, as soon as it is recorded."""
        query = "SELECT classified_as FROM daraja_exchanges WHERE payment_id = %s ORDER BY started_at DESC"

        async def look() -> str | None:
            rows = await rows_of(self.database, query, (payment.payment_id,))
            return str(rows[0][0]) if rows else None

        return await until(look, "the record of an exchange")

    async def kept_bodies(self, reference: str | None = None) -> list[tuple[bytes, str]]:
        """The callbacks kept for a reference, or for any, as they came, each with its status in the inbox."""
        sealer = Sealer(load_keys(self.site.folder / "keys.json"))
        query = """
SELECT reference, body_hash, body, status FROM callback_inbox WHERE reference = coalesce(%s, reference)
ORDER BY callback_id"""
        rows = await rows_of(self.database, query, (reference,))
        return [
            (sealer.open(CALLBACK_BODY, kept_for.encode() + body_hash, body), status)
            for kept_for, body_hash, body, status in rows
        ]


@dataclass(frozen=True)
class Town(Grounds):
    """A whole installation: two payment services on one database, a gateway before the first, and a simulator.

    Both have the times as shipped, or as much longer as the machine is slower.
    """

    patient: PaymentServiceStub
    other: PaymentServiceStub
    processes: Sequence[Process]


@dataclass(frozen=True)
class HastyTown(Grounds):
    """An installation that gives payments up within seconds, so that tests of the end need not wait two minutes.

    It has a database of its own: a payment that is not sent at once may be sent by any process of its database, and
    then has the times of that process.
    """

    payments: PaymentServiceStub


@dataclass(frozen=True)
class Story:
    """One payment as three parties tell it."""

    events: list[payment_pb2.PaymentEvent]
    payment: payment_pb2.Payment
    pushes: list[dict[str, Any]]

    @property
    def path(self) -> list[str]:
        """The statuses in order, each once."""
        return [name for name, _ in itertools.groupby(status_of(event.payment) for event in self.events)]

    @property
    def prompts(self) -> int:
        return sum(push["prompted"] for push in self.pushes)

    @property
    def debited(self) -> int:
        return sum(push["debited_kes"] for push in self.pushes)


def status_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.PaymentStatus.Name(payment.status).removeprefix("PAYMENT_STATUS_")


def reason_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.StatusReason.Name(payment.status_reason).removeprefix("STATUS_REASON_")


def action_of(payment: payment_pb2.Payment) -> str:
    return payment_pb2.BookingAction.Name(payment.booking_action).removeprefix("BOOKING_ACTION_")


def a_request(phone: str, **fields: Any) -> pb.InitiatePaymentRequest:
    """A request as the booking service makes it; a new booking and a new request id unless named."""
    defaults: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "booking_id": f"BK-{uuid.uuid4()}",
        "phone_number": phone,
        "amount": money_pb2.Money(currency_code="KES", units=500),
    }
    return pb.InitiatePaymentRequest(**(defaults | fields))


async def initiate(payments: PaymentServiceStub, phone: str, **fields: Any) -> pb.InitiatePaymentResponse:
    return await payments.InitiatePayment(a_request(phone, **fields), timeout=PATIENCE_SECONDS)


async def prompt(payments: PaymentServiceStub, phone: str, **fields: Any) -> pb.InitiatePaymentResponse:
    """Ask for a payment; it is returned once its push is answered, which may be later than the call is."""
    started = await initiate(payments, phone, **fields)
    if status_of(started.payment) == "PENDING":
        events = await events_until(payments, started, lambda payment: status_of(payment) != "PENDING")
        started.payment.CopyFrom(events[-1].payment)
    return started


async def get(payments: PaymentServiceStub, payment_id: str) -> payment_pb2.Payment:
    return (await payments.GetPayment(pb.GetPaymentRequest(payment_id=payment_id), timeout=PATIENCE_SECONDS)).payment


async def payment_when(
    payments: PaymentServiceStub, payment_id: str, holds: Callable[[payment_pb2.Payment], bool], what: str
) -> payment_pb2.Payment:
    """The payment as soon as something holds for it."""

    async def look() -> payment_pb2.Payment | None:
        payment = await get(payments, payment_id)
        return payment if holds(payment) else None

    return await until(look, what)


async def events_to_the_end(
    payments: PaymentServiceStub, started: pb.InitiatePaymentResponse
) -> list[payment_pb2.PaymentEvent]:
    """What a watcher of the payment is told from its first version until the stream ends by itself."""
    request = pb.WatchPaymentRequest(payment_id=started.payment.payment_id, cursor=started.cursor)
    return [
        event async for message in payments.WatchPayment(request, timeout=PATIENCE_SECONDS) for event in message.events
    ]


async def events_until(
    payments: PaymentServiceStub,
    started: pb.InitiatePaymentResponse,
    holds: Callable[[payment_pb2.Payment], bool],
) -> list[payment_pb2.PaymentEvent]:
    """What a watcher of the booking is told of this payment, until something holds for it."""
    request = pb.WatchPaymentRequest(booking_id=started.payment.booking_id, cursor=started.cursor)
    events: list[payment_pb2.PaymentEvent] = []
    async for message in payments.WatchPayment(request, timeout=PATIENCE_SECONDS):
        for event in message.events:
            if event.payment.payment_id == started.payment.payment_id:
                events.append(event)
                if holds(event.payment):
                    return events
    raise AssertionError("the watch of a booking never ends by itself")


async def told_by(
    grounds: Grounds,
    payments: PaymentServiceStub,
    events: list[payment_pb2.PaymentEvent],
) -> Story:
    """The story so far; the three accounts must agree."""
    payment = await get(payments, events[0].payment.payment_id)
    every = await grounds.simulator.pushes()
    pushes = [push for push in every if f"/{payment.reference}/" in push["callback_url"]]
    first = events[0].payment.version
    assert [event.payment.version for event in events] == list(range(first, first + len(events)))
    assert len({event.event_id for event in events}) == len(events)
    assert events[-1].payment == payment, "the stream's last word and the service's own differ"
    paid = payment.status in (payment_pb2.PAYMENT_STATUS_COMPLETED, payment_pb2.PAYMENT_STATUS_REFUNDED)
    assert {push["receipt"] for push in pushes} - {""} == ({payment.mpesa_receipt_number} - {""} if paid else set())
    return Story(events, payment, pushes)


async def lived(grounds: Grounds, payments: PaymentServiceStub, phone: str, **fields: Any) -> Story:
    """Ask for a payment and follow it until its watch ends."""
    started = await initiate(payments, phone, **fields)
    story = await told_by(grounds, payments, await events_to_the_end(payments, started))
    assert story.events[0].type == payment_pb2.PAYMENT_EVENT_TYPE_CREATED, "the cursor was taken too late"
    return story
