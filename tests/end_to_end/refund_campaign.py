"""The refund campaign: whole and part refunds with every fault of the simulator, through programs that are killed.

Decides what is run side by side and what is compared with what. The simulator's books are the truth: what each phone
has paid, and what went back to it. They are held against what the service says of each refund.

`make campaign-refunds` runs it at the size that is promised, and `python -m tests.end_to_end.refund_campaign --help` at
any other.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import grpc
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1 import payment_service_pb2 as pb
from mpesa_payments.v1.money_pb2 import Money
from mpesa_payments.v1.payment_service_pb2_grpc import PaymentServiceStub

from development.postgres import create_database, embedded_postgres
from payment_service.store.migrations import ensure_application_role, migrate
from tests.databases import APPLICATION_ROLE, NEWEST_POSTGRES, Database
from tests.end_to_end.conftest import running_grounds
from tests.end_to_end.refunding import Mortals, killed_trip, mortal, paid
from tests.end_to_end.town import Grounds, a_phone
from tests.parts import channel
from tests.refund_faults import drawn
from tests.rows import count, rows_of

TABLES = Path("build/campaigns")
PASSWORD = "campaign"
AMOUNT = 500
PART_MIN, PART_MAX = 10, 250
"""M-Pesa moves no less, and two of them are never more than was paid."""
ASKING_AT_ONCE = 16
CALL_SECONDS = 20.0
LOOK_SECONDS = 1.0
QUESTIONS = 2
"""About one refund; after the first, results may have been on their way still."""
ANSWER_SECONDS = 10.0
"""For the result of the last question."""
KILL_PAUSE_SECONDS = 1.5
"""At most so long after the moment that is drawn: the kill meets whatever is on its way by then."""
HEADING = "the service says"
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

_REFUNDS = """SELECT r.payment_id, r.state, r.amount::int, r.method, p.state, p.refunded_amount::int
    FROM refunds r JOIN payment_transactions p USING (payment_id) ORDER BY r.requested_at, r.refund_id"""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    whole: int
    parts: int
    """Two of each payment."""
    faults: float
    """The share of refunds for which a fault is drawn; about two in three of those draws are one."""
    kills: int
    seconds: float
    """The longest for all of it: what is not settled by then is shown as such."""


@dataclass(frozen=True)
class Row:
    """One phone, by both accounts."""

    phone: str
    debited: int
    returned: Sequence[int]
    """Each time that money went back to it, by the simulator's books."""
    said: Sequence[tuple[str, int]]
    """The state and the amount of each refund, as the service has it."""
    way: str
    refunded_amount: int
    payment_state: str

    @property
    def kind(self) -> str:
        return f"{self.way}: {', '.join(sorted(state for state, _ in self.said))}"

    def violations(self, asked: int) -> list[str]:
        """What cannot be, one sentence each."""
        back, done = Counter(self.returned), Counter(amount for state, amount in self.said if state == "DONE")
        perhaps = Counter(amount for state, amount in self.said if state not in ("DONE", "FAILED"))
        found = []
        if self.debited != AMOUNT or sum(self.returned) > self.debited:
            found.append(f"{self.debited} was paid and {sum(self.returned)} went back")
        if done - back:
            found.append(f"{sorted((done - back).elements())} is said to be done and never went back")
        if back - (done + perhaps):
            found.append(f"{sorted((back - (done + perhaps)).elements())} went back and nobody says so")
        if len(self.said) != asked:
            found.append(f"{asked} refunds were asked for, and there are {len(self.said)}")
        if self.refunded_amount != sum(done.elements()):
            found.append(f"the payment says that {self.refunded_amount} went back")
        if (self.payment_state == "REFUNDED") is not (self.refunded_amount == AMOUNT):
            found.append(f"the payment is {self.payment_state} with {self.refunded_amount} returned")
        return [f"{self.phone}: {what}" for what in found]


