"""The rules against unwanted prompts and their list of phones, as operators look at them and turn them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.domain.risk import ListVerdict
from payment_service.store import risk_list as store
from payment_service.store.risk_decisions import RuleCount, count_objections
from payment_service.store.risk_list import ListTurn

COUNTED_FOR = timedelta(days=1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RiskFound:
    """What stands on the list, or all that was ever said about one phone; and what the rules did in the last day."""

    turns: Sequence[ListTurn]
    counts: Mapping[str, RuleCount]


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be said of a phone, by whom, why and until when."""

    phone: bytes
    """The blind index of its number."""
    verdict: ListVerdict
    operator: str
    reason: str
    until: datetime | None


async def read_risk(using: PaymentReads, phone: bytes | None, now: datetime) -> RiskFound:
    """The list, or the turns about one phone."""
    async with reading(using) as conn:
        turns = await (store.listed_now(conn, now) if phone is None else store.turns_of(conn, phone))
        return RiskFound(turns, await count_objections(conn, now - COUNTED_FOR, now))


async def list_phone(using: PaymentReads, listing: Listing) -> ListTurn:
    """Put a phone on the list, or take it off. It holds from the next request on, in every process."""
    async with reading(using) as conn:
        turn = await store.list_phone(
            conn, listing.phone, listing.verdict, listing.operator, listing.reason, listing.until
        )
    _log.warning("phone listed", verdict=turn.verdict, operator=turn.operator)
    return turn
