"""The claim that is committed together with a new payment: whatever comes in between, it comes to something."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from payment_service.application.calling.access_token import AccessToken, Token
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.collecting.create_payment import Created
from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.collecting.send_prompt import SendTools, claim_at_once, send_prompt
from payment_service.daraja.client import DarajaClient, open_daraja
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.domain.errors import StoreUnavailable
from payment_service.domain.payment import State
from payment_service.domain.views import PaymentView
from payment_service.store.engines import read_engine
from runtime.callback_tokens import load_callback_keys
from runtime.key_rings import create_key_ring
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.writers import Writers, a_request

CALLER = "development"
SHORTCODE = "174379"
NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@contextlib.asynccontextmanager
async def sending(writers: Writers, database: Database, folder: Path) -> AsyncIterator[SendTools]:
    """What a process sends with, with a turn and a token at hand."""
    create_key_ring(folder / "callback-keys.json")
    engine = read_engine(database.application_url)
    async with open_daraja(NOBODY, "key", "secret", writers.clock) as daraja:
        tools = SendTools(
            facts=writers.facts,
            safaricom=Safaricom(
                daraja=daraja,
                tokens=_tokens(writers, engine, daraja),
                shortcodes={SHORTCODE: Shortcode(SHORTCODE, ShortcodeKind.PAYBILL, "passkey")},
                sealer=writers.sealer,
                clock=writers.clock,
            ),
            budget=RequestBudget("push", 50, engine, writers.clock),
            callback_keys=load_callback_keys(folder / "callback-keys.json"),
            callback_base_url=NOBODY,
            times=writers.times,
        )
        await tools.budget.take(SHORTCODE)
        tools.budget.give_back(SHORTCODE)
        yield tools
    await engine.dispose()


def _tokens(writers: Writers, engine: Any, daraja: DarajaClient) -> AccessToken:
    async def keep(exchange: Any) -> None:
        await keep_exchange(engine, writers.sealer, exchange)

    now = writers.clock()
    held = Token("token", 1, now + timedelta(minutes=50), now + timedelta(hours=1))
    return AccessToken("app", engine, daraja, writers.sealer, writers.clock, keep, held=held)


@dataclass(frozen=True)
class CommitsUnheard:
    """Makes payments as the writers do, and says that the store did not answer."""

    writers: Writers

    async def __call__(self, *request: Any, **ids: Any) -> Created:
        await self.writers.create(*request, **ids)
        raise StoreUnavailable


async def _nothing(caller: str, payment_id: UUID) -> PaymentView:
    raise AssertionError("nothing is read where the store does not answer")


async def test_a_commit_that_was_not_heard_of_leaves_the_payment_to_others(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    async with sending(writers, database, tmp_path) as tools:
        create: Any = CommitsUnheard(writers)
        initiate = InitiatePayments(create, tools, _nothing, SHORTCODE)
        wait_until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        with pytest.raises(StoreUnavailable):
            await initiate(CALLER, a_request(), None, wait_until, None)
        await initiate.drain(PATIENCE_SECONDS)
    told = await rows_of(database, "SELECT state, fact_kind FROM payment_events ORDER BY position")
    assert told == [("CREATED", "PaymentCreated"), ("SENDING", "SendClaimed"), ("CREATED", "NotSent")]


async def test_a_claim_that_is_too_late_to_send_is_given_up_and_not_forgotten(
    writers: Writers, database: Database, tmp_path: Path
) -> None:
    async with sending(writers, database, tmp_path) as tools:
        claim = claim_at_once(tools, SHORTCODE)
        assert claim is not None
        created = await writers.create(CALLER, a_request(), None, None, claim_id=claim.claim_id)
        assert created.prompt is not None
        writers.clock.move(writers.times.send_within.total_seconds() + 1)
        give_up_at = created.payment.created_at + writers.times.send_within
        payment = await send_prompt(tools, created.prompt, give_up_at, (claim, created.payment))
    assert payment is not None
    assert payment.state is State.CREATED, "nothing was sent, and any process may say so"
    assert await rows_of(database, "SELECT count(*) FROM daraja_exchanges WHERE http_status IS NOT NULL") == [(0,)]
