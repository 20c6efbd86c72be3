"""A process that asks a simulated M-Pesa as an operator, and the edge that the results come in by."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from aiohttp import web

from daraja_simulator.initiator import certificate
from daraja_simulator.settings import DEVELOPMENT_INITIATOR_NAME, DEVELOPMENT_INITIATOR_PASSWORD
from payment_service.application.calling.operator import Operator
from payment_service.application.settling.accept_callbacks import (
    AcceptTools,
    CallbackOutcome,
    ReceivedCallback,
    accept_callbacks,
)
from payment_service.application.settling.ask_status import StatusTools, ask_status
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.daraja.initiator import load_initiator
from payment_service.daraja.shortcodes import Shortcode
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import PromptAccepted, ResultReported, SendClaimed, Source, Verdict
from payment_service.domain.payment import Payment
from runtime.callback_tokens import CallbackKeys, load_callback_keys
from runtime.key_rings import create_key_ring
from tests.application.settling.bookkeeping import Bookkeeping, bookkeeping
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import count

PHONE = "254712345678"


@dataclass(frozen=True)
class Enquiry:
    """A process that asks, and the edge that its results come in by."""

    books: Bookkeeping
    tools: StatusTools
    taken: list[CallbackOutcome]

    async def ask(self) -> bool:
        return await ask_status(self.tools)

    async def ask_and_hear(self) -> None:
        """Ask, and wait until the result has been taken."""
        before = len(self.taken)
        assert await self.ask()
        await self.heard(before + 1)

    async def heard(self, results: int) -> None:
        """Wait until so many results have been taken."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.taken) < results:
                await asyncio.sleep(0.01)

    async def pending(self, **changed: object) -> tuple[Payment, str]:
        """A payment that is said to be paid and has no receipt, and the receipt that M-Pesa has for it."""
        payment, prompt = await self.books.payment(phone_number=PHONE, **changed)
        claim = UUID(bytes=secrets.token_bytes(16))
        answer = await self.books.push(prompt)
        await self.books.tell(
            payment,
            SendClaimed(claim),
            PromptAccepted(claim, answer.merchant_request_id, answer.checkout_request_id),
            ResultReported(f"callback:{claim}", Source.CALLBACK, Verdict.PAID, "0", amount=500),
        )
        assert await self.books.row(payment) == ("COMPLETED", None, "WAIT")
        self.books.clock.move(20)
        return payment, self.books.paid[-1]

    async def script(self, **behaviour: Any) -> None:
        await self.books.tell_simulator("statuses", behaviour=behaviour)

    async def asked(self) -> int:
        return await count(self.books.database, "daraja_exchanges WHERE operation = 'status'")


@contextlib.asynccontextmanager
async def enquiry(database: Database, folder: Path, shortcode: Shortcode) -> AsyncIterator[Enquiry]:
    create_key_ring(folder / "callback-keys.json")
    keys = load_callback_keys(folder / "callback-keys.json")
    (folder / "certificate.pem").write_text(certificate())
    async with bookkeeping(database, folder, shortcode) as books, edge(books, keys) as (url, taken):
        tools = books.reader.tools
        asking = StatusTools(
            engine=tools.engine,
            safaricom=tools.safaricom,
            operator=Operator(
                load_initiator(DEVELOPMENT_INITIATOR_NAME, DEVELOPMENT_INITIATOR_PASSWORD, folder / "certificate.pem"),
                tools.safaricom.sealer,
                keys,
                url,
            ),
        )
        yield Enquiry(books, asking, taken)


@contextlib.asynccontextmanager
async def edge(books: Bookkeeping, keys: CallbackKeys) -> AsyncIterator[tuple[str, list[CallbackOutcome]]]:
    """Takes what is posted to a callback URL, as the gateway hands it on."""
    writers = books.reader.writers
    accepting = AcceptTools(writers.facts, writers.sealer, keys, CatchingUp(writers.clock, writers.times))
    taken: list[CallbackOutcome] = []

    async def take(request: web.Request) -> web.Response:
        kind, reference, token = (request.match_info[name] for name in ("kind", "reference", "token"))
        body = await request.read()
        received = ReceivedCallback(CallbackKind(kind), reference, token, body, "127.0.0.1", books.clock())
        taken.extend(await accept_callbacks(accepting, [received]))
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/callbacks/{kind}/{reference}/{token}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", taken
    await runner.cleanup()
