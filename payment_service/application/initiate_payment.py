"""Starting a payment: record it, send the prompt, and wait a moment for its fate.

The prompt is sent in a task that outlives the caller: whoever hangs up changes
nothing about what has been recorded.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog

from payment_service.application.create_payment import CreatePayments
from payment_service.application.send_prompt import SendTools, send_prompt
from payment_service.domain.payment import Payment, PaymentRequest, PhoneWarning, RetryRequest, Status
from payment_service.domain.views import PaymentView, view_of
from payment_service.store.payments import Prompt

LOOK_AGAIN_SECONDS = 0.1
"""How often a repeated call looks whether the process that sends the prompt has learned its fate."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InitiatePayments:
    """Starts payments, and knows the sends of this process that are under way."""

    create: CreatePayments
    send: SendTools
    read: Callable[[str, UUID], Awaitable[PaymentView]]
    sending: dict[UUID, asyncio.Task[Payment | None]] = field(default_factory=dict)

    async def __call__(
        self,
        caller: str,
        request: PaymentRequest,
        warning: PhoneWarning | None,
        wait_until: float,
        trace_parent: str | None,
        retry: RetryRequest | None = None,
    ) -> tuple[PaymentView, bool]:
        """The payment as it stands once its prompt's fate is known, or at `wait_until` (the loop's time).

        `retry` is what was asked where the request was made from one. The second value is true when an earlier call
        made the payment. Raises what `CreatePayments` raises.
        """
        created = await self.create(caller, request, warning, trace_parent, retry)
        payment = created.payment
        if created.prompt is not None:
            self.send_beside(created.prompt, payment.created_at)
        task = self.sending.get(payment.payment_id)
        loop = asyncio.get_running_loop()
        if task is not None:
            await asyncio.wait({task}, timeout=max(0.0, wait_until - loop.time()))
            ended = task.done() and task.exception() is None
            if ended and not created.replayed and (sent := task.result()) is not None:
                return view_of(sent, request, warning), created.replayed
        view = await self.read(caller, payment.payment_id)
        while view.status is Status.PENDING and loop.time() + LOOK_AGAIN_SECONDS < wait_until:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            view = await self.read(caller, payment.payment_id)
        return view, created.replayed

    def send_beside(self, prompt: Prompt, created_at: datetime) -> None:
        """Send in a task of its own, unless this process is sending the payment already."""
        if prompt.payment_id in self.sending:
            return
        give_up_at = created_at + self.send.times.send_within
        task = asyncio.create_task(send_prompt(self.send, prompt, give_up_at), name="send-prompt")
        self.sending[prompt.payment_id] = task
        task.add_done_callback(partial(self._sent, prompt.payment_id))

    def _sent(self, payment_id: UUID, task: asyncio.Task[Payment | None]) -> None:
        del self.sending[payment_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("send ended by a fault", payment_id=str(payment_id), exc_info=error)

    async def drain(self, seconds: float) -> None:
        """Wait for the sends under way. What is not done in time is left to its lease: uncertain, and settled later."""
        if self.sending:
            await asyncio.wait(set(self.sending.values()), timeout=seconds)
        for task in self.sending.values():
            task.cancel()
