"""What Daraja may answer to a push, and what becomes of the payment: sent again only on proof that nothing was sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from development.slowness import slowness
from tests.end_to_end.town import (
    UNTIL_TOLD,
    HastyTown,
    Story,
    Town,
    a_phone,
    action_of,
    events_to_the_end,
    events_until,
    initiate,
    lived,
    prompt,
    reason_of,
    status_of,
    told_by,
)

LOST_ANSWERS: dict[str, dict[str, Any]] = {
    "closed without a byte": {"answer": "lost"},
    "reset": {"answer": "reset"},
    "cut in the header": {"answer": "cut_header"},
    "cut in the body": {"answer": "cut_body"},
    "HTTP 500 internal error": {"error": "internal_error", "prompts": True},
    "HTTP 500 system is busy": {"error": "system_busy", "prompts": True},
    "HTTP 500 unlisted text": {"error": "unknown_text", "prompts": True},
    "HTTP 500 without a text": {"error": "empty_text", "prompts": True},
    "HTTP 500 without a body": {"error": "empty_500", "prompts": True},
    "HTTP 500 SOAP fault": {"error": "soap_fault_500", "prompts": True},
    "HTTP 502 page": {"error": "bad_gateway_502", "prompts": True},
    "HTTP 503 without the edge's mark": {"error": "unreachable_503", "prompts": True},
    "HTTP 504 page": {"error": "gateway_timeout_504", "prompts": True},
    "HTTP 200 with an error": {"error": "empty_envelope_200", "prompts": True},
    "HTTP 200 page": {"error": "unreadable_200", "prompts": True},
    "HTTP 200 without ids": {"raw_answer": {"status": 200, "body": '{"ResponseCode":"0"}'}, "prompts": True},
    "HTTP 200 other ResponseCode": {"raw_answer": {"status": 200, "body": '{"ResponseCode":"1"}'}, "prompts": True},
    "HTTP 200 deeply nested": {"raw_answer": {"status": 200, "body": "[" * 20_000}, "prompts": True},
}


@pytest.mark.parametrize("script", LOST_ANSWERS.values(), ids=LOST_ANSWERS.keys())
async def test_an_answer_that_proves_nothing_is_settled_by_the_callback_and_never_by_a_second_push(
    town: Town, script: dict[str, Any]
) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {**script, **UNTIL_TOLD})
    started = await initiate(town.patient, phone)
    await events_until(town.patient, started, lambda payment: reason_of(payment) == "CONFIRMING")
    assert await town.simulator.settle(phone, ending="paid") == [200]
    story = await told_by(town, town.patient, await events_to_the_end(town.patient, started))
    assert story.path == ["PENDING", "PROCESSING", "COMPLETED"]
    assert [reason_of(event.payment) for event in story.events][2:] == ["CONFIRMING", "UNSPECIFIED"]
    assert (len(story.pushes), story.prompts, story.debited) == (1, 1, 500)
    assert action_of(story.payment) == "CONFIRM"
    assert await town.cases(story.payment) == []


async def test_a_lost_answer_without_a_callback_expires_and_is_never_pushed_again(hasty: HastyTown) -> None:
    async def lived_without(answer: str) -> Story:
        phone = a_phone()
        await hasty.simulator.script(phone, {"answer": answer, "callback": "never", "ending": "silent"})
        return await lived(hasty, hasty.payments, phone)

    for story in await asyncio.gather(*map(lived_without, ("lost", "reset", "cut_header", "cut_body"))):
        assert story.path == ["PENDING", "PROCESSING", "EXPIRED"]
        assert reason_of(story.events[-2].payment) == "CONFIRMING"
        assert (len(story.pushes), story.prompts, story.debited) == (1, 1, 0)


async def test_a_connection_that_closes_on_the_request_counts_as_uncertain(hasty: HastyTown) -> None:
    await hasty.simulator.control("faults", behaviour={"answer": "closed_unread"})
    story = await lived(hasty, hasty.payments, a_phone())
    assert story.path == ["PENDING", "PROCESSING", "EXPIRED"]
    assert story.pushes == [], "bytes had left, so it must not be sent again"


REFUSALS = {
    "invalid_request": "SERVICE_MISCONFIGURED",
    "bad_payload": "SERVICE_MISCONFIGURED",
    "bad_payload_003": "SERVICE_MISCONFIGURED",
    "resource_not_found": "SERVICE_MISCONFIGURED",
    "resource_not_found_002": "SERVICE_MISCONFIGURED",
    "resource_not_found_003": "SERVICE_MISCONFIGURED",
    "invalid_authentication_header": "SERVICE_MISCONFIGURED",
    "method_not_allowed": "SERVICE_MISCONFIGURED",
    "merchant_does_not_exist": "SERVICE_MISCONFIGURED",
    "wrong_credentials": "SERVICE_MISCONFIGURED",
    "wrong_credentials_merchant_validate": "SERVICE_MISCONFIGURED",
    "subscriber_locked": "PHONE_BUSY",
    "no_iccid": "NOT_AN_MPESA_NUMBER",
}


@pytest.mark.parametrize(("error", "reason"), REFUSALS.items())
async def test_a_listed_refusal_fails_the_payment_at_once(town: Town, error: str, reason: str) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {"error": error})
    story = await lived(town, town.patient, phone)
    assert story.path == ["PENDING", "FAILED"]
    assert (reason_of(story.payment), action_of(story.payment)) == (reason, "OFFER_RETRY")
    assert story.payment.outcome_certain
    assert (len(story.pushes), story.prompts, story.debited) == (1, 0, 0)


@pytest.mark.parametrize("error", ["apigee_429", "spike_arrest", "quota", "maintenance", "incapsula_403"])
async def test_a_push_that_reached_nobody_is_sent_again(town: Town, error: str) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {"error": error})
    story = await lived(town, town.patient, phone)
    assert story.path == ["PENDING", "PROCESSING", "COMPLETED"]
    assert (len(story.pushes), story.prompts, story.debited) == (2, 1, 500)


@pytest.mark.slow
async def test_a_push_that_reaches_nobody_four_times_fails_the_payment(town: Town) -> None:
    phone = a_phone()
    await town.simulator.script(phone, *[{"error": "maintenance"}] * 5)
    story = await lived(town, town.patient, phone)
    assert story.path == ["PENDING", "FAILED"]
    assert reason_of(story.payment) == "NOT_SENT"
    assert (len(story.pushes), story.prompts) == (4, 0)


@pytest.mark.slow
async def test_a_late_answer_ends_the_callers_wait_but_not_the_send(town: Town) -> None:
    phone = a_phone()
    await town.simulator.script(phone, {**UNTIL_TOLD, "answer_delay_seconds": 5 + slowness()})
    started = await initiate(town.patient, phone)
    assert status_of(started.payment) == "PENDING", "nobody knows yet what became of the push"
    await events_until(town.patient, started, lambda payment: status_of(payment) == "PROCESSING")
    assert await town.simulator.settle(phone, ending="paid") == [200]
    events = await events_to_the_end(town.patient, started)
    story = await told_by(town, town.patient, events)
    assert story.path == ["PENDING", "PROCESSING", "COMPLETED"]
    assert (len(story.pushes), story.prompts, story.debited) == (1, 1, 500)


async def test_an_expired_payment_learns_of_its_refusal_and_is_then_certain(hasty: HastyTown) -> None:
    phone = a_phone()
    await hasty.simulator.script(phone, UNTIL_TOLD)
    started = await prompt(hasty.payments, phone)
    await events_until(hasty.payments, started, lambda payment: status_of(payment) == "EXPIRED")
    assert await hasty.simulator.settle(phone, ending="wrong_pin") == [200]
    events = await events_until(hasty.payments, started, lambda payment: payment.outcome_certain)
    story = await told_by(hasty, hasty.payments, events)
    assert story.path == ["PENDING", "PROCESSING", "EXPIRED"]
    assert action_of(story.payment) == "OFFER_RETRY"
