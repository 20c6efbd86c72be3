"""A rule that refuses unusually many calls for a person, once, and until it is over."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from payment_service.application.collecting.watch_risk import LATELY, REFUSED_MIN, RiskWatch, watch_risk
from payment_service.domain.errors import RiskRefused
from payment_service.domain.risk import Limit, Mode, Rule, RulePolicy
from payment_service.store.engines import read_engine
from tests.databases import Database
from tests.writers import Writers, a_request, running_writers

ONE_AN_HOUR = (Limit(1, timedelta(hours=1)),)


async def refuse(writers: Writers, calls: int) -> None:
    asked = [writers.create("development", a_request(), None, None) for _ in range(calls)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, RiskRefused) for answer in answers), answers


@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.SHADOW])
async def test_a_rule_that_refuses_many_raises_an_alarm_that_ends_by_itself(
    database: Database, tmp_path: Path, mode: Mode
) -> None:
    engine = read_engine(database.application_url)
    rules = {
        Rule.PHONE_UNPAID: RulePolicy(Mode.ENFORCE, ONE_AN_HOUR),
        Rule.PHONE_BOOKINGS: RulePolicy(mode, ONE_AN_HOUR),
    }
    async with running_writers(database.application_url, tmp_path, risk=rules) as writers:
        watch = RiskWatch(engine, writers.clock)
        await writers.create("development", a_request(), None, None)
        await refuse(writers, REFUSED_MIN - 1)
        await watch_risk(watch)
        assert not any(alarm.raised for alarm in watch.alarms.values()), "a few are no news"
        with capture_logs() as lines:
            await refuse(writers, 1)
            for _ in range(2):
                await watch_risk(watch)
        raised = {line["rule"]: line["refused"] for line in lines if line.get("alarm") == "rule_refuses_many"}
        expected = {"PHONE_UNPAID"} if mode is Mode.SHADOW else {"PHONE_UNPAID", "PHONE_BOOKINGS"}
        assert raised == dict.fromkeys(expected, REFUSED_MIN), "a rule in shadow refuses nobody"
        writers.clock.move(LATELY.total_seconds() + 1)
        await watch_risk(watch)
        assert not any(alarm.raised for alarm in watch.alarms.values())
        await refuse(writers, REFUSED_MIN)
        await watch_risk(watch)
        assert watch.alarms[Rule.PHONE_UNPAID].raised, "twenty in ten minutes are many where twenty in a day were usual"
    await engine.dispose()
