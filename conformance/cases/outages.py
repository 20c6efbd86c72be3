"""Parts that stop, die or go away under load: what was acknowledged stays, and no phone rings twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import grpc.aio
import psutil
from google.protobuf.timestamp_pb2 import Timestamp
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb

from conformance.account import Seen
from conformance.caller import Caller, a_request, has_status, refusal_of, status_of
from conformance.cases.late import TOLD_TO_THE_SECOND
from conformance.installation import Installation
from conformance.judgement import LOOK_SECONDS, PATIENCE_SECONDS, NotSo, expect, until
from conformance.running import case_alone, case_with_certificates
from conformance.simulator import UNTIL_TOLD, a_number
from development.postgres import transaction_left_open
from development.slowness import slowness

COUNTERS = 8
# Of each counter, one after the other.
PASSENGERS = 12
BACKEND_KILLS = 5
SPOOLED = 40
PAID_MEANWHILE = 12
SENT_BACK = 4
# Long enough for the request to come before its end; nothing depends on how much later the prompts are out.
HOLD_SECONDS = 2 * slowness()
# Mostly long enough for every prompt to be sent and paid; else as many times longer as it takes.
EXPIRY_SECONDS = 5 * slowness()
EXPIRY_TRIES_MAX = 4
PAID_PATH = "PENDING → PROCESSING → COMPLETED"


class Load:
    """Passengers at several counters, each asked for at either process in turn, as a careful client asks."""

    def __init__(self, arena: Installation) -> None:
        self._arena = arena
        self.asked: list[pb.InitiatePaymentResponse] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The block runs while passengers come; at its end, wait for the last of them."""
        counters = asyncio.gather(*(self._counter(number) for number in range(COUNTERS)))
        try:
            yield
            await counters
        finally:
            counters.cancel()

    async def reached(self, share: float) -> None:
        """Wait until this share of all passengers has been answered."""

        async def look() -> bool | None:
            return len(self.asked) >= share * COUNTERS * PASSENGERS or None

        await until(look, "passengers at the counters")

    async def all_paid_once(self) -> Seen:
        """Every payment that was acknowledged is settled, with one push, one prompt and one debit."""
        expect("passengers who were answered", len(self.asked), COUNTERS * PASSENGERS)
        for one in self.asked:
            account = await self._arena.account(one)
            account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
        number = len(self.asked)
        return Seen(f"{number} × COMPLETED, CONFIRM; no call failed for good", f"{number} × 1 prompt, KES 500 paid")

    async def _counter(self, number: int) -> None:
        callers = [self._arena.first, self._arena.second]
        for _ in range(PASSENGERS):
            self.asked += [await insist(a_request(a_number()), itertools.cycle(callers[:: (-1) ** number]))]


