"""Noticing that refunds wait for long, whatever the cause, and that the password of their sender is about to expire.

Sending them complains of what it meets. That nothing at all is sent (no turn in the rate, no access token, an initiator
that M-Pesa refuses or that nobody has set up) is seen only from beside it. Every process looks for itself.

A wait counts from the request, not from the first try: that is how long the passenger has waited.
"""

from collections.abc import Callable, Collection, Sequence
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
class WatchedInitiator:
    """An operator of M-Pesa that refunds are sent as, and the alarms about its password."""

    key: str
    """Names the initiator as its refunds do."""
    shortcodes: Sequence[str]
    password_set_on: date | None = None
    """A day in Nairobi; None where nobody has said it."""
    expires: LastingAlarm = field(default_factory=lambda: LastingAlarm(INITIATOR_PASSWORD_EXPIRES))
    expired: LastingAlarm = field(default_factory=lambda: LastingAlarm(INITIATOR_PASSWORD_EXPIRED))


@dataclass(frozen=True, slots=True)
class RefundWatch:
    """What looking takes, and the alarm that it raises and ends."""

    engine: AsyncEngine
    clock: Callable[[], datetime]
    initiators: Sequence[WatchedInitiator]
    waits: LastingAlarm = field(default_factory=lambda: LastingAlarm(REFUNDS_WAIT))


async def watch_refunds(watch: RefundWatch) -> None:
    """Look once at the refunds that wait and at the age of the password, and raise or end each alarm."""
    now = watch.clock()
    async with watch.engine.connect() as conn:
        waiting = await longest_waiting(conn, now - HELD_UP_AFTER)
        keys = {one.key for one in watch.initiators}
        refused = {key for key in keys if await initiator_refused(conn, key, now, REFUSED_PAUSE)}
    if waiting is None:
        watch.waits.set(False)
    else:
        watch.waits.set(
            True,
            refund_id=str(waiting.refund_id),
            payment_id=str(waiting.payment_id),
            why=_why(watch, waiting, refused),
            code=waiting.result_code,
            waits_since=waiting.requested_at.isoformat(),
            fails_at=(waiting.requested_at + SEND_WITHIN).isoformat(),
        )
    for one in watch.initiators:
        if one.password_set_on is not None:
            _tell_of_password(one, one.password_set_on + PASSWORD_LIVES, now, refused=one.key in refused)


def _why(watch: RefundWatch, waiting: Refund, refused: Collection[str]) -> str:
    sender = next((one.key for one in watch.initiators if waiting.shortcode in one.shortcodes), None)
    if sender is None:
        return "NO_INITIATOR"
    if sender in refused:
        return "INITIATOR_REFUSED"
    if waiting.result_code == MONEY_NOT_BACKED:
        return MONEY_NOT_BACKED
    return "REACHED_NOBODY" if waiting.not_sent_count else "NO_TURN"


def _tell_of_password(one: WatchedInitiator, expires_on: date, now: datetime, *, refused: bool) -> None:
    today = (now + NAIROBI_AHEAD).date()
    fields = {
        "shortcodes": list(one.shortcodes),
        "expires_on": expires_on.isoformat(),
        "days_left": (expires_on - today).days,
    }
    one.expires.set(today >= expires_on - WARN_BEFORE, **fields)
    one.expired.set(refused and today >= expires_on, **fields)
