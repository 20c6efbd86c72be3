"""The one table that decides what may happen to a payment.

A fact is turned into a finding (the row) and the payment into a standing (the column) by `findings`; the cell says what
follows. Everything that changes the state of a payment passes through `apply`, which is pure: no clock, no I/O, no
randomness. What the booking may do, and which timer is due next, follows from the new row alone and is decided in
`decisions`.

The rules behind the cells:

* Proven success is never dropped. It completes the payment from any state; after an end state it is late money, and
  money that fits nowhere opens a money case.
* Only listed evidence ends a payment as failed. Everything else is uncertain.
* Silence is no evidence. An end without money is certain by what proves it, never by the time that has passed.
* A send whose fate is unknown is never sent again: no cell leads from SENDING back to CREATED but for the proof that
  nothing was sent.
* Contradictions change no state. They open a case, and a person looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from payment_service.domain.cases import Case, CaseKind, OpenCase, ends_by_itself
from payment_service.domain.decisions import decided, duplicate, late
from payment_service.domain.facts import (
    CaseAccepted,
    Fact,
    NotSent,
    PromptAccepted,
    PromptRefused,
    RefundRequested,
    ResultReported,
    SendClaimed,
    Source,
    Verdict,
    WatchEnded,
)
from payment_service.domain.findings import (
    Finding,
    Standing,
    Surroundings,
    asked_after_prompt,
    finding,
    standing,
)
from payment_service.domain.payment import LIVE_STATES, PAID_STATES, Payment, State, Times, UnpaidProof
from payment_service.domain.reasons import UNDER_REVIEW, Reason

# One word per cell:
#   -          nothing happens            ids     only the provider's ids are recorded
#   C S P U0 U1 UR K F0 X0 E RG RD        go to that standing (`HEADINGS`)
#   F|X        failed or cancelled, as the code says; F0|X0 the same, as only a query says
#   case $     the state stays; a case, or a case about money, is opened
#   A+case A+$ go to A and open one
#   cert       it is proven that nothing was paid
#   agrees     cert, if the same was said before; otherwise a case
#   differs    a case, unless the same was said before
#   seen       a query found nothing paid: evidence, which counts when the watch ends
#   unread     a case; until it is settled, no end without money is certain
#   unknown    a case; the watch is over, and the end stays uncertain
#   receipt    the receipt number is recorded
#   second     a second answer "paid", some time after the first, is as good as a receipt
#   over       the payment's own case about that receipt ends
#   block      the booking is no longer blocked by this payment
#   back+case  return from REFUNDING to the state before, and open a case
#   no         the one who asked is refused
#   own        nothing when it was done before by the same request, otherwise no
_TABLE = """
                   C        S      P      U0     U1     UR     K0       K        F0       X0       F        X        E       RG         RD
