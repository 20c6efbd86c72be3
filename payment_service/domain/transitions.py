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
* Whoever has learned a callback's URL can tell of money. Another source has to tell of it as well: until one does, what
  contradicts it is a case about money, and at its time a person looks.
* Money that went back is no payment any more, whoever sent it back: nobody travels on it in silence.
* Contradictions change no state. They open a case, and a person looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from payment_service.domain.case_facts import CaseAccepted, CaseReturned, CaseSettled
from payment_service.domain.cases import OWN_MONEY, Case, CaseKind, OpenCase, ends_by_itself
from payment_service.domain.decisions import certain_by_now, decided, duplicate, late, money_sure
from payment_service.domain.effects import is_query, moved, paid_by_hand, said_before, with_evidence, with_ids
from payment_service.domain.facts import Fact, RefundRequested, ResultReported
from payment_service.domain.finding import Finding, Surroundings
from payment_service.domain.findings import finding
from payment_service.domain.payment import LIVE_STATES, PAID_STATES, Payment, State, Times
from payment_service.domain.reasons import UNDER_REVIEW, Reason
from payment_service.domain.standings import Standing, standing

# One word per cell:
#   -          nothing happens            ids     only the provider's ids are recorded
#   C S P U0 U1 UR K F0 X0 E RG RD        go to that standing (`HEADINGS`); K is KC while only a callback has told it
#   F|X        failed or cancelled, as the code says; F0|X0 the same, as only a query says
#   case $     the state stays; a case, or a case about money, is opened
#   A+case A+$ go to A and open one; none about a failure, where the money moved only after it
#   cert       it is proven that nothing was paid
#   agrees     cert, if the same was said before; otherwise a case
#   differs    a case, unless the same was said before
#   seen       a query found nothing paid: evidence, which counts when the watch ends
#   unread     a case; until it is settled, no end without money is certain
#   unknown    a case; the watch is over, and the end stays uncertain
#   receipt    the receipt number is recorded
#   second     a second answer "paid", some time after the first, is as good as a receipt
#   backed     another source tells of the money, too
#   doubt      a money case: no other source tells of the money
#   refuted    go to KR; the case that an operator has settled ends, and with it the booking's claim to the seat
#   over       the payment's own case about that receipt ends
#   settled    the case that an operator has settled ends
#   told       nothing of the payment changes, and whoever follows it hears of its receipt
#   block      the booking is no longer blocked by this payment
#   beside     the payment is told of a refund of other money than its own, and stays as it is
#   back       return from REFUNDING to the state before
#   no         the one who asked is refused
#   own        nothing when it was done before by the same request, otherwise no
_TABLE = """
                    C       S       P       U0      U1      UR      K0      KC        K         KR      F0      X0      F       X       E       RG        RD
CLAIM               S       no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
CLAIM_BARRED        no      no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
PROMPT_ACCEPTED     U0+case P       -       P       ids     ids     ids     ids       ids       ids     ids     ids     ids     ids     ids     ids       ids
PROMPT_OTHERWISE    $       $       $       $       $       $       $       $         $         $       $       $       $       $       $       $         $
PROMPT_REFUSED      case    F       case    F       case    case    case    case      case      case    cert    cert    -       -       cert    case      case
NOT_SENT            -       C       case    F       case    case    case    case      case      case    cert    cert    -       -       cert    case      case
NOT_SENT_TOO_OFTEN  -       F       case    F       case    case    case    case      case      case    cert    cert    -       -       cert    case      case
ANSWER_LOST         -       U0      -       -       -       -       -       -         -         -       -       -       -       -       -       -         -
PAID_KNOWN_RECEIPT  -       -       -       -       -       -       -       -         -         -       -       -       -       -       -       -         -
PAID_LISTED         -       -       -       -       -       -       -       backed    -         backed  -       -       -       -       -       -         -
PAID_NEW_RECEIPT    K       K       K       K       K       K       receipt $         $         $       K       K       K+case  K+case  K       $         $
PAID_NO_RECEIPT     K       K       K       K       K       -       -       -         -         -       K       K       K+case  K+case  K       -         -
QUERY_PAID          -       -       K       K       K       -       second  backed    -         backed  K       K       $       $       K       -         -
FINAL_FAILURE       U1      F|X     F|X     F|X     F|X     -       case    doubt     case      -       agrees  agrees  differs differs cert    case      case
FAILURE_QUERIED     U1      F0|X0   F0|X0   F0|X0   F0|X0   -       case    doubt     case      -       differs differs differs differs -       case      case
UNCERTAIN_CODE      U1      U1      U1      U1      seen    -       case    doubt     case      -       seen    seen    -       -       seen    case      case
UNCERTAIN_AGREED    U1      U1      U1      U1      E       -       case    doubt     case      -       seen    seen    -       -       seen    case      case
UNKNOWN_CODE        U1      U1      U1      U1      -       -       -       -         -         -       -       -       -       -       -       -         -
WRONG_AMOUNT        UR+$    UR+$    UR+$    UR+$    UR+$    $       $       $         $         $       $       $       $       $       $       $         $
FOREIGN_PAID        U1+$    $       $       $       $       $       $       $         $         $       $       $       $       $       $       $         $
PAID_IN_DOUBT       $       $       $       $       $       $       $       $         $         $       $       $       $       $       $       $         $
FOREIGN_OTHER       U1+case case    case    case    case    case    case    case      case      case    case    case    case    case    case    case      case
UNREAD_BODY         unread  unread  unread  unread  unread  unread  unread  -         -         unread  unread  unread  unread  unread  unread  -         -
NO_NEWS             -       -       -       -       -       -       -       -         -         -       -       -       -       -       -       -         -
DEADLINE            F       -       E       E       E       -       -       -         -         -       -       -       -       -       -       -         -
WATCH_COVERED       -       -       -       -       -       -       -       -         -         -       cert    cert    -       -       cert    -         -
WATCH_UNCOVERED     -       -       -       -       -       -       -       -         -         -       unknown unknown -       -       unknown -         -
RECEIPT_OVERDUE     -       -       -       -       -       -       $       -         -         -       -       -       -       -       -       -         -
BACKING_OVERDUE     -       -       -       -       -       -       -       doubt     -         -       -       -       -       -       -       -         -
RECEIPT_PROVEN      over    over    over    over    over    over    over    over      over      over    over    over    over    over    over    over      over
CANCEL              X       no      no      no      no      no      no      no        no        no      no      no      no      own     no      no        no
SIBLING_PAID        X       block   block   block   block   block   -       -         -         -       -       -       -       -       -       -         -
REFUND_REQUESTED    no      no      no      no      no      no      no      RG        RG        no      no      no      no      no      no      own       own
REFUND_BY_CASE      no      no      no      no      no      RG      no      RG        RG        no      no      no      no      no      no      own       own
REFUND_PART_ASKED   no      no      no      no      no      no      no      part      part      no      no      no      no      no      no      own       own
BESIDE_ASKED        no      no      no      no      no      no      no      beside    beside    beside  no      no      no      no      no      beside    beside
REFUND_DONE         $       $       $       $       $       RD      RD+case RD+case   RD+case   RD+case $       $       $       $       $       RD        -
REFUND_PART_DONE    $       $       $       $       $       $       $       part      part      part+$  $       $       $       $       $       part      part+$
REFUND_REST_DONE    $       $       $       $       $       $       $       RD        RD        part+$  $       $       $       $       $       part      part+$
BESIDE_DONE         $       $       $       $       $       $       $       beside    beside    beside  $       $       $       $       $       beside    beside
REFUND_FAILED       case    case    case    case    case    case    case    case      case      case    case    case    case    case    case    back+case case
RETURN_FAILED       case    case    case    case    case    case    case    case      case      case    case    case    case    case    case    back      case
REFUND_PART_FAILED  case    case    case    case    case    case    case    part+case part+case part    case    case    case    case    case    case      part+case
RETURN_PART_FAILED  case    case    case    case    case    case    case    part      part      part    case    case    case    case    case    case      part
BESIDE_FAILED       case    case    case    case    case    case    case    beside+case beside+case beside+case case case case  case    case    beside+case beside+case
BESIDE_NOT_RETURNED case    case    case    case    case    case    case    beside    beside    beside  case    case    case    case    case    beside    beside
REFUND_UNCLEAR      case    case    case    case    case    case    case    case      case      case    case    case    case    case    case    case      case
REFUND_OVERPAID     $       $       $       $       $       $       $       $         $         $       $       $       $       $       $       $         $
TAKEN_BACK          $       $       $       $       $       RD+$    RD+$    RD+$      RD+$      RD+$    $       $       $       $       $       -         -
TAKEN_BACK_IN_DOUBT $       $       $       $       $       $       $       $         $         $       $       $       $       $       $       -         -
RECEIPT_DUE         -       -       -       -       -       -       -       told      told      told    -       -       -       -       -       told      told
CASE_ACCEPTED       K       K       K       K       K       K       receipt no        no        no      K       K       K       K       K       no        no
OWN_ACCEPTED        no      no      no      no      no      no      settled settled   settled   no      no      no      no      no      no      no        no
ACCEPTED_ANOTHERS   no      no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
ACCEPTED_BESIDE     no      no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
ACCEPTED_FREED      no      no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
ACCEPTED_UNNAMED    no      no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
BACKED_BY_PERSON    no      no      no      no      no      no      no      backed    no        no      no      no      no      no      no      no        no
CASE_DISMISSED      settled settled settled settled settled settled settled settled   settled   settled settled settled settled settled settled settled   settled
DISMISSED_UNPAID    settled settled settled settled settled settled settled settled   settled   settled cert    cert    cert    cert    cert    settled   settled
DISMISSED_UNBACKED  settled settled settled settled settled settled settled refuted   settled   settled settled settled settled settled settled settled   settled
DISMISSED_OWN       no      no      no      no      no      no      no      no        no        no      no      no      no      no      no      no        no
"""  # noqa: E501 -- a table is read by its columns