async def insist(request: pb.InitiatePaymentRequest, callers: itertools.cycle[Caller]) -> pb.InitiatePaymentResponse:
    """Ask until somebody answers: when a process is away, the same request goes to the next."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await next(callers).ask(request)
            except grpc.aio.AioRpcError as error:
                # A call that arrives in the moment of a stop is ended by gRPC itself, as CANCELLED and without details.
                expect("why a call is repeated", refusal_of(error).code in ("UNAVAILABLE", "CANCELLED"), True)
                await asyncio.sleep(LOOK_SECONDS)


@case_with_certificates
async def one_of_two_drains_under_load(arena: Installation) -> Seen:
    """Under load one of two processes gets SIGTERM; callers repeat what it no longer takes at the other."""
    load = Load(arena)
    async with load.running():
        await load.reached(0.3)
        await arena.stop("second")
    await arena.start_again("second")
    return await load.all_paid_once()


@case_with_certificates
async def database_connections_killed_under_load(arena: Installation) -> Seen:
    """Under load every connection to the database is killed, five times over."""
    load = Load(arena)
    async with load.running():
        for kill in range(BACKEND_KILLS):
            await load.reached((kill + 1) / (BACKEND_KILLS + 1))
            kill_connections(arena)
    return await load.all_paid_once()


def kill_connections(arena: Installation) -> None:
    """End the server's process of every connection to this installation's database."""
    for process in psutil.Process(arena.server.process_id).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            # A connection's process is titled "postgres: ROLE DATABASE ADDRESS(PORT) …".
            if f" {arena.database} " in " ".join(process.cmdline()):
                process.terminate()


@case_with_certificates
async def stopped_with_a_push_on_the_wire(arena: Installation) -> Seen:
    """A process gets SIGTERM while a push of its own is being answered; its caller still waits."""
    # Time for the stop, and not so long that the caller, who waits 5 s, is answered before.
    phone = await arena.simulator.phone({**UNTIL_TOLD, "answer_delay_seconds": 2})
    call = asyncio.ensure_future(arena.second.initiate(phone))
    await arena.simulator.prompted(phone)
    await arena.stop("second")
    started = await call
    # PENDING where the machine is so slow that the caller's 5 s were over before.
    expect("the caller is answered", status_of(started.payment) in ("PENDING", "PROCESSING"), True)
    await arena.simulator.settle(phone, ending="paid")
    account = await arena.account(started)
    await arena.start_again("second")
    account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen("answered before the process ended")


@case_with_certificates
async def payment_service_away(arena: Installation) -> Seen:
    """The callback comes while the payment service is down, and never again."""
    phone = await arena.simulator.phone({**UNTIL_TOLD, "pull": "never"})
    started = await arena.first.prompt(phone)
    await arena.stop("first")
    expect("the answer meanwhile", await arena.simulator.settle(phone, ending="paid"), [200])
    await arena.start_again("first")
    account = await arena.account(started)
    account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    return account.seen(ledger="callback answered 200 meanwhile")


@case_alone
async def gateway_killed_with_a_full_spool(arena: Installation) -> Seen:
    """The service is down, forty callbacks come, the gateway is killed with -9; then both come up again."""
    phones = [await arena.simulator.phone(UNTIL_TOLD) for _ in range(SPOOLED)]
    started = await asyncio.gather(*(arena.first.prompt(phone) for phone in phones))
    await arena.stop("first")
    answers = await asyncio.gather(*(arena.simulator.settle(phone, ending="paid") for phone in phones))
    expect("the answers meanwhile", answers, [[200]] * SPOOLED)
    await arena.kill("gateway")
    await asyncio.gather(arena.start_again("gateway"), arena.start_again("first"))
    for one in started:
        account = await arena.account(one)
        account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500)
    said = f"{SPOOLED} × COMPLETED, CONFIRM"
    return Seen(said, f"{SPOOLED} × 1 prompt, KES 500 paid, callback answered 200 meanwhile")


@case_alone
async def services_killed_while_late_money_goes_back(arena: Installation) -> Seen:
    """Four passengers pay after their hold, and late money is to go back; meanwhile both services are killed."""
    phones = [await arena.simulator.phone(UNTIL_TOLD) for _ in range(SENT_BACK)]
    hold = Timestamp()
    hold.FromDatetime(datetime.now(UTC) + timedelta(seconds=HOLD_SECONDS))
    wanted = {"hold_expire_time": hold, "late_payment_policy": payment_pb2.LATE_PAYMENT_POLICY_REFUND}
    started = await asyncio.gather(*(arena.first.prompt(phone, **wanted) for phone in phones))

    async def hold_is_over() -> bool | None:
        return datetime.now(UTC) > hold.ToDatetime(UTC) + TOLD_TO_THE_SECOND or None

    await until(hold_is_over, "the end of the hold")
    answers = asyncio.gather(*(arena.simulator.settle(phone, ending="paid") for phone in phones))
    # Some of the news is recorded by then, some is on its way, some waits at the gateway: which, is left to chance.
    await asyncio.gather(arena.kill("first"), arena.kill("second"))
    await asyncio.gather(arena.start_again("first"), arena.start_again("second"))
    expect("the answers meanwhile", await answers, [[200]] * SENT_BACK)
    for one, phone in zip(started, phones, strict=True):
        account = await arena.account(one, has_status("REFUNDED"))
        account.must(action="RELEASE", prompts=1)
        orders = (await arena.simulator.shown("orders", phone=phone))["orders"]
        expect("shillings that were sent back, by order", [order["sent_kes"] for order in orders], [500])
    return Seen(f"{SENT_BACK} × COMPLETED → REFUNDED, RELEASE", f"{SENT_BACK} × KES 500 paid and returned once")


@case_with_certificates
async def safaricom_away(arena: Installation) -> Seen:
    """Safaricom cannot be reached for two seconds; the passenger is asked for meanwhile."""
    phone = a_number()
    await arena.simulator.control("outage", seconds=2)
    # This process has not sent for a while, and so has no connection left on which a byte could go out.
    account = await arena.lived(phone, by=arena.second)
    return account.must(status="COMPLETED", action="CONFIRM", pushes=1, prompts=1, debited=500).seen()


@case_with_certificates
async def row_locked_from_a_console(arena: Installation) -> Seen:
    """Somebody locks one payment's row from a console; forty other passengers pay meanwhile, then the lock goes."""
    phone = await arena.simulator.phone(UNTIL_TOLD)
    locked = await arena.first.prompt(phone)
    lock = "SELECT 1 FROM payment_transactions WHERE payment_id = %s FOR UPDATE"
    async with transaction_left_open(arena.server, arena.database, lock, locked.payment.payment_id):
        settled = asyncio.ensure_future(arena.simulator.settle(phone, ending="paid"))
        callers = itertools.cycle([arena.first, arena.second])
        others = await asyncio.gather(*(arena.lived(a_number(), by=next(callers)) for _ in range(SPOOLED)))
        for account in others:
            account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    await settled
    account = await arena.account(locked)
    account.must(status="COMPLETED", action="CONFIRM", prompts=1, debited=500)
    return account.seen(f"{SPOOLED} others were not held up")


