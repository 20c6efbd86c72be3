"""What the rules against unwanted prompts go by, and what they decided.

Prompts of a phone are counted in the rows of the payments themselves, so a limit holds exactly if nobody adds one
between the count and the insert. So whoever makes a payment has the lock of its phone alone, from before the count to
the end of the transaction. Two processes meet there only if they ring one phone at one moment; nobody waits then, for
the rest of a group is not to wait either: the request is answered as locked, and tried again. Prompts of a booking need
no lock: the block of its live payment keeps others out.

A caller asks for very many, so there is no lock and no count of rows for one: a counter is raised in the round trip
that commits, and a constraint of its table lets no counter pass its limit. Whoever meets the constraint runs again.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from payment_service.domain.payment import State
from payment_service.domain.reasons import Reason
from payment_service.domain.risk import AskedPrompt, Listed, ListVerdict, ring_of
from payment_service.store.caller_requests import UNUSED
from payment_service.store.many_rows import array_of, columns_of, inserting
from payment_service.store.pipeline import Statement
from payment_service.store.risk_tables import risk_decisions
from payment_service.store.time_ordered_ids import MADE_WITHIN, first_id_at

PROMPTS_MAX: Final = 128
"""Prompts of one phone that are looked at, the newest. The numbers of prompts that can be set are below that; shillings
are those of these prompts."""
_KEY_BYTES: Final = 4

# Keys of two halves, as the locks of request ids have; the number is "ring" in ASCII. Of two phones with one key one is
# tried again without need, and no harm is done.
_LOCK_PHONES = "SELECT key FROM unnest($1::int[]) AS keys (key) WHERE NOT pg_try_advisory_xact_lock(1919512167, key)"

_READ = (
    "p.phone_index_a, p.caller, p.booking_id, p.amount, p.created_at, p.state, p.status_reason,"
    " p.sent_at IS NOT NULL AS sent, p.merchant_request_id IS NOT NULL AS accepted"
)

# Between two equal bounds instead of equal to one: so the order asked for is that of one index alone, and a phone that
# rings every second costs no more than one that never did.
_PROMPTS_OF_PHONES = f"""
SELECT p.* FROM unnest($1::bytea[]) AS wanted (phone_index) CROSS JOIN LATERAL (
    SELECT {_READ} FROM payment_transactions p
    WHERE p.phone_index_a >= wanted.phone_index AND p.phone_index_a <= wanted.phone_index AND p.payment_id > $2::uuid
    ORDER BY p.phone_index_a DESC, p.payment_id DESC LIMIT {PROMPTS_MAX}
) AS p"""

# `caller || ''` can use no index, so that the one that begins with the booking is taken. A condition on the time would
# offer the index by account reference and time, and all payments of the day would be read for every group.
_PROMPTS_OF_BOOKINGS = f"""
SELECT {_READ} FROM payment_transactions p
JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS pairs (caller, booking_id)) AS wanted
ON p.booking_id = wanted.booking_id AND p.caller || '' = wanted.caller ORDER BY p.payment_id DESC"""

_LISTED = """
SELECT wanted.phone_index, l.verdict, l.until FROM unnest($1::bytea[]) AS wanted (phone_index) CROSS JOIN LATERAL (
    SELECT verdict, until FROM risk_list WHERE phone_index = wanted.phone_index ORDER BY position DESC LIMIT 1
) AS l"""

_COUNTED = """
SELECT c.caller, c.length_s, c.counted FROM risk_counters c
JOIN unnest($1::text[], $2::int[], $3::timestamptz[]) AS wanted (caller, length_s, started_at)
USING (caller, length_s, started_at)"""

# Those that were inserted, and no others: what another one stood in the way of is asked again.
_COUNT = """
INSERT INTO risk_counters AS c (caller, length_s, started_at, counted, most)
SELECT asked.caller, asked.length_s, asked.started_at, count(*), min(asked.most)
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[], $5::bigint[])
    AS asked (payment_id, caller, length_s, started_at, most)
