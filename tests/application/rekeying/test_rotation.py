"""A key is replaced step by step: nobody uses one that another process cannot read, and none goes that is needed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest
from mpesa_payments.v1 import payment_service_pb2 as pb
from structlog.testing import capture_logs

from payment_service.application.inspecting.check import check_invariants
from payment_service.application.inspecting.invariants import Instruments
from payment_service.application.rekeying.reseal import Resealed, Resealing, reseal
from payment_service.commands import key_steps
from payment_service.followed_keys import FollowingTools, follow_keys
from payment_service.security import sealing
from payment_service.security.sealing import SealBroken, Sealer
from payment_service.store.engines import connect_reader
from payment_service.store.sealed_values import (
    REQUESTS,
    SEALED,
    connect_maintenance,
    fingerprinted_with,
    next_sealed,
    replace_sealed,
    sealed_with,
)
from runtime.callback_tokens import callback_token, load_callback_keys, new_reference, token_accepted
from runtime.private_files import replace
from runtime.serving import StartRefused
from tests.application.rekeying.rotating import Operator, an_operator, following, held
from tests.databases import Database
from tests.patience import PATIENCE_SECONDS
from tests.rows import rows_of
from tests.rpc.processes import paid, running_process, sent
from tests.stories import Stories, every_kind
from tests.writers import Writers, a_request

ROTATIONS, ROTATIONS_AT_LENGTH = 4, 10
"""Ten go past the key ids of one digit."""
PURPOSES = ("sealing", "fingerprint", "chain")
RETIRED = ("sealing", "fingerprint")
"""Without the keys of the chain: events are kept, and so are their keys."""


@pytest.fixture
def operator(writers: Writers, database: Database, tmp_path: Path) -> Operator:
    return an_operator(database, tmp_path)


@pytest.fixture
async def first(operator: Operator, writers: Writers) -> AsyncIterator[FollowingTools]:
    """The process that the writers belong to."""
    async with following(operator, writers.keys) as tools:
        await follow_keys(tools)
        yield tools


@pytest.fixture
async def second(operator: Operator) -> AsyncIterator[FollowingTools]:
    """Another process."""
    async with following(operator) as tools:
        await follow_keys(tools)
        yield tools


async def refusal(operator: Operator, step: object, *words: object) -> str:
    with pytest.raises(StartRefused) as refused:
        await operator.types(step, *words)  # type: ignore[arg-type]  # a step of key_steps
    return str(refused.value)


async def test_a_key_is_used_only_once_every_process_holds_it(
    operator: Operator, first: FollowingTools, second: FollowingTools
) -> None:
    before = held(first)["sealing"]
    key = await operator.adds(key_steps.add, "sealing")
    await follow_keys(first)
    assert second.holder in await refusal(operator, key_steps.use, "sealing", key, 0.0)
    assert operator.keys().sealing.current_id == before
    await follow_keys(second)
    await operator.types(key_steps.use, "sealing", key, 0.0)
    # One of them has not seen it yet: each reads what the other seals.
    await follow_keys(first)
    assert (held(first)["sealing"], held(second)["sealing"]) == (key, before)
    for one, other in ((first, second), (second, first)):
        sealed = Sealer(one.credentials.keys).seal(sealing.PHONE_NUMBER, b"row", b"254712345678")
        assert Sealer(other.credentials.keys).open(sealing.PHONE_NUMBER, b"row", sealed) == b"254712345678"


async def test_use_waits_for_a_process_that_is_about_to_read_the_file(
    operator: Operator, first: FollowingTools
) -> None:
    key = await operator.adds(key_steps.add, "chain")
    using = asyncio.create_task(operator.types(key_steps.use, "chain", key, PATIENCE_SECONDS))
    await follow_keys(first)
    assert f"The chain key {key} is the current one" in await using
    await follow_keys(first)
    assert held(first)["chain"] == key


async def test_a_gateway_that_lacks_a_callback_key_holds_it_up(
    operator: Operator, first: FollowingTools, database: Database
) -> None:
    key = await operator.adds(key_steps.add, "callback")
    await follow_keys(first)
    told = json.dumps({"callback": ["", {"zz": "00"}]})
    async with await psycopg.AsyncConnection.connect(database.owner_url) as owner:
        await owner.execute("INSERT INTO key_holders VALUES ('callback-gateway on edge-1', %s, now())", (told,))
    assert "callback-gateway on edge-1" in await refusal(operator, key_steps.use, "callback", key, 0.0)
    # It has no other keys, so it holds up no others.
    await operator.types(key_steps.use, "chain", (await _added(operator, first, "chain")), 0.0)


async def _added(operator: Operator, process: FollowingTools, purpose: str) -> str:
    key = await operator.adds(key_steps.add, purpose)
    await follow_keys(process)
    return key


async def _in_use(operator: Operator, process: FollowingTools, purpose: str) -> str:
    """A new key that the process uses."""
    key = await _added(operator, process, purpose)
    await operator.types(key_steps.use, purpose, key, 0.0)
    await follow_keys(process)
    return key


async def test_a_key_is_kept_while_anything_needs_it(
    operator: Operator, first: FollowingTools, writers: Writers, tmp_path: Path
) -> None:
    await every_kind(Stories(writers, tmp_path))
    assert "It is the current key" in await refusal(operator, key_steps.retire, "sealing", "1")
    for purpose in ("sealing", "fingerprint", "chain"):
        await _in_use(operator, first, purpose)
        assert "It was last used at" in await refusal(operator, key_steps.retire, purpose, "1")
    await operator.time_passes()
    assert "values of payment_transactions.phone_number are sealed with it" in await refusal(
        operator, key_steps.retire, "sealing", "1"
    )
    assert "requests have a fingerprint by it" in await refusal(operator, key_steps.retire, "fingerprint", "1")
    await operator.types_as_owner(key_steps.reseal)
    for purpose in ("sealing", "fingerprint"):
        await operator.types(key_steps.retire, purpose, "1")
        assert "1" not in operator.keys().rings[purpose].keys
    # Events are never written anew.
    assert "events are chained with it" in await refusal(operator, key_steps.retire, "chain", "1")
    assert "is proven by it" in await refusal(operator, key_steps.retire, "index", "1")


async def test_a_process_that_still_uses_a_key_holds_up_its_end(
    operator: Operator, first: FollowingTools, second: FollowingTools
) -> None:
    key = await operator.adds(key_steps.add, "sealing")
    await follow_keys(first)
    await follow_keys(second)
    await operator.types(key_steps.use, "sealing", key, 0.0)
    await follow_keys(first)
    await operator.time_passes()
    assert f"{second.holder} makes what is new with it" in await refusal(operator, key_steps.retire, "sealing", "1")


async def test_a_callback_key_is_kept_as_long_as_a_callback_may_come(
    operator: Operator, first: FollowingTools, writers: Writers
) -> None:
    old = load_callback_keys(operator.callback_keys_file).current_id
    await follow_keys(first)
    payment = (await writers.create("development", a_request(), None, None)).payment
    reference = payment.reference
    token = callback_token(first.credentials.callback_keys, "stk", reference)
    new = await _in_use(operator, first, "callback")
    assert callback_token(first.credentials.callback_keys, "stk", new_reference()).startswith(new)
    assert token_accepted(first.credentials.callback_keys, "stk", reference, token)
    assert "It was last used at" in await refusal(operator, key_steps.retire, "callback", old)
    await operator.time_passes()
    await operator.types(key_steps.retire, "callback", old)
    await follow_keys(first)
    assert not token_accepted(first.credentials.callback_keys, "stk", reference, token)


async def test_an_id_is_never_given_to_another_key(operator: Operator, first: FollowingTools) -> None:
    """A value that was left behind would open with neither, and a check value would tell of a wrong file."""
    await _in_use(operator, first, "sealing")
    await operator.time_passes()
    await operator.types(key_steps.retire, "sealing", "1")
    await follow_keys(first)
    assert await operator.adds(key_steps.add, "sealing") == "3"


async def test_a_process_goes_on_with_its_keys_when_an_older_file_is_put_back(
    operator: Operator, first: FollowingTools
) -> None:
    older = operator.keys_file.read_text()
    key = await _in_use(operator, first, "sealing")
    newer = operator.keys_file.read_text()
    replace(operator.keys_file, older)
    with capture_logs() as logs:
        await follow_keys(first)
        await follow_keys(first)
    (alarm,) = [line for line in logs if line["event"] == "alarm"]
    assert alarm["alarm"] == "key_files_unusable"
    assert f"sealing '{key}'" in alarm["why"]
    assert held(first)["sealing"] == key
    replace(operator.keys_file, newer)
    with capture_logs() as logs:
        await follow_keys(first)
    assert [line["alarm"] for line in logs if line["event"] == "alarm is over"] == ["key_files_unusable"]


async def test_sealing_anew_goes_on_where_it_was_broken_off(
    operator: Operator, first: FollowingTools, writers: Writers, database: Database, tmp_path: Path
) -> None:
    await every_kind(Stories(writers, tmp_path))
    await _in_use(operator, first, "sealing")
    await _in_use(operator, first, "fingerprint")
    places: list[Resealed] = []

    def until_the_third(done: Resealed) -> None:
        places.append(done)
        if len(places) == 3:
            raise InterruptedError

    async with await connect_maintenance(database.owner_url) as conn:
        with pytest.raises(InterruptedError):
            await reseal(Resealing(conn, operator.keys(), batch=2), until_the_third)
        left = await sealed_with(conn, "1")
        assert (0 < len(left) < len(SEALED), await fingerprinted_with(conn, "1")) == (True, 0)
        again: list[Resealed] = []
        await reseal(Resealing(conn, operator.keys(), batch=2), again.append)
        assert [one.changed for one in again[:3]] == [0, 0, 0], "what was done is not done again"
        assert await sealed_with(conn, "1") == {}
        assert [one.unreadable for one in again] == [0] * len(again)
    await _everything_holds(operator)


async def test_a_value_that_the_service_has_written_meanwhile_stays(
    operator: Operator, first: FollowingTools, writers: Writers, database: Database
) -> None:
    await writers.create("development", a_request(), None, None)
    place = REQUESTS[0]
    async with await connect_maintenance(database.owner_url) as conn:
        (row,) = await next_sealed(conn, place, "not any", place.first, 10)
        assert row.value is not None
        await conn.execute("UPDATE payment_transactions SET request = %s", (row.value + b"newer",))
        assert await replace_sealed(conn, place, [(row.key, row.value, b"older, sealed anew")]) == 0
    assert await rows_of(database, "SELECT request FROM payment_transactions") == [(row.value + b"newer",)]


def test_every_sealed_column_is_sealed_anew() -> None:
    named = {value for name, value in vars(sealing).items() if name.isupper() and isinstance(value, str)}
    assert {place.name for place in SEALED} == named


async def test_the_service_may_not_seal_anew(operator: Operator) -> None:
    """Its role cannot alter what was said to Safaricom, so the owner's is needed for it."""
    assert "name the owner of the database" in await refusal(operator, key_steps.reseal)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("untraced")
