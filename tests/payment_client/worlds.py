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
from payment_service.domain.refund_facts import (
    RefundAccepted,
    RefundClaimed,
    RefundFact,
    RefundReported,
    RefundVerdict,
)
from tests.application.receipting.offices import ISSUER, issue
from tests.rpc.processes import Process, listed, paid, running_process, sent


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

    async def send_back(self, payment_id: str, refund_id: str, *, whole: bool) -> None:
        """The money of a refund goes back."""

    async def issue_receipts(self) -> None:
        """The receipts that are due are issued, and amended."""


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

    async def send_back(self, payment_id: str, refund_id: str, *, whole: bool) -> None:
        assert self.fake.refund_done(payment_id).refund.refund_id == refund_id

    async def issue_receipts(self) -> None:
        self.fake.issue_receipts()


class RealWorld:
    """The real service on a real database, told by facts."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._numbers = count(1)
        self._receipts: dict[str, str] = {}

    @property
    def address(self) -> str:
        return str(self.process.server.address)

    async def send(self, payment_id: str) -> None:
        await self._tell(payment_id, *sent(next(self._numbers)))

    async def pay(self, payment_id: str) -> None:
        receipt = self._receipts[payment_id] = f"SJ{next(self._numbers):08}"
        await self._tell(payment_id, paid(receipt), listed(receipt))

    async def has_no_money(self, payment_id: str) -> None:
        await self._tell(payment_id, _unpaid(Verdict.FAILED, "1", Reason.INSUFFICIENT_FUNDS))

    async def decline(self, payment_id: str) -> None:
        await self._tell(payment_id, _unpaid(Verdict.CANCELLED, "1032", Reason.DECLINED_BY_CUSTOMER))

    async def expire(self, payment_id: str) -> None:
        self.process.writers.clock.move(120)
        await self._tell(payment_id, DeadlinePassed())

    async def advance(self, seconds: float) -> None:
        self.process.writers.clock.move(seconds)

    async def send_back(self, payment_id: str, refund_id: str, *, whole: bool) -> None:
        claim = uuid4()
        named = f"originator-{claim}" if whole else refund_id
        facts: tuple[RefundFact, ...] = (
            RefundClaimed(claim),
            RefundAccepted(claim, named, f"AG_{claim}"),
            RefundReported(f"callback:{claim}", RefundVerdict.DONE, "0", self._receipts[payment_id]),
        )
        for fact in facts:
            await self.process.writers.facts.submit(Submission(fact, UUID(payment_id), refund_id=UUID(refund_id)))
        await self.process.caught_up()

    async def issue_receipts(self) -> None:
        await issue(self.process)
        await self.process.caught_up()

    async def _tell(self, payment_id: str, *facts: Fact) -> None:
        for fact in facts:
            await self.process.writers.facts.submit(Submission(fact, UUID(payment_id)))
        await self.process.caught_up()


def _unpaid(verdict: Verdict, code: str, reason: Reason) -> ResultReported:
    return ResultReported(f"callback:{uuid4()}", Source.CALLBACK, verdict, code, reason=reason)


@contextlib.asynccontextmanager
async def fake_world(*, issues_receipts: bool = False) -> AsyncIterator[World]:
    with FakePayments(issues_receipts=issues_receipts) as fake:
        fake.script(Outcome.IS_NOT_SENT)
        yield FakeWorld(fake)


@contextlib.asynccontextmanager
async def real_world(database_url: str, folder: Path, *, issues_receipts: bool = False) -> AsyncIterator[World]:
    issuer = ISSUER if issues_receipts else None
    async with running_process(database_url, folder, heartbeat_seconds=5.0, issuer=issuer) as process:
        yield RealWorld(process)
