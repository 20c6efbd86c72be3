"""Keeping what went over the wire to Daraja: sealed, for as long as disputes last."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from payment_service.daraja.client import Exchange
from payment_service.security.sealing import EXCHANGE_ANSWER, EXCHANGE_REQUEST, Sealer
from payment_service.store import evidence
from payment_service.store.evidence import ExchangeRow


def exchange_row(sealer: Sealer, exchange: Exchange, payment_id: UUID | None) -> ExchangeRow:
    """The row of one exchange, sealed for its own id."""
    exchange_id = uuid7()
    return ExchangeRow(
        exchange_id=exchange_id,
        payment_id=payment_id,
        operation=exchange.operation,
        http_status=exchange.http_status,
        classified_as=exchange.classified_as,
        request=sealer.seal(EXCHANGE_REQUEST, exchange_id.bytes, exchange.request_body),
        answer=sealer.seal(EXCHANGE_ANSWER, exchange_id.bytes, exchange.answer_body),
        started_at=exchange.started_at,
        duration_ms=round(exchange.duration.total_seconds() * 1000),
    )


async def keep_exchange(
    engine: AsyncEngine, sealer: Sealer, exchange: Exchange, payment_id: UUID | None = None
) -> None:
    """Keep an exchange that changes no payment by itself: a request for a token, or a question."""
    async with engine.begin() as conn:
        await evidence.insert_exchange(conn, exchange_row(sealer, exchange, payment_id))
