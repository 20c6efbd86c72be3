"""Every cell of the transition table, told in facts and read off the outcome.

The expectations are written a second time here, cell by cell and in other
words than the table's own, so that a slip in either shows. No test reads the
table to learn what to expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from uuid import UUID

import pytest

from payment_service.domain.cases import CaseKind
from payment_service.domain.facts import (
    UNREADABLE,
    AnswerLost,
    BackingOverdue,
    CancelRequested,
    DeadlinePassed,
    Fact,
    LeaseDead,
    ReceiptDue,
    ReceiptOverdue,
    RefundInDoubt,
    RefundRequested,
    SendClaimed,
    SiblingPaid,
    Source,
    Unreadable,
    Verdict,
    WatchEnded,
)
from payment_service.domain.finding import Finding, Surroundings
from payment_service.domain.findings import finding
from payment_service.domain.payment import Payment, State
from payment_service.domain.query_schedule import worth_asking
from payment_service.domain.reasons import Reason
from payment_service.domain.refund_ends import RefundDone, RefundFailed
from payment_service.domain.standings import Standing, standing
from payment_service.domain.transitions import HEADINGS, TABLE
from tests.cells import try_each
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, CLAIM, ODD_RECEIPT, OTHER_ID, OTHER_RECEIPT, RECEIPT, REFUND, START, TIMES

C, S, P, U0, U1, UR, K0, KC, K, KR, F0, X0, F, X, E, RG, RD = Standing


@dataclass(frozen=True)
class Expected:
    """What one cell promises."""

    to: Standing | None = None
    case: CaseKind | None = None
    money: bool = False
    refused: bool = False
    certain: bool = False
    block_lost: bool = False
    ids: bool = False
    doubted: bool = False
    """What was certain is so no more."""
    told: bool = False
    """The payment stands as it did, and tells of a refund."""
    backed: bool = False
    """Another source tells of the money, which no caller has to hear of."""


NOTHING = Expected()
IDS = Expected(ids=True)
REFUSED = Expected(refused=True)
PART = Expected(told=True)
PART_TOO_MANY = Expected(case=CaseKind.REFUND, money=True, told=True)
CERTAIN = Expected(certain=True)
BLOCK_LOST = Expected(block_lost=True)
BACKED = Expected(to=K, backed=True)
FOUND = Expected(to=K, case=CaseKind.LATE_PAYMENT, money=True)
DOUBT = Expected(case=CaseKind.UNBACKED_MONEY, money=True)


def go(to: Standing, case: CaseKind | None = None, *, money: bool = False) -> Expected:
    return Expected(to, case, money)


def case(kind: CaseKind = CaseKind.CONTRADICTION) -> Expected:
    return Expected(case=kind)


def money(kind: CaseKind) -> Expected:
    return Expected(case=kind, money=True)


@dataclass(frozen=True)
class Row:
    """One row of the table: a fact, and what it leads to from every standing."""

    name: str
    fact: Callable[[Payment], Fact]
    cells: Mapping[Standing, Expected]
    after: float = 5
    """Seconds after the payment's latest change."""
    receipt_holder: UUID | None = None
    checkout_holder: UUID | None = None


def row(
    name: str,
    fact: Fact | Callable[[Payment], Fact],
    *cells: tuple[tuple[Standing, ...], Expected],
    after: float = 5,
    receipt_holder: UUID | None = None,
    checkout_holder: UUID | None = None,
) -> Row:
    by_standing = {column: expected for columns, expected in cells for column in columns}
    assert len(by_standing) == sum(len(columns) for columns, _ in cells), name
    # What only a callback told is as good as any other money, where nothing else is said.
    by_standing.setdefault(KC, by_standing[K])
    by_standing.setdefault(KR, by_standing[K])
    assert len(by_standing) == len(Standing), name
    told = fact if callable(fact) else lambda _: fact
    return Row(name, told, by_standing, after, receipt_holder, checkout_holder)


EVERYWHERE = tuple(Standing)


def all_but(*columns: Standing) -> tuple[Standing, ...]:
    """The others; what only a callback told goes with all other money, whether it came or not."""
    return tuple(one for one in Standing if one not in columns and not (one in (KC, KR) and K in columns))


LATE_CASE = CaseKind.PAID_AFTER_FAILURE
AN_HOUR, TWO_DAYS = 3_600.0, 48 * 3_600.0

