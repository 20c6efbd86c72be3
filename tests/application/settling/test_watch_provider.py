"""What hits everybody is one alarm, not a warning for each payment; and it is over when the provider is well again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from payment_service.application.settling.watch_provider import IN_A_ROW, ProviderWatch, watch_provider
from payment_service.store.engines import read_engine
from tests.databases import Database
from tests.writers import Writers, a_request

EXCHANGE = """INSERT INTO daraja_exchanges
(exchange_id, payment_id, operation, http_status, classified_as, request, answer, started_at, duration_ms)
VALUES (%s, %s, 'push', %s, %s, '', '', %s, 10)"""
CALLBACK = """INSERT INTO callback_inbox
(callback_id, kind, reference, payment_id, body, body_hash, source_address, received_at, stored_at, status)
VALUES (%s, 'stk', %s, %s, '', %s, '', now(), now(), 'APPLIED')"""


class Provider:
    """Safaricom as the stored exchanges and callbacks show it."""

    def __init__(self, database: Database, writers: Writers, watch: ProviderWatch) -> None:
        self.database, self.writers, self.watch = database, writers, watch
        self.prompted: list[UUID] = []

    async def answers(self, kind: str, times: int, minutes_ago: float = 5, status: int | None = 200) -> None:
        """Pushes that were answered in this way; each is a payment's. Without a status nobody answered."""
        at = self.writers.clock() - timedelta(minutes=minutes_ago)
        async with await psycopg.AsyncConnection.connect(self.database.owner_url) as connection:
            for _ in range(times):
                exchange_id = uuid7()
                payment = (await self.writers.create("development", a_request(), None, None)).payment
                await connection.execute(EXCHANGE, (exchange_id, payment.payment_id, status, kind, at))
                self.prompted.append(payment.payment_id)

    async def calls_back(self, times: int) -> None:
        """Callbacks for some of the payments."""
        async with await psycopg.AsyncConnection.connect(self.database.owner_url) as connection:
            for _ in range(times):
                payment_id = self.prompted.pop()
                await connection.execute(CALLBACK, (uuid7(), str(payment_id), payment_id, payment_id.bytes))

    async def alarms(self) -> list[tuple[str, str]]:
        """What one look tells: (event, alarm)."""
        with capture_logs() as lines:
            await watch_provider(self.watch)
        return [(line["event"], line["alarm"]) for line in lines]


@pytest.fixture
async def provider(database: Database, writers: Writers) -> AsyncIterator[Provider]:
    engine = read_engine(database.application_url)
    yield Provider(database, writers, ProviderWatch(engine, writers.clock))
    await engine.dispose()


async def test_prompts_without_callbacks_are_one_alarm_that_ends_by_itself(provider: Provider) -> None:
    await provider.answers("Accepted", 25)
    assert await provider.alarms() == [("alarm", "callbacks_missing")]
    assert await provider.alarms() == [], "told once"
    await provider.calls_back(20)
    assert await provider.alarms() == [("alarm is over", "callbacks_missing")]


async def test_prompts_whose_callbacks_may_still_come_are_no_alarm(provider: Provider) -> None:
    await provider.answers("Accepted", 25, minutes_ago=1)
    assert await provider.alarms() == []


async def test_a_few_prompts_say_nothing_about_all(provider: Provider) -> None:
    await provider.answers("Accepted", 4)
    assert await provider.alarms() == []


async def test_answers_that_get_lost_are_an_alarm(provider: Provider) -> None:
    await provider.answers("Accepted", 5, minutes_ago=1)
    await provider.answers("Uncertain: CONNECTION_LOST", 3, minutes_ago=1)
    assert await provider.alarms() == []
    await provider.answers("Uncertain: CONNECTION_LOST", 5, minutes_ago=1)
    assert await provider.alarms() == [("alarm", "answers_missing")]


async def test_one_refusal_after_the_other_is_one_alarm(provider: Provider) -> None:
    await provider.answers("Refused 500.001.1001", IN_A_ROW - 1, minutes_ago=1)
    assert await provider.alarms() == []
    await provider.answers("Refused 500.001.1001", 31, minutes_ago=1)
    assert await provider.alarms() == [("alarm", "same_refusal")]
    await provider.answers("Accepted", 1, minutes_ago=1)
    assert await provider.alarms() == [("alarm is over", "same_refusal")]


async def test_an_outage_is_told_as_one_and_not_as_a_refusal(provider: Provider) -> None:
    await provider.answers("NotSent NOT_CONNECTED", IN_A_ROW, minutes_ago=1, status=None)
    assert await provider.alarms() == [("alarm", "answers_missing")]
    await provider.answers("Accepted", IN_A_ROW + 1, minutes_ago=1)
    assert await provider.alarms() == [("alarm is over", "answers_missing")]


async def test_what_was_not_sent_because_of_the_rate_is_neither(provider: Provider) -> None:
    await provider.answers("NotSent 429", IN_A_ROW, minutes_ago=1, status=429)
    assert await provider.alarms() == []