@case_alone
async def outage_across_the_expiry(arena: Installation) -> Seen:
    """Twelve passengers pay while the service is away, and it comes back after their payments should have expired."""
    for doublings in range(EXPIRY_TRIES_MAX):
        # Of payments that came too near to their end nothing can be said.
        if (started := await paid_while_away(arena, EXPIRY_SECONDS * 2**doublings)) is not None:
            break
        await arena.mend()
    else:
        raise NotSo(f"in none of {EXPIRY_TRIES_MAX} tries all payments were paid before they should have expired")

    async def all_overdue() -> bool | None:
        return datetime.now(UTC) > max(one.payment.expire_time.ToDatetime(UTC) for one in started) or None

    await until(all_overdue, "the time at which the payments should have expired")
    await asyncio.gather(*(arena.start_again(name) for name in ("first", "second")))
    for one in started:
        account = await arena.account(one)
        account.must(path=PAID_PATH, action="CONFIRM", late=False, prompts=1, debited=500)
    said = f"{PAID_MEANWHILE} × {PAID_PATH}, CONFIRM, none late"
    return Seen(said, f"{PAID_MEANWHILE} × 1 prompt, KES 500 paid, callback answered 200 meanwhile")


async def paid_while_away(arena: Installation, seconds: float) -> Sequence[pb.InitiatePaymentResponse] | None:
    """Payments that expire after so many seconds, paid while no service is there; None where it was not in time."""
    brief = await arena.add_service("brief", {"PAYMENTS_EXPIRE_AFTER_S": str(seconds)})
    # A prompt that another process sends has the times of that one.
    await asyncio.gather(*(arena.stop(name) for name in ("first", "second")))
    phones = [await arena.simulator.phone(UNTIL_TOLD) for _ in range(PAID_MEANWHILE)]
    started = await asyncio.gather(*(brief.prompt(phone) for phone in phones))
    await arena.stop("brief")
    answers = await asyncio.gather(*(arena.simulator.settle(phone, ending="paid") for phone in phones))
    expect("the answers meanwhile", answers, [[200]] * PAID_MEANWHILE)
    in_time = datetime.now(UTC) < min(one.payment.expire_time.ToDatetime(UTC) for one in started)
    return started if in_time else None
