"""Asking for single transactions: a receipt that is pending, money that may be a payment's, a refund in doubt, and
money that only a callback has told of.

Transaction Status is asked as an operator of M-Pesa, whose password is locked after the third wrong one in a row. So
one question is out at a time: the next is asked only when the result of the last has come, or has been waited for long
enough. A result that refuses the operator stops the asking for a day, with an alarm; a corrected password is another
initiator here, and is tried at once.

That a transaction is being asked for is committed before it is. A process that is killed then leaves a question without
a result, and after the wait the next one is asked; the same transaction again when its turn comes. The result itself is
a callback like any other, taken, kept and applied where those are; this file only looks whether it has come.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from payment_service.alarms import INITIATOR_REFUSED, QUESTION_REFUSED
from payment_service.application.calling.access_token import NoAccessToken, get_token, token_doubted
from payment_service.application.calling.exchanges import keep_exchange
from payment_service.application.calling.operator import Operator
from payment_service.application.calling.safaricom import Safaricom
from payment_service.application.settling.accept_callbacks import body_row_id
from payment_service.daraja.envelopes import NothingLearned
from payment_service.daraja.status import StatusQuestion, ask_transaction_status, initiator_refused
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.cases import CaseKind
from payment_service.security.sealing import CALLBACK_BODY, SealBroken
from payment_service.store import status_questions as questions
from payment_service.store.status_questions import Turn, Wanted
from runtime.alarms import raise_alarm

LOOK_SECONDS = 2.0
"""Between two looks whether somebody is to be asked for; a result takes 1 to 5 s."""

COMPLETED_FOR = timedelta(seconds=15)
"""From "paid" without a receipt until it is asked for: most often the callback brings it sooner."""
QUERIES_APART = timedelta(minutes=15)
"""From now to the next query about money that only a callback has told of: from then on queries have not helped, and
neither have the books, which are read sooner."""
RESULT_WITHIN = timedelta(seconds=30)
"""From a question to the next one when no result comes."""
ASK_AGAIN_AFTER = timedelta(minutes=1)
"""From the first question for a transaction to the second; doubled with each one more, up to an hour."""
TRIES_MAX = 6
"""Questions for one transaction, over an hour; then it is for a person, who has a case by then. Money that is to go
back once M-Pesa has told of it is asked about every hour from then on, for the day that its refund may wait: M-Pesa may
have been away, and no question before the refund has to have been for it."""
REFUND_SENT_FOR = timedelta(seconds=5)
"""From the send of a refund until it is asked about: sooner it may not have ended."""
REFUND_TRIES_MAX = 11
"""Questions for one refund, over its first day and the next; after the first it is for a person as well."""
RESULT_KINDS = (
    CallbackKind.RESULT,
    CallbackKind.REVERSAL_STATUS,
    CallbackKind.B2C_STATUS,
    CallbackKind.BALANCE,
    CallbackKind.BALANCE_TIMEOUT,
)
"""What the answers to our questions are."""
REFUSED_PAUSE = timedelta(hours=24)
"""After a result that refuses the operator: the third wrong password would lock it, and an alarm is out."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StatusTools:
    """What asking as one operator needs."""

    engine: AsyncEngine
    safaricom: Safaricom
    """For the shortcodes that the operator asks about, which are called as one app."""
    operator: Operator


