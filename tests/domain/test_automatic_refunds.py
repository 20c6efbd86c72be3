"""Which money goes back by itself, and which waits for a person; and what its caller and its passenger are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from hypothesis import given, settings

from payment_service.domain.advice import customer_message
from payment_service.domain.automatic_refunds import AutomaticRefunds, SentBack, goes_back, held_until, may_go_back
from payment_service.domain.cases import CaseKind, OpenCase
from payment_service.domain.facts import Fact, RefundRequested, SiblingPaid
from payment_service.domain.payment import STATUS_OF, BookingAction, LatePaymentPolicy, Payment, State
from payment_service.domain.reasons import SENT_BACK, Reason
from payment_service.domain.refund_ends import RefundFailed
from payment_service.domain.standings import Standing
from payment_service.domain.transitions import Outcome
from tests.domain import scenes
from tests.domain.scenes import AMOUNT, OTHER_ID, RECEIPT, REFUND, START, seconds
from tests.domain.test_sequences import Booking, happen, happenings, lives, open_and_end, scripts, send_newest

ALLOWED = AutomaticRefunds(AMOUNT, shortcodes=["174379"])
BOTH = replace(ALLOWED, duplicates=True)
PAST_HOLD = START + seconds(1_000)
LATE_CASE = OpenCase(CaseKind.LATE_PAYMENT, True, "opened", RECEIPT)
DUPLICATE_CASE = OpenCase(CaseKind.DUPLICATE_PAYMENT, True, "opened", RECEIPT)


@dataclass(frozen=True)
class Arrival:
    """Money that has just come."""

    before: Payment
    outcome: Outcome

    def decided(
        self,
        allowed: AutomaticRefunds = ALLOWED,
        siblings: Sequence[Payment] = (),
        cases: Sequence[OpenCase] = (LATE_CASE,),
        left: int | None = AMOUNT,
    ) -> Reason | None:
        return goes_back(self.before, self.outcome.payment, siblings, cases, left, allowed)


def arrival(
    policy: LatePaymentPolicy = LatePaymentPolicy.REFUND,
    fact: Fact | None = None,
    *,
    late: bool = True,
    siblings: Sequence[Payment] = (),
) -> Arrival:
    new = scenes.created(late_payment_policy=policy)
    before = scenes.standing_in(Standing.EXPIRED if late else Standing.PROMPTED, start=new)
    at = PAST_HOLD if late else before.updated_at + seconds(1)
    return Arrival(before, scenes.tell(before, fact or scenes.paid(), at, siblings=siblings))


def sibling(column: Standing, hold: float | None = None) -> Payment:
    held = None if hold is None else START + seconds(hold)
    return scenes.standing_in(column, start=scenes.created(payment_id=OTHER_ID, attempt=2, hold_expire_at=held))


def told_of_the_refund(arrived: Arrival, why: Reason, siblings: Sequence[Payment] = ()) -> Outcome:
    after = arrived.outcome.payment
    kind = LATE_CASE if why is Reason.PAID_LATE else DUPLICATE_CASE
    fact = RefundRequested(REFUND, by_itself=why)
    return scenes.tell(after, fact, after.updated_at, siblings=siblings, open_cases=[kind])


def message(payment: Payment, language: str = "en") -> str:
    status, action = STATUS_OF[payment.state], payment.booking_action
    return customer_message(status, payment.shown_reason, action, payment.outcome_certain, language)


def test_late_money_goes_back_where_its_caller_said_so_and_nowhere_else() -> None:
    assert arrival().decided() is Reason.PAID_LATE
    assert arrival(LatePaymentPolicy.REVIEW).decided() is None
    in_time = arrival(late=False)
    assert in_time.decided(cases=()) is None
    assert in_time.outcome.payment.booking_action is BookingAction.CONFIRM
    wanted = arrival(LatePaymentPolicy.CONFIRM)
    assert wanted.decided(cases=()) is None
    assert wanted.outcome.payment.booking_action is BookingAction.CONFIRM


@pytest.mark.parametrize("amount_max", [0, AMOUNT - 1])
def test_above_the_set_amount_a_person_decides(amount_max: int) -> None:
    late = arrival()
    assert late.decided(replace(ALLOWED, amount_max=amount_max)) is None
    assert late.outcome.case is not None
    assert late.outcome.case.kind is CaseKind.LATE_PAYMENT
    assert late.outcome.payment.booking_action is BookingAction.REVIEW
    assert late.decided(replace(ALLOWED, amount_max=AMOUNT)) is Reason.PAID_LATE


def test_only_news_after_the_hold_or_beside_another_attempt_is_counted_with_what_went_back() -> None:
    before = arrival().before
    assert may_go_back(before, 1, PAST_HOLD, ALLOWED)
    assert not may_go_back(before, 1, held_until(before), ALLOWED)
    assert not may_go_back(before, 1, PAST_HOLD, replace(ALLOWED, amount_max=0))
    assert not may_go_back(arrival(LatePaymentPolicy.REVIEW).before, 2, PAST_HOLD, ALLOWED)
    assert may_go_back(arrival(LatePaymentPolicy.REVIEW).before, 2, START, BOTH)


@pytest.mark.parametrize(
    ("sent", "within"),
    [
        (SentBack(98, 99_500 - AMOUNT), True),
        (SentBack(99, 0), True),
        (SentBack(100, 0), False),
        (SentBack(0, 100_000 - AMOUNT), True),
        (SentBack(0, 100_001 - AMOUNT), False),
    ],
)
def test_an_hour_has_room_for_so_many_and_so_much(sent: SentBack, within: bool) -> None:
    assert sent.and_one_of(AMOUNT).is_within(ALLOWED) is within


@pytest.mark.parametrize("left", [AMOUNT + 1, None])
def test_what_would_be_sent_back_counts_and_not_what_was_asked_for(left: int | None) -> None:
    assert arrival().decided(left=left) is None


def test_money_that_moved_within_the_hold_and_was_known_after_it_waits_for_a_person() -> None:
    """The callback could not be taken while the passenger paid, and a later one tells of the money."""
    hold = held_until(arrival().before)
    assert arrival(fact=replace(scenes.paid(), transaction_at=hold)).decided() is None
    assert arrival(fact=replace(scenes.paid(), transaction_at=hold + seconds(1))).decided() is Reason.PAID_LATE


def test_money_without_a_receipt_waits_for_it() -> None:
    pending = arrival(fact=scenes.query_paid(scenes.CHECKOUT))
    assert pending.outcome.payment.state is State.COMPLETED
    assert pending.decided() is None
    after = pending.outcome.payment
    named = Arrival(after, scenes.tell(after, scenes.paid(), after.updated_at + seconds(5), open_cases=[LATE_CASE]))
    assert named.decided() is Reason.PAID_LATE


def test_what_was_decided_at_the_receipt_is_not_decided_again_by_later_news() -> None:
    waiting = arrival().outcome.payment
    later = scenes.tell(waiting, scenes.failed(), waiting.updated_at + seconds(5), open_cases=[LATE_CASE])
    assert Arrival(waiting, later).decided() is None


def test_an_operator_who_accepted_the_money_keeps_it_when_its_receipt_comes() -> None:
    pending = arrival(fact=scenes.query_paid(scenes.CHECKOUT)).outcome.payment
    accepted = scenes.tell(pending, scenes.accept(), pending.updated_at + seconds(1), open_cases=[LATE_CASE]).payment
    named = Arrival(accepted, scenes.tell(accepted, scenes.paid(), accepted.updated_at + seconds(5)))
    assert named.decided(cases=()) is None
    assert named.outcome.payment.booking_action is BookingAction.CONFIRM


def test_money_that_goes_back_cannot_be_accepted_any_more() -> None:
    refunding = told_of_the_refund(arrival(), Reason.PAID_LATE).payment
    accepted = scenes.tell(refunding, scenes.accept(), refunding.updated_at, open_cases=[LATE_CASE])
    assert accepted.refused
    assert accepted.payment == refunding


def test_money_whose_case_a_person_has_settled_stays() -> None:
    assert arrival().decided() is Reason.PAID_LATE
    assert arrival().decided(cases=()) is None


def test_money_in_another_doubt_waits_for_a_person() -> None:
    other = OpenCase(CaseKind.UNCLAIMED_MONEY, True, "other", scenes.OTHER_RECEIPT)
    assert arrival().decided(cases=(LATE_CASE, other)) is None
    harmless = OpenCase(CaseKind.CONTRADICTION, False, "other")
    assert arrival().decided(cases=(LATE_CASE, harmless)) is Reason.PAID_LATE


@pytest.mark.parametrize(
    ("column", "hold", "why"),
    [
        (Standing.CREATED, None, None),
        (Standing.PROMPTED, None, None),
        (Standing.UNCERTAIN_NO_RESULT, None, None),
        (Standing.UNDER_REVIEW, None, None),
        (Standing.RECEIPT_PENDING, None, None),
        (Standing.EXPIRED, 2_000, None),
        # Its money may have been told of in time, and lie with a gateway that cannot deliver it yet.
        (Standing.EXPIRED, 900, None),
        (Standing.FAILED_BY_QUERY, None, None),
        (Standing.FAILED, 2_000, Reason.PAID_LATE),
        (Standing.COMPLETED, None, Reason.PAID_LATE),
        (Standing.REFUNDED, None, Reason.PAID_LATE),
    ],
)
def test_a_seat_is_not_released_while_another_attempt_may_confirm_it(
    column: Standing, hold: float | None, why: Reason | None
) -> None:
    other = sibling(column, hold)
    assert arrival(siblings=[other]).decided(siblings=[other]) is why


def test_an_attempt_whose_late_money_is_wanted_keeps_the_seat_open_however_late_it_is() -> None:
    wanted = sibling(Standing.EXPIRED).but(late_payment_policy=LatePaymentPolicy.CONFIRM)
    assert arrival(siblings=[wanted]).decided(siblings=[wanted]) is None


def test_a_seat_is_not_released_after_another_attempt_was_given_up_for_the_money() -> None:
    late = arrival().outcome.payment
    withdrawn = scenes.tell(sibling(Standing.CREATED), SiblingPaid(late.payment_id), late.updated_at).payment
    assert withdrawn.state is State.CANCELLED
    assert arrival(siblings=[withdrawn]).decided(siblings=[withdrawn]) is None


def test_a_duplicate_goes_back_where_it_is_set_and_the_booking_is_confirmed() -> None:
    confirmed = sibling(Standing.COMPLETED)
    second = arrival(LatePaymentPolicy.REVIEW, late=False, siblings=[confirmed])
    assert second.outcome.case is not None
    assert second.outcome.case.kind is CaseKind.DUPLICATE_PAYMENT
    assert second.decided(siblings=[confirmed], cases=[DUPLICATE_CASE]) is None
    assert second.decided(BOTH, [confirmed], [DUPLICATE_CASE]) is Reason.PAID_TWICE
    pending = sibling(Standing.RECEIPT_PENDING)
    assert second.decided(BOTH, [pending], [DUPLICATE_CASE]) is None
    doubted = confirmed.but(money_case_open=True)
    assert doubted.booking_action is BookingAction.CONFIRM
    assert second.decided(BOTH, [doubted], [DUPLICATE_CASE]) is None
    unnamed = confirmed.but(receipt=None, paid_twice=True)
    assert second.decided(BOTH, [unnamed], [DUPLICATE_CASE]) is None
    returned = scenes.led(confirmed, RefundRequested(REFUND))
    assert second.decided(BOTH, [returned], [DUPLICATE_CASE]) is None


def test_money_that_has_confirmed_its_booking_never_goes_back_by_itself() -> None:
    late = arrival()
    confirmed = replace(late.outcome, payment=late.outcome.payment.but(said_confirm=True))
    assert Arrival(late.before, confirmed).decided() is None


def test_the_passenger_and_the_booking_are_told_that_late_money_goes_back() -> None:
    outcome = told_of_the_refund(arrival(), Reason.PAID_LATE)
    told = outcome.payment
    assert (told.state, told.booking_action, told.shown_reason) == (
        State.REFUNDING,
        BookingAction.RELEASE,
        Reason.PAID_LATE,
    )
    assert [case.kind for case in outcome.ended] == [CaseKind.LATE_PAYMENT]
    assert not told.money_case_open
    assert "is being returned" in message(told)
    assert "zinarudishwa" in message(told, "sw")
    failed = scenes.tell(told, RefundFailed(REFUND), told.updated_at)
    assert (failed.case is not None, failed.payment.booking_action) == (True, BookingAction.RELEASE)
    done = scenes.led(told, scenes.refund_done())
    assert (done.booking_action, message(done)) == (BookingAction.RELEASE, "Your money has been returned.")
    assert done.shown_reason is Reason.PAID_LATE


def test_money_that_comes_after_the_release_of_late_money_confirms_nothing_by_itself() -> None:
    gone = scenes.led(told_of_the_refund(arrival(), Reason.PAID_LATE).payment, scenes.refund_done())
    for column in (Standing.FAILED, Standing.EXPIRED, Standing.PROMPTED):
        other = sibling(column, hold=10_000)
        outcome = scenes.tell(other, scenes.paid(scenes.OTHER_RECEIPT), PAST_HOLD + seconds(5), siblings=[gone])
        assert outcome.case is not None
        assert (outcome.case.kind, outcome.payment.booking_action) == (
            CaseKind.DUPLICATE_PAYMENT,
            BookingAction.REVIEW,
        )


def test_the_passenger_and_the_booking_are_told_that_the_second_payment_goes_back() -> None:
    confirmed = sibling(Standing.COMPLETED)
    second = arrival(LatePaymentPolicy.REVIEW, late=False, siblings=[confirmed])
    told = told_of_the_refund(second, Reason.PAID_TWICE, [confirmed]).payment
    assert (told.booking_action, told.shown_reason) == (BookingAction.FOLLOW_SIBLING, Reason.PAID_TWICE)
    assert "is being returned" in message(told)
    assert "yanarudishwa" in message(told, "sw")
    stays = scenes.tell(confirmed, SiblingPaid(told.payment_id), told.updated_at, siblings=[told]).payment
    assert stays.booking_action is BookingAction.CONFIRM


class ReturningBooking(Booking):
    """A booking whose late and second money goes back by itself, as the writer of facts sends it."""

    def __init__(self, policy: LatePaymentPolicy, hold_seconds: int | None) -> None:
        self.released = False
        super().__init__(policy, hold_seconds)

    def tell(self, payment_id: UUID, fact: Fact) -> None:
        before = self.payments[payment_id]
        super().tell(payment_id, fact)
        after = self.payments[payment_id]
        doubts = [LATE_CASE] if after.money_case_open and after.review_reason in SENT_BACK else []
        why = goes_back(before, after, self.siblings(payment_id), doubts, AMOUNT, BOTH)
        if why is not None:
            super().tell(payment_id, RefundRequested(UUID(int=payment_id.int + 0x5E17), by_itself=why))
            self.released |= self.payments[payment_id].booking_action is BookingAction.RELEASE

    def confirms(self) -> bool:
        return any(one.booking_action is BookingAction.CONFIRM for one in self.payments.values())


@pytest.mark.usefixtures("untraced")
@settings(max_examples=300)
@given(script=scripts(happenings.filter(lambda happening: happening[0] != "case closed")), **lives)
def test_after_the_release_of_late_money_nothing_confirms_the_booking_by_itself(
    script: list[tuple[int, tuple[str, object]]],
    policy: LatePaymentPolicy,
    hold_seconds: int | None,
    endings: list[str],
    newest: str,
) -> None:
    booking = ReturningBooking(policy, hold_seconds)
    for ending in endings:
        open_and_end(booking, ending)
    send_newest(booking, newest)
    for number, (chosen, (kind, drawn)) in enumerate(script):
        payments, released = list(booking.payments.values()), booking.released
        happen(booking, payments[chosen % len(payments)], kind, drawn, number)
        booking.check()
        assert not (released and booking.confirms())