CLAIM              S        no     no     no     no     no     no       no       no       no       no       no       no      no         no
CLAIM_BARRED       no       no     no     no     no     no     no       no       no       no       no       no       no      no         no
PROMPT_ACCEPTED    U0+case  P      -      P      ids    ids    ids      ids      ids      ids      ids      ids      ids     ids        ids
PROMPT_OTHERWISE   $        $      $      $      $      $      $        $        $        $        $        $        $       $          $
PROMPT_REFUSED     case     F      case   F      case   case   case     case     cert     cert     -        -        cert    case       case
NOT_SENT           -        C      case   F      case   case   case     case     cert     cert     -        -        cert    case       case
NOT_SENT_TOO_OFTEN -        F      case   F      case   case   case     case     cert     cert     -        -        cert    case       case
ANSWER_LOST        -        U0     -      -      -      -      -        -        -        -        -        -        -       -          -
PAID_KNOWN_RECEIPT -        -      -      -      -      -      -        -        -        -        -        -        -       -          -
PAID_NEW_RECEIPT   K        K      K      K      K      K      receipt  $        K        K        K+case   K+case   K       $          $
PAID_NO_RECEIPT    K        K      K      K      K      -      -        -        K        K        K+case   K+case   K       -          -
QUERY_PAID         -        -      K      K      K      -      second   -        K        K        $        $        K       -          -
FINAL_FAILURE      U1       F|X    F|X    F|X    F|X    -      case     case     agrees   agrees   differs  differs  cert    case       case
FAILURE_QUERIED    U1       F0|X0  F0|X0  F0|X0  F0|X0  -      case     case     differs  differs  differs  differs  -       case       case
UNCERTAIN_CODE     U1       U1     U1     U1     seen   -      case     case     seen     seen     -        -        seen    case       case
UNCERTAIN_AGREED   U1       U1     U1     U1     E      -      case     case     seen     seen     -        -        seen    case       case
UNKNOWN_CODE       U1       U1     U1     U1     -      -      -        -        -        -        -        -        -       -          -
WRONG_AMOUNT       UR+$     UR+$   UR+$   UR+$   UR+$   $      $        $        $        $        $        $        $       $          $
FOREIGN_PAID       U1+$     $      $      $      $      $      $        $        $        $        $        $        $       $          $
PAID_IN_DOUBT      $        $      $      $      $      $      $        $        $        $        $        $        $       $          $
FOREIGN_OTHER      U1+case  case   case   case   case   case   case     case     case     case     case     case     case    case       case
UNREAD_BODY        unread   unread unread unread unread unread unread   -        unread   unread   unread   unread   unread  -          -
NO_NEWS            -        -      -      -      -      -      -        -        -        -        -        -        -       -          -
DEADLINE           F        -      E      E      E      -      -        -        -        -        -        -        -       -          -
WATCH_COVERED      -        -      -      -      -      -      -        -        cert     cert     -        -        cert    -          -
WATCH_UNCOVERED    -        -      -      -      -      -      -        -        unknown  unknown  -        -        unknown -          -
RECEIPT_OVERDUE    -        -      -      -      -      -      $        -        -        -        -        -        -       -          -
RECEIPT_PROVEN     over     over   over   over   over   over   over     over     over     over     over     over     over    over       over
CANCEL             X        no     no     no     no     no     no       no       no       no       no       own      no      no         no
SIBLING_PAID       X        block  block  block  block  block  -        -        -        -        -        -        -       -          -
REFUND_REQUESTED   no       no     no     no     no     no     no       RG       no       no       no       no       no      own        own
REFUND_BY_CASE     no       no     no     no     no     RG     no       RG       no       no       no       no       no      own        own
REFUND_DONE        $        $      $      $      $      RD     RD+case  RD+case  $        $        $        $        $       RD         -
REFUND_FAILED      case     case   case   case   case   case   case     case     case     case     case     case     case    back+case  case
CASE_ACCEPTED      -        -      -      -      -      K      -        -        -        -        -        -        -       -          -
"""  # noqa: E501 -- a table is read by its columns

HEADINGS = {
    "C": Standing.CREATED,
    "S": Standing.SENDING,
    "P": Standing.PROMPTED,
    "U0": Standing.UNCERTAIN_NO_RESULT,
    "U1": Standing.UNCERTAIN_RESULT_SEEN,
    "UR": Standing.UNDER_REVIEW,
    "K0": Standing.RECEIPT_PENDING,
    "K": Standing.COMPLETED,
    "F0": Standing.FAILED_BY_QUERY,
    "X0": Standing.CANCELLED_BY_QUERY,
    "F": Standing.FAILED,
    "X": Standing.CANCELLED,
    "E": Standing.EXPIRED,
    "RG": Standing.REFUNDING,
    "RD": Standing.REFUNDED,
}
"""The columns by their headings: short ones, so that the whole table can be seen at once."""


def _parsed(table: str) -> Mapping[Finding, Mapping[Standing, str]]:
    header, *rows = (line.split() for line in table.strip().splitlines())
    columns = [HEADINGS[heading] for heading in header]
    return {Finding[name]: dict(zip(columns, cells, strict=True)) for name, *cells in rows}


TABLE = _parsed(_TABLE)
"""The cell for every finding and standing; total, which a test proves."""

_CASE_OF: Mapping[Finding, CaseKind] = {
    Finding.PROMPT_OTHERWISE: CaseKind.OTHER_PROMPT,
    Finding.PAID_NEW_RECEIPT: CaseKind.SECOND_RECEIPT,
    Finding.QUERY_PAID: CaseKind.PAID_AFTER_END,
    Finding.WRONG_AMOUNT: CaseKind.WRONG_AMOUNT,
    Finding.FOREIGN_PAID: CaseKind.FOREIGN_IDS,
    Finding.FOREIGN_OTHER: CaseKind.FOREIGN_IDS,
    Finding.PAID_IN_DOUBT: CaseKind.UNCLAIMED_MONEY,
    Finding.UNREAD_BODY: CaseKind.UNREAD_CALLBACK,
    Finding.WATCH_UNCOVERED: CaseKind.OUTCOME_UNKNOWN,
    Finding.RECEIPT_OVERDUE: CaseKind.RECEIPT_OVERDUE,
    Finding.REFUND_DONE: CaseKind.REFUND,
    Finding.REFUND_FAILED: CaseKind.REFUND,
}

_UNBOUND = frozenset({Finding.FOREIGN_PAID, Finding.FOREIGN_OTHER, Finding.PROMPT_OTHERWISE})
"""Findings whose ids are not this payment's and must not be recorded on it."""

