"""Sharing commits: what callers are told when the database is slow, full of others, or away."""

import asyncio
from collections.abc import Sequence
from functools import partial

import psycopg
import pytest

from payment_service.application.recording import group_commit
from payment_service.application.recording.group_commit import GroupCommit
from payment_service.domain.errors import Overloaded, StoreUnavailable
from payment_service.store.engines import connect_writer
from payment_service.store.pipeline import Connection
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of


async def insert(conn: Connection, numbers: Sequence[int]) -> Sequence[int]:
    """One transaction that writes the group into a table of the test's own."""
    await conn.execute("INSERT INTO numbers SELECT unnest(%s::int[])", (list(numbers),))
    await conn.commit()
    return [number * 2 for number in numbers]


@pytest.fixture
async def numbers(database: Database) -> Database:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as owner:
        await owner.execute("CREATE TABLE numbers (number int PRIMARY KEY)")
        await owner.execute("GRANT ALL ON numbers TO mpesa_payments_application")
    return database


def group_of(database: Database, committed: list[int]) -> GroupCommit[int, int]:
    connect = partial(connect_writer, database.application_url)
    return GroupCommit("numbers", connect, insert, lambda: committed.append(1))


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_many_callers_share_few_commits(numbers: Database) -> None:
    committed: list[int] = []
    group = group_of(numbers, committed)
    running = asyncio.create_task(group.run())
    answers = await asyncio.gather(*(group.submit(number) for number in range(500)))
    await stopped(running)
    assert answers == [number * 2 for number in range(500)]
    assert 4 <= len(committed) <= 50


async def test_a_row_that_is_refused_fails_alone(numbers: Database) -> None:
    group = group_of(numbers, [])
    running = asyncio.create_task(group.run())
    await group.submit(7)
    answers = await asyncio.gather(*(group.submit(number) for number in (5, 6, 7, 8)), return_exceptions=True)
    await stopped(running)
    assert [answers[0], answers[1], answers[3]] == [10, 12, 16]
    assert isinstance(answers[2], psycopg.errors.UniqueViolation)


async def test_a_caller_that_goes_away_takes_nothing_with_it(numbers: Database) -> None:
    group = group_of(numbers, [])
    waiting = asyncio.create_task(group.submit(1))
    await asyncio.sleep(0)
    waiting.cancel()
    running = asyncio.create_task(group.run())
    # In the same group as the one that has gone: a task of its own would be in the next.
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await group.submit(2) == 4
    await stopped(running)
    assert await rows_of(numbers, "SELECT number FROM numbers ORDER BY 1") == [(1,), (2,)]


async def test_what_was_handed_over_before_the_stop_is_still_written(numbers: Database) -> None:
    group = group_of(numbers, [])
    running = asyncio.create_task(group.run())
    submitted = [asyncio.create_task(group.submit(number)) for number in range(300)]
    await asyncio.sleep(0.01)
    await stopped(running)
    assert await asyncio.gather(*submitted) == [number * 2 for number in range(300)]


async def test_too_much_waiting_is_refused_but_results_of_sends_wait(
    numbers: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "WAITING_MAX", 2)
    group = group_of(numbers, [])
    submitted = [asyncio.create_task(group.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await group.submit(3)
    patient = asyncio.create_task(group.submit(4, patient=True))
    await asyncio.sleep(0)
    running = asyncio.create_task(group.run())
    assert await asyncio.gather(*submitted, patient) == [2, 4, 8]
    await stopped(running)


async def test_a_database_that_is_away_is_said_so_and_is_used_again_when_back(numbers: Database) -> None:
    addresses = [numbers.application_url.replace("127.0.0.1", "127.0.0.9"), numbers.application_url]

    async def connect() -> Connection:
        return await connect_writer(addresses[0])

    group: GroupCommit[int, int] = GroupCommit("numbers", connect, insert, lambda: None)
    running = asyncio.create_task(group.run())
    with pytest.raises(StoreUnavailable):
        await group.submit(1)
    addresses.pop(0)
    assert await group.submit(2) == 4
    await stopped(running)


async def test_a_commit_that_hangs_is_given_up_without_being_cancelled(
    numbers: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "COMMIT_WAIT_SECONDS", 0.3)
    blocker = await psycopg.AsyncConnection.connect(numbers.owner_url)
    await blocker.execute("LOCK TABLE numbers IN ACCESS EXCLUSIVE MODE")
    group = group_of(numbers, [])
    running = asyncio.create_task(group.run())
    with pytest.raises(StoreUnavailable):
        await group.submit(1)
    await blocker.close()
    monkeypatch.undo()
    assert await group.submit(2) == 4
    await stopped(running)


async def test_a_writer_that_has_ended_leaves_nobody_waiting(numbers: Database) -> None:
    group = group_of(numbers, [])
    running = asyncio.create_task(group.run())
    assert await group.submit(1) == 2
    await stopped(running)
    with pytest.raises(StoreUnavailable):
        await group.submit(2, patient=True)


async def test_a_server_that_takes_no_writes_is_left_for_one_that_does(numbers: Database) -> None:
    options = ["-c default_transaction_read_only=on", "-c default_transaction_read_only=off"]

    async def connect() -> Connection:
        return await connect_writer(numbers.application_url, options=options[0])

    group: GroupCommit[int, int] = GroupCommit("numbers", connect, insert, lambda: None)
    running = asyncio.create_task(group.run())
    with pytest.raises(StoreUnavailable):
        await group.submit(1)
    options.pop(0)
    assert await group.submit(2) == 4
    await stopped(running)


async def test_a_writer_that_dies_tells_those_in_hand_and_those_that_wait_for_a_place(
    numbers: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    async def write(_: Connection, items: Sequence[int]) -> Sequence[int]:
        raise Died

    monkeypatch.setattr(group_commit, "WAITING_MAX", 2)
    monkeypatch.setattr(group_commit, "GROUP_MAX", 1)
    group: GroupCommit[int, int] = GroupCommit(
        "numbers", partial(connect_writer, numbers.application_url), write, lambda: None
    )
    submitted = [asyncio.create_task(group.submit(number, patient=True)) for number in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Died):
        await group.run()
    answers = await asyncio.gather(*submitted, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 5
