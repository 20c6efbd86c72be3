"""Two Daraja apps in one process: the payments of one go on while the credentials of the other are refused."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daraja_simulator.settings import App
from payment_service.application.calling.access_token import AccessToken, get_token
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.calling.request_budget import RequestBudget
from payment_service.application.settling.query_pushes import QueryTools, query_pushes
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.daraja.token import DarajaApp
from payment_service.domain.payment import Payment
from tests.application.settling.asking import PAYBILL, Asker, running_asker
from tests.daraja_simulator.simulators import in_process
from tests.databases import Database

FAR_OFF = 10.0**9
"""Seconds by which the clocks may differ: the test's runs ahead."""
COAST = Shortcode("600998", ShortcodeKind.PAYBILL, "development-passkey")
COAST_APP = App("coast-key", "coast-secret", (COAST.number,))


@dataclass(frozen=True)
class Pair:
    """An asker whose two shortcodes are called as an app each."""

    asker: Asker

    def tools(self, coast_secret: str = COAST_APP.consumer_secret) -> QueryTools:
        tools = self.asker.tools
        first = tools.safaricom.tokens[PAYBILL.number]
        app = DarajaApp("coast", COAST_APP.consumer_key, coast_secret, (COAST.number,), set_by="the entry of 600998")
        keep = partial(keep_exchange, tools.engine, tools.safaricom.sealer)
        tokens = AccessToken(app, tools.engine, first.daraja, tools.safaricom.sealer, first.clock, keep)
        safaricom = replace(
            tools.safaricom,
            tokens={PAYBILL.number: first, COAST.number: tokens},
            shortcodes={PAYBILL.number: PAYBILL, COAST.number: COAST},
        )
        return replace(tools, safaricom=safaricom)

    async def due(self) -> Sequence[Payment]:
        """A payment to each shortcode, about which it is time to ask."""
        payments = [await self.asker.prompted(), await self.asker.prompted(shortcode=COAST.number)]
        self.asker.clock.move(30)
        return payments


@pytest.fixture
async def pair(database: Database, tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        in_process(more_apps=(COAST_APP,), queries_per_minute=0, clock_tolerance_seconds=FAR_OFF) as (_, url),
        running_asker(database, tmp_path, url) as asker,
    ):
        yield Pair(asker)


async def test_an_app_whose_credentials_are_refused_holds_up_its_own_shortcodes_only(pair: Pair) -> None:
    first, coast = await pair.due()
    with capture_logs() as lines:
        assert (await query_pushes(pair.tools("wrong"))).asked == 1
    assert (len(await pair.asker.answers(first)), len(await pair.asker.answers(coast))) == (1, 0)
    (alarm,) = [line for line in lines if line.get("alarm") == "credentials_refused"]
    assert (alarm["shortcodes"], alarm["set_by"]) == (("600998",), "the entry of 600998")
    assert "coast-key" not in str(lines)


async def test_each_shortcode_is_asked_about_as_its_own_app(pair: Pair) -> None:
    first, coast = await pair.due()
    tools = pair.tools()
    assert (await query_pushes(tools)).asked == 2
    for payment in (first, coast):
        (answer,) = await pair.asker.answers(payment)
        assert not answer.startswith("TokenRefused"), "the token of the other app would be refused"
    tokens = tools.safaricom.tokens
    assert (await get_token(tokens[PAYBILL.number])).value != (await get_token(tokens[COAST.number])).value


async def test_queries_are_counted_for_the_app_and_not_for_the_shortcode(pair: Pair) -> None:
    await pair.due()
    tools = pair.tools()
    tools = replace(tools, budget=RequestBudget("query", 0.5, tools.engine, pair.asker.clock))
    assert (await query_pushes(tools)).asked == 2, "a turn of each app's own"
    await pair.due()
    pair.asker.clock.move(60)
    shared = tools.safaricom.tokens[COAST.number]
    one_app = replace(tools.safaricom, tokens={PAYBILL.number: shared, COAST.number: shared})
    done = await query_pushes(replace(tools, safaricom=one_app))
    assert (done.asked, done.skipped) == (1, done.due - 1), "one turn for both shortcodes"
