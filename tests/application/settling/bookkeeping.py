"""Payments whose money moves at a simulated Safaricom, and processes that read its books."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from daraja_simulator.settings import (
    DEVELOPMENT_CONSUMER_KEY,
    DEVELOPMENT_CONSUMER_SECRET,
    DEVELOPMENT_PASSKEY,
    SANDBOX_PASSKEY,
)
from daraja_simulator.world import World
from payment_service.application.calling.access_token import AccessToken, get_token
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.pull_transactions import PullTools, pull_transactions
from payment_service.daraja.client import DarajaClient, Exchange, open_daraja
from payment_service.daraja.push import Accepted, push
from payment_service.daraja.shortcodes import PushRequest, Shortcode, ShortcodeKind
from payment_service.daraja.token import DarajaApp
from payment_service.domain.facts import AnswerLost, Fact, PromptAccepted, SendClaimed
from payment_service.domain.payment import Payment
from payment_service.store.engines import read_engine
from payment_service.store.prompts import Prompt
from tests.daraja_simulator.simulators import in_process, until
from tests.databases import Database
from tests.rows import rows_of
from tests.writers import Clock, Writers, a_request, running_writers

CALLER = "development"
CALLBACKS = "http://127.0.0.1:9"
"""Nobody listens there, so every callback is lost."""
INTERVAL = timedelta(minutes=10)
PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY)
TILL = Shortcode("600584", ShortcodeKind.TILL, DEVELOPMENT_PASSKEY, till_number="300584")


@dataclass(frozen=True)
class Reader:
    """One process that reads the books."""

    writers: Writers
    tools: PullTools

    async def read(self) -> int:
        """Read all that is due; how many steps it took."""
        steps = 0
        while await pull_transactions(self.tools):
            steps += 1
            assert steps < 200, "it never comes to an end"
        return steps

    async def read_anew(self) -> int:
        """As `read`, when the next window is due."""
        self.writers.clock.move(INTERVAL.total_seconds() + 1)
        return await self.read()


@dataclass(frozen=True)
class Bookkeeping:
    """A simulated Safaricom, a database, and what a test does with the two."""

    world: World
    control: httpx.AsyncClient
    daraja: DarajaClient
    database: Database
    clock: Clock
    reader: Reader
    paid: list[str] = field(default_factory=list)

    async def script(self, phone: str, **behaviour: Any) -> None:
        (await self.control.post(f"/control/phones/{phone}/script", json=behaviour)).raise_for_status()

    async def tell_simulator(self, what: str, **body: Any) -> None:
        (await self.control.post(f"/control/{what}", json=body)).raise_for_status()

    async def tell_simulator_to_pull_again(self) -> None:
        """Nothing that was ordered for coming pulls happens any more."""
        (await self.control.delete("/control/pulls")).raise_for_status()

    async def payment(self, **changed: object) -> tuple[Payment, Prompt]:
        fields: dict[str, object] = {"shortcode": next(iter(self.reader.tools.safaricom.shortcodes))}
        created = await self.reader.writers.create(CALLER, a_request(**(fields | changed)), None, None)
        assert created.prompt is not None
        return created.payment, created.prompt

    async def push(self, prompt: Prompt, **changed: Any) -> Accepted:
        """Show a prompt, and wait until the passenger has paid, if it is one who does."""
        shortcode = TILL if prompt.shortcode == TILL.number else PAYBILL
        request = PushRequest(
            shortcode, prompt.phone_number, prompt.amount, prompt.account_reference, f"{CALLBACKS}/stk", "Fare"
        )
        before = len(self.world.ledger.debits)
        token = await get_token(self.reader.tools.safaricom.tokens[shortcode.number])
        answer, _ = await push(self.daraja, token.value, replace(request, **changed))
        assert isinstance(answer, Accepted)
        await until(lambda: len(self.world.ledger.debits) > before)
        self.paid.append(self.world.ledger.debits[-1].receipt)
        # Books are read by the second; what moved in this one is listed from the next one on.
        self.clock.now = max(self.clock.now, datetime.now(UTC)) + timedelta(seconds=1)
        return answer

    async def tell(self, payment: Payment, *facts: Fact) -> Payment:
        for fact in facts:
            recorded = await self.reader.writers.facts.submit(Submission(fact, payment.payment_id))
            assert recorded.payment is not None
            payment = recorded.payment
        return payment

    async def lost(self, *, paid: Mapping[str, Any] | None = None, **changed: object) -> tuple[Payment, Prompt]:
        """A payment whose push got no answer and whose callback is lost, and which was paid all the same."""
        payment, prompt = await self.payment(**changed)
        claim = uuid4()
        payment = await self.tell(payment, SendClaimed(claim), AnswerLost(claim))
        await self.push(prompt, **(paid or {}))
        return payment, prompt

    async def unpaid(self, **changed: object) -> tuple[Payment, Prompt]:
        """A payment whose prompt nobody has answered yet."""
        payment, prompt = await self.payment(**changed)
        claim, mark = uuid4(), uuid4().hex
        return await self.tell(payment, SendClaimed(claim), PromptAccepted(claim, f"m-{mark}", f"c-{mark}")), prompt

    async def row(self, payment: Payment) -> tuple[Any, ...]:
        """State, receipt, and what the booking is told."""
        query = """SELECT state, mpesa_receipt_number, booking_action FROM payment_transactions WHERE payment_id = %s"""
        (row,) = await rows_of(self.database, query, (payment.payment_id,))
        return row

    async def cases(self) -> list[tuple[Any, ...]]:
        return await rows_of(
            self.database, "SELECT reference, kind, is_money, mpesa_receipt_number FROM cases ORDER BY case_id"
        )

    async def progress(self) -> dict[str, Any]:
        names = "registered_at, proved_at, window_start, window_end, page_offset, slice_seconds, failures"
        rows = await rows_of(self.database, f"SELECT {names} FROM daraja_pulls") or [(None,) * 7]
        return dict(zip(names.split(", "), rows[0], strict=True))

    async def spans(self, reading: str = "READ") -> list[tuple[datetime, datetime]]:
        """Which spans of the books ended so when they were read."""
        query = "SELECT start_at, end_at FROM daraja_pull_spans WHERE reading = %s ORDER BY start_at"
        return [(start, end) for start, end in await rows_of(self.database, query, (reading,))]

    async def read_until(self) -> datetime | None:
        return max((end for _, end in await self.spans()), default=None)

    async def exchanges(self, operation: str) -> list[str]:
        query = "SELECT classified_as FROM daraja_exchanges WHERE operation = %s ORDER BY exchange_id"
        return [row[0] for row in await rows_of(self.database, query, (operation,))]


@contextlib.asynccontextmanager
async def bookkeeping(
    database: Database, folder: Path, *shortcodes: Shortcode, **changes: object
) -> AsyncIterator[Bookkeeping]:
    """One process and one simulator; `changes` are settings of the simulator."""
    async with (
        in_process(**changes) as (world, url),
        reading(database, folder, url, *shortcodes) as reader,
        httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as control,
    ):
        yield Bookkeeping(world, control, reader.tools.safaricom.daraja, database, reader.writers.clock, reader)


@contextlib.asynccontextmanager
async def reading(
    database: Database, folder: Path, url: str, *shortcodes: Shortcode, clock: Clock | None = None
) -> AsyncIterator[Reader]:
    """A process of its own: its own connections, its own copy of the token."""
    async with contextlib.AsyncExitStack() as stack:
        daraja_clock = clock or Clock()
        listed = shortcodes or (PAYBILL,)
        writers = await stack.enter_async_context(
            running_writers(database.application_url, folder, clock=daraja_clock, shortcode=listed[0].number)
        )
        daraja = await stack.enter_async_context(
            # Requests carry the real time, whatever time a test has it be for the service.
            open_daraja(url, Clock())
        )
        engine = read_engine(database.application_url)
        stack.push_async_callback(engine.dispose)

        async def keep(_: Exchange) -> None:
            await asyncio.sleep(0)

        numbers = tuple(shortcode.number for shortcode in listed)
        app = DarajaApp("app", DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET, numbers)
        tokens = AccessToken(app, engine, daraja, writers.sealer, Clock(), keep)
        tools = PullTools(
            engine=engine,
            facts=writers.facts,
            safaricom=Safaricom(
                daraja=daraja,
                tokens=dict.fromkeys(numbers, tokens),
                shortcodes={shortcode.number: shortcode for shortcode in listed},
                sealer=writers.sealer,
                clock=daraja_clock,
            ),
            nominated_number="254722000000",
            callback_base_url=CALLBACKS,
            interval=INTERVAL,
        )
        yield Reader(writers, tools)
