"""Noticing what hits everybody: callbacks that stay away, answers that get lost, one refusal after the other.

A single payment finds its way out by its own timers. That all of them need it is seen only in the sum, and is a
person's to mend. Every process looks for itself; each alarm is raised once, and ends by itself when the sums are right
again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import ANSWERS_MISSING, CALLBACKS_MISSING, SAME_REFUSAL, SAME_UNLISTED_CODE
from payment_service.daraja.push import may_be_our_setup
from payment_service.daraja.result_codes import meaning_of
from payment_service.domain.facts import Verdict
from payment_service.store.provider_health import count_pushes, latest_push_answers, latest_result_codes
from runtime.alarms import LastingAlarm

LOOK_SECONDS = 20.0

WINDOW = timedelta(minutes=20)
CALLBACK_WITHIN = timedelta(minutes=3)
"""From a push until its callback should have come: a prompt lives for about one minute, and callbacks may queue."""

PUSHES_MIN = 10
"""Fewer pushes in the window say nothing about all of them."""
CALLED_BACK_MIN = 0.25
"""The least share of accepted prompts with a callback. Nearly all have one on a good day, whatever the payer did."""
UNANSWERED_MAX = 0.5
IN_A_ROW = 10
"""Equal answers, one after the other. Payers do not fail so alike."""

OF_AN_OUTAGE = frozenset({None, 502, 503, 504})
"""Statuses of pushes that nobody answered, or only a gateway that did not reach the server behind it."""


@dataclass(frozen=True, slots=True)
class ProviderWatch:
    """What looking takes, and the alarms that it raises and ends."""

    engine: AsyncEngine
    clock: Callable[[], datetime]
    callbacks_missing: LastingAlarm = field(default_factory=lambda: LastingAlarm(CALLBACKS_MISSING))
    answers_missing: LastingAlarm = field(default_factory=lambda: LastingAlarm(ANSWERS_MISSING))
    same_refusal: LastingAlarm = field(default_factory=lambda: LastingAlarm(SAME_REFUSAL))
    same_unlisted_code: LastingAlarm = field(default_factory=lambda: LastingAlarm(SAME_UNLISTED_CODE))


async def watch_provider(watch: ProviderWatch) -> None:
    """Look at the last minutes once, and raise or end each alarm."""
    now = watch.clock()
    since = now - WINDOW
    async with watch.engine.connect() as conn:
        pushes = await count_pushes(conn, since, now - CALLBACK_WITHIN)
        answers = await latest_push_answers(conn, since, IN_A_ROW)
        codes = await latest_result_codes(conn, since, IN_A_ROW)
    watch.callbacks_missing.set(
        pushes.accepted >= PUSHES_MIN and pushes.called_back < CALLED_BACK_MIN * pushes.accepted,
        accepted=pushes.accepted,
        called_back=pushes.called_back,
    )
    watch.answers_missing.set(
        pushes.sent >= PUSHES_MIN and pushes.unanswered > UNANSWERED_MAX * pushes.sent,
        sent=pushes.sent,
        unanswered=pushes.unanswered,
    )
    alike = len(answers) == IN_A_ROW and len(set(answers)) == 1
    refused = alike and answers[0].http_status not in OF_AN_OUTAGE and may_be_our_setup(answers[0].name)
    watch.same_refusal.set(refused, answer=answers[0].name if answers else None)
    alike = len(codes) == IN_A_ROW and len(set(codes)) == 1
    watch.same_unlisted_code.set(
        alike and meaning_of(codes[0]).verdict is Verdict.UNKNOWN, code=codes[0] if codes else None
    )
