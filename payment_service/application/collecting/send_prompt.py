"""Sending the prompt: at most one request on the wire for a payment, and never a second after an unknown fate.

The order is the whole point. A turn and a token are had first, because they may
take long. Then the claim is committed: from here on the payment counts as sent.
Where both are at hand when the payment is made, that is one commit with its
creation. Then one POST, without retries. Then its outcome is recorded. If this process
dies after the claim, the lease runs out and the payment becomes uncertain; no
path leads back to sending but the proof that nothing was sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import structlog
from opentelemetry import trace
from uuid_utils.compat import uuid7

from payment_service.application.calling.access_token import NoAccessToken, Token, token_at_hand, token_refused
from payment_service.application.calling.exchanges import exchange_row
from payment_service.application.calling.request_budget import BudgetExhausted, RequestBudget
from payment_service.application.calling.safaricom import Safaricom, turn_and_token
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.recording.record_outcome import record_claim, record_outcome, send_before
from payment_service.daraja import push as daraja_push
from payment_service.daraja import sending
from payment_service.daraja.push import PushAnswer
from payment_service.daraja.shortcodes import PushRequest
from payment_service.domain.errors import PromptsStopped, StoreUnavailable
from payment_service.domain.facts import AnswerLost, Fact, NotSent, PromptAccepted, PromptRefused, SendClaimed
from payment_service.domain.payment import Payment, State, Times
from payment_service.store.prompts import Prompt
from payment_service.telemetry import remote_parent
from runtime.callback_tokens import CallbackKeys, callback_path

NO_TURN_WAIT = timedelta(seconds=1)
"""Before trying again when there is no token or no turn."""

TRY_AGAIN_WAIT = timedelta(milliseconds=200)
"""The shortest wait between two tries, however long ago the next one was due."""

CLAIM_DROPPED = "CLAIM_DROPPED"
"""The code of a send that was claimed and never begun."""
DROP_AGAIN_SECONDS = 1.0
"""Between two looks whether the payment of a dropped claim has appeared."""

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("payment_service")


@dataclass(frozen=True, slots=True)
class SendTools:
    """What sending needs."""

    facts: GroupCommit[Submission, Recorded]
    safaricom: Safaricom
    budget: RequestBudget
    callback_keys: CallbackKeys = field(repr=False)
    callback_base_url: str
    times: Times
    check_allowed: Callable[[], Awaitable[None]]
    """Raises PromptsStopped once an operator has stopped all new prompts, and StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that is still to be committed, and the token to send with."""

    claim_id: UUID
    token: Token

    def holds(self, payment: Payment) -> bool:
        """Whether the payment's row says that it is this claim's to send."""
        return payment.state is State.SENDING and payment.claim_id == self.claim_id


@dataclass(frozen=True, slots=True)
class HeldClaim:
    """A claim that stands on its payment's row: this process sends, and no other does."""

    claim: Claim
    payment: Payment


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try to send came to."""

    again: bool
    """Whether another try may follow."""
    payment: Payment | None
    """As it then stands; None where it was not looked at."""


def claim_at_once(tools: SendTools, shortcode: str) -> Claim | None:
    """A claim to be committed together with a new payment, if a turn and a token are there without waiting.

    A claim that comes to nothing goes to `drop_claim`.
    """
    tokens = tools.safaricom.tokens.get(shortcode)
    token = token_at_hand(tokens) if tokens is not None else None
    if token is None or not tools.budget.take_at_once(shortcode):
        return None
    return Claim(uuid7(), token)


async def drop_claim(tools: SendTools, payment_id: UUID, claim: Claim) -> None:
    """Say that nothing is sent under a claim that may have been committed all the same: another may send then.

    A commit whose outcome was unknown may still be under way, and is told as soon as its row can be seen. After the
    lease there is no need to: it leaves the payment uncertain.
    """
    dropped = Submission(NotSent(claim.claim_id, CLAIM_DROPPED), payment_id)
    over_at = tools.safaricom.clock() + tools.times.lease
    while (await record_outcome(tools.facts, dropped)).payment is None and tools.safaricom.clock() < over_at:
        await asyncio.sleep(DROP_AGAIN_SECONDS)


async def send_prompt(
    tools: SendTools, prompt: Prompt, give_up_at: datetime, held: HeldClaim | None = None
) -> Payment | None:
    """Send until the fate of the prompt is known or `give_up_at` has passed; the payment as it then stands.

    None when it could not even be claimed. Run it in a task that nobody cancels.
    """
    # Before a claim is made here: what must not be sent is found out while nothing is claimed.
    request, payment = _push_request(tools, prompt), None
    with remote_parent(prompt.trace_parent), _tracer.start_as_current_span("send prompt"):
        # A claim that is held has to come to something, however late it is: `push` gives up what is too late to send.
        while held or tools.safaricom.clock() < give_up_at:
            tried = await (_send(tools, request, held) if held else _claim_and_send(tools, request, prompt.payment_id))
            held, payment = None, tried.payment or payment
            if not tried.again:
                break
            next_try = payment.send_at if payment is not None else None
            wait = next_try - tools.safaricom.clock() if next_try is not None else NO_TURN_WAIT
            await asyncio.sleep(max(wait, TRY_AGAIN_WAIT).total_seconds())
    return payment


async def _claim_and_send(tools: SendTools, request: PushRequest, payment_id: UUID) -> Tried:
    shortcode = request.shortcode.number
    try:
        token = await turn_and_token(tools.safaricom, tools.budget, shortcode)
    except (BudgetExhausted, NoAccessToken) as error:
        return _postponed(payment_id, error)
    try:
        # Last of all, so that what has waited for its turn is stopped as well.
        await tools.check_allowed()
    except (PromptsStopped, StoreUnavailable) as error:
        tools.budget.give_back(shortcode)
        return _postponed(payment_id, error)
    claim = Claim(uuid7(), token)
    claimed = await record_claim(tools.facts, Submission(SendClaimed(claim.claim_id), payment_id))
    if claimed.payment is None or not claim.holds(claimed.payment):
        tools.budget.give_back(shortcode)
        return Tried(again=False, payment=claimed.payment)
    return await _send(tools, request, HeldClaim(claim, claimed.payment))


def _postponed(payment_id: UUID, error: Exception) -> Tried:
    _log.warning("prompt postponed", payment_id=str(payment_id), cause=repr(error))
    return Tried(again=True, payment=None)


async def _send(tools: SendTools, request: PushRequest, held: HeldClaim) -> Tried:
    """One push under a committed claim, and its outcome recorded."""
    claim, payment = held.claim, held.payment
    daraja = tools.safaricom.daraja
    before = send_before(payment.lease_expires_at, daraja.push_timeouts.total_seconds)
    answer, exchange = await daraja_push.push(daraja, claim.token.value, request, send_before=before)
    if isinstance(answer, sending.NotSent):
        if answer.token_refused:
            token_refused(tools.safaricom.tokens[request.shortcode.number], claim.token.generation)
        if answer.retry_after is not None:
            await tools.budget.slow_down(request.shortcode.number, answer.retry_after)
    row = exchange_row(tools.safaricom.sealer, exchange, payment.payment_id)
    outcome = Submission(_fact(answer, claim.claim_id), payment.payment_id, exchange=row)
    recorded = await record_outcome(tools.facts, outcome)
    again = recorded.payment is not None and recorded.payment.state is State.CREATED
    return Tried(again, recorded.payment)


def _push_request(tools: SendTools, prompt: Prompt) -> PushRequest:
    return PushRequest(
        shortcode=tools.safaricom.shortcodes[prompt.shortcode],
        phone_number=prompt.phone_number,
        amount=prompt.amount,
        account_reference=prompt.account_reference,
        callback_url=tools.callback_base_url + callback_path(tools.callback_keys, "stk", prompt.reference),
        description=prompt.description,
    )


def _fact(answer: PushAnswer, claim_id: UUID) -> Fact:
    match answer:
        case daraja_push.Accepted():
            return PromptAccepted(claim_id, answer.merchant_request_id, answer.checkout_request_id)
        case daraja_push.Refused():
            return PromptRefused(claim_id, answer.code, answer.reason)
        case sending.NotSent():
            return NotSent(claim_id, answer.code)
        case sending.Uncertain():
            return AnswerLost(claim_id)
        case _:
            assert_never(answer)
