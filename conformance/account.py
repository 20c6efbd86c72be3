"""One payment as two parties tell it: its caller, and the simulator's ledger. A case is decided by nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpesa_payments.v1 import payment_pb2

from conformance.caller import action_of, reason_of, status_of
from conformance.judgement import expect


@dataclass(frozen=True, slots=True)
class Seen:
    """What a case found, in words: one sentence for each of the two columns."""

    caller: str
    ledger: str


@dataclass(frozen=True)
class Account:
    """What was told of a payment so far, and what became of its pushes."""

    events: Sequence[payment_pb2.PaymentEvent]
    payment: payment_pb2.Payment
    ledger: Sequence[dict[str, Any]]

    def __post_init__(self) -> None:
        versions = [event.payment.version for event in self.events]
        expect("the versions told", versions, list(range(versions[0], versions[0] + len(versions))))
        expect("events told twice", len({event.event_id for event in self.events}), len(self.events))
        if self.payment.mpesa_receipt_number:
            expect("the ledger's receipt", [push["receipt"] for push in self.ledger if push["receipt"]], [self.receipt])

    @property
    def path(self) -> str:
        """The statuses that the stream told, each once."""
        names = (status_of(event.payment) for event in self.events)
        return " → ".join(name for name, _ in itertools.groupby(names))

    @property
    def status(self) -> str:
        return status_of(self.payment)

    @property
    def reason(self) -> str:
        return reason_of(self.payment)

    @property
    def action(self) -> str:
        return action_of(self.payment)

    @property
    def certain(self) -> bool:
        return self.payment.outcome_certain

    @property
    def late(self) -> bool:
        return self.payment.paid_late

    @property
    def receipt(self) -> str:
        return self.payment.mpesa_receipt_number

    @property
    def receipt_was_pending(self) -> bool:
        """Whether the money was known before its receipt: then it was no whole callback that told of it."""
        return any(reason_of(event.payment) == "RECEIPT_PENDING" for event in self.events)

    @property
    def pushes(self) -> int:
        return len(self.ledger)

    @property
    def prompts(self) -> int:
        return sum(push["prompted"] for push in self.ledger)

    @property
    def debited(self) -> int:
        """Shillings."""
        return sum(push["debited_kes"] for push in self.ledger)

    def must(self, **wanted: object) -> Account:
        """These properties must be so; all that are not are named at once.

        A payment that says CONFIRM must have its receipt, and from the beginning unless the case wants it otherwise.
        """
        if wanted.get("action") == "CONFIRM":
            wanted = {
                "receipt": "".join(push["receipt"] for push in self.ledger),
                "receipt_was_pending": False,
            } | wanted
        found = {name: getattr(self, name) for name in wanted}
        differ = [name for name in wanted if found[name] != wanted[name]]
        expect("the account", {name: found[name] for name in differ}, {name: wanted[name] for name in differ})
        return self

    def seen(self, caller: str = "", ledger: str = "") -> Seen:
        """Both columns, with what the case has to add to either."""
        late = "paid late" if self.late else ""
        pushes = f"{self.pushes} pushes" if self.pushes != 1 else ""
        prompts = "1 prompt" if self.prompts == 1 else f"{self.prompts} prompts"
        paid = f"KES {self.debited} paid" if self.debited else "nothing paid"
        told = dict.fromkeys([self.path, late, self.reason, self.action, caller])
        return Seen(", ".join(filter(None, told)), ", ".join(filter(None, [pushes, prompts, paid, ledger])))
