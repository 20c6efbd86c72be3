"""Reasons, their sentences, and the names that the wire shares with the domain."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.error_reason_pb2 import ErrorReason

from payment_service.domain.advice import (
    ADVICE,
    LANGUAGES,
    SMS_CHARACTERS,
    NextStep,
    advice_of,
    customer_message,
)
from payment_service.domain.payment import STATUS_OF, BookingAction, LatePaymentPolicy, PhoneWarning, State, Status
from payment_service.domain.reasons import Reason
from payment_service.domain.retry_times import retry_makes_sense_at
from payment_service.domain.views import EventType
from payment_service.rpc.passenger_sentences import SENTENCES
from tests.cells import try_each


def test_there_is_a_sentence_for_every_status_and_reason() -> None:
    said = {
        (status, reason, language): customer_message(status.value, reason, "WAIT", False, language)
        for status, reason, language in itertools.product(Status, [None, *Reason], LANGUAGES)
    }
    assert {where: words for where, words in said.items() if len(words) <= 10 or not words.endswith(".")} == {}


# The alphabet of a message that is sent as one part of 160 characters.
SMS_ALPHABET = set("@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§")
SMS_ALPHABET |= set("¿abcdefghijklmnopqrstuvwxyzäöñüà")


def test_no_reason_is_without_a_row_and_every_sentence_fits_an_sms() -> None:
    assert set(ADVICE) == set(Reason)
    assert set(ErrorReason.keys()) == {f"ERROR_REASON_{name}" for name in ("UNSPECIFIED", *SENTENCES)}
    told = {advice_of(s.value, r, a.value, c, p, f).sentence for s, r, a, c, p, f in STANDING}
    for sentence in told | {one for one in SENTENCES.values() if one is not None}:
        for words in sentence:
            assert 10 < len(words) <= SMS_CHARACTERS, words
            assert set(words) <= SMS_ALPHABET, words
            assert words.endswith("."), words
        assert sentence.en != sentence.sw


def test_the_next_step_asks_nobody_to_pay_while_money_may_have_moved() -> None:
    quiet = {NextStep.WAIT, NextStep.NOTHING, NextStep.CONTACT_US}
    for status, reason, action, certain, part, failed in STANDING:
        step = advice_of(status.value, reason, action.value, certain, part, failed).next_step
        if action is BookingAction.REVIEW:
            assert step is NextStep.WAIT
        if action in (BookingAction.CONFIRM, BookingAction.RELEASE, BookingAction.FOLLOW_SIBLING):
            assert step in quiet


def test_the_two_languages_say_it_in_different_words() -> None:
    said = {
        reason: [customer_message("FAILED", reason, "WAIT", False, language) for language in LANGUAGES]
        for reason in Reason
    }
    assert {reason: words for reason, words in said.items() if len(set(words)) != len(LANGUAGES)} == {}


def test_no_two_reasons_share_a_sentence() -> None:
    for language in LANGUAGES:
        assert len({customer_message("FAILED", reason, "WAIT", False, language) for reason in Reason}) == len(Reason)


def test_where_money_may_have_moved_nobody_is_told_to_pay_again() -> None:
    for reason in (Reason.CONFIRMING, Reason.REVIEW, Reason.NO_ANSWER):
        assert "do not pay" in customer_message("PROCESSING", reason, "WAIT", False, "en")
        assert "usilipe" in customer_message("PROCESSING", reason, "WAIT", False, "sw")
    for status in (Status.PROCESSING, Status.EXPIRED):
        assert "do not pay" in customer_message(status.value, None, "WAIT", False, "en")


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (Reason, payment_pb2.StatusReason, "STATUS_REASON_"),
        (Status, payment_pb2.PaymentStatus, "PAYMENT_STATUS_"),
        (BookingAction, payment_pb2.BookingAction, "BOOKING_ACTION_"),
        (LatePaymentPolicy, payment_pb2.LatePaymentPolicy, "LATE_PAYMENT_POLICY_"),
        (PhoneWarning, payment_pb2.PhoneWarning, "PHONE_WARNING_"),
        (NextStep, payment_pb2.NextStep, "NEXT_STEP_"),
        (EventType, payment_pb2.PaymentEventType, "PAYMENT_EVENT_TYPE_"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_wire_knows_the_same_names(ours: type[StrEnum], wire: EnumTypeWrapper, prefix: str) -> None:
    assert {f"{prefix}{member.value}" for member in ours} | {f"{prefix}UNSPECIFIED"} == set(wire.keys())


def test_every_state_has_a_public_status_and_every_status_a_state() -> None:
    assert set(STATUS_OF) == set(State)
    assert set(STATUS_OF.values()) == set(Status)


STANDING = [
    (status, reason, action, certain, part, failed)
    for status in Status
    for reason in (*Reason, None)
    for action in BookingAction
    for certain, part, failed in itertools.product((False, True), repeat=3)
]
"""All ways in which a payment may stand."""

EVERYTHING = [
    (status, reason, action, certain)
    for status in Status
    for reason in (*Reason, None)
    for action in BookingAction
    for certain in (False, True)
]


def test_a_passenger_under_review_is_never_asked_to_pay() -> None:
    """Whatever the status and reason were, the passenger reads that we are checking, and is told not to pay."""
    for status, reason, action, certain in EVERYTHING:
        if action is BookingAction.REVIEW:
            english = customer_message(status.value, reason, action.value, certain, "en")
            assert "do not pay again" in english
            assert "enter your M-Pesa PIN" not in english
            assert "try again" not in english.lower()
            assert "usilipe tena" in customer_message(status.value, reason, action.value, certain, "sw")


def test_nobody_whose_booking_is_confirmed_is_asked_for_anything() -> None:
    for status, reason, action, certain in EVERYTHING:
        if action is BookingAction.CONFIRM:
            assert customer_message(status.value, reason, action.value, certain, "en") == "Payment received. Thank you."


# Of money that came, too, the passenger reads what becomes of it.
FOLLOWED = {
    Status.COMPLETED: "This booking is paid by another payment. Please do not pay again.",
    Status.REFUNDED: "Your money has been returned.",
}


@pytest.mark.parametrize(("language", "returning"), [("en", "is being returned"), ("sw", "narudishwa")])
def test_nobody_is_told_that_money_is_on_its_way_back_once_its_refund_has_failed(language: str, returning: str) -> None:
    said = set()
    for status, reason, action, certain, part in itertools.product(
        Status, (None, *Reason), BookingAction, (False, True), (False, True)
    ):
        told = (status.value, reason, action.value, certain, language, part)
        assert returning not in customer_message(*told, return_failed=True)
        if returning in customer_message(*told):
            said.add(customer_message(*told, return_failed=True))
    assert len(said) == 1


SECOND_RETURNING = "This booking was paid twice. The second payment is being returned to you."


def test_an_attempt_beaten_by_its_sibling_invites_nobody_to_pay() -> None:
    for status, reason, action, certain in EVERYTHING:
        if action is BookingAction.FOLLOW_SIBLING:
            english = customer_message(status.value, reason, action.value, certain, "en")
            sent_back = status is Status.COMPLETED and reason in (Reason.PAID_LATE, Reason.PAID_TWICE)
            usual = FOLLOWED.get(status, "This booking is already paid. Do not enter your PIN.")
            assert english == (SECOND_RETURNING if sent_back else usual)


def test_who_is_certainly_unpaid_is_not_told_to_wait() -> None:
    said = customer_message("EXPIRED", Reason.NO_ANSWER, "OFFER_RETRY", True, "en")
    assert said == "No answer came from your phone. You have not been charged."
    assert "do not pay twice" in customer_message("EXPIRED", Reason.NO_ANSWER, "OFFER_RETRY", False, "en")


# How the sentences say how long to wait.
WAITS = {"two minutes": 120, "one minute": 60, "three minutes": 180}


def test_the_sentence_says_as_long_a_wait_as_the_retry_has() -> None:
    try_each({reason.value: (reason,) for reason in Reason}, sentence_says_as_long_a_wait_as_the_retry_has)


def sentence_says_as_long_a_wait_as_the_retry_has(reason: Reason) -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    sentence = customer_message("FAILED", reason, "OFFER_RETRY", True, "en")
    said = next((timedelta(seconds=seconds) for words, seconds in WAITS.items() if words in sentence.lower()), None)
    if "tomorrow" in sentence:
        said = datetime(2026, 11, 28, 21, tzinfo=UTC) - now
    assert retry_makes_sense_at(reason, now) - now == (said or timedelta())


def test_a_daily_limit_ends_at_midnight_in_nairobi() -> None:
    just_before, just_after = (datetime(2026, 11, 28, 20, 59, tzinfo=UTC), datetime(2026, 11, 28, 21, 1, tzinfo=UTC))
    assert retry_makes_sense_at(Reason.DAILY_LIMIT_REACHED, just_before) == datetime(2026, 11, 28, 21, tzinfo=UTC)
    assert retry_makes_sense_at(Reason.DAILY_LIMIT_REACHED, just_after) == datetime(2026, 11, 29, 21, tzinfo=UTC)
