"""Goal: no watcher ever misses an event or sees two in the wrong order, whatever breaks on the way.

Method: 24 grouped writers in two processes write payments while their backends, and those of the process that serves
the watchers, are killed all the time; four watchers hang up and resume all the time. The writers' own records say
what must have been seen. The last test takes away what keeps the order, and expects a campaign of the same size to
notice. `pytest --at-length tests/order` runs the first at thirteen times the size, with eight watchers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from tests.databases import Database
from tests.order.campaign import Figures, Size, run_campaign

FIGURES = Path("build/campaigns")
FULL = Size(events=20_000, kills=200, resumes=1_000)
SMALL = Size(events=1_500, kills=15, resumes=50, watchers=4, slow_commits=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_event_is_missed_and_the_order_is_kept(database: Database, tmp_path: Path, at_length: bool) -> None:
    size = FULL if at_length else SMALL
    figures = await run_campaign(database, tmp_path, size)
    _publish("order", figures)
    assert figures.events >= size.events
    assert sum(figures.kills.values()) >= size.kills
    assert figures.resumes >= size.resumes
    _assert_nothing_wrong(figures)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_without_the_logs_lock_the_campaign_notices(database: Database, tmp_path: Path) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("DROP TRIGGER payment_events_in_commit_order ON payment_events")
    figures = await run_campaign(database, tmp_path, SMALL)
    _publish("order without the log's lock", figures)
    assert figures.missed > 0


def _assert_nothing_wrong(figures: Figures) -> None:
    assert figures.missed == 0
    assert figures.gaps == 0
    assert figures.disorder == 0
    assert figures.not_written == 0


def _publish(title: str, figures: Figures) -> None:
    text = f"{title}\n{figures}"
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / f"{title.lower().replace(' ', '-')}.txt").write_text(text)
    sys.stdout.write(text)