WHERE EXISTS (SELECT FROM payment_transactions p WHERE p.payment_id = asked.payment_id)
GROUP BY asked.caller, asked.length_s, asked.started_at ORDER BY 1, 2, 3
ON CONFLICT ON CONSTRAINT risk_counters_pk DO UPDATE SET counted = c.counted + excluded.counted, most = excluded.most"""


class KeptDecision(NamedTuple):
    """What a rule had against a request, as it is kept."""

    decision_id: UUID
    rule: str
    mode: str
    caller: str
    request_id: str
    booking_id: str
    phone_index: bytes
    amount: int
    payment_id: UUID | None
    counted: int
    most: int | None
    within_s: int | None
    retry_at: datetime | None
    decided_at: datetime


# A repeat of a refused request is the same decision. What was let through is kept with its payment, or not at all.
_KEEP = inserting(
    risk_decisions,
    KeptDecision._fields,
    f"{UNUSED} AND (rows.payment_id IS NULL OR EXISTS"
    " (SELECT FROM payment_transactions p WHERE p.payment_id = rows.payment_id)) ON CONFLICT DO NOTHING",
)


class CounterKey(NamedTuple):
    """A stretch of time of one caller."""

    caller: str
    length_s: int
    started_at: datetime


class CountedPrompt(NamedTuple):
    """A payment that is to raise a counter of its caller."""

    payment_id: UUID
    caller: str
    length_s: int
    started_at: datetime
    most: int | None


def lock_phones(phones: Iterable[bytes]) -> Statement:
    """Have these phones alone until the end of the transaction; a row for each key that somebody else has."""
    return Statement(_LOCK_PHONES, (array_of(sorted(set(map(phone_key, phones)))),))


def phone_key(phone: bytes) -> int:
    """What the lock of a phone goes by."""
    return int.from_bytes(phone[:_KEY_BYTES], "big", signed=True)


def prompts_of_phones(phones: Iterable[bytes], since: datetime) -> Statement:
    """The latest prompts of these phones, of any caller; rows for `asked_prompts`."""
    return Statement(_PROMPTS_OF_PHONES, (array_of(set(phones)), str(first_id_at(since - MADE_WITHIN))))


def prompts_of_bookings(bookings: Iterable[tuple[str, str]]) -> Statement:
    """All prompts for these (caller, booking_id) pairs; rows for `asked_prompts`."""
    return Statement(_PROMPTS_OF_BOOKINGS, columns_of(set(bookings)))


def asked_prompts(rows: Sequence[Sequence[Any]]) -> list[AskedPrompt]:
    """The prompts that were read."""
    return [
        AskedPrompt(
            phone=bytes(phone),
            caller=caller,
            booking_id=booking_id,
            amount=int(amount),
            asked_at=created_at,
            ring=ring_of(State(state), Reason(reason) if reason else None, sent=sent, accepted=accepted),
        )
        for phone, caller, booking_id, amount, created_at, state, reason, sent, accepted in rows
    ]


def listed_phones(phones: Iterable[bytes]) -> Statement:
    """What the list says of these phones; rows for `listed`."""
    return Statement(_LISTED, (array_of(set(phones)),))


def listed(rows: Sequence[Sequence[Any]]) -> dict[bytes, Listed]:
    """By phone, what the list says; its end may have passed."""
    return {bytes(phone): Listed(ListVerdict(verdict), until) for phone, verdict, until in rows}


def counters(keys: Iterable[CounterKey]) -> Statement:
    """How far these counters are; rows for `of_callers`."""
    return Statement(_COUNTED, columns_of(keys))


def of_callers(rows: Sequence[Sequence[Any]]) -> dict[tuple[str, timedelta], int]:
    """What was counted, by caller and length of the stretch."""
    return {(caller, timedelta(seconds=length_s)): counted for caller, length_s, counted in rows}


def count_prompts(prompts: Sequence[CountedPrompt]) -> Statement:
    """Raise the counters of the payments that were inserted. One that would pass its limit is a constraint's error."""
    return Statement(_COUNT, columns_of(prompts))


def keep_decisions(decisions: Sequence[KeptDecision]) -> Statement:
    """Keep decisions, in the transaction that they were made in, behind the insert of the payments."""
    return Statement(_KEEP, columns_of(decisions))
