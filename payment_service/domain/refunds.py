"""Refunds: the table that decides what may happen to one, as `transitions` does for payments.

A refund is a request that moves money, so it is sent under the rules of a push. The claim to send is committed before
the first byte leaves, and a send whose fate is unknown is never made again: it is asked about. `apply_refund` is pure,
and gives back what a fact means for the payment: that its money is returned, or that it provably is not.

The rules behind the cells:

* The refund of a whole payment is done when a result names the very receipt that was to be reversed. That of a part is
  done when a result comes back under our own name for it and names the transfer's receipt. Else nothing is proven.
* Only a listed refusal ends a refund as failed. A post to the timeout address says that nobody knows.
* Money that is proven to be returned is never denied, whatever the refund said before.
* M-Pesa reverses a payment once. When the reversal of a receipt is done, none of its other refunds is sent or counted.
* Nothing is sent of money that only a callback has told of (`receipt_proof`), and never where it is found not to have
  come.
* What came beside the payment's own money goes back without the payment: it stays as it is, and so does its seat.
* Nothing is sent that would make more go back than came: not even where a part that had failed is done after all.
* An answer that nothing was sent is not believed once a post has shown that M-Pesa had the request.
* What nobody can find out within a day is for a person, who looks it up in the M-Pesa portal.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from payment_service.domain.facts import Fact, RefundInDoubt
from payment_service.domain.payment import Backing, Payment, State
from payment_service.domain.receipt_proof import may_go_back
from payment_service.domain.refund import (
    MONEY_NEVER_CAME,
    MONEY_NOT_BACKED,
    Refund,
    RefundState,
    RefundSurroundings,
    RefundTimes,
)
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.refund_facts import (
    RefundAccepted,
    RefundAnswerLost,
    RefundClaimed,
    RefundDue,
    RefundFact,
    RefundLookedUp,
    RefundNotSent,
    RefundOvertaken,
    RefundRefused,
    RefundReported,
    RefundTimedOut,
    RefundVerdict,
)

SEND_WITHIN = timedelta(hours=24)
"""From the request until a refund that could never be sent has failed: the caller or a person asks again."""
SEND_BACKOFF = timedelta(seconds=1)
"""Before the second send of a refund that reached nobody; doubled before each later one."""
SEND_BACKOFF_MAX = timedelta(minutes=10)
DOUBT_MAX = timedelta(hours=24)
"""From the send until a person looks at a refund whose fate is unknown; results were seen after 25 hours."""


class RefundFinding(StrEnum):
    """The rows of the table: what the facts can say."""

    CLAIM = "a process may send the refund"
    UNWANTED = "a process may send the refund, and its payment does not wait for it"
    UNBACKED = "a process may send the refund, and too little is known of whose money it is"
    NEVER_PAID = "a process may send the part, and its payment's money never came"
    ACCEPTED = "Safaricom accepted the request"
    OTHERWISE = "Safaricom accepted another request than the recorded one"
    REFUSED = "Safaricom refused the request"
    NOT_SENT = "the request reached nobody"
    DENIED = "Safaricom's answer denies a request that a post has told of"
    LOST = "the answer was lost, the sender died, or no result came in time"
    UNPROVEN = "a result that proves nothing, or word that there will be none"
    DONE = "it is proven that the money went back"
    ALREADY = "the receipt has been reversed, by whichever request"
    TWICE = "it is proven that the money went back, and so it is by the reversal of another refund"
    ELSEWHERE = "the receipt has been reversed, by another refund of ours"
    OVERTAKEN = "the reversal of the receipt is done, by another refund"
    FAILED = "a listed refusal in a result"
    FOREIGN = "a result of another transaction, or of another amount"
    FOUND = "a person has found the money gone back"
    FOUND_TWICE = "a person has found the money gone back, and so it is by the reversal of another refund"
    NOT_FOUND = "a person has found that it has not"
    TOO_EARLY = "a person has found that it has not, within a day from the send"
    NEVER_SENT = "it could not be sent within a day"
    DOUBTED = "its fate is unknown for a day"
    NOTHING = "nothing new"


# One word per cell:
#   -         nothing happens        ids     only Safaricom's ids are recorded
#   R S A U D F   go to that state (`_STATES`)
#   case $    the state stays; a case, or a case about money, is opened
#   X+case X+$    go to X and open one
#   no        the one who asked is refused
_TABLE = """
            R        S        A        U        D      F
