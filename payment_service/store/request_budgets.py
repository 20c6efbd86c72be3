"""The turns that are left for requests to Daraja, one row for a kind of request and what it is
counted as: a shortcode, or a Daraja app. SQL only.

`application.request_budget` decides how they refill. A row is locked for one short transaction, never while anybody
waits for a turn.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.store.provider_tables import request_budgets


@dataclass(frozen=True, slots=True)
class StoredBudget:
    """The turns left at `filled_at`, and until when none is given out."""

    turns: float
    filled_at: datetime
    paused_until: datetime | None


async def lock_budget(conn: AsyncConnection, counted_as: str, kind: str, new: StoredBudget) -> StoredBudget:
    """The budget's row, locked; `new` is what it begins with if there is none yet."""
    columns = request_budgets.c
    row = select(columns.turns, columns.filled_at, columns.paused_until).where(
        columns.shortcode == counted_as, columns.kind == kind
    )
    found = (await conn.execute(row.with_for_update())).one_or_none()
    if found is None:
        values = {"turns": new.turns, "filled_at": new.filled_at, "paused_until": new.paused_until}
        await conn.execute(
            insert(request_budgets).values(shortcode=counted_as, kind=kind, **values).on_conflict_do_nothing()
        )
        found = (await conn.execute(row.with_for_update())).one()
    return StoredBudget(*found)


async def save_budget(conn: AsyncConnection, counted_as: str, kind: str, budget: StoredBudget) -> None:
    """Write the budget whose row is locked."""
    columns = request_budgets.c
    await conn.execute(
        update(request_budgets)
        .where(columns.shortcode == counted_as, columns.kind == kind)
        .values(turns=budget.turns, filled_at=budget.filled_at, paused_until=budget.paused_until)
    )