async def test_keys_are_replaced_under_load_without_an_error(
    database: Database, tmp_path: Path, operator: Operator, at_length: bool
) -> None:
    """Two processes make, settle and read payments all the while; each reads what the other wrote, whenever it did."""
    async with (
        running_process(database.application_url, tmp_path) as one,
        running_process(database.application_url, tmp_path) as two,
        following(operator, one.writers.keys) as ones,
        following(operator, two.writers.keys) as twos,
    ):
        done, served = asyncio.Event(), 0
        of_first_key = Sealer(operator.keys()).seal(sealing.PHONE_NUMBER, b"row", b"254712345678")

        async def serve(number: int) -> None:
            nonlocal served
            claim = 0
            while not done.is_set():
                claim += 1
                asked = a_request()
                made = (await one.writers.create("development", asked, None, None)).payment
                again = await two.writers.create("development", asked, None, None)
                assert (again.payment.payment_id, again.replayed) == (made.payment_id, True)
                told = await two.tell(made, *sent(number * 10**6 + claim), paid(f"R{made.reference[:9].upper()}"))
                for process in (one, two):
                    asking = pb.GetPaymentRequest(payment_id=str(told.payment_id))
                    read = await process.payments.GetPayment(asking, timeout=PATIENCE_SECONDS)
                    assert read.payment.masked_phone.endswith("678")
                served += 1

        async def follow(tools: FollowingTools) -> None:
            while not done.is_set():
                await follow_keys(tools)
                await asyncio.sleep(0.02)

        async def rotate() -> None:
            for _ in range(ROTATIONS_AT_LENGTH if at_length else ROTATIONS):
                before, was_served = operator.keys(), served
                new = {purpose: await operator.adds(key_steps.add, purpose) for purpose in PURPOSES}
                for purpose, key in new.items():
                    await operator.types(key_steps.use, purpose, key, PATIENCE_SECONDS)
                await _when(lambda: held(ones) == held(twos) == _current(operator))
                await _when_told(operator)
                await operator.types_as_owner(key_steps.reseal)
                await operator.time_passes()
                for purpose in RETIRED:
                    await operator.types(key_steps.retire, purpose, before.rings[purpose].current_id)
                await _when(partial(_more_than, was_served, lambda: served))
            await _when(lambda: len(one.writers.keys.sealing.keys) == len(two.writers.keys.sealing.keys) == 1)
            done.set()

        async with asyncio.TaskGroup() as group:
            for tools in (ones, twos):
                await follow_keys(tools)
                group.create_task(follow(tools))
            for number in range(3):
                group.create_task(serve(number))
            group.create_task(rotate())
        for process in (one, two):
            assert "1" not in process.writers.keys.sealing.keys
            with pytest.raises(SealBroken):
                process.writers.sealer.open(sealing.PHONE_NUMBER, b"row", of_first_key)
    await _everything_holds(operator)


def _current(operator: Operator) -> dict[str, str]:
    return {purpose: ring.current_id for purpose, ring in operator.keys().rings.items()}


def _more_than(before: int, now: Callable[[], int]) -> bool:
    return now() > before


async def _when(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def _when_told(operator: Operator) -> None:
    """Until the database knows that every process works with the current keys."""
    current = _current(operator)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            told = await rows_of(operator.database, "SELECT keys FROM key_holders")
            if all(keys[purpose][0] == key for (keys,) in told for purpose, key in current.items()):
                return
            await asyncio.sleep(0.01)


async def _everything_holds(operator: Operator) -> None:
    keys = operator.keys()
    async with await connect_reader(operator.database.application_url) as conn:
        tallies = await check_invariants(Instruments(Sealer(keys), keys), conn)
    assert {invariant: tally.shown for invariant, tally in tallies.items() if tally.violations} == {}
