"""What hits everybody is one alarm, not a warning for each payment; and it is over when the provider is well again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from payment_service.application.settling.watch_provider import IN_A_ROW, ProviderWatch, watch_provider
from payment_service.daraja.push import push_answer_name, read_push_answer
from payment_service.daraja.transport import HttpAnswer
from payment_service.domain.facts import ResultReported, Source, Verdict
from payment_service.store.engines import read_engine
from tests.databases import Database
from tests.stories import Stories
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

    async def refuses(self, code: str, text: str, times: int, status: int = 500) -> None:
        """Pushes of the last minute that were answered with this error; each is a payment's."""
        body = json.dumps({"errorCode": code, "errorMessage": text}).encode()
        name = push_answer_name(read_push_answer(HttpAnswer(status, {}, body)))
        await self.answers(name, times, minutes_ago=1, status=status)

    async def calls_back(self, times: int) -> None:
        """Callbacks for some of the payments."""
        async with await psycopg.AsyncConnection.connect(self.database.owner_url) as connection:
            for _ in range(times):
                payment_id = self.prompted.pop()
                await connection.execute(CALLBACK, (uuid7(), str(payment_id), payment_id, payment_id.bytes))

    async def look(self) -> list[MutableMapping[str, Any]]:
        """The lines that one look writes."""
        with capture_logs() as lines:
            await watch_provider(self.watch)
        return lines

    async def alarms(self) -> list[tuple[str, str]]:
        """What one look tells: (event, alarm)."""
        return [(line["event"], line["alarm"]) for line in await self.look()]


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
    await provider.answers("Accepted", 4, minutes_ago=1)
    assert await provider.alarms() == [("alarm is over", "answers_missing")]


async def test_one_refusal_after_the_other_is_one_alarm(provider: Provider) -> None:
    await provider.refuses("500.001.1001", "Wrong credentials", IN_A_ROW - 1)
    assert await provider.alarms() == []
    await provider.refuses("500.001.1001", "Wrong credentials", 31)
    assert await provider.alarms() == [("alarm", "same_refusal")]
    await provider.answers("Accepted", 1, minutes_ago=1)
    assert await provider.alarms() == [("alarm is over", "same_refusal")]


@pytest.mark.parametrize("text", ["Unable to lock subscriber, a transaction is in process", "[CBS - ] No ICCID found"])
async def test_what_is_said_of_a_phone_blames_no_set_up_though_it_has_the_same_code(
    provider: Provider, text: str
) -> None:
    await provider.refuses("500.001.1001", "Wrong credentials", 1)
    await provider.refuses("500.001.1001", text, IN_A_ROW + 1)
    assert await provider.alarms() == []


async def test_two_meanings_of_one_code_are_no_row(provider: Provider) -> None:
    await provider.refuses("500.001.1001", "Wrong credentials", IN_A_ROW - 1)
    await provider.refuses("500.001.1001", "Unable to lock subscriber", 1)
    await provider.refuses("500.001.1001", "Wrong credentials", 1)
    assert await provider.alarms() == []


async def test_one_unlisted_error_after_the_other_is_an_alarm_that_names_it(provider: Provider) -> None:
    await provider.refuses("400.009.77", "No till is found", IN_A_ROW, status=400)
    answer = "Uncertain: HTTP 400 with the unlisted error 400.009.77"
    told = {line["alarm"]: line.get("answer") for line in await provider.look()}
    assert told == {"answers_missing": None, "same_refusal": answer}
    await provider.refuses("400.009.78", "No till is found", 1, status=400)
    assert await provider.alarms() == [("alarm is over", "same_refusal")]


async def test_one_unlisted_code_after_the_other_is_an_alarm_that_ends_with_another(
    provider: Provider, tmp_path: Path
) -> None:
    stories = Stories(provider.writers, tmp_path)

    async def told(code: str, verdict: Verdict, times: int) -> None:
        for _ in range(times):
            payment = await stories.prompted()
            news = ResultReported(f"callback:{payment.reference}", Source.CALLBACK, verdict, code)
            await stories.tell(payment, news)

    await told("4711", Verdict.UNKNOWN, IN_A_ROW - 1)
    assert await provider.alarms() == []
    await told("4711", Verdict.UNKNOWN, 1)
    assert [(line["alarm"], line["code"]) for line in await provider.look()] == [("same_unlisted_code", "4711")]
    await told("1037", Verdict.UNCERTAIN, 1)
    assert await provider.alarms() == [("alarm is over", "same_unlisted_code")]


async def test_a_listed_code_may_come_one_after_the_other(provider: Provider, tmp_path: Path) -> None:
    stories = Stories(provider.writers, tmp_path)
    for _ in range(IN_A_ROW):
        payment = await stories.prompted()
        await stories.callback(payment.reference, code=1037)
    assert await provider.alarms() == []


async def test_an_outage_is_told_as_one_and_not_as_a_refusal(provider: Provider) -> None:
    await provider.answers("NotSent NOT_CONNECTED", IN_A_ROW, minutes_ago=1, status=None)
    assert await provider.alarms() == [("alarm", "answers_missing")]
    await provider.answers("Accepted", IN_A_ROW + 1, minutes_ago=1)
    assert await provider.alarms() == [("alarm is over", "answers_missing")]


@pytest.mark.parametrize(("kind", "status"), [("CONNECTION_LOST", None), ("HTTP 502 with an unreadable body", 502)])
async def test_answers_that_an_outage_loses_blame_no_set_up(provider: Provider, kind: str, status: int | None) -> None:
    await provider.answers(f"Uncertain: {kind}", IN_A_ROW, minutes_ago=1, status=status)
    assert await provider.alarms() == [("alarm", "answers_missing")]


async def test_what_was_not_sent_because_of_the_rate_is_neither(provider: Provider) -> None:
    await provider.answers("NotSent 429", IN_A_ROW, minutes_ago=1, status=429)
    assert await provider.alarms() == []
