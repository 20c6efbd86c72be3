"""Rules against prompts that nobody wants: what a request for a prompt may be refused for, and until when.

A rule counts the prompts of one phone, one booking or one caller. To a phone it makes no difference who asks.
Each rule has a mode: in shadow it refuses nothing, and what it would have refused is kept all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from payment_service.domain.payment import ENDED_UNPAID, LIVE_STATES, State
from payment_service.domain.reasons import UNDER_REVIEW, Reason

LONGEST: Final = timedelta(days=1)
"""No rule looks back further."""


class Mode(StrEnum):
    """What a rule does about a request that is over its limit."""

    OFF = "off"
    SHADOW = "shadow"
    """It is let through, and kept that the rule would have refused it."""
    ENFORCE = "enforce"


class Rule(StrEnum):
    """What a request may be refused for. The first word is what the rule is about."""

    PHONE_BLOCKED = "PHONE_BLOCKED"
    """An operator has put the phone on the list of those that get no prompts."""
    PHONE_UNANSWERED = "PHONE_UNANSWERED"
    """Prompts in a row to which nobody entered a PIN."""
    PHONE_UNPAID = "PHONE_UNPAID"
    """Prompts to a phone that brought no money."""
    PHONE_BOOKINGS = "PHONE_BOOKINGS"
    """Bookings that one phone is asked to pay for."""
    PHONE_AMOUNT = "PHONE_AMOUNT"
    """Shillings that one phone has paid, or may be paying."""
    BOOKING_UNPAID = "BOOKING_UNPAID"
    """Prompts for a booking that brought no money."""
    BOOKING_PHONES = "BOOKING_PHONES"
    """Phones that are asked to pay for one booking."""
    CALLER_PROMPTS = "CALLER_PROMPTS"
    """Prompts that one caller asks for."""

    @property
    def subject(self) -> str:
        """What the rule is about, as a caller is told: phone, booking or caller."""
        return self.value.partition("_")[0].lower()


class Limit(NamedTuple):
    """So many in so long are let through."""

    most: int
    within: timedelta


@dataclass(frozen=True, slots=True)
class RulePolicy:
    """What one rule lets through, and whether it refuses the rest."""

    mode: Mode
    limits: tuple[Limit, ...] = ()


Policy = Mapping[Rule, RulePolicy]
"""A rule that is not in it is off."""

BY_LIST: Final = RulePolicy(Mode.ENFORCE)


class ListVerdict(StrEnum):
    """What an operator's list says of a phone."""

    BLOCK = "BLOCK"
    ALLOW = "ALLOW"
    """No rule about phones or bookings is applied to its requests."""
    NONE = "NONE"
    """It was taken off the list."""


class Listed(NamedTuple):
    """A phone's place on the list, which ends by itself where it has an end."""

    verdict: ListVerdict
    until: datetime | None


class Ring(StrEnum):
    """What became of a prompt at the phone."""

    OPEN = "OPEN"
    """It may be on the phone, or is about to be."""
    PAID = "PAID"
    ANSWERED = "ANSWERED"
    """Somebody entered a PIN, and no money came of it."""
    UNANSWERED = "UNANSWERED"
    """Nobody answered, or somebody declined."""
    NONE = "NONE"
    """The phone did not ring."""


_WITH_PIN = frozenset(
    {
        Reason.WRONG_PIN,
        Reason.PIN_LOCKED,
        Reason.INSUFFICIENT_FUNDS,
        Reason.AMOUNT_NOT_ALLOWED,
        Reason.DAILY_LIMIT_REACHED,
        Reason.RECEIVER_LIMIT_REACHED,
        Reason.REPEATED_TOO_SOON,
        Reason.PAYMENT_NOT_ALLOWED,
    }
)
_NOT_SHOWN = frozenset(
    {
        Reason.PHONE_BUSY,
        Reason.PROMPT_FAILED,
        Reason.NOT_AN_MPESA_NUMBER,
        Reason.PROVIDER_BUSY,
        Reason.SERVICE_MISCONFIGURED,
    }
)
"""M-Pesa or we are at fault, and the phone did not ring: no passenger is to pay for that with a wait."""


def ring_of(state: State, reason: Reason | None, *, sent: bool, accepted: bool) -> Ring:
    """What became of a payment's prompt. `accepted`: Daraja took the push, so that the phone was to be rung."""
    if state in LIVE_STATES:
        return Ring.PAID if reason in UNDER_REVIEW else Ring.OPEN
    if state not in ENDED_UNPAID:
        return Ring.PAID
    # A push whose answer was lost may have rung. But nobody outside can bring that about, and after an outage of M-Pesa
    # everybody who tried again would be refused.
    if not sent or (not accepted and state in (State.FAILED, State.EXPIRED)) or reason in _NOT_SHOWN:
        return Ring.NONE
    return Ring.ANSWERED if reason in _WITH_PIN else Ring.UNANSWERED


class AskedPrompt(NamedTuple):
    """A prompt that was asked for, or is being asked for."""

    phone: bytes
    """The blind index of its number."""
    caller: str
    booking_id: str
    amount: int
    asked_at: datetime
    ring: Ring = Ring.OPEN

    @property
    def booking(self) -> tuple[str, str]:
        return self.caller, self.booking_id


