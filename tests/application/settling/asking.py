"""A process that asks Safaricom about payments: its step, on a database and a simulator of the test's own."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiohttp

from daraja_simulator.settings import DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET, SANDBOX_PASSKEY
from payment_service.application.calling.access_token import AccessToken, get_token
from payment_service.application.calling.exchanges import exchange_row, keep_exchange
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.recording.record_facts import Submission
from payment_service.application.settling.query_pushes import QueryTools
from payment_service.application.settling.run_timers import TimerTools
from payment_service.daraja.client import open_daraja
from payment_service.daraja.push import Accepted, push
from payment_service.daraja.shortcodes import PushRequest, Shortcode, ShortcodeKind
from payment_service.daraja.token import DarajaApp
from payment_service.domain.facts import Fact, PromptAccepted, SendClaimed
from payment_service.domain.payment import Payment
from payment_service.store.engines import read_engine
from payment_service.store.prompts import Prompt
from tests.databases import Database
from tests.rows import rows_of
from tests.writers import Clock, Writers, a_request, caught_up, running_writers

CALLER = "development"
PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY)
QUERIES_PER_MINUTE = 6_000.0
UNHEARD = {"callback": "never", "callback_delay_seconds": 3600}
"""A phone that keeps its prompt until the test settles it, and a callback that never comes."""


def _sends_nothing(_prompt: Prompt, _created_at: object) -> None:
    raise AssertionError("these tests send their prompts themselves")


@dataclass(frozen=True)
class Asker:
    """One process, its clock moved by hand."""

    database: Database
    folder: Path
    daraja_url: str
    writers: Writers
    tools: QueryTools
    steps: TimerTools

    @property
    def clock(self) -> Clock:
        return self.writers.clock

    async def control(self, path: str, body: Mapping[str, object]) -> None:
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(f"{self.daraja_url}/control/{path}", json=body) as response,
        ):
            assert response.status == 200, await response.text()

    async def prompted(self, behaviour: Mapping[str, object] | None = None, **fields: object) -> Payment:
        """A payment whose prompt is on the phone."""
        payment, claim = (await self.writers.create(CALLER, a_request(**fields), None, None)).payment, uuid4()
        await self.tell(payment, SendClaimed(claim))
        await self.control("faults", {"behaviour": {**UNHEARD, **(behaviour or {})}})
        # A phone of its own: one that has a prompt open gets no second one.
        phone = f"25472{payment.payment_id.int % 10**7:07d}"
        request = PushRequest(
            PAYBILL, phone, payment.amount, "BCDF2345", "http://127.0.0.1:9/callbacks/stk/r/t", "Fare"
        )
        token = await get_token(self.tools.safaricom.tokens[PAYBILL.number])
        answer, exchange = await push(self.tools.safaricom.daraja, token.value, request)
        assert isinstance(answer, Accepted)
        accepted = PromptAccepted(claim, answer.merchant_request_id, answer.checkout_request_id)
        row = exchange_row(self.writers.sealer, exchange, payment.payment_id)
        recorded = await self.writers.facts.submit(Submission(accepted, payment.payment_id, exchange=row))
        assert recorded.payment is not None
        return recorded.payment

    async def settled(self, payment: Payment, **behaviour: object) -> None:
        """The phone comes to an end; nobody is told."""
        await self.control("callbacks/settle", {"checkout_request_id": payment.checkout_request_id, **behaviour})

    async def tell(self, payment: Payment, fact: Fact) -> Payment:
        recorded = await self.writers.facts.submit(Submission(fact, payment.payment_id))
        assert recorded.payment is not None
        return recorded.payment

    async def row(self, payment: Payment, *columns: str) -> tuple[object, ...]:
        """Columns of the payment as it is stored."""
        query = f"SELECT {', '.join(columns)} FROM payment_transactions WHERE payment_id = %s"
        return (await rows_of(self.database, query, (payment.payment_id,)))[0]

    async def answers(self, payment: Payment) -> list[str]:
        """How the answers to its queries were understood, the oldest first."""
        query = (
            "SELECT classified_as FROM daraja_exchanges WHERE payment_id = %s AND operation = 'query'"
            " ORDER BY started_at, exchange_id"
        )
        return [row[0] for row in await rows_of(self.database, query, (payment.payment_id,))]

    async def cases(self, payment: Payment) -> list[str]:
        query = "SELECT kind FROM cases WHERE payment_id = %s ORDER BY opened_at"
        return [row[0] for row in await rows_of(self.database, query, (payment.payment_id,))]


@contextlib.asynccontextmanager
async def running_asker(
    database: Database,
    folder: Path,
    daraja_url: str,
    *,
    clock: Clock | None = None,
    queries_per_minute: float = QUERIES_PER_MINUTE,
) -> AsyncIterator[Asker]:
    """A process with its own connections; the clock is all that two of them may share."""
    async with (
        running_writers(database.application_url, folder, clock=clock) as writers,
        open_daraja(daraja_url, writers.clock) as daraja,
    ):
        engine = read_engine(database.application_url)
        keep = partial(keep_exchange, engine, writers.sealer)
        app = DarajaApp("simulator", DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET, (PAYBILL.number,))
        tools = QueryTools(
            engine=engine,
            facts=writers.facts,
            safaricom=Safaricom(
                daraja=daraja,
                tokens={PAYBILL.number: AccessToken(app, engine, daraja, writers.sealer, writers.clock, keep)},
                shortcodes={PAYBILL.number: PAYBILL},
                sealer=writers.sealer,
                clock=writers.clock,
            ),
            budget=RequestBudget("query", queries_per_minute / 60, engine, writers.clock),
            times=writers.times,
            draw=lambda: 0.0,
        )
        steps = TimerTools(
            engine,
            writers.facts,
            _sends_nothing,
            writers.sealer,
            writers.clock,
            writers.times,
            caught_up(writers.clock, writers.times),
        )
        yield Asker(database, folder, daraja_url, writers, tools, steps)
        await engine.dispose()


def beside(asker: Asker, *, queries_per_minute: float = QUERIES_PER_MINUTE) -> AbstractAsyncContextManager[Asker]:
    """Another process of the same installation, by the same clock."""
    return running_asker(
        asker.database, asker.folder, asker.daraja_url, clock=asker.clock, queries_per_minute=queries_per_minute
    )
