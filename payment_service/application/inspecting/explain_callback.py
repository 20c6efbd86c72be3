"""The callbacks as operators see them: which wait, what one says, and what became of it.

Bodies are opened here and shown without the payer's number, as `explain_payment` shows them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payment_service.application.inspecting.explain_payment import (
    Moment,
    replay_moment,
    standing_of,
)
from payment_service.application.settling.accept_callbacks import body_row_id, fact_id_of, fact_ids_of
from payment_service.application.settling.opened_bodies import opened_body, payer_number
from payment_service.daraja.callback import read_callback
from payment_service.domain.callbacks import CallbackKind
from payment_service.domain.facts import ResultReported, TakenBack
from payment_service.security.sealing import CALLBACK_BODY, SealBroken, Sealer
from payment_service.store import audit, reads
from payment_service.store.audit import CallbackRow
from payment_service.store.pipeline import Connection
from runtime.redaction import redact_text


@dataclass(frozen=True, slots=True)
class CallbackLine:
    """One callback in short."""

    callback_id: UUID
    status: str
    received_at: datetime
    reference: str
    payment_id: UUID | None
    """The payment that has the reference."""
    says: str
    standing: str


@dataclass(frozen=True, slots=True)
class CallbackStory:
    """One callback as it came, with the cases it led to and its replays."""

    line: CallbackLine
    kind: str
    source_address: str
    stored_at: datetime
    body: str
    moments: Sequence[Moment]


async def unsettled_callbacks(
    sealer: Sealer, conn: Connection, statuses: Sequence[str], most: int
) -> list[CallbackLine]:
    """The callbacks in some of the statuses PENDING, UNMATCHED, UNREAD and DEAD, the oldest first."""
    return [_line(row, sealer) for row in await audit.unsettled_callbacks(conn, statuses, most)]


async def explain_callback(sealer: Sealer, conn: Connection, callback_id: UUID) -> CallbackStory | None:
    """All that is known of one callback; None if there is none."""
    row = await audit.callback(conn, callback_id)
    if row is None:
        return None
    number = None
    if row.owner_id is not None:
        (owner,) = await reads.payments_by(conn, [row.owner_id], [])
        number = payer_number(sealer, owner.payment_id, owner.phone_number)
    cases = await audit.cases_for(conn, [row.reference])
    moments = [
        Moment(case.opened_at, f"case {case.kind} opened" + (", settled since" if case.settled_at else ""), "", ())
        for case in cases
        if case.fact_id in fact_ids_of(row.body_hash)
    ]
    moments += [replay_moment(replay) for replay in await audit.replays_of(conn, [callback_id])]
    return CallbackStory(
        line=_line(row, sealer),
        kind=row.kind,
        source_address=row.source_address,
        stored_at=row.stored_at,
        body=opened_body(sealer, CALLBACK_BODY, body_row_id(row.reference, row.body_hash), row.body, number),
        moments=sorted(moments, key=lambda moment: moment.at),
    )


def _line(row: CallbackRow, sealer: Sealer) -> CallbackLine:
    return CallbackLine(
        callback_id=row.callback_id,
        status=row.status,
        received_at=row.received_at,
        reference=row.reference,
        payment_id=row.owner_id,
        says=_says(row, sealer),
        standing=standing_of(row),
    )


def _says(row: CallbackRow, sealer: Sealer) -> str:
    try:
        body = sealer.open(CALLBACK_BODY, body_row_id(row.reference, row.body_hash), row.body)
    except SealBroken:
        return "[does not open]"
    fact = read_callback(CallbackKind(row.kind), body, fact_id_of(row.body_hash))
    if isinstance(fact, TakenBack):
        return redact_text(f"TAKEN BACK, KES {fact.amount}, receipt {fact.receipt}")
    if not isinstance(fact, ResultReported):
        return "nothing that can be read"
    amount = [f"KES {fact.amount}"] if fact.amount is not None else []
    receipt = [f"receipt {fact.receipt}"] if fact.receipt is not None else []
    return redact_text(", ".join([f"{fact.verdict.value} ({fact.code})", *amount, *receipt]))
