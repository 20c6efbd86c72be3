"""When another attempt may succeed: what `advice` says of each reason, as a moment."""

from datetime import datetime, time, timedelta, timezone

from payment_service.domain.advice import ADVICE
from payment_service.domain.reasons import Reason

_NAIROBI = timezone(timedelta(hours=3), "EAT")


def retry_makes_sense_at(reason: Reason | None, now: datetime) -> datetime:
    """When another attempt may succeed, after one that has just failed for this reason."""
    if reason is None:
        return now
    advice = ADVICE[reason]
    if advice.retry_tomorrow:
        tomorrow = now.astimezone(_NAIROBI).date() + timedelta(days=1)
        return datetime.combine(tomorrow, time(), _NAIROBI)
    return now + advice.retry_after