HEADINGS = {
    "C": Standing.CREATED,
    "S": Standing.SENDING,
    "P": Standing.PROMPTED,
    "U0": Standing.UNCERTAIN_NO_RESULT,
    "U1": Standing.UNCERTAIN_RESULT_SEEN,
    "UR": Standing.UNDER_REVIEW,
    "K0": Standing.RECEIPT_PENDING,
    "KC": Standing.COMPLETED_BY_CALLBACK,
    "K": Standing.COMPLETED,
    "KR": Standing.REFUTED,
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
    **{row: CaseKind.REFUND for row in Finding if row.name.startswith(("REFUND_", "RETURN_", "BESIDE_"))},
    Finding.TAKEN_BACK: CaseKind.TAKEN_BACK,
    Finding.TAKEN_BACK_IN_DOUBT: CaseKind.TAKEN_BACK,
}

_REASON_OF_CASE: Mapping[str, Reason] = {
    CaseKind.FOREIGN_IDS: Reason.IDS_DIFFER,
    CaseKind.OTHER_PROMPT: Reason.IDS_DIFFER,
    CaseKind.UNCLAIMED_MONEY: Reason.MONEY_IN_DOUBT,
    CaseKind.PAID_AFTER_END: Reason.MONEY_IN_DOUBT,
    CaseKind.REFUND: Reason.MONEY_IN_DOUBT,
    CaseKind.TAKEN_BACK: Reason.MONEY_IN_DOUBT,
    CaseKind.WRONG_AMOUNT: Reason.AMOUNT_DIFFERS,
    CaseKind.SECOND_RECEIPT: Reason.PAID_TWICE,
    CaseKind.DUPLICATE_PAYMENT: Reason.PAID_TWICE,
    CaseKind.LATE_PAYMENT: Reason.PAID_LATE,
    CaseKind.RECEIPT_OVERDUE: Reason.RECEIPT_OVERDUE,
    CaseKind.UNBACKED_MONEY: Reason.MONEY_IN_DOUBT,
}
"""What a caller reads while a case about money is open, by its kind. The oldest one speaks."""

