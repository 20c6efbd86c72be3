"""Noticing that refunds wait for long, whatever the cause, and that the password of their sender is about to expire.

Sending them complains of what it meets. That nothing at all is sent (no turn in the rate, no access token, an initiator
that M-Pesa refuses or that nobody has set up) is seen only from beside it. Every process looks for itself.

A wait counts from the request, not from the first try: that is how long the passenger has waited.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import INITIATOR_PASSWORD_EXPIRED, INITIATOR_PASSWORD_EXPIRES, REFUNDS_WAIT
from payment_service.application.refunding.send_refunds import HELD_UP_AFTER
from payment_service.application.settling.ask_status import REFUSED_PAUSE
from payment_service.domain.refund import MONEY_NOT_BACKED, Refund
from payment_service.domain.refunds import SEND_WITHIN
from payment_service.store.refunds import longest_waiting
from payment_service.store.status_questions import initiator_refused
from runtime.alarms import LastingAlarm

LOOK_SECONDS = 20.0

PASSWORD_LIVES = timedelta(days=90)
"""Of an operator of M-Pesa that calls its API."""
WARN_BEFORE = timedelta(days=14)
"""Somebody has to come to the M-Pesa portal, and every process has to be started with the new one."""
NAIROBI_AHEAD = timedelta(hours=3)
"""Of UTC, all year: the day of the M-Pesa portal begins so much earlier."""


@dataclass(frozen=True, slots=True)
class RefundWatch:
    """What looking takes, and the alarms that it raises and ends."""

    engine: AsyncEngine
    clock: Callable[[], datetime]
    initiator: str | None
    """Names the initiator as its refunds do; None where none is set up."""
    password_set_on: date | None = None
    """A day in Nairobi; None where nobody has said it."""
    waits: LastingAlarm = field(default_factory=lambda: LastingAlarm(REFUNDS_WAIT))
    expires: LastingAlarm = field(default_factory=lambda: LastingAlarm(INITIATOR_PASSWORD_EXPIRES))
    expired: LastingAlarm = field(default_factory=lambda: LastingAlarm(INITIATOR_PASSWORD_EXPIRED))


async def watch_refunds(watch: RefundWatch) -> None:
    """Look once at the refunds that wait and at the age of the password, and raise or end each alarm."""
    now, initiator = watch.clock(), watch.initiator
    async with watch.engine.connect() as conn:
        waiting = await longest_waiting(conn, now - HELD_UP_AFTER)
        refused = initiator is not None and await initiator_refused(conn, initiator, now, REFUSED_PAUSE)
    if waiting is None:
        watch.waits.set(False)
    else:
        watch.waits.set(
            True,
            refund_id=str(waiting.refund_id),
            payment_id=str(waiting.payment_id),
            why=_why(waiting, no_initiator=initiator is None, refused=refused),
            code=waiting.result_code,
            waits_since=waiting.requested_at.isoformat(),
            fails_at=(waiting.requested_at + SEND_WITHIN).isoformat(),
        )
    if initiator is not None and watch.password_set_on is not None:
        _tell_of_password(watch, watch.password_set_on + PASSWORD_LIVES, now, refused=refused)


def _why(waiting: Refund, *, no_initiator: bool, refused: bool) -> str:
    if no_initiator:
        return "NO_INITIATOR"
    if refused:
        return "INITIATOR_REFUSED"
    if waiting.result_code == MONEY_NOT_BACKED:
        return MONEY_NOT_BACKED
    return "REACHED_NOBODY" if waiting.not_sent_count else "NO_TURN"


def _tell_of_password(watch: RefundWatch, expires_on: date, now: datetime, *, refused: bool) -> None:
    today = (now + NAIROBI_AHEAD).date()
    fields = {"expires_on": expires_on.isoformat(), "days_left": (expires_on - today).days}
    watch.expires.set(today >= expires_on - WARN_BEFORE, **fields)
    watch.expired.set(refused and today >= expires_on, **fields)
