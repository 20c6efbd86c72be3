"""Taking callbacks: checked, kept as received, and applied, in one transaction.

A callback is evidence only with a valid token; without one nothing is kept. With
one, everything is kept that is not too large: what cannot be read or applied
today may settle a dispute tomorrow.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

import structlog
from opentelemetry import trace

from payment_service.alarms import PROGRAM_FAULT, REFUND_REFUSED, RESULT_BLAMES_SETUP
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.application.recording.record_facts import Recorded, Submission
from payment_service.application.settling.catching_up import CatchingUp
from payment_service.daraja.callback import read_callback
from payment_service.daraja.order_codes import order_meaning
from payment_service.daraja.result_codes import meaning_of
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.errors import Overloaded, StoreUnavailable
from payment_service.domain.facts import Fact, ResultReported, Unreadable, unread_fact_id
from payment_service.domain.refund import Refund, RefundState
from payment_service.domain.refund_facts import AboutRefund
from payment_service.security.sealing import CALLBACK_BODY, Sealer
from payment_service.store.inbox import SealedCallback, StoredCallback
from payment_service.telemetry import remote_parent, trace_id
from runtime.alarms import raise_alarm
from runtime.callback_tokens import CallbackKeys, kind_of

BODY_INDEX = "callback-body"
BODY_MAX_BYTES = 65_536

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("payment_service")


class BodyRemoved(Exception):
    """The body of this callback was removed, because it was old or its payer wished so: nothing is left to apply."""


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """One HTTP request as the edge received it."""

    kind: CallbackKind | None
    """By its path; its token says more exactly what it answers. None for a kind that we do not know."""
    reference: str
    token: str
    body: bytes
    source_address: str
    received_at: datetime


class CallbackOutcome(StrEnum):
    """What became of a callback; the names are those of the wire enum."""

    STORED = "STORED"
    TOKEN_REFUSED = "TOKEN_REFUSED"
    NOT_STORED = "NOT_STORED"


@dataclass(frozen=True, slots=True)
class AcceptTools:
    """What taking callbacks needs."""

    facts: GroupCommit[Submission, Recorded]
    sealer: Sealer
    keys: CallbackKeys = field(repr=False)
    catching_up: CatchingUp


async def accept_callbacks(tools: AcceptTools, callbacks: Sequence[ReceivedCallback]) -> list[CallbackOutcome]:
    """Take callbacks from the gateway, each for itself: one outcome each, in order. STORED means committed."""
    return list(await asyncio.gather(*(_accept(tools, callback) for callback in callbacks)))


async def _accept(tools: AcceptTools, callback: ReceivedCallback) -> CallbackOutcome:
    kind = callback.kind and kind_of(tools.keys, callback.kind, callback.reference, callback.token)
    if kind is None:
        _log.warning("callback token refused", source_address=callback.source_address)
        return CallbackOutcome.TOKEN_REFUSED
    if len(callback.body) > BODY_MAX_BYTES:
        return CallbackOutcome.NOT_STORED
    submission = _submission(tools.sealer, CallbackKind(kind), callback)
    try:
        await _apply(tools.facts, submission)
    except (StoreUnavailable, Overloaded):
        return CallbackOutcome.NOT_STORED
    except Exception:
        # Its neighbours may be committed already; the gateway offers this one again.
        raise_alarm(PROGRAM_FAULT, what="callback could not be kept", reference=callback.reference, exc_info=True)
        return CallbackOutcome.NOT_STORED
    tools.catching_up.callback_stored(callback.received_at)
    return CallbackOutcome.STORED


def kept_submission(sealer: Sealer, stored: StoredCallback) -> Submission:
    """A callback that was kept, as it came; raises SealBroken where its body does not open, or BodyRemoved."""
    body = sealer.open(CALLBACK_BODY, body_row_id(stored.reference, stored.body_hash), stored.sealed_body)
    if not body and not sealer.index_holds(BODY_INDEX, body, stored.body_hash):
        raise BodyRemoved((BodyRemoved.__doc__ or "").strip())
    kind = CallbackKind(stored.kind)
    received = ReceivedCallback(kind, stored.reference, "", body, stored.source_address, stored.received_at)
    return _submission(sealer, kind, received)


def fact_id_of(body_hash: bytes) -> str:
    """The id of a callback's fact. Keyed: the log is kept for ever, and a bare hash of a body could be guessed from."""
    return f"callback:{body_hash.hex()}"


def fact_ids_of(body_hash: bytes) -> tuple[str, str]:
    """The ids of the facts that a callback can be: what it tells, and that it cannot be read."""
    fact_id = fact_id_of(body_hash)
    return fact_id, unread_fact_id(fact_id)


async def _apply(facts: GroupCommit[Submission, Recorded], submission: Submission) -> None:
    started = time.time_ns()
    try:
        recorded = await facts.submit(submission)
    except (StoreUnavailable, Overloaded):
        raise
    except Exception as error:
        # A fault of ours must not lose a callback: it is kept alone, and a background step applies it again.
        raise_alarm(PROGRAM_FAULT, what="callback kept, not applied", reference=submission.reference, exc_info=error)
        recorded = await facts.submit(replace(submission, only_keep=type(error).__name__))
    _raise_alarm(submission.fact, recorded.refund)
    with remote_parent(recorded.trace_parent), _tracer.start_as_current_span("apply callback", start_time=started):
        _log.info(
            "callback stored",
            reference=submission.reference,
            fact=type(submission.fact).__name__,
            state=recorded.payment and recorded.payment.state.value,
            trace_id=trace_id(recorded.trace_parent),
        )


def _raise_alarm(fact: Fact | AboutRefund, refund: Refund | None) -> None:
    """A result may say that our set-up is at fault. What it says of a refund is known once it was compared with it."""
    if isinstance(fact, ResultReported) and (check := meaning_of(fact.code).alarm) is not None:
        raise_alarm(RESULT_BLAMES_SETUP, code=fact.code, check=check)
    code = refund.result_code if refund is not None and refund.state is RefundState.FAILED else None
    if code is not None and (check := order_meaning(code).alarm) is not None:
        raise_alarm(REFUND_REFUSED, code=code, check=check)


def _submission(sealer: Sealer, kind: CallbackKind, callback: ReceivedCallback) -> Submission:
    body_hash = sealer.index(BODY_INDEX, callback.body)
    sealed = SealedCallback(
        kind=kind,
        sealed_body=sealer.seal(CALLBACK_BODY, body_row_id(callback.reference, body_hash), callback.body),
        body_hash=body_hash,
        source_address=callback.source_address,
        received_at=callback.received_at,
    )
    fact = read_callback(kind, callback.body, fact_id_of(body_hash))
    if isinstance(fact, ResultReported):
        fact = replace(fact, received_at=callback.received_at)
    elif isinstance(fact, Unreadable):
        # A later release may read the body, and what it then tells must not pass for a fact that is known.
        fact = replace(fact, fact_id=unread_fact_id(fact.fact_id))
    return Submission(fact, reference=callback.reference, callback=sealed)


def body_row_id(reference: str, body_hash: bytes) -> bytes:
    """What a callback's body is sealed for."""
    return reference.encode() + body_hash
