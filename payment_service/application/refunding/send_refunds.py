"""Sending refunds: at most one request on the wire for a refund, and never a second after an unknown fate.

The whole of a payment goes back by Reversal, a part by B2C to the number that was prompted. The steps are those of a
prompt (`collecting.send_prompt`). A turn and a token are had first. Then the claim is committed:
from here on the refund counts as sent. Then one POST, without retries, and its outcome is recorded. If this process
dies after the claim, the lease runs out and the refund is uncertain: it is asked about by Transaction Status.

A refund is sent as an operator of M-Pesa, whose password is locked after the third wrong one in a row. So refunds leave
one at a time until one of them is done, and again when none was for an hour. A result that refuses the operator, of a
refund or of a question, stops both for a day; a corrected password is another initiator here, and is tried at once.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from uuid_utils.compat import uuid7

from payment_service.alarms import PROGRAM_FAULT, REFUND_HELD_UP, REFUND_REFUSED
from payment_service.application.calling.access_token import NoAccessToken, Token, token_doubted
from payment_service.application.calling.exchanges import exchange_row
from payment_service.application.calling.operator import Operator
from payment_service.application.calling.request_budget import BudgetExhausted, RequestBudget
from payment_service.application.calling.safaricom import Safaricom, turn_and_token
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.record_outcome import record_claim, record_outcome, send_before
from payment_service.application.settling.ask_status import REFUSED_PAUSE
from payment_service.daraja import orders, sending
from payment_service.daraja.b2c import B2cOrder, order_b2c
from payment_service.daraja.client import Exchange
from payment_service.daraja.orders import OrderAnswer, TakenBefore
from payment_service.daraja.reversal import ReversalOrder, order_reversal
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.refund import Refund, RefundState
from payment_service.domain.refund_facts import (
    RefundAccepted,
    RefundAnswer,
    RefundAnswerLost,
    RefundClaimed,
    RefundNotSent,
    RefundRefused,
)
from payment_service.security.sealing import PHONE_NUMBER
from payment_service.store import refunds as store
from payment_service.store.status_questions import initiator_refused
from runtime.alarms import raise_alarm

NUMBER_ERASED = "NUMBER_ERASED"
"""In the place of a code of M-Pesa's: nobody knows any more where the part would go."""
AT_ONCE = 16
"""Refunds that one process has on the wire; the budget says how many leave in a second."""
PROVEN_FOR = timedelta(hours=1)
"""From a refund that is done until its initiator counts as untried again: its password may have been changed."""