_UNBOUND = frozenset({Finding.FOREIGN_PAID, Finding.FOREIGN_OTHER, Finding.PROMPT_OTHERWISE})
"""Findings whose ids are not this payment's and must not be recorded on it."""

_UNPAID = frozenset({Finding.FINAL_FAILURE, Finding.FAILURE_QUERIED, Finding.UNCERTAIN_CODE, Finding.UNCERTAIN_AGREED})
"""Findings that nothing was paid so far: from a query that was asked after the prompt, evidence."""

_PROVING = frozenset({Finding.PAID_NEW_RECEIPT, Finding.WRONG_AMOUNT, Finding.CASE_ACCEPTED})
"""Findings that prove a receipt to be of a prompt of this payment."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying one fact led to. `payment` is the row as it is now; `refused` changed nothing."""

    payment: Payment
    case: Case | None = None
    refused: bool = False
    row: Finding | None = None
    """What the fact was found to say: why it is refused, where it is. None where it was known before."""
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
        return Outcome(payment, refused=True, row=row)
    if cell == "-" and not _ended_cases(payment, row, fact, around) and not certain_by_now(payment, around):
        return Outcome(payment, row=row)
    target, _, mark = cell.partition("+")
    case = _case(row, column, mark or target, payment, fact)
    after = payment if row in _UNBOUND or cell == "-" else with_ids(payment, fact)
    after = moved(after, target, fact, now, times)
    lost_block = row is Finding.SIBLING_PAID or (after.state in LIVE_STATES and not after.blocks_booking)
    sibling_paid = lost_block or payment.reason is Reason.SIBLING_PAID
    if sibling_paid and after.state not in PAID_STATES and after.reason not in UNDER_REVIEW:
        # The prompt may still be on the phone, and nobody must pay, now or by another attempt, for what is paid.
        after = after.but(reason=Reason.SIBLING_PAID)
    if row in _UNPAID:
        after = with_evidence(after, fact, now, times)
    if after.state is State.COMPLETED:
        case = _money_case_on_arrival(payment, after, fact, around) or case
    ended = _ended_cases(after, row, fact, around)
    after = _held(after, case, ended, around)
    after = decided(payment, after, around, now, times)
    if target == "told" and after.version == payment.version:
        versions = payment.receipt_versions + 1
        after = after.but(version=payment.version + 1, receipt_versions=versions, updated_at=now)
    if case is not None and is_query(fact) and after.state is payment.state:
        # A person looks now; asked again, Safaricom would only open the same case again.
        after = after.but(query_at=None)
    return Outcome(after, case, row=row, ended=ended)


