"""The list of phones that get no prompts, over the wire: what operators say of a phone, and what callers meet then."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path

import grpc
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_service_pb2 as payment_pb

from payment_service.domain.risk import Limit, Mode, Rule, RulePolicy
from tests.databases import Database
from tests.rows import rows_of
from tests.rpc.answers import refused
from tests.rpc.processes import Process, running_process, sent
from tests.rpc.processes import refused as refused_by_payer
from tests.rpc.test_methods import a_message


async def test_a_phone_is_blocked_allowed_and_taken_off_the_list(database: Database, tmp_path: Path) -> None:
    unpaid = {Rule.PHONE_UNPAID: RulePolicy(Mode.ENFORCE, (Limit(1, timedelta(hours=1)),))}
    async with running_process(database.application_url, tmp_path, risk=unpaid) as process:
        first = a_message()
        made = await process.payments.InitiatePayment(first)
        asked = a_message(request_id="req-2", booking_id="BK-2")
        assert (await refused(process.payments.InitiatePayment(asked))).reason == "TOO_MANY_PROMPTS"

        blocked = await listed(process, pb.RISK_VERDICT_BLOCK, phone_number="0712 345 678")
        refusal = await refused(process.payments.InitiatePayment(asked))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PHONE_BLOCKED")
        assert (await process.payments.InitiatePayment(first)).payment.payment_id == made.payment.payment_id
        found = await process.operations.GetRisk(pb.GetRiskRequest())
        assert [turn.fingerprint for turn in found.turns] == [blocked.fingerprint]
        assert {rule.name: (rule.mode, rule.refused) for rule in found.rules} == {
            "PHONE_BLOCKED": ("enforce", 1),
            "PHONE_UNPAID": ("enforce", 1),
        }

        await listed(process, pb.RISK_VERDICT_ALLOW)
        assert not (await process.payments.InitiatePayment(asked)).replayed

        await listed(process, pb.RISK_VERDICT_NONE)
        third = a_message(request_id="req-3", booking_id="BK-3")
        assert (await refused(process.payments.InitiatePayment(third))).reason == "TOO_MANY_PROMPTS"
        assert list((await process.operations.GetRisk(pb.GetRiskRequest())).turns) == []
        said = await process.operations.GetRisk(pb.GetRiskRequest(phone_number="+254712345678"))
        assert [turn.verdict for turn in said.turns] == [
            pb.RISK_VERDICT_NONE,
            pb.RISK_VERDICT_ALLOW,
            pb.RISK_VERDICT_BLOCK,
        ]
    ((kept,),) = await rows_of(database, "SELECT string_agg(l::text, '') FROM risk_list l")
    assert "712345678" not in kept


async def test_a_phone_is_on_the_list_until_a_time_that_is_told(process: Process) -> None:
    until = process.writers.clock.now.replace(microsecond=0) + timedelta(hours=1)
    asked = pb.ListPhoneRequest(
        phone_number="0712345678", verdict=pb.RISK_VERDICT_BLOCK, operator="amina", reason="stolen"
    )
    asked.until_time.FromDatetime(until)
    assert (await process.operations.ListPhone(asked)).turn.until_time.ToDatetime(UTC) == until
    refusal = await refused(process.payments.InitiatePayment(a_message()))
    assert refusal.reason == "PHONE_BLOCKED"
    process.writers.clock.move(3600)
    assert (await process.payments.InitiatePayment(a_message())).payment.payment_id
    assert list((await process.operations.GetRisk(pb.GetRiskRequest())).turns) == []
    assert (await refused(process.operations.ListPhone(asked))).reason == "INVALID_REQUEST", "that time has passed"
    refusal = await refused(process.operations.ListPhone(pb.ListPhoneRequest()))
    assert set(refusal.fields) == {"phone_number", "verdict", "operator", "reason"}


async def test_a_retry_is_a_prompt_like_any_other(database: Database, tmp_path: Path) -> None:
    unpaid = {Rule.BOOKING_UNPAID: RulePolicy(Mode.ENFORCE, (Limit(1, timedelta(hours=1)),))}
    async with running_process(database.application_url, tmp_path, risk=unpaid) as process:
        payment = await process.tell(await process.create(booking_id="BK-1"), *sent(1), refused_by_payer("2001"))
        retry = payment_pb.RetryPaymentRequest(request_id="retry-1", payment_id=str(payment.payment_id))
        refusal = await refused(process.payments.RetryPayment(retry))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_PROMPTS")
        assert refusal.metadata == {"subject": "booking", "rule": "BOOKING_UNPAID"}
        assert refusal.retry_after is not None
        assert 0 < refusal.retry_after <= 3600
        process.writers.clock.move(3600)
        made = await process.payments.RetryPayment(retry)
        assert (made.payment.attempt, made.payment.retry_of) == (2, str(payment.payment_id))


async def listed(
    process: Process, verdict: pb.RiskVerdict.ValueType, phone_number: str = "254712345678"
) -> pb.RiskListTurn:
    asked = pb.ListPhoneRequest(phone_number=phone_number, verdict=verdict, operator="amina", reason="asked us to")
    turn = (await process.operations.ListPhone(asked)).turn
    assert (turn.verdict, turn.operator, turn.reason) == (verdict, "amina", "asked us to")
    return turn