SEND_ROWS = [
    row("a claim to send", SendClaimed(UUID(int=9)), ((C,), go(S)), (EVERYWHERE[1:], REFUSED)),
    row("a claim that comes too late", SendClaimed(UUID(int=9)), (EVERYWHERE, REFUSED), after=20),
    row("a claim that comes much too late", SendClaimed(UUID(int=9)), (EVERYWHERE, REFUSED), after=TWO_DAYS),
    row(
        "push accepted",
        scenes.accepted(),
        ((C,), go(U0, CaseKind.CONTRADICTION)),
        ((S, U0), go(P)),
        ((P,), NOTHING),
        ((U1, UR, K0, K, F0, X0, F, X, E, RG, RD), IDS),
    ),
    row(
        "push accepted, with other ids than recorded",
        scenes.accepted(checkout="checkout-9"),
        ((C,), go(U0, CaseKind.CONTRADICTION)),
        ((S,), go(P)),
        ((U0,), go(P)),
        (all_but(C, S, U0), money(CaseKind.OTHER_PROMPT)),
    ),
    row(
        "push accepted, with an id that another payment has",
        scenes.accepted(),
        (EVERYWHERE, money(CaseKind.OTHER_PROMPT)),
        checkout_holder=OTHER_ID,
    ),
    row(
        "push refused",
        scenes.refused(),
        ((C, P, U1, UR, K0, K, RG, RD), case()),
        ((S, U0), go(F)),
        ((F, X), NOTHING),
        ((F0,), go(F)),
        ((X0,), go(X)),
        ((E,), CERTAIN),
    ),
    row(
        "push not sent",
        scenes.not_sent(),
        ((C, F, X), NOTHING),
        ((S,), go(C)),
        ((U0,), go(F)),
        ((P, U1, UR, K0, K, RG, RD), case()),
        ((F0,), go(F)),
        ((X0,), go(X)),
        ((E,), CERTAIN),
    ),
    row("answer lost", AnswerLost(CLAIM), ((S,), go(U0)), ((C, *EVERYWHERE[2:]), NOTHING)),
    row("lease dead", LeaseDead(CLAIM), ((S,), go(U0)), ((C, *EVERYWHERE[2:]), NOTHING), after=45),
    row("lease said dead too early", LeaseDead(CLAIM), (EVERYWHERE, NOTHING), after=40),
    row("lease of another claim", LeaseDead(UUID(int=9)), (EVERYWHERE, NOTHING), after=45),
]