async def ask_status(tools: StatusTools) -> bool:
    """Ask for one transaction, if one is wanted and no result is outstanding; whether one was asked for."""
    now = tools.safaricom.clock()
    async with tools.engine.connect() as conn:
        wanted = await _next_wanted(tools, conn, now)
        if wanted is None:
            return False
        if await questions.initiator_refused(conn, tools.operator.key, now, REFUSED_PAUSE):
            return False
    tokens = tools.safaricom.tokens[wanted.shortcode]
    try:
        token = await get_token(tokens)
    except NoAccessToken as error:
        _log.warning("status not asked for", payment_id=str(wanted.payment_id), cause=repr(error))
        return False
    async with tools.engine.begin() as conn:
        if not await may_ask(tools, conn, await questions.lock_turn(conn, tools.operator.key, now), now):
            return False
        # Looked for again under the lock: another process may have asked for it, and have its answer already.
        wanted = await _next_wanted(tools, conn, now)
        if wanted is None:
            return False
        wait = ASK_AGAIN_AFTER * 2 ** (wanted.tries if wanted.refund_id is not None else min(wanted.tries, TRIES_MAX))
        await questions.begin_question(conn, tools.operator.key, wanted, now, now + wait)
    answer, exchange = await ask_transaction_status(
        tools.safaricom.daraja, token.value, tools.operator.initiator, _question(tools, wanted)
    )
    await keep_exchange(tools.engine, tools.safaricom.sealer, exchange, wanted.payment_id)
    if isinstance(answer, NothingLearned):
        if answer.token_refused:
            token_doubted(tokens, token.generation)
        _log.warning("status not asked for", payment_id=str(wanted.payment_id), answer=answer.code)
        if wanted.tries and answer.alarm is not None:
            raise_alarm(QUESTION_REFUSED, question="status", answer=answer.code, check=answer.alarm)
    return True


async def _next_wanted(tools: StatusTools, conn: AsyncConnection, now: datetime) -> Wanted | None:
    return await questions.next_wanted(
        conn,
        shortcodes=list(tools.safaricom.shortcodes),
        unclaimed=CaseKind.UNCLAIMED_MONEY.value,
        unbacked=CaseKind.UNBACKED_MONEY.value,
        completed_before=now - COMPLETED_FOR,
        queried_before=now + QUERIES_APART,
        tries_max=TRIES_MAX,
        refund_sent_before=now - REFUND_SENT_FOR,
        refund_tries_max=REFUND_TRIES_MAX,
        now=now,
    )


async def may_ask(tools: StatusTools, conn: AsyncConnection, turn: Turn, now: datetime) -> bool:
    """Whether the last question is answered, or given up; notes what its result says of the initiator."""
    if turn.asked_reference is None or turn.asked_at is None:
        return now >= turn.next_ask_at
    results = await questions.results_since(conn, RESULT_KINDS, turn.asked_reference, turn.asked_at)
    code = next((code for row in results if (code := _refusal_in(tools, turn.asked_reference, *row))), None)
    if code is not None:
        await questions.pause_questions(conn, tools.operator.key, now + REFUSED_PAUSE, code)
        raise_alarm(INITIATOR_REFUSED, code=code, shortcodes=list(tools.safaricom.shortcodes))
        return False
    return bool(results) or now >= turn.asked_at + RESULT_WITHIN


def _refusal_in(tools: StatusTools, reference: str, body_hash: bytes, sealed: bytes) -> str | None:
    try:
        return initiator_refused(tools.safaricom.sealer.open(CALLBACK_BODY, body_row_id(reference, body_hash), sealed))
    except SealBroken:
        return None


def _question(tools: StatusTools, wanted: Wanted) -> StatusQuestion:
    shortcode = tools.safaricom.shortcodes[wanted.shortcode]
    if wanted.is_part:
        return StatusQuestion(
            shortcode=tools.operator.b2c_account(shortcode),
            receipt=None,
            conversation_id=wanted.conversation_id,
            result_url=tools.operator.url(CallbackKind.B2C_STATUS, wanted.reference),
        )
    kind = CallbackKind.RESULT if wanted.refund_id is None else CallbackKind.REVERSAL_STATUS
    # A reversal can be found by itself, and by what it has made of the payment: each is asked for in its turn.
    by_conversation = wanted.conversation_id and (wanted.refund_id is None or wanted.tries % 2 == 0)
    by_receipt = wanted.receipt if wanted.refund_id is None or not by_conversation else ""
    return StatusQuestion(
        shortcode=shortcode,
        receipt=by_receipt or None,
        conversation_id=wanted.conversation_id,
        result_url=tools.operator.url(kind, wanted.reference),
    )
