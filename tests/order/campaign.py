"""The order campaign: writers in several processes, backends killed under them, watchers that come and go.

Decides what is run side by side and what is compared with what. The writers' own records are the truth; every
watcher's account is held against them, and against that of the other watchers.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import psycopg

from development.postgres import find_free_port
from development.slowness import slowness
from tests.databases import Database
from tests.order.watchers import EVENTS_A_STREAM_MAX, Told, Watcher, watch
from tests.order.writer import CALLER, CALM, Plan
from tests.parts import make_site
from tests.writers import a_request, running_writers

PROJECT = Path(__file__).resolve().parents[2]
KILL_PAUSE_SECONDS = 0.15 * slowness()
"""Some six a second on a quiet machine: fast enough for hundreds, slow enough that most transactions live to commit."""
LOOK_SECONDS = 0.1
LAG_MAX = 800
"""Events a watcher may be behind before the writers wait for it: order is at risk at the live end of the log, not far
behind it, so that is where the watchers are to be."""
WRITE_WAIT_SECONDS = 420.0 * slowness()
WATCH_WAIT_SECONDS = 120.0 * slowness()

_KILL = """
SELECT application_name, busy, pg_terminate_backend(pid) FROM (
    SELECT pid, application_name, backend_xid IS NOT NULL AS busy FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s
    ORDER BY CASE WHEN %s THEN backend_xid IS NULL END, random() LIMIT 1
) AS victim"""


_SLOW_COMMITS = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * 0.06) WHERE random() < 0.1;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON payment_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow_commit()"""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    events: int
    kills: int
    resumes: int
    processes: int = 2
    pairs_a_process: int = 6
    """A pair is one grouped writer for new payments and one for facts, with a connection each."""
    lanes_a_process: int = 100
    watchers: int = 8
    kill_pause_seconds: float = KILL_PAUSE_SECONDS
    slow_commits: bool = False
    """Let every tenth event's commit take long, as one that waits for a standby does: most of what the log's lock is
    there for happens between drawing a number and committing it."""


@dataclass(frozen=True)
class Figures:
    """What was done, and what was found."""

    events: int
    writers: int
    processes: int
    kills: Mapping[str, int]
    watchers: int
    resumes: int
    naps: int
    stream_errors: Mapping[str, int]
    missed: int
    not_written: int
    gaps: int
    disorder: int
    repeated: int
    seconds: float

    def __str__(self) -> str:
        kills, errors = (_listed(counts) for counts in (self.kills, self.stream_errors))
        return (
            f"{self.events} events by {self.writers} grouped writers in {self.processes} processes,"
            f" {self.seconds:.0f} s, {self.events / self.seconds:.0f}/s\n"
            f"{sum(self.kills.values())} backends killed ({kills})\n"
            f"{self.watchers} watchers, {self.resumes} resumes, {self.naps} naps, broken streams: {errors}\n"
            f"missed {self.missed}, gaps {self.gaps}, out of order {self.disorder},"
            f" never written {self.not_written}, repeated {self.repeated}\n"
        )


async def run_campaign(database: Database, folder: Path, size: Size) -> Figures:
    """Write, kill and watch until there is enough of each; then compare."""
    nothing_listens = f"http://127.0.0.1:{find_free_port()}"
    core_url = f"{database.application_url}?application_name=order-core"
    site = make_site(folder, core_url, nothing_listens, nothing_listens)
    watchers = [Watcher(EVENTS_A_STREAM_MAX[number % len(EVENTS_A_STREAM_MAX)]) for number in range(size.watchers)]
    kills: Counter[str] = Counter()
    if size.slow_commits:
        async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
            await owner.execute(_SLOW_COMMITS)
    started = time.monotonic()
    async with site.running_core(heartbeat_s=1) as core:
        last: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watching = [
            asyncio.create_task(watch(watcher, core.address, Random(f"watcher {number}"), last))
            for number, watcher in enumerate(watchers)
        ]
        async with _killing(database, kills, size):
            records = await _written(database, folder, size, watchers, kills)
        seconds = time.monotonic() - started
        last.set_result(await _last_payment(database, folder))
        await asyncio.wait_for(asyncio.gather(*watching), WATCH_WAIT_SECONDS)
    return _compared(size, records, watchers, kills, last.result(), seconds)