_UNPAID = frozenset({Finding.FINAL_FAILURE, Finding.FAILURE_QUERIED, Finding.UNCERTAIN_CODE, Finding.UNCERTAIN_AGREED})
"""Findings that nothing was paid so far: from a query that was asked after the prompt, evidence."""

_PROVING = frozenset({Finding.PAID_NEW_RECEIPT, Finding.WRONG_AMOUNT})
"""Findings that prove a receipt to be of a prompt of this payment."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying one fact led to. `payment` is the row as it is now; `refused` changed nothing."""

    payment: Payment
    case: Case | None = None
    refused: bool = False
    ended: tuple[OpenCase, ...] = ()
    """Cases of the payment that the fact has ended by its proof."""

    def changed(self, before: Payment) -> bool:
        """Whether an event is due: something other than the recorded ids has changed."""
        return self.payment.version != before.version


def apply(payment: Payment, fact: Fact, around: Surroundings, now: datetime, times: Times) -> Outcome:
    """What follows from a fact. The same fact must not be applied twice: the caller drops known ids."""
    row, column = finding(payment, fact, around, now, times), standing(payment)
    cell = TABLE[row][column]
    if cell == "no" or (cell == "own" and not _done_before(payment, fact)):
        return Outcome(payment, refused=True)
    if cell == "-" and not _ended_cases(payment, row, fact, around):
        return Outcome(payment)
    target, _, mark = cell.partition("+")
    case = _case(row, column, mark or target, payment, fact)
    after = payment if row in _UNBOUND or cell == "-" else _with_ids(payment, fact)
    after = _moved(after, target, fact, now, times)
    sibling_paid = not after.blocks_booking if after.state in LIVE_STATES else payment.reason is Reason.SIBLING_PAID
    if sibling_paid and after.state not in PAID_STATES and after.reason not in UNDER_REVIEW | {Reason.WITHDRAWN}:
        # The prompt may still be on the phone, and nobody must pay, now or by another attempt, for what is paid.
        after = after.but(reason=Reason.SIBLING_PAID)
    if row in _UNPAID:
        after = _with_evidence(after, fact, now, times)
    if after.state is State.COMPLETED and payment.state is not State.COMPLETED:
        arrival = _money_case_on_arrival(after, around)
        if arrival is not None:
            case, after = arrival, after.but(reason=_REASON_OF_ARRIVAL[arrival.kind])
    ended = _ended_cases(after, row, fact, around)
    after = _held(after, case, ended, around)
    after = decided(payment, after, around, now, times)
    if case is not None and _is_query(fact) and after.state is payment.state:
        # A person looks now; asked again, Safaricom would only open the same case again.
        after = after.but(query_at=None)
    return Outcome(after, case, ended=ended)


def _done_before(payment: Payment, fact: Fact) -> bool:
    """A withdrawal is repeatable; a refund is the same only by its own id, which is dropped as known."""
    return not isinstance(fact, RefundRequested) and payment.reason is Reason.WITHDRAWN


def _case(row: Finding, column: Standing, mark: str, payment: Payment, fact: Fact) -> Case | None:
    match mark:
        case "$":
            return Case(_CASE_OF[row], is_money=True)
        case "case" if row in (Finding.PAID_NEW_RECEIPT, Finding.PAID_NO_RECEIPT):
            return Case(CaseKind.PAID_AFTER_FAILURE, is_money=False)
        case "case" | "unread" | "unknown":
            return Case(_CASE_OF.get(row, CaseKind.CONTRADICTION), is_money=False)
        case "differs" | "agrees" if isinstance(fact, ResultReported):
            return None if _said_before(payment, fact) else Case(CaseKind.CONTRADICTION, is_money=False)
        case _:
            return None