def _done_before(payment: Payment, fact: Fact) -> bool:
    """A withdrawal is repeatable: what was cancelled and never sent. A refund is the same only by its own id, which is
    dropped as known."""
    return not isinstance(fact, RefundRequested | CaseReturned) and payment.sent_at is None


def _case(row: Finding, column: Standing, mark: str, payment: Payment, fact: Fact) -> Case | None:
    match mark:
        case "$":
            return Case(_CASE_OF[row], is_money=True)
        case "doubt":
            return Case(CaseKind.UNBACKED_MONEY, is_money=True)
        case "case" if row in (Finding.PAID_NEW_RECEIPT, Finding.PAID_NO_RECEIPT):
            return None if paid_by_hand(payment, fact) else Case(CaseKind.PAID_AFTER_FAILURE, is_money=False)
        case "case" | "unread" | "unknown":
            return Case(_CASE_OF.get(row, CaseKind.CONTRADICTION), is_money=False)
        case "differs" | "agrees" if isinstance(fact, ResultReported):
            return None if said_before(payment, fact) else Case(CaseKind.CONTRADICTION, is_money=False)
        case _:
            return None


def _ended_cases(after: Payment, row: Finding, fact: Fact, around: Surroundings) -> tuple[OpenCase, ...]:
    receipt = fact.receipt if isinstance(fact, ResultReported | CaseAccepted) and row in _PROVING else None
    settled = fact.opened_by if isinstance(fact, CaseSettled) else None
    return tuple(
        case for case in around.open_cases if case.fact_id == settled or ends_by_itself(case, after, fact, receipt)
    )


def _held(after: Payment, opened: Case | None, ended: tuple[OpenCase, ...], around: Surroundings) -> Payment:
    """The payment with what its open cases hold back; a bar ends with the last case that made it."""
    left = [case for case in around.open_cases if case not in ended]
    if any(case.is_money for case in ended):
        about_money = [case for case in left if case.is_money]
        reason = _REASON_OF_CASE.get(about_money[0].kind) if about_money else None
        after = after.but(money_case_open=bool(about_money), review_reason=reason)
    if any(case.kind == CaseKind.UNREAD_CALLBACK for case in ended):
        after = after.but(unread_callback=any(case.kind == CaseKind.UNREAD_CALLBACK for case in left))
    if opened is not None and opened.is_money:
        reason = after.review_reason if after.money_case_open else _REASON_OF_CASE[opened.kind]
        after = after.but(money_case_open=True, review_reason=reason)
    return after


def _money_case_on_arrival(before: Payment, after: Payment, fact: Fact, around: Surroundings) -> Case | None:
    """Money has just arrived: is it one too many for the booking, or too late for its hold?

    An operator who accepts money knows that it is late. Another attempt may confirm the booking while the money waits
    for its receipt: then nobody has decided about what is one too many now.
    """
    if before.refuted:
        # Its seat was given up, so nobody travels on the money that is found after all.
        one_too_many = duplicate(around)
        kind = CaseKind.DUPLICATE_PAYMENT if one_too_many else CaseKind.LATE_PAYMENT
        return None if after.refuted else Case(kind, is_money=True)
    if before.state in (State.COMPLETED, State.REFUNDING):
        named = money_sure(after) and not money_sure(before)
        looked_at = any(case.kind in OWN_MONEY for case in around.open_cases)
        beside = any(sibling.said_confirm for sibling in around.siblings)
        too_many = named and beside and not looked_at and not after.said_confirm
        return Case(CaseKind.DUPLICATE_PAYMENT, is_money=True) if too_many else None
    if duplicate(around):
        return Case(CaseKind.DUPLICATE_PAYMENT, is_money=True)
    if late(after) and not isinstance(fact, CaseAccepted):
        return Case(CaseKind.LATE_PAYMENT, is_money=True)
    return None
