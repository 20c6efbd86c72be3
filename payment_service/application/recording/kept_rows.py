"""What is kept beside a fact: the callback or the request it came by, a case, a replay; and the rows they become."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from payment_service.application.recording.request_encoding import REQUEST_ENCODING, encoded, fingerprint
from payment_service.domain.callbacks import CallbackStatus
from payment_service.domain.facts import UNREADABLE, Fact, ResultReported
from payment_service.domain.payment import CancelRequest
from payment_service.domain.transitions import Case
from payment_service.security.keys import KeyRing
from payment_service.security.sealing import CALLER_REQUEST, Sealer
from payment_service.store.caller_requests import UsedId
from payment_service.store.many_rows import Row

PENDING_RETRY_AFTER = timedelta(seconds=5)
"""Before a callback that could not be applied is tried again: a fault of ours rarely heals by itself."""


@dataclass(frozen=True, slots=True)
class CallbackRow:
    """A callback to keep with its fact."""

    kind: str
    sealed_body: bytes
    body_hash: bytes
    source_address: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """What a caller asked for, to be kept with the fact that follows from it, unless that is refused."""

    kept_id: UUID
    caller: str
    asked: CancelRequest

    @property
    def key(self) -> tuple[str, str]:
        return self.caller, self.asked.request_id


@dataclass(frozen=True, slots=True)
class Replay:
    """An operator has a callback applied once more."""

    replay_id: UUID
    callback_id: UUID
    operator: str
    reason: str


def callback_row(
    callback: CallbackRow,
    reference: str,
    payment_id: UUID | None,
    status: CallbackStatus,
    why: str | None,
    now: datetime,
) -> Row:
    """A callback as the inbox keeps it; `why` it could not be applied."""
    return (
        uuid7(),
        callback.kind,
        reference,
        payment_id,
        callback.sealed_body,
        callback.body_hash,
        callback.source_address,
        callback.received_at,
        now,
        status.value,
        now + PENDING_RETRY_AFTER if status is CallbackStatus.PENDING else None,
        why,
    )


def request_row(sealer: Sealer, ring: KeyRing, request: KeptRequest, now: datetime) -> tuple[Row, UsedId]:
    """A request as it is kept, and its id as one that has been used."""
    asked, encoding = request.asked, encoded(request.asked)
    sealed = sealer.seal(CALLER_REQUEST, request.kept_id.bytes, encoding)
    made = fingerprint(ring.current, encoding)
    kept = (request.kept_id, request.caller, asked.request_id, asked.payment_id, sealed, made)
    used = UsedId(
        caller=request.caller,
        request_id=asked.request_id,
        kept_id=request.kept_id,
        payment_id=asked.payment_id,
        sealed=sealed,
        fingerprint=made,
        key_id=ring.current_id,
    )
    return (*kept, REQUEST_ENCODING, ring.current_id, now), used


def case_row(payment_id: UUID | None, reference: str, case: Case, fact: Fact, now: datetime) -> Row:
    """A case as it is opened, with the money that the fact tells of."""
    result = fact if isinstance(fact, ResultReported) else None
    amount = result.amount if result is not None and result.amount != UNREADABLE else None
    receipt = result.receipt if result is not None else None
    return (uuid7(), payment_id, reference, case.kind.value, case.is_money, fact.fact_id, receipt, amount, now)


def replay_row(replay: Replay, outcome: CallbackStatus | None, now: datetime) -> Row:
    """A replay, and the status that it has given its callback; None where it came to nothing."""
    return (
        replay.replay_id,
        replay.callback_id,
        replay.operator,
        replay.reason,
        outcome.value if outcome else "FAILED",
        now,
    )
