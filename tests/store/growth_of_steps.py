"""What the periodic steps read, and what is read about cases, money and provider, by name.

Each runs the statements of its step, with limits and times as the step has them.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from payment_service.application.approving.watch_approvals import WAITS_LONG
from payment_service.application.collecting.watch_risk import COMPARED_WITH, LATELY
from payment_service.application.privacy.erase_person import BATCH
from payment_service.application.privacy.forget_records import LATE_FOR, ROWS_MAX
from payment_service.application.refunding.send_refunds import AT_ONCE, HELD_UP_AFTER, PROVEN_FOR
from payment_service.application.settling.ask_status import REFUSED_PAUSE
from payment_service.application.settling.watch_provider import CALLBACK_WITHIN, IN_A_ROW, WINDOW
from payment_service.domain.cases import CaseKind
from payment_service.domain.pull import PulledRow, VisibleDigits
from payment_service.domain.pull_spans import KEPT as SPANS_KEPT
from payment_service.domain.pull_spans import Slice
from payment_service.security.sealing import Sealer
from payment_service.store import (
    approvals,
    casework,
    consumers,
    due_timers,
    due_work,
    erasure,
    evidence,
    inbox,
    issued_receipts,
    provider_health,
    pull_candidates,
    pull_progress,
    push_queries,
    refunds,
    risk_decisions,
    status_questions,
)
from payment_service.store.casework import CaseFilter
from payment_service.store.time_ordered_ids import first_id_at
from tests.store.filled_tables import INITIATOR, KEPT, PAYMENTS, SHORTCODE, ago

Read = Callable[[AsyncConnection], Awaitable[Any]]


def now() -> datetime:
    return datetime.now(UTC)


def not_again(_claimed: push_queries.Claimed) -> datetime | None:
    return None


class Unsealed(Sealer):
    """For payments that were filled in without sealing anything."""

    def __init__(self) -> None: ...

    def open(self, place: str, row_id: bytes | str, sealed: bytes) -> bytes:
        return b"254722000126"


def row_without_a_name() -> PulledRow:
    """A till's row about one of the expired payments: its amount and its time are all that it shares with it."""
    return PulledRow("RCPT", "RCPT", 500, "", (ago(5_000),), received=True, payer=VisibleDigits("7", "126"))


async def send_refunds(conn: AsyncConnection) -> object:
    await refunds.initiator_proven(conn, INITIATOR, now() - PROVEN_FOR)
    await refunds.order_on_its_way(conn, INITIATOR)
    await status_questions.initiator_refused(conn, INITIATOR, now(), REFUSED_PAUSE)
    return await refunds.refunds_to_send(conn, [SHORTCODE], now(), AT_ONCE)


async def watch_refunds(conn: AsyncConnection) -> object:
    await status_questions.initiator_refused(conn, INITIATOR, now(), REFUSED_PAUSE)
    return await refunds.longest_waiting(conn, now() - HELD_UP_AFTER)


async def watch_consumers(conn: AsyncConnection) -> object:
    everybody = await consumers.all_consumers(conn)
    return [await consumers.lag_of(conn, None if one.follows_all else one.caller, one.position) for one in everybody]


async def watch_pull(conn: AsyncConnection) -> object:
    await pull_progress.latest_read(conn, [SHORTCODE])
    return await pull_progress.not_read(conn, [SHORTCODE], now() - SPANS_KEPT)


async def unbacked(conn: AsyncConnection) -> object:
    await push_queries.count_unbacked(conn, now())
    return await push_queries.claim_unbacked(conn, SHORTCODE, now(), 20, not_again)


async def erased_again(conn: AsyncConnection) -> object:
    ids = await erasure.came_later(conn, now() - LATE_FOR, BATCH)
    await erasure.under_way(conn, ids)
    return ids


def wanted_status(conn: AsyncConnection) -> Awaitable[object]:
    return status_questions.next_wanted(
        conn,
        shortcodes=[SHORTCODE],
        unclaimed=CaseKind.UNCLAIMED_MONEY.value,
        unbacked=CaseKind.UNBACKED_MONEY.value,
        completed_before=now(),
        queried_before=now(),
        tries_max=6,
        refund_sent_before=now(),
        refund_tries_max=11,
        now=now(),
    )