RESULT_ROWS = [
    row(
        "paid, a receipt already on this payment",
        scenes.paid(),
        (EVERYWHERE, NOTHING),
        receipt_holder=scenes.PAYMENT_ID,
    ),
    row(
        "paid, by a row of the books, with the receipt of this payment",
        scenes.pulled(),
        ((KR,), FOUND),
        (all_but(KC, KR), NOTHING),
        ((KC,), BACKED),
        receipt_holder=scenes.PAYMENT_ID,
    ),
    row(
        "paid, bound, new receipt",
        scenes.paid(OTHER_RECEIPT),
        ((C, S, P, U0, U1, UR, K0, F0, X0, E), go(KC)),
        ((K, RG, RD), money(CaseKind.SECOND_RECEIPT)),
        ((F, X), go(KC, LATE_CASE)),
    ),
    row(
        "paid, by a row of the books that names this payment alone",
        scenes.pulled(OTHER_RECEIPT),
        ((C, S, P, U0, U1, UR, K0, F0, X0, E), go(K)),
        ((K, RG, RD), money(CaseKind.SECOND_RECEIPT)),
        ((F, X), go(K, LATE_CASE)),
    ),
    row(
        "paid, by the status of a transaction of another conversation",
        scenes.status_paid("merchant-9", OTHER_RECEIPT),
        (EVERYWHERE, NOTHING),
    ),
    row("paid, by the status of some transaction", scenes.status_paid(None, OTHER_RECEIPT), (EVERYWHERE, NOTHING)),
    row(
        "paid, bound, neither amount nor ids",
        scenes.paid(OTHER_RECEIPT, None),
        ((C, S, P, U0, U1, UR, K0, F0, X0, E), go(KC)),
        ((K, RG, RD), money(CaseKind.SECOND_RECEIPT)),
        ((F, X), go(KC, LATE_CASE)),
    ),
    row(
        "paid, bound, no receipt",
        scenes.paid(None),
        ((C, S, P, U0, U1, F0, X0, E), go(K0)),
        ((UR, K0, K, RG, RD), NOTHING),
        ((F, X), go(K0, LATE_CASE)),
    ),
    row(
        "a query says paid",
        lambda payment: scenes.query_paid(payment.checkout_request_id),
        ((KR,), FOUND),
        ((C, S, UR, K, RG, RD), NOTHING),
        ((P, U0, U1, F0, X0, E), go(K0)),
        ((K0,), IDS),
        ((KC,), BACKED),
        ((F, X), money(CaseKind.PAID_AFTER_END)),
    ),
    row(
        "failed for good",
        scenes.failed(),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1, F0), go(F)),
        ((UR, F), NOTHING),
        ((K0, K, X0, X, RG, RD), case()),
        ((KC,), DOUBT),
        ((E,), CERTAIN),
    ),
    row(
        "failed for good, with another code",
        scenes.failed("2001"),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1), go(F)),
        ((UR,), NOTHING),
        ((K0, K, F0, X0, F, X, RG, RD), case()),
        ((KC,), DOUBT),
        ((E,), CERTAIN),
    ),
    row(
        "cancelled on the phone",
        scenes.cancelled(),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1, X0), go(X)),
        ((UR, X), NOTHING),
        ((K0, K, F0, F, RG, RD), case()),
        ((KC,), DOUBT),
        ((E,), CERTAIN),
    ),
    row(
        "failed, as a query says while the prompt may be open",
        scenes.queried(scenes.failed()),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1), go(F0)),
        ((UR, F0, F, E), NOTHING),
        ((K0, K, X0, X, RG, RD), case()),
        ((KC,), DOUBT),
    ),
    row(
        "cancelled, as a query says while the prompt may be open",
        scenes.queried(scenes.cancelled()),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1), go(X0)),
        ((UR, X0, X, E), NOTHING),
        ((K0, K, F0, F, RG, RD), case()),
        ((KC,), DOUBT),
    ),
    row(
        "failed, as a query says after the prompt",
        scenes.queried(scenes.failed()),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1), go(F0)),
        ((F0,), go(F)),
        ((UR, F), NOTHING),
        ((E,), CERTAIN),
        ((K0, K, X0, X, RG, RD), case()),
        ((KC,), DOUBT),
        after=180,
    ),
    row(
        "cancelled, as a query says after the prompt",
        scenes.queried(scenes.cancelled()),
        ((KR,), NOTHING),
        ((C,), go(U1)),
        ((S, P, U0, U1), go(X0)),
        ((X0,), go(X)),
        ((UR, X), NOTHING),
        ((E,), CERTAIN),
        ((K0, K, F0, F, RG, RD), case()),
        ((KC,), DOUBT),
        after=180,
    ),
    row(
        "a listed uncertain code",
        scenes.uncertain(),
        ((KR,), NOTHING),
        ((C, S, P, U0), go(U1)),
        ((U1, UR, F0, X0, F, X, E), NOTHING),
        ((K0, K, RG, RD), case()),
        ((KC,), DOUBT),
    ),
    row(
        "a listed uncertain code, by a late query that agrees with nothing",
        scenes.uncertain(source=Source.QUERY),
        ((KR,), NOTHING),
        ((C, S, P, U0), go(U1)),
        ((U1, UR, F0, X0, F, X), NOTHING),
        ((E,), IDS),
        ((K0, K, RG, RD), case()),
        ((KC,), DOUBT),
        after=70,
    ),
    row(
        "an unknown code",
        scenes.unknown("5"),
        ((C, S, P, U0), go(U1)),
        (all_but(C, S, P, U0), NOTHING),
    ),
    row(
        "a listed uncertain code, by a query after the prompt",
        scenes.queried(scenes.uncertain()),
        ((KR,), NOTHING),
        ((C, S, P, U0), go(U1)),
        ((U1, F0, X0, E), IDS),
        ((UR, F, X), NOTHING),
        ((K0, K, RG, RD), case()),
        ((KC,), DOUBT),
        after=180,
    ),
    *(
        row(
            name,
            scenes.paid(OTHER_RECEIPT, amount),
            ((C, S, P, U0, U1), go(UR, CaseKind.WRONG_AMOUNT, money=True)),
            (all_but(C, S, P, U0, U1), money(CaseKind.WRONG_AMOUNT)),
        )
        for name, amount in (("a wrong amount", scenes.AMOUNT - 1), ("an amount that is no amount", UNREADABLE))
    ),
    *(
        row(
            f"paid, but {name}",
            fact,
            ((C,), go(U1, CaseKind.FOREIGN_IDS, money=True)),
            (EVERYWHERE[1:], money(CaseKind.FOREIGN_IDS)),
            receipt_holder=receipt_holder,
            checkout_holder=checkout_holder,
        )
        for name, fact, receipt_holder, checkout_holder in (
            ("the receipt is another payment's", scenes.paid(OTHER_RECEIPT), OTHER_ID, None),
            ("the id is another payment's", scenes.paid(OTHER_RECEIPT, checkout="checkout-9"), None, OTHER_ID),
        )
    ),
    row(
        "money in the books that may be this payment's",
        scenes.pulled(OTHER_RECEIPT, in_doubt=True),
        (EVERYWHERE, money(CaseKind.UNCLAIMED_MONEY)),
    ),
    row(
        "money in doubt that is recorded on another payment by now",
        scenes.pulled(OTHER_RECEIPT, in_doubt=True),
        (EVERYWHERE, NOTHING),
        receipt_holder=OTHER_ID,
    ),
    *(
        row(
            f"{name}, for an id that is another payment's",
            scenes.result(verdict, code, checkout="checkout-9"),
            ((C,), go(U1, CaseKind.FOREIGN_IDS)),
            (EVERYWHERE[1:], case(CaseKind.FOREIGN_IDS)),
            checkout_holder=OTHER_ID,
        )
        for name, verdict, code in (
            ("failed", Verdict.FAILED, "1"),
            ("cancelled", Verdict.CANCELLED, "1032"),
            ("uncertain", Verdict.UNCERTAIN, "1037"),
            ("unknown", Verdict.UNKNOWN, "5"),
        )
    ),
    *(
        row(name, fact, (EVERYWHERE, NOTHING))
        for name, fact in (
            ("still processing", scenes.result(Verdict.STILL_PROCESSING, "4999")),
            ("still processing, with new ids", scenes.result(Verdict.STILL_PROCESSING, "4999", checkout="checkout-9")),
        )
    ),
    row(
        "a callback that cannot be read",
        Unreadable("unread:1", "not JSON"),
        ((C, S, P, U0, U1, UR, K0, F0, X0, E), case(CaseKind.UNREAD_CALLBACK)),
        ((F, X, KR), Expected(case=CaseKind.UNREAD_CALLBACK, doubted=True)),
        ((K, RG, RD), NOTHING),
    ),
]

