"""Which payments are to be asked for by Transaction Status, and whether the initiator's last question is answered.

SQL only; `application.ask_status` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import exists, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.domain.refund import MONEY_NOT_BACKED
from payment_service.store.provider_tables import initiators, questions
from payment_service.store.refund_tables import refunds
from payment_service.store.tables import inbox

# Of completed payments, those that still have a timer: later ones are before a person, and the index of timers finds
# them. Of open cases, those about money that may be the payment's, while it has no receipt. Of refunds, those in doubt,
# and those that wait until it is known whose money their receipt is: for as long as they wait, which is a day, however
# often M-Pesa was asked in vain, since nothing else may ever prove it. Of money that only a callback has told of, what
# a person has a case about, and last of all what queries have been asked about in vain: their next one is far off. Each
# of these is bounded, whatever waits. Places go to those that may be asked about now: what has been asked about in vain
# stands before nobody. So what is passed over has had a question each, of which one is out at a time.
_BY_RECEIPT = """p.shortcode = ANY(CAST(:shortcodes AS text[])) AND p.merchant_request_id IS NOT NULL
            AND NOT p.ids_from_callback"""
_MAY_BE_ASKED = f"""{_BY_RECEIPT} AND (q.tries IS NULL OR (q.tries < :tries_max AND q.next_ask_at <= :now))"""
_UNBACKED = """p.state = 'COMPLETED' AND p.backing IN ('AWAITED', 'DOUBTED')
            AND p.completed_at <= :completed_before AND p.mpesa_receipt_number IS NOT NULL"""
_OF_PAYMENT = """payment_transactions p LEFT JOIN daraja_questions q
            ON q.payment_id = p.payment_id AND q.receipt = p.mpesa_receipt_number"""
_NEXT = text(f"""
WITH unproven AS (
    (SELECT p.payment_id, p.mpesa_receipt_number AS receipt, 1 AS rank, CAST(:tries_max AS integer) AS most
        FROM cases c JOIN ({_OF_PAYMENT}) ON p.payment_id = c.payment_id
        WHERE c.settled_at IS NULL AND c.kind = :unbacked AND {_UNBACKED} AND {_MAY_BE_ASKED}
        ORDER BY c.opened_at DESC LIMIT 100)
    UNION
    (SELECT r.payment_id, r.receipt, 1, NULL FROM refunds r JOIN payment_transactions p ON p.payment_id = r.payment_id
        LEFT JOIN daraja_questions q ON q.payment_id = r.payment_id AND q.receipt = r.receipt
        WHERE r.send_at IS NOT NULL AND r.result_code = :waits AND {_BY_RECEIPT}
            AND (q.tries IS NULL OR q.next_ask_at <= :now)
        ORDER BY r.send_at LIMIT 100)
    UNION
    (SELECT p.payment_id, p.mpesa_receipt_number, 2, :tries_max FROM {_OF_PAYMENT}
        WHERE p.back_at > :queried_before AND {_UNBACKED} AND {_MAY_BE_ASKED}
        ORDER BY p.back_at DESC LIMIT 100)
)
SELECT payment_id, reference, shortcode, conversation_id, receipt, tries, refund_id, is_part FROM (
    SELECT w.*, COALESCE(q.tries, 0) AS tries, q.next_ask_at, CAST(NULL AS uuid) AS refund_id, false AS is_part
    FROM (
        SELECT payment_id, reference, shortcode, merchant_request_id AS conversation_id, '' AS receipt, 0 AS rank,
            CAST(:tries_max AS integer) AS most
        FROM payment_transactions
        WHERE due_at IS NOT NULL AND state = 'COMPLETED' AND mpesa_receipt_number IS NULL
            AND merchant_request_id IS NOT NULL AND completed_at <= :completed_before
        UNION ALL
        SELECT p.payment_id, p.reference, p.shortcode, p.merchant_request_id, c.mpesa_receipt_number, 0, :tries_max
        FROM cases c JOIN payment_transactions p ON p.reference = c.reference
        WHERE c.settled_at IS NULL AND c.kind = :unclaimed AND c.mpesa_receipt_number IS NOT NULL
            AND p.mpesa_receipt_number IS NULL AND p.merchant_request_id IS NOT NULL
        UNION ALL
        SELECT p.payment_id, p.reference, p.shortcode, p.merchant_request_id, u.receipt, u.rank, u.most
        FROM unproven u JOIN payment_transactions p USING (payment_id)
    ) AS w LEFT JOIN daraja_questions q ON q.payment_id = w.payment_id AND q.receipt = w.receipt
    UNION ALL
    SELECT payment_id, reference, shortcode, COALESCE(originator_conversation_id, ''), receipt, 0,
        CAST(:refund_tries_max AS integer), ask_count, next_ask_at, refund_id, method = 'B2C'
    FROM refunds WHERE state = 'UNCERTAIN' AND sent_at <= :refund_sent_before
) AS wanted
WHERE shortcode = ANY(CAST(:shortcodes AS text[]))
    AND (tries = 0 OR ((most IS NULL OR tries < most) AND next_ask_at <= :now))
