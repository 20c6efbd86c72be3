"""The order of the log: positions become visible in the order in which they were drawn, whoever writes."""

from uuid import uuid4

import psycopg
import pytest

from payment_service.domain.payment import Payment
from payment_service.domain.views import EventType
from payment_service.security.chain import START
from payment_service.store import event_log
from payment_service.store.engines import connect_writer
from payment_service.store.event_log import NewEvent
from payment_service.store.pipeline import Connection, run_together
from tests.databases import Database
from tests.rows import rows_of
from tests.writers import Writers, a_request

pytestmark = pytest.mark.every_postgres


async def append(conn: Connection, writers: Writers, payment: Payment) -> None:
    """Append one more event of a payment, without committing it."""
    later = payment.but(version=payment.version + 1)
    event = NewEvent(EventType.UPDATED, f"fact:{uuid4()}", "Test", payment, later)
    row = event_log.event_row(event, writers.keys.chain, START)
    await run_together(conn, [event_log.append([row])])


async def test_an_append_waits_for_the_one_before_it_to_commit(writers: Writers, database: Database) -> None:
    one = (await writers.create("development", a_request(), None, None)).payment
    two = (await writers.create("development", a_request(), None, None)).payment
    first, second = [await connect_writer(database.application_url, autocommit=True) for _ in range(2)]
    try:
        await first.execute("BEGIN")
        await append(first, writers, one)
        await second.execute("BEGIN")
        await second.execute("SET LOCAL lock_timeout = '300ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await append(second, writers, two)
        await second.rollback()
        await first.commit()
        await append(second, writers, two)
        await second.commit()
    finally:
        await first.close()
        await second.close()
    visible = await rows_of(database, "SELECT payment_id FROM payment_events ORDER BY position")
    assert [payment_id for (payment_id,) in visible[-2:]] == [one.payment_id, two.payment_id]
