"""Reasons, their sentences, and the names that the wire shares with the domain."""

from __future__ import annotations

from enum import StrEnum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from mpesa_payments.v1 import payment_pb2

from payment_service.domain.payment import STATUS_OF, BookingAction, LatePaymentPolicy, PhoneWarning, State, Status
from payment_service.domain.reasons import LANGUAGES, Reason, customer_message
from payment_service.domain.views import EventType


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("reason", [None, *Reason])
@pytest.mark.parametrize("status", list(Status))
def test_there_is_a_sentence_for_every_status_and_reason(status: Status, reason: Reason | None, language: str) -> None:
    sentence = customer_message(status.value, reason, language)
    assert len(sentence) > 10
    assert sentence.endswith(".")


@pytest.mark.parametrize("reason", list(Reason))
def test_the_two_languages_say_it_in_different_words(reason: Reason) -> None:
    assert customer_message("FAILED", reason, "en") != customer_message("FAILED", reason, "sw")


def test_no_two_reasons_share_a_sentence() -> None:
    for language in LANGUAGES:
        assert len({customer_message("FAILED", reason, language) for reason in Reason}) == len(Reason)


def test_where_money_may_have_moved_nobody_is_told_to_pay_again() -> None:
    for reason in (Reason.CONFIRMING, Reason.REVIEW, Reason.NO_ANSWER):
        assert "do not pay" in customer_message("PROCESSING", reason, "en")
        assert "usilipe" in customer_message("PROCESSING", reason, "sw")
    for status in (Status.PROCESSING, Status.EXPIRED):
        assert "do not pay" in customer_message(status.value, None, "en")


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (Reason, payment_pb2.StatusReason, "STATUS_REASON_"),
        (Status, payment_pb2.PaymentStatus, "PAYMENT_STATUS_"),
        (BookingAction, payment_pb2.BookingAction, "BOOKING_ACTION_"),
        (LatePaymentPolicy, payment_pb2.LatePaymentPolicy, "LATE_PAYMENT_POLICY_"),
        (PhoneWarning, payment_pb2.PhoneWarning, "PHONE_WARNING_"),
        (EventType, payment_pb2.PaymentEventType, "PAYMENT_EVENT_TYPE_"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_wire_knows_the_same_names(ours: type[StrEnum], wire: EnumTypeWrapper, prefix: str) -> None:
    assert {f"{prefix}{member.value}" for member in ours} | {f"{prefix}UNSPECIFIED"} == set(wire.keys())


def test_every_state_has_a_public_status_and_every_status_a_state() -> None:
    assert set(STATUS_OF) == set(State)
    assert set(STATUS_OF.values()) == set(Status)
