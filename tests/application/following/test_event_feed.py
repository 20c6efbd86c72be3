"""The feed by itself: what wakes it, what stops it, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from payment_service.application.following.event_feed import CallerTopic, EventFeed, PaymentTopic, Subscription
from payment_service.application.following.stored_views import UNREADABLE_PHONE
from payment_service.domain.errors import LogDiverged
from payment_service.domain.views import EventView
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_writer
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rpc.processes import CALLER, Process, sent
from tests.writers import a_request, running_writers


@contextlib.asynccontextmanager
async def running_feed(database: Database, sealer: Sealer, poll_seconds: float) -> AsyncIterator[EventFeed]:
    feed = EventFeed(
        partial(connect_writer, database.application_url, autocommit=True), sealer, poll_seconds=poll_seconds
    )
    task = asyncio.create_task(feed.run())
    try:
        await asyncio.wait_for(feed.started(), PATIENCE_SECONDS)
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def next_event(subscription: Subscription) -> EventView:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await subscription.wait(PATIENCE_SECONDS)
    return subscription.take()[0]


@pytest.mark.parametrize(("poll_seconds", "listens"), [(3_600, True), (0.05, False)], ids=["notified", "polling"])
async def test_another_processs_commit_is_seen_by_notify_and_without_it(
    database: Database, process: Process, monkeypatch: pytest.MonkeyPatch, poll_seconds: float, listens: bool
) -> None:
    if not listens:
        monkeypatch.setattr("payment_service.application.following.event_feed.CHANNEL", "nobody_tells")
    async with running_feed(database, process.writers.sealer, poll_seconds) as feed:
        await _listening(database, 2)
        with feed.subscribe(CallerTopic(CALLER)) as subscription:
            payment = await process.create()
            event = await next_event(subscription)
            assert event.payment.payment_id == payment.payment_id
            assert event.payment.masked_phone == "2547*****678"
            # Each event is handed out once: the next look begins after it.
            another = await process.create()
            assert (await next_event(subscription)).payment.payment_id == another.payment_id


async def test_a_log_that_was_restored_to_an_earlier_point_ends_the_feed(database: Database, tmp_path: Path) -> None:
    async with running_writers(database.application_url, tmp_path) as writers:
        await writers.create(CALLER, a_request(), None, None)
        feed = EventFeed(partial(connect_writer, database.application_url, autocommit=True), writers.sealer)
        running = asyncio.create_task(feed.run())
        await asyncio.wait_for(feed.started(), PATIENCE_SECONDS)
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            await owner.execute("UPDATE payment_events SET tag = '\\x0102030405060708'")
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(running, PATIENCE_SECONDS)
    assert ended.value.subgroup(LogDiverged)


async def test_a_number_that_does_not_open_is_hidden_and_stops_nothing(database: Database, process: Process) -> None:
    payment = await process.create()
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("UPDATE payment_transactions SET phone_number = '\\x31ff'")
    with process.feed.subscribe(PaymentTopic(payment.payment_id)) as subscription:
        await process.tell(payment, *sent(1))
        event = await next_event(subscription)
        assert event.payment.masked_phone == UNREADABLE_PHONE


async def _listening(database: Database, feeds: int) -> None:
    """Wait until so many feeds listen."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
    async with (
        await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while (await (await owner.execute(count)).fetchall())[0][0] < feeds:
            await asyncio.sleep(0.01)
