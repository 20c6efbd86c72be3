"""The rules against prompts that nobody wants, applied to a group of requests in the transaction that makes payments.

What the rules go by is read in the round trip that reads everything else, and what they decide is written in the one
that commits. A group's own requests count against each other in the order of their arrival.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from opentelemetry import metrics
from uuid_utils.compat import uuid7

from payment_service.domain.errors import BookingLocked, RiskRefused
from payment_service.domain.payment import PaymentRequest
from payment_service.domain.risk import (
    LONGEST,
    AskedPrompt,
    History,
    Mode,
    Objection,
    Policy,
    Rule,
    objections,
    refusal,
    stretch_start,
)
from payment_service.store import risk as store
from payment_service.store.pipeline import Result, Statement
from payment_service.store.risk import CountedPrompt, CounterKey, KeptDecision

_log = structlog.get_logger(__name__)
_meter = metrics.get_meter("payment_service")
_objections = _meter.create_counter(
    "payment_service.risk_objections", description="Requests that a rule refused, or in shadow would have, by rule"
)

_BY_CALLER: Final = frozenset({Rule.CALLER_PROMPTS})


@dataclass(frozen=True, slots=True)
class Weighed:
    """A request as the rules see it."""

    payment_id: UUID
    caller: str
    request: PaymentRequest
    phone: bytes
    """The blind index of its number."""


def risk_lock(policy: Policy, group: Sequence[Weighed]) -> list[Statement]:
    """What goes before everything that is read: each statement sees what is committed when it begins."""
    return [store.lock_phones(one.phone for one in group)] if _counts_rows(policy) else []


def risk_reads(policy: Policy, group: Sequence[Weighed], now: datetime) -> list[Statement]:
    """What the rules go by; the results are for `read_history`. No rule, nothing but the list."""
    phones, since = {one.phone for one in group}, now - LONGEST
    statements = [store.listed_phones(phones)]
    if _counts_rows(policy):
        statements.append(store.prompts_of_phones(phones, since))
        statements.append(store.prompts_of_bookings({(one.caller, one.request.booking_id) for one in group}))
    if lengths := _lengths(policy):
        keys = {_key(one.caller, length, now) for one in group for length in lengths}
        statements.append(store.counters(keys))
    return statements


def read_history(policy: Policy, group: Sequence[Weighed], results: Sequence[Result]) -> History:
    """What was read, as the rules take it."""
    lists, *others = results
    history = History(listed=store.listed(lists.rows))
    if _counts_rows(policy):
        phones, bookings, *others = others
        for prompt in sorted(store.asked_prompts(phones.rows), key=_asked_at, reverse=True):
            history.of_phones.setdefault(prompt.phone, []).append(prompt)
        for prompt in sorted(store.asked_prompts(bookings.rows), key=_asked_at, reverse=True):
            history.of_bookings.setdefault(prompt.booking, []).append(prompt)
    if lengths := _lengths(policy):
        (counted,) = others
        history.of_callers = dict.fromkeys(((one.caller, length) for one in group for length in lengths), 0)
        history.of_callers |= store.of_callers(counted.rows)
    return history


@dataclass(slots=True)
class RiskWeighing:
    """One group under the rules, and what is to be written of it."""

    policy: Policy
    history: History
    locked: Set[int]
    """The keys of phones that another process has at this moment."""
    read_at: datetime
    """For which stretches of time the callers' counters were read: the rules go by the same moment."""
    kept: list[KeptDecision] = field(default_factory=list)
    counted: list[CountedPrompt] = field(default_factory=list)

    def weigh(self, one: Weighed, now: datetime) -> RiskRefused | BookingLocked | None:
        """Why a request is refused, or has to be decided again; None lets it through, and it counts from then on."""
        if store.phone_key(one.phone) in self.locked:
            # Another process is making a payment of this phone: its history may be another in a moment.
            return BookingLocked()
        asked = AskedPrompt(one.phone, one.caller, one.request.booking_id, one.request.amount, now)
        found = objections(self.policy, asked, self.history)
        refused = refusal(found)
        self.kept += [_kept(one, objection, asked, None if refused else one.payment_id) for objection in found]
        if refused is not None:
            return RiskRefused(refused.rule, refused.retry_at)
        self.history.add(asked)
        self.counted += self._counted(one)
        return None

    def writes(self) -> list[Statement]:
        """What goes behind the insert of the payments, in their transaction."""
        statements = [store.keep_decisions(self.kept)] if self.kept else []
        return [*statements, store.count_prompts(self.counted)] if self.counted else statements

    def report(self) -> None:
        """Count and log what was decided, once it is committed."""
        for one in self.kept:
            _objections.add(1, {"rule": one.rule, "mode": one.mode})
            payment_id = str(one.payment_id) if one.payment_id else None
            _log.warning("rule objects", rule=one.rule, mode=one.mode, caller=one.caller, payment_id=payment_id)

    def _counted(self, one: Weighed) -> list[CountedPrompt]:
        its = self.policy.get(Rule.CALLER_PROMPTS)
        if its is None or its.mode is Mode.OFF:
            return []
        return [
            CountedPrompt(
                one.payment_id,
                *_key(one.caller, limit.within, self.read_at),
                limit.most if its.mode is Mode.ENFORCE else None,
            )
            for limit in its.limits
        ]


def _kept(one: Weighed, objection: Objection, asked: AskedPrompt, payment_id: UUID | None) -> KeptDecision:
    limit = objection.limit
    return KeptDecision(
        decision_id=uuid7(),
        rule=objection.rule,
        mode=objection.mode,
        caller=one.caller,
        request_id=one.request.request_id,
        booking_id=one.request.booking_id,
        phone_index=one.phone,
        amount=one.request.amount,
        payment_id=payment_id,
        counted=objection.counted,
        most=limit.most if limit is not None else None,
        within_s=int(limit.within.total_seconds()) if limit is not None else None,
        retry_at=objection.retry_at,
        decided_at=asked.asked_at,
    )


def _key(caller: str, length: timedelta, moment: datetime) -> CounterKey:
    return CounterKey(caller, int(length.total_seconds()), stretch_start(moment, length))


def _lengths(policy: Policy) -> list[timedelta]:
    its = policy.get(Rule.CALLER_PROMPTS)
    return [] if its is None or its.mode is Mode.OFF else [limit.within for limit in its.limits]


def _counts_rows(policy: Policy) -> bool:
    return any(its.mode is not Mode.OFF for rule, its in policy.items() if rule not in _BY_CALLER)


def _asked_at(prompt: AskedPrompt) -> datetime:
    return prompt.asked_at