TIMER_ROWS = [
    row(
        "the deadline",
        DeadlinePassed(),
        ((C,), go(F)),
        ((P, U0, U1), go(E)),
        (all_but(C, P, U0, U1), NOTHING),
        after=120,
    ),
    row("the deadline, too early", DeadlinePassed(), (EVERYWHERE, NOTHING)),
    row(
        "watched to the end, and nobody could be asked",
        WatchEnded(),
        ((F0, X0, E), case(CaseKind.OUTCOME_UNKNOWN)),
        (all_but(F0, X0, E), NOTHING),
        after=TWO_DAYS,
    ),
    row(
        "watched to the end, and the books do not have it",
        WatchEnded(books_cover=True),
        ((F0,), go(F)),
        ((X0,), go(X)),
        ((E,), CERTAIN),
        (all_but(F0, X0, E), NOTHING),
        after=TWO_DAYS,
    ),
    row("watched to the end, too early", WatchEnded(books_cover=True), (EVERYWHERE, NOTHING), after=AN_HOUR),
    row(
        "no receipt in time",
        ReceiptOverdue(),
        ((K0,), money(CaseKind.RECEIPT_OVERDUE)),
        (all_but(K0), NOTHING),
        after=15 * 60,
    ),
    row(
        "no other source in time",
        BackingOverdue(),
        (all_but(KC, KR), NOTHING),
        ((KC,), DOUBT),
        after=24 * AN_HOUR,
    ),
    row("no other source yet", BackingOverdue(), (EVERYWHERE, NOTHING), after=24 * AN_HOUR - 1),
    row("no receipt yet", ReceiptOverdue(), (EVERYWHERE, NOTHING), after=15 * 60 - 1),
]

