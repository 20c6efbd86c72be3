"""The first token of a process: had at once where Daraja answers; credentials that are wrong, and a Daraja away."""

import asyncio

import pytest
from structlog.testing import capture_logs

from payment_service.application.calling.access_token import CredentialsRefused
from payment_service.application.calling.first_token import FirstToken, FirstTokens, asking_until_had
from tests.application.calling.stage import TIMES, Stage
from tests.patience import PATIENCE_SECONDS


async def test_the_token_of_another_process_counts(stage: Stage) -> None:
    first, second = FirstToken(stage.first), FirstToken(stage.second)
    both = [FirstTokens([first]), FirstTokens([second])]
    assert [one.shortcodes_waiting for one in both] == [["174379"], ["174379"]]
    assert None not in [one.problem for one in both]
    await first.ask()
    await second.ask()
    assert [one.shortcodes_waiting for one in both] == [[], []]
    assert [one.problem for one in both] == [None, None]
    assert stage.tokens_issued == 1


async def test_refused_credentials_are_told_apart_from_a_daraja_that_is_away(stage: Stage) -> None:
    first = FirstToken(stage.first)
    stage.world.tokens.request_faults += ["invalid_authentication", "internal_error"]
    with capture_logs() as lines:
        with pytest.raises(CredentialsRefused, match=r"400\.008\.01"):
            await first.ask()
        stage.clock.now += TIMES.pause_after_failure
        await first.ask()
    assert FirstTokens([first]).problem is not None
    assert [line["alarm"] for line in lines if line["event"] == "alarm"] == ["credentials_refused", "no_first_token"]


async def test_a_token_is_asked_for_again_until_there_is_one_and_that_is_told_once(stage: Stage) -> None:
    first = FirstToken(stage.first)
    firsts = FirstTokens([first])
    stage.world.tokens.request_faults += ["internal_error", "internal_error", "invalid_authentication"]
    with capture_logs() as lines:
        await first.ask()
        async with asking_until_had(firsts), asyncio.timeout(PATIENCE_SECONDS):
            while firsts.problem is not None:
                stage.clock.now += TIMES.pause_after_failure
                await firsts.one_more_or_after(0.05)
    told = [(line["event"], line["alarm"]) for line in lines if line.get("alarm") == "no_first_token"]
    assert told == [("alarm", "no_first_token"), ("alarm is over", "no_first_token")]
    assert stage.tokens_issued == 4