@dataclass
class Figures:
    """How it went."""

    rows: list[Row] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    scripted: int = 0
    orders: Mapping[str, int] = field(default_factory=dict)
    kills: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def open(self) -> int:
        """Refunds that have not ended. Nobody sends them again; they are asked about for a day, then a person looks."""
        return sum(state not in ("DONE", "FAILED") for row in self.rows for state, _ in row.said)

    def __str__(self) -> str:
        kinds = sorted({row.kind for row in self.rows})
        width = max(map(len, [*kinds, HEADING]))
        lines = [f"{HEADING:<{width}}  phones  debited KES  returned KES"]
        for kind in [*kinds, "total"]:
            of = [row for row in self.rows if kind in (row.kind, "total")]
            debited, returned = sum(row.debited for row in of), sum(sum(row.returned) for row in of)
            lines.append(f"{kind:<{width}}  {len(of):>6}  {debited:>11,}  {returned:>12,}")
        killed = ", ".join(f"{name} {times} times" for name, times in self.kills.items())
        lines += [
            f"faults scripted for {self.scripted} refunds; killed: {killed or 'nothing'}; {self.seconds:.0f} s",
            f"M-Pesa read {self.orders['orders']} orders and carried out {self.orders['carried_out']}",
            f"in doubt at the end, and asked about for a day: {self.open}",
            f"violations: {len(self.violations)}",
            *self.violations[:20],
        ]
        return "\n".join(lines) + "\n"

    def by_phone(self) -> str:
        """The books, phone by phone."""
        lines = [f"{'phone':<12}  debited  returned  the service says"]
        for row in self.rows:
            said = ", ".join(f"{amount} {state}" for state, amount in row.said)
            lines.append(f"{row.phone:<12}  {row.debited:>7}  {sum(row.returned):>8}  {row.way}: {said}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Wanted:
    """What is asked for of one payment: all of it, or parts."""

    phone: str
    payment_id: str
    amounts: Sequence[int | None]


async def run_refunds(grounds: Grounds, programs: Mortals, size: Size, seed: int) -> Figures:
    """Pay, ask for all refunds while programs are killed, wait until they end, and compare."""
    began, chance = time.monotonic(), Random(seed)
    phones = [a_phone() for _ in range(size.whole + size.parts // 2)]
    async with channel(programs.address) as client:
        payments = PaymentServiceStub(client)
        started = await paid(payments, phones)
        wanted = [
            Wanted(
                phone,
                one.payment_id,
                [None] if number < size.whole else [chance.randint(PART_MIN, PART_MAX) for _ in range(2)],
            )
            for number, (phone, one) in enumerate(zip(phones, started, strict=True))
        ]
        scripted = await _script(grounds, wanted, size.faults, chance)
        chance.shuffle(wanted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(size.seconds), asyncio.TaskGroup() as both:
                both.create_task(_ask_for_all(payments, wanted))
                both.create_task(_kill(grounds, programs, size, chance))
            async with asyncio.timeout(max(0.0, began + size.seconds - time.monotonic())):
                await _settled(grounds, size.whole + 2 * (size.parts // 2))
    figures = Figures(scripted=scripted, kills=dict(programs.kills), seconds=time.monotonic() - began)
    await _compare(grounds, wanted, figures)
    return figures


async def _script(grounds: Grounds, wanted: Sequence[Wanted], faults: float, chance: Random) -> int:
    """What M-Pesa does with the first orders to some phones; with all later ones it does as it should."""
    scripted = 0
    for one in wanted:
        behaviours = [drawn(chance) if chance.random() < faults else {} for _ in one.amounts]
        if any(behaviours):
            await grounds.simulator.control(f"phones/{one.phone}/orders", behaviours=behaviours)
            scripted += sum(map(bool, behaviours))
    return scripted


async def _ask_for_all(payments: PaymentServiceStub, wanted: Sequence[Wanted]) -> None:
    places = asyncio.Semaphore(ASKING_AT_ONCE)

    async def ask(one: Wanted) -> None:
        async with places:
            for number, amount in enumerate(one.amounts):
                await _answered(payments, one, number, amount)

    await asyncio.gather(*map(ask, wanted))


async def _answered(payments: PaymentServiceStub, one: Wanted, number: int, amount: int | None) -> None:
    """Ask for one refund, with its id, until the service answers."""
    asked = pb.RefundPaymentRequest(
        request_id=f"refund-{one.payment_id}-{number}",
        payment_id=one.payment_id,
        reason=payment_pb2.REFUND_REASON_CANNOT_DELIVER,
        amount=Money(currency_code="KES", units=amount) if amount is not None else None,
    )
    while True:
        try:
            await payments.RefundPayment(asked, timeout=CALL_SECONDS)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() not in AWAY:
                raise
        await asyncio.sleep(LOOK_SECONDS)


async def _kill(grounds: Grounds, programs: Mortals, size: Size, chance: Random) -> None:
    """One program after the other, spread over the refunds as they leave."""
    for number in range(size.kills):
        sent = (number + 1) * (size.whole + size.parts) // (size.kills + 1)
        while await count(grounds.database, "refunds WHERE sent_at IS NOT NULL") < sent:
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(chance.uniform(0, KILL_PAUSE_SECONDS))
        await programs.kill(("core", "gateway")[number % 2])


async def _settled(grounds: Grounds, refunds: int) -> None:
    """Until every refund has ended, or M-Pesa knows of none: who dies before the first byte leaves that in doubt.

    What M-Pesa holds back is let go once nothing else is on its way.
    """
    in_doubt = f"(state = 'UNCERTAIN' AND ask_count >= {QUESTIONS})"
    while await count(grounds.database, f"refunds WHERE ended_at IS NOT NULL OR {in_doubt}") < refunds:
        if not await count(grounds.database, "refunds WHERE state IN ('REQUESTED', 'SENDING')"):
            await grounds.simulator.control("results/release")
        await asyncio.sleep(LOOK_SECONDS)
    await asyncio.sleep(ANSWER_SECONDS)


async def _compare(grounds: Grounds, wanted: Sequence[Wanted], figures: Figures) -> None:
    books = (await grounds.simulator.http.get("/control/debits")).json()["phones"]
    told: dict[UUID, list[tuple[Any, ...]]] = {}
    for payment_id, *refund in await rows_of(grounds.database, _REFUNDS):
        told.setdefault(payment_id, []).append(tuple(refund))
    for one in sorted(wanted, key=lambda found: found.phone):
        refunds = told.get(UUID(one.payment_id), [])
        row = Row(
            phone=one.phone,
            debited=books[one.phone]["debited_kes"],
            returned=[sent["amount"] for sent in books[one.phone].get("returns", [])],
            said=[(state, amount) for state, amount, *_ in refunds],
            way="whole" if one.amounts == [None] else "parts",
            payment_state=refunds[0][3] if refunds else "",
            refunded_amount=refunds[0][4] if refunds else 0,
        )
        figures.rows.append(row)
        figures.violations += row.violations(len(one.amounts))
    figures.orders = (await grounds.simulator.http.get("/control/orders")).json()["totals"]


@contextlib.asynccontextmanager
async def _a_ground(folder: Path, name: str) -> AsyncIterator[Grounds]:
    """A database server and a simulator for one part of the campaign."""
    (folder / name).mkdir()
    async with embedded_postgres(folder / f"{name}-postgresql", version=NEWEST_POSTGRES) as server:
        owner_url = await create_database(server, name)
        await asyncio.to_thread(migrate, owner_url)
        await asyncio.to_thread(ensure_application_role, owner_url, APPLICATION_ROLE, PASSWORD)
        database = Database(name, server, owner_url, server.dsn(name, APPLICATION_ROLE, PASSWORD))
        async with running_grounds(folder / name, database) as grounds:
            yield grounds


async def _refunds(folder: Path, size: Size, seed: int) -> bool:
    async with _a_ground(folder, "refunds") as grounds, mortal(grounds) as programs:
        figures = await run_refunds(grounds, programs, size, seed)
    TABLES.mkdir(parents=True, exist_ok=True)
    (TABLES / "refunds-by-phone.txt").write_text(figures.by_phone())
    sys.stdout.write(f"{figures}phone by phone: {TABLES / 'refunds-by-phone.txt'}\n\n")
    sys.stdout.flush()
    return not figures.violations


async def _trip(folder: Path, bookings: int, kills: int, seconds: float) -> bool:
    killed_after = [(number + 1) * bookings // (kills + 1) for number in range(kills)]
    began = time.monotonic()
    async with asyncio.timeout(seconds), _a_ground(folder, "trip") as grounds, mortal(grounds) as programs:
        trip = await killed_trip(grounds, programs, bookings, killed_after)
    counted = Counter(trip.returned)
    said, seconds = trip.report["sums"]["DONE"]["amount_kes"], time.monotonic() - began
    deaths = f"its command killed {kills} times, the service {programs.kills['core']} times"
    lines = [
        f"A trip of {bookings} refunds: {deaths}; {seconds:.0f} s",
        f"{'returned to a phone':<20}  phones",
        *(f"KES {returned:<16}  {phones:>6}" for returned, phones in sorted(counted.items())),
        f"returned in all: KES {sum(trip.returned):,}; the report says KES {said:,}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return counted == {AMOUNT: bookings}


async def _campaign(words: argparse.Namespace) -> bool:
    size = Size(words.whole, words.parts, words.faults, words.kills, words.minutes * 60)
    good = True
    with tempfile.TemporaryDirectory() as name:
        if size.whole + size.parts:
            good = await _refunds(Path(name), size, words.seed)
        if words.trip:
            good = await _trip(Path(name), words.trip, words.kills, words.minutes * 60) and good
    return good


def main() -> None:
    """Command line."""
    # What holds secrets here is for nobody else, or the programs do not start.
    os.umask(0o077)
    parser = argparse.ArgumentParser(description="Refund through programs that are killed, and compare the books.")
    parser.add_argument("--whole", type=int, default=1_000, help="refunds of whole payments")
    parser.add_argument("--parts", type=int, default=1_000, help="refunds of parts, two of each payment")
    parser.add_argument("--faults", type=float, default=0.2, help="share of them for which a fault is drawn")
    parser.add_argument("--trip", type=int, default=500, help="bookings of a trip that is refunded after that")
    parser.add_argument("--kills", type=int, default=10, help="in each of the two")
    parser.add_argument("--minutes", type=float, default=30.0, help="the longest that each of the two may take")
    parser.add_argument("--seed", type=int, default=20261128)
    sys.exit(not asyncio.run(_campaign(parser.parse_args())))


if __name__ == "__main__":
    main()