WISH_ROWS = [
    row("withdrawn by the caller", CancelRequested("cancel:2"), ((C,), go(X)), (EVERYWHERE[1:], REFUSED)),
    row(
        "a sibling paid",
        SiblingPaid(OTHER_ID),
        ((C,), go(X)),
        ((S, P, U0, U1, UR), BLOCK_LOST),
        (all_but(C, S, P, U0, U1, UR), NOTHING),
    ),
    row("a refund", RefundRequested(UUID(int=7)), ((K,), go(RG)), ((KR,), REFUSED), (all_but(K), REFUSED)),
    row(
        "a refund by case",
        scenes.send_back(UUID(int=7)),
        ((KR,), REFUSED),
        ((UR, K), go(RG)),
        (all_but(UR, K), REFUSED),
    ),
    row(
        "refund done",
        RefundDone(REFUND, AMOUNT),
        ((C, S, P, U0, U1, F0, X0, F, X, E), money(CaseKind.REFUND)),
        ((UR, RG), go(RD)),
        ((K0, K), go(RD, CaseKind.REFUND)),
        ((RD,), NOTHING),
    ),
    row(
        "refund failed",
        RefundFailed(REFUND),
        ((RG,), go(K, CaseKind.REFUND)),
        (all_but(RG), case(CaseKind.REFUND)),
    ),
    row(
        "a refund of a part",
        RefundRequested(UUID(int=7), part=True, frees_seat=False),
        ((KR,), REFUSED),
        ((K,), PART),
        (all_but(K), REFUSED),
    ),
    row(
        "a part done",
        RefundDone(REFUND, AMOUNT - 100, part=True, the_rest=False),
        ((KR,), PART_TOO_MANY),
        ((K, RG), PART),
        ((RD,), PART_TOO_MANY),
        (all_but(K, RG, RD), money(CaseKind.REFUND)),
    ),
    row(
        "the last part done",
        RefundDone(REFUND, AMOUNT - 100, part=True),
        ((KR,), PART_TOO_MANY),
        ((K,), go(RD)),
        ((RG,), PART),
        ((RD,), PART_TOO_MANY),
        (all_but(K, RG, RD), money(CaseKind.REFUND)),
    ),
    row(
        "a part failed",
        RefundFailed(REFUND, part=True),
        ((KR,), PART),
        ((K, RD), Expected(case=CaseKind.REFUND, told=True)),
        (all_but(K, RD), case(CaseKind.REFUND)),
    ),
    row(
        "money beside the payment's own is returned",
        replace(scenes.send_back(UUID(int=7)), beside=True),
        ((KC, K, KR, RG, RD), PART),
        (all_but(K, RG, RD), REFUSED),
    ),
    row(
        "money beside the payment's own has gone back",
        RefundDone(UUID(int=7), AMOUNT, beside=True),
        ((KC, K, KR, RG, RD), PART),
        (all_but(K, RG, RD), money(CaseKind.REFUND)),
    ),
    row(
        "money beside the payment's own has not gone back",
        RefundFailed(UUID(int=7), beside=True),
        ((KC, K, KR, RG, RD), Expected(case=CaseKind.REFUND, told=True)),
        (all_but(K, RG, RD), case(CaseKind.REFUND)),
    ),
    row(
        "its receipt is written", ReceiptDue(revision=1, digest="d"), ((K, RG, RD), PART), (all_but(K, RG, RD), NOTHING)
    ),
    row("nobody knows of the refund", RefundInDoubt(REFUND, "x", is_money=False), (EVERYWHERE, case(CaseKind.REFUND))),
    row("perhaps returned twice", RefundInDoubt(REFUND, "x", is_money=True), (EVERYWHERE, money(CaseKind.REFUND))),
    *(
        row(
            name,
            fact,
            ((UR, K0, K), go(RD, CaseKind.TAKEN_BACK, money=True)),
            ((RG, RD), NOTHING),
            (all_but(UR, K0, K, RG, RD), money(CaseKind.TAKEN_BACK)),
        )
        for name, fact in (
            ("taken back, as the books show", scenes.taken_back()),
            ("taken back, with the payment's receipt", scenes.taken_back(RECEIPT)),
        )
    ),
    *(
        row(name, fact, ((RG, RD), NOTHING), (all_but(RG, RD), money(CaseKind.TAKEN_BACK)))
        for name, fact in (("some money was taken back", scenes.taken_back(in_doubt=True)),)
    ),
    row(
        "another conversation's money was taken back",
        scenes.taken_back(RECEIPT, conversation="x"),
        (EVERYWHERE, NOTHING),
    ),
]

CELLS = {
    f"{line.name}-{column.name}": (line, column)
    for line in (*SEND_ROWS, *RESULT_ROWS, *TIMER_ROWS, *WISH_ROWS)
    for column in Standing
}

ID_FIELDS = (
    "checkout_request_id", "merchant_request_id", "paid_seen_at", "paid_twice", "query_at", "unpaid_seen_at",
    "unread_callback", "due_at", "backing", "back_at",
)  # fmt: skip
"""What may be recorded without being news."""


def differing(before: Payment, after: Payment) -> set[str]:
    return {field.name for field in fields(Payment) if getattr(before, field.name) != getattr(after, field.name)}


def test_a_cell_says_what_follows_from_a_fact() -> None:
    rows = (*SEND_ROWS, *RESULT_ROWS, *TIMER_ROWS, *WISH_ROWS)
    assert len(CELLS) == len(rows) * len(Standing), "every row has a name of its own"
    try_each(CELLS, cell_says_what_follows)


def cell_says_what_follows(line: Row, column: Standing) -> None:
    # A hold that outlasts everything: what late money leads to is a policy, and has tests of its own.
    before = scenes.standing_in(column, start=scenes.created(hold_expire_at=START + timedelta(days=9)))
    assert standing(before) is column
    expected = line.cells[column]
    outcome = scenes.tell(
        before,
        line.fact(before),
        before.updated_at + scenes.seconds(line.after),
        receipt_holder=line.receipt_holder,
        checkout_holder=line.checkout_holder,
    )
    after = outcome.payment

    assert standing(after) is (expected.to or column)
    assert outcome.refused is expected.refused
    assert (outcome.case.kind if outcome.case else None) is expected.case
    assert (outcome.case is not None and outcome.case.is_money) is expected.money
    assert after.money_case_open is (before.money_case_open or expected.money)
    if expected in (NOTHING, REFUSED):
        assert after == before
    elif expected.backed:
        assert differing(before, after) <= {"backing", "back_at", "due_at"}
    elif expected.to is not None or expected.certain or expected.block_lost or expected.doubted or expected.told:
        assert after.version == before.version + 1
        assert outcome.changed(before)
    elif expected.money and not before.money_case_open:
        assert differing(before, after) - set(ID_FIELDS) <= {
            "money_case_open", "booking_action", "review_reason", "version", "updated_at", "due_at", "backing",
        }  # fmt: skip
        assert after.version == before.version + 1
    else:
        assert differing(before, after) <= set(ID_FIELDS)
        assert not outcome.changed(before)
    if expected.doubted:
        assert (before.outcome_certain, after.outcome_certain) == (True, False)
    if expected.certain:
        assert (before.outcome_certain, after.outcome_certain) == (False, True)
    if expected.block_lost:
        assert (before.blocks_booking, after.blocks_booking) == (True, False)


