"""A payment service for your tests: in this process, without Safaricom, on a clock that the test turns.

    with FakePayments() as fake:
        fake.script(Outcome.DECLINES, phone_number="0700000032")
        with fake.sync_client() as client:
            payment = client.pay_and_wait(Purchase(booking_id="TRIP-1", phone_number="0700000032", amount=500))

A passenger without a script pays at once. For pytest, name "payment_client.testing.fixtures" in `pytest_plugins` and
ask for `fake_payments`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Final

import grpc

from payment_client.client import PaymentsClient
from payment_client.contract import payment_pb2
from payment_client.resuming import Backoff
from payment_client.sync_client import SyncPaymentsClient
from payment_client.testing.checks import phone_number as normalised
from payment_client.testing.ledger import Ledger
from payment_client.testing.receipts import ISSUER
from payment_client.testing.refusals import FakeRefusal
from payment_client.testing.server import Failure, FakeServer

_CODES: Final = {
    "STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "SERVICE_DRAINING": grpc.StatusCode.UNAVAILABLE,
    "TOO_MANY_REQUESTS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_PROMPTS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "PROMPTS_STOPPED": grpc.StatusCode.FAILED_PRECONDITION,
    "PHONE_BLOCKED": grpc.StatusCode.FAILED_PRECONDITION,
    "CALLER_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}
QUICK: Final = Backoff(first_seconds=0.01, most_seconds=0.1)


class Outcome(Enum):
    """What becomes of a payment."""

    PAYS = "The passenger enters the PIN."
    HAS_NO_MONEY = "There is not enough money in the account."
    DECLINES = "The passenger declines."
    SAYS_NOTHING = "Nobody answers: the payment expires two minutes later, by the fake's clock."
    IS_NOT_SENT = "The prompt waits to be sent, until the test says `send`."


@dataclass(frozen=True, slots=True)
class Script:
    """What the passenger of a phone or booking does, and how long after the prompt."""

    outcome: Outcome
    phone_number: str
    booking_id: str
    after: timedelta


class FakePayments:
    """The fake. Use it in a `with` block, or call `start` and `stop`."""

    def __init__(self, *, issues_receipts: bool = False) -> None:
        """With `issues_receipts` each paid payment gets a receipt: by `issue_receipts`, or when the clock is turned."""
        self._ledger = Ledger()
        self._server = FakeServer(self._ledger, self._created, issuer=ISSUER if issues_receipts else None)
        self._scripts: list[Script] = []
        self._planned: list[tuple[datetime, str, Outcome]] = []
        self._receipts = itertools.count(1)

    def __enter__(self) -> FakePayments:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve: at first on a free port, later on the same again."""
        port = int(self.address.rpartition(":")[2]) if self.address else 0
        self._server.start(port)

    def stop(self) -> None:
        """Be away. What is recorded stays."""
        self._server.stop()

    @property
    def address(self) -> str:
        """HOST:PORT, for a client of your own making."""
        return self._server.address

    @property
    def now(self) -> datetime:
        """The fake's clock, which stands still unless `advance` turns it."""
        return self._ledger.now

    @property
    def payments(self) -> list[payment_pb2.Payment]:
        """Every payment as it stands, the oldest first."""
        with self._ledger.changed:
            return list(self._ledger.payments.values())

    @property
    def events(self) -> list[payment_pb2.PaymentEvent]:
        """Every event, the oldest first."""
        with self._ledger.changed:
            return list(self._ledger.events)

    def calls(self, method: str) -> int:
        """How often a method was called, refused calls included."""
        return self._server.calls.get(method, 0)

    def client(self) -> PaymentsClient:
        """A client for asyncio that is quick to come back."""
        return PaymentsClient(self.address, backoff=QUICK)

    def sync_client(self) -> SyncPaymentsClient:
        """A client for threads that is quick to come back."""
        return SyncPaymentsClient(self.address, backoff=QUICK)

    def script(
        self,
        outcome: Outcome,
        *,
        phone_number: str = "",
        booking_id: str = "",
        after: timedelta = timedelta(0),
    ) -> None:
        """What becomes of payments of this phone or booking, or of all. The latest script that fits counts."""
        self._scripts.append(Script(outcome, normalised(phone_number), booking_id, after))

    def advance(self, by: timedelta) -> None:
        """Turn the clock: what is planned until then happens in its order, and payments expire."""
        with self._ledger.changed:
            until = self._ledger.now + by
            for when, payment_id, outcome in sorted(self._planned, key=lambda plan: plan[0]):
                if when <= until:
                    self._planned.remove((when, payment_id, outcome))
                    self._ledger.turn(max(when, self._ledger.now))
                    self._act(payment_id, outcome)
            self._ledger.turn(until)
        self.issue_receipts()

    def send(self, payment_id: str) -> payment_pb2.Payment:
        """The prompt reaches the phone."""
        with self._ledger.changed:
            return self._ledger.send(payment_id)

    def happens(self, payment_id: str, outcome: Outcome) -> payment_pb2.Payment:
        """Something becomes of a payment now; PAYS also long after it has ended."""
        with self._ledger.changed:
            self._act(payment_id, outcome)
            return self._ledger.payments[payment_id]

    def refund_done(self, payment_id: str) -> payment_pb2.Payment:
        """The money of the latest refund has gone back."""
        with self._ledger.changed:
            return self._ledger.refund_done(payment_id)

    def issue_receipts(self) -> None:
        """Issue the receipts that are due, and amend those of payments whose money has gone back since."""
        with self._ledger.changed:
            if self._server.issuer is not None:
                self._ledger.issue_receipts(self._server.issuer)

    def fail(self, method: str, reason: str, *, times: int = 1, retry_after: timedelta | None = None) -> None:
        """The next calls of a method end with a reason of the service's catalogue, such as STORE_UNAVAILABLE."""
        if reason not in _CODES:
            raise ValueError(f"reason: expected one of {', '.join(_CODES)}, got {reason!r}.")
        refusal = FakeRefusal(_CODES[reason], reason, f"The test asked for {reason}.", retry_after=retry_after)
        with self._ledger.changed:
            self._server.failures[method] = Failure(refusal, times)

    def rewind(self, consumer: str, cursor: str) -> None:
        """Offer a consumer everything after a cursor again: it hears of that with its next acknowledgement."""
        with self._ledger.changed:
            self._server.rewound[consumer] = cursor

    def drain(self) -> None:
        """End every stream as a process does that is being replaced."""
        with self._ledger.changed:
            self._server.drains += 1
            self._ledger.changed.notify_all()

    def replace_log(self) -> None:
        """Make every cursor foreign, as a database does that was restored, and end every stream."""
        with self._ledger.changed:
            self._ledger.log_id += "x"
        self.drain()

    def _created(self, payment: payment_pb2.Payment) -> None:
        script = self._script_for(payment)
        if script.outcome is Outcome.IS_NOT_SENT:
            return
        self._ledger.send(payment.payment_id)
        if script.after:
            self._planned.append((self._ledger.now + script.after, payment.payment_id, script.outcome))
        else:
            self._act(payment.payment_id, script.outcome)

    def _script_for(self, payment: payment_pb2.Payment) -> Script:
        phone_number = self._ledger.phone_of(payment.payment_id)
        fitting: Sequence[Script] = [
            script
            for script in self._scripts
            if script.phone_number in ("", phone_number) and script.booking_id in ("", payment.booking_id)
        ]
        return fitting[-1] if fitting else Script(Outcome.PAYS, "", "", timedelta(0))

    def _act(self, payment_id: str, outcome: Outcome) -> None:
        statuses, reasons = payment_pb2.PaymentStatus, payment_pb2.StatusReason
        match outcome:
            case Outcome.PAYS:
                self._ledger.pay(payment_id, f"SFK{next(self._receipts):07}")
            case Outcome.HAS_NO_MONEY:
                reason = reasons.STATUS_REASON_INSUFFICIENT_FUNDS
                self._ledger.end(payment_id, statuses.PAYMENT_STATUS_FAILED, reason)
            case Outcome.DECLINES:
                reason = reasons.STATUS_REASON_DECLINED_BY_CUSTOMER
                self._ledger.end(payment_id, statuses.PAYMENT_STATUS_CANCELLED, reason)
            case Outcome.SAYS_NOTHING | Outcome.IS_NOT_SENT:
                return
