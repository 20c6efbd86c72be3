"""Where a person's number stands, and the statements that take it away. SQL only.

What the service keeps as evidence it cannot alter itself: the functions `forget_…` of the schema do that for it, and
see to it that no payment under way and no open case loses anything.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class HeldPayment(NamedTuple):
    """What of a payment names its payer, or may do so; the request is sealed."""

    payment_id: UUID
    caller: str
    state: str
    request_id: str
    booking_id: str
    reference: str
    request: bytes
    account_reference: str
    transaction_desc: str
    metadata: dict[str, str]


class HeldBody(NamedTuple):
    """A callback whose body is still there."""

    callback_id: UUID
    reference: str
    body_hash: bytes


class ErasedPayment(NamedTuple):
    """The same without the payer; the number that is put in place of theirs is empty, and sealed as any other."""

    payment_id: UUID
    phone_number: bytes
    phone_index: bytes
    request: bytes
    request_fingerprint: bytes
    request_encoding: int
    request_key_id: str
    account_reference: str
    transaction_desc: str
    metadata: str
    """As JSON."""


_HELD = (
    f"SELECT {', '.join(HeldPayment._fields)} FROM payment_transactions WHERE payment_id = ANY(:ids)"
    " ORDER BY payment_id"
)
_UNDER_WAY = text(
    "SELECT payment_id, state FROM payment_transactions WHERE payment_id = ANY(:ids) AND payment_under_way(payment_id)"
    " ORDER BY payment_id"
)
# A callback that waits to be applied may tell of money.
_REMOVABLE = "NOT i.body_removed AND i.status || '' IN ('APPLIED', 'UNREAD')"
_BODIES_OF = text(f"""
SELECT i.callback_id, i.reference, i.body_hash FROM callback_inbox i WHERE {_REMOVABLE} AND i.reference IN (
    SELECT reference FROM payment_transactions WHERE payment_id = ANY(:ids)
    UNION ALL SELECT reference FROM refunds WHERE payment_id = ANY(:ids))""")
_ERASE = text("""
UPDATE payment_transactions SET phone_number = :phone_number, phone_index_a = :phone_index, phone_index_b = NULL,
    phone_warning = NULL, request = :request, request_fingerprint = :request_fingerprint,
    request_encoding = :request_encoding, request_key_id = :request_key_id, account_reference = :account_reference,
    transaction_desc = :transaction_desc, metadata = CAST(:metadata AS jsonb), checkout_request_id = NULL,
    checkout_index_a = NULL, checkout_index_b = NULL, erased_at = clock_timestamp()
WHERE payment_id = :payment_id""")
_REMOVE_BODIES = """
SELECT coalesce(sum(forget_body(one.callback_id, one.body)), 0)
FROM unnest(CAST(:callback_ids AS uuid[]), CAST(:bodies AS bytea[])) AS one (callback_id, body)"""
# Only what was erased lately: a callback that comes months later ends with the bodies that are old.
_CAME_LATER = text(f"""
SELECT p.payment_id FROM payment_transactions p WHERE p.erased_at > :since AND NOT payment_under_way(p.payment_id) AND (
    p.checkout_request_id IS NOT NULL
    OR EXISTS (SELECT FROM callback_inbox i WHERE i.reference = p.reference AND {_REMOVABLE})
    OR EXISTS (SELECT FROM refunds r JOIN callback_inbox i ON i.reference = r.reference
        WHERE r.payment_id = p.payment_id AND {_REMOVABLE})
    OR EXISTS (SELECT FROM daraja_exchanges e WHERE e.payment_id = p.payment_id))
