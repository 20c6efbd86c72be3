"""The switch that stops all new prompts. Every turn of it is a row that nobody can alter, and the latest one counts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.pipeline import Statement


class SwitchTurn(NamedTuple):
    """Prompts were stopped, or allowed again: by whom, why and when."""

    stopped: bool
    operator: str
    reason: str
    turned_at: datetime


_LATEST = f"SELECT {', '.join(SwitchTurn._fields)} FROM prompt_switch ORDER BY position DESC LIMIT 1"

# Every turn is kept, also one to where the switch stands already. When one operator stops prompts and another allows
# them at the same moment, neither turn is lost, and both are told which one counts.
_TURN = text("INSERT INTO prompt_switch (stopped, operator, reason) VALUES (:stopped, :operator, :reason)")

LATEST_TURN = Statement(_LATEST)
"""Rows for `stopping_turn`."""


def stopping_turn(rows: Sequence[Sequence[Any]]) -> SwitchTurn | None:
    """The turn that has stopped the prompts; None while they are allowed."""
    return next((turn for turn in map(SwitchTurn._make, rows) if turn.stopped), None)


async def latest_turn(conn: AsyncConnection) -> SwitchTurn | None:
    """How the switch was turned last; None where nobody has ever turned it."""
    row = (await conn.execute(text(_LATEST))).one_or_none()
    return None if row is None else SwitchTurn._make(row)


async def turn_switch(conn: AsyncConnection, *, stop: bool, operator: str, reason: str) -> SwitchTurn:
    """Turn the switch, and how it was turned last then: by somebody else, if two turn it at the same moment."""
    await conn.execute(_TURN, {"stopped": stop, "operator": operator, "reason": reason})
    turn = await latest_turn(conn)
    assert turn is not None, "no turn is ever removed"
    return turn
