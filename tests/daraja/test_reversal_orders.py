"""Reversals ordered of a simulated Daraja, over HTTP: what the answer proves, and what its books say became of it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daraja_simulator.settings import SANDBOX_PASSKEY
from payment_service.daraja.orders import Accepted, Failed, OrderAnswer, Refused, Unproven
from payment_service.daraja.questions import Asked
from payment_service.daraja.reversal import (
    AlreadyReversed,
    ReversalOrder,
    Reversed,
    order_reversal,
    read_reversal_result,
    read_reversal_status,
)
from payment_service.daraja.sending import NotSent, Uncertain
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.daraja.status import StatusQuestion, ask_transaction_status
from tests.daraja.ordering import Ordering, ordering
from tests.daraja_simulator.merchant import new_phone
from tests.daraja_simulator.results import paid, result_of, results
from tests.patience import PATIENCE_SECONDS

PAYBILL = Shortcode("174379", ShortcodeKind.PAYBILL, SANDBOX_PASSKEY)


def order_of(made: Ordering, receipt: str, shortcode: Shortcode = PAYBILL, amount: int = 150) -> ReversalOrder:
    url = made.merchant.callback_url
    return ReversalOrder(shortcode, receipt, amount, f"{url}/result", f"{url}/timeout")


def bodies(made: Ordering) -> list[bytes]:
    return [result.body for result in results(made.merchant.received)]


async def ordered(made: Ordering, receipt: str) -> OrderAnswer:
    return (await order_reversal(made.client, made.token, made.initiator, order_of(made, receipt)))[0]


async def test_a_payment_goes_back_and_is_proven_by_its_result(tmp_path: Path) -> None:
    async with ordering(tmp_path) as made:
        phone = new_phone()
        receipt = await paid(made.merchant, phone)
        answer, exchange = await order_reversal(made.client, made.token, made.initiator, order_of(made, receipt))
        assert isinstance(answer, Accepted)
        result = read_reversal_result((await result_of(made.merchant)).body)
        account = await made.merchant.account(phone)
    assert isinstance(result, Reversed)
    assert (result.original_receipt, result.amount) == (receipt, 150)
    assert account["returned_kes"] == 150
    assert (exchange.operation, exchange.classified_as) == ("reversal", "Accepted")
    sent = json.loads(exchange.request_body)
    assert (sent["TransactionID"], sent["SecurityCredential"]) == (receipt, "[blanked]")


@pytest.mark.parametrize(
    "script",
    [
        {"answer": "lost"},
        {"answer": "cut_body"},
        {"error": "internal_error", "carries_out": True},
        {"error": "system_internal_error", "carries_out": True, "result": "once"},
        {"error": "incapsula_503", "carries_out": True, "result": "once"},
    ],
)
async def test_what_was_carried_out_is_never_taken_for_refused(tmp_path: Path, script: dict[str, object]) -> None:
    async with ordering(tmp_path) as made:
        phone = new_phone()
        receipt = await paid(made.merchant, phone)
        await made.script(**script)
        assert isinstance(await ordered(made, receipt), Uncertain)
        await made.returned(phone)
        before = len(results(made.merchant.received))
        # What nobody should do shows that it was done once.
        assert isinstance(await ordered(made, receipt), Accepted)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while AlreadyReversed() not in map(read_reversal_result, bodies(made)[before:]):
                await asyncio.sleep(0.01)
        assert (await made.merchant.account(phone))["returned_kes"] == 150


@pytest.mark.parametrize("error", ["invalid_access_token", "apigee_429", "maintenance", "incapsula_403"])
async def test_what_did_not_reach_mpesa_may_be_sent_again(tmp_path: Path, error: str) -> None:
    async with ordering(tmp_path) as made:
        receipt = await paid(made.merchant, new_phone())
        await made.script(error=error)
        assert isinstance(await ordered(made, receipt), NotSent)
        assert isinstance(await ordered(made, receipt), Accepted)


async def test_a_wrong_amount_is_refused_and_too_late_is_not_sent(tmp_path: Path) -> None:
    async with ordering(tmp_path) as made:
        receipt = await paid(made.merchant, new_phone())
        wrong = order_of(made, receipt, amount=149)
        assert isinstance((await order_reversal(made.client, made.token, made.initiator, wrong))[0], Refused)
        passed = datetime.now(UTC) - timedelta(seconds=1)
        late = order_reversal(made.client, made.token, made.initiator, order_of(made, receipt), send_before=passed)
        assert (await late)[0] == NotSent("TOO_LATE_TO_SEND")


async def test_an_empty_account_and_a_timeout_are_told_apart(tmp_path: Path) -> None:
    async with ordering(tmp_path) as made:
        receipt = await paid(made.merchant, new_phone())
        await made.merchant.control("balance", {"shortcode": "174379", "kes": 0})
        assert isinstance(await ordered(made, receipt), Accepted)
        empty = await result_of(made.merchant)
        await made.script(result="queue_timeout")
        assert isinstance(await ordered(made, receipt), Accepted)
        timeout = await result_of(made.merchant, 2)
    assert (empty.status["ResultCode"], timeout.status["ResultCode"]) == (1, 1)
    assert isinstance(read_reversal_result(empty.body), Failed)
    assert isinstance(read_reversal_result(timeout.body), Unproven)


async def test_a_reversal_without_a_result_is_found_by_transaction_status(tmp_path: Path) -> None:
    async with ordering(tmp_path) as made:
        phone = new_phone()
        receipt = await paid(made.merchant, phone)
        await made.script(result="never")
        answer = await ordered(made, receipt)
        assert isinstance(answer, Accepted)
        conversation = answer.originator_conversation_id
        await made.returned(phone)
        told: list[object] = []
        for asked in (None, receipt):
            question = StatusQuestion(PAYBILL, asked, conversation, f"{made.merchant.callback_url}/result")
            taken, _ = await ask_transaction_status(made.client, made.token, made.initiator, question)
            assert isinstance(taken, Asked)
            body = (await result_of(made.merchant, len(told) + 1)).body
            told.append(read_reversal_status(body, receipt, conversation))
    by_conversation, by_receipt = told
    assert isinstance(by_conversation, Reversed)
    assert (by_conversation.original_receipt, by_conversation.amount) == (receipt, 150)
    assert by_receipt == AlreadyReversed()
