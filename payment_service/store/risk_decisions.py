"""What the rules against unwanted prompts decided, as people look at it. Written by `risk.keep_decisions` alone."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.pipeline import Connection
from payment_service.store.risk_tables import risk_decisions

_decision = risk_decisions.c


class ShownDecision(NamedTuple):
    """What a rule had against a request, and what it went by."""

    rule: str
    mode: str
    payment_id: UUID | None
    """None: the request was refused."""
    counted: int
    most: int | None
    within_s: int | None
    retry_at: datetime | None
    decided_at: datetime


class RuleCount(NamedTuple):
    """How often a rule has objected of late."""

    rule: str
    refused: int
    lately: int
    """Of the refused, since the later of the two moments."""
    in_shadow: int


# Also what its request was refused for before it was let through: the request id is the same.
_OF_REQUEST = f"""
SELECT {", ".join(f"d.{name}" for name in ShownDecision._fields)} FROM risk_decisions d
JOIN payment_transactions p ON d.request_id = p.request_id AND d.caller = p.caller
WHERE p.payment_id = %s ORDER BY d.decided_at, d.rule"""


async def decisions_about(conn: Connection, payment_id: UUID) -> Sequence[ShownDecision]:
    """What rules had against the request that made a payment, whenever it was asked."""
    return [ShownDecision._make(row) for row in await (await conn.execute(_OF_REQUEST, (payment_id,))).fetchall()]


async def count_objections(conn: AsyncConnection, since: datetime, lately: datetime) -> dict[str, RuleCount]:
    """By rule, what it has refused, or in shadow would have; a request is counted once."""
    enforced = _decision.mode == "enforce"
    counted = (
        select(
            _decision.rule,
            func.count(case((enforced, 1))),
            func.count(case((enforced & (_decision.decided_at > lately), 1))),
            func.count(case((~enforced, 1))),
        )
        .where(_decision.decided_at > since)
        .group_by(_decision.rule)
    )
    return {row[0]: RuleCount(*row) for row in await conn.execute(counted)}