def _said_before(payment: Payment, fact: ResultReported) -> bool:
    ended_so = State.CANCELLED if fact.verdict is Verdict.CANCELLED else State.FAILED
    return ended_so is payment.state and fact.code == payment.result_code


def _ended_cases(after: Payment, row: Finding, fact: Fact, around: Surroundings) -> tuple[OpenCase, ...]:
    receipt = fact.receipt if isinstance(fact, ResultReported) and row in _PROVING else None
    return tuple(case for case in around.open_cases if ends_by_itself(case, after, fact, receipt))


def _held(after: Payment, opened: Case | None, ended: tuple[OpenCase, ...], around: Surroundings) -> Payment:
    """The payment with what its open cases hold back; a bar ends with the last case that made it."""
    left = [case for case in around.open_cases if case not in ended]
    if any(case.is_money for case in ended):
        after = after.but(money_case_open=any(case.is_money for case in left))
    if any(case.kind is CaseKind.UNREAD_CALLBACK for case in ended):
        after = after.but(unread_callback=any(case.kind is CaseKind.UNREAD_CALLBACK for case in left))
    if opened is not None and opened.is_money:
        after = after.but(money_case_open=True)
    return after


def _with_evidence(payment: Payment, fact: Fact, now: datetime, times: Times) -> Payment:
    settled = payment.state in PAID_STATES or payment.unpaid_proof is not None
    if not isinstance(fact, ResultReported) or settled or payment.unpaid_seen_at is not None:
        return payment
    if not asked_after_prompt(payment, fact, now, times):
        return payment
    return payment.but(unpaid_seen_at=fact.asked_at or now)


def _money_case_on_arrival(after: Payment, around: Surroundings) -> Case | None:
    """Money has just arrived: is it one too many for the booking, or too late for its hold?"""
    if duplicate(around):
        return Case(CaseKind.DUPLICATE_PAYMENT, is_money=True)
    if late(after):
        return Case(CaseKind.LATE_PAYMENT, is_money=True)
    return None


_REASON_OF_ARRIVAL = {CaseKind.DUPLICATE_PAYMENT: Reason.PAID_TWICE, CaseKind.LATE_PAYMENT: Reason.PAID_LATE}


def _with_ids(payment: Payment, fact: Fact) -> Payment:
    if not isinstance(fact, PromptAccepted | ResultReported):
        return payment
    return payment.but(
        checkout_request_id=payment.checkout_request_id or fact.checkout_request_id,
        merchant_request_id=payment.merchant_request_id or fact.merchant_request_id,
    )


def _moved(payment: Payment, target: str, fact: Fact, now: datetime, times: Times) -> Payment:
    """The payment with the cell's own effect; what follows from it is `decisions`' part."""
    # Evidence of a prompt dates the send, even where no claim of ours does.
    sent_at = payment.sent_at or now
    match target:
        case "-" | "ids" | "case" | "$" | "differs" | "seen" | "over" | "own":
            return payment
        case "S" if isinstance(fact, SendClaimed):
            return payment.but(
                state=State.SENDING,
                claim_id=fact.claim_id,
                sent_at=now,
                lease_expires_at=now + times.lease,
                expires_at=now + times.expire_after,
            )
        case "C" if isinstance(fact, NotSent):
            wait = times.send_backoff * 2**payment.not_sent_count
            return payment.but(
                state=State.CREATED,
                sent_at=None,
                lease_expires_at=None,
                not_sent_count=payment.not_sent_count + 1,
                send_at=now + wait,
            )
        case "P":
            return payment.but(state=State.PROMPTED, reason=Reason.AWAITING_CUSTOMER, sent_at=sent_at)
        case "U0":
            return payment.but(state=State.UNCERTAIN, reason=Reason.CONFIRMING, sent_at=sent_at)
        case "U1":
            code = fact.code if isinstance(fact, ResultReported) else payment.result_code
            seen = payment.but(result_code=code, result_seen=True, sent_at=sent_at)
            return seen.but(state=State.UNCERTAIN, reason=Reason.CONFIRMING)
        case "UR":
            return payment.but(state=State.UNCERTAIN, reason=Reason.AMOUNT_DIFFERS, result_seen=True, sent_at=sent_at)
        case "K" | "receipt" | "second":
            return _paid(payment, target, fact, now, times)
        case "F" | "X" | "F|X" | "F0|X0" | "E":
            return _ended(payment, target, fact)
        case "agrees" if isinstance(fact, ResultReported) and not _said_before(payment, fact):
            return payment
        case "cert" | "agrees":
            return payment.but(unpaid_proof=_proof(payment, fact))
        case "unread":
            return payment.but(unread_callback=True)
        case "unknown":
            return payment.but(due_at=None, query_at=None)
        case "block":
            return payment.but(blocks_booking=False)
        case "RG":
            return payment.but(state=State.REFUNDING)
        case "RD":
            return payment.but(state=State.REFUNDED, reason=None)
        case "back":
            paid = payment.completed_at is not None
            return payment.but(state=State.COMPLETED if paid else State.UNCERTAIN)
        case _:
            raise AssertionError(f"no such cell in the table: {target} for {type(fact).__name__}")


