"""Stopping all new prompts, and allowing them again: for the day on which phones are asked for what is wrong.

While they are stopped, no new payment is made and no prompt that is still to be sent goes out. Everything else goes on:
callbacks, queries, streams, cases and refunds. A prompt that is on a phone can be paid.
"""

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.domain.errors import PromptsStopped, StoreUnavailable
from payment_service.store.prompt_switch import SwitchTurn, latest_turn, turn_switch

_log = structlog.get_logger(__name__)


async def check_prompts_allowed(engine: AsyncEngine) -> None:
    """Raise PromptsStopped while they are stopped, and StoreUnavailable where that cannot be read."""
    try:
        async with engine.connect() as conn:
            turn = await latest_turn(conn)
    except (SQLAlchemyError, psycopg.Error, OSError) as error:
        raise StoreUnavailable from error
    if turn is not None and turn.stopped:
        raise PromptsStopped(turn.turned_at, turn.reason)


async def read_switch(using: PaymentReads) -> SwitchTurn | None:
    """How the switch was turned last; None where nobody has ever turned it."""
    async with reading(using) as conn:
        return await latest_turn(conn)


async def turn_prompt_switch(using: PaymentReads, *, stop: bool, operator: str, reason: str) -> SwitchTurn:
    """Turn the switch, and how it was turned last then: by somebody else, if two turn it at the same moment."""
    async with reading(using) as conn:
        turn = await turn_switch(conn, stop=stop, operator=operator, reason=reason)
    _log.warning("prompts stopped" if turn.stopped else "prompts allowed", operator=turn.operator)
    return turn
