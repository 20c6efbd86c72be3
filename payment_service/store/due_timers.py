"""Which timers have run out, and the claim to act on them: SQL only; `domain.timers` says what follows.

The time of a timer is its own lease: whoever moves it forward acts on it, and if that process dies, the timer is due
again at the new time. So several processes share the work instead of repeating it, and a payment that somebody else has
locked holds up no other. Moving it changes no payment: no version, no event.
"""

from datetime import datetime

from sqlalchemy import Boolean, bindparam, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.payment import State
from payment_service.domain.timers import Due
from payment_service.store.tables import payments

_p = payments.c
_KNOWN_STATES = frozenset(State)
_ENDED_BY_SILENCE = ("PROMPTED", "UNCERTAIN", "FAILED", "CANCELLED", "EXPIRED")
"""States whose timers take silence for news: a deadline without a result, the end of a watch."""

TIMER_DUE = _p.due_at <= bindparam("now")

_LONGEST_OVERDUE = (
    select(_p.payment_id)
    .where(TIMER_DUE)
    .where(or_(not_(bindparam("silence_may_break", type_=Boolean())), _p.state.not_in(_ENDED_BY_SILENCE)))
    .order_by(_p.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, key_share=True)
)
_CLAIM = (
    update(payments)
    .where(_p.payment_id.in_(_LONGEST_OVERDUE))
    .values(due_at=bindparam("again_at"))
    .returning(_p.payment_id, _p.state, _p.claim_id, _p.created_at, _p.sent_at, _p.shortcode, _p.mpesa_receipt_number)
)


async def claim_due_timers(
    conn: AsyncConnection, now: datetime, again_at: datetime, most: int, *, silence_may_break: bool = False
) -> list[Due]:
    """Claim the timers that have run out, the longest overdue first; they are due again at `again_at`.

    While `silence_may_break`, those that take silence for news are left alone. A state that this release does not know
    is left to the processes of the newer one that wrote it.
    """
    values = {"now": now, "again_at": again_at, "most": most, "silence_may_break": silence_may_break}
    rows = await conn.execute(_CLAIM, values)
    return [
        Due(
            payment_id=row.payment_id,
            state=State(row.state),
            claim_id=row.claim_id,
            created_at=row.created_at,
            sent_at=row.sent_at,
            shortcode=row.shortcode,
            receipt_known=row.mpesa_receipt_number is not None,
        )
        for row in rows
        if row.state in _KNOWN_STATES
    ]