CLAIM       S        no       no       no       no     no
UNWANTED    R        no       no       no       no     no
UNBACKED    R        no       no       no       no     no
NEVER_PAID  F        no       no       no       no     no
ACCEPTED    U+$      A        ids      ids      ids    $
OTHERWISE   U+$      $        $        $        $      $
REFUSED     -        F        case     F        case   -
NOT_SENT    -        R        case     F        case   -
DENIED      -        U+case   case     case     case   -
LOST        -        U        U        -        -      -
UNPROVEN    case     U        U        -        -      -
DONE        D+case   D        D        D        -      D+$
ALREADY     D+case   D+case   D+case   D        -      D+$
TWICE       F+$      F+$      F+$      F+$      -      $
ELSEWHERE   F        F        F        F        -      -
OVERTAKEN   F        -        -        -        -      -
FAILED      case     F        F        F        $      -
FOREIGN     $        $        $        $        $      $
FOUND       no       no       no       D        no     no
FOUND_TWICE no       no       no       F+$      no     no
NOT_FOUND   no       no       no       F        no     no
TOO_EARLY   no       no       no       no       no     no
NEVER_SENT  F        -        -        -        -      -
DOUBTED     -        -        -        case     -      -
NOTHING     -        -        -        -        -      -
"""

_CODE_OF = {RefundFinding.UNBACKED: MONEY_NOT_BACKED, RefundFinding.NEVER_PAID: MONEY_NEVER_CAME}
"""What is kept as its code where no answer of Safaricom's has one."""

_STATES = {
    "R": RefundState.REQUESTED,
    "S": RefundState.SENDING,
    "A": RefundState.ACCEPTED,
    "U": RefundState.UNCERTAIN,
    "D": RefundState.DONE,
    "F": RefundState.FAILED,
}


def _parsed(table: str) -> Mapping[RefundFinding, Mapping[RefundState, str]]:
    header, *rows = (line.split() for line in table.strip().splitlines())
    columns = [_STATES[heading] for heading in header]
    return {RefundFinding[name]: dict(zip(columns, cells, strict=True)) for name, *cells in rows}


REFUND_TABLE = _parsed(_TABLE)
"""The cell for every finding and state; total, which a test proves."""

ENDED = frozenset({RefundState.DONE, RefundState.FAILED})


@dataclass(frozen=True, slots=True)
class RefundOutcome:
    """What applying one fact to a refund led to. `refused` changed nothing."""

    refund: Refund
    told: tuple[Fact, ...] = ()
    """What it means for the payment; a case is opened by the payment's table."""
    refused: bool = False


_ALONE = RefundSurroundings()


def apply_refund(
    refund: Refund, fact: RefundFact, now: datetime, times: RefundTimes, around: RefundSurroundings = _ALONE
) -> RefundOutcome:
    """What follows from a fact. The same fact told again changes nothing."""
    row = refund_finding(refund, fact, now, around)
    cell = REFUND_TABLE[row][refund.state]
    if cell == "no":
        return RefundOutcome(refund, refused=True)
    after = _with_post(refund, fact, now)
    if cell == "-":
        return RefundOutcome(after)
    target, _, mark = cell.partition("+")
    after = _with_ids(after, fact)
    if target in _STATES:
        after = _moved(after, _STATES[target], fact, now, times)
        after = replace(after, result_code=_CODE_OF.get(row, after.result_code))
    shown = isinstance(fact, RefundDue) and after.state is RefundState.UNCERTAIN and refund.state is after.state
    after = replace(after, due_at=None if shown else _due_at(after, times))
    return RefundOutcome(after, (*_told(refund, after, around), *_doubt(refund, fact, mark or target)))