async def _written(
    database: Database, folder: Path, size: Size, watchers: Sequence[Watcher], kills: Counter[str]
) -> list[Path]:
    """The records of the writers, once they have ended; they are told when there was enough of the rest."""
    enough, hold = folder / "enough", folder / "hold"
    plans = [
        Plan(
            database_url=f"{database.application_url}?application_name=order-writer",
            keys_folder=str(folder),
            record_file=str(folder / f"record-{number}"),
            enough_file=str(enough),
            hold_file=str(hold),
            pairs=size.pairs_a_process,
            lanes=size.lanes_a_process,
            events=-(-size.events // size.processes),
            seed=f"writer {number}",
        )
        for number in range(size.processes)
    ]
    async with asyncio.timeout(WRITE_WAIT_SECONDS), contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(_process(plan, folder)) for plan in plans]
        ended = asyncio.gather(*(process.wait() for process in running))
        while not ended.done():
            if sum(kills.values()) >= size.kills and sum(watcher.resumes for watcher in watchers) >= size.resumes:
                enough.touch()
            if await _head(database) - min(len(watcher.told) for watcher in watchers) > LAG_MAX:
                hold.touch()
            else:
                hold.unlink(missing_ok=True)
            await asyncio.wait({ended}, timeout=LOOK_SECONDS)
        for plan, code in zip(plans, ended.result(), strict=True):
            assert code == 0, Path(f"{plan.record_file}.log").read_text()[-4000:]
    return [Path(plan.record_file) for plan in plans]


async def _head(database: Database) -> int:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        rows = await (await owner.execute("SELECT coalesce(max(position), 0) FROM payment_events")).fetchall()
    return int(rows[0][0])


@contextlib.asynccontextmanager
async def _process(plan: Plan, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    path = folder / f"{Path(plan.record_file).name}.json"
    plan.write(path)
    with Path(f"{plan.record_file}.log").open("wb") as log:
        command = (sys.executable, "-m", "tests.order.writer", str(path))
        process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def _killing(database: Database, kills: Counter[str], size: Size) -> AsyncIterator[None]:
    """Keep ending backends: mostly the writers' while they have a transaction open, and the readers' too."""

    async def kill() -> None:
        chance = Random("kills")
        async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
            while True:
                name = "order-core" if chance.random() < 0.25 else "order-writer"
                for victim, busy, died in await (await owner.execute(_KILL, (name, chance.random() < 0.7))).fetchall():
                    kills[f"{victim}{', in a transaction' if busy else ''}"] += died
                # With the figure reached, on a busy machine, the rest of the work is to get done.
                slower = 5 if sum(kills.values()) >= size.kills else 1
                await asyncio.sleep(size.kill_pause_seconds * slower)

    killing = asyncio.create_task(kill())
    try:
        yield
        assert not killing.done(), "the kills have ended by themselves"
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)


async def _last_payment(database: Database, folder: Path) -> str:
    """A payment made when all others are committed: in an ordered log, who has seen it has seen everything."""
    async with running_writers(database.application_url, folder, times=CALM) as writers:
        return str((await writers.create(CALLER, a_request(), None, None)).payment.payment_id)


def _compared(
    size: Size, records: Sequence[Path], watchers: Sequence[Watcher], kills: Counter[str], last: str, seconds: float
) -> Figures:
    lanes = _lanes(records)
    expected = {told for lane in lanes for told in lane}
    accounts = [_first_told(watcher, last) for watcher in watchers]
    return Figures(
        events=len(expected),
        writers=size.processes * size.pairs_a_process * 2,
        processes=size.processes,
        kills=kills,
        watchers=len(watchers),
        resumes=sum(watcher.resumes for watcher in watchers),
        naps=sum(watcher.naps for watcher in watchers),
        stream_errors=sum((watcher.errors for watcher in watchers), Counter()),
        missed=sum(len(expected - account.keys()) for account in accounts),
        not_written=sum(len(account.keys() - expected) for account in accounts),
        gaps=sum(_gaps(account) for account in accounts),
        disorder=sum(_disorder(account, lanes) for account in accounts)
        + sum(list(account) != list(accounts[0]) for account in accounts),
        repeated=sum(len(watcher.told) - len(account) - 1 for watcher, account in zip(watchers, accounts, strict=True)),
        seconds=seconds,
    )


def _lanes(records: Sequence[Path]) -> list[list[Told]]:
    """What each lane was told, in order."""
    lanes: dict[str, list[Told]] = {}
    for record in records:
        for line in record.read_text().splitlines():
            lane, payment_id, version = line.rsplit(" ", 2)
            lanes.setdefault(lane, []).append((payment_id, int(version)))
    return list(lanes.values())


def _first_told(watcher: Watcher, last: str) -> dict[Told, int]:
    """Every event, where the watcher was first told of it, without the payment that marks the end."""
    first: dict[Told, int] = {}
    for place, told in enumerate(watcher.told):
        if told[0] != last:
            first.setdefault(told, place)
    return first


def _gaps(account: Mapping[Told, int]) -> int:
    """Payments whose versions did not come as 1, 2, 3 and so on."""
    versions: dict[str, list[int]] = {}
    for payment_id, version in account:
        versions.setdefault(payment_id, []).append(version)
    return sum(came != list(range(1, len(came) + 1)) for came in versions.values())


def _disorder(account: Mapping[Told, int], lanes: Sequence[Sequence[Told]]) -> int:
    """Pairs of events that came the other way round than their writer was told of them."""
    came = [[account[told] for told in lane if told in account] for lane in lanes]
    return sum(later < earlier for places in came for earlier, later in pairwise(places))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
