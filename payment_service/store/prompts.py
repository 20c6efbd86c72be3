"""What is sent to the phone for a payment, read from its row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.alarms import PROGRAM_FAULT
from payment_service.security.sealing import PHONE_NUMBER, SealBroken, Sealer
from payment_service.store.tables import payments
from runtime.alarms import raise_alarm

_PROMPTS = select(
    payments.c.payment_id,
    payments.c.reference,
    payments.c.phone_number,
    payments.c.amount,
    payments.c.shortcode,
    payments.c.account_reference,
    payments.c.transaction_desc,
    payments.c.trace_parent,
).where(payments.c.payment_id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to the phone for one payment."""

    payment_id: UUID
    reference: str
    phone_number: str = field(repr=False)
    amount: int
    """Whole shillings."""
    shortcode: str
    account_reference: str
    description: str
    trace_parent: str | None


async def read_prompts(conn: AsyncConnection, sealer: Sealer, ids: Sequence[UUID]) -> list[Prompt]:
    """What to send for the given payments; one whose phone number does not open is left out, and holds up no other."""
    prompts = []
    for row in await conn.execute(_PROMPTS, {"ids": list(ids)}):
        try:
            phone_number = sealer.open(PHONE_NUMBER, row.payment_id.bytes, row.phone_number).decode()
        except SealBroken:
            raise_alarm(PROGRAM_FAULT, what="phone number does not open", payment_id=str(row.payment_id), exc_info=True)
            continue
        prompts.append(
            Prompt(
                payment_id=row.payment_id,
                reference=row.reference,
                phone_number=phone_number,
                amount=int(row.amount),
                shortcode=row.shortcode,
                account_reference=row.account_reference,
                description=row.transaction_desc,
                trace_parent=row.trace_parent,
            )
        )
    return prompts
