"""Notifications reach whoever listens, also those that come while it runs a statement."""

from payment_service.store.engines import connect_feed
from payment_service.store.pipeline import Statement, backends_notifying, run_together
from tests.databases import Database


async def test_notifications_are_told_by_the_backend_that_sent_them_and_silence_ends(database: Database) -> None:
    listener, teller = [await connect_feed(database.application_url) for _ in range(2)]
    await listener.execute("LISTEN news")
    assert await backends_notifying(listener, 0.001) == set()
    await teller.execute("NOTIFY news")
    assert await backends_notifying(listener, 3600) == {teller.info.backend_pid}
    await teller.execute("NOTIFY news")
    await run_together(listener, [Statement("SELECT 1")])
    assert await backends_notifying(listener, 3600) == {teller.info.backend_pid}, "it came with the statement's answer"
    await listener.close()
    await teller.close()
