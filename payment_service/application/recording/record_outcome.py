"""Recording what cannot be had again: a claim that is about to be used, and what became of a request on the wire."""

import contextlib
from datetime import datetime, timedelta

import stamina

from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.domain.errors import StoreUnavailable

RECORD_WAIT_SECONDS = 300.0
"""How long the outcome of a send is offered to a store that does not answer. After that the lease has long run out
and the send is uncertain, which is true: a callback or an operator settles it."""

RECORD_MARGIN_SECONDS = 2.0
"""Lease that must be left beyond the longest request, for recording its outcome."""


def send_before(lease_expires_at: datetime | None, longest_request_seconds: float) -> datetime | None:
    """From when on no first byte may leave under a claim: its lease would end before the outcome could be recorded."""
    longest = timedelta(seconds=longest_request_seconds + RECORD_MARGIN_SECONDS)
    return lease_expires_at and lease_expires_at - longest


async def record_claim(facts: GroupCommit[Submission, Recorded], claim: Submission) -> Recorded:
    """Record a claim to send; what is wrong with it is raised, a store that does not answer is waited for."""
    return await _record(facts, claim, StoreUnavailable)


async def record_outcome(facts: GroupCommit[Submission, Recorded], outcome: Submission) -> Recorded:
    """Record what became of a send, whatever stands in the way of it at first."""
    return await _record(facts, outcome, Exception)


async def _record(
    facts: GroupCommit[Submission, Recorded], submission: Submission, again_on: type[Exception]
) -> Recorded:
    with contextlib.suppress(again_on):
        return await facts.submit(submission, patient=True)
    async for attempt in stamina.retry_context(on=again_on, timeout=RECORD_WAIT_SECONDS, attempts=None, wait_max=5.0):
        with attempt:
            return await facts.submit(submission, patient=True)
    raise StoreUnavailable