ORDER BY p.payment_id LIMIT :most""")
_OLD_BODIES = text(f"""
SELECT i.callback_id, i.reference, i.body_hash FROM callback_inbox i
WHERE {_REMOVABLE} AND i.stored_at < :before AND NOT body_needed(i.callback_id) ORDER BY i.stored_at LIMIT :most""")


async def held_payments(conn: AsyncConnection, ids: Sequence[UUID], *, lock: bool) -> list[HeldPayment]:
    """The payments; `lock` keeps every writer off until the end of the transaction."""
    rows = await conn.execute(text(f"{_HELD} FOR NO KEY UPDATE" if lock else _HELD), {"ids": list(ids)})
    return [HeldPayment._make(row) for row in rows]


async def under_way(conn: AsyncConnection, ids: Sequence[UUID]) -> list[tuple[UUID, str]]:
    """(payment, state) of those that have not ended, or that an open case is about."""
    return [(row[0], row[1]) for row in await conn.execute(_UNDER_WAY, {"ids": list(ids)})]


async def bodies_of(conn: AsyncConnection, ids: Sequence[UUID]) -> list[HeldBody]:
    """The callbacks of payments, and of their refunds, that are settled and whose bodies are there."""
    return [HeldBody._make(row) for row in await conn.execute(_BODIES_OF, {"ids": list(ids)})]


async def count_exchanges(conn: AsyncConnection, ids: Sequence[UUID]) -> int:
    """How many exchanges with M-Pesa are kept of payments."""
    return await _count(conn, "SELECT count(*) FROM daraja_exchanges WHERE payment_id = ANY(:ids)", ids=list(ids))


async def count_rules(conn: AsyncConnection, phone: bytes) -> int:
    """How many decisions of rules, and turns of the list, are about a phone."""
    return await _count(
        conn,
        "SELECT (SELECT count(*) FROM risk_decisions WHERE phone_index = :phone)"
        " + (SELECT count(*) FROM risk_list WHERE phone_index = :phone)",
        phone=phone,
    )


async def erase_payments(conn: AsyncConnection, erased: Sequence[ErasedPayment]) -> None:
    """Take the payer out of payments that are locked."""
    await conn.execute(_ERASE, [row._asdict() for row in erased])


async def remove_bodies(conn: AsyncConnection, bodies: Sequence[tuple[UUID, bytes]]) -> int:
    """Put these sealed bodies in place of those of callbacks, (callback id, body), unless one is needed by now."""
    if not bodies:
        return 0
    ids, empty = ([one[place] for one in bodies] for place in (0, 1))
    return await _count(conn, _REMOVE_BODIES, callback_ids=ids, bodies=empty)


async def forget_exchanges_of(conn: AsyncConnection, ids: Sequence[UUID]) -> int:
    """Delete the exchanges of payments that are erased."""
    forgotten = "SELECT coalesce(sum(forget_exchanges_of(one)), 0) FROM unnest(CAST(:ids AS uuid[])) AS ids (one)"
    return await _count(conn, forgotten, ids=list(ids))


async def forget_phone(conn: AsyncConnection, phone: bytes, nobody: bytes) -> int:
    """Let what rules and the list say of a phone stand under a fingerprint that is nobody's.

    Not while the list bars the phone, or a payment of it is under way: then nothing changes.
    """
    return await _count(conn, "SELECT forget_phone(:phone, :nobody)", phone=phone, nobody=nobody)


async def came_later(conn: AsyncConnection, since: datetime, most: int) -> list[UUID]:
    """Payments that were erased since then, and to which something has come that names the payer again."""
    return [row[0] for row in await conn.execute(_CAME_LATER, {"since": since, "most": most})]


async def old_bodies(conn: AsyncConnection, before: datetime, most: int) -> list[HeldBody]:
    """The oldest callbacks that were stored before then, and whose bodies nothing needs any more."""
    return [HeldBody._make(row) for row in await conn.execute(_OLD_BODIES, {"before": before, "most": most})]


async def forget_exchanges(conn: AsyncConnection, upto: UUID, most: int) -> int:
    """Delete the oldest exchanges that were made before this id, and that nothing needs any more."""
    return await _count(conn, "SELECT forget_exchanges(:upto, :most)", upto=upto, most=most)


async def forget_decisions(conn: AsyncConnection, before: datetime, most: int) -> int:
    """Delete the oldest decisions of rules from before then."""
    return await _count(conn, "SELECT forget_risk_decisions(:before, :most)", before=before, most=most)


async def _count(conn: AsyncConnection, statement: str, **values: Any) -> int:
    return int((await conn.execute(text(statement), values)).scalar_one())
