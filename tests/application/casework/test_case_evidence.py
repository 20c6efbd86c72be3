"""An ordinary case shows what opened it, opened for reading, and never the payer's number."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from payment_service.application.calling.exchanges import exchange_row
from payment_service.application.recording.record_facts import Submission
from payment_service.daraja.client import Exchange
from payment_service.domain.facts import ResultReported, Source, Verdict
from tests.application.casework.casefiles import only_case
from tests.rpc.processes import Process
from tests.stories import PHONE, Stories

RECEIPT = "RCPT000001"


async def by_a_callback(stories: Stories) -> None:
    """Of another amount than was asked for."""
    payment = await stories.prompted()
    await stories.callback(payment.reference, receipt=RECEIPT, amount=499)


async def by_a_query(stories: Stories) -> None:
    """It denies what a callback has told."""
    payment = await stories.prompted()
    await stories.callback(payment.reference, receipt=RECEIPT)
    said = {"ResultCode": "1", "ResultDesc": f"{RECEIPT}: balance of {PHONE} is too low"}
    now = stories.writers.clock()
    answer = Exchange("query", 200, b"{}", json.dumps(said).encode(), now, timedelta(milliseconds=80), "Failed 1")
    row = exchange_row(stories.writers.sealer, answer, payment.payment_id)
    denied = ResultReported(f"query:{row.exchange_id}", Source.QUERY, Verdict.FAILED, "1")
    await stories.writers.facts.submit(Submission(denied, payment.payment_id, exchange=row))


async def by_the_books(stories: Stories) -> None:
    """With money that may be the payment's."""
    await stories.pulled(await stories.unanswered(), RECEIPT, in_doubt=True)


@pytest.mark.parametrize(
    ("opens", "what"),
    [
        (by_a_callback, "callback from 196.201.214.200"),
        (by_a_query, "Safaricom's answer to query"),
        (by_the_books, "Safaricom's answer to pulled"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_a_case_shows_what_opened_it_without_the_payers_number(
    process: Process, tmp_path: Path, opens: Callable[[Stories], Awaitable[None]], what: str
) -> None:
    await opens(Stories(process.writers, tmp_path))
    (shown,) = (await only_case(process)).evidence
    assert shown.what == what
    assert RECEIPT in shown.body
    assert PHONE[-9:] not in shown.body
    assert "*****" in shown.body
