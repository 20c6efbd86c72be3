"""The claim that is committed together with a new payment: whatever comes in between, it comes to something."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from payment_service.application.calling.access_token import Token
from payment_service.application.collecting.create_payment import Decision, NewPayment
from payment_service.application.collecting.initiate_payment import InitiatePayments
from payment_service.application.collecting.prompt_switch import turn_prompt_switch
from payment_service.application.collecting.send_prompt import HeldClaim, SendTools, claim_at_once, send_prompt
from payment_service.application.following.event_feed import EventFeed
from payment_service.application.following.read_payments import PaymentReads, payment_reads
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.domain.errors import StoreUnavailable
from payment_service.domain.payment import State
from payment_service.store.engines import connect_writer
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.sending import SHORTCODE, sending
from tests.writers import Writers, a_request

CALLER = "development"


@contextlib.asynccontextmanager
async def ready_to_send(writers: Writers, database: Database) -> AsyncIterator[SendTools]:
    """What a process sends with, a turn and a token at hand."""
    async with sending(writers, database.application_url) as tools:
        now = writers.clock()
        tools.safaricom.tokens[SHORTCODE].held = Token(
            "token", 1, now + timedelta(minutes=50), now + timedelta(hours=1)
        )
        await tools.budget.take(SHORTCODE)
        tools.budget.give_back(SHORTCODE)
        yield tools


class CommitsUnheard(GroupCommit[NewPayment, Decision]):
    """Makes payments as the writers do, and says that the store did not answer."""

    def __init__(self, writers: Writers) -> None:
        self._writers = writers

    async def submit(self, item: NewPayment, *, patient: bool = False) -> Decision:
        await self._writers.creates.submit(item, patient=patient)
        raise StoreUnavailable


def resting_reads(writers: Writers, database: Database, tools: SendTools) -> PaymentReads:
    """Reads that nothing runs: where the store does not answer, nothing is read."""
    connect = partial(connect_writer, database.application_url, autocommit=True)
    return payment_reads(tools.budget.engine, connect, writers.sealer, EventFeed(connect, writers.sealer))


async def test_a_commit_that_was_not_heard_of_leaves_the_payment_to_others(
    writers: Writers, database: Database
) -> None:
    async with ready_to_send(writers, database) as tools:
        reads = resting_reads(writers, database, tools)
        initiate = InitiatePayments(CommitsUnheard(writers), tools, reads, SHORTCODE)
        wait_until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        with pytest.raises(StoreUnavailable):
            await initiate(CALLER, a_request(), None, wait_until, None)
        await initiate.drain(PATIENCE_SECONDS)
    told = await rows_of(database, "SELECT state, fact_kind FROM payment_events ORDER BY position")
    assert told == [("CREATED", "PaymentCreated"), ("SENDING", "SendClaimed"), ("CREATED", "NotSent")]


async def test_a_claim_that_is_too_late_to_send_is_given_up_and_not_forgotten(
    writers: Writers, database: Database
) -> None:
    async with ready_to_send(writers, database) as tools:
        claim = claim_at_once(tools, SHORTCODE)
        assert claim is not None
        created = await writers.create(CALLER, a_request(), None, None, claim_id=claim.claim_id)
        assert created.prompt is not None
        writers.clock.move(writers.times.send_within.total_seconds() + 1)
        give_up_at = created.payment.created_at + writers.times.send_within
        payment = await send_prompt(tools, created.prompt, give_up_at, HeldClaim(claim, created.payment))
    assert payment is not None
    assert payment.state is State.CREATED, "nothing was sent, and any process may say so"
    assert await rows_of(database, "SELECT count(*) FROM daraja_exchanges WHERE http_status IS NOT NULL") == [(0,)]


async def test_a_prompt_that_waits_is_not_sent_while_prompts_are_stopped(writers: Writers, database: Database) -> None:
    async with ready_to_send(writers, database) as tools:
        created = await writers.create(CALLER, a_request(), None, None)
        prompt, now = created.prompt, writers.clock()
        assert prompt is not None
        await turn(writers, database, tools, stopped=True)

        async def once() -> None:
            writers.clock.move(2)
            await tools.check_allowed()

        assert await send_prompt(replace(tools, check_allowed=once), prompt, now + timedelta(seconds=1)) is None
        assert await facts_told(database) == ["PaymentCreated"]

        await turn(writers, database, tools, stopped=False)
        now = writers.clock()
        await send_prompt(replace(tools, check_allowed=once), prompt, now + timedelta(seconds=1))
    assert await facts_told(database) == ["PaymentCreated", "SendClaimed", "NotSent"]


async def turn(writers: Writers, database: Database, tools: SendTools, *, stopped: bool) -> None:
    reads = resting_reads(writers, database, tools)
    turned = await turn_prompt_switch(reads, stop=stopped, operator="amina", reason="wrong prices")
    assert turned.stopped is stopped


async def facts_told(database: Database) -> list[str]:
    return [kind for (kind,) in await rows_of(database, "SELECT fact_kind FROM payment_events ORDER BY position")]