@dataclass(slots=True)
class History:
    """The prompts of the last day about the phones, bookings and callers of some requests, the newest first."""

    of_phones: dict[bytes, list[AskedPrompt]] = field(default_factory=dict)
    of_bookings: dict[tuple[str, str], list[AskedPrompt]] = field(default_factory=dict)
    of_callers: dict[tuple[str, timedelta], int] = field(default_factory=dict)
    """How many prompts a caller has asked for in the present stretch of such a length."""
    listed: dict[bytes, Listed] = field(default_factory=dict)

    def add(self, prompt: AskedPrompt) -> None:
        """Count a prompt that has just been let through."""
        self.of_phones.setdefault(prompt.phone, []).insert(0, prompt)
        self.of_bookings.setdefault(prompt.booking, []).insert(0, prompt)
        for key in self.of_callers:
            self.of_callers[key] += key[0] == prompt.caller


class Objection(NamedTuple):
    """What a rule has against a request, with what it went by."""

    rule: Rule
    mode: Mode
    counted: int
    """With this request."""
    limit: Limit | None
    retry_at: datetime | None
    """When the rule lets such a request through again; None where waiting does not help."""


def stretch_start(moment: datetime, length: timedelta) -> datetime:
    """When the stretch of time began that a caller's prompts are counted in: each begins as the one before it ends."""
    seconds = int(length.total_seconds())
    return datetime.fromtimestamp(int(moment.timestamp()) // seconds * seconds, UTC)


def objections(policy: Policy, asked: AskedPrompt, history: History) -> list[Objection]:
    """What the rules have against a request, at the time that it is asked."""
    listed = _listed(history, asked)
    if listed is not None and listed.verdict is ListVerdict.BLOCK:
        return [Objection(Rule.PHONE_BLOCKED, BY_LIST.mode, 0, None, listed.until)]
    allowed = listed is not None and listed.verdict is ListVerdict.ALLOW
    found = []
    for rule, its in policy.items():
        if its.mode is Mode.OFF or (allowed and rule is not Rule.CALLER_PROMPTS):
            continue
        over = [one for limit in its.limits if (one := _over(rule, its.mode, limit, asked, history)) is not None]
        found += sorted(over, key=_ends)[-1:]
    return found


def refusal(found: Sequence[Objection]) -> Objection | None:
    """The objection that a request is refused for: of those that are enforced, the one that lasts longest."""
    return max((one for one in found if one.mode is Mode.ENFORCE), key=_ends, default=None)


def _ends(objection: Objection) -> datetime:
    return objection.retry_at or datetime.max.replace(tzinfo=UTC)


def _listed(history: History, asked: AskedPrompt) -> Listed | None:
    listed = history.listed.get(asked.phone)
    ended = listed is not None and listed.until is not None and listed.until <= asked.asked_at
    return None if ended else listed


def _over(rule: Rule, mode: Mode, limit: Limit, asked: AskedPrompt, history: History) -> Objection | None:
    if rule is Rule.CALLER_PROMPTS:
        counted = history.of_callers.get((asked.caller, limit.within), 0) + 1
        ends_at = stretch_start(asked.asked_at, limit.within) + limit.within
        return Objection(rule, mode, counted, limit, ends_at) if counted > limit.most else None
    own = asked.amount if rule is Rule.PHONE_AMOUNT else 1
    sum_so_far, retry_at, over = own, None, own > limit.most
    for at, counts in _counted(rule, asked, history):
        if at <= asked.asked_at - limit.within:
            continue
        sum_so_far += counts
        if sum_so_far > limit.most and not over:
            # It and all before it have to be older than that, until one more is let through.
            over, retry_at = True, at + limit.within
    return Objection(rule, mode, sum_so_far, limit, retry_at) if over else None


def _counted(rule: Rule, asked: AskedPrompt, history: History) -> Iterator[tuple[datetime, int]]:
    """What a rule counts against a request: the newest first, each with how much it counts."""
    of_phone, of_booking = history.of_phones.get(asked.phone, []), history.of_bookings.get(asked.booking, [])
    match rule:
        case Rule.PHONE_UNANSWERED:
            yield from _in_a_row(of_phone)
        case Rule.PHONE_UNPAID:
            yield from _unpaid(of_phone)
        case Rule.BOOKING_UNPAID:
            yield from _unpaid(of_booking)
        case Rule.PHONE_AMOUNT:
            yield from ((one.asked_at, one.amount) for one in of_phone if one.ring in (Ring.PAID, Ring.OPEN))
        case Rule.PHONE_BOOKINGS:
            yield from _others([(one, one.booking) for one in of_phone], asked.booking)
        case Rule.BOOKING_PHONES:
            yield from _others([(one, one.phone) for one in of_booking], asked.phone)
        case Rule.PHONE_BLOCKED | Rule.CALLER_PROMPTS:
            return
        case _:
            assert_never(rule)


def _in_a_row(prompts: Sequence[AskedPrompt]) -> Iterator[tuple[datetime, int]]:
    for one in prompts:
        if one.ring in (Ring.PAID, Ring.ANSWERED):
            return
        if one.ring is not Ring.NONE:
            yield one.asked_at, 1


def _unpaid(prompts: Sequence[AskedPrompt]) -> Iterator[tuple[datetime, int]]:
    return ((one.asked_at, 1) for one in prompts if one.ring not in (Ring.PAID, Ring.NONE))


def _others(prompts: Sequence[tuple[AskedPrompt, object]], asked: object) -> Iterator[tuple[datetime, int]]:
    """Each thing beside the one asked for, as of its latest prompt. One that is among them already adds nothing."""
    seen: dict[object, datetime] = {}
    for one, thing in prompts:
        if one.ring is not Ring.NONE:
            seen.setdefault(thing, one.asked_at)
    if asked in seen:
        return iter(())
    return ((at, 1) for at in seen.values())