def _is_query(fact: Fact) -> bool:
    return isinstance(fact, ResultReported) and fact.source is Source.QUERY


def _paid(payment: Payment, target: str, fact: Fact, now: datetime, times: Times) -> Payment:
    asked_at = (fact.asked_at if isinstance(fact, ResultReported) else None) or now
    known_at = fact.known_at(now) if isinstance(fact, ResultReported) else now
    if target == "second":
        first = payment.paid_seen_at or asked_at
        confirmed = payment.paid_seen_at is not None and asked_at >= first + times.second_look_after
        return payment.but(paid_seen_at=first, paid_twice=payment.paid_twice or confirmed)
    queried = _is_query(fact)
    # The answer to a query proves no receipt: it comes without the amount that would have to be right.
    receipt = fact.receipt if isinstance(fact, ResultReported | CaseAccepted) and not queried else None
    transaction_at = fact.transaction_at if isinstance(fact, ResultReported) else None
    return payment.but(
        state=State.COMPLETED,
        reason=_reason_when_paid(payment, receipt),
        result_code=fact.code if isinstance(fact, ResultReported) else payment.result_code,
        receipt=receipt,
        transaction_at=transaction_at or payment.transaction_at,
        paid_late=payment.paid_late or payment.state in (State.FAILED, State.CANCELLED, State.EXPIRED),
        completed_at=payment.completed_at or max(known_at, payment.created_at),
        paid_seen_at=asked_at if queried else payment.paid_seen_at,
        result_seen=True,
    )


def _reason_when_paid(payment: Payment, receipt: str | None) -> Reason | None:
    usual = None if receipt else Reason.RECEIPT_PENDING
    return payment.reason if payment.reason in _REASON_OF_ARRIVAL.values() else usual


def _ended(payment: Payment, target: str, fact: Fact) -> Payment:
    state: State
    reason: Reason | None
    code: str | None
    match fact:
        case ResultReported() if target in ("F|X", "F0|X0"):
            cancelled = fact.verdict is Verdict.CANCELLED
            state, reason, code = (State.CANCELLED if cancelled else State.FAILED), fact.reason, fact.code
        case PromptRefused():
            state, reason, code = State.FAILED, fact.reason, fact.code
        case NotSent():
            state, reason, code = State.FAILED, Reason.NOT_SENT, fact.code
        case _ if target == "X":
            state, reason, code = State.CANCELLED, Reason.WITHDRAWN, payment.result_code
        case _ if target == "F":
            state, reason, code = State.FAILED, Reason.NOT_SENT, payment.result_code
        case _:
            state, reason, code = State.EXPIRED, Reason.NO_ANSWER, payment.result_code
    proof = None if target in ("F0|X0", "E") else _proof(payment, fact)
    return payment.but(state=state, reason=reason, result_code=code, unpaid_proof=proof)


def _proof(payment: Payment, fact: Fact) -> UnpaidProof:
    match fact:
        case ResultReported():
            return UnpaidProof.QUERY if fact.source is Source.QUERY else UnpaidProof.RESULT
        case WatchEnded():
            return UnpaidProof.BOOKS if payment.unpaid_seen_at is None else UnpaidProof.QUERY
        case _:
            return UnpaidProof.NO_PROMPT
