"""What was done about personal data: by whom, why and to how many payments. Never whose data it was."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from payment_service.store.privacy_tables import privacy_acts


class Asker(NamedTuple):
    """Who asks for something about personal data, and why."""

    certificate: str
    """Its name on the list of callers."""
    operator: str
    """As the command says."""
    reason: str


async def keep_act(conn: AsyncConnection, act: str, asker: Asker, payments: int) -> UUID:
    """Keep that an operator did this (EXPORT or ERASE); its id."""
    act_id = uuid7()
    values = {"act_id": act_id, "act": act, "payments": payments, **asker._asdict()}
    await conn.execute(insert(privacy_acts).values(values))
    return act_id