ORDER BY rank, next_ask_at NULLS FIRST, payment_id LIMIT 1""")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A transaction that is to be asked for."""

    payment_id: UUID
    reference: str
    shortcode: str
    conversation_id: str
    """That it came of; empty where that is not known."""
    receipt: str
    """Empty where it is asked for by the conversation it came of."""
    tries: int
    """So far."""
    refund_id: UUID | None = None
    """Set where it is asked for what became of a refund; the receipt is of the payment then."""
    is_part: bool = False
    """The refund is of a part, which only its conversation names."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is known of the initiator's last question."""

    asked_reference: str | None
    asked_at: datetime | None
    next_ask_at: datetime


async def next_wanted(
    conn: AsyncConnection,
    *,
    shortcodes: Sequence[str],
    unclaimed: str,
    unbacked: str,
    completed_before: datetime,
    queried_before: datetime,
    tries_max: int,
    refund_sent_before: datetime,
    refund_tries_max: int,
    now: datetime,
) -> Wanted | None:
    """The transaction that has waited longest; `unclaimed` and `unbacked` are kinds of cases that are looked at.

    Money whose next query is later than `queried_before` has been asked about by query in vain.
    """
    row = (
        await conn.execute(
            _NEXT,
            {
                "shortcodes": list(shortcodes),
                "unclaimed": unclaimed,
                "unbacked": unbacked,
                "waits": MONEY_NOT_BACKED,
                "completed_before": completed_before,
                "queried_before": queried_before,
                "tries_max": tries_max,
                "refund_sent_before": refund_sent_before,
                "refund_tries_max": refund_tries_max,
                "now": now,
            },
        )
    ).one_or_none()
    return Wanted(*row) if row is not None else None


async def lock_turn(conn: AsyncConnection, initiator: str, now: datetime) -> Turn:
    """The initiator's row, locked until the end of the transaction; made if this is its first question."""
    columns = initiators.c
    await conn.execute(insert(initiators).values(initiator=initiator, next_ask_at=now).on_conflict_do_nothing())
    row = (
        await conn.execute(
            select(columns.asked_reference, columns.asked_at, columns.next_ask_at)
            .where(columns.initiator == initiator)
            .with_for_update()
        )
    ).one()
    return Turn(*row)


async def initiator_refused(conn: AsyncConnection, initiator: str, now: datetime, pause: timedelta) -> bool:
    """Whether M-Pesa has refused this initiator within the pause: by the result of a question, or of a refund."""
    asked, sent = initiators.c, refunds.c
    question = exists().where(asked.initiator == initiator, asked.refused_code.is_not(None), asked.next_ask_at > now)
    refund = exists().where(
        sent.sent_as == initiator, sent.ended_at >= now - pause, sent.result_code.in_(("2001", "8006"))
    )
    return bool(await conn.scalar(select(question | refund)))


async def results_since(
    conn: AsyncConnection, kinds: Sequence[str], reference: str, since: datetime
) -> list[tuple[bytes, bytes]]:
    """(body hash, sealed body) of the callbacks of some kinds that were stored for a reference since then."""
    rows = await conn.execute(
        select(inbox.c.body_hash, inbox.c.body).where(
            inbox.c.reference == reference, inbox.c.kind.in_(kinds), inbox.c.stored_at >= since
        )
    )
    return [(row.body_hash, row.body) for row in rows]


async def begin_question(
    conn: AsyncConnection, initiator: str, wanted: Wanted, now: datetime, next_ask_at: datetime
) -> None:
    """Write down that a transaction is being asked for, before it is."""
    await take_turn(conn, initiator, wanted.reference, now)
    if wanted.refund_id is not None:
        await conn.execute(
            update(refunds)
            .where(refunds.c.refund_id == wanted.refund_id)
            .values(ask_count=wanted.tries + 1, next_ask_at=next_ask_at)
        )
        return
    tried = {"tries": wanted.tries + 1, "next_ask_at": next_ask_at}
    await conn.execute(
        insert(questions)
        .values(payment_id=wanted.payment_id, receipt=wanted.receipt, **tried)
        .on_conflict_do_update(index_elements=[questions.c.payment_id, questions.c.receipt], set_=tried)
    )


async def take_turn(conn: AsyncConnection, initiator: str, reference: str, now: datetime) -> None:
    """Write down that a question is asked whose result comes to this reference."""
    await conn.execute(
        update(initiators)
        .where(initiators.c.initiator == initiator)
        .values(asked_reference=reference, asked_at=now, next_ask_at=now, refused_code=None)
    )


async def end_question(conn: AsyncConnection, initiator: str, asked_at: datetime, now: datetime) -> None:
    """The result of the question that was asked then is not waited for any more, if it still is."""
    await conn.execute(
        update(initiators)
        .where(initiators.c.initiator == initiator, initiators.c.asked_at == asked_at)
        .values(asked_reference=None, asked_at=None, next_ask_at=now)
    )


async def pause_questions(conn: AsyncConnection, initiator: str, until: datetime, refused_code: str) -> None:
    """M-Pesa refuses the initiator: nothing is asked until then, and no result is waited for."""
    await conn.execute(
        update(initiators)
        .where(initiators.c.initiator == initiator)
        .values(asked_reference=None, asked_at=None, next_ask_at=until, refused_code=refused_code)
    )
