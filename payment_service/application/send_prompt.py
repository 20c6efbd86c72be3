"""Sending the prompt: at most one request on the wire for a payment, and never a second after an unknown fate.

The order is the whole point. A turn and a token are had first, because they may
take long. Then the claim is committed: from here on the payment counts as sent.
Then one POST, without retries. Then its outcome is recorded. If this process
dies after the claim, the lease runs out and the payment becomes uncertain; no
path leads back to sending but the proof that nothing was sent.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import stamina
import structlog
from opentelemetry import trace
from uuid_utils.compat import uuid7

from payment_service.application.access_token import AccessToken, NoAccessToken, get_token, token_refused
from payment_service.application.exchanges import exchange_row
from payment_service.application.group_commit import GroupCommit
from payment_service.application.record_facts import Recorded, Submission
from payment_service.application.request_budget import BudgetExhausted, RequestBudget
from payment_service.daraja import messages
from payment_service.daraja.client import DarajaClient, push
from payment_service.daraja.messages import PushAnswer
from payment_service.daraja.shortcodes import PushRequest, Shortcode
from payment_service.domain.errors import StoreUnavailable
from payment_service.domain.facts import AnswerLost, Fact, NotSent, PromptAccepted, PromptRefused, SendClaimed
from payment_service.domain.payment import Payment, State, Times
from payment_service.security.sealing import Sealer
from payment_service.store.payments import Prompt
from payment_service.telemetry import remote_parent
from runtime.callback_tokens import CallbackKeys, callback_path

RECORD_WAIT_SECONDS = 300.0
"""How long the outcome of a send is offered to a store that does not answer. After that the lease has long run out
and the payment is uncertain, which is true: a callback or an operator settles it."""

NO_TURN_WAIT = timedelta(seconds=1)
"""Before trying again when there is no token or no turn."""

TRY_AGAIN_WAIT = timedelta(milliseconds=200)
"""The shortest wait between two tries, however long ago the next one was due."""

RECORD_MARGIN_SECONDS = 2.0
"""Lease that must be left beyond the longest request, for recording its outcome."""

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("payment_service")


@dataclass(frozen=True, slots=True)
class SendTools:
    """What sending needs."""

    facts: GroupCommit[Submission, Recorded]
    tokens: AccessToken
    budget: RequestBudget
    daraja: DarajaClient
    shortcodes: Mapping[str, Shortcode]
    sealer: Sealer
    callback_keys: CallbackKeys
    callback_base_url: str
    clock: Callable[[], datetime]
    times: Times


async def send_prompt(tools: SendTools, prompt: Prompt, give_up_at: datetime) -> Payment | None:
    """Send until the fate of the prompt is known or `give_up_at` has passed; the payment as it then stands.

    None when it could not even be claimed. Run it in a task that nobody cancels.
    """
    payment = None
    with remote_parent(prompt.trace_parent), _tracer.start_as_current_span("send prompt"):
        while tools.clock() < give_up_at:
            again, latest = await _send_once(tools, prompt)
            payment = latest or payment
            if not again:
                break
            next_try = payment.send_at if payment is not None else None
            wait = next_try - tools.clock() if next_try is not None else NO_TURN_WAIT
            await asyncio.sleep(max(wait, TRY_AGAIN_WAIT).total_seconds())
    return payment


async def _send_once(tools: SendTools, prompt: Prompt) -> tuple[bool, Payment | None]:
    """One try; whether to try again, and the payment as it stands, if it was looked at."""
    request = _push_request(tools, prompt)
    try:
        await tools.budget.take(prompt.shortcode)
        token = await get_token(tools.tokens)
    except (BudgetExhausted, NoAccessToken) as error:
        _log.warning("prompt postponed", payment_id=str(prompt.payment_id), cause=repr(error))
        return True, None
    claim_id = uuid7()
    claimed = await _record(tools, Submission(SendClaimed(claim_id), prompt.payment_id))
    payment = claimed.payment
    if payment is None or payment.claim_id != claim_id or payment.lease_expires_at is None:
        return False, payment
    longest = timedelta(seconds=tools.daraja.push_timeouts.total_seconds + RECORD_MARGIN_SECONDS)
    answer, exchange = await push(tools.daraja, token.value, request, send_before=payment.lease_expires_at - longest)
    if isinstance(answer, messages.NotSent):
        if answer.token_refused:
            token_refused(tools.tokens, token.generation)
        if answer.retry_after is not None:
            await tools.budget.slow_down(prompt.shortcode, answer.retry_after)
    row = exchange_row(tools.sealer, exchange, prompt.payment_id)
    recorded = await _record(tools, Submission(_fact(answer, claim_id), prompt.payment_id, exchange=row))
    return recorded.payment is not None and recorded.payment.state is State.CREATED, recorded.payment


def _push_request(tools: SendTools, prompt: Prompt) -> PushRequest:
    """Built before the claim: what must not be sent is found out while nothing is claimed."""
    return PushRequest(
        shortcode=tools.shortcodes[prompt.shortcode],
        phone_number=prompt.phone_number,
        amount=prompt.amount,
        account_reference=prompt.account_reference,
        callback_url=tools.callback_base_url + callback_path(tools.callback_keys, "stk", prompt.reference),
        description=prompt.description,
    )


def _fact(answer: PushAnswer, claim_id: UUID) -> Fact:
    match answer:
        case messages.Accepted():
            return PromptAccepted(claim_id, answer.merchant_request_id, answer.checkout_request_id)
        case messages.Refused():
            return PromptRefused(claim_id, answer.code, answer.reason)
        case messages.NotSent():
            return NotSent(claim_id, answer.code)
        case messages.Uncertain():
            return AnswerLost(claim_id)
        case _:
            assert_never(answer)


async def _record(tools: SendTools, submission: Submission) -> Recorded:
    """Record a fact of the send, however long the store is away: it cannot be had again."""
    with contextlib.suppress(StoreUnavailable):
        return await tools.facts.submit(submission, patient=True)
    async for attempt in stamina.retry_context(
        on=StoreUnavailable, timeout=RECORD_WAIT_SECONDS, attempts=None, wait_max=5.0
    ):
        with attempt:
            return await tools.facts.submit(submission, patient=True)
    raise StoreUnavailable
