"""What has gone back without a person within the last hour, by all processes together.

Only a group of facts that may send money back by itself reads it, and it holds the count still until it commits: two
such groups go one after the other, so that together they send back no more than one would.
"""

from collections import Counter
from datetime import datetime
from typing import Final

from payment_service.application.recording.known_rows import KnownRows
from payment_service.domain.automatic_refunds import HOUR, AutomaticRefunds, SentBack, may_go_back
from payment_service.store import refunds
from payment_service.store.pipeline import Connection, run_together

NOTHING_SENT: Final = SentBack()


async def read_sent_back(conn: Connection, known: KnownRows, now: datetime, allowed: AutomaticRefunds) -> SentBack:
    """What counts towards the bound of the hour, where news about these payments may send money back."""
    payments = [row.payment for row in known.by_id.values()]
    attempts = Counter((one.caller, one.booking_id) for one in payments)
    if not any(may_go_back(one, attempts[one.caller, one.booking_id], now, allowed) for one in payments):
        return NOTHING_SENT
    # After the locks of the payments, and before all that is written: nobody waits for the two in another order.
    _, counted = await run_together(conn, [refunds.lock_by_itself(), refunds.sent_by_itself(now - HOUR)])
    return SentBack(*counted.rows[0])
