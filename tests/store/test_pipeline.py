"""Notifications reach whoever listens, also those that come while it runs a statement."""

import select

from payment_service.store.engines import connect_feed
from payment_service.store.pipeline import BEGIN, COMMIT, backends_notifying, run_together
from tests.databases import Database


async def test_notifications_are_told_by_the_backend_that_sent_them_and_silence_ends(database: Database) -> None:
    listener, teller = [await connect_feed(database.application_url) for _ in range(2)]
    await listener.execute("LISTEN news")
    assert await backends_notifying(listener, 0.001) == set()
    await teller.execute("NOTIFY news")
    assert await backends_notifying(listener, 3600) == {teller.info.backend_pid}
    # What is notified during a transaction of the listener comes at its end, with the answer to COMMIT.
    await run_together(listener, [BEGIN])
    await teller.execute("NOTIFY news")
    await run_together(listener, [COMMIT])
    assert select.select([listener.fileno()], [], [], 0)[0] == [], "it came with the statement's answer"
    assert await backends_notifying(listener, 3600) == {teller.info.backend_pid}
    await listener.close()
    await teller.close()
