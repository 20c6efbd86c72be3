"""Another index key is put in place while no service runs: all payments are found by it, or none."""

from pathlib import Path

import psycopg
import pytest

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.commands import key_steps
from payment_service.credentials import open_keys
from payment_service.database import check_keys, remember_keys
from payment_service.followed_keys import follow_keys
from payment_service.security.sealing import Sealer
from payment_service.store.engines import connect_reader, read_engine
from payment_service.store.payments import PHONE_INDEX
from runtime.key_files import changing, use_key
from runtime.serving import StartRefused
from tests.application.rekeying.rotating import Operator, an_operator, following
from tests.databases import Database
from tests.rows import rows_of
from tests.stories import PHONE, Stories, every_kind
from tests.writers import Writers


@pytest.fixture
async def operator(writers: Writers, database: Database, tmp_path: Path) -> Operator:
    """Beside a database with payments of every kind, and no process."""
    await every_kind(Stories(writers, tmp_path))
    return an_operator(database, tmp_path)


async def by_phone(operator: Operator) -> int:
    """How many payments are found by the passenger's number, as a start of the service would look for them."""
    keys = operator.keys()
    engine = read_engine(operator.database.application_url)
    try:
        await check_keys(engine, keys)
        await remember_keys(engine, keys)
    finally:
        await engine.dispose()
    index = Sealer(keys).index(PHONE_INDEX, PHONE)
    return int((await rows_of(operator.database, _COUNT, (index,)))[0][0])


_COUNT = "SELECT count(*) FROM payment_transactions WHERE phone_index_a = %s"


async def test_payments_are_found_by_another_index_key(operator: Operator) -> None:
    before = await by_phone(operator)
    assert before > 1
    key = await operator.adds(key_steps.add, "index")
    assert await by_phone(operator) == before, "a key that is only added changes nothing"
    assert "name the owner of the database" in await _refusal(operator, key)
    assert "were made anew" in await operator.types_as_owner(key_steps.reindex, key)
    assert operator.keys().index.current_id == key
    assert await by_phone(operator) == before
    # Bodies of callbacks were stored under the key of before, which proves them still.
    async with await connect_reader(operator.database.application_url) as conn:
        tallies = await check_invariants(Instruments(Sealer(operator.keys()), operator.keys()), conn)
    assert {invariant: tally.shown for invariant, tally in tallies.items() if tally.violations} == {}


async def test_a_file_that_was_left_behind_stops_the_start_and_running_again_ends_it(operator: Operator) -> None:
    """As after a kill between the commit and the file."""
    before = await by_phone(operator)
    key = await operator.adds(key_steps.add, "index")
    await operator.types_as_owner(key_steps.reindex, key)
    with changing(operator.keys_file, "index") as ring:
        use_key(ring, "1")
    with pytest.raises(StartRefused, match="If keys reindex was broken off, run it again"):
        await by_phone(operator)
    said = await operator.types_as_owner(key_steps.reindex, key)
    assert "made anew" not in said
    assert await by_phone(operator) == before


async def test_all_indexes_change_or_none(operator: Operator, database: Database) -> None:
    before = await by_phone(operator)
    key = await operator.adds(key_steps.add, "index")
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        newest = "(SELECT payment_id FROM payment_transactions ORDER BY payment_id LIMIT 1 OFFSET 1)"
        await owner.execute(f"UPDATE payment_transactions SET phone_number = '\\x00' WHERE payment_id = {newest}")
    with pytest.raises(StartRefused, match="Nothing was changed"):
        await operator.types_as_owner(key_steps.reindex, key)
    assert operator.keys().index.current_id == "1"
    assert await by_phone(operator) == before


async def test_no_index_key_is_replaced_while_a_process_runs(operator: Operator) -> None:
    key = await operator.adds(key_steps.add, "index")
    async with following(operator, open_keys(operator.keys_file)) as running:
        await follow_keys(running)
        with pytest.raises(StartRefused, match="Stop every process of the service first") as refused:
            await operator.types_as_owner(key_steps.reindex, key)
        assert running.holder in str(refused.value)
    assert operator.keys().index.current_id == "1"


async def _refusal(operator: Operator, key: str) -> str:
    with pytest.raises(StartRefused) as refused:
        await operator.types(key_steps.reindex, key)
    return str(refused.value)
