"""Two instances of the access token on one database, before one simulator, at a time of the test's choosing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from daraja_simulator.settings import DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET
from daraja_simulator.world import World
from development.slowness import slowness
from payment_service.application.calling.access_token import AccessToken, TokenTimes
from payment_service.daraja.client import Exchange, open_daraja
from payment_service.daraja.token import DarajaApp
from payment_service.daraja.transport import Timeouts
from payment_service.security.sealing import Sealer
from payment_service.store.engines import read_engine
from tests.databases import Database

APP = DarajaApp("sandbox:app", DEVELOPMENT_CONSUMER_KEY, DEVELOPMENT_CONSUMER_SECRET, ("174379",))
TIMES = TokenTimes(wait=timedelta(seconds=10 * slowness()), poll=timedelta(milliseconds=20))


@dataclass(slots=True)
class Clock:
    """Time that passes when the test says so."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True)
class Stage:
    """Two instances, and what they share."""

    world: World
    clock: Clock
    first: AccessToken
    second: AccessToken
    kept: list[Exchange]

    @property
    def tokens_issued(self) -> int:
        return self.world.tokens.issued


@asynccontextmanager
async def instance(
    url: str, database: Database, sealer: Sealer, clock: Clock, kept: list[Exchange]
) -> AsyncIterator[AccessToken]:
    async def keep(exchange: Exchange) -> None:
        kept.append(exchange)

    timeouts = Timeouts(connect_seconds=2.0 * slowness(), total_seconds=8.0 * slowness())
    engine = read_engine(database.application_url)
    async with open_daraja(
        url,
        clock,
        push_timeouts=timeouts,
        token_timeouts=timeouts,
    ) as daraja:
        yield AccessToken(APP, engine, daraja, sealer, clock, keep, TIMES)
    await engine.dispose()