SETTLING = {
    Finding.CASE_ACCEPTED, Finding.OWN_ACCEPTED, Finding.ACCEPTED_ANOTHERS, Finding.ACCEPTED_BESIDE,
    Finding.ACCEPTED_UNNAMED, Finding.CASE_DISMISSED, Finding.DISMISSED_UNPAID, Finding.DISMISSED_OWN,
    Finding.RETURN_FAILED, Finding.RETURN_PART_FAILED, Finding.ACCEPTED_FREED, Finding.BACKED_BY_PERSON,
    Finding.DISMISSED_UNBACKED, Finding.BESIDE_NOT_RETURNED,
}  # fmt: skip
"""What operators do about cases, which has a file of its own."""


def test_the_table_is_total_and_every_word_in_it_is_known() -> None:
    states = set(HEADINGS)
    words = states | {"-", "ids", "case", "$", "cert", "differs", "receipt", "second", "block", "no", "own", "F|X"}
    words |= {
        "backed",
        "doubt",
        "refuted",
        "F0|X0",
        "agrees",
        "seen",
        "unread",
        "unknown",
        "over",
        "settled",
        "part",
        "beside",
        "back",
        "told",
    }
    compound = {f"{state}+{mark}" for state in states for mark in ("case", "$")}
    compound |= {"back+case", "part+case", "part+$", "beside+case"}
    assert set(TABLE) == set(Finding)
    for name, cells in TABLE.items():
        assert set(cells) == set(Standing), name
        assert set(cells.values()) <= words | compound, name
    assert (len(Finding), len(Standing)) == (62, 17)


def test_the_facts_above_fall_into_every_row_of_the_table() -> None:
    met = set()
    for line in (*SEND_ROWS, *RESULT_ROWS, *TIMER_ROWS, *WISH_ROWS):
        for column in Standing:
            before = scenes.standing_in(column)
            surroundings = Surroundings((), line.receipt_holder, line.checkout_holder)
            now = before.updated_at + scenes.seconds(line.after)
            met.add(finding(before, line.fact(before), surroundings, now, TIMES))
    below = {Finding.NOT_SENT_TOO_OFTEN, Finding.UNCERTAIN_AGREED, Finding.RECEIPT_PROVEN}
    assert set(Finding) - met == below | SETTLING, "those stand below, and in test_settling_cases"


@pytest.mark.parametrize("column", [U1, UR, K0, KC, K, F, X, E, RG, RD])
def test_ids_that_come_after_the_result_are_recorded_without_an_event(column: Standing) -> None:
    before = scenes.standing_in(column, ids=False)
    assert before.checkout_request_id is None
    outcome = scenes.tell(before, scenes.accepted(), before.updated_at + scenes.seconds(1))
    recorded = replace(before, checkout_request_id=scenes.CHECKOUT, merchant_request_id=scenes.MERCHANT)
    assert replace(outcome.payment, query_at=None, back_at=None) == recorded
    assert (outcome.payment.query_at is not None) is worth_asking(outcome.payment)
    assert not outcome.changed(before)
    assert outcome.case is None


@pytest.mark.parametrize("column", [S, P, U0])
def test_a_result_that_comes_before_the_answer_brings_the_ids_along(column: Standing) -> None:
    before = scenes.standing_in(column)
    fact = scenes.result(
        Verdict.PAID, "0", receipt=RECEIPT, amount=scenes.AMOUNT, checkout=scenes.CHECKOUT, merchant=scenes.MERCHANT
    )
    after = scenes.tell(before, fact, before.updated_at).payment
    assert (after.checkout_request_id, after.merchant_request_id) == (scenes.CHECKOUT, scenes.MERCHANT)
    answered = scenes.tell(after, scenes.accepted(), after.updated_at)
    assert standing(answered.payment) is standing(after)
    assert answered.case is None
    contradicted = scenes.tell(after, scenes.accepted(checkout="checkout-9"), after.updated_at)
    assert contradicted.case is not None
    assert contradicted.case.kind is CaseKind.OTHER_PROMPT
    assert contradicted.payment.checkout_request_id == scenes.CHECKOUT


def test_ids_of_somebody_else_are_never_recorded() -> None:
    for column in Standing:
        before = scenes.standing_in(column, ids=False)
        for fact in (
            scenes.paid(OTHER_RECEIPT, checkout="checkout-9"),
            scenes.result(Verdict.FAILED, "1", checkout="checkout-9"),
            scenes.result(Verdict.STILL_PROCESSING, "4999", checkout="checkout-9"),
            scenes.accepted(checkout="checkout-9"),
        ):
            after = scenes.tell(before, fact, before.updated_at, checkout_holder=OTHER_ID).payment
            assert after.checkout_request_id == before.checkout_request_id


