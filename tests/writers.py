"""The grouped writers as a process has them, for tests that need no server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from payment_service.application.collecting import cancel_payment, create_payment
from payment_service.application.collecting.create_payment import Created, Decision, NewPayment
from payment_service.application.recording import record_facts
from payment_service.application.recording.database_clock import DatabaseClock
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.recording_tools import RecordingTools
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.domain.approvals import APPROVAL_ABOVE
from payment_service.domain.automatic_refunds import AutomaticRefunds
from payment_service.domain.payment import CancelRequest, PaymentRequest, PhoneWarning, RetryRequest, Times
from payment_service.domain.receipt import Issuer
from payment_service.domain.risk import Policy
from payment_service.security.keys import Keys, create_keys, load_keys
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_writer


class Clock(DatabaseClock):
    """A clock that a test moves by hand, in the database's place; it starts at the real time."""

    def __init__(self, now: datetime | None = None) -> None:
        super().__init__(lambda: self.now)
        self.now = now or datetime.now(UTC)

    def learn(self, asked_at: datetime, reading: datetime) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class WrongClock(Clock):
    """The clock of a process whose own time is off by so much; the database's decides."""

    def __init__(self, seconds_off: float) -> None:
        DatabaseClock.__init__(self, lambda: datetime.now(UTC) + timedelta(seconds=seconds_off))

    learn = DatabaseClock.learn


@dataclass(frozen=True)
class Writers:
    """Both writers of one process on one database."""

    creates: GroupCommit[NewPayment, Decision]
    facts: GroupCommit[Submission, Recorded]
    sealer: Sealer
    keys: Keys
    clock: Clock
    times: Times

    async def create(
        self,
        caller: str,
        request: PaymentRequest,
        warning: PhoneWarning | None,
        trace_parent: str | None,
        retry: RetryRequest | None = None,
        *,
        claim_id: UUID | None = None,
    ) -> Created:
        """A payment, made as a process makes it."""
        return await create_payment.create_payment(
            self.creates, caller, request, warning, trace_parent, retry, claim_id=claim_id
        )


def caught_up(clock: Clock, times: Times) -> CatchingUp:
    """Nothing was kept anywhere: a clock that is moved by hand would look like an outage at every step."""
    return CatchingUp(clock, replace(times, expire_after=timedelta(0)))


@contextlib.asynccontextmanager
async def running_writers(
    database_url: str,
    keys_folder: Path,
    *,
    clock: Clock | None = None,
    times: Times | None = None,
    committed: Callable[[], None] = lambda: None,
    shortcode: str = "174379",
    automatic_refunds: AutomaticRefunds | None = None,
    approval_above: int = APPROVAL_ABOVE,
    risk: Policy | None = None,
    back_before_confirm_above: int | None = None,
    issuer: Issuer | None = None,
    found_by_hand_within: Mapping[str, timedelta] | None = None,
) -> AsyncIterator[Writers]:
    """Writers that share nothing with others but the database and the keys."""
    create_keys(keys_folder / "keys.json")
    keys = load_keys(keys_folder / "keys.json")
    sealer, clock, times = Sealer(keys), clock or Clock(), times or Times()
    creating = create_payment.CreatingTools(
        sealer,
        keys.chain,
        keys.fingerprint,
        shortcode,
        clock,
        times,
        risk or {},
        back_before_confirm_above,
        found_by_hand_within or {},
    )
    recording = RecordingTools(
        sealer,
        keys.chain,
        keys.fingerprint,
        clock,
        times,
        automatic_refunds=automatic_refunds or AutomaticRefunds(),
        approval_above=approval_above,
        issuer=issuer,
    )
    connect = partial(connect_writer, database_url, autocommit=True)
    creates: GroupCommit[NewPayment, Decision] = GroupCommit(
        "create", connect, partial(create_payment.create_payments, creating), committed
    )
    facts: GroupCommit[Submission, Recorded] = GroupCommit(
        "facts", connect, partial(record_facts.record_facts, recording), committed
    )
    running = [asyncio.create_task(creates.run()), asyncio.create_task(facts.run())]
    try:
        yield Writers(creates, facts, sealer, keys, clock, times)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def withdraw(writers: Writers, caller: str, asked: CancelRequest) -> bool:
    """Cancel as a process would; whether an earlier call had done it. Raises what `withdraw` raises there."""
    return (await cancel_payment.withdraw(writers.facts, caller, asked)).replayed


def a_request(**changed: object) -> PaymentRequest:
    """A request of its own, with ids that no other has."""
    fields: dict[str, object] = {
        "request_id": str(uuid4()),
        "booking_id": f"BK-{uuid4().hex[:12]}",
        "phone_number": "254712345678",
        "amount": 500,
        "shortcode": "174379",
        "description": "Booking",
    }
    return PaymentRequest(**(fields | changed))  # type: ignore[arg-type]  # the fields are those of the class
