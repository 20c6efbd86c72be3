"""Hints: what anybody may post to the address that has no token, and what it is good for.

Whoever posts there has proven nothing, so nothing of it is believed, applied or kept. A body that names the ids of a
payment whose outcome is not known yet makes that payment's next query come now; the query tells the truth. A payment is
asked about for three hints at most, in turns of the budget that all queries share, so that nobody can spend it at will.
The sender is never told whether it has met a payment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from opentelemetry import metrics
from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.daraja.callback import read_callback
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import ResultReported
from payment_service.security.sealing import Sealer
from payment_service.store.payments import CHECKOUT_INDEX
from payment_service.store.push_queries import ask_now

_log = structlog.get_logger(__name__)
_meter = metrics.get_meter("payment_service")
_hints = _meter.create_counter("payment_service.hints", description="Callbacks without a token, by what became of them")


@dataclass(frozen=True, slots=True)
class HintTools:
    """What taking hints needs."""

    engine: AsyncEngine
    sealer: Sealer
    clock: Callable[[], datetime]


async def take_hint(tools: HintTools, body: bytes) -> None:
    """Let the payment be asked about that the body names, if it is to be asked about at all."""
    told = read_callback(CallbackKind.STK, body, "hint")
    if not isinstance(told, ResultReported) or told.checkout_request_id is None:
        _hints.add(1, {"became": "unreadable"})
        return
    index = tools.sealer.index(CHECKOUT_INDEX, told.checkout_request_id)
    async with tools.engine.begin() as conn:
        payment_id = await ask_now(conn, index, told.merchant_request_id, tools.clock())
    _hints.add(1, {"became": "query" if payment_id is not None else "nothing"})
    if payment_id is not None:
        _log.info("payment asked about for a hint", payment_id=str(payment_id))