def test_a_send_that_reached_nobody_is_tried_four_times_with_growing_pauses() -> None:
    payment = scenes.created()
    now = START
    waits = []
    for number in range(1, 4):
        claim = UUID(int=0xA0 + number)
        payment = scenes.tell(payment, SendClaimed(claim), now).payment
        assert payment.state is State.SENDING
        payment = scenes.tell(payment, scenes.not_sent(claim), now).payment
        assert payment.state is State.CREATED
        assert payment.send_at is not None
        assert payment.sent_at is None
        waits.append((payment.send_at - now).total_seconds())
        now = payment.send_at
    assert waits == [1, 2, 4]
    payment = scenes.tell(payment, SendClaimed(UUID(int=0xA9)), now).payment
    payment = scenes.tell(payment, scenes.not_sent(UUID(int=0xA9)), now).payment
    assert (payment.state, payment.reason, payment.result_code) == (State.FAILED, Reason.NOT_SENT, "503")


@pytest.mark.parametrize("column", list(Standing))
def test_a_fourth_send_that_reached_nobody_leads_where_any_other_does_but_from_sending(column: Standing) -> None:
    before = scenes.standing_in(column)
    tried_often = replace(before, not_sent_count=3)
    at = before.updated_at + scenes.seconds(1)
    ordinary = scenes.tell(before, scenes.not_sent(), at)
    outcome = scenes.tell(tried_often, scenes.not_sent(), at)
    assert standing(outcome.payment) is (F if column is S else standing(ordinary.payment))
    assert (outcome.case, outcome.refused) == (ordinary.case, ordinary.refused)
    assert outcome.payment.outcome_certain is (column is S or ordinary.payment.outcome_certain)


@pytest.mark.parametrize("column", EVERYWHERE)
def test_the_status_of_a_transaction_of_this_payments_conversation_is_proof(column: Standing) -> None:
    before = scenes.standing_in(column)
    told = before.merchant_request_id is not None
    proof = scenes.tell(before, scenes.status_paid(scenes.MERCHANT, OTHER_RECEIPT), before.updated_at)
    by_the_books = scenes.tell(before, scenes.pulled(OTHER_RECEIPT), before.updated_at)
    if told:
        assert (standing(proof.payment), proof.case) == (standing(by_the_books.payment), by_the_books.case)
    else:
        assert proof.payment == before
    wrong = scenes.tell(
        before, scenes.status_paid(scenes.MERCHANT, OTHER_RECEIPT, scenes.AMOUNT + 1), before.updated_at
    )
    assert (wrong.case is not None) is told


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (C, U1),
        (S, U1),
        (P, U1),
        (U0, U1),
        (U1, E),
        (UR, UR),
        (K0, K0),
        (KC, KC),
        (K, K),
        (F0, F0),
        (X0, X0),
        (F, F),
        (X, X),
        (E, E),
        (RG, RG),
        (RD, RD),
    ],
)
def test_a_late_query_that_agrees_with_an_uncertain_code_ends_the_wait(column: Standing, expected: Standing) -> None:
    before = replace(scenes.standing_in(column), result_code="1037", sent_at=START)
    agreed = scenes.uncertain(source=Source.QUERY)
    outcome = scenes.tell(before, agreed, START + scenes.seconds(60))
    assert finding(before, agreed, Surroundings(), START + scenes.seconds(60), TIMES) is (Finding.UNCERTAIN_AGREED)
    assert standing(outcome.payment) is expected
    assert not outcome.refused
    contradicts = column in (K0, KC, K, RG, RD)
    doubt = CaseKind.UNBACKED_MONEY if column is KC else CaseKind.CONTRADICTION
    assert (outcome.case.kind if outcome.case else None) is (doubt if contradicts else None)


def test_no_claim_is_granted_to_a_payment_that_ended_early_or_whose_review_is_over() -> None:
    ended = replace(scenes.standing_in(E), expires_at=START + timedelta(days=1))
    settled = replace(scenes.standing_in(UR), money_case_open=False)
    for before in (ended, settled):
        outcome = scenes.tell(before, SendClaimed(UUID(int=9)), START + scenes.seconds(60))
        assert (outcome.payment, outcome.case, outcome.refused) == (before, None, True)


@pytest.mark.parametrize("column", [column for column in Standing if column is not K0])
def test_an_overdue_receipt_is_news_only_where_one_is_awaited(column: Standing) -> None:
    before = replace(scenes.standing_in(column), completed_at=START)
    outcome = scenes.tell(before, ReceiptOverdue(), START + timedelta(hours=1))
    assert (outcome.payment, outcome.case, outcome.refused) == (before, None, False)


