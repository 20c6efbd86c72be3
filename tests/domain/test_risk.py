"""The rules against prompts that nobody wants: what each counts, until when it refuses, and what it lets through."""

from datetime import UTC, datetime, timedelta

import pytest

from payment_service.domain.payment import State
from payment_service.domain.reasons import Reason
from payment_service.domain.risk import (
    AskedPrompt,
    History,
    Limit,
    Listed,
    ListVerdict,
    Mode,
    Objection,
    Ring,
    Rule,
    RulePolicy,
    objections,
    refusal,
    ring_of,
)

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PHONE, OTHER_PHONE = b"phone", b"other"


def a_prompt(minutes_ago: float, ring: Ring = Ring.UNANSWERED, **changed: object) -> AskedPrompt:
    fields: dict[str, object] = {"phone": PHONE, "caller": "booking", "booking_id": f"BK-{minutes_ago}", "amount": 500}
    fields |= {"asked_at": NOW - timedelta(minutes=minutes_ago), "ring": ring}
    return AskedPrompt(**(fields | changed))  # type: ignore[arg-type]  # the fields are those of the class


def history_of(*prompts: AskedPrompt) -> History:
    history = History()
    for prompt in sorted(prompts, key=lambda one: one.asked_at):
        history.add(prompt)
    return history


def over(
    rule: Rule, limit: Limit, *prompts: AskedPrompt, mode: Mode = Mode.ENFORCE, **asked: object
) -> list[Objection]:
    """What one rule has against one more prompt."""
    return objections({rule: RulePolicy(mode, (limit,))}, a_prompt(0, Ring.OPEN, **asked), history_of(*prompts))


def test_a_phone_that_nobody_answers_is_not_rung_a_fourth_time_in_an_hour() -> None:
    three = [a_prompt(50), a_prompt(30, caller="another"), a_prompt(10, Ring.OPEN)]
    limit = Limit(3, HOUR)
    assert over(Rule.PHONE_UNANSWERED, limit, *three[:2]) == []
    (found,) = over(Rule.PHONE_UNANSWERED, limit, *three)
    assert (found.counted, found.retry_at) == (4, NOW + timedelta(minutes=10))
    assert over(Rule.PHONE_UNANSWERED, limit, *three, phone=OTHER_PHONE) == []
    assert over(Rule.PHONE_UNANSWERED, limit, a_prompt(60), *three[1:]) == [], "the first was an hour ago"


@pytest.mark.parametrize("answered", [Ring.PAID, Ring.ANSWERED])
def test_who_answers_with_a_pin_begins_anew(answered: Ring) -> None:
    before = [a_prompt(50), a_prompt(45), a_prompt(40), a_prompt(30, answered)]
    assert over(Rule.PHONE_UNANSWERED, Limit(3, HOUR), *before) == []
    assert over(Rule.PHONE_UNANSWERED, Limit(3, HOUR), *before, a_prompt(20), a_prompt(10), a_prompt(5)) != []


def test_a_prompt_that_reached_no_phone_counts_for_nothing() -> None:
    never = [a_prompt(minutes, Ring.NONE, booking_id="BK") for minutes in range(1, 20)]
    for rule in Rule:
        if rule is not Rule.CALLER_PROMPTS:
            assert over(rule, Limit(500 if rule is Rule.PHONE_AMOUNT else 1, HOUR), *never) == []


def test_money_is_no_nuisance() -> None:
    paid = [a_prompt(minutes, Ring.PAID, booking_id="BK") for minutes in range(1, 20)]
    for rule in (Rule.PHONE_UNANSWERED, Rule.PHONE_UNPAID, Rule.BOOKING_UNPAID):
        assert over(rule, Limit(1, HOUR), *paid, booking_id="BK") == []


def test_prompts_without_money_are_counted_also_where_a_pin_was_entered() -> None:
    six = [a_prompt(minutes, Ring.ANSWERED) for minutes in (55, 45, 35, 25, 15, 5)]
    (found,) = over(Rule.PHONE_UNPAID, Limit(6, HOUR), *six)
    assert found.retry_at == NOW + timedelta(minutes=5)


def test_of_several_limits_the_one_that_lasts_longest_is_told() -> None:
    policy = {Rule.PHONE_UNPAID: RulePolicy(Mode.ENFORCE, (Limit(1, HOUR), Limit(2, DAY)))}
    found = objections(policy, a_prompt(0), history_of(a_prompt(120), a_prompt(30)))
    assert [one.retry_at for one in found] == [NOW + timedelta(hours=22)]


