"""Every value that is made with a key: counted, and gone through in bounded steps to put new ones in their place.

SQL only; what a new value is, `application.rekeying` decides. A value is replaced only where it is still the one that
was read, so that nothing that the service has written meanwhile is lost.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import psycopg

from payment_service.security import sealing
from payment_service.store.pipeline import Connection

LOCK_WAIT_MS = 2_000
"""Below what the service's own statements wait: it never gives up because of this."""
STATEMENT_WAIT_MS = 600_000
"""Counting goes through whole tables."""

Key = UUID | str


class Place(NamedTuple):
    """A column of sealed values, as `security.sealing` names it."""

    name: str
    key: str
    """The table's primary key; ordered by it, `first` comes before every row."""
    sealed_for: str
    """What the value of a row is sealed for, in SQL."""
    first: Key = UUID(int=0)

    @property
    def table(self) -> str:
        """The table's name."""
        return self.name.split(".")[0]

    @property
    def column(self) -> str:
        """The column's name."""
        return self.name.split(".")[1]


REQUESTS = (
    Place(sealing.REQUEST, "payment_id", "uuid_send(payment_id)"),
    Place(sealing.CALLER_REQUEST, "kept_id", "uuid_send(kept_id)"),
)
"""Each with a fingerprint of its own beside it."""
SEALED = (
    *REQUESTS,
    Place(sealing.PHONE_NUMBER, "payment_id", "uuid_send(payment_id)"),
    Place(sealing.CHECKOUT_REQUEST_ID, "payment_id", "uuid_send(payment_id)"),
    Place(sealing.CALLBACK_BODY, "callback_id", "convert_to(reference, 'UTF8') || body_hash"),
    Place(sealing.EXCHANGE_REQUEST, "exchange_id", "uuid_send(exchange_id)"),
    Place(sealing.EXCHANGE_ANSWER, "exchange_id", "uuid_send(exchange_id)"),
    Place(sealing.ACCESS_TOKEN, "app", "convert_to(app, 'UTF8')", ""),
)
"""All places of sealed values; a test holds them against the columns of the schema."""


class SealedValue(NamedTuple):
    """A value with its row's key, and what it is sealed for; None where the row needs nothing."""

    key: Key
    row_id: bytes
    value: bytes | None


class IndexedValues(NamedTuple):
    """What of a payment is found by blind indexes, sealed."""

    payment_id: UUID
    phone_number: bytes
    checkout_request_id: bytes | None


async def connect_maintenance(database_url: str) -> Connection:
    """A connection for going through whole tables beside the service."""
    options = f"-c lock_timeout={LOCK_WAIT_MS} -c statement_timeout={STATEMENT_WAIT_MS} -c timezone=UTC"
    return await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=options)


async def may_replace_values(conn: Connection) -> bool:
    """Whether this role may: the owner may, the service's own role may not."""
    cursor = await conn.execute("SELECT has_table_privilege('daraja_exchanges', 'UPDATE')")
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def sealed_with(conn: Connection, key_id: str) -> dict[str, int]:
    """How many values of each place are sealed with a key; places without any are left out."""
    counts = {}
    for place in SEALED:
        statement = f"SELECT count(*) FROM {place.table} WHERE substr({place.column}, 1, 1) = %s"
        counts[place.name] = await _count(conn, statement, key_id.encode())
    return {name: count for name, count in counts.items() if count}


async def fingerprinted_with(conn: Connection, key_id: str) -> int:
    """How many requests have a fingerprint by this key."""
    counts = [
        await _count(conn, f"SELECT count(*) FROM {place.table} WHERE request_key_id = %s", key_id)
        for place in REQUESTS
    ]
    return sum(counts)


async def chained_with(conn: Connection, key_id: str) -> int:
    """How many events are chained with this key."""
    return await _count(conn, "SELECT count(*) FROM payment_events WHERE chain_key_id = %s", key_id)


async def waiting_callbacks(conn: Connection, upto: object) -> int:
    """How many payments and refunds that were sent until then may still be told of by a callback."""
    payments = "SELECT count(*) FROM payment_transactions WHERE due_at IS NOT NULL AND sent_at <= %s"
    refunds = "SELECT count(*) FROM refunds WHERE due_at IS NOT NULL AND sent_at <= %s"
    return await _count(conn, payments, upto) + await _count(conn, refunds, upto)


async def next_sealed(conn: Connection, place: Place, current: str, after: Key, most: int) -> list[SealedValue]:
    """The next rows; their values where they are sealed with another key than the current one."""
    stale = f"substr({place.column}, 1, 1) <> %(current)s"
    return await _next(conn, place, stale, after, most, current.encode())