def refund_surroundings(
    refund: Refund, payment: Payment, refunds: Collection[Refund], received: int | None, *, proven: bool
) -> RefundSurroundings:
    """What decides beside a refund: its payment, what its receipt brought and whether it is proven to be the payment's,
    and the other refunds of the payment."""
    others = [one for one in refunds if one.payment_id == refund.payment_id and one.refund_id != refund.refund_id]
    of_receipt = [one for one in others if one.receipt == refund.receipt]
    beside = refund.is_beside(payment.receipt)
    # The payment may have been told last of a refund of other money, while it waits for that of its own.
    told_last = [one for one in others if one.refund_id == payment.refund_id and not one.is_beside(payment.receipt)]
    if beside:
        wanted = True
    elif refund.is_part:
        wanted = payment.state is State.COMPLETED
    else:
        wanted = payment.state is State.REFUNDING and not told_last
    gone = sum(one.amount for one in of_receipt if one.state is RefundState.DONE)
    promised = sum(one.amount for one in of_receipt if one.counts)
    return RefundSurroundings(
        awaited=wanted and (received is None or promised + refund.amount <= received),
        backed=may_go_back(refund, payment, proven=proven),
        never_came=refund.is_part and payment.backing is Backing.REFUTED,
        returned=any(one.reversed for one in of_receipt),
        returns_the_rest=received is not None and gone + refund.amount >= received,
        # What a reversal makes needless is not waited for.
        others_under_way=any(one.under_way for one in others if refund.is_part or one not in of_receipt),
        beside=beside,
    )


def first_refund(refund: Refund, times: RefundTimes) -> Refund:
    """A refund as it is recorded, to be sent at once."""
    to_be_sent = replace(refund, send_at=refund.requested_at)
    return replace(to_be_sent, due_at=_due_at(to_be_sent, times))


def refund_finding(
    refund: Refund, fact: RefundFact, now: datetime, around: RefundSurroundings = _ALONE
) -> RefundFinding:
    """The row of the table that a fact falls into for this refund."""
    match fact:
        case RefundClaimed():
            return _claim(around)
        case RefundAccepted():
            return RefundFinding.ACCEPTED if fact.claim_id == refund.claim_id else RefundFinding.OTHERWISE
        case RefundRefused():
            return _denial(refund, fact, RefundFinding.REFUSED)
        case RefundNotSent():
            # What is not needed any more is not sent again.
            return _denial(refund, fact, RefundFinding.ELSEWHERE if around.returned else RefundFinding.NOT_SENT)
        case RefundAnswerLost():
            return RefundFinding.LOST if fact.claim_id == refund.claim_id else RefundFinding.NOTHING
        case RefundReported():
            return _result(refund, fact, around)
        case RefundTimedOut():
            return RefundFinding.UNPROVEN
        case RefundOvertaken():
            return RefundFinding.OVERTAKEN
        case RefundLookedUp():
            return _looked_up(refund, fact, now, around)
        case RefundDue():
            return _due(refund, now)
        case _:
            assert_never(fact)


def _claim(around: RefundSurroundings) -> RefundFinding:
    if around.never_came:
        return RefundFinding.NEVER_PAID
    if not around.awaited or around.returned:
        return RefundFinding.UNWANTED
    return RefundFinding.CLAIM if around.backed else RefundFinding.UNBACKED


def _denial(refund: Refund, fact: RefundRefused | RefundNotSent, says: RefundFinding) -> RefundFinding:
    """An answer that nothing moves: it says so of its own claim, and only where no post has shown the contrary."""
    if fact.claim_id != refund.claim_id:
        return RefundFinding.NOTHING
    return says if refund.posted_at is None else RefundFinding.DENIED


def _result(refund: Refund, fact: RefundReported, around: RefundSurroundings) -> RefundFinding:
    """The token of its address has bound a result to this refund; what it names must not say otherwise."""
    if fact.receipt not in (None, refund.receipt) or fact.amount not in (None, refund.amount):
        return RefundFinding.FOREIGN
    match fact.verdict:
        case RefundVerdict.DONE:
            if fact.receipt is None:
                return RefundFinding.UNPROVEN
            return RefundFinding.TWICE if around.returned else RefundFinding.DONE
        case RefundVerdict.ALREADY_REVERSED:
            return RefundFinding.ELSEWHERE if around.returned else RefundFinding.ALREADY
        case RefundVerdict.FAILED:
            return RefundFinding.FAILED
        case RefundVerdict.UNPROVEN:
            return RefundFinding.UNPROVEN
        case _:
            assert_never(fact.verdict)


def _looked_up(refund: Refund, fact: RefundLookedUp, now: datetime, around: RefundSurroundings) -> RefundFinding:
    """That money is there is seen at once. That it is not, counts only when no result is awaited any more: what is
    found not done is sent again, and a part would then go twice."""
    if fact.returned:
        if not around.returned:
            return RefundFinding.FOUND
        # A receipt is reversed only once, so the reversal that was found is the other refund's.
        return RefundFinding.FOUND_TWICE if refund.is_part else RefundFinding.NOT_FOUND
    waited = refund.sent_at is not None and now >= refund.sent_at + DOUBT_MAX
    return RefundFinding.NOT_FOUND if waited else RefundFinding.TOO_EARLY


