"""Noticing that a rule against unwanted prompts refuses unusually many: an abuse, or a limit that passengers meet.

Every process looks for itself; each rule has an alarm of its own, which ends by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payment_service.alarms import RULE_REFUSES_MANY
from payment_service.domain.risk import Rule
from payment_service.store.risk_decisions import RuleCount, count_objections
from runtime.alarms import LastingAlarm

LOOK_SECONDS = 60.0

LATELY = timedelta(minutes=10)
COMPARED_WITH = timedelta(days=1)
REFUSED_MIN = 20
"""Requests refused by one rule; fewer are what a few passengers with a dead phone cause."""
TIMES_AS_USUAL = 3


@dataclass(frozen=True, slots=True)
class RiskWatch:
    """What looking takes, and an alarm for each rule."""

    engine: AsyncEngine
    clock: Callable[[], datetime]
    alarms: dict[Rule, LastingAlarm] = field(
        default_factory=lambda: {rule: LastingAlarm(RULE_REFUSES_MANY) for rule in Rule}
    )


async def watch_risk(watch: RiskWatch) -> None:
    """Look once, and raise or end each alarm."""
    now = watch.clock()
    async with watch.engine.connect() as conn:
        counts = await count_objections(conn, now - COMPARED_WITH, now - LATELY)
    for rule, alarm in watch.alarms.items():
        count = counts.get(rule, RuleCount(rule, 0, 0, 0))
        usual = (count.refused - count.lately) * (LATELY / (COMPARED_WITH - LATELY))
        many = count.lately >= REFUSED_MIN and count.lately > TIMES_AS_USUAL * usual
        alarm.set(many, rule=rule.value, refused=count.lately, usual=round(usual, 1))