HELD_UP_AFTER = timedelta(minutes=15)
"""From the request until each send in vain is told to a person, and that it waits at all: so long the passenger has
waited, whether it was tried or not. What lasts a moment has passed by then."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefundTools:
    """What sending refunds as one operator needs, and the sends of this process that are under way as it."""

    engine: AsyncEngine
    facts: GroupCommit[Submission, Recorded]
    safaricom: Safaricom
    """For the shortcodes that the operator sends back from."""
    budget: RequestBudget
    operator: Operator
    under_way: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)


async def send_refunds(tools: RefundTools) -> int:
    """Begin to send the refunds that wait for it; how many. Each send is a task that outlives the step."""
    now = tools.safaricom.clock()
    async with tools.engine.connect() as conn:
        free = await _places(tools, conn, now)
        if free <= 0:
            return 0
        waiting = await store.refunds_to_send(conn, list(tools.safaricom.shortcodes), now, AT_ONCE)
    begun = [refund for refund in waiting if refund.refund_id not in tools.under_way][:free]
    for refund in begun:
        task = asyncio.create_task(_claim_and_send(tools, refund), name="send-refund")
        tools.under_way[refund.refund_id] = task
        task.add_done_callback(partial(_sent, tools, refund.refund_id))
    return len(begun)


async def _places(tools: RefundTools, conn: AsyncConnection, now: datetime) -> int:
    """How many refunds may leave now. Processes that look in the same milliseconds may each send a first one."""
    proven = await store.initiator_proven(conn, tools.operator.key, now - PROVEN_FOR)
    busy = not proven and (bool(tools.under_way) or await store.order_on_its_way(conn, tools.operator.key))
    # Looked at last: a result that comes meanwhile takes its refund off the way, and may refuse the initiator.
    if busy or await initiator_refused(conn, tools.operator.key, now, REFUSED_PAUSE):
        return 0
    return AT_ONCE - len(tools.under_way) if proven else 1


async def drain_refunds(tools: RefundTools, seconds: float) -> None:
    """Wait for the sends under way. What is not done in time is left to its lease: uncertain, and asked about."""
    under_way: Collection[asyncio.Task[None]] = list(tools.under_way.values())
    if under_way:
        _, late = await asyncio.wait(under_way, timeout=seconds)
        for task in late:
            task.cancel()


def _sent(tools: RefundTools, refund_id: UUID, task: asyncio.Task[None]) -> None:
    del tools.under_way[refund_id]
    if not task.cancelled() and (error := task.exception()) is not None:
        raise_alarm(PROGRAM_FAULT, refund_id=str(refund_id), exc_info=error)


async def _claim_and_send(tools: RefundTools, refund: Refund) -> None:
    # Before a claim is made: what must not be sent is found out while nothing is claimed.
    order = await _order(tools, refund)
    if order is None:
        await _give_up(tools, refund)
        return
    try:
        token = await turn_and_token(tools.safaricom, tools.budget, refund.shortcode)
    except (BudgetExhausted, NoAccessToken) as error:
        _log.warning("refund postponed", refund_id=str(refund.refund_id), cause=repr(error))
        return
    claim_id = uuid7()
    claim = RefundClaimed(claim_id, tools.operator.key)
    claimed = await record_claim(tools.facts, Submission(claim, refund.payment_id, refund_id=refund.refund_id))
    now = claimed.refund
    if now is None or now.state is not RefundState.SENDING or now.claim_id != claim_id:
        # Another process sends it, or it has ended.
        tools.budget.give_back(refund.shortcode)
        return
    await _send(tools, now, order, token)


async def _send(tools: RefundTools, refund: Refund, order: ReversalOrder | B2cOrder, token: Token) -> None:
    """One request under a committed claim, and its outcome recorded."""
    assert refund.claim_id is not None, "only what is claimed is sent"
    answer, exchange = await _ordered(tools, refund, order, token)
    if isinstance(answer, sending.NotSent):
        await _heed(tools, refund, answer, token)
    elif isinstance(answer, orders.Refused):
        raise_alarm(REFUND_REFUSED, refund_id=str(refund.refund_id), code=answer.code, check=answer.alarm)
    row = exchange_row(tools.safaricom.sealer, exchange, refund.payment_id)
    outcome = _fact(answer, refund.claim_id)
    await record_outcome(tools.facts, Submission(outcome, refund.payment_id, refund_id=refund.refund_id, exchange=row))


async def _ordered(
    tools: RefundTools, refund: Refund, order: ReversalOrder | B2cOrder, token: Token
) -> tuple[OrderAnswer | TakenBefore, Exchange]:
    daraja, initiator = tools.safaricom.daraja, tools.operator.initiator
    before = send_before(refund.lease_expires_at, daraja.push_timeouts.total_seconds)
    if isinstance(order, B2cOrder):
        return await order_b2c(daraja, token.value, initiator, order, send_before=before)
    return await order_reversal(daraja, token.value, initiator, order, send_before=before)


async def _heed(tools: RefundTools, refund: Refund, answer: sending.NotSent, token: Token) -> None:
    """What follows from a request that reached nobody, beside that it is made again."""
    if answer.token_refused:
        # Prompts go on: it may be that only the app's Reversal or B2C is missing.
        token_doubted(tools.safaricom.tokens[refund.shortcode], token.generation)
    if answer.retry_after is not None:
        await tools.budget.slow_down(refund.shortcode, answer.retry_after)
    token_is_not_the_cause = answer.token_refused and refund.not_sent_count > 0
    waits_long = tools.safaricom.clock() >= refund.requested_at + HELD_UP_AFTER
    if answer.alarm is not None or token_is_not_the_cause or waits_long:
        raise_alarm(REFUND_HELD_UP, refund_id=str(refund.refund_id), code=answer.code, check=answer.alarm)


async def _give_up(tools: RefundTools, refund: Refund) -> None:
    """A part goes to a number, and this payment has none any more. A person has to find another way."""
    claim = RefundClaimed(uuid7(), tools.operator.key)
    claimed = await record_claim(tools.facts, Submission(claim, refund.payment_id, refund_id=refund.refund_id))
    if claimed.refund is None or claimed.refund.claim_id != claim.claim_id:
        return
    check = "the payer's number was erased: a part cannot go back by B2C"
    raise_alarm(REFUND_REFUSED, refund_id=str(refund.refund_id), code=NUMBER_ERASED, check=check)
    outcome = RefundRefused(claim.claim_id, NUMBER_ERASED)
    await record_outcome(tools.facts, Submission(outcome, refund.payment_id, refund_id=refund.refund_id))


async def _order(tools: RefundTools, refund: Refund) -> ReversalOrder | B2cOrder | None:
    """What M-Pesa is asked for; None where nobody knows any more where a part would go."""
    if refund.is_part:
        async with tools.engine.connect() as conn:
            sealed = await store.payer_of(conn, refund.payment_id)
        number = tools.safaricom.sealer.open(PHONE_NUMBER, refund.payment_id.bytes, sealed).decode()
        if not number:
            return None
        return B2cOrder(
            account=tools.operator.b2c_account(tools.safaricom.shortcodes[refund.shortcode]),
            command=tools.operator.b2c_command,
            originator_conversation_id=refund.originator_conversation_id or "",
            phone_number=number,
            amount=refund.amount,
            result_url=tools.operator.url(CallbackKind.B2C, refund.reference),
            timeout_url=tools.operator.url(CallbackKind.B2C_TIMEOUT, refund.reference),
        )
    return ReversalOrder(
        shortcode=tools.safaricom.shortcodes[refund.shortcode],
        receipt=refund.receipt,
        amount=refund.amount,
        result_url=tools.operator.url(CallbackKind.REVERSAL, refund.reference),
        timeout_url=tools.operator.url(CallbackKind.REVERSAL_TIMEOUT, refund.reference),
    )


def _fact(answer: OrderAnswer | TakenBefore, claim_id: UUID) -> RefundAnswer:
    match answer:
        case orders.Accepted():
            return RefundAccepted(claim_id, answer.originator_conversation_id, answer.conversation_id)
        case orders.Refused():
            return RefundRefused(claim_id, answer.code)
        case sending.NotSent():
            return RefundNotSent(claim_id, answer.code)
        case sending.Uncertain() | TakenBefore():
            # M-Pesa has had an order of this name before: what became of it is not said, so it is asked about.
            return RefundAnswerLost(claim_id)
        case _:
            assert_never(answer)
