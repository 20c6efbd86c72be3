"""Ending doubts about money that has proven to be another payment's.

A doubt about a payment's own money ends in the transaction that records the proof. Where the money was
another payment's, nobody had locked the one in doubt then: it is told here, a moment later.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.tell_each import tell_each
from payment_service.domain.facts import ReceiptProven
from payment_service.store.evidence import doubts_proven

BATCH = 100
"""Doubts of one step; more are ended by the next steps."""


@dataclass(frozen=True, slots=True)
class DoubtTools:
    """What ending doubts takes."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]


async def end_doubts(tools: DoubtTools) -> int:
    """End the doubts about receipts that are recorded with proof by now; how many there were. Raises what fails."""
    async with tools.engine.connect() as conn:
        proven = await doubts_proven(conn, BATCH)
    told = [Submission(ReceiptProven(receipt), payment_id) for payment_id, receipt in proven]
    if failures := await tell_each(tools.facts, told):
        raise ExceptionGroup("doubts that could not be ended", failures)
    return len(proven)