def test_a_booking_is_asked_of_so_many_phones_and_those_may_be_asked_again() -> None:
    asked = [a_prompt(30, phone=b"1", booking_id="BK"), a_prompt(20, phone=b"2", booking_id="BK")]
    limit = Limit(2, HOUR)
    (found,) = over(Rule.BOOKING_PHONES, limit, *asked, booking_id="BK")
    assert (found.counted, found.retry_at) == (3, NOW + timedelta(minutes=30))
    assert over(Rule.BOOKING_PHONES, limit, *asked, booking_id="BK", phone=b"1") == []
    assert over(Rule.BOOKING_PHONES, limit, *asked, booking_id="BK", caller="another") == [], "it is another booking"


def test_a_phone_pays_so_much_and_no_wait_helps_for_more_than_that() -> None:
    paid = [a_prompt(90, Ring.PAID, amount=300), a_prompt(60, Ring.OPEN, amount=300), a_prompt(30, amount=9_000)]
    (found,) = over(Rule.PHONE_AMOUNT, Limit(1_000, DAY), *paid, amount=500)
    assert (found.counted, found.retry_at) == (1_100, NOW + DAY - timedelta(minutes=90))
    assert over(Rule.PHONE_AMOUNT, Limit(1_000, DAY), *paid, amount=400) == []
    (found,) = over(Rule.PHONE_AMOUNT, Limit(1_000, DAY), amount=1_001)
    assert found.retry_at is None


def test_a_callers_prompts_are_counted_in_stretches_of_time() -> None:
    history = History(of_callers={("booking", HOUR): 1})
    policy = {Rule.CALLER_PROMPTS: RulePolicy(Mode.ENFORCE, (Limit(2, HOUR),))}
    asked = a_prompt(-5)
    assert objections(policy, asked, history) == []
    history.add(asked)
    (found,) = objections(policy, asked, history)
    assert (found.counted, found.retry_at) == (3, NOW + HOUR)


def test_a_rule_in_shadow_refuses_nothing_and_one_that_is_off_says_nothing() -> None:
    found = over(Rule.PHONE_UNPAID, Limit(1, HOUR), a_prompt(5), mode=Mode.SHADOW)
    assert [one.mode for one in found] == [Mode.SHADOW]
    assert refusal(found) is None
    assert over(Rule.PHONE_UNPAID, Limit(1, HOUR), a_prompt(5), mode=Mode.OFF) == []


@pytest.mark.parametrize(
    ("listed", "refused"),
    [
        (Listed(ListVerdict.BLOCK, None), Rule.PHONE_BLOCKED),
        (Listed(ListVerdict.BLOCK, NOW + HOUR), Rule.PHONE_BLOCKED),
        (Listed(ListVerdict.BLOCK, NOW), Rule.PHONE_UNPAID),
        (Listed(ListVerdict.NONE, None), Rule.PHONE_UNPAID),
        (Listed(ListVerdict.ALLOW, NOW), Rule.PHONE_UNPAID),
        (Listed(ListVerdict.ALLOW, None), None),
    ],
)
def test_the_list_goes_before_the_rules_for_as_long_as_it_says(listed: Listed, refused: Rule | None) -> None:
    policy = {Rule.PHONE_UNPAID: RulePolicy(Mode.ENFORCE, (Limit(1, HOUR),))}
    history = history_of(a_prompt(5))
    history.listed[PHONE] = listed
    found = refusal(objections(policy, a_prompt(0), history))
    assert (found.rule if found else None) is refused


@pytest.mark.parametrize(
    ("state", "reason", "sent", "accepted", "ring"),
    [
        (State.CREATED, None, False, False, Ring.OPEN),
        (State.UNCERTAIN, Reason.CONFIRMING, True, False, Ring.OPEN),
        (State.UNCERTAIN, Reason.AMOUNT_DIFFERS, True, True, Ring.PAID),
        (State.REFUNDED, None, True, True, Ring.PAID),
        (State.EXPIRED, Reason.NO_ANSWER, True, True, Ring.UNANSWERED),
        (State.CANCELLED, Reason.DECLINED_BY_CUSTOMER, True, True, Ring.UNANSWERED),
        (State.CANCELLED, Reason.WITHDRAWN, False, False, Ring.NONE),
        (State.FAILED, Reason.NOT_SENT, True, False, Ring.NONE),
        (State.FAILED, Reason.PHONE_NUMBER_REFUSED, True, False, Ring.NONE),
        (State.FAILED, Reason.PHONE_BUSY, True, True, Ring.NONE),
        (State.FAILED, Reason.WRONG_PIN, True, True, Ring.ANSWERED),
        (State.FAILED, Reason.SERVICE_MISCONFIGURED, True, True, Ring.NONE),
        (State.FAILED, Reason.PROVIDER_BUSY, True, True, Ring.NONE),
        (State.EXPIRED, Reason.NO_ANSWER, True, False, Ring.NONE),
    ],
)
def test_what_a_payment_says_of_its_prompt(
    state: State, reason: Reason | None, sent: bool, accepted: bool, ring: Ring
) -> None:
    assert ring_of(state, reason, sent=sent, accepted=accepted) is ring