STEPS: Mapping[str, Read] = {
    "work of all steps": lambda conn: due_work.look_for_work(conn, now(), [SHORTCODE]),
    "receipts that are due": lambda conn: issued_receipts.claim_due_receipts(
        conn, now(), now() + timedelta(seconds=10), 200
    ),
    "timers": lambda conn: due_timers.claim_due_timers(conn, now(), now() + timedelta(hours=1), 200),
    "queries, counted": lambda conn: push_queries.count_due(conn, now()),
    "queries, claimed": lambda conn: push_queries.claim_queries(conn, SHORTCODE, now(), 20, not_again),
    "queries, of money that nothing backs": unbacked,
    "status, wanted": wanted_status,
    "doubts that have ended": lambda conn: evidence.doubts_proven(conn, 100),
    "refunds, to be sent": send_refunds,
    "refunds, timers": lambda conn: refunds.due_refunds(conn, now(), 200),
    "refunds, watched": watch_refunds,
    "approvals, watched": lambda conn: approvals.longest_waiting(conn, now() - WAITS_LONG),
    "consumers, watched": watch_consumers,
    "rules, watched": lambda conn: risk_decisions.count_objections(conn, now() - COMPARED_WITH, now() - LATELY),
    "callbacks, due": lambda conn: inbox.due_callbacks(conn, now(), 40),
    "callbacks, matched": lambda conn: inbox.matched_callbacks(conn, 40),
    "pull, rows without a name": lambda conn: pull_candidates.lookalikes(
        conn, Unsealed(), SHORTCODE, [row_without_a_name()], now()
    ),
    "pull, rows with a name": lambda conn: pull_candidates.candidates_named(
        conn, [f"ref{PAYMENTS - 9_218}"], now() - timedelta(days=7)
    ),
    "pull, receipts": lambda conn: pull_candidates.holders_of(conn, ["R782"]),
    "pull, the first payment": pull_progress.first_payment_at,
    "pull, receipts of an hour": lambda conn: pull_progress.holds_receipts(
        conn, SHORTCODE, Slice(ago(5_240), ago(5_000))
    ),
    "pull, receipts of an hour, of a shortcode without any": lambda conn: pull_progress.holds_receipts(
        conn, "600000", Slice(ago(5_240), ago(5_000))
    ),
    "pull, watched": watch_pull,
    "provider, pushes": lambda conn: provider_health.count_pushes(conn, now() - WINDOW, now() - CALLBACK_WITHIN),
    "provider, answers": lambda conn: provider_health.latest_push_answers(conn, now() - WINDOW, IN_A_ROW),
    "provider, codes": lambda conn: provider_health.latest_result_codes(conn, now() - WINDOW, IN_A_ROW),
    "old records, exchanges": lambda conn: erasure.forget_exchanges(conn, first_id_at(now() - KEPT), ROWS_MAX),
    "old records, bodies": lambda conn: erasure.old_bodies(conn, now() - KEPT, ROWS_MAX),
    "old records, decisions": lambda conn: erasure.forget_decisions(conn, now() - KEPT, ROWS_MAX),
    "old records, of erased payments": erased_again,
    "ListCases": lambda conn: casework.open_cases_by_deadline(conn, CaseFilter(), None, 51),
    "ListCases, by kind": lambda conn: casework.open_cases_by_deadline(
        conn, CaseFilter(kind=CaseKind.UNBACKED_MONEY.value), None, 51
    ),
    "GetCase, by reference": lambda conn: casework.cases_of(conn, ["ref150007"]),
    "GetCase, by receipt": lambda conn: casework.cases_naming(conn, "X100057"),
    "ListApprovals": lambda conn: approvals.waiting_approvals(conn, None, 51),
    "whether a receipt is known": lambda conn: casework.receipt_is_known(conn, "R783"),
}

TOUCHED_MOST: Mapping[str, int] = {
    # A hundred cases are open, and of each kind that is asked about all are looked at.
    "status, wanted": 1_000,
    # All spans of the two days that they are kept for, read twice.
    "pull, watched": 400,
    # All 576 objections of a day, however few rules made them.
    "rules, watched": 1_000,
    # All payments of two hours, where none of them has what is looked for.
    "pull, receipts of an hour": 1_000,
    "pull, receipts of an hour, of a shortcode without any": 1_000,
    # As many events as are looked through for one consumer, and those of the one that is 500 behind.
    "consumers, watched": consumers.LAG_LOOKED_THROUGH + 1_000,
}
"""Rows that a step may touch that looks through what is open, or a stretch of time or of the log, and returns a part or
a sum of it."""