async def next_fingerprinted(conn: Connection, place: Place, current: str, after: Key, most: int) -> list[SealedValue]:
    """The next rows; their sealed requests where their fingerprints are by another key than the current one."""
    return await _next(conn, place, "request_key_id <> %(current)s", after, most, current)


async def _next(
    conn: Connection, place: Place, stale: str, after: Key, most: int, current: str | bytes
) -> list[SealedValue]:
    cursor = await conn.execute(
        f"SELECT {place.key}, {place.sealed_for}, CASE WHEN {stale} THEN {place.column} END"
        f" FROM {place.table} WHERE {place.key} > %(after)s ORDER BY {place.key} LIMIT %(most)s",
        {"current": current, "after": after, "most": most},
    )
    return [SealedValue._make(row) for row in await cursor.fetchall()]


async def replace_sealed(conn: Connection, place: Place, values: Sequence[tuple[Key, bytes, bytes]]) -> int:
    """Put new values where the old ones still are: (key, old, new); how many were replaced."""
    kind = "text" if isinstance(place.first, str) else "uuid"
    keys, old, new = (list(column) for column in zip(*sorted(values), strict=True))
    cursor = await conn.execute(
        f"UPDATE {place.table} t SET {place.column} = v.new"
        f" FROM unnest(%s::{kind}[], %s::bytea[], %s::bytea[]) AS v (key, old, new)"
        f" WHERE t.{place.key} = v.key AND t.{place.column} = v.old",
        (keys, old, new),
    )
    return cursor.rowcount


async def replace_fingerprints(
    conn: Connection, place: Place, current: str, values: Sequence[tuple[Key, bytes]]
) -> int:
    """Put new fingerprints in, by the current key: (key, fingerprint); how many were replaced."""
    keys, new = (list(column) for column in zip(*sorted(values), strict=True))
    cursor = await conn.execute(
        f"UPDATE {place.table} t SET request_fingerprint = v.new, request_key_id = %s"
        " FROM unnest(%s::uuid[], %s::bytea[]) AS v (key, new)"
        f" WHERE t.{place.key} = v.key AND t.request_key_id <> %s",
        (current, keys, new, current),
    )
    return cursor.rowcount


async def hold_payments(conn: Connection) -> None:
    """Let nobody write a payment until the end of the transaction, in which the old indexes of phones are kept."""
    await conn.execute("LOCK TABLE payment_transactions IN EXCLUSIVE MODE")
    await conn.execute("CREATE TEMP TABLE phones_reindexed (old bytea PRIMARY KEY, new bytea) ON COMMIT DROP")


async def next_indexed(conn: Connection, after: UUID, most: int) -> list[IndexedValues]:
    """What the next payments are found by."""
    cursor = await conn.execute(
        f"SELECT {', '.join(IndexedValues._fields)} FROM payment_transactions WHERE payment_id > %s"
        " ORDER BY payment_id LIMIT %s",
        (after, most),
    )
    return [IndexedValues._make(row) for row in await cursor.fetchall()]


async def replace_indexes(conn: Connection, values: Sequence[tuple[UUID, bytes, bytes | None]]) -> None:
    """Put new blind indexes in: (payment id, phone, checkout id)."""
    ids, phones, checkouts = (list(column) for column in zip(*values, strict=True))
    await conn.execute(
        "INSERT INTO phones_reindexed SELECT DISTINCT p.phone_index_a, v.phone"
        " FROM unnest(%s::uuid[], %s::bytea[]) AS v (id, phone) JOIN payment_transactions p ON p.payment_id = v.id"
        " ON CONFLICT DO NOTHING",
        (ids, phones),
    )
    await conn.execute(
        "UPDATE payment_transactions p SET phone_index_a = v.phone, checkout_index_a = v.checkout"
        " FROM unnest(%s::uuid[], %s::bytea[], %s::bytea[]) AS v (id, phone, checkout) WHERE p.payment_id = v.id",
        (ids, phones, checkouts),
    )


async def replace_phones_by_index(conn: Connection) -> int:
    """The same for rows that have no number but its index, by the payments of that number.

    How many numbers of the list have no payment: nobody can tell what their new index is.
    """
    for table in ("risk_list", "risk_decisions"):
        await conn.execute(
            f"UPDATE {table} t SET phone_index = r.new FROM phones_reindexed r WHERE t.phone_index = r.old"
        )
    row = await (await conn.execute(_NOT_REINDEXED)).fetchone()
    assert row is not None, "a count has a row"
    return int(row[0])


_NOT_REINDEXED = """
SELECT count(DISTINCT phone_index) FROM risk_list
WHERE NOT EXISTS (SELECT FROM phones_reindexed WHERE new = phone_index)"""


async def _count(conn: Connection, statement: str, parameter: object) -> int:
    row = await (await conn.execute(statement, (parameter,))).fetchone()
    assert row is not None, "a count has a row"
    return int(row[0])
