"""Starting a payment: record it, send the prompt, and wait a moment for its fate.

The prompt is sent in a task that outlives the caller: whoever hangs up changes
nothing about what has been recorded.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from payment_service.alarms import PROGRAM_FAULT
from payment_service.application.collecting.create_payment import Created, Decision, NewPayment, create_payment
from payment_service.application.collecting.send_prompt import (
    HeldClaim,
    SendTools,
    claim_at_once,
    drop_claim,
    send_prompt,
)
from payment_service.application.following.read_payments import PaymentReads, get_payment
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.domain.errors import BookingBarred, Overloaded, PromptsStopped, RequestIdReused, RiskRefused
from payment_service.domain.payment import ENDED_UNPAID, Payment, PaymentRequest, PhoneWarning, RetryRequest, Status
from payment_service.domain.views import Answered, view_of
from payment_service.store.prompts import Prompt
from runtime.alarms import raise_alarm

Result = TypeVar("Result")

LOOK_AGAIN_SECONDS = 0.1
"""How often a repeated call looks whether the process that sends the prompt has learned its fate."""


@dataclass(frozen=True, slots=True)
class InitiatePayments:
    """Starts payments, and knows the sends of this process that are under way."""

    creates: GroupCommit[NewPayment, Decision]
    send: SendTools
    reads: PaymentReads
    default_shortcode: str
    """Receives the money of requests that name none."""
    sending: dict[UUID, asyncio.Task[Payment | None]] = field(default_factory=dict)
    starting: set[asyncio.Task[Any]] = field(default_factory=set)
    """What leads to a send, or says that there will be none."""

    async def __call__(
        self,
        caller: str,
        request: PaymentRequest,
        warning: PhoneWarning | None,
        wait_until: float,
        trace_parent: str | None,
        retry: RetryRequest | None = None,
    ) -> Answered:
        """The payment as it stands once its prompt's fate is known, or at `wait_until` (the loop's time).

        `retry` is what was asked where the request was made from one. Raises what `create_payment` raises.
        """
        # In a task of its own: a claim may be committed with the payment, and then it has to be sent.
        starting = self._run(self._start(caller, request, warning, trace_parent, retry))
        created = await asyncio.shield(starting)
        payment = created.payment
        task = self.sending.get(payment.payment_id)
        loop = asyncio.get_running_loop()
        if task is not None:
            await asyncio.wait({task}, timeout=max(0.0, wait_until - loop.time()))
            ended = task.done() and task.exception() is None
            sent = task.result() if ended and not created.replayed else None
            # How one that ended unpaid may be paid by hand is in its row.
            if sent is not None and sent.state not in ENDED_UNPAID:
                return Answered(view_of(sent, request, warning), created.replayed)
        view, _ = await get_payment(self.reads, caller, payment.payment_id)
        while view.status is Status.PENDING and loop.time() + LOOK_AGAIN_SECONDS < wait_until:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            view, _ = await get_payment(self.reads, caller, payment.payment_id)
        return Answered(view, created.replayed)

    async def _start(
        self,
        caller: str,
        request: PaymentRequest,
        warning: PhoneWarning | None,
        trace_parent: str | None,
        retry: RetryRequest | None,
    ) -> Created:
        """Record the payment, claimed if it can be sent at once, and begin to send it."""
        shortcode = request.shortcode or self.default_shortcode
        claim = claim_at_once(self.send, shortcode)
        payment_id, held = uuid7(), None
        try:
            created = await create_payment(
                self.creates,
                caller,
                request,
                warning,
                trace_parent,
                retry,
                payment_id=payment_id,
                claim_id=claim.claim_id if claim is not None else None,
            )
            if claim is not None and claim.holds(created.payment):
                held = HeldClaim(claim, created.payment)
        except (RequestIdReused, BookingBarred, PromptsStopped, RiskRefused, Overloaded):
            raise
        except Exception:
            if claim is not None:
                # Whether the claim was committed is not known; that nothing is sent under it, is.
                self._run(drop_claim(self.send, payment_id, claim))
            raise
        finally:
            if claim is not None and held is None:
                self.send.budget.give_back(shortcode)
        if created.prompt is not None:
            self.send_beside(created.prompt, created.payment.created_at, held)
        return created

    def send_beside(self, prompt: Prompt, created_at: datetime, held: HeldClaim | None = None) -> None:
        """Send in a task of its own, unless this process is sending the payment already."""
        if prompt.payment_id in self.sending:
            return
        give_up_at = created_at + self.send.times.send_within
        task = asyncio.create_task(send_prompt(self.send, prompt, give_up_at, held), name="send-prompt")
        self.sending[prompt.payment_id] = task
        task.add_done_callback(partial(self._sent, prompt.payment_id))

    def _sent(self, payment_id: UUID, task: asyncio.Task[Payment | None]) -> None:
        del self.sending[payment_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            raise_alarm(PROGRAM_FAULT, payment_id=str(payment_id), exc_info=error)

    def _run(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self.starting.add(task)
        task.add_done_callback(self.starting.discard)
        return task

    async def drain(self, seconds: float) -> None:
        """Wait for the sends under way. What is not done in time is left to its lease: uncertain, and settled later."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        while (under_way := {*self.starting, *self.sending.values()}) and loop.time() < give_up_at:
            await asyncio.wait(under_way, timeout=give_up_at - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        for task in under_way:
            task.cancel()
