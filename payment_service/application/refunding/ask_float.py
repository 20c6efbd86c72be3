"""Asking M-Pesa what refunds can be paid from: one question, whose result is waited for here.

It is asked as an operator of M-Pesa, so it takes its turn among the questions for transactions (`settling.ask_status`):
one is out at a time, and none after a result that refuses the operator. The result is a callback like any other. It
comes to the reference of a payment, on whose account the question is asked, and tells nothing of that payment.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never
from uuid import UUID

from payment_service.alarms import INITIATOR_REFUSED
from payment_service.application.calling.access_token import AccessToken, NoAccessToken, get_token, token_doubted
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.following.read_payments import PaymentReads, reading
from payment_service.application.settling.accept_callbacks import body_row_id
from payment_service.application.settling.ask_status import REFUSED_PAUSE, StatusTools, may_ask
from payment_service.daraja.account_balance import (
    Balance,
    BalanceQuestion,
    NoBalance,
    ask_account_balance,
    read_balance_result,
)
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.shortcodes import Shortcode
from payment_service.daraja.status import initiator_refused
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.errors import PaymentNotFound
from payment_service.security.sealing import CALLBACK_BODY
from payment_service.store import reads
from payment_service.store import status_questions as questions
from runtime.alarms import raise_alarm

ANSWER_WITHIN_SECONDS = 25.0
"""For all of it, so that whoever asks hears why nothing is known before a call of 30 s ends."""
TURN_WITHIN_SECONDS = 6.0
"""For which another question's result is waited for; one takes 1 to 5 s."""
RESULT_WITHIN_SECONDS = 15.0
LOOK_SECONDS = 0.2
KINDS = (CallbackKind.BALANCE, CallbackKind.BALANCE_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Float:
    """What refunds of a shortcode can be paid from, in whole shillings; None, and why, where that is not known."""

    shortcode: str
    available: int | None
    problem: str = ""


async def ask_float(
    asking: Mapping[str, StatusTools], using: PaymentReads, payment_id: UUID, for_parts: bool = False
) -> Float:
    """What the account has from which this payment's money would go back, whole or in part. A look, not a promise.

    `asking` is by shortcode. Raises PaymentNotFound or StoreUnavailable.
    """
    async with reading(using) as connection:
        found = await reads.payments_named(connection, [payment_id])
        made = await reads.request_of(connection, found[0].caller, payment_id) if found else None
    if made is None:
        raise PaymentNotFound
    tools = asking.get(made.shortcode)
    if tools is None:
        return Float(made.shortcode, None, "Refunds are not set up for this shortcode.")
    shortcode = tools.safaricom.shortcodes[made.shortcode]
    paid_from = tools.operator.b2c_account(shortcode) if for_parts else shortcode
    try:
        async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
            return await _ask(tools, tools.safaricom.tokens[made.shortcode], payment_id, paid_from, made.reference)
    except TimeoutError:
        # The turn stays taken until it is given up: what was asked may still be answered.
        return Float(shortcode.number, None, f"M-Pesa has not told it within {ANSWER_WITHIN_SECONDS:.0f} seconds.")


async def _ask(
    tools: StatusTools, tokens: AccessToken, payment_id: UUID, shortcode: Shortcode, reference: str
) -> Float:
    now = tools.safaricom.clock()
    async with tools.engine.connect() as conn:
        if await questions.initiator_refused(conn, tools.operator.key, now, REFUSED_PAUSE):
            return Float(shortcode.number, None, "M-Pesa has refused our initiator: see the alarm initiator_refused.")
    try:
        token = await get_token(tokens)
    except NoAccessToken:
        return Float(shortcode.number, None, "Daraja gives no access token.")
    asked_at = await _turn(tools, reference)
    if asked_at is None:
        return Float(shortcode.number, None, "Another question to M-Pesa is not answered yet.")
    question = BalanceQuestion(shortcode, *(tools.operator.url(kind, reference) for kind in KINDS))
    answer, exchange = await ask_account_balance(
        tools.safaricom.daraja, token.value, tools.operator.initiator, question
    )
    await keep_exchange(tools.engine, tools.safaricom.sealer, exchange, payment_id)
    if isinstance(answer, NothingLearned):
        if answer.token_refused:
            token_doubted(tokens, token.generation)
        await _end(tools, asked_at, None)
        return Float(shortcode.number, None, answer.alarm or f"Daraja did not take the question ({answer.code}).")
    return await _told(tools, shortcode, reference, asked_at)


async def _turn(tools: StatusTools, reference: str) -> datetime | None:
    """Have the turn to ask: since when; None where another question has it for too long."""
    for _ in range(round(TURN_WITHIN_SECONDS / LOOK_SECONDS)):
        now = tools.safaricom.clock()
        async with tools.engine.begin() as conn:
            turn = await questions.lock_turn(conn, tools.operator.key, now)
            if await may_ask(tools, conn, turn, now):
                await questions.take_turn(conn, tools.operator.key, reference, now)
                return now
        await asyncio.sleep(LOOK_SECONDS)
    return None


async def _told(tools: StatusTools, shortcode: Shortcode, reference: str, asked_at: datetime) -> Float:
    """What the result says, once it has come to any process."""
    for _ in range(round(RESULT_WITHIN_SECONDS / LOOK_SECONDS)):
        async with tools.engine.connect() as conn:
            results = await questions.results_since(conn, KINDS, reference, asked_at)
        if results:
            body_hash, sealed = results[-1]
            body = tools.safaricom.sealer.open(CALLBACK_BODY, body_row_id(reference, body_hash), sealed)
            return await _read(tools, shortcode, body, asked_at)
        await asyncio.sleep(LOOK_SECONDS)
    return Float(shortcode.number, None, f"M-Pesa has not told it within {RESULT_WITHIN_SECONDS:.0f} seconds.")


async def _read(tools: StatusTools, shortcode: Shortcode, body: bytes, asked_at: datetime) -> Float:
    result = read_balance_result(body)
    await _end(tools, asked_at, initiator_refused(body))
    match result:
        case Balance():
            available = result.to_send(shortcode)
            problem = "M-Pesa's answer does not name the account." if available is None else ""
            return Float(shortcode.number, available, problem)
        case NoBalance():
            return Float(shortcode.number, None, f"M-Pesa does not tell it: {result.why}.")
        case _:
            assert_never(result)


async def _end(tools: StatusTools, asked_at: datetime, refusal: str | None) -> None:
    """Give the turn back, unless another question has it by now; a refusal of the operator ends all for a day."""
    now = tools.safaricom.clock()
    async with tools.engine.begin() as conn:
        if refusal is None:
            await questions.end_question(conn, tools.operator.key, asked_at, now)
            return
        await questions.pause_questions(conn, tools.operator.key, now + REFUSED_PAUSE, refusal)
    raise_alarm(INITIATOR_REFUSED, code=refusal, shortcodes=list(tools.safaricom.shortcodes))
