"""Telling many facts in one step: each stands for itself, and each failure is said.

One payment whose row cannot be read must neither keep the others' facts from being recorded nor hide that others
failed as well.
"""

import asyncio
from collections.abc import Sequence

from payment_service.alarms import PROGRAM_FAULT
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.domain.errors import Overloaded, StoreUnavailable
from runtime.alarms import raise_alarm


async def tell_each(facts: GroupCommit[Submission, Recorded], submissions: Sequence[Submission]) -> list[Exception]:
    """Tell all facts side by side; what went wrong. The caller fails with it, once it has done the rest of its step.

    That the store does not answer is no failure of one fact: whoever writes the group says it.
    """
    outcomes = await asyncio.gather(*(facts.submit(one) for one in submissions), return_exceptions=True)
    failures: list[Exception] = []
    for submission, outcome in zip(submissions, outcomes, strict=True):
        if isinstance(outcome, Exception):
            failures.append(outcome)
            if not isinstance(outcome, StoreUnavailable | Overloaded):
                raise_alarm(
                    PROGRAM_FAULT,
                    what="fact could not be recorded",
                    payment_id=str(submission.payment_id),
                    fact=type(submission.fact).__name__,
                    cause=type(outcome).__name__,
                )
        elif isinstance(outcome, BaseException):
            raise outcome
    return failures
