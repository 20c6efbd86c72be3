"""Who has asked for payments, whoever is on the list of callers today. SQL only."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_NAMED = """
    WITH RECURSIVE named AS (
        (SELECT caller FROM payment_transactions ORDER BY caller LIMIT 1)
        UNION ALL
        SELECT (SELECT p.caller FROM payment_transactions p WHERE p.caller > named.caller ORDER BY p.caller LIMIT 1)
        FROM named WHERE named.caller IS NOT NULL
    )"""
"""Everybody who has a payment: goes from one caller to the next by the index, however many payments each has."""
_OTHERS_AT_WORK = text(f"""{_NAMED}
    SELECT caller FROM named
    WHERE caller <> ALL(:listed) AND (
        EXISTS (SELECT FROM payment_transactions p WHERE p.caller = named.caller AND p.due_at IS NOT NULL)
        OR (SELECT p.created_at FROM payment_transactions p WHERE p.caller = named.caller
            ORDER BY p.payment_id DESC LIMIT 1) > clock_timestamp() - interval '24 hours'
    )
    ORDER BY caller""")
_CALLERS = text(f"{_NAMED} SELECT caller FROM named WHERE caller IS NOT NULL")


async def others_at_work(conn: AsyncConnection, listed: Collection[str]) -> list[str]:
    """The callers beside these whose payments may still move, or who made one in the last 24 hours."""
    return list(await conn.scalars(_OTHERS_AT_WORK, {"listed": sorted(listed)}))


async def callers_of_payments(conn: AsyncConnection) -> list[str]:
    """Everybody who has a payment."""
    return list(await conn.scalars(_CALLERS))