def test_an_uncertain_code_ends_nothing_too_early_nor_by_callback_nor_with_another_code() -> None:
    before = scenes.led(scenes.standing_in(P), scenes.uncertain("1037"))
    assert before.sent_at is not None
    at = before.sent_at + scenes.seconds(60)
    for fact, moment in (
        (scenes.uncertain("1037", Source.QUERY), at - scenes.seconds(0.001)),
        (scenes.uncertain("1037", Source.CALLBACK), at),
        (scenes.uncertain("1031", Source.QUERY), at),
    ):
        assert scenes.tell(before, fact, moment).payment == before
    ended = scenes.tell(before, scenes.uncertain("1037", Source.QUERY), at).payment
    assert (ended.state, ended.reason, ended.outcome_certain) == (State.EXPIRED, Reason.NO_ANSWER, False)


def test_a_review_hears_of_the_same_receipt_once_and_of_another_again() -> None:
    before = scenes.standing_in(UR)
    same = scenes.paid(ODD_RECEIPT, scenes.AMOUNT + 1)
    outcome = scenes.tell(before, same, before.updated_at, receipt_holder=before.payment_id)
    assert (outcome.payment, outcome.case) == (before, None)
    other = scenes.tell(before, scenes.paid(OTHER_RECEIPT, scenes.AMOUNT + 1), before.updated_at)
    assert other.case is not None
    assert other.case.is_money
    completed = scenes.tell(before, scenes.paid(RECEIPT), before.updated_at).payment
    assert (completed.state, completed.receipt, completed.money_case_open) == (State.COMPLETED, RECEIPT, True)


def test_a_receipt_on_the_payment_itself_is_known_wherever_else_it_stands() -> None:
    before = scenes.standing_in(K)
    assert before.receipt == RECEIPT
    outcome = scenes.tell(before, scenes.paid(RECEIPT), before.updated_at)
    assert (outcome.payment, outcome.case) == (before, None)


def test_a_withdrawal_can_be_repeated_and_only_a_withdrawal() -> None:
    before = scenes.withdrawn()
    assert (before.state, before.reason) == (State.CANCELLED, Reason.WITHDRAWN)
    again = scenes.tell(before, CancelRequested("cancel:9"), before.updated_at)
    assert (again.payment, again.refused) == (before, False)
    declined = scenes.standing_in(X)
    assert scenes.tell(declined, CancelRequested("cancel:9"), declined.updated_at).refused


def test_a_refund_that_failed_leads_back_to_where_it_came_from() -> None:
    reviewed = scenes.under_refund_by_case()
    assert standing(reviewed) is RG
    back = scenes.tell(reviewed, RefundFailed(REFUND), reviewed.updated_at)
    assert standing(back.payment) is UR
    assert back.case is not None
    assert back.case.kind is CaseKind.REFUND
    returned = scenes.tell(reviewed, RefundDone(REFUND, AMOUNT), reviewed.updated_at).payment
    assert (standing(returned), returned.reason) == (RD, None)


def test_an_acceptance_of_a_push_that_is_not_on_record_stops_the_sending() -> None:
    """A database restored to before the claim: the prompt is on the phone, the row says CREATED."""
    outcome = scenes.tell(scenes.created(), scenes.accepted(), START)
    assert standing(outcome.payment) is U0
    assert outcome.payment.sent_at == START
    assert outcome.case is not None
    claim = scenes.tell(outcome.payment, SendClaimed(UUID(int=9)), START)
    assert claim.refused


@pytest.mark.parametrize("column", [column for column in Standing if column is not C])
def test_answers_to_another_claim_change_nothing_but_an_acceptance_is_money_in_doubt(column: Standing) -> None:
    before = scenes.standing_in(column)
    stale = UUID(int=0xDEAD)
    for fact in (scenes.refused(stale), scenes.not_sent(stale), AnswerLost(stale)):
        outcome = scenes.tell(before, fact, before.updated_at)
        assert (outcome.payment, outcome.case) == (before, None)
    second_prompt = scenes.tell(before, scenes.accepted(stale), before.updated_at)
    assert standing(second_prompt.payment) is column
    assert second_prompt.case is not None
    assert second_prompt.case.kind is CaseKind.OTHER_PROMPT
    assert second_prompt.case.is_money


def test_a_claim_is_refused_while_a_sibling_is_paid_or_money_is_in_doubt() -> None:
    fresh = scenes.created()
    claim = SendClaimed(CLAIM)
    other = scenes.created(payment_id=OTHER_ID, attempt=2)
    assert not scenes.tell(fresh, claim, START).refused
    for column in Standing:
        sibling = scenes.standing_in(column, start=other)
        barred = column in (UR, K0, KC, K, RG, RD)
        assert scenes.tell(fresh, claim, START, siblings=[sibling]).refused is barred, column
    doubted = scenes.tell(other, scenes.accepted(CLAIM), START, checkout_holder=fresh.payment_id).payment
    assert doubted.money_case_open
    assert scenes.tell(fresh, claim, START, siblings=[doubted]).refused
    assert scenes.tell(doubted, claim, START).refused
