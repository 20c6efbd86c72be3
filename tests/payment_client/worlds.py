"""A payment service to which a test can say what happens: the real one, or the fake that teams test with."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

from payment_client.testing import FakePayments, Outcome

from payment_service.application.recording.record_facts import Submission
from payment_service.domain.facts import DeadlinePassed, Fact, ResultReported, Source, Verdict
from payment_service.domain.reasons import Reason
from tests.rpc.processes import Process, paid, running_process, sent


class World(Protocol):
    """What a test may say. `address` is where a client finds the service."""

    @property
    def address(self) -> str:
        """HOST:PORT."""

    async def send(self, payment_id: str) -> None:
        """The prompt reaches the phone."""

    async def pay(self, payment_id: str) -> None:
        """The passenger pays."""

    async def has_no_money(self, payment_id: str) -> None:
        """The passenger has not enough money."""

    async def decline(self, payment_id: str) -> None:
        """The passenger declines."""

    async def expire(self, payment_id: str) -> None:
        """Two minutes pass without an answer."""

    async def advance(self, seconds: float) -> None:
        """Time passes in which nothing happens."""


class FakeWorld:
    """The fake, whose prompts wait for the test's word."""

    def __init__(self, fake: FakePayments) -> None:
        self.fake = fake

    @property
    def address(self) -> str:
        return self.fake.address

    async def send(self, payment_id: str) -> None:
        self.fake.send(payment_id)

    async def pay(self, payment_id: str) -> None:
        self.fake.happens(payment_id, Outcome.PAYS)

    async def has_no_money(self, payment_id: str) -> None:
        self.fake.happens(payment_id, Outcome.HAS_NO_MONEY)

    async def decline(self, payment_id: str) -> None:
        self.fake.happens(payment_id, Outcome.DECLINES)

    async def expire(self, payment_id: str) -> None:
        self.fake.advance(timedelta(seconds=120))

    async def advance(self, seconds: float) -> None:
        self.fake.advance(timedelta(seconds=seconds))


class RealWorld:
    """The real service on a real database, told by facts."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._numbers = count(1)

    @property
    def address(self) -> str:
        return str(self.process.server.address)

    async def send(self, payment_id: str) -> None:
        await self._tell(payment_id, *sent(next(self._numbers)))

    async def pay(self, payment_id: str) -> None:
        await self._tell(payment_id, paid(f"SJ{next(self._numbers):08}"))

    async def has_no_money(self, payment_id: str) -> None:
        await self._tell(payment_id, _unpaid(Verdict.FAILED, "1", Reason.INSUFFICIENT_FUNDS))

    async def decline(self, payment_id: str) -> None:
        await self._tell(payment_id, _unpaid(Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER))

    async def expire(self, payment_id: str) -> None:
        self.process.writers.clock.move(120)
        await self._tell(payment_id, DeadlinePassed())

    async def advance(self, seconds: float) -> None:
        self.process.writers.clock.move(seconds)

    async def _tell(self, payment_id: str, *facts: Fact) -> None:
        for fact in facts:
            await self.process.writers.facts.submit(Submission(fact, UUID(payment_id)))
        await self.process.caught_up()


def _unpaid(verdict: Verdict, code: str, reason: Reason) -> ResultReported:
    return ResultReported(f"callback:{uuid4()}", Source.CALLBACK, verdict, code, reason=reason)


@contextlib.asynccontextmanager
async def fake_world() -> AsyncIterator[World]:
    with FakePayments() as fake:
        fake.script(Outcome.IS_NOT_SENT)
        yield FakeWorld(fake)


@contextlib.asynccontextmanager
async def real_world(database_url: str, folder: Path) -> AsyncIterator[World]:
    async with running_process(database_url, folder, heartbeat_seconds=5.0) as process:
        yield RealWorld(process)