def _due(refund: Refund, now: datetime) -> RefundFinding:
    if refund.due_at is None or now < refund.due_at:
        return RefundFinding.NOTHING
    match refund.state:
        case RefundState.REQUESTED:
            return RefundFinding.NEVER_SENT if now >= refund.requested_at + SEND_WITHIN else RefundFinding.NOTHING
        case RefundState.SENDING | RefundState.ACCEPTED:
            return RefundFinding.LOST
        case RefundState.UNCERTAIN:
            return RefundFinding.DOUBTED
        case RefundState.DONE | RefundState.FAILED:
            return RefundFinding.NOTHING
        case _:
            assert_never(refund.state)


def _due_at(refund: Refund, times: RefundTimes) -> datetime | None:
    """When the refund's state has lasted too long; a doubt that a person has been shown is not timed again."""
    match refund.state:
        case RefundState.REQUESTED:
            return refund.requested_at + SEND_WITHIN
        case RefundState.SENDING:
            return refund.lease_expires_at
        case RefundState.ACCEPTED:
            return refund.sent_at and refund.sent_at + times.result_within
        case RefundState.UNCERTAIN:
            return refund.sent_at and refund.sent_at + DOUBT_MAX
        case RefundState.DONE | RefundState.FAILED:
            return None
        case _:
            assert_never(refund.state)


def _with_post(refund: Refund, fact: RefundFact, now: datetime) -> Refund:
    """Noted even where the post says nothing new: an answer that comes later may deny what it has shown."""
    if not isinstance(fact, RefundReported | RefundTimedOut) or refund.posted_at is not None:
        return refund
    return replace(refund, posted_at=now)


def _with_ids(refund: Refund, fact: RefundFact) -> Refund:
    """Safaricom's names of the request, from its answer; those in results are of the same request or foreign."""
    if not isinstance(fact, RefundAccepted) or fact.claim_id != refund.claim_id:
        return refund
    return replace(
        refund,
        originator_conversation_id=refund.originator_conversation_id or fact.originator_conversation_id,
        conversation_id=refund.conversation_id or fact.conversation_id,
    )


def _moved(refund: Refund, state: RefundState, fact: RefundFact, now: datetime, times: RefundTimes) -> Refund:
    code = fact.code if isinstance(fact, RefundReported | RefundRefused | RefundNotSent) else refund.result_code
    moved = replace(refund, state=state, result_code=code)
    match state:
        case RefundState.SENDING if isinstance(fact, RefundClaimed):
            return replace(
                moved,
                result_code=None,
                claim_id=fact.claim_id,
                sent_as=fact.sent_as,
                lease_expires_at=now + times.lease,
                sent_at=now,
                send_at=None,
            )
        case RefundState.REQUESTED:
            # Also what its payment does not wait for, so that it does not stand before the others for ever.
            wait = min(SEND_BACKOFF * 2 ** min(refund.not_sent_count, 16), SEND_BACKOFF_MAX)
            return replace(
                moved, sent_at=None, lease_expires_at=None, send_at=now + wait, not_sent_count=refund.not_sent_count + 1
            )
        case RefundState.ACCEPTED | RefundState.UNCERTAIN:
            # Evidence of a send dates it, even where no claim of ours does.
            return replace(moved, sent_at=refund.sent_at or now, send_at=None)
        case RefundState.DONE | RefundState.FAILED:
            return replace(moved, send_at=None, ended_at=now)
        case _:
            return moved


def _told(before: Refund, after: Refund, around: RefundSurroundings) -> tuple[Fact, ...]:
    # A payment whose money another refund has returned is told nothing of the one that was not needed.
    if after.state is before.state or around.returned:
        return ()
    match after.state:
        case RefundState.DONE:
            the_rest, others = around.returns_the_rest, around.others_under_way
            return (RefundDone(after.refund_id, after.amount, after.is_part, the_rest, others, around.beside),)
        case RefundState.FAILED:
            return (RefundFailed(after.refund_id, after.is_part, around.others_under_way, around.beside),)
        case _:
            return ()


def _doubt(refund: Refund, fact: RefundFact, mark: str) -> tuple[Fact, ...]:
    if mark not in ("case", "$"):
        return ()
    return (RefundInDoubt(refund.refund_id, fact.fact_id, is_money=mark == "$"),)
