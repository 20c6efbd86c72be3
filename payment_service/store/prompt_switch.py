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

# Turning it to where it is already is no turn: whoever stopped the prompts first, and why, stays known.
_TURN = text("""
INSERT INTO prompt_switch (stopped, operator, reason, turned_at)
SELECT :stopped, :operator, :reason, :turned_at
WHERE coalesce((SELECT stopped FROM prompt_switch ORDER BY position DESC LIMIT 1), false) <> :stopped""")

LATEST_TURN = Statement(_LATEST)
"""Rows for `stopping_turn`."""


def stopping_turn(rows: Sequence[Sequence[Any]]) -> SwitchTurn | None:
    """The turn that has stopped the prompts; None while they are allowed."""
    return next((turn for turn in map(SwitchTurn._make, rows) if turn.stopped), None)


async def latest_turn(conn: AsyncConnection) -> SwitchTurn | None:
    """How the switch was turned last; None where nobody has ever turned it."""
    row = (await conn.execute(text(_LATEST))).one_or_none()
    return None if row is None else SwitchTurn._make(row)


async def turn_switch(conn: AsyncConnection, turn: SwitchTurn) -> SwitchTurn | None:
    """Turn the switch, and how it was turned last then."""
    await conn.execute(_TURN, turn._asdict())
    return await latest_turn(conn)
