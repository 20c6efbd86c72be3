"""Issuing receipts and amending them, by itself.

A payment is due from the transaction that changed it. What its receipt says then is decided under the payment's lock,
so a step that is run twice, or by two processes at once, writes one revision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.tell_each import tell_each
from payment_service.domain.facts import ReceiptDue
from payment_service.store.issued_receipts import claim_due_receipts

LEASE = timedelta(seconds=10)
"""How long a receipt is left to the process that took it up. Writing it takes milliseconds."""
BATCH = 200
"""Receipts of one step; more are written by the next steps."""


@dataclass(frozen=True, slots=True)
class IssuingTools:
    """What issuing takes."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    clock: Callable[[], datetime]


async def issue_receipts(tools: IssuingTools) -> int:
    """Write the receipts that are due; how many there were. Raises what went wrong, after all others."""
    async with tools.engine.begin() as conn:
        now = tools.clock()
        due = await claim_due_receipts(conn, now, now + LEASE, BATCH)
    if failures := await tell_each(tools.facts, [Submission(ReceiptDue(), payment_id) for payment_id in due]):
        raise ExceptionGroup("receipts that could not be issued", failures)
    return len(due)
